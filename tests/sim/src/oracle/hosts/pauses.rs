//! A5: after a pause or an abort is acknowledged no other host begins, connected or not.

use std::time::Duration;

use cutover_agent_core::{Agent, Event, Step};
use cutover_common::{ApplicationName, SlotGoal, Version};
use cutover_coordinator_core::{Answer, Request, Verb};

use super::{super::Violation, obedience::Obedience};
use crate::{
    moment::Moment,
    world::{CallId, Host, OperatorCall, World},
};

/// How long a permission that was given before can still be used: the lease, the way of the
/// answer to the operator, and a little for what is decided and not flushed.
const STILL: Duration = Duration::from_millis(10_100);

/// What operators asked for.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    rollouts: Vec<(String, ApplicationName, Version)>,
    /// Rollouts that were told to stop, what they were to bring, and since when.
    stopped: Vec<(String, ApplicationName, Version, Moment)>,
}

impl Pauses {
    /// A call reaches a coordinator.
    pub(super) fn asked(&mut self, world: &World, id: CallId) {
        let Some(call) = world.operators.calls.get(&id) else { return };
        match &call.request {
            Request::Deploy { rollout, order, .. } => {
                let of_it = (rollout.to_string(), order.application.clone(), order.version.clone());
                if !self.rollouts.contains(&of_it) {
                    self.rollouts.push(of_it);
                }
                self.goes_on(order.application.as_str());
            }
            Request::Control { rollout, verb, .. } => match verb {
                Verb::Resume | Verb::Retry | Verb::Rollback => self.goes_on(rollout),
                Verb::Pause | Verb::Abort => {}
            },
            Request::CreateOperator { .. }
            | Request::CreateJoinToken { .. }
            | Request::Join { .. }
            | Request::Renew { .. }
            | Request::LabelAgent { .. }
            | Request::RemoveAgent { .. }
            | Request::CreateEnvironment { .. }
            | Request::RegisterRelease { .. } => {}
        }
    }

    fn goes_on(&mut self, application: &str) {
        self.stopped.retain(|(_, of, ..)| of.as_str() != application);
    }

    /// After a restore nobody knows of what was acknowledged since the backup.
    pub(super) fn forget(&mut self) {
        self.stopped.clear();
    }

    /// An answer reaches an operator.
    pub(super) fn answered(&mut self, call: &OperatorCall, now: Moment) {
        let Request::Control { verb: Verb::Pause | Verb::Abort, .. } = &call.request else {
            return;
        };
        let Some((_, Ok(Answer::Controlled { rollout, .. }))) = &call.answer else { return };
        let id = rollout.to_string();
        let started = self.rollouts.iter().find(|(rollout, ..)| *rollout == id);
        if let Some((id, application, version)) = started.cloned() {
            self.stopped.push((id, application, version, now));
        }
    }

    /// Judges the stops that a host begins.
    pub(super) fn stepped(
        &self,
        (host, core): (&Host, &Agent),
        step: &Step,
        obedience: &Obedience,
        now: Moment,
    ) -> Result<(), Violation> {
        if self.stopped.is_empty() {
            return Ok(());
        }
        for event in &step.events {
            let Event::StopStarted { application, .. } = event else { continue };
            let Some(known) = core.remembered().applications.get(application) else { continue };
            let goal = &known.assignment;
            let stopped = self.stopped.iter().find(|(rollout, of, version, since)| {
                let brings = |goal: &SlotGoal| {
                    matches!(goal, SlotGoal::Running(it) if it.name.version == *version)
                };
                *rollout == goal.rollout
                    && of == application
                    && goal.slots.iter().any(|(_, goal)| brings(goal))
                    && now > *since + STILL
            });
            let Some((rollout, _, version, since)) = stopped else { continue };
            let accepted = obedience.mark(application).map(|mark| mark.accepted);
            let what = format!(
                "{} stops {application} for {version}, {:?} after {rollout} was told to stop; it \
                 had accepted its goal {:?} before that",
                host.name,
                now.since(*since),
                accepted.map(|accepted| since.since(accepted)),
            );
            return Err(Violation::new("A5", what));
        }
        Ok(())
    }
}
