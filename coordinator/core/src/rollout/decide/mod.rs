//! When a rollout does what, and why. Pure: facts and time in, a reasoned decision out.
//!
//! Level-triggered: it looks at what is, never at what just happened, so a lost, repeated or late
//! report changes nothing but the moment.

mod back;
mod facts;
mod floor;
mod forward;

use cutover_common::{
    AgentName, Generation, Phase, Report, SlotReport, Slots, Timestamp, Version,
};

use super::{Rollout, State, Waiting};
use crate::{
    event::Change,
    fleet::{Fleet, GoalSlot, Goals},
};

pub use back::way_back;
pub use facts::not_begun;

/// What a decision may look at.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    pub fleet: &'a Fleet,
    pub goals: &'a Goals,
    /// All agents of the environment, those left out included: the floor counts them.
    pub members: &'a [AgentName],
    pub now: Timestamp,
}

/// What is to be done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Decision {
    /// Record this, with the goals that follow from it, and ask again.
    Record { change: Change, goals: Vec<(AgentName, Slots<GoalSlot>)> },
    /// Nothing, and for this reason.
    Wait(Waiting),
}

impl Decision {
    pub(crate) fn record(change: Change) -> Self {
        Self::Record { change, goals: Vec::new() }
    }
}

/// Decides what `rollout` does now.
pub fn decide(rollout: &Rollout, scene: Scene<'_>) -> Decision {
    match &rollout.state {
        State::Advancing { wave, step, since } => facts::forward(rollout, scene)
            .or_else(|| facts::over_budget(rollout, scene))
            .unwrap_or_else(|| forward::advancing(rollout, scene, *wave, *step, *since)),
        State::Baking { since } => facts::forward(rollout, scene)
            .or_else(|| facts::over_budget(rollout, scene))
            .unwrap_or_else(|| forward::baking(rollout, scene, *since)),
        State::RollingBack { cause, waves, wave, .. } => facts::back(rollout, scene)
            .unwrap_or_else(|| back::rolling_back(rollout, scene, cause, waves, *wave)),
        // Facts are recorded while paused, and nothing is begun.
        State::Paused { .. } => {
            let fact = match rollout.direction() {
                super::Direction::Forward => facts::forward(rollout, scene),
                super::Direction::Back => facts::back(rollout, scene),
            };
            fact.unwrap_or(Decision::Wait(Waiting::ForOperator))
        }
        State::Held { .. } => Decision::Wait(Waiting::ForOperator),
        State::Ended { .. } => Decision::Wait(Waiting::Over),
    }
}

impl Rollout {
    /// Returns the report of `agent` if it is fresh and speaks of the newest goal.
    fn report_of_goal<'a>(&self, scene: Scene<'a>, agent: &AgentName) -> Option<&'a Report> {
        let goal = scene.goals.of(agent, &self.application)?;
        let report = scene.fleet.fresh_report(agent, &self.application)?;
        (report.fence.generation >= goal.generation && goal.generation > Generation(0))
            .then_some(report)
    }

    /// Returns the slot of `agent` that holds `version`, if the report of it is fresh and speaks
    /// of the newest goal.
    fn slot_of_goal<'a>(
        &self,
        scene: Scene<'a>,
        agent: &AgentName,
        version: &Version,
    ) -> Option<&'a SlotReport> {
        self.report_of_goal(scene, agent)?.slots.iter().map(|(_, slot)| slot).find(|slot| {
            slot.release.as_ref().is_some_and(|(held, _)| held == version)
        })
    }

    /// Returns when a standstill becomes a hold.
    fn standstill(&self) -> Timestamp {
        self.progressed + self.spec.progress_within
    }
}

/// Returns whether the slot's release is on disk or further.
const fn is_prepared(slot: &SlotReport) -> bool {
    match slot.phase {
        Phase::Prepared
        | Phase::Waiting
        | Phase::Starting
        | Phase::Running
        | Phase::Stopping => true,
        Phase::Empty | Phase::Preparing | Phase::Failed => false,
    }
}

#[cfg(test)]
mod tests;
