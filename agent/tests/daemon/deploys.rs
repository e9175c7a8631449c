//! Releases are fetched, started, replaced in place, kept alive.

use cutover_common::{
    Health, Hook, HookKind, InstanceVitals, Phase, Release, SecretId, SecretValue, Slot, SlotGoal,
    SlotReport, wire::Secrets,
};
use rustix::process::{Pid, Signal, kill_process};
use uuid::Uuid;

use super::{
    coordinator::Coordinator,
    host::{Host, is_alive},
};

/// Lives until it is stopped, and notes each of its starts.
pub const SERVER: &str = "#!/bin/sh\necho $$ >> \"$DATA/starts\"\nexec sleep 1000\n";

/// The same, with two lines that say error.
const LOUD: &str =
    "#!/bin/sh\necho ERROR one\necho fine\necho level=error two >&2\nexec sleep 1000\n";

pub fn running(release: &Release) -> SlotGoal {
    SlotGoal::Running(release.clone().into())
}

pub fn prepared(release: &Release) -> SlotGoal {
    SlotGoal::Prepared(release.clone().into())
}

pub fn is_settled(slot: &SlotReport) -> bool {
    slot.health == Health::Settled
}

pub fn pid_of(slot: &SlotReport) -> u32 {
    slot.instance.as_ref().expect("an instance runs").pid
}

/// A release whose hook notes that it ran.
pub fn release_with_hook(coordinator: &Coordinator, version: &str, hook: &str) -> Release {
    let mut release = coordinator.release(version, &[("server", SERVER), ("hook", hook)]);
    release.hooks.push(Hook {
        kind: HookKind::BeforeStop,
        command: vec!["./hook".to_owned()],
        within: std::time::Duration::from_secs(20),
        once: false,
    });
    release
}

pub const HOOK: &str = "#!/bin/sh\necho $$ >> \"$DATA/hooks\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_started_replaced_in_place_and_brought_back() {
    let coordinator = Coordinator::start().await;
    let host = Host::joined(&coordinator).await;
    let one = release_with_hook(&coordinator, "1", HOOK);
    let two = release_with_hook(&coordinator, "2", HOOK);

    coordinator.assign(1, running(&one), SlotGoal::Absent);
    let blue = coordinator.until_slot("release 1 settles", Slot::Blue, is_settled).await;
    assert!(is_alive(pid_of(&blue)));
    host.until_lines("starts", 1).await;

    coordinator.assign(2, prepared(&one), running(&two));
    let green = coordinator.until_slot("release 2 settles", Slot::Green, is_settled).await;
    assert!(!is_alive(pid_of(&blue)), "the old one is gone");
    assert!(is_alive(pid_of(&green)));
    assert_eq!(host.lines("hooks"), 1);
    host.until_lines("starts", 2).await;

    coordinator.assign(3, running(&one), SlotGoal::Absent);
    let report = coordinator.until("release 1 is back", |r| is_settled(&r.slots.blue)).await;
    assert_eq!(report.slots.green.phase, Phase::Empty);
    assert!(!is_alive(pid_of(&green)));
    host.until_lines("starts", 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_fresh_permission_nothing_is_stopped() {
    let coordinator = Coordinator::start().await;
    // Before there is an agent, or its first heartbeat may be echoed.
    coordinator.echo(false);
    let _host = Host::joined(&coordinator).await;
    let one = coordinator.release("1", &[("server", SERVER)]);
    let two = coordinator.release("2", &[("server", SERVER)]);

    coordinator.assign(1, running(&one), SlotGoal::Absent);
    let blue = coordinator.until_slot("a first start needs no lease", Slot::Blue, is_settled).await;
    coordinator.assign(2, prepared(&one), running(&two));
    let waits = |slot: &SlotReport| slot.phase == Phase::Waiting;
    coordinator.until_slot("release 2 waits", Slot::Green, waits).await;
    assert!(is_alive(pid_of(&blue)));

    coordinator.echo(true);
    coordinator.until_slot("release 2 settles", Slot::Green, is_settled).await;
    assert!(!is_alive(pid_of(&blue)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_is_mended_while_the_coordinator_is_away_and_reported_after() {
    let coordinator = Coordinator::start().await;
    let host = Host::joined(&coordinator).await;
    let one = coordinator.release("1", &[("server", SERVER)]);
    coordinator.assign(1, running(&one), SlotGoal::Absent);
    let blue = coordinator.until_slot("release 1 settles", Slot::Blue, is_settled).await;
    host.until_lines("starts", 1).await;

    coordinator.go_away();
    let pid = i32::try_from(pid_of(&blue)).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    host.until_lines("starts", 2).await;
    coordinator.restart().await;

    let again = coordinator.until_slot("it is reported", Slot::Blue, is_settled).await;
    assert_eq!(again.restarts, 1);
    assert_ne!(pid_of(&again), pid_of(&blue));
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_tell_what_an_instance_needs_and_complains_of_before_and_after_a_crash() {
    let coordinator = Coordinator::start().await;
    let mut host = Host::joined(&coordinator).await;
    let one = coordinator.release("1", &[("server", LOUD)]);
    coordinator.assign(1, running(&one), SlotGoal::Absent);
    let blue = coordinator.until_slot("release 1 settles", Slot::Blue, is_settled).await;

    let is_measured = |it: &InstanceVitals| {
        it.error_lines == Some(2) && it.memory_bytes.is_some_and(|bytes| bytes > 100_000)
    };
    let told = coordinator.until_vitals("it is measured", is_measured).await;
    assert_eq!((told.application.as_str(), told.slot), ("web", Slot::Blue));
    let instance = blue.instance.unwrap().instance;
    assert_eq!(told.instance, instance);

    host.kill_agent();
    let hellos = coordinator.hellos();
    host.start();
    coordinator.until_hellos(hellos + 1).await;
    let told = coordinator.until_vitals("the next agent goes on", is_measured).await;
    assert_eq!(told.instance, instance);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_cannot_be_kept_fails_what_names_it_and_ends_no_session() {
    let coordinator = Coordinator::start().await;
    let host = Host::joined(&coordinator).await;
    let one = coordinator.release("1", &[("server", SERVER)]);
    coordinator.assign(1, running(&one), SlotGoal::Absent);
    let blue = coordinator.until_slot("release 1 settles", Slot::Blue, is_settled).await;

    let in_its_place = host.data().join("secrets");
    std::fs::write(&in_its_place, "no folder").unwrap();
    let (id, value) = (SecretId(Uuid::from_u128(1)), b"hunter2".to_vec());
    let mut two = coordinator.release("2", &[("server", SERVER)]);
    two.config.secrets.insert("DB_PASSWORD".parse().unwrap(), id);
    coordinator.send_secrets(&Secrets(vec![(id, SecretValue::new(value).unwrap())]));
    coordinator.assign(2, prepared(&one), running(&two));
    let failed = |slot: &SlotReport| slot.phase == Phase::Failed;
    let green = coordinator.until_slot("preparing fails", Slot::Green, failed).await;
    let why = "the value of the secret DB_PASSWORD could not be kept: could not write ";
    assert!(green.detail.contains(why), "{}", green.detail);
    assert!(is_alive(pid_of(&blue)));
    assert_eq!(coordinator.hellos(), 1, "it is the same session");

    std::fs::remove_file(&in_its_place).unwrap();
    coordinator.until_slot("release 2 settles", Slot::Green, is_settled).await;
    assert_eq!(coordinator.hellos(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_fetched_or_started_says_why_and_touches_nothing() {
    let coordinator = Coordinator::start().await;
    let _host = Host::joined(&coordinator).await;
    let one = coordinator.release("1", &[("server", SERVER)]);
    coordinator.assign(1, running(&one), SlotGoal::Absent);
    let blue = coordinator.until_slot("release 1 settles", Slot::Blue, is_settled).await;

    let mut missing = coordinator.release("2", &[("server", SERVER)]);
    missing.archive_digest = cutover_common::Sha256::of(b"another archive");
    coordinator.assign(2, prepared(&one), running(&missing));
    let failed = |slot: &SlotReport| slot.phase == Phase::Failed;
    let green = coordinator.until_slot("fetching fails", Slot::Green, failed).await;
    assert!(green.detail.contains("no such archive"), "{}", green.detail);
    assert!(is_alive(pid_of(&blue)));

    let mut no_program = coordinator.release("3", &[("server", SERVER)]);
    no_program.run.command = vec!["./not-there".to_owned()];
    coordinator.assign(3, prepared(&one), running(&no_program));
    let green = coordinator
        .until_slot("starting fails", Slot::Green, |slot| {
            failed(slot) && slot.detail.contains("not-there")
        })
        .await;
    assert_eq!(green.health, Health::Failing);

    coordinator.assign(4, running(&one), SlotGoal::Absent);
    coordinator.until_slot("the way back is open", Slot::Blue, is_settled).await;
}
