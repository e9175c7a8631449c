//! When a rollout does what, and why. Pure: facts and time in, a reasoned decision out.
//!
//! Level-triggered: it looks at what is, never at what just happened, so a lost, repeated or late
//! report changes nothing but the moment.

mod back;
mod cutover;
mod evidence;
mod facts;
pub(crate) mod floor;
mod forward;
mod groups;
mod judge;
mod load;
mod lost;
mod once;
mod stage;
mod window;

use std::collections::BTreeMap;

use cutover_common::{AgentName, EnvironmentName, Phase, SlotReport, Term, Timestamp};

use super::{CutoverPhase, Direction, HostState, Outcome, Rollout, State, Waiting, story::names};
use crate::{
    checking::Checkings,
    coordinator::{Environment, Releases},
    edge::Edges,
    enrolment::{Drain, Enrolments},
    event::Change,
    fleet::{Fleet, Goals, Wanted},
    judging::Judges,
    once::Onces,
};

pub use back::way_back;
pub use evidence::Serving;
pub(crate) use facts::next_overdue;
pub use facts::not_begun;
pub(crate) use forward::bears_another;
pub(crate) use lost::lost_goals;

/// What a decision may look at.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    pub fleet: &'a Fleet,
    pub goals: &'a Goals,
    pub enrolments: &'a Enrolments,
    pub(crate) judges: &'a Judges,
    pub(crate) checks: &'a Checkings,
    pub environments: &'a BTreeMap<EnvironmentName, Environment>,
    pub(crate) edges: &'a Edges,
    pub releases: &'a Releases,
    pub onces: &'a Onces,
    /// The coordinator's own.
    pub term: Term,
    /// All agents of the environment that clients are led to, those left out included: the floor
    /// counts them.
    pub members: &'a [AgentName],
    pub now: Timestamp,
}

impl<'a> Scene<'a> {
    /// Returns why the host of `agent` is taken out for maintenance, if it is.
    pub(crate) fn drain(&self, agent: &AgentName) -> Option<&'a Drain> {
        self.enrolments.drain(agent)
    }

    /// Returns what the newest goal of `agent` asks for.
    pub(crate) fn wanted(&self, rollout: &Rollout, agent: &AgentName) -> Wanted {
        let goal = self.goals.of(agent, &rollout.application);
        goal.map(|goal| goal.wanted.clone()).unwrap_or_default()
    }

    /// Returns the zone of `agent` by the label of `rollout`: empty for one without the label, none
    /// where there are no zones.
    pub(crate) fn zone(&self, rollout: &Rollout, agent: &AgentName) -> Option<&'a str> {
        let label = rollout.spec.zone.as_deref()?;
        let labels = self.enrolments.agents.get(agent).map(|enrolled| &enrolled.labels);
        Some(labels.and_then(|labels| labels.get(label)).map_or("", String::as_str))
    }
}

/// What which agents should run from here on.
pub type NewGoals = Vec<(AgentName, Wanted)>;

/// What is to be done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Decision {
    /// Record this, with the goals that follow from it, and ask again.
    Record { change: Change, goals: NewGoals },
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
    let decision = undisturbed(rollout, scene);
    match decision {
        // Nobody asked for it, and no person is to be asked because of it: what a host lacks shows.
        Decision::Record { change: Change::Held { why }, goals } if rollout.converges => {
            let change = Change::Ended { outcome: Outcome::Aborted, why };
            Decision::Record { change, goals }
        }
        Decision::Record { .. } | Decision::Wait(_) => interrupted(rollout, scene, decision),
    }
}

fn interrupted(rollout: &Rollout, scene: Scene<'_>, decision: Decision) -> Decision {
    match &decision {
        // Whatever else becomes of it: clients do not wait for that.
        Decision::Record { change, .. } if rollout.is_holding() && interrupts(change) => {
            release(rollout, scene).unwrap_or(decision)
        }
        Decision::Record { .. } | Decision::Wait(_) => decision,
    }
}

/// Returns what lets gates go on that may be holding; none if none are.
pub(crate) fn release(rollout: &Rollout, scene: Scene<'_>) -> Option<Decision> {
    rollout.is_holding().then(|| cutover::move_to(rollout, scene, CutoverPhase::Release))
}

/// Returns whether `change` ends a cutover that is under way.
const fn interrupts(change: &Change) -> bool {
    match change {
        // The way back sets other goals at once.
        Change::RollbackStarted { .. }
        | Change::CutoverMoved { .. }
        | Change::HostsFlipped { .. }
        | Change::GroupSwitched { .. }
        | Change::HostsTold { .. }
        | Change::HostUpdated { .. }
        | Change::HostStaged { .. }
        | Change::HostsReverted { .. }
        | Change::HostReverted { .. }
        | Change::RollbackWave { .. }
        | Change::Once { .. }
        | Change::HostStuck { .. } => false,
        Change::StepStarted { .. }
        | Change::HostsReleased { .. }
        | Change::HostFailed { .. }
        | Change::HostUnreachable { .. }
        | Change::BakeStarted
        | Change::HostsWithdrawn { .. }
        | Change::HostsStaged { .. }
        | Change::HostsShifted { .. }
        | Change::HostsRetired { .. }
        | Change::Promoted { .. }
        | Change::Paused { .. }
        | Change::Resumed { .. }
        | Change::Held { .. }
        | Change::Retried { .. }
        | Change::Ended { .. }
        | Change::HostsExcluded { .. } => true,
    }
}

fn undisturbed(rollout: &Rollout, scene: Scene<'_>) -> Decision {
    match &rollout.state {
        State::Advancing { wave, step, since } => once::word(rollout, scene)
            .or_else(|| facts::forward(rollout, scene))
            .or_else(|| once::unclear(rollout, scene))
            .or_else(|| facts::over_budget(rollout, scene))
            .or_else(|| once::failed(rollout, scene))
            .or_else(|| once::behind(rollout, scene))
            .or_else(|| judge::found_worse(rollout, scene))
            .or_else(|| commanded_by_another(rollout, scene))
            .unwrap_or_else(|| forward::advancing(rollout, scene, *wave, *step, *since)),
        State::Baking { since } => facts::forward(rollout, scene)
            .or_else(|| facts::over_budget(rollout, scene))
            .or_else(|| commanded_by_another(rollout, scene))
            .unwrap_or_else(|| forward::baking(rollout, scene, *since)),
        State::RollingBack { cause, waves, wave, .. } => once::word(rollout, scene)
            .or_else(|| facts::back(rollout, scene))
            .or_else(|| commanded_by_another(rollout, scene))
            .unwrap_or_else(|| back::rolling_back(rollout, scene, cause, waves, *wave)),
        // Facts are recorded while nothing is begun: a person decides by what is.
        State::Paused { .. } | State::Held { .. } => {
            let fact = once::word(rollout, scene).or_else(|| match rollout.direction() {
                Direction::Forward => facts::forward(rollout, scene),
                Direction::Back => facts::back(rollout, scene),
            });
            fact.unwrap_or(Decision::Wait(Waiting::ForOperator))
        }
        State::Ended { .. } => Decision::Wait(Waiting::Over),
    }
}

/// Holds a rollout whose hosts follow goals that this coordinator has never made: commanding them
/// could take them back (F7).
fn commanded_by_another(rollout: &Rollout, scene: Scene<'_>) -> Option<Decision> {
    let ahead: Vec<AgentName> = rollout
        .hosts
        .iter()
        .filter(|(_, host)| !matches!(host.state, HostState::Excluded { .. }))
        .map(|(agent, _)| agent)
        .filter(|agent| scene.is_ahead(agent, &rollout.application))
        .cloned()
        .collect();
    (!ahead.is_empty()).then(|| {
        Decision::record(Change::Held {
            why: format!(
                "{} follow goals that this coordinator has not set, as after a restore; \
                 abort this, then deploy what they should run",
                names(&ahead)
            ),
        })
    })
}

/// Returns whether the slot's release is on disk or further.
pub(crate) const fn is_prepared(slot: &SlotReport) -> bool {
    match slot.phase {
        Phase::Prepared | Phase::Waiting | Phase::Starting | Phase::Running | Phase::Stopping => {
            true
        }
        Phase::Empty | Phase::Preparing | Phase::Failed => false,
    }
}

#[cfg(test)]
mod tests;
