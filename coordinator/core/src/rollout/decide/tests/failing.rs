//! Budgets for failed hosts, and the timers.

use cutover_common::{Health, Phase};

use crate::{
    rollout::HostState,
    testing::{Story, seconds},
};

#[test]
fn one_failed_host_more_than_the_budget_turns_back() {
    let mut story = Story::running(4);
    story.deploy("2.0", &[("batch", "2"), ("max_failed", "1"), ("min_healthy", "0")]);
    story.obey_all();

    story.fail("web-1", "2.0");
    assert_eq!(story.state_word(), "advancing");
    assert_eq!(story.hosts("failed"), "web-1");

    story.fail("web-2", "2.0");
    assert_eq!(story.state_word(), "rolling_back");
    assert_eq!(story.hosts("pending"), "web-3 web-4", "no second batch (A4)");
}

#[test]
fn failed_hosts_within_the_budget_are_named_at_the_end() {
    let mut story = Story::running(4);
    story.deploy("2.0", &[("batch", "2"), ("max_failed", "1"), ("min_healthy", "0")]);
    story.obey_all();
    story.fail("web-1", "2.0");
    for _ in 0..4 {
        for agent in ["web-2", "web-3", "web-4"] {
            story.obey(agent);
        }
    }

    insta::assert_snapshot!(story.why(), @"Succeeded: 3 of 4 hosts run 2.0 in health; left out within the budgets: web-1.");
}

/// AWS CodeDeploy, "Predefined deployment configurations": with `OneAtATime` the last instance may fail,
/// and the deployment has succeeded all the same. Here a host is a host, and the budget is the only
/// exception.
#[test]
fn the_last_host_that_fails_is_a_failure_like_the_first() {
    let mut story = Story::running(3);
    story.deploy("2.0", &[("batch", "1")]);
    story.obey_all();
    story.obey("web-1");
    story.obey("web-2");
    assert_eq!(
        (story.hosts("updated"), story.hosts("updating")),
        ("web-1 web-2".into(), "web-3".into())
    );

    story.fail("web-3", "2.0");

    assert_eq!(story.state_word(), "rolling_back");
}

#[test]
fn with_auto_rollback_off_a_failed_host_holds_the_rollout_for_a_person() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[("batch", "1"), ("auto_rollback", "off")]);
    story.obey_all();

    story.fail("web-1", "2.0");

    assert_eq!(story.state_word(), "held");
    assert_eq!(story.told("web-1").as_deref(), Some("2.0"), "nothing is touched");
}

#[test]
fn one_crash_is_borne_and_a_habit_is_not() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[("batch", "1")]);
    story.obey_all();

    let once = story.slot_as("web-1", "2.0", |slot| {
        slot.health = Health::Failing;
        slot.restarts = 1;
    });
    story.say("web-1", once);
    assert!(matches!(story.host("web-1"), HostState::Updating { .. }));

    story.fail("web-1", "2.0");
    assert_eq!(story.state_word(), "rolling_back");
}

#[test]
fn a_release_that_cannot_be_brought_to_disk_stops_the_rollout_before_a_host_is_disturbed() {
    let mut story = Story::running(4);
    story.deploy("2.0", &[("batch", "1")]);

    let full = story.slot_as("web-4", "2.0", |slot| {
        slot.phase = Phase::Failed;
        "the disk is full".clone_into(&mut slot.detail);
    });
    story.say("web-4", full);

    assert_eq!(story.state_word(), "rolled_back");
    assert_eq!(story.told("web-1").as_deref(), Some("1.0"));
    assert!(story.why().contains("the disk is full"), "{}", story.why());
}

#[test]
fn a_host_that_is_not_healthy_within_its_time_failed() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[("batch", "1"), ("healthy_within", "60s")]);
    story.obey_all();
    story.report("web-1", "2.0", Phase::Starting, Health::Unknown);

    // The agent's own word is waited for a little longer.
    story.pass(seconds(74));
    assert_eq!(story.hosts("updating"), "web-1");
    story.pass(seconds(1));

    assert_eq!(story.state_word(), "rolling_back");
    assert!(story.why().contains("not healthy within 1m"), "{}", story.why());
}

#[test]
fn an_agent_that_says_so_itself_is_believed_when_the_time_is_over() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[("batch", "1"), ("healthy_within", "60s")]);
    story.obey_all();
    let failing = story.slot_as("web-1", "2.0", |slot| {
        slot.health = Health::Failing;
        "not healthy within 1m: 503".clone_into(&mut slot.detail);
    });
    story.say("web-1", failing);

    story.pass(seconds(59));
    assert_eq!(story.hosts("updating"), "web-1");
    story.pass(seconds(1));

    assert_eq!(story.state_word(), "rolling_back");
    assert!(story.why().contains("not healthy within 1m: 503"), "{}", story.why());
}

#[test]
fn a_slow_start_is_no_standstill_even_when_both_times_are_equal() {
    let mut story = Story::running(2);
    let times = [("batch", "1"), ("healthy_within", "5m"), ("progress_within", "5m")];
    story.deploy("2.0", &times);
    story.obey_all();
    story.report("web-1", "2.0", Phase::Starting, Health::Unknown);

    story.pass(seconds(310));
    assert_eq!(story.state_word(), "advancing");
    story.pass(seconds(5));

    assert_eq!(story.state_word(), "rolling_back", "{}", story.why());
}

#[test]
fn a_standstill_holds_the_rollout() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[("batch", "1"), ("progress_within", "10m")]);
    story.report("web-1", "2.0", Phase::Preparing, Health::Unknown);

    story.pass(seconds(599));
    assert_eq!(story.state_word(), "advancing");
    story.pass(seconds(1));

    assert_eq!(story.state_word(), "held");
    insta::assert_snapshot!(story.why(), @"Held for a person just now: nothing went forward for 10m: web-1 did not get 2.0 onto disk. 0 of 2 hosts run 2.0.");
}

#[test]
fn what_goes_forward_puts_the_standstill_off() {
    let mut story = Story::running(3);
    story.deploy("2.0", &[("batch", "1"), ("progress_within", "10m")]);
    story.pass(seconds(500));
    story.obey_all();
    story.obey("web-1");

    story.report("web-2", "2.0", Phase::Starting, Health::Unknown);
    story.pass(seconds(250));

    assert_eq!(story.state_word(), "advancing", "{}", story.why());
}

#[test]
fn a_late_host_is_judged_in_time_whatever_else_the_rollout_waits_for() {
    let mut story = Story::running(4);
    story.deploy("2.0", &[("batch", "4"), ("min_healthy", "3"), ("healthy_within", "62s")]);
    story.obey_all();
    let HostState::Updating { since } = *story.host("web-1") else { panic!("{}", story.why()) };
    let due = since + seconds(62 + 15);
    story.pass(seconds(62 + 14));

    // The others wait for the floor, the next beat is seconds away, and so is any silence.
    assert_eq!(story.core.next_wake(), Some(due));

    story.pass_in_silence(seconds(1));
    assert_eq!(story.state_word(), "rolling_back");
}

#[test]
fn a_host_that_was_away_is_judged_in_time_after_its_return() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[("batch", "1"), ("healthy_within", "62s")]);
    story.obey_all();
    story.lose("web-1");
    story.pass(seconds(33));
    story.connect("web-1");
    let due = story.now + seconds(62 + 15);
    story.pass(seconds(62 + 14));

    assert_eq!(story.core.next_wake(), Some(due));
}
