//! The agent dies, at any moment; what runs does not notice, and nothing is done twice.

use std::time::Duration;

use cutover_common::{Health, Phase, ProbeSpec, ProbeTarget, Slot, SlotGoal, SlotReport};

use super::{
    coordinator::Coordinator,
    deploys::{HOOK, SERVER, is_settled, pid_of, prepared, release_with_hook, running},
    host::{Host, LONG, is_alive},
};

/// Is healthy, and asked for ever while there is a file in the application's own folder.
const ASKED: &str = "#!/bin/sh\nwhile test -e \"$DATA/hold\"; do sleep 0.01; done\n";

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_ends_or_dies_leaves_its_instances_and_finds_them_again() {
    let coordinator = Coordinator::start().await;
    let mut host = Host::joined(&coordinator).await;
    let mut one = coordinator.release("1", &[("server", SERVER), ("probe", ASKED)]);
    one.probe = Some(ProbeSpec {
        target: ProbeTarget::Command(vec!["./probe".to_owned()]),
        every: Duration::from_millis(100),
        timeout: LONG,
        passes: 1,
        failures: 50,
        start_within: LONG,
    });
    coordinator.assign(1, running(&one), SlotGoal::Absent);
    let before = coordinator.until_slot("release 1 settles", Slot::Blue, is_settled).await;
    let hold = host.shared().join("hold");

    for is_asked_to_end in [true, false] {
        if is_asked_to_end {
            assert_eq!(host.stop_agent().code(), Some(0));
        } else {
            host.kill_agent();
        }
        assert!(is_alive(pid_of(&before)));
        std::fs::write(&hold, "").unwrap();
        host.start();
        // Health is counted anew: nothing is settled before the first answer (row 12).
        let anew = |slot: &SlotReport| slot.health == Health::Unknown;
        coordinator.until_slot("health begins anew", Slot::Blue, anew).await;
        std::fs::remove_file(&hold).unwrap();
        let after = coordinator.until_slot("it settles again", Slot::Blue, is_settled).await;
        assert_eq!(after.instance, before.instance);
    }
    host.until_lines("starts", 1).await;
}

/// Kills the agent this long after it was told to replace a release. Fetching and starting take
/// some tens of milliseconds each, so that the kills fall into all of it.
const MOMENTS_MS: [u64; 8] = [1, 10, 25, 40, 60, 90, 140, 220];

#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_survives_a_kill_at_any_moment_and_runs_its_hook_at_most_once() {
    let coordinator = Coordinator::start().await;
    let mut host = Host::joined(&coordinator).await;
    let first = release_with_hook(&coordinator, "0", HOOK);
    coordinator.assign(1, running(&first), SlotGoal::Absent);
    coordinator.until_slot("release 0 settles", Slot::Blue, is_settled).await;
    host.until_lines("starts", 1).await;

    let (mut last, mut in_blue) = (first, true);
    for (round, moment) in MOMENTS_MS.into_iter().enumerate() {
        let next = release_with_hook(&coordinator, &format!("{}", round + 1), HOOK);
        let generation = round as u64 + 2;
        let slot = if in_blue {
            coordinator.assign(generation, prepared(&last), running(&next));
            Slot::Green
        } else {
            coordinator.assign(generation, running(&next), prepared(&last));
            Slot::Blue
        };
        tokio::time::sleep(Duration::from_millis(moment)).await;
        host.kill_agent();
        host.start();
        let is_there = |slot: &SlotReport| {
            is_settled(slot)
                && slot.release.as_ref().is_some_and(|(_, digest)| *digest == next.digest)
        };
        coordinator.until_slot(&format!("round {round} settles"), slot, is_there).await;
        assert!(host.lines("hooks") <= round + 1, "a hook ran twice in round {round}");
        // One start a release, and all of it before the next one replaces it.
        host.until_lines("starts", round + 2).await;
        (last, in_blue) = (next, !in_blue);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn why_an_instance_is_not_found_again_is_told_until_it_is() {
    let coordinator = Coordinator::start().await;
    let mut host = Host::joined(&coordinator).await;
    let one = coordinator.release("1", &[("server", SERVER)]);
    coordinator.assign(1, running(&one), SlotGoal::Absent);
    let before = coordinator.until_slot("release 1 settles", Slot::Blue, is_settled).await;
    let instance = before.instance.as_ref().unwrap().instance.0.to_string();
    let state = host.data().join("instances/web").join(instance).join("state.json");
    let good = std::fs::read(&state).unwrap();

    host.kill_agent();
    std::fs::write(&state, &good[..good.len() / 2]).unwrap();
    host.start();
    let is_told = |slot: &SlotReport| slot.detail.contains("state.json");
    let told = coordinator.until_slot("the damage is told", Slot::Blue, is_told).await;
    assert!(told.detail.contains("looking for the instance"), "{}", told.detail);

    std::fs::write(&state, &good).unwrap();
    let after = coordinator.until_slot("it settles again", Slot::Blue, is_settled).await;
    assert_eq!((after.instance, after.detail.contains("state.json")), (before.instance, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn why_a_failed_start_cannot_be_undone_is_told_until_it_is() {
    let coordinator = Coordinator::start().await;
    let host = Host::joined(&coordinator).await;
    // A file where the folder of the application's instances should be.
    let in_the_way = host.data().join("instances/web");
    std::fs::create_dir_all(host.data().join("instances")).unwrap();
    std::fs::write(&in_the_way, "").unwrap();
    let one = coordinator.release("1", &[("server", SERVER)]);
    coordinator.assign(1, running(&one), SlotGoal::Absent);
    let is_told = |slot: &SlotReport| slot.detail.contains("could not undo the start so far");
    let told = coordinator.until_slot("the trouble is told", Slot::Blue, is_told).await;
    assert_eq!(told.phase, Phase::Starting);

    std::fs::remove_file(in_the_way).unwrap();
    let after = coordinator.until_slot("release 1 settles", Slot::Blue, is_settled).await;
    assert!(!is_told(&after), "{}", after.detail);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_hook_is_reported_and_not_run_again() {
    let coordinator = Coordinator::start().await;
    let mut host = Host::joined(&coordinator).await;
    let slow = "#!/bin/sh\necho $$ >> \"$DATA/hooks\"\nexec sleep 15\n";
    let one = release_with_hook(&coordinator, "1", slow);
    let two = release_with_hook(&coordinator, "2", HOOK);
    coordinator.assign(1, running(&one), SlotGoal::Absent);
    coordinator.until_slot("release 1 settles", Slot::Blue, is_settled).await;
    coordinator.assign(2, prepared(&one), running(&two));
    host.until_lines("hooks", 1).await;

    host.kill_agent();
    host.start();

    let report = coordinator.until("release 2 settles", |r| is_settled(&r.slots.green)).await;
    assert_eq!(report.slots.blue.phase, Phase::Prepared);
    assert!(report.slots.blue.detail.contains("interrupted"), "{}", report.slots.blue.detail);
    assert_eq!(host.lines("hooks"), 1);
}
