//! Deploys: plan and start.

use std::collections::BTreeSet;

use cutover_common::{AgentName, ReleaseRef, Timestamp, Version, planted};
use uuid::Uuid;

use super::{
    lock::makes_room,
    queue::{Found, not_begun},
};
use crate::{
    action::{Answer, Refusal, RefusalKind},
    coordinator::{Coordinator, Step},
    event::{EventKind, RolloutStarted},
    input::{DeployOrder, IfBusy},
    rollout::{Planned, Rollout, decide::NewGoals, story::names},
};

pub(super) fn refuse(text: impl Into<String>, hint: impl Into<String>) -> Refusal {
    Refusal::new(RefusalKind::State, text, hint)
}

impl Coordinator {
    pub(super) fn deploy(
        &mut self,
        now: Timestamp,
        by: &str,
        request_id: Uuid,
        rollout: Uuid,
        order: &DeployOrder,
        step: &mut Step,
    ) -> Result<Answer, Refusal> {
        if let Some(id) = planted!(RequestIdForgotten: None; self.requests.get(&request_id)) {
            return self.repeated(*id, order);
        }
        if self.rollouts.contains_key(&rollout) || self.queue.get(rollout).is_some() {
            // The id may be the caller's choice: it must not take another rollout's place (E5).
            return Err(Refusal::new(
                RefusalKind::Invalid,
                format!("{rollout} is the id of another rollout"),
                "leave --request-id out, or give a new one",
            ));
        }
        let ids = (request_id, rollout);
        if order.if_busy == IfBusy::Queue && self.has_to_wait(order) {
            return self.enqueue(now, by, ids, order, step);
        }
        self.launch(now, by, ids, order, step)?;
        Ok(Answer::RolloutStarted { rollout, repeated: false })
    }

    /// Plans what is to begin at once, makes room for it and begins it.
    pub(super) fn launch(
        &mut self,
        now: Timestamp,
        by: &str,
        ids: (Uuid, Uuid),
        order: &DeployOrder,
        step: &mut Step,
    ) -> Result<(), Refusal> {
        self.not_frozen(now, order)?;
        let planned = self.plan(order)?;
        if planned.plan.waves.is_empty() && !planned.drained.is_empty() {
            return Err(refuse(
                format!(
                    "every host of {} that does not run {}@{} in health is drained: {}",
                    order.environment,
                    order.application,
                    planned.to,
                    names(&planned.drained)
                ),
                "let one take part again: cutover agents drain AGENT --undo",
            ));
        }
        if planned.plan.waves.is_empty() {
            return Err(refuse(
                format!(
                    "{}@{} runs in health on all {} hosts of {} already",
                    order.application, planned.to, planned.hosts, order.environment
                ),
                "nothing is to be done",
            ));
        }
        if order.if_busy == IfBusy::Supersede {
            self.supersede_queue(now, by, ids.1, order, step);
        }
        let in_the_way = self.lockers(order).filter(|rollout| makes_room(rollout, order));
        let room: Vec<Uuid> = in_the_way.map(|rollout| rollout.id).collect();
        let reason = format!("{}@{} takes its place", order.application, planned.to);
        for id in room {
            planted!(
                SupersededGoesOn: String::new();
                self.abort(now, (by, None), id, &reason, step)
            );
        }
        self.start(now, by, ids, order, planned, step);
        Ok(())
    }

    /// The same request again is the same rollout; another one under its id is a mistake.
    fn repeated(&self, id: Uuid, order: &DeployOrder) -> Result<Answer, Refusal> {
        let is_same = self.rollouts.get(&id).is_some_and(|rollout| {
            rollout.application == order.application
                && rollout.environment == order.environment
                && (rollout.to == order.version || rollout.to.pushed() == order.version)
        });
        if is_same {
            return Ok(Answer::RolloutStarted { rollout: id, repeated: true });
        }
        let is_queued = self.queue.get(id).is_some_and(|queued| {
            queued.is_of(&order.application, &order.environment)
                && queued.order.version == order.version
        });
        if is_queued {
            return Ok(self.queued_answer(id, true));
        }
        Err(Refusal::new(
            RefusalKind::Invalid,
            format!("this request id started rollout {id}, which is something else"),
            "leave --request-id out, or give a new one",
        ))
    }

    /// Begins what was planned, under the ids of its request and of itself.
    pub(super) fn start(
        &mut self,
        now: Timestamp,
        by: &str,
        (request_id, id): (Uuid, Uuid),
        order: &DeployOrder,
        planned: Planned,
        step: &mut Step,
    ) {
        let started = RolloutStarted {
            id,
            request_id,
            application: order.application.clone(),
            environment: order.environment.clone(),
            from: planned.from,
            to: planned.to,
            spec: planned.spec,
            plan: planned.plan,
            by: by.to_owned(),
            converges: planned.converges,
            despite_freeze: if self.is_frozen(now, &order.environment) {
                order.despite_freeze.clone()
            } else {
                String::new()
            },
        };
        let version = started.to.clone();
        let name = ReleaseRef { application: order.application.clone(), version: version.clone() };
        let agents: Vec<AgentName> =
            started.plan.waves.iter().flat_map(|wave| wave.agents.clone()).collect();
        // Everything is fetched from the start on: what cannot be is known before a host is
        // disturbed, and a batch does not wait for its download.
        let goals: NewGoals = agents
            .into_iter()
            .map(|agent| {
                let held = self.wanted_to_build_on(&agent, &order.application);
                (agent, held.prepared(&version))
            })
            .collect();
        // What hosts run after a restore can have a config that the log has, and was not deployed
        // by it.
        let slots = goals.iter().flat_map(|(_, wanted)| wanted.slots.iter());
        let versions = slots.filter_map(|(_, slot)| slot.version()).chain([&name.version]);
        for version in versions.cloned().collect::<BTreeSet<Version>>() {
            let name = ReleaseRef { version, ..name.clone() };
            if !self.releases.contains_key(&name) {
                self.record(now, step, EventKind::ReleaseConfigured { name });
            }
        }
        self.record(now, step, EventKind::RolloutStarted(Box::new(started)));
        self.set_goals(now, step, id, goals);
    }

    /// Finds a rollout that has begun, as [`Self::find`] does.
    ///
    /// # Errors
    ///
    /// Refuses what names none, or several, or one that has not begun.
    pub fn find_rollout(&self, text: &str) -> Result<&Rollout, Refusal> {
        match self.find(text)? {
            Found::Rollout(rollout) => Ok(rollout),
            Found::Queued(queued) => Err(not_begun(queued, "changed")),
        }
    }

    /// Finds a rollout by its id, a unique beginning of one, or an application's name: for the
    /// one that is under way, else for the newest that has begun.
    ///
    /// # Errors
    ///
    /// Refuses what names none, or several.
    pub fn find(&self, text: &str) -> Result<Found<'_>, Refusal> {
        let of_application =
            || self.rollouts.values().filter(|rollout| rollout.application.as_str() == text);
        // What brings hosts what runs already is found by its id: nobody has asked for it.
        let active: Vec<&Rollout> =
            of_application().filter(|rollout| !rollout.is_over() && !rollout.converges).collect();
        if active.len() > 1 {
            let environments: Vec<String> = active
                .iter()
                .map(|rollout| format!("{} in {}", rollout.id, rollout.environment))
                .collect();
            return Err(Refusal::new(
                RefusalKind::Invalid,
                format!("{text} has {} rollouts that are not over", active.len()),
                format!("name one of them: {}", environments.join(", ")),
            ));
        }
        let newest = of_application().max_by_key(|rollout| (!rollout.converges, rollout.number));
        if let Some(rollout) = active.first().copied().or(newest) {
            return Ok(Found::Rollout(rollout));
        }
        let beginning = text.to_ascii_lowercase();
        let queued = self.queue.all().map(Found::Queued);
        let mut fitting =
            self.rollouts.values().map(Found::Rollout).chain(queued).filter(|found| {
                beginning.len() >= 8 && found.id().to_string().starts_with(&beginning)
            });
        match (fitting.next(), fitting.next()) {
            (Some(found), None) => Ok(found),
            (Some(_), Some(_)) => Err(Refusal::new(
                RefusalKind::Invalid,
                format!("{text:?} is the beginning of several rollouts"),
                "give more of the id; `cutover history` lists them",
            )),
            (None, _) => {
                let mut known: Vec<&str> =
                    self.rollouts.values().map(|rollout| rollout.application.as_str()).collect();
                known.dedup();
                Err(Refusal::unknown("rollout", text, known, "cutover history"))
            }
        }
    }
}
