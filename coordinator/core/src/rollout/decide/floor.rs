//! The floor: how many healthy instances must stay, and which hosts may be taken out (A1).

use cutover_common::{AgentName, planted};

use super::{Scene, Serving};
use crate::{
    fleet::Goal,
    rollout::{Direction, HostState, Rollout, story::names},
};

/// Which of the hosts that wait may be taken out now.
pub(super) struct Permitted {
    pub(super) agents: Vec<AgentName>,
    /// Freshly healthy instances that nobody is disrupting, before any of `agents` is taken.
    pub(super) healthy: u32,
}

/// Chooses from `candidates`, in their order, those whose disruption leaves the floor.
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
    let healthy = count_up(rollout, scene);
    let judged: Vec<(&AgentName, bool, bool)> = candidates
        .iter()
        .map(|agent| (agent, costs_nothing(rollout, scene, agent), is_up(rollout, scene, agent)))
        .collect();
    let free = judged.iter().filter(|(_, is_free, is_up)| *is_free && *is_up).count();
    let mut left = healthy.saturating_sub(u32::try_from(free).unwrap_or(u32::MAX));
    let agents = judged
        .into_iter()
        .filter(|(_, is_free, is_up)| {
            if *is_free {
                return true;
            }
            let after = left.checked_sub(u32::from(*is_up));
            let floor = rollout.spec.min_healthy;
            let after = after.filter(
                |after| planted!(FloorOffByOne: after.saturating_add(1) >= floor; *after >= floor),
            );
            left = after.unwrap_or(left);
            after.is_some()
        })
        .map(|(agent, _, _)| agent.clone())
        .collect();
    Permitted { agents, healthy }
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
    let serving = || scene.serving(agent, &rollout.application);
    let Some(host) = rollout.hosts.get(agent) else { return serving() == Serving::Down };
    let goal = scene.goals.of(agent, &rollout.application).and_then(Goal::running);
    // A goal that is the same again takes nothing out.
    let stays = rollout.direction() == Direction::Forward && goal == Some(&rollout.to);
    // Before a first deploy nothing served, so that its way back has nothing to keep.
    let returns_to_nothing =
        rollout.direction() == Direction::Back && rollout.back_to(agent).is_none();
    stays
        || returns_to_nothing
        || match host.state {
            HostState::Updating { .. } | HostState::Reverting { .. } => true,
            // One that failed may have come back since, unseen.
            HostState::Pending
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
