//! What goes out comes in again; what is half said does not come in.

use std::{collections::BTreeMap, time::Duration};

use cutover_proto::v1 as pb;
use uuid::Uuid;

use super::*;
use crate::{
    Allow, AllowCookie, AllowHeader, Assignment, CheckReport, CommandCheck, Compared, Config,
    ErrorChain, Health, HoldLimits, HoldState, Hook, HookKind, HostLoad, InstanceEvidence,
    InstanceId, InstanceVitals, LatencyBucket, Limits, OnceDuty, OncePart, OnceReport, OnceStand,
    Phase, ProbePort, ProbeSpec, ProbeTarget, Protocol, Release, ReleaseRef, Report, Route,
    RouteMode, RunSpec, SecretId, Service, Sha256, Slot, SlotCounts, SlotGoal, SlotReport, Slots,
    StopSignal, Swap, Timers, TlsFiles, Traffic,
    check::{ANSWER_CHARS_MAX, Answer, CanaryId},
    latency::NoSuchBucket,
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
            once: false,
        }],
        checks: vec![CommandCheck {
            name: "queue".parse().unwrap(),
            command: vec!["./checks/queue".into()],
            every: Duration::from_secs(30),
            within: Duration::from_secs(10),
        }],
        service: Some(Service {
            port: 8080,
            protocol: Protocol::Tcp,
            swap: Swap::InPlace,
            drain: Duration::from_secs(30),
            drain_long_lived: Duration::from_secs(600),
            keep_warm: Duration::from_secs(5),
            tls: Some(TlsFiles { certificate: "/c.pem".to_owned(), key: "/k.pem".to_owned() }),
            sticky: None,
            proxy_protocol: true,
            trusted_peers: vec!["10.0.0.1".parse().unwrap(), "fd00::/8".parse().unwrap()],
            limits: Limits {
                head_bytes: 8192,
                body_bytes: Some(1 << 20),
                head_within: Duration::from_secs(1),
                stall_within: Duration::from_secs(2),
                idle_within: Duration::from_secs(3),
                answer_within: Duration::from_secs(4),
                connections: 5,
            },
        }),
        config: Config {
            env: [("LOG".parse().unwrap(), "debug $x".to_owned())].into(),
            secrets: [("DB_PASSWORD".parse().unwrap(), SecretId(Uuid::from_u128(7)))].into(),
        },
    }
}

fn assignment() -> Assignment {
    Assignment {
        application: "web".parse().unwrap(),
        fence: Fence { term: Term(2), generation: Generation(7) },
        slots: Slots {
            blue: SlotGoal::Prepared(release().into()),
            green: SlotGoal::Running(release().into()),
        },
        timers: Timers {
            healthy_for: Duration::from_secs(10),
            healthy_within: Duration::from_secs(60),
        },
        rollout: "r1".into(),
        peers: vec!["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
        route: None,
        once: Vec::new(),
    }
}

fn route(mode: RouteMode) -> Route {
    let allow = Allow::of("X-Canary=yes".parse().ok(), "canary=1".parse().ok());
    Route { to: Slot::Blue, share: 125_u32.try_into().unwrap(), allow, mode }
}

const LIMITS: HoldLimits =
    HoldLimits { within: Duration::from_secs(10), requests: 1_000, bytes: 1 << 20 };

#[test]
fn an_assignment_survives_the_wire() {
    let sent = assignment();

    assert_eq!(Assignment::try_from(pb::Assignment::from(sent.clone())), Ok(sent));
}

#[test]
fn a_goal_with_a_route_survives_the_wire_and_both_its_slots_may_run() {
    let running = || SlotGoal::Running(release().into());
    for mode in [RouteMode::Open, RouteMode::Hold(LIMITS), RouteMode::Armed(LIMITS)] {
        let slots = Slots { blue: running(), green: running() };
        let sent = Assignment { slots, route: Some(route(mode)), ..assignment() };

        assert_eq!(Assignment::try_from(pb::Assignment::from(sent.clone())), Ok(sent));
    }
}

#[test]
fn a_header_a_cookie_and_both_survive_the_wire() {
    let (header, cookie) = ("X-Canary=yes".parse().unwrap(), "canary=1".parse().unwrap());
    for allow in [
        Allow::Header(AllowHeader::clone(&header)),
        Allow::Cookie(AllowCookie::clone(&cookie)),
        Allow::Either(header, cookie),
    ] {
        assert_eq!(Allow::try_from(pb::RouteAllow::from(allow.clone())), Ok(allow));
    }

    let before =
        pb::RouteAllow { header: "X-Canary".to_owned(), value: "yes".to_owned(), cookie: None };
    assert_eq!(pb::RouteAllow::from(Allow::Header("X-Canary=yes".parse().unwrap())), before);
}

#[test]
fn a_route_is_judged_where_it_arrives() {
    let told = |change: fn(&mut pb::Route)| {
        let mut message = pb::Route::from(route(RouteMode::Hold(LIMITS)));
        change(&mut message);
        match Route::try_from(message) {
            Ok(route) => format!("{:?} {:?}", route.to, route.share),
            Err(error) => ErrorChain(&error).to_string(),
        }
    };

    insta::assert_snapshot!(
        [
            told(|_| ()),
            told(|it| it.to.clear()),
            told(|it| it.to = "Blue".to_owned()),
            told(|it| it.share = 1_000),
            told(|it| it.share = 1_001),
            told(|it| it.share = u32::MAX),
            told(|it| it.mode = 0),
            told(|it| it.mode = 99),
            told(|it| it.hold = None),
            told(|it| it.set_mode(pb::route::Mode::Open)),
            told(|it| it.hold.as_mut().unwrap().within_ms = 0),
            told(|it| it.hold.as_mut().unwrap().within_ms = u64::MAX),
            told(|it| it.hold.as_mut().unwrap().requests = u32::MAX),
            told(|it| it.hold.as_mut().unwrap().bytes = u64::MAX),
        ]
        .join("\n"),
        @r#"
    Blue Permille(125)
    field `to` names no slot
    field `to` names no slot
    Blue Permille(1000)
    field `share` is invalid: 1001 is no share of a thousand; 0 to 1000 are allowed
    field `share` is invalid: 4294967295 is no share of a thousand; 0 to 1000 are allowed
    field `mode` has a value that this version does not know
    field `mode` has a value that this version does not know
    field `hold` is missing
    field `hold` is set, and the route is open
    field `hold.within` is out of range
    field `hold.within` is out of range
    field `hold.requests` is out of range
    field `hold.bytes` is out of range
    "#
    );
}

#[test]
fn what_lets_requests_through_is_judged_where_it_arrives() {
    fn cookie(message: &mut pb::RouteAllow) -> &mut pb::RouteCookie {
        message.cookie.as_mut().unwrap()
    }
    let told = |change: fn(&mut pb::RouteAllow)| {
        let mut message = pb::Route::from(route(RouteMode::Open));
        change(message.allow.as_mut().unwrap());
        ErrorChain(&Route::try_from(message).unwrap_err()).to_string()
    };

    insta::assert_snapshot!(
        [
            told(|it| it.header = "Host".to_owned()),
            told(|it| it.header = "a b".to_owned()),
            told(|it| it.value.clear()),
            told(|it| it.value = "a\r\nb: c".to_owned()),
            told(|it| it.value = "x".repeat(129)),
            told(|it| it.header.clear()),
            told(|it| *it = pb::RouteAllow::default()),
            told(|it| cookie(it).name.clear()),
            told(|it| cookie(it).name = "a;b".to_owned()),
            told(|it| cookie(it).name = "n".repeat(65)),
            told(|it| cookie(it).value.clear()),
            told(|it| cookie(it).value = "1; stay=2".to_owned()),
            told(|it| cookie(it).value = "x".repeat(129)),
        ]
        .join("\n"),
        @r#"
    field `allow` is invalid: the gate cannot look at it: header "Host" belongs to the connection or to the gate
    field `allow` is invalid: the gate cannot look at it: "a b" is no name of 1 to 64 letters, digits, hyphens, underscores
    field `allow` is invalid: its value is no text of 1 to 128 visible characters
    field `allow` is invalid: its value is no text of 1 to 128 visible characters
    field `allow` is invalid: its value is no text of 1 to 128 visible characters
    field `allow` is invalid: the gate cannot look at it: "" is no name of 1 to 64 letters, digits, hyphens, underscores
    field `allow` is invalid: it names neither a header nor a cookie
    field `allow` is invalid: "" is no cookie's name of 1 to 64 letters, digits and !#$%&'*+-.^_`|~
    field `allow` is invalid: "a;b" is no cookie's name of 1 to 64 letters, digits and !#$%&'*+-.^_`|~
    field `allow` is invalid: "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn" is no cookie's name of 1 to 64 letters, digits and !#$%&'*+-.^_`|~
    field `allow` is invalid: its value is no text of 1 to 128 visible characters without quotes, commas, semicolons and backslashes
    field `allow` is invalid: its value is no text of 1 to 128 visible characters without quotes, commas, semicolons and backslashes
    field `allow` is invalid: its value is no text of 1 to 128 visible characters without quotes, commas, semicolons and backslashes
    "#
    );
}

#[test]
fn two_goals_that_differ_in_their_route_ask_for_different_things() {
    let one = Assignment { route: Some(route(RouteMode::Hold(LIMITS))), ..assignment() };
    let other = Assignment { route: Some(route(RouteMode::Armed(LIMITS))), ..assignment() };

    assert!(one.asks_the_same_as(&one.clone()));
    assert!(!one.asks_the_same_as(&other) && !one.asks_the_same_as(&assignment()));
}

#[test]
fn a_service_is_judged_again_where_it_arrives() {
    let http = Service { protocol: Protocol::Http, ..release().service.unwrap() };
    let told = |change: fn(&mut pb::Service)| {
        let mut message = pb::Service::from(http.clone());
        change(&mut message);
        match Service::try_from(message) {
            Ok(service) => format!("{:?}", service.sticky),
            Err(error) => ErrorChain(&error).to_string(),
        }
    };

    insta::assert_snapshot!(
        [
            told(|it| it.sticky = Some(pb::service::Sticky::Cookie("route".into()))),
            told(|it| it.sticky = Some(pb::service::Sticky::Header("X-Session".into()))),
            told(|it| it.sticky = Some(pb::service::Sticky::Header("Host".into()))),
            told(|it| it.sticky = Some(pb::service::Sticky::Cookie("a;b".into()))),
            told(|it| {
                it.set_protocol(pb::service::Protocol::Tcp);
                it.sticky = Some(pb::service::Sticky::Cookie("route".into()));
            }),
            told(|it| it.tls.as_mut().unwrap().key = "web.key".into()),
            told(|it| it.tls.as_mut().unwrap().certificate = format!("/{}", "x".repeat(5000))),
            told(|it| it.trusted_peers.clear()),
            told(|it| it.trusted_peers[0] = "10.0.0.1/8".into()),
            told(|it| it.trusted_peers = vec!["10.0.0.1".into(); 257]),
            told(|it| it.limits.as_mut().unwrap().head_bytes = 1),
            told(|it| it.limits.as_mut().unwrap().body_bytes = Some(u64::MAX)),
            told(|it| it.limits.as_mut().unwrap().idle_within_ms = 0),
            told(|it| it.limits.as_mut().unwrap().connections = 0),
        ]
        .join("\n"),
        @r#"
    Some(Cookie("route"))
    Some(Header("X-Session"))
    field `service.sticky` is invalid: header "Host" belongs to the connection or to the gate
    field `service.sticky` is invalid: "a;b" is no name of 1 to 64 letters, digits, hyphens, underscores
    field `service.sticky` is only for HTTP
    field `service.tls.key` is invalid: no absolute path of a file
    field `service.tls.certificate` is invalid: 5001 bytes long; paths have at most 4095
    field `service.trusted_peers` is empty, and nobody could connect
    field `service.trusted_peers` has "10.0.0.1/8", which is neither an address nor a network
    field `service.trusted_peers` is out of range
    field `service.limits.head_bytes` is out of range
    field `service.limits.body_bytes` is out of range
    field `service.limits.idle_within` is out of range
    field `service.limits.connections` is out of range
    "#
    );
    let bare = pb::Service { limits: None, ..http.into() };
    assert_eq!(Service::try_from(bare).unwrap().limits, Limits::default());
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
        outage: Some(Duration::from_millis(1_250)),
        hold: HoldState::Drained,
        once: Vec::new(),
    };

    for hold in [HoldState::Open, HoldState::Holding, HoldState::Drained] {
        let sent = Report { hold, ..sent.clone() };
        assert_eq!(Report::try_from(pb::Report::from(sent.clone())), Ok(sent));
    }
    let of_tomorrow = pb::Report { hold: 99, ..sent.into() };
    assert_eq!(Report::try_from(of_tomorrow).unwrap().hold, HoldState::Open);
}

#[test]
fn once_hooks_survive_the_wire_and_an_agent_that_knows_none_refuses_their_release() {
    let mut once = release();
    once.hooks[0].kind = HookKind::BeforeStart;
    once.hooks[0].once = true;
    let message = pb::Release::from(once.clone());
    assert_eq!(Release::try_from(message.clone()), Ok(once));
    // As `BEFORE_START` it would be run on every host by whoever does not know `once`.
    assert_ne!(message.hooks[0].kind(), pb::HookKind::BeforeStart);

    for part in [OncePart::Awaited, OncePart::Run { permit: Generation(6) }] {
        let duty = OnceDuty { release: Sha256::of(b"tar"), part };
        let sent = Assignment { once: vec![duty], ..assignment() };
        assert!(!sent.asks_the_same_as(&assignment()));
        assert_eq!(Assignment::try_from(pb::Assignment::from(sent.clone())), Ok(sent));
    }
    for stand in [OnceStand::Running, OnceStand::Passed, OnceStand::Failed, OnceStand::Interrupted]
    {
        let said = OnceReport { release: Sha256::of(b"tar"), permit: Generation(6), stand };
        assert_eq!(OnceReport::try_from(pb::OnceReport::from(said)), Ok(said));
        let of_tomorrow = pb::OnceReport { stand: 99, ..said.into() };
        let refused = InvalidReport::Unknown("once.stand");
        assert_eq!(OnceReport::try_from(of_tomorrow), Err(refused));
    }
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
    both.slots.blue = SlotGoal::Running(release().into());
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

fn counts() -> SlotCounts {
    let taken = [(0, 1), (900, 20), (5_000, 3), (u64::MAX, 1)];
    let latency = taken.map(|(micros, answers)| (LatencyBucket::of_us(micros), answers));
    SlotCounts {
        application: "web".parse().unwrap(),
        slot: Slot::Green,
        gate: "gate".to_owned(),
        requests_in_flight: 1,
        long_lived: 2,
        requests: 26,
        statuses: [0, 20, 0, 4, 1],
        connect_errors: 5,
        resets: 6,
        retries: 7,
        bytes_in: 8,
        bytes_out: 9,
        latency: latency.into_iter().collect(),
    }
}

#[test]
fn counts_survive_the_wire_and_only_buckets_that_hold_something_are_sent() {
    let message = pb::SlotCounts::from(counts());
    assert_eq!(message.latency.len(), 4);
    assert_eq!(SlotCounts::try_from(message), Ok(counts()));
}

#[test]
fn buckets_of_latency_are_judged_where_they_arrive() {
    let judged = |places: &[u32]| {
        let latency =
            places.iter().map(|&bucket| pb::LatencyCount { bucket, answers: 1 }).collect();
        SlotCounts::try_from(pb::SlotCounts { latency, ..counts().into() }).err()
    };
    let refused = |error| Some(InvalidSessionMessage::Latency(error));

    assert_eq!(judged(&[0, 7, 201]), None);
    assert_eq!(judged(&[202]), refused(NoSuchBucket(202).into()));
    assert_eq!(judged(&[7, 7]), refused(InvalidLatency::OutOfOrder(7)));
    assert_eq!(judged(&[7, 0]), refused(InvalidLatency::OutOfOrder(0)));
    let all: Vec<u32> = (0..202).collect();
    assert_eq!(judged(&all), None);
}

fn vitals() -> InstanceVitals {
    InstanceVitals {
        application: "web".parse().unwrap(),
        slot: Slot::Green,
        instance: InstanceId(Uuid::from_u128(7)),
        memory_bytes: Some(InstanceVitals::MEMORY_BYTES_MAX),
        error_lines: Some(0),
    }
}

#[test]
fn vitals_survive_the_wire_and_what_is_unknown_is_no_zero() {
    let unknown = InstanceVitals { memory_bytes: None, error_lines: None, ..vitals() };
    for vitals in [vitals(), unknown] {
        let message = pb::InstanceVitals::from(vitals.clone());
        assert_eq!(InstanceVitals::try_from(message), Ok(vitals));
    }
}

#[test]
fn vitals_that_no_instance_can_have_are_refused() {
    let judged = |change: fn(&mut pb::InstanceVitals)| {
        let mut message = pb::InstanceVitals::from(vitals());
        change(&mut message);
        InstanceVitals::try_from(message).unwrap_err()
    };
    let more = |it: &mut pb::InstanceVitals| it.memory_bytes = Some((1 << 52) + 1);
    assert_eq!(judged(more), InvalidSessionMessage::Memory);
    let nobody = |it: &mut pb::InstanceVitals| it.instance.clear();
    assert_eq!(judged(nobody), InvalidSessionMessage::Uuid("vitals.instance"));
    let nowhere = |it: &mut pb::InstanceVitals| it.slot = "red".into();
    assert_eq!(judged(nowhere), InvalidSessionMessage::Missing("vitals.slot"));
    let unnamed = |it: &mut pb::InstanceVitals| it.application = "Web Shop".into();
    assert!(matches!(judged(unnamed), InvalidSessionMessage::Application("vitals.application", _)));

    let beat = Heartbeat {
        nonce: Uuid::nil(),
        load: HostLoad::default(),
        counts: Vec::new(),
        vitals: vec![vitals(); REPEATED_MAX + 1],
        reports: Vec::new(),
        edge: None,
        checks: Vec::new(),
    };
    assert!(Heartbeat::try_from(pb::Heartbeat::from(beat)).is_err());
}

#[test]
fn what_is_compared_and_how_its_checks_stand_survive_the_wire() {
    let canary = CanaryId { rollout: Uuid::from_u128(7), attempt: 2 };
    let echo = Echo {
        nonce: Uuid::from_u128(1),
        compared: vec![Compared {
            application: "web".parse().unwrap(),
            version: "2.0~production.3".parse().unwrap(),
            canary,
            checks: vec!["queue".parse().unwrap()],
        }],
    };
    let report = check_report(canary);

    assert_eq!(Echo::try_from(pb::HeartbeatEcho::from(echo.clone())), Ok(echo));
    assert_eq!(CheckReport::try_from(pb::CheckReport::from(report.clone())), Ok(report));
}

fn check_report(canary: CanaryId) -> CheckReport {
    CheckReport {
        application: "web".parse().unwrap(),
        canary,
        check: "queue".parse().unwrap(),
        answers: 3,
        failing: 2,
        answer: Answer::Fail,
        detail: "it exited with status 1".to_owned(),
    }
}

#[test]
fn checks_that_no_agent_can_have_run_are_refused_or_made_possible() {
    let canary = CanaryId { rollout: Uuid::from_u128(7), attempt: 2 };
    let sent = || pb::CheckReport::from(check_report(canary));

    let unnamed = pb::CheckReport { check: "No Name".to_owned(), ..sent() };
    assert!(CheckReport::try_from(unnamed).is_err());
    let mute = pb::CheckReport { answer: 0, ..sent() };
    assert_eq!(CheckReport::try_from(mute), Err(InvalidSessionMessage::Answer));
    let many = pb::CheckReport { failing: 9, detail: "x".repeat(5_000), ..sent() };
    let many = CheckReport::try_from(many).unwrap();
    assert_eq!((many.failing, many.detail.len()), (3, ANSWER_CHARS_MAX));
    let mut twice = pb::Release::from(release());
    twice.checks.push(twice.checks[0].clone());
    assert_eq!(Release::try_from(twice), Err(InvalidRelease::Checks));
    let mut busy = pb::Release::from(release());
    busy.checks[0].every_ms = 10;
    assert_eq!(Release::try_from(busy), Err(InvalidRelease::OutOfRange("checks.every")));
}
