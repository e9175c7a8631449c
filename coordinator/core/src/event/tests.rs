//! The stored format. A log outlives the program that wrote it: a difference here means that
//! existing stores need a migration, or that the change must be made another way.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use cutover_common::{
    AgentName, Allow, Batches, Check, EnvironmentName, FreezeWindow, Generation, OncePart,
    ReleaseRef, SecretId, Slots, Term, Timers, Timestamp,
    check::{Limit, MetricQuestion, Question},
    manifest::{CutoverMode, Promotion},
};
use uuid::Uuid;

use super::{Change, Dequeued, Event, EventKind, RolloutQueued, RolloutStarted};
use crate::{
    Coordinator,
    config::{Sealed, Setting},
    enrolment::Role,
    fleet::GoalSlot,
    input::WithConfig,
    once::{OnceGoal, OnceStep},
    rollout::{
        Cause, Exclusion, Outcome, Plan, PlanStep, Spec, Strategy, Wave,
        spec::{BlueGreen, Canary, Groups, Unreachable, Unsure},
    },
    testing::{hash, labels, name, release, version},
};

/// One event of each kind, as every version since the first has written it, one a line.
const GOLDEN: &str = include_str!("../testdata/events.jsonl");

const ID: Uuid = Uuid::from_u128(0x1111_2222_3333_4444_5555_6666_7777_8888);

fn spec() -> Spec {
    Spec {
        strategy: Strategy::Rolling,
        batches: Batches::parse("1,5,20%").unwrap(),
        canary: None,
        blue_green: None,
        sliding: false,
        pause_after: None,
        zone: None,
        zone_soak: Duration::ZERO,
        min_healthy: 3,
        zone_min_healthy: None,
        zone_floors: BTreeMap::new(),
        max_load: None,
        max_failed: 1,
        max_unreachable: 2,
        unreachable: Unreachable::Skip,
        healthy_for: Duration::from_secs(10),
        healthy_within: Duration::from_secs(300),
        allowance: Duration::ZERO,
        progress_within: Duration::from_secs(600),
        soak: Duration::from_millis(1_500),
        bake: Duration::ZERO,
        auto_rollback: true,
    }
}

fn started() -> RolloutStarted {
    RolloutStarted {
        id: ID,
        request_id: ID,
        application: "web".parse().unwrap(),
        environment: "prod".parse().unwrap(),
        from: Some(version("1.0")),
        to: version("2.0"),
        spec: spec(),
        plan: Plan {
            waves: vec![Wave {
                agents: agents(),
                steps: vec![
                    PlanStep::Prepare,
                    PlanStep::Start,
                    PlanStep::Hold(Duration::from_millis(1_500)),
                ],
                zone: None,
                window: None,
            }],
            zones: Vec::new(),
        },
        by: "ann".to_owned(),
        converges: false,
        despite_freeze: String::new(),
    }
}

fn agents() -> Vec<AgentName> {
    vec![name("web-1"), name("web-2")]
}

fn changes() -> Vec<Change> {
    let (agent, agents) = (name("web-1"), agents());
    let (why, by) = ("a reason".to_owned(), "ann".to_owned());
    let failed = Cause::Failed { agent: agent.clone(), why: why.clone(), failed: 2, max_failed: 1 };
    let operator = Cause::Operator { by: by.clone(), reason: why.clone() };
    let ended = |outcome| Change::Ended { outcome, why: "a reason".to_owned() };
    let excluded = Exclusion::Operator { by: by.clone(), reason: why.clone() };
    let skipped = Exclusion::Skipped { by: by.clone(), reason: why.clone() };
    let drained = Exclusion::Drained { by: by.clone(), reason: why.clone() };
    vec![
        Change::StepStarted { wave: 0, step: 1 },
        Change::HostsReleased { agents: agents.clone() },
        Change::HostUpdated { agent: agent.clone() },
        Change::HostFailed { agent: agent.clone(), why: why.clone() },
        Change::HostUnreachable { agent: agent.clone(), why: why.clone() },
        Change::BakeStarted,
        Change::RollbackStarted { cause: failed, waves: vec![agents.clone()] },
        Change::RollbackStarted { cause: operator, waves: Vec::new() },
        Change::RollbackWave { wave: 1 },
        Change::HostsReverted { agents: agents.clone() },
        Change::HostReverted { agent: agent.clone() },
        Change::HostStuck { agent, why: why.clone() },
        Change::HostsWithdrawn { agents: agents.clone() },
        Change::Paused { by: by.clone(), reason: why.clone() },
        Change::Resumed { by: by.clone() },
        Change::Held { why },
        Change::Retried { by },
        ended(Outcome::Succeeded),
        ended(Outcome::RolledBack),
        ended(Outcome::Aborted),
        Change::HostsExcluded { agents: agents.clone(), cause: excluded },
        Change::HostsExcluded { agents: agents.clone(), cause: drained },
        Change::HostsExcluded { agents, cause: skipped },
    ]
}

fn goal_set(
    agent: AgentName,
    generation: u64,
    slots: Slots<GoalSlot>,
    timers: Timers,
) -> EventKind {
    EventKind::GoalSet {
        agent,
        application: "web".parse().unwrap(),
        generation: Generation(generation),
        slots,
        route: None,
        timers,
        rollout: ID,
        held: None,
        once: Vec::new(),
    }
}

/// Those that came last.
fn later(by: String, reason: String) -> Vec<EventKind> {
    let mut kinds = Vec::new();
    let change = Change::Promoted { by: by.clone(), reason: reason.clone(), full: true };
    kinds.push(EventKind::Rollout { id: ID, change, call: None });
    let environment: EnvironmentName = "production".parse().unwrap();
    let until = Some(Timestamp::from_unix_ms(5_678));
    let once = FreezeWindow::Once { from: Timestamp::from_unix_ms(1_234), until };
    let weekly = FreezeWindow::Weekly("fri 16:00..mon 08:00".parse().unwrap());
    for window in [once, weekly] {
        let (by, reason) = (by.clone(), reason.clone());
        let environment = environment.clone();
        kinds.push(EventKind::EnvironmentFrozen { environment, window, by, reason });
    }
    kinds.push(EventKind::EnvironmentThawed { environment: environment.clone(), by: by.clone() });
    let secret = Setting::Secret { id: SecretId(ID), sealed: Sealed([1, 0xab].into()) };
    kinds.push(EventKind::EnvironmentConfigured {
        environment: environment.clone(),
        application: None,
        set: [("LOG".parse().unwrap(), Setting::Plain("info".to_owned()))].into(),
        unset: ["DB".parse().unwrap()].into(),
        by: by.clone(),
    });
    kinds.push(EventKind::EnvironmentConfigured {
        environment: environment.clone(),
        application: Some("web".parse().unwrap()),
        set: [("DB_PASSWORD".parse().unwrap(), secret)].into(),
        unset: BTreeSet::new(),
        by: by.clone(),
    });
    let version = version("2.0").with_config(&environment, 2);
    let application = "web".parse().unwrap();
    kinds.push(EventKind::ReleaseConfigured { name: ReleaseRef { application, version } });
    kinds.extend(of_once_hooks(by.clone()));
    kinds.extend(of_queues(by, reason));
    kinds.extend(of_groups());
    kinds
}

/// What is written of groups of hosts.
fn of_groups() -> Vec<EventKind> {
    let mut groups = started();
    groups.spec.blue_green = Some(BlueGreen {
        cutover: CutoverMode::Strict,
        hold: Duration::from_secs(10),
        keep: Duration::from_secs(600),
        approve: false,
        until_smoke: false,
        groups: Some(Groups {
            label: "group".to_owned(),
            from: Some("blue".to_owned()),
            to: "green".to_owned(),
        }),
    });
    let group = "green".to_owned();
    let change = Change::GroupSwitched { group };
    vec![
        EventKind::RolloutStarted(Box::new(groups)),
        EventKind::Rollout { id: ID, change, call: None },
    ]
}

/// What is written of once hooks.
fn of_once_hooks(by: String) -> Vec<EventKind> {
    let timers =
        Timers { healthy_for: Duration::from_secs(10), healthy_within: Duration::from_secs(300) };
    let steps = [
        OnceStep::Given,
        OnceStep::Passed,
        OnceStep::Failed,
        OnceStep::Interrupted,
        OnceStep::Lost,
        OnceStep::Forgotten,
        OnceStep::Freed { by },
    ];
    let mut kinds: Vec<EventKind> = steps
        .into_iter()
        .map(|step| Change::Once { agent: name("web-1"), step })
        .map(|change| EventKind::Rollout { id: ID, change, call: None })
        .collect();
    for part in [OncePart::Awaited, OncePart::Run { permit: Generation(6) }] {
        let mut goal = goal_set(name("web-1"), 9, Slots::default(), timers);
        if let EventKind::GoalSet { once, .. } = &mut goal {
            *once = vec![OnceGoal { version: version("2.0"), part }];
        }
        kinds.push(goal);
    }
    kinds
}

/// What is written of queues.
fn of_queues(by: String, reason: String) -> Vec<EventKind> {
    let mut kinds = Vec::new();
    kinds.push(EventKind::RolloutQueued(Box::new(RolloutQueued {
        id: ID,
        request_id: ID,
        application: "web".parse().unwrap(),
        environment: "prod".parse().unwrap(),
        to: version("2.0"),
        with: WithConfig::Newest,
        settings: BTreeMap::from([("batch".to_owned(), "25%".to_owned())]),
        by: by.clone(),
        despite_freeze: String::new(),
    })));
    let ends = [
        Dequeued::Refused { why: reason.clone() },
        Dequeued::Aborted { by: by.clone(), reason },
        Dequeued::Superseded { by, rollout: ID },
    ];
    for how in ends {
        kinds.push(EventKind::RolloutDequeued { id: ID, how, call: None });
    }
    kinds
}

fn kinds() -> Vec<EventKind> {
    let (agent, by) = (name("web-1"), "ann".to_owned());
    let env = labels(&[("env", "prod")]);
    let slots = Slots {
        blue: GoalSlot::Prepared(version("1.0")),
        green: GoalSlot::Running(version("2.0")),
    };
    let timers =
        Timers { healthy_for: Duration::from_secs(10), healthy_within: Duration::from_secs(300) };
    let mut kinds = vec![
        EventKind::Started { term: Term(3), boot_nonce: ID },
        EventKind::Restored { term: Term(1_000_003) },
    ];
    for role in [Role::Viewer, Role::Deployer, Role::Approver, Role::Admin] {
        kinds.push(EventKind::OperatorCreated {
            name: by.clone(),
            role,
            token_hash: hash("token"),
        });
    }
    kinds.extend([
        EventKind::JoinTokenCreated {
            token_hash: hash("token"),
            name: Some(agent.clone()),
            labels: env.clone(),
            expires: Timestamp::from_unix_ms(5_000),
            by: by.clone(),
        },
        EventKind::AgentJoined {
            agent: agent.clone(),
            enrolment: ID,
            labels: env.clone(),
            token_hash: hash("token"),
            key_hash: hash("key"),
        },
        EventKind::AgentLabelled { agent: agent.clone(), labels: env.clone(), by: by.clone() },
        EventKind::AgentRemoved { agent: agent.clone(), by: by.clone() },
        EventKind::EnvironmentCreated {
            name: "prod".parse().unwrap(),
            select: env,
            by: by.clone(),
        },
        EventKind::ReleaseRegistered {
            release: Arc::new(release("2.0", "content")),
            manifest: "[application]\nname = \"web\"\n".to_owned(),
            by,
        },
        goal_set(agent, 7, slots.clone(), timers),
        goal_set(name("web-2"), 8, slots.map(|_, _| GoalSlot::Absent), timers),
        EventKind::RolloutStarted(Box::new(started())),
    ]);
    kinds.extend(changes().into_iter().map(|change| EventKind::Rollout {
        id: ID,
        change,
        call: None,
    }));
    let (agent, by, reason) = (name("web-1"), "ann".to_owned(), "a reason".to_owned());
    kinds.push(EventKind::AgentDrained {
        agent: agent.clone(),
        by: by.clone(),
        reason: reason.clone(),
    });
    kinds.push(EventKind::AgentUndrained { agent, by: by.clone(), reason: reason.clone() });
    kinds.extend(later(by, reason));
    kinds.extend(of_checks());
    kinds.push(EventKind::SecretsLost { secrets: [SecretId(ID)].into() });
    kinds.extend(of_canaries());
    kinds
}

/// What is written of checks.
fn of_checks() -> Vec<EventKind> {
    let (every, within) = (Duration::from_secs(30), Duration::from_secs(10));
    let check = |name: &str, question, failures| Check {
        name: name.parse().unwrap(),
        question,
        every,
        within,
        failures,
    };
    let metric = Question::Metric(MetricQuestion {
        source: "main".parse().unwrap(),
        query: "sum(errors{release=\"{{release}}\"})".parse().unwrap(),
        fail_above: Limit::new(0.1 + 0.2),
        fail_below: None,
    });
    let command = Question::Command(vec!["./checks/queue".to_owned(), "100".to_owned()]);
    let checks = vec![check("errors", metric, 2), check("queue", command, 3)];
    let mut release = release("2.0", "content");
    release.checks = checks.iter().filter_map(Check::command).collect();
    let mut started = started();
    started.spec.canary = Some(Canary {
        hosts: "1".parse().unwrap(),
        steps: "5%:5m".parse().unwrap(),
        promote: Promotion::Auto,
        unsure: Unsure::Wait,
        judge: None,
        checks,
        allow: None,
    });
    vec![
        EventKind::ReleaseRegistered {
            release: Arc::new(release),
            manifest: String::new(),
            by: "ann".to_owned(),
        },
        EventKind::RolloutStarted(Box::new(started)),
    ]
}

/// What is written of canaries that are reached on purpose: by a header as before there were
/// cookies, by a cookie, and by either.
fn of_canaries() -> Vec<EventKind> {
    let (header, cookie) = ("X-Canary=yes".parse().ok(), "canary=1".parse().ok());
    [Allow::of(header.clone(), None), Allow::of(None, cookie.clone()), Allow::of(header, cookie)]
        .map(|allow| {
            let mut started = started();
            started.spec.canary = Some(Canary {
                hosts: "1".parse().unwrap(),
                steps: "5%:5m".parse().unwrap(),
                promote: Promotion::Auto,
                unsure: Unsure::Wait,
                judge: None,
                checks: Vec::new(),
                allow,
            });
            EventKind::RolloutStarted(Box::new(started))
        })
        .into()
}

fn events() -> Vec<Event> {
    kinds().into_iter().map(|kind| Event { at: Timestamp::from_unix_ms(1_234), kind }).collect()
}

#[test]
fn every_kind_of_event_is_written_as_it_always_was() {
    let written: Vec<String> =
        events().iter().map(|event| serde_json::to_string(event).unwrap()).collect();

    for (number, (written, golden)) in written.iter().zip(GOLDEN.lines()).enumerate() {
        assert_eq!(written, golden, "line {} of testdata/events.jsonl", number + 1);
    }
    assert_eq!(written.len(), GOLDEN.lines().count(), "events.jsonl has another number of lines");
}

#[test]
fn every_kind_of_event_that_was_ever_written_is_read() {
    for (golden, event) in GOLDEN.lines().zip(events()) {
        let read: Event = serde_json::from_str(golden).unwrap();
        assert_eq!(read, event);
    }
}

#[test]
fn what_a_later_version_wrote_is_an_error_that_names_it() {
    let unknown = [
        r#"{"at":1,"kind":{"MoonLanded":{"by":"ann"}}}"#,
        r#"{"at":1,"kind":{"Rollout":{"id":"11112222-3333-4444-5555-666677778888","change":"Judged"}}}"#,
        r#"{"at":1,"kind":{"Rollout":{"id":"11112222-3333-4444-5555-666677778888","change":{"Judged":{}}}}}"#,
    ];

    for text in unknown {
        let error = serde_json::from_str::<Event>(text).unwrap_err().to_string();
        assert!(error.contains("unknown variant"), "{error}");
    }
    assert!(serde_json::from_str::<Event>("{}").is_err());
    assert!(serde_json::from_str::<Event>("").is_err());
}

#[test]
fn a_change_of_a_rollout_that_never_started_is_refused() {
    let mut core = Coordinator::default();
    let kind = EventKind::Rollout { id: ID, change: Change::BakeStarted, call: None };

    let refused = core.apply(&Event { at: Timestamp::from_unix_ms(1), kind });

    assert!(refused.is_err());
}
