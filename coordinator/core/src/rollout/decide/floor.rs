//! The floor: how many healthy instances must stay, and which hosts may be taken out (A1).

use cutover_common::AgentName;

use super::Scene;
use crate::rollout::Rollout;

/// Which of the hosts that wait may be taken out now.
pub(super) struct Permitted {
    pub(super) agents: Vec<AgentName>,
    /// Freshly healthy instances that nobody is disrupting, before any of `agents` is taken.
    pub(super) healthy: u32,
}

/// Chooses from `candidates`, in their order, those whose disruption leaves the floor.
///
/// Every member that is not freshly known to be healthy counts as down, and so does every one
/// that holds a token, whatever it says of itself. A candidate that is down already costs
/// nothing.
pub(super) fn permitted(rollout: &Rollout, scene: Scene<'_>, candidates: &[AgentName]) -> Permitted {
    let is_up = |agent: &AgentName| {
        let holds_token =
            rollout.hosts.get(agent).is_some_and(|host| host.state.holds_token());
        !holds_token && scene.fleet.is_healthy(agent, &rollout.application)
    };
    let healthy = scene.members.iter().filter(|agent| is_up(agent)).count();
    let healthy = u32::try_from(healthy).unwrap_or(u32::MAX);
    let mut spare = healthy.saturating_sub(rollout.spec.min_healthy);
    let agents = candidates
        .iter()
        .filter(|agent| {
            if !is_up(agent) {
                return true;
            }
            let may = spare > 0;
            spare = spare.saturating_sub(1);
            may
        })
        .cloned()
        .collect();
    Permitted { agents, healthy }
}
