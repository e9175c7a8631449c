//! Goals with routes in any order: late, repeated, in the middle of holds; agents and gates that
//! crash, leases that run out, requests that take long. The promises hold throughout, and in the
//! end the gate leads as it is told.

use std::time::Duration;

use cutover_common::{
    Assignment, Fence, Generation, HoldLimits, HoldState, HookKind, Permille, Route, RouteMode,
    Slot, SlotGoal, Slots, Swap, Timestamp,
};
use proptest::prelude::*;

use super::{
    routes::{LIMITS, both},
    world::{World, assignment, served, smoked, web},
};
use crate::{Agent, Event, Hold};

#[derive(Clone, Debug)]
enum Noise {
    /// The goal after the one that is held.
    Next(Goal),
    /// One that may be late.
    Assign(u64, Goal),
    /// The same goal again, as when a session begins.
    Repeat,
    Perform(usize),
    Crash,
    Reboot,
    Reconnect,
    Disconnect,
    Kill,
    Pass(u64),
    Settle,
    Echo(bool),
    Sicken(&'static str, bool),
    FailHooks(bool),
    /// Requests take long wherever the gate leads.
    Busy,
    Drain,
    GateLost(bool),
    GateRestarts,
}

#[derive(Clone, Copy, Debug)]
struct Goal {
    to: Slot,
    share: u32,
    mode: RouteMode,
    slots: u8,
}

fn goal() -> impl Strategy<Value = Goal> {
    let limits = prop_oneof![Just(3), Just(20), Just(60)]
        .prop_map(|seconds| HoldLimits { within: Duration::from_secs(seconds), ..LIMITS });
    let mode = (0..4_u8, limits).prop_map(|(mode, limits)| match mode {
        0 => RouteMode::Open,
        1 => RouteMode::Armed(limits),
        _ => RouteMode::Hold(limits),
    });
    let to = prop_oneof![3 => Just(Slot::Blue), 1 => Just(Slot::Green)];
    let share = prop_oneof![3 => Just(0), 1 => Just(100), 1 => Just(500), 1 => Just(1000)];
    (to, share, mode, 0..8_u8).prop_map(|(to, share, mode, slots)| Goal { to, share, mode, slots })
}

fn noise() -> impl Strategy<Value = Noise> {
    prop_oneof![
        6 => goal().prop_map(Noise::Next),
        1 => (0_u64..12, goal()).prop_map(|(generation, goal)| Noise::Assign(generation, goal)),
        1 => Just(Noise::Repeat),
        3 => (0_usize..4).prop_map(Noise::Perform),
        8 => Just(Noise::Settle),
        5 => (0_u64..30).prop_map(Noise::Pass),
        1 => Just(Noise::Crash),
        1 => prop_oneof![4 => Just(Noise::Disconnect), 1 => Just(Noise::Reboot)],
        2 => Just(Noise::Reconnect),
        1 => Just(Noise::Kill),
        2 => any::<bool>().prop_map(Noise::Echo),
        1 => (prop_oneof![Just("1"), Just("2")], any::<bool>())
            .prop_map(|(version, is_sick)| Noise::Sicken(version, is_sick)),
        1 => any::<bool>().prop_map(Noise::FailHooks),
        1 => Just(Noise::Busy),
        1 => Just(Noise::Drain),
        1 => prop_oneof![
            Just(Noise::GateLost(true)), Just(Noise::GateLost(false)), Just(Noise::GateRestarts),
        ],
    ]
}

fn assigned(generation: u64, goal: Goal) -> Assignment {
    let Goal { to, share, mode, slots } = goal;
    let one = || SlotGoal::Running(served("1", Swap::Beside));
    match slots {
        // Without a route, one runs, or the other, or none.
        0 => assignment(generation, one(), SlotGoal::Prepared(smoked("2"))),
        1 => assignment(generation, SlotGoal::Prepared(served("1", Swap::Beside)), {
            SlotGoal::Running(smoked("2"))
        }),
        // The same release twice.
        2 => {
            let share = share.try_into().unwrap();
            let route = Some(Route { to, share, allow: None, mode });
            Assignment { route, ..assignment(generation, one(), one()) }
        }
        _ => both(generation, to, share, mode),
    }
}

/// What is written down beside the agent, from what it stored.
#[derive(Default)]
struct Book {
    held: Fence,
    read: usize,
    /// Until when a hold may last that nobody armed, and for which goal it was begun.
    until: Option<Timestamp>,
    begun: Vec<Generation>,
    /// Where what is new went last.
    to: Option<Slot>,
}

impl Book {
    fn make(&mut self, world: &mut World, noise: Noise) {
        match noise {
            Noise::Next(goal) => world.assign(assigned(self.held.generation.0 + 1, goal)),
            Noise::Assign(generation, goal) => world.assign(assigned(generation, goal)),
            Noise::Repeat => {
                let held = world.agent.remembered().applications.get(&web());
                if let Some(goal) = held.map(|held| held.assignment.clone()) {
                    world.assign(goal);
                }
            }
            Noise::Perform(place) => {
                if let Some(action) = world.queue.remove(place)
                    && let Some(answer) = world.perform(action)
                {
                    world.give(answer);
                }
            }
            Noise::Settle => world.settle(),
            Noise::Crash => self.crash(world, World::crash),
            Noise::Reboot => self.crash(world, World::reboot),
            Noise::Reconnect => world.welcome(1, "store", "boot"),
            Noise::Disconnect => world.disconnect(),
            Noise::Kill => world.kill(),
            Noise::Pass(seconds) => world.pass(seconds),
            Noise::Echo(echoes) => world.echoes = echoes,
            Noise::Sicken(version, true) => drop(world.sick.insert(version.to_owned())),
            Noise::Sicken(version, false) => drop(world.sick.remove(version)),
            Noise::FailHooks(fail) => {
                world.failing_hooks = [HookKind::Smoke].into_iter().filter(|_| fail).collect();
            }
            Noise::Busy => {
                let led = world.gate.leads_to();
                world.gate.busy.extend(led);
                world.look_at_gate();
            }
            Noise::Drain => Slot::ALL.into_iter().for_each(|slot| world.drain(slot)),
            Noise::GateLost(is_there) => world.gate.is_there = is_there,
            Noise::GateRestarts => world.restart_gate(),
        }
        self.require_promises(world);
    }

    fn crash(&mut self, world: &mut World, crash: impl FnOnce(&mut World)) {
        // The next process has another clock: what is not armed is over.
        self.until = self.until.map(|_| Timestamp::default());
        crash(world);
    }

    /// Checks what must hold between any two steps. What the gate does, and whether what is told is
    /// true of it, is checked by the world itself.
    fn require_promises(&mut self, world: &World) {
        let held = world.agent.held().first().map(|(_, fence)| *fence).unwrap_or_default();
        assert!(held.term >= self.held.term && held.generation >= self.held.generation, "F2");
        self.held = held;
        let replayed = Agent::replay(&world.events).expect("what was written can be read");
        assert_eq!(replayed.remembered(), world.agent.remembered());
        let mut goal: Option<&Assignment> = None;
        for (at, event) in world.events.iter().enumerate() {
            if let Event::AssignmentAccepted(accepted) = event {
                goal = Some(accepted);
            }
            if let Some(goal) = goal.filter(|_| at >= self.read) {
                self.note(world, event, goal);
            }
        }
        self.read = world.events.len();
        let Some(application) = world.agent.remembered().applications.get(&web()) else { return };
        if matches!(application.traffic.hold, Hold::Begun { .. }) {
            let until = self.until.expect("G4: held, and nothing was begun");
            assert!(world.now < until, "G4: held until {:?}, for until {until:?}", world.now);
        }
    }

    fn note(&mut self, world: &World, event: &Event, goal: &Assignment) {
        if let Event::HoldBegun { generation, limits, .. } = event {
            assert!(!self.begun.contains(generation), "G4: held twice for {generation:?}");
            self.begun.push(*generation);
            self.until = Some(world.now + limits.lasts());
        }
        if let Event::HoldArmed { .. } = event {
            let was_held = self.until.take().is_some_and(|until| world.now < until);
            assert!(was_held || is_armed(goal), "G4: armed, and was not held");
        }
        if let Event::HoldOver { .. } = event {
            assert!(self.until.take().is_some(), "G4: it was armed");
        }
        if let Event::Shifted { to, aside, .. } = event {
            self.until = None;
            let wanted = goal.route.as_ref().map_or_else(
                || Slot::ALL.into_iter().find(|slot| goal.slots.of(*slot).wants_instance()),
                |route| Some(route.to),
            );
            let stays = to.is_none() || *to == self.to;
            assert!(stays || *to == wanted, "G5: to {to:?} instead of {wanted:?}");
            self.to = *to;
            let share = goal.route.as_ref().map_or(Permille::NONE, |route| route.share);
            assert!(aside.is_nothing() || aside.share == share, "G5: {aside:?}");
        }
    }
}

/// Whether a goal arms what is armed already.
fn is_armed(goal: &Assignment) -> bool {
    goal.route.as_ref().is_some_and(|route| matches!(route.mode, RouteMode::Armed(_)))
}

/// Does anything, and then lets a coordinator that can be reached bring the host to rest.
fn whatever_happens(script: Vec<Noise>) {
    let mut world = World::begin();
    world.connect();
    let mut book = Book::default();
    let first = Goal { to: Slot::Blue, share: 0, mode: RouteMode::Open, slots: 7 };
    book.make(&mut world, Noise::Next(first));
    book.make(&mut world, Noise::Pass(60));
    for noise in script {
        book.make(&mut world, noise);
    }
    (world.echoes, world.gate.is_there) = (true, true);
    world.failing_hooks.clear();
    world.sick.clear();
    book.make(&mut world, Noise::Drain);
    book.make(&mut world, Noise::Settle);
    book.make(&mut world, Noise::Reconnect);
    book.make(&mut world, Noise::Next(Goal { to: Slot::Green, share: 250, ..first }));
    book.make(&mut world, Noise::Pass(400));
    book.make(&mut world, Noise::Drain);
    book.make(&mut world, Noise::Pass(400));

    let report = world.agent.reports().pop().unwrap();
    assert_eq!(world.gate.weights(), Slots { blue: 250, green: 750 }, "{report:?}");
    assert_eq!((report.hold, world.alive().len()), (HoldState::Open, 2), "{report:?}");
}

fn script() -> impl Strategy<Value = Vec<Noise>> {
    prop::collection::vec(noise(), 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_holds_and_shares_are_as_they_were_told(script in script()) {
        whatever_happens(script);
    }

    #[test]
    fn without_an_echo_nothing_is_led_elsewhere_or_held_but_a_hold_may_end(script in script()) {
        let mut world = World::with_blue_served(Swap::Beside);
        world.echoes = false;
        world.pass(11);
        let mut book = Book { read: world.events.len(), ..Book::default() };
        book.held = world.agent.held()[0].1;
        let stored = world.events.len();
        for noise in script {
            if !matches!(noise, Noise::Echo(_)) {
                book.make(&mut world, noise);
            }
        }
        let moves = |event: &&Event| {
            let goes_elsewhere = matches!(
                event, Event::Shifted { to, aside, .. }
                    if *to != Some(Slot::Blue) || !aside.is_nothing()
            );
            goes_elsewhere || matches!(event, Event::HoldBegun { .. } | Event::HoldArmed { .. })
        };
        prop_assert_eq!(world.events[stored..].iter().find(moves), None);
    }
}

cutover_common::where_bugs_are_planted! {
    mod planted {
        //! Each bug of routes is found by what is checked here.

        use cutover_common::planted::{Bug, plant};
        use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

        use super::*;

        /// How many scripts each bug has to hide from: the most that one took, many times over.
        const SCRIPTS_MAX: u32 = 20_000;

        #[test]
        fn every_bug_of_routes_is_found() {
            let config = ProptestConfig {
                cases: SCRIPTS_MAX,
                failure_persistence: None,
                max_shrink_iters: 0,
                ..ProptestConfig::default()
            };
            let mut hidden = Vec::new();
            for bug in Bug::OF_ROUTES {
                let luck = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
                let mut runner = TestRunner::new_with_rng(config.clone(), luck);
                plant(Some(*bug));
                let found = runner.run(&script(), |script| {
                    whatever_happens(script);
                    Ok(())
                });
                plant(None);
                if found.is_ok() {
                    hidden.push(bug.name());
                }
            }
            assert!(hidden.is_empty(), "not found: {hidden:?}");
        }
    }
}
