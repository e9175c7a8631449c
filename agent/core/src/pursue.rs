//! Pursuit: takes the steps that the slots decide, until every slot rests or waits.

use std::collections::BTreeSet;

use cutover_common::{ApplicationName, Health, HookKind, Release, Slot, planted};

use crate::{
    Action, Agent, Application, Event, HookProgress, Life, Place,
    gate::PORTS,
    prepare::Preparation,
    slots::{Decision, SlotStep, Work, decide},
    traffic::{TrafficDecision, TrafficView},
    turn::Turn,
};

/// The most steps that one call can take for one application: each slot ends, forgets, prepares
/// and starts at most once. More is a loop, which is better stopped than spun in.
const STEPS_MAX: usize = 32;

/// What is reported of a hook that ran when the agent died (E3).
const INTERRUPTED: &str =
    "before_stop was interrupted by a restart of the agent and is not run again";

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
            if health == Some(Health::Settled) {
                live.trying_since = None;
            }
        }
    }

    /// Moves the traffic, if it is to move now.
    fn shift(&mut self, turn: &mut Turn, name: &ApplicationName) -> bool {
        let decision = self.traffic_view(name).map(crate::traffic::decide);
        let Some(TrafficDecision::Shift(to)) = decision else { return false };
        let application = name.clone();
        self.record(turn, Event::Shifted { application, to, at: turn.now });
        true
    }

    pub(crate) fn traffic_view(&self, name: &ApplicationName) -> Option<TrafficView<'_>> {
        let application = self.remembered.applications.get(name)?;
        let volatile = self.volatile.get(name)?;
        let timers = application.assignment.timers;
        let health = volatile.slots.map(|_, live| {
            live.watch.as_ref().map_or(Health::Unknown, |watch| watch.health(timers, self.now))
        });
        let serves_well = volatile.slots.map(|slot, _| volatile.serves_well(slot));
        Some(TrafficView { application, health, serves_well, permission: self.permission() })
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
                self.give_up_hook(turn, name, slot)
            ),
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
        let instances = self.remembered.applications.values().flat_map(|application| {
            application.slots.iter().filter_map(|(_, state)| state.instance.as_ref()?.port)
        });
        let services = self.remembered.applications.values().filter_map(Application::service);
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
        let failures = preparations.get(&release.digest).map_or(0, Preparation::failures);
        preparations.insert(release.digest, Preparation::InFlight { failures });
        turn.act(Action::Prepare { place, release: Box::new(release) });
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
                | Life::Ended { .. },
            )
            | None => Work::Stopping,
        };
        self.ask(turn, name, slot, work);
    }

    fn give_up_hook(&mut self, turn: &mut Turn, name: &ApplicationName, slot: Slot) {
        let Some((place, instance, _)) = self.subject(name, slot) else { return };
        let application = place.application;
        self.live(&(application.clone(), slot)).note = INTERRUPTED.to_owned();
        let warning = INTERRUPTED.to_owned();
        self.record(turn, Event::HookEnded { application, slot, instance, warning });
    }

    /// Asks the world for work on the slot's instance. Nothing else is decided for the slot
    /// until the answer, so that nothing is asked twice (E1).
    fn ask(&mut self, turn: &mut Turn, name: &ApplicationName, slot: Slot, work: Work) {
        let Some((place, instance, release)) = self.subject(name, slot) else { return };
        let port = self.port(name, slot);
        let live = self.live(&(name.clone(), slot));
        live.in_flight = Some(work);
        turn.act(match work {
            Work::Adopting => Action::Adopt { place, instance, release },
            Work::Starting => {
                live.trying_since = live.trying_since.or(Some(turn.now));
                Action::Start { place, instance, release, port }
            }
            Work::RunningHook => {
                Action::RunHook { place, instance, release, port, kind: HookKind::BeforeStop }
            }
            Work::Stopping => Action::Stop { place, instance, release },
        });
    }

    fn port(&self, name: &ApplicationName, slot: Slot) -> Option<u16> {
        self.remembered.applications.get(name)?.slots.of(slot).instance.as_ref()?.port
    }

    fn subject(
        &self,
        name: &ApplicationName,
        slot: Slot,
    ) -> Option<(Place, cutover_common::InstanceId, Box<Release>)> {
        let application = self.remembered.applications.get(name)?;
        let instance = application.slots.of(slot).instance.as_ref()?;
        Some((application.place(slot), instance.id, Box::new(instance.release.clone())))
    }

    /// Asks the instances whose probes are due.
    pub(crate) fn ask_probes(&mut self, turn: &mut Turn) {
        for (name, application) in &self.remembered.applications {
            let Some(volatile) = self.volatile.get_mut(name) else { continue };
            for slot in Slot::ALL {
                let Some(instance) = &application.slots.of(slot).instance else { continue };
                let Life::Running { .. } = instance.life else { continue };
                let Some(watch) = &mut volatile.slots.of_mut(slot).watch else { continue };
                let Some(probe) = instance.release.probe.clone() else { continue };
                if watch.next_at().is_none_or(|at| turn.now < at) {
                    continue;
                }
                watch.asked(turn.now);
                turn.act(Action::Probe {
                    place: application.place(slot),
                    instance: instance.id,
                    release: Box::new(instance.release.clone()),
                    port: instance.port,
                    probe,
                });
            }
        }
    }
}
