//! Event → memory: the only writer of what is remembered, live and on replay.

use std::collections::BTreeSet;

use cutover_common::{ApplicationName, ReleaseRef, Term, Timestamp, Version, planted};

use crate::{
    coordinator::{Coordinator, Environment, Freeze, StoredRelease},
    enrolment::{Drain, Enrolled, JoinToken, Operator, Used},
    event::{Change, Event, EventKind},
    fleet::{Goal, Wanted},
    rollout::{Host, HostState, IllegalChange, Outcome, Rollout},
};

/// How many rollouts are kept in memory. The log has them all; this is what `history` shows.
const ROLLOUTS_MAX: usize = 10_000;

/// Why an event cannot be applied: the log is damaged, or from a newer version.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CannotApply {
    #[error(transparent)]
    Rollout(#[from] IllegalChange),
    #[error("an event names rollout {0}, which never started")]
    UnknownRollout(uuid::Uuid),
    #[error("term {found} follows term {held}: the log has been put together from two")]
    TermWentBack { held: u64, found: u64 },
}

impl Environment {
    /// Takes what `rollout`, which ended as `outcome`, has left here. Hosts that it never came to are
    /// as they were before, unless a person ended what would have come to them by itself.
    fn take(&mut self, rollout: &Rollout, outcome: Outcome, is_by_person: bool) {
        let application = &rollout.application;
        let is_new = outcome == Outcome::Succeeded && !rollout.converges;
        if is_new {
            self.stable.insert(application.clone(), rollout.to.clone());
            self.settled.insert(application.clone(), BTreeSet::new());
        }
        if let Some(settled) = self.settled.get_mut(application) {
            let is_left = rollout.converges && is_by_person;
            let came_to = |host: &Host| {
                let is_untold = host.state == HostState::Pending && host.tries == 0;
                !host.state.has_missed_it() && (is_left || !is_untold)
            };
            settled.extend(rollout.hosts_where(came_to));
        }
    }
}

impl Coordinator {
    /// Applies `event`.
    ///
    /// # Errors
    ///
    /// Refuses an event that does not fit: stop, rather than believe half a log.
    pub fn apply(&mut self, event: &Event) -> Result<(), CannotApply> {
        let Event { at, kind } = event;
        self.last_event = self.last_event.max(*at);
        match kind {
            EventKind::Started { term, .. } => self.apply_term(*at, *term, false)?,
            EventKind::Restored { term } => self.apply_term(*at, *term, true)?,
            EventKind::OperatorCreated { name, role, token_hash } => {
                let operator = Operator { name: name.clone(), role: *role };
                self.enrolments.operators.insert(*token_hash, operator);
            }
            EventKind::JoinTokenCreated { .. }
            | EventKind::AgentJoined { .. }
            | EventKind::AgentLabelled { .. }
            | EventKind::AgentRemoved { .. }
            | EventKind::AgentDrained { .. }
            | EventKind::AgentUndrained { .. } => self.apply_enrolment(*at, kind),
            EventKind::EnvironmentCreated { name, select, .. } => {
                let environment = Environment { select: select.clone(), ..Environment::default() };
                self.environments.insert(name.clone(), environment);
            }
            EventKind::EnvironmentFrozen { environment, window, by, reason } => {
                if let Some(environment) = self.environments.get_mut(environment) {
                    environment.freezes.retain(|freeze| !freeze.window.is_over(*at));
                    let (by, reason) = (by.clone(), reason.clone());
                    environment.freezes.push(Freeze { window: *window, by, reason });
                }
            }
            EventKind::EnvironmentThawed { environment, .. } => {
                if let Some(environment) = self.environments.get_mut(environment) {
                    environment.freezes.clear();
                }
            }
            EventKind::ReleaseRegistered { release, manifest, by } => {
                let stored = StoredRelease {
                    release: release.clone(),
                    manifest: manifest.clone(),
                    pushed: *at,
                    by: by.clone(),
                };
                self.releases.insert(stored.release.name.clone(), stored);
            }
            EventKind::GoalSet { .. } => self.apply_goal(kind),
            EventKind::RolloutStarted(started) => {
                self.requests.insert(started.request_id, started.id);
                self.begun += 1;
                let rollout = Rollout::new((**started).clone(), *at, self.begun);
                self.rollouts.insert(started.id, rollout);
                self.forget_oldest();
            }
            EventKind::Rollout { id, change, call } => {
                let rollout = self.rollouts.get_mut(id).ok_or(CannotApply::UnknownRollout(*id))?;
                rollout.apply(change, *at)?;
                if let (Some(call), Some(deed)) = (call, change.deed()) {
                    rollout.note_call(*call, deed);
                }
                if let Change::Ended { outcome, .. } = change {
                    let environment = self.environments.get_mut(&rollout.environment);
                    if let Some(environment) = environment {
                        environment.take(rollout, *outcome, call.is_some());
                    }
                }
            }
        }
        Ok(())
    }

    fn apply_goal(&mut self, kind: &EventKind) {
        let EventKind::GoalSet {
            agent,
            application,
            generation,
            slots,
            route,
            timers,
            rollout,
            held,
        } = kind
        else {
            return;
        };
        let goal = Goal {
            generation: *generation,
            known_before: held.unwrap_or_default(),
            is_informed: held.is_some(),
            steady_since: *generation,
            wanted: Wanted { slots: slots.clone(), route: route.clone() },
            timers: *timers,
            rollout: *rollout,
        };
        if let Some(rollout) = self.rollouts.get_mut(rollout) {
            rollout.note_goal(agent, &goal.wanted);
        }
        self.goals.set(agent.clone(), application.clone(), goal);
    }

    /// A process begins `term`, or the store was made from a backup and goes on in it.
    fn apply_term(
        &mut self,
        at: Timestamp,
        term: Term,
        is_restored: bool,
    ) -> Result<(), CannotApply> {
        if term <= self.term {
            return Err(CannotApply::TermWentBack { held: self.term.0, found: term.0 });
        }
        self.term = term;
        for rollout in self.rollouts.values_mut() {
            rollout.restart_clocks(at);
            if is_restored {
                planted!(RestoreGoesOn: (); rollout.hold_after_restore(at));
            }
        }
        if is_restored {
            self.goals.restore(term);
            self.environments.values_mut().for_each(|it| it.settled.clear());
        }
        Ok(())
    }

    /// Drops the oldest rollouts that are over, with their request ids.
    fn forget_oldest(&mut self) {
        while self.rollouts.len() > ROLLOUTS_MAX {
            let over = self.rollouts.values().filter(|rollout| rollout.is_over());
            let oldest = over.min_by_key(|rollout| rollout.number);
            let Some((id, request_id)) = oldest.map(|oldest| (oldest.id, oldest.request_id)) else {
                return;
            };
            self.rollouts.remove(&id);
            self.requests.remove(&request_id);
        }
    }

    fn apply_enrolment(&mut self, at: Timestamp, kind: &EventKind) {
        match kind {
            EventKind::JoinTokenCreated { token_hash, name, labels, expires, .. } => {
                // Tokens that no longer work are of no use to anybody; used ones are kept for
                // as long as their answer may be asked for again.
                self.enrolments.tokens.retain(|_, token| token.expires > at);
                let token = JoinToken {
                    name: name.clone(),
                    labels: labels.clone(),
                    expires: *expires,
                    used: None,
                };
                self.enrolments.tokens.insert(*token_hash, token);
            }
            EventKind::AgentJoined { agent, enrolment, labels, token_hash, key_hash } => {
                if let Some(token) = self.enrolments.tokens.get_mut(token_hash) {
                    token.used = Some(Used {
                        agent: agent.clone(),
                        enrolment: *enrolment,
                        key_hash: *key_hash,
                    });
                }
                let enrolled =
                    Enrolled { enrolment: *enrolment, labels: labels.clone(), joined: at };
                self.enrolments.agents.insert(agent.clone(), enrolled);
                self.enrolments.drains.remove(agent);
            }
            EventKind::AgentLabelled { agent, labels, .. } => {
                if let Some(enrolled) = self.enrolments.agents.get_mut(agent) {
                    enrolled.labels = labels.clone();
                }
            }
            EventKind::AgentRemoved { agent, .. } => {
                self.enrolments.agents.remove(agent);
                self.enrolments.drains.remove(agent);
                self.goals.forget(agent);
                for settled in self.environments.values_mut().flat_map(|it| it.settled.values_mut())
                {
                    settled.remove(agent);
                }
            }
            EventKind::AgentDrained { agent, by, reason } => {
                if self.enrolments.agents.contains_key(agent) {
                    let drain = Drain { by: by.clone(), reason: reason.clone(), since: at };
                    self.enrolments.drains.insert(agent.clone(), drain);
                }
            }
            EventKind::AgentUndrained { agent, .. } => {
                self.enrolments.drains.remove(agent);
            }
            EventKind::Started { .. }
            | EventKind::Restored { .. }
            | EventKind::OperatorCreated { .. }
            | EventKind::EnvironmentCreated { .. }
            | EventKind::EnvironmentFrozen { .. }
            | EventKind::EnvironmentThawed { .. }
            | EventKind::ReleaseRegistered { .. }
            | EventKind::GoalSet { .. }
            | EventKind::RolloutStarted(_)
            | EventKind::Rollout { .. } => {}
        }
    }

    /// Returns the names of all versions of `application`.
    pub fn versions<'a>(
        &'a self,
        application: &'a ApplicationName,
    ) -> impl Iterator<Item = &'a Version> {
        self.releases
            .keys()
            .filter(move |name: &&ReleaseRef| name.application == *application)
            .map(|name| &name.version)
    }
}
