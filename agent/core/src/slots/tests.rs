//! The table of slot decisions: every phase, goal, permission and other slot, one line each.

use std::{collections::BTreeMap, time::Duration};

use cutover_common::{
    Config, Hook, HookKind, InstanceEvidence, InstanceId, ReleaseRef, RunSpec, Sha256, StopSignal,
};
use uuid::Uuid;

use super::*;
use crate::{Ending, PrepareFailure, Retry};

fn release(version: &str) -> Arc<Release> {
    Arc::new(Release {
        name: ReleaseRef { application: "web".parse().unwrap(), version: version.parse().unwrap() },
        digest: Sha256::of(version.as_bytes()),
        size_bytes: 1,
        archive_digest: Sha256::of(version.as_bytes()),
        archive_size_bytes: 1,
        run: RunSpec {
            command: vec!["./server".to_owned()],
            env: BTreeMap::new(),
            stop_signal: StopSignal::Term,
            stop_within: Duration::from_secs(30),
            shared: Vec::new(),
        },
        probe: None,
        hooks: vec![Hook {
            kind: HookKind::BeforeStop,
            command: vec!["./drain".to_owned()],
            within: Duration::from_secs(5),
            once: false,
        }],
        checks: Vec::new(),
        service: None,
        config: Config::default(),
    })
}

fn instance(version: &str, life: Life) -> Instance {
    Instance {
        id: InstanceId(Uuid::nil()),
        release: release(version),
        life,
        port: None,
        restarts: 0,
    }
}

fn running() -> Life {
    let instance = InstanceId(Uuid::nil());
    let boot_id = "boot".to_owned();
    Life::Running { evidence: InstanceEvidence { instance, boot_id, pid: 1, start_ticks: 1 } }
}

fn ended() -> Life {
    Life::Ended { ending: Ending::Exited, detail: "exited".to_owned() }
}

/// The lives that an instance of release `a` can be in, by the letter of the table.
fn life_of(letter: char) -> Option<Life> {
    let over = HookProgress::Over { warning: String::new() };
    Some(match letter {
        '.' => return None,
        'S' => Life::Starting,
        'R' => running(),
        'E' => ended(),
        'H' => Life::Stopping { hook: HookProgress::Begun },
        'T' => Life::Stopping { hook: over },
        other => panic!("no life has the letter {other}"),
    })
}

fn goal_of(letter: char) -> SlotGoal {
    match letter {
        '-' => SlotGoal::Absent,
        'p' => SlotGoal::Prepared(release("a")),
        'r' => SlotGoal::Running(release("a")),
        'P' => SlotGoal::Prepared(release("b")),
        'N' => SlotGoal::Running(release("b")),
        other => panic!("no goal has the letter {other}"),
    }
}

/// Decides for a slot that holds release `a` prepared, or nothing where `prepared` is `.`.
fn decide_for(
    prepared: char,
    life: char,
    goal: char,
    other: &SlotState,
    other_goal: char,
    permission: Permission,
) -> Decision {
    let prepared = match prepared {
        '.' => None,
        letter => Some(release(&letter.to_string())),
    };
    let state = SlotState {
        prepared,
        instance: life_of(life).map(|life| instance("a", life)),
        hooks: Vec::new(),
    };
    decide(&SlotView {
        slot: Slot::Blue,
        goal: &goal_of(goal),
        state: &state,
        other_goal: &match other_goal {
            '-' => SlotGoal::Absent,
            _ => SlotGoal::Running(release("c")),
        },
        other_state: other,
        preparation: None,
        installed: &BTreeSet::new(),
        once: Once { duties: &[], runs: &[] },
        in_flight: None,
        hook_in_flight: None,
        health: Health::Unknown,
        retry_at: None,
        traffic: SlotTraffic::Ungated,
        generation: Generation(1),
        permission,
        now: Timestamp::default(),
    })
}

/// The other slot: empty, with release `c` prepared, or with an instance of it.
fn other_of(letter: char) -> SlotState {
    match letter {
        '.' => SlotState::default(),
        'p' => SlotState { prepared: Some(release("c")), instance: None, hooks: Vec::new() },
        'i' => SlotState {
            prepared: Some(release("c")),
            instance: Some(instance("c", running())),
            hooks: Vec::new(),
        },
        other => panic!("no other slot has the letter {other}"),
    }
}

/// prepared, life, goal, other slot's goal, other slot: the decision with and without a lease.
const TABLE: &[(&str, &str, &str)] = &[
    // Empty slots.
    (". . - - .", "rest", "rest"),
    ("a . - - .", "Forget", "Forget"),
    (". . p - .", "Prepare", "Prepare"),
    ("a . p - .", "rest", "rest"),
    ("a . P - .", "Prepare", "Prepare"),
    (". . r - .", "Prepare", "Prepare"),
    ("a . r - .", "Start", "Start"),
    ("a . r - p", "Start", "Start"),
    ("a . r - i", "ForOtherSlot", "ForOtherSlot"),
    ("a . p - i", "rest", "rest"),
    ("a . - - i", "Forget", "Forget"),
    (". . p - i", "Prepare", "Prepare"),
    (". . r - i", "Prepare", "Prepare"),
    // A start that the agent's death interrupted: it goes on whatever the goal.
    ("a S r - .", "ResumeStart", "ResumeStart"),
    ("a S - - .", "ResumeStart", "ResumeStart"),
    ("a S N - .", "Prepare", "Prepare"),
    // Running and wanted.
    ("a R r - .", "rest", "rest"),
    ("a R r - p", "rest", "rest"),
    // Running and not wanted: stopped with a lease, once what replaces it is ready.
    ("a R - - .", "Stop", "NoLease"),
    ("a R p - .", "Stop", "NoLease"),
    ("a R p w .", "ForReplacement", "ForReplacement"),
    ("a R p w p", "Stop", "NoLease"),
    ("a R - w p", "Stop", "NoLease"),
    ("a R P - .", "Prepare", "Prepare"),
    ("b R P - .", "Stop", "NoLease"),
    ("a R N - .", "Prepare", "Prepare"),
    ("b R N - .", "Stop", "NoLease"),
    // Ended: started again unless it may be given up at this moment.
    ("a E r - .", "Restart", "Restart"),
    ("a E - - .", "Abandon", "Restart"),
    ("a E p w .", "Restart", "Restart"),
    ("a E p w p", "Abandon", "Restart"),
    ("b E N - .", "Abandon", "Restart"),
    // Stopping: finished, lease or not; a hook is not run twice.
    ("a H r - .", "GiveUpHook", "GiveUpHook"),
    ("a H - - .", "GiveUpHook", "GiveUpHook"),
    ("a T r - .", "ResumeStop", "ResumeStop"),
    ("a T p w p", "ResumeStop", "ResumeStop"),
    ("b T N - .", "ResumeStop", "ResumeStop"),
];

fn shown(decision: &Decision) -> String {
    match decision {
        Decision::Rest => "rest".to_owned(),
        Decision::Do(step) => format!("{step:?}"),
        Decision::Wait(Waiting::ForPermission(permission)) => format!("{permission:?}"),
        Decision::Wait(waiting) => {
            let text = format!("{waiting:?}");
            text.split([' ', '(']).next().unwrap_or_default().to_owned()
        }
    }
}

fn decide_row(row: &str, permission: Permission) -> String {
    let letters: Vec<char> = row.chars().filter(|letter| *letter != ' ').collect();
    let [prepared, life, goal, other_goal, other] = letters[..] else { panic!("{row:?}") };
    shown(&decide_for(prepared, life, goal, &other_of(other), other_goal, permission))
}

#[test]
fn every_line_of_the_table_is_decided_as_written() {
    for (row, with_lease, without) in TABLE {
        assert_eq!(decide_row(row, Permission::Fresh), *with_lease, "{row:?} with a lease");
        assert_eq!(decide_row(row, Permission::NoLease), *without, "{row:?} without");
    }
}

#[test]
fn nothing_is_ended_without_permission_whatever_the_rest() {
    for prepared in "a.b".chars() {
        for life in ".SREHT".chars() {
            for goal in "-prPN".chars() {
                for (other_goal, other) in [('-', '.'), ('-', 'p'), ('w', '.'), ('w', 'p')] {
                    for permission in [Permission::NoLease, Permission::SplitBrain] {
                        let other = other_of(other);
                        let decision =
                            decide_for(prepared, life, goal, &other, other_goal, permission);
                        assert!(
                            !matches!(decision, Decision::Do(SlotStep::Stop | SlotStep::Abandon)),
                            "{prepared}{life}{goal}{other_goal} with {permission:?}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn what_is_in_flight_is_waited_for_but_preparing_goes_on() {
    let state =
        SlotState { prepared: None, instance: Some(instance("a", running())), hooks: Vec::new() };
    let empty = SlotState::default();
    let goal = SlotGoal::Prepared(release("b"));
    let view = SlotView {
        slot: Slot::Blue,
        goal: &goal,
        state: &state,
        other_goal: &SlotGoal::Absent,
        other_state: &empty,
        preparation: None,
        installed: &BTreeSet::new(),
        once: Once { duties: &[], runs: &[] },
        in_flight: Some(Work::Adopting),
        hook_in_flight: None,
        health: Health::Unknown,
        retry_at: None,
        traffic: SlotTraffic::Ungated,
        generation: Generation(1),
        permission: Permission::Fresh,
        now: Timestamp::default(),
    };
    assert_eq!(decide(&view), Decision::Do(SlotStep::Prepare));

    let begun = Preparation::InFlight { failures: 0 };
    let view = SlotView { preparation: Some(&begun), ..view };
    assert_eq!(decide(&view), Decision::Wait(Waiting::ForWork(Work::Adopting)));
}

#[test]
fn wrong_content_is_fetched_again_only_for_a_later_goal() {
    let failure = PrepareFailure { detail: "digest".to_owned(), retry: Retry::Never };
    let now = Timestamp::default();
    let failed = Preparation::failed(failure, 0, Generation(4), now, cutover_common::Jitter::NONE);

    assert!(!failed.is_due(now + Duration::from_secs(999), Generation(4)));
    assert!(failed.is_due(now, Generation(5)));
}

#[test]
fn an_instance_behind_the_gate_is_ended_only_when_nothing_is_under_way_there() {
    let until = Timestamp::from_unix_ms(1);
    let state = SlotState {
        prepared: Some(release("b")),
        instance: Some(instance("a", running())),
        hooks: Vec::new(),
    };
    let empty = SlotState::default();
    let shown_as = |goal: &SlotGoal, traffic, permission| {
        shown(&decide(&SlotView {
            slot: Slot::Blue,
            goal,
            state: &state,
            other_goal: &SlotGoal::Absent,
            other_state: &empty,
            preparation: None,
            installed: &BTreeSet::new(),
            once: Once { duties: &[], runs: &[] },
            in_flight: None,
            hook_in_flight: None,
            health: Health::Unknown,
            retry_at: None,
            traffic,
            generation: Generation(1),
            permission,
            now: Timestamp::default(),
        }))
    };
    let another = SlotGoal::Prepared(release("b"));
    let shown_for = |traffic, permission| shown_as(&another, traffic, permission);
    let warm = SlotTraffic::Warm { until };
    assert_eq!(shown_as(&SlotGoal::Absent, warm, Permission::Fresh), "ForWarmth");
    for (traffic, with_lease, without) in [
        (SlotTraffic::Ungated, "Stop", "NoLease"),
        (SlotTraffic::Led, "ForShift", "ForShift"),
        (SlotTraffic::Leaving, "ForDrain", "ForDrain"),
        (warm, "Stop", "NoLease"),
        (SlotTraffic::Replaced, "Stop", "NoLease"),
        (SlotTraffic::Out, "Stop", "Stop"),
    ] {
        assert_eq!(shown_for(traffic, Permission::Fresh), with_lease, "{traffic:?} with a lease");
        assert_eq!(shown_for(traffic, Permission::NoLease), without, "{traffic:?} without");
    }
}
