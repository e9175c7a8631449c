//! The floor: how many healthy instances must stay, and which hosts may be taken out (A1).

use std::collections::BTreeMap;

use cutover_common::{AgentName, MaxLoad, planted};

use super::{Scene, Serving, load::Load};
use crate::{
    fleet::Goal,
    rollout::{Direction, HostState, Rollout, story::names, waiting::Short},
};

/// Which of the hosts that wait may be taken out now.
pub(super) struct Permitted {
    pub(super) agents: Vec<AgentName>,
    /// What keeps the first of the others from it.
    pub(super) short: Short,
}

/// Chooses from `candidates`, in their order, those whose disruption leaves the floor, in the fleet
/// and in each zone, and room on the hosts that stay.
///
/// Every member that is not freshly known to be healthy counts as down, and so does every one
/// that holds a token or is drained, whatever it says of itself. A candidate that is known to be
/// down costs nothing; one of which nothing is known may be serving, so the floor must hold without
/// it.
pub(super) fn permitted(
    rollout: &Rollout,
    scene: Scene<'_>,
    candidates: &[AgentName],
) -> Permitted {
    let mut room = Room::of(rollout, scene);
    let mut agents = Vec::new();
    let mut short = None;
    let (free, costly): (Vec<&AgentName>, Vec<&AgentName>) =
        candidates.iter().partition(|agent| costs_nothing(rollout, scene, agent));
    for agent in &free {
        room.take(agent);
    }
    for agent in costly {
        match room.lacks(agent) {
            None => {
                room.take(agent);
                agents.push(agent.clone());
            }
            Some(lack) => drop(short.get_or_insert(lack)),
        }
    }
    let is_chosen = |agent: &&AgentName| free.contains(agent) || agents.contains(agent);
    let chosen = candidates.iter().filter(is_chosen).cloned().collect();
    let floor = rollout.spec.min_healthy;
    let healthy = count_up(rollout, scene);
    let short = short.unwrap_or(Short::Healthy { healthy, floor, zone: None });
    Permitted { agents: chosen, short }
}

/// What is left when hosts have been taken out.
struct Room<'a> {
    rollout: &'a Rollout,
    scene: Scene<'a>,
    up: BTreeMap<&'a AgentName, Option<&'a str>>,
    zones: BTreeMap<&'a str, u32>,
    healthy: u32,
    load: Option<(Load<'a>, MaxLoad)>,
}

impl<'a> Room<'a> {
    fn of(rollout: &'a Rollout, scene: Scene<'a>) -> Self {
        let is_up = |agent: &&AgentName| is_up(rollout, scene, agent);
        let up: BTreeMap<&AgentName, Option<&str>> = scene
            .members
            .iter()
            .filter(is_up)
            .map(|agent| (agent, scene.zone(rollout, agent)))
            .collect();
        let mut zones = BTreeMap::new();
        for zone in up.values().flatten() {
            *zones.entry(*zone).or_default() += 1;
        }
        let load = rollout.spec.max_load.map(|max| (Load::of(rollout, scene, up.keys()), max));
        let healthy = u32::try_from(up.len()).unwrap_or(u32::MAX);
        Self { rollout, scene, up, zones, healthy, load }
    }

    /// Returns what would be too little without `agent` and all that were taken before.
    fn lacks(&self, agent: &AgentName) -> Option<Short> {
        self.lacks_healthy(agent).or_else(|| self.lacks_room(agent))
    }

    fn lacks_healthy(&self, agent: &AgentName) -> Option<Short> {
        let is_up = self.up.contains_key(agent);
        let floor = self.rollout.spec.min_healthy;
        let after = self.healthy.checked_sub(u32::from(is_up));
        let holds = |after: u32, floor: u32| planted!(FloorOffByOne: after.saturating_add(1) >= floor; after >= floor);
        if !after.is_some_and(|after| holds(after, floor)) {
            return Some(Short::Healthy { healthy: self.healthy, floor, zone: None });
        }
        let zone = self.scene.zone(self.rollout, agent);
        let zone_floor = zone.and_then(|zone| self.rollout.spec.zone_floors.get_key_value(zone));
        if let Some((zone, floor)) = zone_floor {
            let healthy = self.zones.get(zone.as_str()).copied().unwrap_or_default();
            let after = healthy.checked_sub(u32::from(is_up));
            let holds = after.is_some_and(|after| after >= *floor);
            if !planted!(ZoneFloorIgnored: true; holds) {
                let zone = Some(zone.clone());
                return Some(Short::Healthy { healthy, floor: *floor, zone });
            }
        }
        None
    }

    fn lacks_room(&self, agent: &AgentName) -> Option<Short> {
        let (load, max) = self.load.as_ref()?;
        let load = load.without(agent);
        let bears_it = load.is_some_and(|load| load <= max.permille());
        let has_room = planted!(LoadIgnored: true; bears_it);
        (!has_room).then_some(Short::Room { load, max: *max })
    }

    fn take(&mut self, agent: &AgentName) {
        if let Some(zone) = self.up.remove(agent) {
            self.healthy = self.healthy.saturating_sub(1);
            if let Some(left) = zone.and_then(|zone| self.zones.get_mut(zone)) {
                *left = left.saturating_sub(1);
            }
        }
        if let Some((load, _)) = &mut self.load {
            load.take(agent);
        }
    }
}

/// Returns which floor, of the fleet or of its zone, would not hold without `agent`.
pub(crate) fn short_without(
    rollout: &Rollout,
    scene: Scene<'_>,
    agent: &AgentName,
) -> Option<Short> {
    Room::of(rollout, scene).lacks_healthy(agent)
}

/// Returns how many of the environment's hosts count as healthy.
pub(crate) fn count_up(rollout: &Rollout, scene: Scene<'_>) -> u32 {
    let up = scene.members.iter().filter(|agent| is_up(rollout, scene, agent)).count();
    u32::try_from(up).unwrap_or(u32::MAX)
}

/// Tells which hosts of the environment are drained, and so count as down; nothing if none are.
pub(crate) fn drained(scene: Scene<'_>) -> String {
    let drained = scene.members.iter().filter(|agent| scene.drain(agent).is_some());
    let drained: Vec<AgentName> = drained.cloned().collect();
    if drained.is_empty() { String::new() } else { format!(" ({} drained)", names(&drained)) }
}

/// Tells what would be too little, as a part of a sentence.
pub(crate) fn shortage(short: &Short, scene: Scene<'_>) -> String {
    match short {
        Short::Healthy { healthy, floor, zone: None } => {
            format!("{healthy} are healthy{} and min_healthy is {floor}", drained(scene))
        }
        Short::Healthy { healthy, floor, zone: Some(zone) } => {
            let zone = if zone.is_empty() { "no zone" } else { zone };
            let drained = drained(scene);
            format!("{healthy} are healthy in {zone}{drained} and zone_min_healthy is {floor}")
        }
        Short::Room { load: Some(load), max } => format!(
            "the hosts that stay would be {}% busy and max_load is {max}",
            load.div_ceil(10)
        ),
        Short::Room { load: None, max } => {
            format!("not every host that stays has told how busy it is, and max_load is {max}")
        }
    }
}

/// Returns whether `agent` serves and nobody is disrupting it. One that is drained may be taken
/// from its place at any moment, whatever it says.
pub(crate) fn is_up(rollout: &Rollout, scene: Scene<'_>, agent: &AgentName) -> bool {
    let holds_token = rollout.hosts.get(agent).is_some_and(|host| host.state.holds_token());
    !planted!(TokensCountAsUp: false; holds_token)
        && planted!(DrainedCountsAsUp: true; scene.drain(agent).is_none())
        && scene.serving(agent, &rollout.application) == Serving::Up
}

/// Returns whether taking `agent` out leaves as many healthy instances as there are: it is known to
/// be down, or is out already.
pub(crate) fn costs_nothing(rollout: &Rollout, scene: Scene<'_>, agent: &AgentName) -> bool {
    // Clients are not led to it, so that it is not among those that the floor counts.
    if rollout.groups().is_some() && !scene.members.contains(agent) {
        return true;
    }
    let serving = || scene.serving(agent, &rollout.application);
    let Some(host) = rollout.hosts.get(agent) else { return serving() == Serving::Down };
    let goal = scene.goals.of(agent, &rollout.application);
    // A goal that is the same again takes nothing out.
    let is_same = |goal: &Goal| rollout.forward(agent, &goal.wanted) == goal.wanted;
    let stays = rollout.direction() == Direction::Forward && goal.is_some_and(is_same);
    // Nor does one that leads clients to what they get already, and stops what runs beside that.
    let is_led = |goal: &Goal| {
        let back = rollout.back(agent, &goal.wanted);
        goal.wanted.beside().is_some() && back.leads() == goal.wanted.leads()
    };
    let stays = stays || rollout.direction() == Direction::Back && goal.is_some_and(is_led);
    // Before a first deploy nothing served, so that its way back has nothing to keep.
    let returns_to_nothing =
        rollout.direction() == Direction::Back && rollout.back_to(agent).is_none();
    stays
        || returns_to_nothing
        || match host.state {
            HostState::Updating { .. } | HostState::Reverting { .. } => true,
            // One that failed may have come back since, unseen.
            HostState::Pending
            | HostState::Staging { .. }
            | HostState::Staged
            | HostState::Updated
            | HostState::Failed { .. }
            | HostState::Stuck { .. }
            | HostState::Unreachable { .. }
            | HostState::Reverted
            | HostState::Excluded { .. } => {
                planted!(UnknownCountsAsDown: serving() != Serving::Up; serving() == Serving::Down)
            }
        }
}
