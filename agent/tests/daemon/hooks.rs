//! Hooks of real releases: in their order, once each, with what they say kept on the host; and
//! folders that stay from release to release.

use std::{collections::BTreeMap, fs, time::Duration};

use cutover_agent::process::stat::read_stat;
use cutover_common::{Health, Hook, HookKind, Phase, Release, Slot, SlotGoal};

use super::{
    coordinator::Coordinator,
    deploys::{SERVER, is_settled, prepared, running},
    host::{Host, is_alive},
};

/// Notes that it ran, and for which version.
const NOTES: &str = "#!/bin/sh\necho \"$VERSION $HOOK\" >> \"$DATA/hooks\"\necho said by $HOOK\n";

fn release(coordinator: &Coordinator, version: &str, scripts: &[(HookKind, &str)]) -> Release {
    let scripts: BTreeMap<HookKind, &str> = HookKind::ALL
        .map(|kind| (kind, NOTES))
        .into_iter()
        .chain(scripts.iter().copied())
        .collect();
    let named: Vec<(&str, &str)> =
        scripts.iter().map(|(kind, script)| (kind.name(), *script)).collect();
    let files: Vec<(&str, &str)> = named.iter().copied().chain([("server", SERVER)]).collect();
    let mut release = coordinator.release(version, &files);
    release.hooks = HookKind::ALL
        .into_iter()
        .map(|kind| Hook {
            kind,
            command: vec![format!("./{kind}")],
            within: Duration::from_secs(20),
            once: false,
        })
        .collect();
    release
}

fn noted(host: &Host) -> Vec<String> {
    let text = fs::read_to_string(host.shared().join("hooks")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_run_in_their_order_and_what_they_say_is_kept() {
    let coordinator = Coordinator::start().await;
    let host = Host::joined(&coordinator).await;
    let (one, two) = (release(&coordinator, "1", &[]), release(&coordinator, "2", &[]));

    coordinator.assign(1, running(&one), SlotGoal::Absent);
    coordinator.until_slot("release 1 settles", Slot::Blue, is_settled).await;
    coordinator.assign(2, prepared(&one), running(&two));
    coordinator.until_slot("release 2 settles", Slot::Green, is_settled).await;

    assert_eq!(
        noted(&host),
        [
            "1 install",
            "1 before_start",
            "1 after_start",
            "1 smoke",
            "2 install",
            "2 before_start",
            "1 before_stop",
            "1 after_stop",
            "2 after_start",
            "2 smoke",
        ]
    );
    for (slot, kind) in [("green", "smoke"), ("blue", "after_stop")] {
        let log = host.data().join(format!("logs/web/{slot}.{kind}.log"));
        assert_eq!(fs::read_to_string(log).unwrap(), format!("said by {kind}\n"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_fails_leaves_the_old_release_running_and_says_why() {
    let coordinator = Coordinator::start().await;
    let host = Host::joined(&coordinator).await;
    let one = release(&coordinator, "1", &[]);
    let fails = "#!/bin/sh\necho the schema is older than 7\nexit 3\n";
    let two = release(&coordinator, "2", &[(HookKind::BeforeStart, fails)]);
    coordinator.assign(1, running(&one), SlotGoal::Absent);
    let blue = coordinator.until_slot("release 1 settles", Slot::Blue, is_settled).await;

    coordinator.assign(2, prepared(&one), running(&two));
    let has_failed = |slot: &cutover_common::SlotReport| slot.phase == Phase::Failed;
    let green = coordinator.until_slot("release 2 fails", Slot::Green, has_failed).await;

    assert_eq!(
        green.detail,
        "its before_start hook failed: it exited with status 3; it said: the schema is older than \
         7 (all of it: cutover logs web --agent web-1 --hook before_start); not run again before \
         another goal"
    );
    assert!(is_alive(super::deploys::pid_of(&blue)));
    assert_eq!(noted(&host).last().map(String::as_str), Some("2 install"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_smoke_hook_that_the_agents_death_interrupted_is_ended_and_told() {
    let coordinator = Coordinator::start().await;
    let mut host = Host::joined(&coordinator).await;
    let slow = "#!/bin/sh\necho $$ >> \"$DATA/smoke\"\nexec sleep 1000\n";
    let one = release(&coordinator, "1", &[(HookKind::Smoke, slow)]);
    coordinator.assign(1, running(&one), SlotGoal::Absent);
    let pid = host.until_noted("smoke").await;
    assert!(is_alive(pid));

    host.kill_agent();
    host.start();

    let has_failed = |slot: &cutover_common::SlotReport| slot.phase == Phase::Failed;
    let blue = coordinator.until_slot("the hook is told", Slot::Blue, has_failed).await;
    assert_eq!(blue.health, Health::Failing);
    assert!(blue.detail.contains("its smoke hook was interrupted"), "{}", blue.detail);
    // Nobody may have reaped it yet.
    let left = read_stat(pid).unwrap().filter(|stat| !stat.is_ended());
    assert!(left.is_none(), "what it left behind is ended");
    let runs = fs::read_to_string(host.shared().join("smoke")).unwrap();
    assert_eq!(runs.lines().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn shared_folders_stay_from_release_to_release() {
    let coordinator = Coordinator::start().await;
    let host = Host::joined(&coordinator).await;
    let server =
        "#!/bin/sh\necho $VERSION >> uploads/seen\necho up >> \"$DATA/starts\"\nexec sleep 1000\n";
    let with_uploads = |version: &str| {
        let mut release = coordinator.release(version, &[("server", server)]);
        release.run.shared = vec!["uploads".to_owned(), "var/log".to_owned()];
        release.run.env.insert("VERSION".to_owned(), "$VERSION".to_owned());
        release
    };
    let (one, two) = (with_uploads("1"), with_uploads("2"));

    coordinator.assign(1, running(&one), SlotGoal::Absent);
    coordinator.until_slot("release 1 settles", Slot::Blue, is_settled).await;
    host.until_lines("starts", 1).await;
    coordinator.assign(2, prepared(&one), running(&two));
    coordinator.until_slot("release 2 settles", Slot::Green, is_settled).await;
    host.until_lines("starts", 2).await;

    let seen = fs::read_to_string(host.shared().join("uploads/seen")).unwrap();
    assert_eq!(seen, "1\n2\n");
    assert!(host.shared().join("var/log").is_dir());
}
