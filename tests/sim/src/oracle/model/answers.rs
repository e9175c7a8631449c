//! Answers: what an operator must be answered, by what is known.

use cutover_common::{AgentName, DeploySetting, Version};
use cutover_coordinator_core::{
    Answer, Deed, DeployOrder, Event, EventKind, IfBusy, Refusal, Request, Verb,
    event::{Change, Dequeued},
};
use uuid::Uuid;

use super::known::{Known, Rollout, Stand, deed_of};
use crate::{oracle::Violation, world::World};

/// What was asked for.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) world: &'a World,
    pub(super) request: &'a Request,
}

/// How a call must be answered.
#[derive(Debug)]
enum Expected {
    /// It is done, or was done by the same call before: on this rollout.
    Done(Option<Uuid>),
    /// Nothing is changed.
    Refused(&'static str),
    /// Either, as it depends on how the fleet is.
    Either,
}

/// Returns to which version a rollout begins when `verb` is asked for and `last` is over.
const fn started_by(verb: Verb, last: &Rollout) -> Option<&Version> {
    match verb {
        Verb::Retry => Some(&last.to),
        Verb::Rollback => last.from.as_ref(),
        Verb::Pause | Verb::Resume | Verb::Abort | Verb::Promote { .. } => None,
    }
}

/// Returns whether an event happens only because somebody asks. `converges` says of a rollout
/// whether it began by itself: then it ends so, too. `waits` says whether it is queued: then it begins
/// by itself.
pub(super) fn is_asked_for(
    event: &Event,
    converges: impl Fn(Uuid) -> bool,
    waits: impl Fn(Uuid) -> bool,
) -> bool {
    match &event.kind {
        EventKind::Rollout { id, change: Change::Ended { .. }, call: None } if converges(*id) => {
            false
        }
        EventKind::RolloutStarted(started) => !started.converges && !waits(started.id),
        EventKind::RolloutDequeued { how: Dequeued::Refused { .. }, .. } => false,
        EventKind::Rollout { change, .. } => deed_of(change).is_some(),
        EventKind::Started { .. } | EventKind::Restored { .. } | EventKind::GoalSet { .. } => false,
        EventKind::OperatorCreated { .. }
        | EventKind::JoinTokenCreated { .. }
        | EventKind::AgentJoined { .. }
        | EventKind::AgentLabelled { .. }
        | EventKind::AgentRemoved { .. }
        | EventKind::AgentDrained { .. }
        | EventKind::AgentUndrained { .. }
        | EventKind::EnvironmentCreated { .. }
        | EventKind::EnvironmentFrozen { .. }
        | EventKind::EnvironmentThawed { .. }
        | EventKind::EnvironmentConfigured { .. }
        | EventKind::RolloutQueued(_)
        | EventKind::RolloutDequeued {
            how: Dequeued::Aborted { .. } | Dequeued::Superseded { .. },
            ..
        }
        | EventKind::ReleaseRegistered { .. } => true,
        // Of a release that hosts get: the rollout is what was asked for.
        EventKind::ReleaseConfigured { .. } | EventKind::SecretsLost { .. } => false,
    }
}

impl Asked<'_> {
    /// Judges an answer.
    pub(super) fn judge(
        self,
        known: &Known,
        answer: &Result<Option<&Answer>, &Refusal>,
        events: &[Event],
    ) -> Result<(), Violation> {
        let broken = |what: String| {
            let (request, answer) = (short(self.request), answer);
            Err(Violation::new("E1", format!("{request}: {what}: {answer:?}")))
        };
        let expected = self.expected(known);
        match (&expected, answer) {
            (Expected::Done(_), Err(_)) => return broken(format!("must be {expected:?}")),
            (Expected::Refused(why), Ok(_)) => return broken(format!("is done, although {why}")),
            (Expected::Done(Some(rollout)), Ok(Some(done)))
                if rollout_of(done) != Some(*rollout) =>
            {
                return broken(format!("is done to another rollout than {rollout}"));
            }
            (Expected::Done(_) | Expected::Refused(_) | Expected::Either, _) => {}
        }
        let has_led = events.iter().any(|event| self.leads_to(known, event));
        match answer {
            Err(_)
                if events.iter().any(|event| {
                    is_asked_for(event, |id| known.converges(id), |id| known.waits(id))
                }) =>
            {
                broken("is refused, and has changed something".to_owned())
            }
            Ok(Some(Answer::RolloutStarted { rollout, repeated: false })) => {
                let began = |event: &Event| matches!(&event.kind, EventKind::RolloutStarted(it) if it.id == *rollout);
                if has_led && events.iter().any(began) {
                    Ok(())
                } else {
                    broken("is acknowledged, and did not begin".to_owned())
                }
            }
            Ok(Some(Answer::RolloutQueued { repeated: false, .. })) if !has_led => {
                broken("is acknowledged, and not queued".to_owned())
            }
            Ok(Some(Answer::Controlled { rollout, .. })) => {
                if has_led || self.is_so_already(known, *rollout) {
                    Ok(())
                } else {
                    broken("is acknowledged, and not done".to_owned())
                }
            }
            Ok(Some(Answer::Done)) => match self.request {
                Request::DrainAgent { agent, .. } if !has_led && !known.drained.contains(agent) => {
                    broken("is acknowledged, and not drained".to_owned())
                }
                Request::UndrainAgent { agent, .. }
                    if !has_led && known.drained.contains(agent) =>
                {
                    broken("is acknowledged, and drained still".to_owned())
                }
                _ => Ok(()),
            },
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Returns whether an event is what was asked for.
    pub(super) fn leads_to(self, known: &Known, event: &Event) -> bool {
        match (&event.kind, self.request) {
            (
                EventKind::RolloutStarted(started),
                Request::Deploy { request_id, rollout, order },
            ) => {
                started.id == *rollout
                    && started.request_id == *request_id
                    && started.application == order.application
                    && known.is_meant(order, started)
            }
            (
                EventKind::RolloutStarted(started),
                Request::Control { rollout, verb, new_rollout, .. },
            ) => {
                let version = known.newest(rollout).and_then(|last| started_by(*verb, last));
                started.id == *new_rollout
                    && started.application.as_str() == rollout
                    && version == Some(&started.to)
            }
            (EventKind::RolloutQueued(_) | EventKind::RolloutDequeued { .. }, request) => {
                changes_queue(known, &event.kind, request)
            }
            (
                EventKind::Rollout { id, change: Change::Ended { .. }, call: None },
                Request::Deploy { order, .. },
            ) => {
                let mut others = known.rollouts.iter().filter(|it| it.stand != Stand::Over);
                order.if_busy == IfBusy::Supersede
                    && others.any(|it| it.id == *id && it.application == order.application.as_str())
            }
            (
                EventKind::Rollout { id, change, call },
                Request::Control { rollout, verb, new_rollout, .. },
            ) => {
                deed_of(change) == Some(Deed::Control(*verb))
                    && *call == Some(*new_rollout)
                    && known.active(rollout).is_some_and(|active| active.id == *id)
            }
            (
                EventKind::Rollout {
                    id,
                    change: change @ Change::HostsExcluded { agents, .. },
                    call,
                },
                Request::Exclude { rollout, agents: asked, how, call: asked_by, .. },
            ) => {
                deed_of(change) == Some(Deed::LeaveOut(*how))
                    && *call == Some(*asked_by)
                    && agents.iter().all(|agent| asked.contains(agent))
                    && known.active(rollout).is_some_and(|active| active.id == *id)
            }
            (kind, request) => changes_fleet(kind, request),
        }
    }

    fn expected(self, known: &Known) -> Expected {
        match self.request {
            Request::Deploy { request_id, order, .. } => self.deployed(known, *request_id, order),
            Request::Control { rollout, verb, new_rollout, .. } => {
                controlled(known, rollout, *verb, *new_rollout)
            }
            Request::LabelAgent { agent, .. } | Request::RemoveAgent { agent } => {
                if !known.agents.contains_key(agent) {
                    Expected::Refused("it is not enrolled")
                } else if known.is_busy(agent) {
                    Expected::Refused("it takes part in a rollout")
                } else {
                    Expected::Done(None)
                }
            }
            Request::Exclude { rollout, agents, call, .. } => {
                excluded(known, rollout, agents, *call)
            }
            Request::DrainAgent { agent, .. } | Request::UndrainAgent { agent, .. } => {
                let is_drain = matches!(self.request, Request::DrainAgent { .. });
                let is_forced = matches!(self.request, Request::DrainAgent { is_forced: true, .. });
                let goes = known.rollouts.iter().any(|rollout| rollout.stand != Stand::Over);
                if !known.agents.contains_key(agent) {
                    Expected::Refused("it is not enrolled")
                } else if is_drain && (goes || !is_forced) && !known.drained.contains(agent) {
                    // By the floors of what is under way, or of what runs.
                    Expected::Either
                } else {
                    Expected::Done(None)
                }
            }
            Request::Renew { agent, enrolment } => {
                if known.agents.get(agent) == Some(enrolment) {
                    Expected::Done(None)
                } else {
                    Expected::Refused("it is not enrolled by this certificate")
                }
            }
            Request::CreateJoinToken { name: Some(name), .. } => {
                if known.agents.contains_key(name) {
                    Expected::Refused("there is such an agent")
                } else {
                    Expected::Done(None)
                }
            }
            Request::CreateEnvironment { .. }
            | Request::FreezeEnvironment { .. }
            | Request::ThawEnvironment { .. }
            | Request::ConfigureEnvironment(_)
            | Request::RegisterRelease { .. }
            | Request::CreateOperator { .. } => Expected::Done(None),
            // By the token's age, which the fleet's oracle judges.
            Request::Join { .. } | Request::CreateJoinToken { name: None, .. } => Expected::Either,
        }
    }

    fn deployed(self, known: &Known, request_id: Uuid, order: &DeployOrder) -> Expected {
        if let Some(same) = known.rollouts.iter().find(|it| it.request_id == request_id) {
            return Expected::Done(Some(same.id));
        }
        if let Some(same) = known.queued.iter().find(|it| it.request_id == request_id) {
            return Expected::Done(Some(same.id));
        }
        let application = order.application.as_str();
        let is_busy = known.active(application).is_some() || known.is_queued(application);
        if is_busy && order.if_busy == IfBusy::Queue {
            return Expected::Either;
        }
        if order.despite_freeze.is_empty() && known.frozen.contains(&order.environment) {
            return Expected::Refused("its environment is frozen");
        }
        if is_busy && order.if_busy == IfBusy::Refuse {
            return Expected::Refused("another is under way");
        }
        // Where nothing ever ran there is nothing that could stand in the way.
        let core = self.world.site(0).process.as_ref().map(|process| &process.core);
        let members = core.map(|core| core.members(&order.environment)).unwrap_or_default();
        if !members.is_empty() && members.iter().all(|agent| known.drained.contains(agent)) {
            return Expected::Refused("every host is drained");
        }
        if !order.options.get(DeploySetting::Groups).is_empty() {
            // By the labels of hosts, and by what runs where.
            return Expected::Either;
        }
        let is_first = known.newest(application).is_none() && !known.was_restored;
        if is_first
            && !members.is_empty()
            && order.options.get(DeploySetting::MinHealthy).is_empty()
        {
            return Expected::Done(None);
        }
        Expected::Either
    }

    /// A rollout that is paused can be paused again, and whatever this very call has done before.
    fn is_so_already(self, known: &Known, id: Uuid) -> bool {
        if let Request::Exclude { agents, how, call, .. } = self.request {
            return known.rollouts.iter().any(|rollout| {
                rollout.id == id
                    && (rollout.calls.get(call) == Some(&Deed::LeaveOut(*how))
                        || agents.iter().all(|agent| rollout.out.contains(agent)))
            });
        }
        let Request::Control { verb, new_rollout, .. } = self.request else { return false };
        if known.queued.iter().any(|it| it.id == id && it.taken_out_by == Some(*new_rollout)) {
            return *verb == Verb::Abort;
        }
        known.rollouts.iter().any(|rollout| {
            rollout.id == id
                && (rollout.calls.get(new_rollout) == Some(&Deed::Control(*verb))
                    || rollout.request_id == *new_rollout
                    || rollout.stand == Stand::Paused && *verb == Verb::Pause)
        })
    }
}

/// Returns whether an event of the queue is what was asked for.
fn changes_queue(known: &Known, kind: &EventKind, request: &Request) -> bool {
    match (kind, request) {
        (EventKind::RolloutQueued(queued), Request::Deploy { request_id, rollout, order }) => {
            order.if_busy == IfBusy::Queue
                && queued.id == *rollout
                && queued.request_id == *request_id
                && queued.application == order.application
                && queued.to == order.version
        }
        (
            EventKind::RolloutDequeued {
                id, how: Dequeued::Superseded { rollout: by, .. }, ..
            },
            Request::Deploy { rollout, order, .. },
        ) => order.if_busy == IfBusy::Supersede && by == rollout && known.waits(*id),
        (
            EventKind::RolloutDequeued { id, how: Dequeued::Aborted { .. }, call },
            Request::Control { rollout, verb: Verb::Abort, new_rollout, .. },
        ) => *call == Some(*new_rollout) && id.to_string() == *rollout && known.waits(*id),
        _ => false,
    }
}

/// Returns whether an event of the fleet is what was asked for.
fn changes_fleet(kind: &EventKind, request: &Request) -> bool {
    match (kind, request) {
        (
            EventKind::EnvironmentFrozen { environment, .. },
            Request::FreezeEnvironment { environment: asked, .. },
        )
        | (
            EventKind::EnvironmentThawed { environment, .. },
            Request::ThawEnvironment { environment: asked },
        ) => environment == asked,
        (
            EventKind::EnvironmentConfigured { environment, set, .. },
            Request::ConfigureEnvironment(asked),
        ) => *environment == asked.environment && *set == asked.set,
        (EventKind::AgentLabelled { agent, .. }, Request::LabelAgent { agent: asked, .. })
        | (EventKind::AgentDrained { agent, .. }, Request::DrainAgent { agent: asked, .. })
        | (EventKind::AgentUndrained { agent, .. }, Request::UndrainAgent { agent: asked, .. })
        | (EventKind::AgentRemoved { agent, .. }, Request::RemoveAgent { agent: asked }) => {
            agent == asked
        }
        (
            EventKind::AgentJoined { agent, enrolment, .. },
            Request::Join { name, enrolment: asked, .. },
        ) => agent == name && enrolment == asked,
        (EventKind::OperatorCreated { .. }, Request::CreateOperator { .. })
        | (EventKind::JoinTokenCreated { .. }, Request::CreateJoinToken { .. })
        | (EventKind::EnvironmentCreated { .. }, Request::CreateEnvironment { .. })
        | (EventKind::ReleaseRegistered { .. }, Request::RegisterRelease { .. }) => true,
        _ => false,
    }
}

/// Returns how what is done to a rollout must be answered.
fn controlled(known: &Known, application: &str, verb: Verb, call: Uuid) -> Expected {
    let by_call = |it: &&Rollout| it.calls.contains_key(&call) || it.request_id == call;
    if let Some(done) = known.rollouts.iter().find(by_call) {
        return Expected::Done(Some(done.id));
    }
    if let Some(queued) = known.queued.iter().find(|it| it.taken_out_by == Some(call)) {
        return Expected::Done(Some(queued.id));
    }
    if let Some(queued) =
        known.queued.iter().find(|it| it.waits && it.id.to_string() == application)
    {
        return match verb {
            Verb::Abort => Expected::Done(Some(queued.id)),
            Verb::Pause | Verb::Resume | Verb::Retry | Verb::Rollback | Verb::Promote { .. } => {
                Expected::Refused("it has not begun")
            }
        };
    }
    let Some(rollout) = known.active(application) else {
        let Some(last) = known.newest(application) else {
            return Expected::Refused("there is no rollout");
        };
        return match verb {
            Verb::Pause | Verb::Resume | Verb::Abort | Verb::Promote { .. } => {
                Expected::Refused("it is over")
            }
            Verb::Rollback
                if last.touched.is_empty() || !last.has_way_back() || last.from.is_none() =>
            {
                Expected::Refused("there is nothing to go back to")
            }
            Verb::Retry if known.frozen.iter().any(|it| it.as_str() == application) => {
                Expected::Refused("its environment is frozen")
            }
            Verb::Retry | Verb::Rollback => Expected::Either,
        };
    };
    let done = Expected::Done(Some(rollout.id));
    match (verb, rollout.stand) {
        (Verb::Pause, Stand::Goes | Stand::Paused)
        | (Verb::Resume, Stand::Paused)
        | (Verb::Retry, Stand::Held)
        | (Verb::Abort, _) => done,
        // By the step that is under way.
        (Verb::Promote { .. }, Stand::Goes) if !rollout.goes_back => Expected::Either,
        (Verb::Promote { .. }, _) => Expected::Refused("it does not go forward"),
        (Verb::Pause, _) => Expected::Refused("it is held"),
        (Verb::Resume, _) => Expected::Refused("it is not paused"),
        (Verb::Retry, _) => Expected::Refused("it is not held"),
        (Verb::Rollback, _) if rollout.goes_back => Expected::Refused("it goes back"),
        (Verb::Rollback, _) if !rollout.has_way_back() => {
            Expected::Refused("there is nothing to go back to")
        }
        (Verb::Rollback, _) => done,
    }
}

/// Returns how taking hosts out of a rollout must be answered.
fn excluded(known: &Known, application: &str, agents: &[AgentName], call: Uuid) -> Expected {
    let by_call = |it: &&Rollout| it.calls.contains_key(&call);
    if let Some(done) = known.rollouts.iter().find(by_call) {
        return Expected::Done(Some(done.id));
    }
    let Some(rollout) = known.active(application) else {
        return Expected::Refused("no rollout is under way");
    };
    if agents.iter().any(|agent| !rollout.agents.contains(agent)) {
        return Expected::Refused("it takes no part in it");
    }
    let is_done = agents.iter().all(|agent| rollout.out.contains(agent));
    let stays = |agent: &AgentName| !agents.contains(agent) && !rollout.out.contains(agent);
    if !is_done && !rollout.agents.iter().any(stays) {
        return Expected::Refused("no host would be left");
    }
    Expected::Done(Some(rollout.id))
}

const fn rollout_of(answer: &Answer) -> Option<Uuid> {
    match answer {
        Answer::RolloutStarted { rollout, .. }
        | Answer::RolloutQueued { rollout, .. }
        | Answer::Controlled { rollout, .. } => Some(*rollout),
        Answer::Done | Answer::Configured { .. } | Answer::EnvironmentCreated { .. } => None,
    }
}

fn short(request: &Request) -> String {
    match request {
        Request::Deploy { order, .. } => format!("deploy {}@{}", order.application, order.version),
        Request::Control { rollout, verb, .. } => format!("{} {rollout}", verb.word()),
        Request::LabelAgent { agent, .. } => format!("label {agent}"),
        Request::RemoveAgent { agent } => format!("remove {agent}"),
        Request::Exclude { rollout, agents, .. } => format!("exclude {agents:?} from {rollout}"),
        Request::DrainAgent { agent, .. } => format!("drain {agent}"),
        Request::UndrainAgent { agent, .. } => format!("undrain {agent}"),
        Request::Renew { agent, .. } => format!("renew {agent}"),
        Request::Join { name, .. } => format!("join {name}"),
        Request::CreateJoinToken { name, .. } => format!("a token for {name:?}"),
        Request::CreateOperator { name, .. } => format!("operator {name}"),
        Request::CreateEnvironment { name, .. } => format!("environment {name}"),
        Request::FreezeEnvironment { environment, .. } => format!("freeze {environment}"),
        Request::ThawEnvironment { environment } => format!("thaw {environment}"),
        Request::ConfigureEnvironment(order) => format!("configure {}", order.environment),
        Request::RegisterRelease { release, .. } => format!("release {}", release.name),
    }
}
