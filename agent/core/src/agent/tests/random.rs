//! Anything in any order: assignments that are late, repeated or contradict each other, crashes
//! between any two steps, reboots, lost sessions, dying instances. The promises hold throughout,
//! and when the noise ends the host comes to what is wanted.

use std::collections::BTreeMap;

use cutover_common::{Fence, HookKind, SlotGoal};
use proptest::prelude::*;

use super::world::{World, assignment, hooked, prepared, running, web};
use crate::{Action, Agent, PrepareFailure, Retry};

#[derive(Clone, Debug)]
enum Noise {
    Assign {
        generation: u64,
        content: u8,
    },
    /// Performs the action at this place of the queue, not always the first.
    Perform(usize),
    /// Performs the first action, and loses the answer with the agent.
    PerformAndCrash,
    Crash,
    Reboot,
    Connect {
        term: u64,
        nonce: u8,
    },
    Disconnect,
    Kill,
    Pass(u64),
    Sicken(bool),
    Echo(bool),
    FailPreparing(Option<Retry>),
    FailHooks(bool),
}

fn noise() -> impl Strategy<Value = Noise> {
    prop_oneof![
        4 => (0_u64..12, 0_u8..8)
            .prop_map(|(generation, content)| Noise::Assign { generation, content }),
        12 => (0_usize..4).prop_map(Noise::Perform),
        1 => Just(Noise::PerformAndCrash),
        1 => Just(Noise::Crash),
        1 => Just(Noise::Reboot),
        2 => (1_u64..4, 0_u8..2).prop_map(|(term, nonce)| Noise::Connect { term, nonce }),
        1 => Just(Noise::Disconnect),
        1 => Just(Noise::Kill),
        2 => (0_u64..30).prop_map(Noise::Pass),
        1 => any::<bool>().prop_map(Noise::Sicken),
        1 => any::<bool>().prop_map(Noise::Echo),
        1 => any::<bool>().prop_map(Noise::FailHooks),
        1 => prop_oneof![
            Just(None),
            Just(Some(Retry::Later)),
            Just(Some(Retry::Connected)),
            Just(Some(Retry::Never)),
        ]
        .prop_map(Noise::FailPreparing),
    ]
}

fn goals(content: u8) -> (SlotGoal, SlotGoal) {
    match content {
        0 => (running("1"), SlotGoal::Absent),
        1 => (prepared("1"), running("2")),
        2 => (running("3"), prepared("2")),
        3 => (SlotGoal::Absent, running("2")),
        4 => (prepared("3"), prepared("2")),
        5 => (SlotGoal::Running(hooked("4")), SlotGoal::Absent),
        7 => (prepared("1"), SlotGoal::Running(hooked("4"))),
        _ => (SlotGoal::Absent, SlotGoal::Absent),
    }
}

fn make(world: &mut World, noise: Noise) {
    match noise {
        Noise::Assign { generation, content } => {
            let (blue, green) = goals(content);
            world.assign(assignment(generation, blue, green));
        }
        Noise::Perform(place) => {
            if let Some(action) = world.queue.remove(place)
                && let Some(answer) = world.perform(action)
            {
                world.give(answer);
            }
        }
        Noise::PerformAndCrash => {
            if let Some(action) = world.queue.pop_front() {
                let _lost = world.perform(action);
            }
            world.crash();
        }
        Noise::Crash => world.crash(),
        Noise::Reboot => world.reboot(),
        Noise::Connect { term, nonce } => world.welcome(term, "store", &nonce.to_string()),
        Noise::Disconnect => world.disconnect(),
        Noise::Kill => world.kill(),
        Noise::Pass(seconds) => world.pass(seconds),
        Noise::Sicken(is_healthy) => world.is_healthy = is_healthy,
        Noise::Echo(echoes) => world.echoes = echoes,
        Noise::FailPreparing(retry) => {
            let failure = |retry| PrepareFailure { detail: "no".to_owned(), retry };
            world.prepare_failure = retry.map(failure);
        }
        Noise::FailHooks(fail) => {
            world.failing_hooks = HookKind::ALL.into_iter().filter(|_| fail).collect();
        }
    }
}

/// Checks what must hold between any two steps. Starting a second instance beside a living one,
/// or one that is not on disk, is caught by the world itself.
fn require_promises(world: &World, held: &mut Fence) {
    let fence = world.agent.held().first().map(|(_, fence)| *fence).unwrap_or_default();
    assert!(fence.term >= held.term && fence.generation >= held.generation, "F2");
    *held = fence;
    assert!(world.alive().len() <= 1, "E1: {:?}", world.alive());
    assert!(world.hooks_run.values().all(|runs| *runs <= 1), "E3: {:?}", world.hooks_run);
    let replayed = Agent::replay(&world.events).expect("what was written can be read");
    assert_eq!(replayed.remembered(), world.agent.remembered());
    let mut asked: BTreeMap<String, u32> = BTreeMap::new();
    for action in &world.queue {
        if let Action::Start { instance, .. } | Action::Stop { instance, .. } = action {
            *asked.entry(format!("{instance:?}")).or_default() += 1;
        }
    }
    assert!(asked.values().all(|times| *times == 1), "E1: asked twice: {asked:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_promises_hold_and_the_goal_is_reached(
        script in prop::collection::vec(noise(), 1..80),
    ) {
        let mut world = World::begin();
        world.connect();
        let mut held = Fence::default();
        for noise in script {
            make(&mut world, noise);
            require_promises(&world, &mut held);
        }
        world.is_healthy = true;
        world.echoes = true;
        world.prepare_failure = None;
        world.failing_hooks.clear();
        world.settle();
        world.welcome(9, "store", "last");
        let generation = held.generation.0 + 1;
        world.assign(assignment(generation, prepared("1"), SlotGoal::Running(hooked("4"))));
        world.pass(200);
        require_promises(&world, &mut held);

        prop_assert_eq!(held.generation.0, generation);
        let reports = world.agent.reports();
        let green = &reports.iter().find(|report| report.application == web()).unwrap().slots.green;
        prop_assert_eq!(green.health, cutover_common::Health::Settled, "{:?}", green);
        prop_assert_eq!(world.alive(), vec![green.instance.as_ref().unwrap().instance]);
    }

    #[test]
    fn without_an_echo_nothing_that_runs_is_ever_stopped(
        script in prop::collection::vec(noise(), 1..60),
    ) {
        let mut world = World::with_blue_running();
        world.echoes = false;
        world.pass(11);
        for noise in script {
            if !matches!(noise, Noise::Echo(_)) {
                make(&mut world, noise);
            }
        }
        let stops = world.trace.iter().filter(|line| line.starts_with("stop")).count();
        prop_assert_eq!(stops, 0, "{:?}", world.trace);
    }

    #[test]
    fn a_coordinator_that_is_gone_never_leaves_the_host_with_nothing(
        script in prop::collection::vec(noise(), 1..60),
    ) {
        let mut world = World::with_blue_running();
        for noise in script {
            // Goals that want nothing to run, or what can never be had, are not the agent's to mend;
            // nor is a hook that was interrupted and is not run again.
            let wants_nothing = matches!(noise, Noise::Assign { content: 4..=7, .. });
            if !wants_nothing && !matches!(noise, Noise::FailPreparing(_)) {
                make(&mut world, noise);
            }
        }
        world.disconnect();
        world.pass(300);

        prop_assert_eq!(world.alive().len(), 1, "{:?}", world.trace);
    }
}
