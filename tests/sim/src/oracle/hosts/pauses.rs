//! A5: after a pause or an abort is acknowledged no other host begins, connected or not.

use std::{collections::BTreeSet, time::Duration};

use cutover_agent_core::{Agent, Event, Step};
use cutover_common::{AgentName, ApplicationName, SlotGoal, Version};
use cutover_coordinator_core::{
    Answer, Event as CoordinatorEvent, EventKind, Request, Verb, event::Change,
};
use uuid::Uuid;

use super::{super::Violation, obedience::Obedience};
use crate::{
    moment::Moment,
    world::{CallId, Host, OperatorCall, World},
};

/// How long a permission that was given before can still be used: the lease, the way of the
/// answer to the operator, and a little for what is decided and not flushed.
const STILL: Duration = Duration::from_millis(10_100);

/// A rollout, as operators and coordinators speak of it.
#[derive(Debug)]
struct Course {
    id: Uuid,
    application: ApplicationName,
    version: Version,
    /// Hosts that were told to switch.
    told: BTreeSet<AgentName>,
    /// Since when an operator knows that it stands.
    stands: Option<Moment>,
}

/// What operators asked for.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    courses: Vec<Course>,
    /// When somebody last asked for an application to go on.
    went_on: Vec<(String, Moment)>,
    /// How many stand.
    standing: usize,
}

impl Pauses {
    /// A call reaches a coordinator.
    pub(super) fn asked(&mut self, world: &World, id: CallId) {
        let Some(call) = world.operators.calls.get(&id) else { return };
        match &call.request {
            Request::Deploy { rollout, order, .. } => {
                if self.courses.iter().all(|course| course.id != *rollout) {
                    self.courses.push(Course {
                        id: *rollout,
                        application: order.application.clone(),
                        version: order.version.clone(),
                        told: BTreeSet::new(),
                        stands: None,
                    });
                }
                self.goes_on(order.application.as_str(), world.now);
            }
            Request::Control { rollout, verb, .. } => match verb {
                Verb::Resume | Verb::Retry | Verb::Rollback => self.goes_on(rollout, world.now),
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

    fn goes_on(&mut self, application: &str, now: Moment) {
        self.went_on.retain(|(of, _)| of != application);
        self.went_on.push((application.to_owned(), now));
        for course in &mut self.courses {
            if course.application.as_str() == application {
                self.standing -= usize::from(course.stands.take().is_some());
            }
        }
    }

    /// A rollout that another coordinator knows of, or that a backup knows nothing of, is not
    /// told to stop by what one of them answered.
    pub(super) fn forget(&mut self) {
        self.standing = 0;
        for course in &mut self.courses {
            course.stands = None;
        }
    }

    /// A coordinator has told hosts to switch.
    pub(super) fn stored(&mut self, events: &[CoordinatorEvent]) {
        for event in events {
            let EventKind::Rollout { id, change: Change::HostsReleased { agents }, .. } =
                &event.kind
            else {
                continue;
            };
            if let Some(course) = self.courses.iter_mut().find(|course| course.id == *id) {
                course.told.extend(agents.iter().cloned());
            }
        }
    }

    /// An answer reaches an operator.
    pub(super) fn answered(&mut self, world: &World, call: &OperatorCall) {
        let Request::Control { verb: Verb::Pause | Verb::Abort, rollout: named, .. } =
            &call.request
        else {
            return;
        };
        let Some((_, Ok(Answer::Controlled { rollout, .. }))) = &call.answer else { return };
        // Goals and echoes come in the order of one stream, which is what a fresh echo rests on:
        // where the world lets one overtake the other, or loses one of them, nothing can be said.
        let network = &world.script.network;
        let is_kind = network.reorder_permille == 0 && network.drop_permille == 0;
        if world.sites.len() > 1 || !is_kind {
            return;
        }
        if self.went_on.iter().any(|(of, at)| of == named && *at >= call.asked) {
            return;
        }
        if let Some(course) = self.courses.iter_mut().find(|course| course.id == *rollout) {
            self.standing += usize::from(course.stands.is_none());
            course.stands = course.stands.or(Some(world.now));
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
        if self.standing == 0 {
            return Ok(());
        }
        for event in &step.events {
            let Event::StopStarted { application, .. } = event else { continue };
            let Some(known) = core.remembered().applications.get(application) else { continue };
            let goal = &known.assignment;
            let brings = |version: &Version| {
                let is_it = |goal: &SlotGoal| matches!(goal, SlotGoal::Running(it) if it.name.version == *version);
                goal.slots.iter().any(|(_, goal)| is_it(goal))
            };
            let Some((course, stands)) = self.courses.iter().find_map(|course| {
                let stands = course.stands.filter(|since| now > *since + STILL)?;
                let is_it = goal.rollout == course.id.to_string()
                    && course.application == *application
                    && course.told.contains(&host.name)
                    && brings(&course.version);
                is_it.then_some((course, stands))
            }) else {
                continue;
            };
            let accepted = obedience.mark(application).map(|mark| mark.accepted);
            let what = format!(
                "{} stops {application} for {}, {:?} after {} was told to stop; it accepted its \
                 goal at {}",
                host.name,
                course.version,
                now.since(stands),
                course.id,
                accepted.unwrap_or_default(),
            );
            return Err(Violation::new("A5", what));
        }
        Ok(())
    }
}
