//! A5: after a pause or an abort is acknowledged no other host begins, connected or not; nor does a
//! host begin after it is acknowledged that it was taken out.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use cutover_agent_core::{Agent, Event, Step};
use cutover_common::{AgentName, ApplicationName, Generation, SlotGoal, Version};
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
    /// Hosts that were told to switch more than once: an earlier goal of it may be under way.
    told_again: BTreeSet<AgentName>,
    /// The newest goals by which hosts were called back: what they stop then is the new release.
    called_back: BTreeMap<AgentName, Option<Generation>>,
    /// Hosts that were taken out of it, and since when an operator knows that.
    out: BTreeMap<AgentName, Option<Moment>>,
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
    /// How many hosts an operator knows to be out.
    out: usize,
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
                        told_again: BTreeSet::new(),
                        called_back: BTreeMap::new(),
                        out: BTreeMap::new(),
                        stands: None,
                    });
                }
                self.goes_on(order.application.as_str(), world.now);
            }
            Request::Control { rollout, verb, .. } => match verb {
                Verb::Resume | Verb::Retry | Verb::Rollback => self.goes_on(rollout, world.now),
                // What is paused is not promoted.
                Verb::Pause | Verb::Abort | Verb::Promote { .. } => {}
            },
            Request::CreateOperator { .. }
            | Request::CreateJoinToken { .. }
            | Request::Join { .. }
            | Request::Renew { .. }
            | Request::LabelAgent { .. }
            | Request::Exclude { .. }
            | Request::DrainAgent { .. }
            | Request::UndrainAgent { .. }
            | Request::RemoveAgent { .. }
            | Request::CreateEnvironment { .. }
            | Request::FreezeEnvironment { .. }
            | Request::ThawEnvironment { .. }
            | Request::ConfigureEnvironment(_)
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
        (self.standing, self.out) = (0, 0);
        for course in &mut self.courses {
            course.stands = None;
            course.out.clear();
        }
    }

    /// A coordinator has told hosts to switch.
    pub(super) fn stored(&mut self, events: &[CoordinatorEvent]) {
        for event in events {
            let (id, change) = match &event.kind {
                EventKind::Rollout { id, change, .. } => (id, change),
                EventKind::GoalSet { agent, generation, rollout, .. } => {
                    self.set(*rollout, agent, *generation);
                    continue;
                }
                _ => continue,
            };
            let Some(course) = self.courses.iter_mut().find(|course| course.id == *id) else {
                continue;
            };
            match change {
                Change::HostsReleased { agents } => {
                    for agent in agents {
                        course.called_back.remove(agent);
                        if !course.told.insert(agent.clone()) {
                            course.told_again.insert(agent.clone());
                        }
                    }
                }
                Change::HostsWithdrawn { agents } => {
                    course.called_back.extend(agents.iter().map(|agent| (agent.clone(), None)));
                }
                Change::HostsExcluded { agents, .. } => {
                    course.out.extend(agents.iter().map(|agent| (agent.clone(), None)));
                }
                _ => {}
            }
        }
    }

    /// The goal that follows when a host is called back.
    fn set(&mut self, rollout: Uuid, agent: &AgentName, generation: Generation) {
        let course = self.courses.iter_mut().find(|course| course.id == rollout);
        if let Some(by @ None) = course.and_then(|course| course.called_back.get_mut(agent)) {
            *by = Some(generation);
        }
    }

    /// An answer reaches an operator.
    pub(super) fn answered(&mut self, world: &World, call: &OperatorCall) {
        // Goals and echoes come in the order of one stream, which is what a fresh echo rests on:
        // where the world lets one overtake the other, or loses one of them, nothing can be said.
        let network = &world.script.network;
        let is_kind = network.reorder_permille == 0 && network.drop_permille == 0;
        let Some((_, Ok(answer))) = &call.answer else { return };
        if world.sites.len() > 1 || !is_kind {
            return;
        }
        match (&call.request, answer) {
            (
                Request::Control { verb: Verb::Pause | Verb::Abort, rollout: named, .. },
                Answer::Controlled { rollout, .. },
            ) => self.stands(world, call, named, *rollout),
            (Request::Exclude { agents, .. }, Answer::Controlled { rollout, .. }) => {
                let is_it = |course: &Course| course.id == *rollout;
                agents.iter().for_each(|agent| self.is_out(world, is_it, agent));
            }
            (Request::DrainAgent { agent, .. }, Answer::Done) => {
                self.is_out(world, |_| true, agent);
            }
            (_, _) => {}
        }
    }

    /// An operator knows that a host was taken out of those rollouts.
    fn is_out(&mut self, world: &World, is_it: impl Fn(&Course) -> bool, agent: &AgentName) {
        for course in self.courses.iter_mut().filter(|course| is_it(course)) {
            if let Some(since @ None) = course.out.get_mut(agent) {
                *since = Some(world.now);
                self.out += 1;
            }
        }
    }

    /// An operator knows that a rollout stands.
    fn stands(&mut self, world: &World, call: &OperatorCall, named: &str, rollout: Uuid) {
        if self.went_on.iter().any(|(of, at)| of == named && *at >= call.asked) {
            return;
        }
        if let Some(course) = self.courses.iter_mut().find(|course| course.id == rollout) {
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
        took_traffic: bool,
        now: Moment,
    ) -> Result<(), Violation> {
        if self.standing == 0 && self.out == 0 {
            return Ok(());
        }
        for event in &step.events {
            let (Event::StopStarted { application, .. } | Event::Shifted { application, .. }) =
                event
            else {
                continue;
            };
            let Some(known) = core.remembered().applications.get(application) else { continue };
            // Behind the gate it is the traffic that counts, where there was some.
            let is_gated = known.service().is_some();
            let is_shift = matches!(event, Event::Shifted { .. });
            if is_gated != is_shift || is_shift && !took_traffic {
                continue;
            }
            let goal = &known.assignment;
            let brings = |version: &Version| {
                let is_it = |goal: &SlotGoal| matches!(goal, SlotGoal::Running(it) if it.name.version.as_pushed() == version.as_pushed());
                goal.slots.iter().any(|(_, goal)| is_it(goal))
            };
            let Some((course, stands)) = self.courses.iter().find_map(|course| {
                let is_once = !course.told_again.contains(&host.name);
                let out = course.out.get(&host.name).copied().flatten().filter(|_| is_once);
                let is_over = |since: &Moment| now > *since + STILL;
                let stands = course.stands.filter(is_over).or(out.filter(is_over))?;
                let called_back = course.called_back.get(&host.name).copied().flatten();
                let stays = called_back.is_some_and(|by| by <= goal.fence.generation);
                let is_it = !stays
                    && goal.rollout == course.id.to_string()
                    && course.application == *application
                    && course.told.contains(&host.name)
                    && brings(&course.version);
                is_it.then_some((course, stands))
            }) else {
                continue;
            };
            let accepted = obedience.mark(application).map(|mark| mark.accepted);
            let what = format!(
                "{} stops {application} for {}, {:?} after {} was told to stop, or it was taken \
                 out; it accepted its goal at {}",
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
