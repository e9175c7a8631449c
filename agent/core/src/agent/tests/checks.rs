//! Checks of canaries: run while a release is compared, for its instance, as often as it says, and
//! told with heartbeats.

use std::{sync::Arc, time::Duration};

use cutover_common::{
    CommandCheck, Compared, SlotGoal,
    check::{Answer, CanaryId},
};
use uuid::Uuid;

use super::world::{World, assignment, prepared, release, web};
use crate::{Action, Input};

fn checked(version: &str) -> SlotGoal {
    let mut release = release(version);
    Arc::make_mut(&mut release).checks = ["queue", "other"].map(check).to_vec();
    SlotGoal::Running(release)
}

fn check(name: &str) -> CommandCheck {
    CommandCheck {
        name: name.parse().unwrap(),
        command: vec!["./check".to_owned()],
        every: Duration::from_secs(20),
        within: Duration::from_secs(10),
    }
}

fn compared(attempt: u32) -> Compared {
    Compared {
        application: web(),
        version: "2".parse().unwrap(),
        canary: CanaryId { rollout: Uuid::from_u128(7), attempt },
        checks: vec!["queue".parse().unwrap()],
    }
}

/// A world whose agent runs release 2, which has checks.
fn running_checked() -> World {
    let mut world = World::with_blue_running();
    world.assign(assignment(2, prepared("1"), checked("2")));
    world.pass(30);
    world.trace.clear();
    world
}

#[test]
fn a_check_runs_while_its_release_is_compared_and_no_other_does() {
    let mut world = running_checked();
    world.pass(60);
    assert!(world.trace.is_empty(), "{:?}", world.trace);

    world.compared = vec![compared(1)];
    world.pass(55);
    assert_eq!(world.trace, ["check green queue"; 3]);
    let [told] = &world.checks[..] else { panic!("{:?}", world.checks) };
    assert_eq!((told.check.as_str(), told.answers, told.failing), ("queue", 3, 0));

    world.compared.clear();
    world.pass(5);
    world.trace.clear();
    world.pass(60);
    assert!(world.trace.is_empty(), "{:?}", world.trace);
    assert!(world.checks.is_empty());
}

#[test]
fn failures_in_a_row_are_counted_and_what_says_nothing_neither_counts_nor_breaks_the_row() {
    let mut world = running_checked();
    world.compared = vec![compared(1)];
    for (answer, failing) in [
        (Answer::Fail, 1),
        (Answer::NotEnough, 1),
        (Answer::Fail, 2),
        (Answer::Pass, 0),
        (Answer::Fail, 1),
    ] {
        world.answer = answer;
        world.pass(20);
        assert_eq!((world.checks[0].answer, world.checks[0].failing), (answer, failing));
    }
}

#[test]
fn another_comparison_and_another_process_begin_anew() {
    let mut world = running_checked();
    world.compared = vec![compared(1)];
    world.answer = Answer::Fail;
    world.pass(60);
    assert!(world.checks[0].failing >= 2);

    world.compared = vec![compared(2)];
    world.pass(12);
    assert_eq!((world.checks[0].canary.attempt, world.checks[0].answers), (2, 1));

    world.pass(60);
    world.crash();
    world.connect();
    world.pass(6);
    assert_eq!(world.checks[0].answers, 1);
}

#[test]
fn an_answer_to_another_comparison_counts_for_nothing() {
    let mut world = running_checked();
    world.compared = vec![compared(2)];
    world.pass(6);
    let canary = CanaryId { rollout: Uuid::from_u128(7), attempt: 1 };

    for _ in 0..3 {
        world.give(Input::Checked {
            application: web(),
            canary,
            check: check("queue"),
            answer: Answer::Fail,
            detail: String::new(),
        });
    }
    world.pass(6);

    assert_eq!(world.checks[0].failing, 0);
}

#[test]
fn without_a_lease_or_a_running_instance_nothing_is_run_and_nobody_is_woken_for_it() {
    let mut world = running_checked();
    world.compared = vec![compared(1)];
    world.pass(6);
    world.trace.clear();

    world.echoes = false;
    world.pass(120);
    assert!(world.trace.len() <= 1, "{:?}", world.trace);

    world.echoes = true;
    world.pass(6);
    world.assign(assignment(3, SlotGoal::Absent, SlotGoal::Absent));
    world.pass(30);
    world.trace.clear();
    world.pass(120);
    assert!(world.trace.is_empty(), "{:?}", world.trace);
}

#[test]
fn one_run_of_a_check_is_under_way_at_a_time() {
    let mut world = running_checked();
    world.compared = vec![compared(1)];
    let is_check = |action: &Action| matches!(action, Action::RunCheck { .. });
    let mut asked = 0;
    for _ in 0..60 {
        world.now = world.now + Duration::from_secs(1);
        world.give(Input::Tick);
        while let Some(action) = world.queue.pop_front() {
            if is_check(&action) {
                asked += 1;
            } else if let Some(answer) = world.perform(action) {
                world.give(answer);
            }
        }
    }

    assert_eq!(asked, 1);
}
