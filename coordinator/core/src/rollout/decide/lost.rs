//! Goals that a crash has cost. A large step is stored in several appends: after a crash between
//! two of them the log says what becomes of the hosts, and lacks the goals that follow from it.

use super::NewGoals;
use crate::{
    fleet::{Goal, Goals},
    rollout::{HostState, Rollout},
};

/// Returns the goals that the hosts of `rollout` should have by where they stand, and have not.
/// What has been seen to be true of a host followed from a goal that is there.
pub(crate) fn lost_goals(rollout: &Rollout, goals: &Goals) -> NewGoals {
    rollout
        .hosts
        .iter()
        .filter_map(|(agent, host)| {
            let goal = goals.last(agent, &rollout.application);
            let is_ours = goal.is_some_and(|goal| goal.rollout == rollout.id);
            let held = goal.map(|goal| goal.wanted.clone()).unwrap_or_default();
            let runs_new = goal.and_then(Goal::running) == Some(&rollout.to);
            let wanted = match &host.state {
                HostState::Pending
                | HostState::Failed { touched: false, .. }
                | HostState::Unreachable { touched: false, .. } => {
                    // What was staged beside what serves was told then.
                    let was_staged = host.is_staged && host.before.is_some();
                    let was_called_back =
                        is_ours && runs_new && host.tries == u32::from(was_staged);
                    if was_called_back {
                        rollout.stay(agent, &held)
                    } else {
                        held.prepared(&rollout.to)
                    }
                }
                HostState::Staging { .. } | HostState::Staged => rollout.stage(agent, &held),
                HostState::Updating { .. } => rollout.forward(agent, &held),
                HostState::Reverting { .. } => rollout.back(agent, &held),
                HostState::Updated
                | HostState::Failed { touched: true, .. }
                | HostState::Unreachable { touched: true, .. }
                | HostState::Reverted
                | HostState::Stuck { .. }
                // One that was called back has its goal: it comes in front of the exclusion.
                | HostState::Excluded { .. } => return None,
            };
            (!is_ours || wanted != held).then(|| (agent.clone(), wanted))
        })
        .collect()
}
