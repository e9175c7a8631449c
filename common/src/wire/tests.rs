//! What goes out comes in again; what is half said does not come in.

use std::{collections::BTreeMap, time::Duration};

use cutover_proto::v1 as pb;
use uuid::Uuid;

use super::*;
use crate::{
    Assignment, Health, Hook, HookKind, InstanceEvidence, InstanceId, Phase, ProbePort, ProbeSpec,
    ProbeTarget, Protocol, Release, ReleaseRef, Report, RunSpec, Service, Sha256, SlotGoal,
    SlotReport, Slots, StopSignal, Swap, Timers, Traffic,
};

fn release() -> Release {
    Release {
        name: ReleaseRef { application: "web".parse().unwrap(), version: "1.10".parse().unwrap() },
        digest: Sha256::of(b"tar"),
        size_bytes: 3,
        archive_digest: Sha256::of(b"zst"),
        archive_size_bytes: 4,
        run: RunSpec {
            command: vec!["./server".into(), "--port".into(), "$PORT".into()],
            env: BTreeMap::from([("LOG".into(), "info".into())]),
            stop_signal: StopSignal::Quit,
            stop_within: Duration::from_secs(30),
            shared: Vec::new(),
        },
        probe: Some(ProbeSpec {
            target: ProbeTarget::Http { port: ProbePort::Fixed(8080), path: "/healthz".into() },
            every: Duration::from_secs(2),
            timeout: Duration::from_secs(1),
            passes: 2,
            failures: 3,
            start_within: Duration::from_secs(60),
        }),
        hooks: vec![Hook {
            kind: HookKind::BeforeStop,
            command: vec!["./drain".into()],
            within: Duration::from_secs(9),
        }],
        service: Some(Service {
            port: 8080,
            protocol: Protocol::Tcp,
            swap: Swap::InPlace,
            drain: Duration::from_secs(30),
            drain_long_lived: Duration::from_secs(600),
            keep_warm: Duration::from_secs(5),
        }),
    }
}

fn assignment() -> Assignment {
    Assignment {
        application: "web".parse().unwrap(),
        fence: Fence { term: Term(2), generation: Generation(7) },
        slots: Slots { blue: SlotGoal::Prepared(release()), green: SlotGoal::Running(release()) },
        timers: Timers {
            healthy_for: Duration::from_secs(10),
            healthy_within: Duration::from_secs(60),
        },
        rollout: "r1".into(),
        peers: vec!["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
    }
}

#[test]
fn an_assignment_survives_the_wire() {
    let sent = assignment();

    assert_eq!(Assignment::try_from(pb::Assignment::from(sent.clone())), Ok(sent));
}

#[test]
fn a_report_survives_the_wire() {
    let sent = Report {
        application: "web".parse().unwrap(),
        fence: Fence { term: Term(2), generation: Generation(7) },
        slots: Slots {
            blue: SlotReport::default(),
            green: SlotReport {
                phase: Phase::Running,
                release: Some(("1.10".parse().unwrap(), Sha256::of(b"tar"))),
                health: Health::Settled,
                detail: "200 OK".into(),
                restarts: 3,
                instance: Some(InstanceEvidence {
                    instance: InstanceId(Uuid::from_u128(5)),
                    boot_id: "b".into(),
                    pid: 77,
                    start_ticks: 123_456,
                }),
                traffic: Traffic::Here,
            },
        },
        refused: Some(Fence { term: Term(3), generation: Generation(7) }),
    };

    assert_eq!(Report::try_from(pb::Report::from(sent.clone())), Ok(sent));
}

#[test]
fn an_absent_field_is_never_read_as_a_value() {
    let mut message = pb::Assignment::from(assignment());
    message.fence = None;
    assert_eq!(Assignment::try_from(message), Err(InvalidAssignment::Missing("fence")));

    let mut message = pb::Assignment::from(assignment());
    message.blue = None;
    assert_eq!(Assignment::try_from(message), Err(InvalidAssignment::Missing("blue")));

    // promises.md §4 row 5: a value of a newer version is refused, never skipped.
    let mut message = pb::Assignment::from(assignment());
    message.green.as_mut().unwrap().level = 99;
    assert_eq!(Assignment::try_from(message), Err(InvalidAssignment::UnknownLevel("green")));

    let message = pb::Report { application: "web".into(), ..pb::Report::default() };
    assert_eq!(Report::try_from(message), Err(InvalidReport::Missing("fence")));
}

#[test]
fn two_running_slots_or_a_foreign_release_are_refused() {
    let mut both = assignment();
    both.slots.blue = SlotGoal::Running(release());
    assert_eq!(Assignment::try_from(pb::Assignment::from(both)), Err(InvalidAssignment::BothRun));

    let mut foreign = assignment();
    foreign.application = "other".parse().unwrap();
    assert_eq!(
        Assignment::try_from(pb::Assignment::from(foreign)),
        Err(InvalidAssignment::ForeignRelease("blue"))
    );
}

#[test]
fn a_flood_of_text_or_entries_is_bounded() {
    let long = SlotReport { detail: "x".repeat(1_000_000), ..SlotReport::default() };
    let received = SlotReport::try_from(pb::SlotReport::from(long)).unwrap();
    assert_eq!(received.detail.len(), DETAIL_MAX);

    let mut message = pb::Assignment::from(assignment());
    let run = message.green.as_mut().unwrap().release.as_mut().unwrap().run.as_mut().unwrap();
    run.command = vec!["x".into(); REPEATED_MAX + 1];
    assert!(Assignment::try_from(message).is_err());
}
