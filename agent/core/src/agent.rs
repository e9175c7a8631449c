//! Agent: the core's door: inputs in, events and actions out.

use std::collections::BTreeMap;

use cutover_common::{ApplicationName, Fence, Health, Report, Slot, Timestamp, planted};
use uuid::Uuid;

use crate::{
    Action, Event, Hold, IllegalEvent, Input, Life, Remembered, Retained,
    checks::Checking,
    edge::EdgeLink,
    gate::GateLink,
    hold::hold_text,
    hooks::{Once, patience},
    invariants,
    lease::Permission,
    prepare::{Preparation, prepared_as},
    probe::Watch,
    report,
    session::Session,
    slots::{SlotTraffic, SlotView, Work, prepare_retry_at},
    traffic::TrafficDecision,
    turn::Turn,
    volatile::Volatile,
};

/// The agent's decisions.
#[derive(Debug, Default)]
pub struct Agent {
    pub(crate) remembered: Remembered,
    pub(crate) volatile: BTreeMap<ApplicationName, Volatile>,
    pub(crate) session: Session,
    pub(crate) gate: GateLink,
    pub(crate) edge: EdgeLink,
    pub(crate) checking: Checking,
    retained: Option<Retained>,
    rest: Rest,
    /// Of the latest call.
    pub(crate) now: Timestamp,
}

/// What holds until something is to be decided again.
#[derive(Clone, Copy, Debug, Default)]
struct Rest {
    /// None: nothing was decided yet.
    permission: Option<Permission>,
    /// When time alone is a reason to decide.
    until: Option<Timestamp>,
}

/// What one call decided. The events go to disk before any action is performed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[must_use]
pub struct Step {
    pub events: Vec<Event>,
    pub actions: Vec<Action>,
}

impl Agent {
    /// Makes an agent that remembers what the events say. Call [`start`](Self::start) next.
    ///
    /// # Errors
    ///
    /// Refuses events that this agent cannot have written.
    pub fn replay<'a>(events: impl IntoIterator<Item = &'a Event>) -> Result<Self, IllegalEvent> {
        let mut agent = Self::default();
        for event in events {
            agent.remembered.apply(event)?;
        }
        Ok(agent)
    }

    /// Begins: looks for every instance that should be there. `luck` is 128 random bits.
    pub fn start(&mut self, now: Timestamp, luck: Uuid) -> Step {
        let mut turn = Turn::new(now, luck);
        self.now = now;
        for (name, application) in &self.remembered.applications {
            let volatile = self.volatile.entry(name.clone()).or_default();
            for slot in Slot::ALL {
                let Some(instance) = &application.slots.of(slot).instance else { continue };
                if let Life::Ended { .. } = instance.life {
                    continue;
                }
                let live = volatile.slots.of_mut(slot);
                live.in_flight = Some(Work::Adopting);
                live.is_presumed_well = matches!(instance.life, Life::Running { .. });
                turn.act(Action::Adopt {
                    place: application.place(slot),
                    instance: instance.id,
                    release: instance.release.clone(),
                });
            }
        }
        self.finish(turn)
    }

    /// Takes what happened. `luck` is 128 random bits, drawn for each call.
    pub fn handle(&mut self, now: Timestamp, luck: Uuid, input: Input) -> Step {
        let mut turn = Turn::new(now, luck);
        turn.ends_preparation = matches!(input, Input::PrepareEnded { .. });
        self.now = turn.now;
        self.take(&mut turn, input);
        self.finish(turn)
    }

    fn finish(&mut self, mut turn: Turn) -> Step {
        self.now = turn.now;
        // Most calls are a heartbeat's or a probe's, and leave everything as it was decided.
        if turn.is_moot && self.rests() {
            self.ask_probes(&mut turn);
            self.run_checks(&mut turn);
            if self.beat_at().is_some_and(|at| turn.now >= at) {
                self.speak(&mut turn);
            }
            return Step { events: turn.events, actions: turn.actions };
        }
        self.follow_edge(&mut turn);
        self.pursue(&mut turn);
        self.ask_probes(&mut turn);
        self.run_checks(&mut turn);
        self.tell_gate(&mut turn);
        if turn.changes_house() || self.retained.is_none() {
            self.retain(&mut turn);
            debug_assert_eq!(invariants::broken(&self.remembered), None);
        }
        self.speak(&mut turn);
        self.rest = Rest { permission: Some(self.permission()), until: self.decides_at() };
        Step { events: turn.events, actions: turn.actions }
    }

    /// Returns whether an input that changed nothing finds nothing to decide.
    fn rests(&self) -> bool {
        let Rest { permission, until } = self.rest;
        permission == Some(self.permission()) && until.is_none_or(|until| self.now < until)
    }

    /// Returns when it wants [`Input::Tick`] at the latest, if nothing else happens before.
    pub fn next_wake(&self) -> Option<Timestamp> {
        let watches = self.volatile.values().flat_map(|volatile| {
            Slot::ALL.into_iter().filter_map(|slot| volatile.slots.of(slot).watch.as_ref())
        });
        let probes = watches.filter_map(Watch::next_at);
        self.beat_at()
            .into_iter()
            .chain(self.rest.until)
            .chain(probes)
            .chain(self.checks_wake())
            .min()
    }

    /// Returns when the next heartbeat is due.
    fn beat_at(&self) -> Option<Timestamp> {
        match &self.session {
            Session::Joined { lease, .. } => Some(lease.beat_at()),
            Session::Away | Session::Opened { .. } => None,
        }
    }

    /// Returns when time alone makes a difference to what is decided or reported next.
    fn decides_at(&self) -> Option<Timestamp> {
        let slots = self.remembered.applications.keys().flat_map(|name| self.wakes_of(name));
        let gate = self.gate.retry_at().filter(|at| *at > self.now);
        slots.chain(gate).chain(self.edge_wakes()).min()
    }

    fn wakes_of(&self, name: &ApplicationName) -> Vec<Timestamp> {
        let (Some(application), Some(volatile)) =
            (self.remembered.applications.get(name), self.volatile.get(name))
        else {
            return Vec::new();
        };
        let timers = application.assignment.timers;
        let later = |at: &Timestamp| *at > self.now;
        let mut wakes: Vec<Timestamp> = Vec::new();
        if let Hold::Begun { .. } = application.traffic.hold {
            wakes.extend(volatile.hold_until.filter(later));
        }
        for slot in Slot::ALL {
            let live = volatile.slots.of(slot);
            let view = self.view(application, volatile, slot);
            planted!(RestartWakeLost: (); wakes.extend(view.retry_at.filter(later)));
            wakes.extend(prepare_retry_at(&view).filter(later));
            if let SlotTraffic::Warm { until } = view.traffic {
                wakes.push(until);
            }
            let Some(watch) = &live.watch else { continue };
            wakes.extend(watch.settles_at(timers).filter(later));
            let patience = patience(timers, view.goal);
            let deadline = live.trying_since.map(|since| since + patience);
            wakes.extend(deadline.filter(later));
        }
        wakes
    }

    /// Returns the events that make another agent remember what this one does: what a journal
    /// may be replaced with.
    pub fn summary(&self) -> Vec<Event> {
        vec![Event::Summarised(Box::new(self.remembered.clone()))]
    }

    /// Returns what is remembered.
    pub const fn remembered(&self) -> &Remembered {
        &self.remembered
    }

    /// Returns the highest fence accepted for each application.
    pub fn held(&self) -> Vec<(ApplicationName, Fence)> {
        let fence_of = |(name, application): (&ApplicationName, &crate::Application)| {
            (name.clone(), application.fence())
        };
        self.remembered.applications.iter().map(fence_of).collect()
    }

    /// Returns the report of every application, as of the latest call.
    pub fn reports(&self) -> Vec<Report> {
        self.remembered.applications.keys().filter_map(|name| self.report(name)).collect()
    }

    /// Returns whether a coordinator is connected and obeyed.
    pub const fn is_joined(&self) -> bool {
        self.session.joined().is_some()
    }

    pub(crate) fn report(&self, name: &ApplicationName) -> Option<Report> {
        let application = self.remembered.applications.get(name)?;
        let volatile = self.volatile.get(name)?;
        let mut trouble = self.gate_trouble(name);
        if trouble.is_empty()
            && self.decide_traffic(name) == Some(TrafficDecision::Wait(Permission::SplitBrain))
        {
            "its traffic stays where it is, as two coordinators claim the same term"
                .clone_into(&mut trouble);
        }
        let slots = application.slots.map(|slot, _| {
            let view = self.view(application, volatile, slot);
            let is_led_to = self.gate.leads_to(name, slot);
            let timers = application.assignment.timers;
            let mut told =
                report::slot(&view, volatile.slots.of(slot), timers, is_led_to, &trouble);
            if application.assignment.route.as_ref().is_some_and(|route| route.to == slot) {
                told.detail = report::join(&[&told.detail, hold_text(application)]);
            }
            told
        });
        let (fence, refused) = (application.fence(), volatile.refused);
        let outage = application.outage;
        let hold = self.hold_state(name, application);
        let once = application.once_reports();
        Some(Report { application: name.clone(), fence, slots, refused, outage, hold, once })
    }

    pub(crate) fn view<'a>(
        &self,
        application: &'a crate::Application,
        volatile: &'a Volatile,
        slot: Slot,
    ) -> SlotView<'a> {
        let live = volatile.slots.of(slot);
        let state = application.slots.of(slot);
        let goal = application.goal(slot);
        let retry_at = match state.instance.as_ref().map(|instance| &instance.life) {
            Some(Life::Ended { .. }) => live.crashes.restart_at(),
            Some(Life::Stopping { .. }) => live.stop_retry.as_ref().map(|retry| retry.at),
            Some(Life::Starting | Life::Running { .. } | Life::Stopped { .. }) | None => None,
        };
        SlotView {
            slot,
            goal,
            state,
            other_goal: application.goal(slot.other()),
            other_state: application.slots.of(slot.other()),
            preparation: goal
                .release()
                .and_then(|release| volatile.preparations.get(&prepared_as(release))),
            installed: &application.installed,
            once: Once::of(application),
            in_flight: live.in_flight,
            hook_in_flight: live.hook,
            health: live.watch.as_ref().map_or(Health::Unknown, |watch| {
                watch.health(application.assignment.timers, self.now)
            }),
            retry_at,
            traffic: self.slot_traffic(application, slot),
            generation: application.fence().generation,
            permission: self.permission(),
            now: self.now,
        }
    }

    fn slot_traffic(&self, application: &crate::Application, slot: Slot) -> SlotTraffic {
        let Some(instance) = &application.slots.of(slot).instance else {
            return SlotTraffic::Ungated;
        };
        if instance.port.is_none() {
            return SlotTraffic::Ungated;
        }
        let to = application.traffic.to;
        let is_dead = matches!(instance.life, Life::Ended { .. });
        if application.traffic.leads_to(slot) {
            // What serves nobody is left by no one.
            return if is_dead { SlotTraffic::Replaced } else { SlotTraffic::Led };
        }
        if !is_dead && !self.gate.is_empty(&application.assignment.application, slot) {
            return SlotTraffic::Leaving;
        }
        if to.is_none() {
            return SlotTraffic::Out;
        }
        let keep_warm = application.service().map(|service| service.keep_warm);
        // A clock that was set back over a boot must not keep it for as long as that was.
        let since = application.traffic.since.filter(|since| *since <= self.now);
        let until = since.zip(keep_warm).map(|(since, warm)| since + warm);
        match until.filter(|until| !is_dead && *until > self.now) {
            Some(until) => SlotTraffic::Warm { until },
            None => SlotTraffic::Replaced,
        }
    }

    pub(crate) fn permission(&self) -> Permission {
        let is_fresh = match &self.session {
            Session::Joined { lease, .. } => lease.is_fresh(self.now),
            Session::Away | Session::Opened { .. } => planted!(ActWithoutLease: true; false),
        };
        match (self.remembered.split_term(), is_fresh) {
            (Some(_), _) => Permission::SplitBrain,
            (None, true) => Permission::Fresh,
            (None, false) => Permission::NoLease,
        }
    }

    /// Remembers an event and notes it for the disk.
    pub(crate) fn record(&mut self, turn: &mut Turn, event: Event) {
        self.remembered.apply(&event).expect("the event was decided from this very state");
        turn.events.push(event);
    }

    fn retain(&mut self, turn: &mut Turn) {
        let mut retained = Retained::default();
        for (name, application) in &self.remembered.applications {
            let releases = retained.releases.entry(name.clone()).or_default();
            planted!(
                PreviousReleaseRemoved: releases.extend(application.recent.back());
                releases.extend(application.retained())
            );
            retained.goals.insert(name.clone(), application.fence().generation);
            let configs = application.named().map(|release| &release.config);
            retained.secrets.extend(configs.flat_map(|config| config.secrets.values()));
            let ids = Slot::ALL.into_iter().filter_map(|slot| {
                application.slots.of(slot).instance.as_ref().map(|instance| instance.id)
            });
            retained.instances.extend(ids.map(|id| (name.clone(), id)));
            let Some(volatile) = self.volatile.get(name) else { continue };
            // What is being prepared stays until its answer was heard: otherwise it could be
            // wanted again, answered for, and removed in between.
            releases.extend(volatile.preparations.iter().filter_map(
                |((digest, _), preparation)| {
                    matches!(preparation, Preparation::InFlight { .. }).then_some(*digest)
                },
            ));
        }
        if self.retained.as_ref() != Some(&retained) {
            // Before the preparations of this call, which rely on it.
            turn.actions.insert(0, Action::Retain(retained.clone()));
            self.retained = Some(retained);
        }
    }

    /// Tells the coordinator what it does not know.
    fn speak(&mut self, turn: &mut Turn) {
        let now = turn.now;
        let Some(session) = self.session.joined() else { return };
        let reports = self.reports();
        let has_news = self.has_edge_news();
        let beats = has_news || self.beat_at().is_some_and(|at| now >= at);
        let edge = if beats { self.edge_report() } else { None };
        let checks = if beats { self.check_reports() } else { Vec::new() };
        let is_due = match &mut self.session {
            Session::Joined { lease, .. } if beats => {
                let nonce = turn.draw_id();
                lease.beat(now, nonce);
                let reports = planted!(HeartbeatSaysNothing: Vec::new(); reports.clone());
                turn.act(Action::SendHeartbeat { session, nonce, reports, edge, checks });
                true
            }
            Session::Joined { .. } | Session::Opened { .. } | Session::Away => false,
        };
        for report in reports {
            let Some(volatile) = self.volatile.get_mut(&report.application) else { continue };
            if volatile.reported.as_ref() == Some(&report) {
                continue;
            }
            volatile.reported = Some(report.clone());
            if !is_due {
                turn.act(Action::SendReport { session, report: Box::new(report) });
            }
        }
    }
}

#[cfg(test)]
mod tests;
