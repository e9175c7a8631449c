//! Event → memory: the only writer of what is remembered, live and on replay.

use std::collections::BTreeSet;

use cutover_common::{
    ApplicationName, ReleaseRef, Term, Timestamp, Version, planted, setting::UnknownSetting,
};
use uuid::Uuid;

use crate::{
    config::{Configs, numbers_after_restore},
    coordinator::{Coordinator, Environment, Freeze, Led, StoredRelease},
    enrolment::{Drain, Enrolled, JoinToken, Operator, Used},
    event::{Change, Dequeued, Event, EventKind, RolloutQueued, RolloutStarted},
    fleet::{Goal, Wanted},
    input::{DeployOrder, IfBusy},
    queue::{self, Left, Queued},
    rollout::{CutoverPhase, Host, HostState, IllegalChange, Outcome, Rollout},
};

/// How many rollouts are kept in memory. The log has them all; this is what `history` shows.
const ROLLOUTS_MAX: usize = 10_000;

/// Why an event cannot be applied: the log is damaged, or from a newer version.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CannotApply {
    #[error(transparent)]
    Rollout(#[from] IllegalChange),
    #[error("an event names rollout {0}, which never started")]
    UnknownRollout(Uuid),
    #[error(transparent)]
    NotQueued(#[from] queue::Unknown),
    #[error("a rollout was queued with a setting that is not known")]
    Setting(#[from] UnknownSetting),
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

impl Environment {
    /// Takes into which groups `rollout`, which begins, divides the hosts.
    fn divide(&mut self, rollout: &Rollout) {
        let Some(groups) = rollout.groups() else { return };
        let led = self.led.entry(rollout.application.clone()).or_insert_with(|| Led {
            label: groups.label.clone(),
            group: groups.from.clone(),
            switches: 0,
            holds: 0,
        });
        (led.label, led.group) = (groups.label.clone(), groups.from.clone());
    }

    /// Takes what `change` of `rollout` says of where edges lead.
    fn lead(&mut self, rollout: &Rollout, change: &Change) {
        if rollout.groups().is_none() {
            return;
        }
        let application = &rollout.application;
        let Some(led) = self.led.get_mut(application) else { return };
        if let Change::GroupSwitched { group } = change {
            led.group = Some(group.clone());
            led.switches += 1;
        }
        if let Change::CutoverMoved { phase: CutoverPhase::Hold } = change {
            led.holds += 1;
        }
        let is_over = matches!(change, Change::Ended { .. });
        if is_over && led.group.is_none() {
            // Nothing was led anywhere: what comes next begins anew.
            self.led.remove(application);
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
            EventKind::EnvironmentCreated { .. }
            | EventKind::EnvironmentFrozen { .. }
            | EventKind::EnvironmentThawed { .. }
            | EventKind::EnvironmentConfigured { .. } => self.apply_environment(*at, kind),
            EventKind::SecretsLost { secrets } => {
                for environment in self.environments.values_mut() {
                    environment.configs.lose(secrets);
                }
            }
            EventKind::ReleaseConfigured { name } => {
                if let Some(stored) = self.configured(name) {
                    self.releases.insert(name.clone(), stored);
                }
            }
            EventKind::ReleaseRegistered { release, manifest, by } => {
                let stored = StoredRelease {
                    release: release.clone(),
                    manifest: manifest.as_str().into(),
                    pushed: *at,
                    by: by.clone(),
                };
                self.releases.insert(stored.release.name.clone(), stored);
            }
            EventKind::GoalSet { .. } => self.apply_goal(kind),
            EventKind::RolloutStarted(started) => self.apply_started(*at, started),
            EventKind::RolloutQueued(queued) => self.apply_queued(*at, queued)?,
            EventKind::RolloutDequeued { id, how, call } => {
                self.apply_dequeued(*id, Left { how: how.clone(), at: *at, call: *call })?;
            }
            EventKind::Rollout { id, change, call } => {
                let rollout = self.rollouts.get_mut(id).ok_or(CannotApply::UnknownRollout(*id))?;
                rollout.apply(change, *at)?;
                if let (Some(call), Some(deed)) = (call, change.deed()) {
                    rollout.note_call(*call, deed);
                }
                self.onces.note(rollout, change);
                if let Some(environment) = self.environments.get_mut(&rollout.environment) {
                    environment.lead(rollout, change);
                    if let Change::Ended { outcome, .. } = change {
                        environment.take(rollout, *outcome, call.is_some());
                    }
                }
            }
        }
        Ok(())
    }

    fn apply_environment(&mut self, at: Timestamp, kind: &EventKind) {
        if let EventKind::EnvironmentCreated { name, select, .. } = kind {
            let configs = Configs::beginning(self.configs_from);
            let environment =
                Environment { select: select.clone(), configs, ..Environment::default() };
            self.environments.insert(name.clone(), environment);
        }
        let (EventKind::EnvironmentFrozen { environment, .. }
        | EventKind::EnvironmentThawed { environment, .. }
        | EventKind::EnvironmentConfigured { environment, .. }) = kind
        else {
            return;
        };
        let Some(environment) = self.environments.get_mut(environment) else { return };
        if let EventKind::EnvironmentFrozen { window, by, reason, .. } = kind {
            environment.freezes.retain(|freeze| !freeze.window.is_over(at));
            let (by, reason) = (by.clone(), reason.clone());
            environment.freezes.push(Freeze { window: *window, by, reason });
        } else if let EventKind::EnvironmentThawed { .. } = kind {
            environment.freezes.clear();
        } else {
            environment.configure(at, kind);
        }
    }

    fn apply_started(&mut self, at: Timestamp, started: &RolloutStarted) {
        self.requests.insert(started.request_id, started.id);
        self.begun += 1;
        let mut rollout = Rollout::new(started.clone(), at, self.begun);
        if let Some(queued) = self.queue.begin(started.id) {
            rollout.asked = queued.number;
            rollout.history.insert(0, (queued.since, format!("queued by {}", queued.by)));
        }
        if let Some(environment) = self.environments.get_mut(&rollout.environment) {
            environment.divide(&rollout);
        }
        self.rollouts.insert(started.id, rollout);
        self.forget_oldest();
    }

    fn apply_queued(&mut self, at: Timestamp, queued: &RolloutQueued) -> Result<(), CannotApply> {
        let RolloutQueued {
            id,
            request_id,
            application,
            environment,
            to,
            with,
            settings,
            by,
            despite_freeze,
        } = queued;
        let settings = settings.iter().map(|(name, value)| Ok((name.parse()?, value)));
        let options = settings.collect::<Result<_, UnknownSetting>>()?;
        self.requests.insert(*request_id, *id);
        self.begun += 1;
        self.queue.push(Queued {
            id: *id,
            number: self.begun,
            request_id: *request_id,
            order: DeployOrder {
                application: application.clone(),
                version: to.clone(),
                environment: environment.clone(),
                with: *with,
                options,
                if_busy: IfBusy::Queue,
                despite_freeze: despite_freeze.clone(),
            },
            by: by.clone(),
            since: at,
            left: None,
        });
        Ok(())
    }

    fn apply_dequeued(&mut self, id: Uuid, left: Left) -> Result<(), CannotApply> {
        if let Some(forgotten) = self.queue.leave(id, left)? {
            self.requests.remove(&forgotten);
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
            once,
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
            once: once.clone(),
        };
        if let Some(rollout) = self.rollouts.get_mut(rollout) {
            rollout.note_goal(agent, &goal.wanted);
            self.onces.told(rollout, agent, once);
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
            self.configs_from = numbers_after_restore(at);
            for environment in self.environments.values_mut() {
                environment.settled.clear();
                environment.configs.restore(self.configs_from);
            }
            self.empty_queue(at)?;
        }
        Ok(())
    }

    /// The store was made from a backup: what waited then may have begun and ended since, and nobody
    /// is to be surprised by it (F7).
    fn empty_queue(&mut self, at: Timestamp) -> Result<(), CannotApply> {
        let reason = "this coordinator was restored from a backup, which may be older than what \
                      the hosts run";
        for id in self.queue.waiting_ids() {
            let (by, reason) = ("cutover".to_owned(), reason.to_owned());
            let how = Dequeued::Aborted { by, reason };
            self.apply_dequeued(id, Left { how, at, call: None })?;
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
                self.onces.host_is_gone(agent);
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
            | EventKind::EnvironmentConfigured { .. }
            | EventKind::SecretsLost { .. }
            | EventKind::ReleaseConfigured { .. }
            | EventKind::ReleaseRegistered { .. }
            | EventKind::GoalSet { .. }
            | EventKind::RolloutStarted(_)
            | EventKind::RolloutQueued(_)
            | EventKind::RolloutDequeued { .. }
            | EventKind::Rollout { .. } => {}
        }
    }

    /// Returns the names of all versions of `application`, as they were pushed.
    pub fn versions<'a>(
        &'a self,
        application: &'a ApplicationName,
    ) -> impl Iterator<Item = &'a Version> {
        self.releases
            .keys()
            .filter(move |name: &&ReleaseRef| {
                name.application == *application && name.version.config().is_none()
            })
            .map(|name| &name.version)
    }
}
