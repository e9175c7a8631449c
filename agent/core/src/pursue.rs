//! Pursuit: takes the steps that the slots decide, until every slot rests or waits.

use std::{collections::BTreeSet, sync::Arc};

use cutover_common::{ApplicationName, Health, HookKind, InstanceId, Release, Slot, planted};

use crate::{
    Action, Agent, Application, Event, Hold, HookId, HookProgress, Life, Place,
    gate::PORTS,
    hooks::before_the_traffic,
    intake::At,
    prepare::{Preparation, prepared_as},
    probe::Watch,
    slots::{Decision, HookWork, SlotStep, Work, decide},
    traffic::{TrafficDecision, TrafficView},
    turn::Turn,
    volatile::Volatile,
};

/// The most steps that one call can take for one application: each slot ends, forgets, prepares
/// and starts at most once. More is a loop, which is better stopped than spun in.
const STEPS_MAX: usize = 32;

impl Application {
    pub(crate) fn place(&self, slot: Slot) -> Place {
        let assignment = &self.assignment;
        Place {
            application: assignment.application.clone(),
            slot,
            fence: assignment.fence,
            rollout: assignment.rollout.clone(),
        }
    }
}

impl Agent {
    pub(crate) fn pursue(&mut self, turn: &mut Turn) {
        let names: Vec<_> = self.remembered.applications.keys().cloned().collect();
        for name in names {
            self.note_settled(turn, &name);
            self.note_outage(turn, &name);
            let steps = (0..STEPS_MAX)
                .take_while(|_| self.shift(turn, &name) || self.take_step(turn, &name))
                .count();
            debug_assert!(steps < STEPS_MAX, "{name} does not come to rest");
        }
    }

    /// What became settled is no longer tried: the deadline for it is over.
    fn note_settled(&mut self, turn: &Turn, name: &ApplicationName) {
        let Some(application) = self.remembered.applications.get(name) else { return };
        let timers = application.assignment.timers;
        let Some(volatile) = self.volatile.get_mut(name) else { return };
        for slot in Slot::ALL {
            let live = volatile.slots.of_mut(slot);
            let health = live.watch.as_ref().map(|watch| watch.health(timers, turn.now));
            let state = application.slots.of(slot);
            let has_passed = state.instance.as_ref().is_some_and(|instance| {
                let generation = application.fence().generation;
                before_the_traffic(&instance.release, state, generation).has_passed()
            });
            if health == Some(Health::Settled) && has_passed {
                live.trying_since = None;
            }
        }
    }

    /// Measures how long nobody was served, once the instance that was waited for passes.
    fn note_outage(&mut self, turn: &mut Turn, name: &ApplicationName) {
        let Some(application) = self.remembered.applications.get(name) else { return };
        let Some(volatile) = self.volatile.get_mut(name) else { return };
        let Some(since) = volatile.out_since else { return };
        let Some((slot, release)) = application.wanted() else {
            volatile.out_since = None;
            return;
        };
        let held = application.slots.of(slot).instance.as_ref();
        let is_it = held.is_some_and(|held| held.release == *release);
        let passes = volatile.slots.of(slot).watch.as_ref().and_then(Watch::passes);
        if is_it && passes == Some(true) {
            volatile.out_since = None;
            let (application, lasted) = (name.clone(), turn.now.since(since));
            self.record(turn, Event::OutageMeasured { application, lasted });
        }
    }

    /// Moves the traffic, if it is to move now.
    fn shift(&mut self, turn: &mut Turn, name: &ApplicationName) -> bool {
        let Some(decision) = self.decide_traffic(name) else { return false };
        let application = name.clone();
        let generation = self.remembered.applications[name].fence().generation;
        let event = match decision {
            TrafficDecision::Shift(to, aside) => {
                Event::Shifted { application, to, at: turn.now, aside }
            }
            TrafficDecision::Hold(limits) => {
                let volatile = self.volatile.entry(name.clone()).or_default();
                volatile.hold_until = Some(turn.now + limits.lasts());
                Event::HoldBegun { application, generation, limits }
            }
            TrafficDecision::Arm(limits) => Event::HoldArmed { application, generation, limits },
            TrafficDecision::Release => Event::HoldOver { application },
            TrafficDecision::Wait(_) | TrafficDecision::Rest => return false,
        };
        self.record(turn, event);
        true
    }

    pub(crate) fn decide_traffic(&self, name: &ApplicationName) -> Option<TrafficDecision> {
        let decision = crate::traffic::decide(self.traffic_view(name)?);
        // The gate cannot serve it where its port leads to somebody else.
        let is_vain =
            matches!(decision, TrafficDecision::Shift(Some(_), _) | TrafficDecision::Hold(_))
                && self.port_trouble(name).is_some();
        Some(if is_vain { TrafficDecision::Rest } else { decision })
    }

    fn traffic_view(&self, name: &ApplicationName) -> Option<TrafficView<'_>> {
        let application = self.remembered.applications.get(name)?;
        let volatile = self.volatile.get(name)?;
        let timers = application.assignment.timers;
        let health = volatile.slots.map(|_, live| {
            live.watch.as_ref().map_or(Health::Unknown, |watch| watch.health(timers, self.now))
        });
        let serves_well = volatile.slots.map(|slot, _| volatile.serves_well(slot));
        let hold_is_over = self.hold_is_over(application, volatile);
        let permission = self.permission();
        Some(TrafficView { application, health, serves_well, hold_is_over, permission })
    }

    /// Returns whether the time of a hold that is not armed is over. The clock that it was begun by
    /// is its process's own: by another process's it is over.
    fn hold_is_over(&self, application: &Application, volatile: &Volatile) -> bool {
        let is_over = volatile.hold_until.is_none_or(|until| until <= self.now);
        match application.traffic.hold {
            Hold::Begun { .. } => planted!(
                HoldOutlivesItsAgent:
                    volatile.hold_until.is_some_and(|until| until <= self.now);
                is_over
            ),
            Hold::Armed { .. } => planted!(ArmedHoldExpires: is_over; false),
            Hold::None | Hold::Over { .. } => false,
        }
    }

    /// Takes one step, if there is one.
    fn take_step(&mut self, turn: &mut Turn, name: &ApplicationName) -> bool {
        let next = Slot::ALL.into_iter().find_map(|slot| {
            let application = self.remembered.applications.get(name)?;
            let volatile = self.volatile.get(name)?;
            match decide(&self.view(application, volatile, slot)) {
                Decision::Do(step) => Some((slot, step)),
                Decision::Wait(_) | Decision::Rest => None,
            }
        });
        let Some((slot, step)) = next else { return false };
        match step {
            SlotStep::Prepare => self.prepare(turn, name, slot),
            SlotStep::Start | SlotStep::Restart => {
                let application = name.clone();
                let instance = planted!(
                    InstanceIdReused:
                        self.subject(name, slot).map_or_else(|| turn.draw_instance(), |it| it.1);
                    turn.draw_instance()
                );
                let port = self.draw_port(turn, name, slot);
                self.record(turn, Event::StartStarted { application, slot, instance, port });
                self.ask(turn, name, slot, Work::Starting);
            }
            SlotStep::ResumeStart => self.ask(turn, name, slot, Work::Starting),
            SlotStep::Stop => self.begin_stop(turn, name, slot),
            SlotStep::ResumeStop => self.ask(turn, name, slot, Work::Stopping),
            SlotStep::GiveUpHook => planted!(
                HookRunAgain: self.ask(turn, name, slot, Work::RunningHook);
                self.ask(turn, name, slot, Work::EndingHook)
            ),
            SlotStep::RunHook(kind) => self.run_hook(turn, name, slot, kind),
            SlotStep::EndHook(hook) => {
                let Some(application) = self.remembered.applications.get(name) else {
                    return false;
                };
                let place = application.place(slot);
                self.live(&(name.clone(), slot)).hook = Some(HookWork::Ending(hook.run));
                turn.act(Action::EndHook { place, hook });
            }
            SlotStep::FinishStop => {
                if let Some((place, instance, _)) = self.subject(name, slot) {
                    self.stop_done(turn, (place.application, slot), instance);
                }
            }
            SlotStep::Abandon => {
                if let Some((place, instance, _)) = self.subject(name, slot) {
                    self.stop_done(turn, (place.application, slot), instance);
                }
            }
            SlotStep::Forget => {
                let application = name.clone();
                self.live(&(application.clone(), slot)).note.clear();
                // What is on disk goes when it is no longer retained.
                self.record(turn, Event::Forgotten { application, slot });
            }
        }
        true
    }

    /// Draws where the instance that is about to start listens: a port that no other instance
    /// here was given. Whether another program has it shows at the start, and the next one draws
    /// again.
    fn draw_port(&self, turn: &mut Turn, name: &ApplicationName, slot: Slot) -> Option<u16> {
        let application = self.remembered.applications.get(name)?;
        let state = application.slots.of(slot);
        let held = state.instance.as_ref().map(|instance| &instance.release);
        held.or(state.prepared.as_ref())?.service.as_ref()?;
        let applications = || self.remembered.applications.values();
        let instances = applications().flat_map(Application::instance_ports);
        let services = applications().filter_map(Application::service);
        let taken: BTreeSet<u16> = instances.chain(services.map(|service| service.port)).collect();
        let count = u64::from(PORTS.end - PORTS.start);
        let first = turn.draw_number() % count;
        (0..count)
            .filter_map(|step| u16::try_from((first + step) % count).ok())
            .map(|step| PORTS.start + step)
            .find(|port| !taken.contains(port))
    }

    fn prepare(&mut self, turn: &mut Turn, name: &ApplicationName, slot: Slot) {
        let Some(application) = self.remembered.applications.get(name) else { return };
        let Some(release) = application.goal(slot).release().cloned() else { return };
        let place = application.place(slot);
        let preparations = &mut self.volatile.entry(name.clone()).or_default().preparations;
        let of = prepared_as(&release);
        let failures = preparations.get(&of).map_or(0, Preparation::failures);
        preparations.insert(of, Preparation::InFlight { failures });
        turn.act(Action::Prepare { place, release });
    }

    fn begin_stop(&mut self, turn: &mut Turn, name: &ApplicationName, slot: Slot) {
        let Some((place, instance, _)) = self.subject(name, slot) else { return };
        let application = place.application;
        self.record(turn, Event::StopStarted { application, slot, instance });
        let live = self.live(&(name.clone(), slot));
        live.watch = None;
        live.note.clear();
        let state = self.remembered.applications[name].slots.of(slot);
        let life = state.instance.as_ref().map(|instance| &instance.life);
        let work = match life {
            Some(Life::Stopping { hook: HookProgress::Begun }) => Work::RunningHook,
            Some(
                Life::Stopping { hook: HookProgress::Over { .. } }
                | Life::Starting
                | Life::Running { .. }
                | Life::Stopped { .. }
                | Life::Ended { .. },
            )
            | None => Work::Stopping,
        };
        self.ask(turn, name, slot, work);
    }

    /// Runs a hook that is to bring the goal's release into service.
    fn run_hook(&mut self, turn: &mut Turn, name: &ApplicationName, slot: Slot, kind: HookKind) {
        let Some(application) = self.remembered.applications.get(name) else { return };
        let Some(release) = application.goal(slot).release().cloned() else { return };
        let place = application.place(slot);
        let held = application.slots.of(slot).instance.as_ref();
        let held = held.filter(|held| held.release == release);
        let (instance, port) = (held.map(|held| held.id), held.and_then(|held| held.port));
        let id = turn.draw_id();
        let begun =
            Event::HookBegun { application: name.clone(), slot, id, kind, release: release.digest };
        self.record(turn, begun);
        self.live(&(name.clone(), slot)).hook = Some(HookWork::Running(id));
        let hook = HookId { run: id, kind };
        turn.act(Action::RunHook { place, hook, instance, release, port });
    }

    /// Runs the hook of an instance that is gone.
    pub(crate) fn begin_after_stop(&mut self, turn: &mut Turn, at: At, instance: InstanceId) {
        let (application, slot) = at.clone();
        self.record(turn, Event::AfterStopStarted { application, slot, instance });
        self.ask(turn, &at.0, slot, Work::RunningHook);
    }

    /// Asks the world for work on the slot's instance. Nothing else is decided for the slot
    /// until the answer, so that nothing is asked twice (E1).
    fn ask(&mut self, turn: &mut Turn, name: &ApplicationName, slot: Slot, work: Work) {
        let Some((place, instance, release)) = self.subject(name, slot) else { return };
        let port = self.port(name, slot);
        if work == Work::Stopping && release.service.is_none() {
            self.volatile.entry(name.clone()).or_default().out_since.get_or_insert(turn.now);
        }
        let hook = HookId { run: instance.0, kind: self.stop_hook(name, slot) };
        let live = self.live(&(name.clone(), slot));
        live.in_flight = Some(work);
        turn.act(match work {
            Work::Adopting => Action::Adopt { place, instance, release },
            Work::Starting => {
                live.trying_since = live.trying_since.or(Some(turn.now));
                Action::Start { place, instance, release, port }
            }
            Work::RunningHook => {
                Action::RunHook { place, hook, instance: Some(instance), release, port }
            }
            Work::EndingHook => Action::EndHook { place, hook },
            Work::Stopping => Action::Stop { place, instance, release },
        });
    }

    /// Returns which hook a stop has come to.
    fn stop_hook(&self, name: &ApplicationName, slot: Slot) -> HookKind {
        let application = self.remembered.applications.get(name);
        let held = application.and_then(|it| it.slots.of(slot).instance.as_ref());
        match held.map(|held| &held.life) {
            Some(Life::Stopped { .. }) => HookKind::AfterStop,
            Some(
                Life::Starting | Life::Running { .. } | Life::Stopping { .. } | Life::Ended { .. },
            )
            | None => HookKind::BeforeStop,
        }
    }

    fn port(&self, name: &ApplicationName, slot: Slot) -> Option<u16> {
        self.remembered.applications.get(name)?.slots.of(slot).instance.as_ref()?.port
    }

    fn subject(
        &self,
        name: &ApplicationName,
        slot: Slot,
    ) -> Option<(Place, InstanceId, Arc<Release>)> {
        let application = self.remembered.applications.get(name)?;
        let instance = application.slots.of(slot).instance.as_ref()?;
        Some((application.place(slot), instance.id, instance.release.clone()))
    }

    /// Asks the instances whose probes are due.
    pub(crate) fn ask_probes(&mut self, turn: &mut Turn) {
        for (name, application) in &self.remembered.applications {
            let Some(volatile) = self.volatile.get_mut(name) else { continue };
            for slot in Slot::ALL {
                let Some(instance) = &application.slots.of(slot).instance else { continue };
                let Life::Running { .. } = instance.life else { continue };
                let Some(watch) = &mut volatile.slots.of_mut(slot).watch else { continue };
                if watch.next_at().is_none_or(|at| turn.now < at) {
                    continue;
                }
                let Some(probe) = instance.release.probe.clone() else { continue };
                watch.asked(turn.now);
                turn.act(Action::Probe {
                    place: application.place(slot),
                    instance: instance.id,
                    release: instance.release.clone(),
                    port: instance.port,
                    probe,
                });
            }
        }
    }
}
