//! The way back: a plan of its own, worst hosts first, from local disk.

use cutover_common::{AgentName, Timestamp, planted};

use super::{Decision, Scene, floor, groups};
use crate::{
    event::Change,
    rollout::{
        Cause, Host, HostState, Outcome, Rollout, Waiting,
        story::{self, names},
        waiting::Short,
    },
};

/// Returns the change that turns `rollout` back: hosts that do not serve first, all together, as
/// taking them out costs nothing; then those that serve well, in batches.
pub fn way_back(rollout: &Rollout, scene: Scene<'_>, cause: Cause) -> Change {
    let goes_back =
        |host: &Host| host.is_touched() && !matches!(host.state, HostState::Excluded { .. });
    let touched = rollout.hosts_where(goes_back);
    let (well, worst): (Vec<AgentName>, Vec<AgentName>) = touched.into_iter().partition(|agent| {
        let is_updated =
            rollout.hosts.get(agent).is_some_and(|host| host.state == HostState::Updated);
        is_updated && scene.fleet.is_healthy(agent, &rollout.application)
    });
    let mut waves = Vec::new();
    if !worst.is_empty() {
        waves.push(worst);
    }
    let total = u32::try_from(well.len()).unwrap_or(u32::MAX);
    let mut rest = well.into_iter();
    if total > 0 {
        for size in rollout.spec.batches.sizes(total) {
            waves.push(rest.by_ref().take(usize::try_from(size).unwrap_or(usize::MAX)).collect());
        }
    }
    Change::RollbackStarted { cause, waves }
}

pub(super) fn rolling_back(
    rollout: &Rollout,
    scene: Scene<'_>,
    cause: &Cause,
    waves: &[Vec<AgentName>],
    wave: usize,
) -> Decision {
    if let Some(decision) = groups::leading_back(rollout, scene) {
        return decision;
    }
    let agents = waves.get(wave).map_or(&[][..], Vec::as_slice);
    let told = |agent: &&AgentName| {
        rollout.hosts.get(*agent).is_some_and(|host| {
            matches!(
                host.state,
                HostState::Reverting { .. }
                    | HostState::Reverted
                    | HostState::Stuck { .. }
                    | HostState::Excluded { .. }
            )
        })
    };
    let untold: Vec<AgentName> = agents.iter().filter(|agent| !told(agent)).cloned().collect();
    let permitted = floor::permitted(rollout, scene, &untold);
    if !permitted.agents.is_empty() {
        return revert(rollout, scene, permitted.agents);
    }
    // A host that cannot be reached has its goal and will follow it; the others do not wait.
    let pending: Vec<AgentName> = agents
        .iter()
        .filter(|agent| is_reverting(rollout, agent))
        .filter(|agent| scene.fleet.unreachable_since(agent, scene.now).is_none())
        .cloned()
        .collect();
    if !untold.is_empty() || !pending.is_empty() {
        return wait(rollout, scene, &untold, pending, permitted.short);
    }
    if wave + 1 < waves.len() {
        return Decision::record(Change::RollbackWave { wave: wave + 1 });
    }
    finish(rollout, cause)
}

fn is_reverting(rollout: &Rollout, agent: &AgentName) -> bool {
    rollout.hosts.get(agent).is_some_and(|host| matches!(host.state, HostState::Reverting { .. }))
}

fn revert(rollout: &Rollout, scene: Scene<'_>, agents: Vec<AgentName>) -> Decision {
    let goals = agents
        .iter()
        .map(|agent| {
            let held = scene.wanted(rollout, agent);
            (agent.clone(), rollout.back(agent, &held))
        })
        .collect();
    Decision::Record { change: Change::HostsReverted { agents }, goals }
}

fn wait(
    rollout: &Rollout,
    scene: Scene<'_>,
    untold: &[AgentName],
    pending: Vec<AgentName>,
    short: Short,
) -> Decision {
    let deadline: Timestamp = rollout.standstill();
    if scene.now >= deadline {
        let all: Vec<AgentName> = untold.iter().cloned().chain(pending).collect();
        let why = format!(
            "the way back stands still at {}: {}",
            names(&all),
            floor::shortage(&short, scene),
        );
        return Decision::record(Change::Held { why });
    }
    if pending.is_empty() {
        return Decision::Wait(Waiting::ForFloor { short, agents: untold.to_vec(), deadline });
    }
    Decision::Wait(Waiting::ForReverted { agents: pending, deadline })
}

fn finish(rollout: &Rollout, cause: &Cause) -> Decision {
    let stuck: Vec<String> = rollout
        .hosts
        .iter()
        .filter_map(|(agent, host)| match &host.state {
            HostState::Stuck { why } => Some(format!("{agent} ({why})")),
            HostState::Reverting { .. } => Some(format!("{agent} (not connected)")),
            HostState::Pending
            | HostState::Staging { .. }
            | HostState::Staged
            | HostState::Updating { .. }
            | HostState::Updated
            | HostState::Failed { .. }
            | HostState::Unreachable { .. }
            | HostState::Reverted
            | HostState::Excluded { .. } => None,
        })
        .collect();
    let cause = story::why(cause);
    if planted!(StuckCountsAsReverted: false; !stuck.is_empty()) {
        let why = format!("{} did not come back; going back because {cause}", stuck.join(", "));
        return Decision::record(Change::Held { why });
    }
    let why = cause + &story::left_out(rollout);
    Decision::record(Change::Ended { outcome: Outcome::RolledBack, why })
}
