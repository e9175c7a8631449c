//! Drain: takes a host out for maintenance, and lets it take part again.

use std::collections::{BTreeMap, BTreeSet};

use cutover_common::{AgentName, Timestamp, planted};
use uuid::Uuid;

use super::deploy::refuse;
use crate::{
    action::{Answer, Refusal},
    coordinator::{Coordinator, Step},
    event::EventKind,
    rollout::{
        Outcome, Rollout, State,
        decide::floor::{is_up, short_without},
        waiting::Short,
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
        (reason, is_forced): (String, bool),
        step: &mut Step,
    ) -> Result<Answer, Refusal> {
        self.known_agent(agent)?;
        if self.enrolments.drain(agent).is_some() {
            return Ok(Answer::Done);
        }
        planted!(DrainBreaksFloor: (); self.bears_drain(now, agent)?);
        if !is_forced {
            planted!(DrainAtRestBreaksFloor: (); self.rest_bears_drain(now, agent)?);
        }
        let in_the_way: BTreeSet<Uuid> = self
            .active()
            .filter(|rollout| self.too_few_without(now, agent, rollout).is_some())
            .map(|rollout| rollout.id)
            .collect();
        self.make_way(now, by, |rollout| in_the_way.contains(&rollout.id), agent, step);
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
        // What comes by itself makes way.
        let mut broken = self
            .active()
            .filter(|rollout| !rollout.converges)
            .filter_map(|rollout| Some((rollout, self.too_few_without(now, agent, rollout)?)));
        let Some((rollout, why)) = broken.next() else { return Ok(()) };
        Err(refuse(
            format!("agent {agent} cannot be drained: {why} for rollout {}", rollout.id),
            format!("wait for it, or end it: cutover abort {}", rollout.id),
        ))
    }

    /// Refuses a drain that leaves fewer healthy instances than the rollout did that brought what
    /// runs: where none is under way, its floor goes on.
    fn rest_bears_drain(&self, now: Timestamp, agent: &AgentName) -> Result<(), Refusal> {
        let mut newest = BTreeMap::new();
        for rollout in self.rollouts.values().filter(|rollout| !rollout.converges) {
            if !matches!(rollout.state, State::Ended { outcome: Outcome::Succeeded, .. }) {
                continue;
            }
            let place =
                newest.entry((&rollout.application, &rollout.environment)).or_insert(rollout);
            if place.number < rollout.number {
                *place = rollout;
            }
        }
        let broken = newest.values().find_map(|rollout| {
            let why = self.too_few_without(now, agent, rollout)?;
            Some((&rollout.application, why))
        });
        let Some((application, why)) = broken else { return Ok(()) };
        Err(refuse(
            format!("agent {agent} cannot be drained: {why}"),
            format!(
                "bring others back first (cutover status {application}), or drain it all the same: \
                 cutover agents drain {agent} --force"
            ),
        ))
    }

    /// Returns which floor of `rollout` would not hold without `agent`, with the numbers; none if
    /// all would.
    fn too_few_without(
        &self,
        now: Timestamp,
        agent: &AgentName,
        rollout: &Rollout,
    ) -> Option<String> {
        let members = self.led_to(&rollout.environment, &rollout.application);
        let scene = self.scene(now, &members);
        if !members.contains(agent) || !is_up(rollout, scene, agent) {
            // It counts as down already.
            return None;
        }
        let Short::Healthy { healthy, floor, zone } = short_without(rollout, scene, agent)? else {
            return None;
        };
        let (application, environment) = (&rollout.application, &rollout.environment);
        let left = healthy.saturating_sub(1);
        Some(match zone {
            None => format!(
                "{application} has {healthy} healthy hosts in {environment} and min_healthy is \
                 {floor}, so {left} would be too few"
            ),
            Some(zone) => format!(
                "{application} has {healthy} healthy hosts in zone {zone:?} of {environment} and \
                 zone_min_healthy is {floor}, so {left} would be too few"
            ),
        })
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
