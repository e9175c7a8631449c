//! Groups: hosts of which edges lead to one half, and then to the other.
//!
//! The new release runs on hosts that no edge leads to. Leading clients over is the edges' affair
//! alone: strictly, as at any cutover, all of them hold, are armed, and are switched by one event;
//! where they lead follows from that event and from nothing they were told before (`edge.rs`).
//! Until each of them has said that it leads there, nothing is stopped on the hosts that they may
//! still lead to.

use cutover_common::{
    AgentName, EdgeCutoverReport, HoldState, Timestamp, edge::EDGE_LABEL, planted,
};

use super::{
    Decision, Scene,
    cutover::{self, Gates},
    forward,
};
use crate::{
    coordinator::Led,
    event::Change,
    fleet::{Presence, Wanted},
    rollout::{CutoverPhase, HostState, Rollout, Waiting, spec::Groups, story::names},
};

/// Leads clients to the hosts of `wave`.
pub(super) fn cutting_over(
    rollout: &Rollout,
    scene: Scene<'_>,
    wave: usize,
    groups: &Groups,
) -> Option<Decision> {
    if rollout.leads == Some(true) {
        return planted!(RetiredUnderEdges: None; following(rollout, scene));
    }
    if let Some(decision) = unready(rollout, scene, wave) {
        // Clients do not wait for that.
        return Some(super::release(rollout, scene).unwrap_or(decision));
    }
    let edges = Edges::of(rollout, scene, groups);
    let is_strict = rollout.cuts_over_strictly() && groups.from.is_some();
    Some(if edges.all.is_empty() {
        let environment = &rollout.environment;
        let why = format!(
            "no agent has the label {EDGE_LABEL}={environment}, so that nobody leads clients to {}",
            rollout.to
        );
        Decision::record(Change::Held { why })
    } else if is_strict {
        cutover::strictly(rollout, scene, &edges)
    } else {
        edges.contact().unwrap_or_else(|| edges.switch())
    })
}

/// Waits until no edge leads to hosts whose instances are about to be replaced: clients were led to
/// them before another group was, or before they got another label. None: nobody does.
pub(super) fn vacating(rollout: &Rollout, scene: Scene<'_>, wave: usize) -> Option<Decision> {
    let groups = rollout.groups()?;
    let serves_something = |agent: &AgentName| scene.wanted(rollout, agent).leads().is_some();
    let mut changed =
        rollout.hosts_where(|host| host.wave == wave && host.state == HostState::Pending);
    changed.retain(serves_something);
    if changed.is_empty() || groups.from.is_none() {
        return None;
    }
    let edges = Edges::of(rollout, scene, groups);
    let behind: Vec<AgentName> =
        edges.all.iter().filter(|edge| !edges.leaves(edge, &changed)).cloned().collect();
    if behind.is_empty() {
        return None;
    }
    Some(edges.contact().unwrap_or_else(|| edges.waiting(&behind, groups.from.as_ref())))
}

/// Returns why clients cannot be led to the hosts of `wave` now; none if they can.
fn unready(rollout: &Rollout, scene: Scene<'_>, wave: usize) -> Option<Decision> {
    let updated = rollout.hosts_where(|host| host.wave == wave && host.state == HostState::Updated);
    let healthy = u32::try_from(updated.len()).unwrap_or(u32::MAX);
    // It is no watch that began at some time: how long it is waited for is the rollout's standstill.
    let until = Timestamp::default();
    if let Some(decision) = forward::still_healthy(rollout, scene, updated, until) {
        return Some(decision);
    }
    let floor = rollout.spec.min_healthy.max(1);
    planted!(GroupBelowFloor: false; healthy < floor).then(|| {
        let (to, all) = (&rollout.to, rollout.hosts.len());
        let why = format!(
            "{healthy} of {all} hosts run {to} in health, and {floor} are needed before clients are \
             led to them"
        );
        Decision::record(Change::Held { why })
    })
}

/// Waits until every edge has said that it leads where it was told to. None: they do.
fn following(rollout: &Rollout, scene: Scene<'_>) -> Option<Decision> {
    let groups = rollout.groups()?;
    let edges = Edges::of(rollout, scene, groups);
    let behind: Vec<AgentName> =
        edges.all.iter().filter(|edge| !edges.follows(edge)).cloned().collect();
    if behind.is_empty() {
        return None;
    }
    if let Some(decision) = edges.contact() {
        return Some(decision);
    }
    let group = if rollout.leads == Some(false) { groups.from.as_ref() } else { Some(&groups.to) };
    Some(edges.waiting(&behind, group))
}

/// Stops the old release where no edge leads any more.
pub(super) fn retiring(rollout: &Rollout, scene: Scene<'_>) -> Option<Decision> {
    let groups = rollout.groups()?;
    if let Some(decision) = planted!(RetiredUnderEdges: None; following(rollout, scene)) {
        return Some(decision);
    }
    let from = groups.from.as_deref()?;
    let old: Vec<(AgentName, Wanted)> = scene
        .of_group(rollout, &groups.label, from)
        .into_iter()
        .filter(|agent| scene.drain(agent).is_none())
        .filter(|agent| !scene.is_ahead(agent, &rollout.application))
        .filter(|agent| !rollout.hosts.contains_key(agent))
        .map(|agent| (scene.wanted(rollout, &agent), agent))
        .filter(|(wanted, _)| wanted.leads().is_some())
        .map(|(wanted, agent)| (agent, wanted.stopped()))
        .collect();
    if old.is_empty() {
        return None;
    }
    let agents = old.iter().map(|(agent, _)| agent.clone()).collect();
    Some(Decision::Record { change: Change::HostsRetired { agents }, goals: old })
}

/// Leads clients back to the hosts that they came from, before anything else goes back. None: they
/// are there.
pub(super) fn leading_back(rollout: &Rollout, scene: Scene<'_>) -> Option<Decision> {
    let groups = rollout.groups()?;
    if let Some(release) = super::release(rollout, scene) {
        return Some(release);
    }
    match rollout.leads {
        None => None,
        Some(false) => following(rollout, scene),
        Some(true) => {
            let from = groups.from.as_deref()?;
            let old = scene.of_group(rollout, &groups.label, from);
            Some(too_few(rollout, scene, &old).unwrap_or_else(|| {
                Decision::record(Change::GroupSwitched { group: from.to_owned() })
            }))
        }
    }
}

/// Returns what keeps clients from being led back to `old`: where hardly anybody serves.
fn too_few(rollout: &Rollout, scene: Scene<'_>, old: &[AgentName]) -> Option<Decision> {
    // What was told to stop may serve for a while.
    let serves = |agent: &&AgentName| {
        scene.drain(agent).is_none()
            && scene.wanted(rollout, agent).leads().is_some()
            && scene.fleet.is_healthy(agent, &rollout.application)
    };
    let count = |agents: usize| u32::try_from(agents).unwrap_or(u32::MAX);
    let healthy = count(old.iter().filter(serves).count());
    let floor = rollout.spec.min_healthy.min(count(old.len())).max(1);
    if healthy >= floor {
        return None;
    }
    let deadline = rollout.standstill();
    let why = || {
        format!(
            "{healthy} of the {} hosts that clients came from serve, and {floor} are needed; \
             clients stay where they are",
            old.len()
        )
    };
    Some(forward::standstill(rollout, scene, deadline, why).unwrap_or_else(|| {
        Decision::Wait(Waiting::ForHealth { agents: old.to_vec(), judged: None, deadline })
    }))
}

impl Scene<'_> {
    /// Returns the hosts of a group, those left out included.
    fn of_group(&self, rollout: &Rollout, label: &str, group: &str) -> Vec<AgentName> {
        let Some(environment) = self.environments.get(&rollout.environment) else {
            return Vec::new();
        };
        let is_of = |agent: &&AgentName| {
            let enrolled = self.enrolments.agents.get(*agent);
            enrolled.and_then(|it| it.labels.get(label)).is_some_and(|value| value == group)
        };
        self.enrolments.selected(&environment.select).filter(is_of).cloned().collect()
    }
}

/// The edges in front of an environment.
struct Edges<'a> {
    rollout: &'a Rollout,
    scene: Scene<'a>,
    groups: &'a Groups,
    all: Vec<AgentName>,
}

impl<'a> Edges<'a> {
    fn of(rollout: &'a Rollout, scene: Scene<'a>, groups: &'a Groups) -> Self {
        let all = scene.enrolments.edges_of(&rollout.environment).cloned().collect();
        Self { rollout, scene, groups, all }
    }

    fn led(&self) -> Option<&'a Led> {
        let environment = self.scene.environments.get(&self.rollout.environment)?;
        environment.led.get(&self.rollout.application)
    }

    /// Returns what `edge` says of routes that this process told it.
    fn word(&self, edge: &AgentName) -> Option<(&'a EdgeCutoverReport, bool)> {
        let said = self.scene.fleet.fresh_edge(edge)?;
        let is_ours = said.revision.term == self.scene.term;
        let of_application = |it: &&EdgeCutoverReport| it.application == self.rollout.application;
        let word = said.cutovers.iter().find(of_application)?;
        is_ours.then_some((word, said.is_followed))
    }

    /// Waits for the edges that are `behind` to lead to a group.
    fn waiting(&self, behind: &[AgentName], group: Option<&String>) -> Decision {
        let deadline = self.rollout.standstill();
        let group = format!("{}={}", self.groups.label, group.map_or("", String::as_str));
        let why = || format!("{} did not lead clients to the hosts of {group}", names(behind));
        let held = forward::standstill(self.rollout, self.scene, deadline, why);
        held.unwrap_or_else(|| {
            Decision::Wait(Waiting::ForEdges { agents: behind.to_vec(), group, deadline })
        })
    }

    /// Returns whether `edge` has said that it leads to none of `hosts` by the newest routes.
    fn leaves(&self, edge: &AgentName, hosts: &[AgentName]) -> bool {
        let Some(said) = self.scene.fleet.fresh_edge(edge) else { return false };
        let is_newest = self.scene.edges.told(edge) == Some(said.revision);
        let leads = said.hosts.iter().any(|host| {
            host.application == self.rollout.application
                && host.weight > 0
                && hosts.contains(&host.host)
        });
        said.is_followed && is_newest && !leads
    }

    /// Returns whether `edge` has said that it leads to the group that it was told to.
    fn follows(&self, edge: &AgentName) -> bool {
        let Some(led) = self.led() else { return false };
        let word = self.word(edge);
        word.is_some_and(|(word, is_followed)| {
            is_followed && word.switches == led.switches && word.hold.is_none()
        })
    }
}

impl Gates for Edges<'_> {
    fn contact(&self) -> Option<Decision> {
        let is_lost = |edge: &&AgentName| self.scene.fleet.presence(edge) != Presence::Live;
        let lost: Vec<AgentName> = self.all.iter().filter(is_lost).cloned().collect();
        if lost.is_empty() {
            return None;
        }
        let deadline = self.rollout.standstill();
        let why = || format!("{} cannot be reached, and leads clients", names(&lost));
        let held = forward::standstill(self.rollout, self.scene, deadline, why);
        Some(held.unwrap_or(Decision::Wait(Waiting::ForContact { agents: lost, deadline })))
    }

    fn holding(&self) -> Vec<AgentName> {
        self.all.clone()
    }

    fn said(&self, edge: &AgentName) -> Option<HoldState> {
        let is_armed = match self.rollout.cutover?.phase {
            CutoverPhase::Hold => false,
            CutoverPhase::Arm => true,
            CutoverPhase::Release => return None,
        };
        let number = self.led()?.holds;
        let (word, _) = self.word(edge)?;
        planted!(
            EdgeArmedUnheard: Some(word.state);
            (word.hold == Some((number, is_armed))).then_some(word.state)
        )
    }

    fn details(&self) -> Vec<String> {
        let detail = |edge: &AgentName| {
            let trouble = &self.scene.fleet.fresh_edge(edge)?.trouble;
            (!trouble.is_empty()).then(|| format!("{edge}: {trouble}"))
        };
        self.all.iter().filter_map(detail).collect()
    }

    fn switch(&self) -> Decision {
        Decision::record(Change::GroupSwitched { group: self.groups.to.clone() })
    }
}
