//! Orders: what is acknowledged is there, and after a restore nothing moves before a person asks.

use std::collections::BTreeSet;

use cutover_common::AgentName;
use cutover_coordinator_core::{Answer, Event, EventKind, Request};

use super::{
    course::Standing,
    ledger::{Ledger, host_of},
};
use crate::{
    moment::Moment,
    oracle::Violation,
    world::{CallId, OperatorCall, World},
};

/// See above.
#[derive(Debug, Default)]
pub(super) struct Orders {
    /// When the store was last made from a backup.
    restored: Option<Moment>,
    /// The applications that somebody has asked for since then.
    asked: BTreeSet<String>,
    /// The agents that somebody has asked to drain since then: what had not begun there is called
    /// back.
    drained: BTreeSet<AgentName>,
    now: Moment,
}

impl Orders {
    /// A call is at the coordinator.
    pub(super) fn asked(&mut self, world: &World, id: CallId) {
        self.now = world.now;
        let Some(call) = world.operators.calls.get(&id) else { return };
        match &call.request {
            Request::Deploy { order, .. } => {
                self.asked.insert(order.application.as_str().to_owned());
            }
            Request::Control { rollout, .. } | Request::Exclude { rollout, .. } => {
                self.asked.insert(rollout.clone());
                self.asked.extend(application_of(world, rollout));
            }
            Request::DrainAgent { agent, .. } => {
                self.drained.insert(agent.clone());
            }
            _ => {}
        }
    }

    pub(super) fn restored(&mut self, now: Moment) {
        self.restored = Some(now);
        self.asked.clear();
        self.drained.clear();
    }

    /// F7: after a restore a person decides first.
    pub(super) fn judge(
        &self,
        number: u16,
        ledger: &Ledger,
        event: &Event,
    ) -> Result<(), Violation> {
        if number > 0 || self.restored.is_none() {
            return Ok(());
        }
        let application = match &event.kind {
            EventKind::GoalSet { agent, .. } if self.drained.contains(agent) => return Ok(()),
            EventKind::GoalSet { application, .. } => application.as_str(),
            EventKind::Rollout { id, change, .. } => {
                use cutover_coordinator_core::event::Change;
                let moves = matches!(
                    change,
                    Change::StepStarted { .. }
                        | Change::HostsReleased { .. }
                        | Change::HostsReverted { .. }
                        | Change::RollbackStarted { .. }
                        | Change::BakeStarted
                        | Change::Ended { .. }
                );
                match ledger.courses.get(id) {
                    Some(course) if moves => course.environment.as_str(),
                    Some(_) | None => return Ok(()),
                }
            }
            _ => return Ok(()),
        };
        if self.asked.contains(application) {
            return Ok(());
        }
        let text = format!("after a restore, before anybody asked: {:?}", event.kind);
        Err(Violation::new("F7", text))
    }

    /// D1: what is acknowledged is stored.
    pub(super) fn answered(
        &self,
        id: CallId,
        call: &OperatorCall,
        stored: &Ledger,
    ) -> Result<(), Violation> {
        let Some((_, Ok(answer))) = &call.answer else { return Ok(()) };
        if self.restored.is_some_and(|at| at >= call.asked) {
            return Ok(());
        }
        let rollout = match answer {
            Answer::RolloutStarted { rollout, .. }
            | Answer::RolloutQueued { rollout, .. }
            | Answer::Controlled { rollout, .. } => rollout,
            Answer::Done | Answer::Configured { .. } | Answer::EnvironmentCreated { .. } => {
                return Ok(());
            }
        };
        if let Some(course) = stored.courses.get(rollout) {
            let Request::Exclude { agents, .. } = &call.request else { return Ok(()) };
            let is_out = |agent: &&AgentName| {
                let member = course.hosts.get(&host_of(agent));
                member.is_some_and(|member| member.standing == Standing::Out)
            };
            let Some(agent) = agents.iter().find(|agent| !is_out(agent)) else { return Ok(()) };
            let text = format!("call {} was answered, and {agent} is not stored as out", id.0);
            return Err(Violation::new("D1", text));
        }
        if stored.queue.knows(*rollout) {
            return Ok(());
        }
        let text = format!("call {} was answered, and rollout {rollout} is not stored", id.0);
        Err(Violation::new("D1", text))
    }
}

/// Returns the application of a rollout that is named by its id.
fn application_of(world: &World, id: &str) -> Option<String> {
    let mut calls = world.operators.calls.values();
    calls.find_map(|call| match &call.request {
        Request::Deploy { rollout, order, .. } if rollout.to_string() == id => {
            Some(order.application.as_str().to_owned())
        }
        _ => None,
    })
}
