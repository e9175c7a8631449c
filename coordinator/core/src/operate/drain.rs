//! Drain: takes a host out for maintenance, and lets it take part again.

use cutover_common::{AgentName, Timestamp, planted};
use uuid::Uuid;

use super::deploy::refuse;
use crate::{
    action::{Answer, Refusal},
    coordinator::{Coordinator, Step},
    event::EventKind,
    rollout::{
        Rollout,
        decide::floor::{count_up, is_up},
    },
};

impl Coordinator {
    /// From here on the host counts as down and no rollout begins on it. What runs there is left
    /// running.
    pub(super) fn drain_agent(
        &mut self,
        now: Timestamp,
        by: &str,
        agent: &AgentName,
        reason: String,
        step: &mut Step,
    ) -> Result<Answer, Refusal> {
        self.known_agent(agent)?;
        if self.enrolments.drain(agent).is_some() {
            return Ok(Answer::Done);
        }
        planted!(DrainBreaksFloor: (); self.bears_drain(now, agent)?);
        let with_it: Vec<Uuid> = self
            .active()
            .filter(|rollout| rollout.hosts.contains_key(agent))
            .map(|rollout| rollout.id)
            .collect();
        // The calling back first: what is stored in part is then done again as a whole.
        for id in with_it {
            planted!(DrainDoesNotWithdraw: (); self.withdraw(now, id, |it| it == agent, step));
        }
        let (agent, by) = (agent.clone(), by.to_owned());
        self.record(now, step, EventKind::AgentDrained { agent, by, reason });
        Ok(Answer::Done)
    }

    /// Refuses a drain that leaves fewer healthy instances than a rollout under way promises, with
    /// the numbers (A1).
    fn bears_drain(&self, now: Timestamp, agent: &AgentName) -> Result<(), Refusal> {
        let breaks = |rollout: &Rollout| {
            let members = self.members(&rollout.environment);
            let scene = self.scene(now, &members);
            if !members.contains(agent) || !is_up(rollout, scene, agent) {
                // It counts as down already.
                return None;
            }
            let healthy = count_up(rollout, scene);
            (healthy.saturating_sub(1) < rollout.spec.min_healthy).then_some(healthy)
        };
        let broken = self.active().find_map(|rollout| Some((rollout, breaks(rollout)?)));
        let Some((rollout, healthy)) = broken else { return Ok(()) };
        Err(refuse(
            format!(
                "agent {agent} cannot be drained: {} has {healthy} healthy hosts in {} and \
                 min_healthy is {}, so {} would be too few for rollout {}",
                rollout.application,
                rollout.environment,
                rollout.spec.min_healthy,
                healthy.saturating_sub(1),
                rollout.id,
            ),
            format!("wait for it, or end it: cutover abort {}", rollout.id),
        ))
    }

    pub(super) fn undrain_agent(
        &mut self,
        now: Timestamp,
        by: &str,
        agent: &AgentName,
        reason: String,
        step: &mut Step,
    ) -> Result<Answer, Refusal> {
        self.known_agent(agent)?;
        if self.enrolments.drain(agent).is_some() {
            let (agent, by) = (agent.clone(), by.to_owned());
            self.record(now, step, EventKind::AgentUndrained { agent, by, reason });
        }
        Ok(Answer::Done)
    }
}
