//! The floor (A1): how many stay healthy, whatever else happens.

use cutover_common::{Health, Phase};

use crate::{
    Verb,
    rollout::{Waiting, waiting::Short},
    testing::{Story, seconds},
};

#[test]
fn a_host_lost_elsewhere_stops_the_next_batch() {
    let mut story = Story::running(4);
    story.deploy("2.0", &[("batch", "1")]);
    story.obey_all();
    story.fail("web-4", "1.0");

    story.obey("web-1");

    // Three are healthy, and three must stay; web-4 takes its turn, as it is down.
    assert_eq!(story.hosts("updating"), "");
    assert!(
        matches!(
            story.waiting(),
            Some(Waiting::ForFloor { short: Short::Healthy { healthy: 3, floor: 3, .. }, .. })
        ),
        "{:?}",
        story.waiting()
    );

    story.obey("web-4");
    assert_eq!(story.hosts("updating"), "web-2");
}

#[test]
fn a_host_that_is_down_already_costs_nothing() {
    let mut story = Story::running(4);
    story.fail("web-3", "1.0");
    story.fail("web-4", "1.0");

    // Two are healthy and two must stay: those that are down go first, and bring the spare.
    story.deploy("2.0", &[("batch", "2"), ("min_healthy", "2")]);
    story.obey_all();
    assert_eq!(story.hosts("updating"), "web-3 web-4");

    story.settle();
    assert_eq!(story.state_word(), "succeeded");
}

#[test]
fn a_batch_larger_than_the_floor_bears_is_taken_in_parts() {
    let mut story = Story::running(4);
    story.deploy("2.0", &[("batch", "4"), ("min_healthy", "3")]);

    story.obey_all();
    assert_eq!(story.hosts("updating"), "web-1");

    story.obey("web-1");
    assert_eq!(story.hosts("updating"), "web-2");
    story.settle();
    assert_eq!(story.state_word(), "succeeded");
}

#[test]
fn waiting_for_the_floor_ends_in_a_hold_with_the_numbers() {
    let mut story = Story::running(4);
    story.deploy("2.0", &[("batch", "1"), ("progress_within", "10m")]);
    story.obey_all();
    story.fail("web-4", "1.0");
    story.obey("web-1");

    story.pass(seconds(599));
    assert_eq!(story.state_word(), "advancing");
    story.pass(seconds(1));

    assert_eq!(story.state_word(), "held");
    assert!(story.why().contains("3 are healthy and min_healthy is 3"), "{}", story.why());
}

#[test]
fn a_host_of_which_nothing_is_known_may_be_serving_and_is_not_taken_for_free() {
    let mut story = Story::running(3);
    story.deploy("2.0", &[("batch", "3"), ("min_healthy", "2")]);
    for agent in ["web-1", "web-2"] {
        story.obey(agent);
    }
    // The new coordinator knows the plan, and nobody has told it anything.
    story.obey("web-3");
    assert_eq!(story.hosts("updating"), "web-1");
    story.restart();
    for agent in ["web-1", "web-2", "web-3"] {
        story.hello(agent);
        assert_eq!(story.hosts("updating"), "web-1", "{}", story.why());
    }

    story.beat_all();
    assert_eq!(story.hosts("updating"), "web-1");
}

#[test]
fn a_host_that_was_called_back_counts_as_down_until_it_says_that_it_stayed() {
    let mut story = Story::running(3);
    story.deploy("2.0", &[("batch", "1")]);
    story.obey_all();
    story.obey("web-1");
    story.obey("web-2");
    assert_eq!(story.hosts("updating"), "web-3");
    // Its acceptance may be on its way: it may be stopping 1.0 right now.
    story.control(Verb::Abort).unwrap();

    story.deploy("3.0", &[("batch", "1"), ("min_healthy", "2")]);
    story.obey("web-1");
    assert_eq!(story.hosts("updating"), "");

    story.obey("web-3");
    assert_eq!(story.hosts("updating"), "web-1");
}

#[test]
fn a_host_keeps_its_token_until_it_is_settled() {
    let mut story = Story::running(3);
    story.deploy("2.0", &[("batch", "3"), ("min_healthy", "2")]);
    story.obey_all();
    assert_eq!(story.hosts("updating"), "web-1");

    story.report("web-1", "2.0", Phase::Running, Health::Passing);
    assert_eq!(story.hosts("updating"), "web-1", "one pass is not health");

    story.obey("web-1");
    assert_eq!(story.hosts("updating"), "web-2");
}

#[test]
fn calling_a_host_back_that_is_taken_out_already_costs_nothing() {
    let mut story = Story::running(3);
    story.deploy("2.0", &[("batch", "1")]);
    story.obey_all();
    story.fail("web-2", "1.0");

    // One is healthy and two must stay; web-1 says 1.0 still, and was told 2.0.
    story.control(Verb::Rollback).unwrap();

    assert_eq!(story.hosts("reverting"), "web-1");
}

#[test]
fn a_host_that_says_that_it_runs_nothing_is_down() {
    let mut story = Story::running(2);
    story.lose("web-2");
    story.agents.get_mut(&crate::testing::name("web-2")).unwrap().said = None;
    story.connect("web-2");

    // One is healthy and must stay: web-2 comes first and brings the spare.
    assert!(story.try_deploy("2.0", &[("min_healthy", "1")]).is_ok());
}

#[test]
fn a_failed_host_whose_agent_may_still_swap_counts_as_down() {
    let mut story = Story::running(3);
    story.deploy("2.0", &[("batch", "1"), ("max_failed", "1"), ("healthy_within", "60s")]);
    story.obey_all();
    // It says that 1.0 serves still, as it has no lease to stop it.
    let waits = story.slot_as("web-1", "1.0", |slot| {
        slot.phase = Phase::Running;
        slot.health = Health::Settled;
    });
    let mut waits = waits;
    for slot in cutover_common::Slot::ALL {
        let slot = waits.slots.of_mut(slot);
        if slot.release.as_ref().is_some_and(|it| it.0.as_str() == "2.0") {
            (slot.phase, slot.health) = (Phase::Waiting, Health::Unknown);
        }
    }
    story.say("web-1", waits);
    story.pass(seconds(80));
    assert_eq!(story.hosts("failed"), "web-1", "{}", story.why());

    // Two are sure, and two must stay.
    assert_eq!(story.hosts("updating"), "");
}

#[test]
fn a_floor_that_can_never_be_met_is_refused_with_the_numbers() {
    let mut story = Story::running(3);

    let above = story.try_deploy("2.0", &[("min_healthy", "4")]).unwrap_err();
    let whole = story.try_deploy("2.0", &[("min_healthy", "100%")]).unwrap_err();
    story.fail("web-1", "1.0");
    story.fail("web-2", "1.0");
    story.fail("web-3", "1.0");
    let none_up = story.try_deploy("2.0", &[("min_healthy", "100%")]);

    insta::assert_snapshot!(above.text, @"min_healthy 4 can never be met: prod has 3 hosts");
    insta::assert_snapshot!(above.hint, @"give at most --min-healthy 2");
    insta::assert_snapshot!(whole.text, @"min_healthy 3 of 3 hosts can never be met: web is replaced in place, so taking one host out leaves 2");
    assert!(none_up.is_ok(), "what is down can only get better");
}

#[test]
fn a_floor_that_cannot_be_kept_at_this_moment_is_refused_with_the_numbers() {
    let mut story = Story::running(4);
    // web-4 runs 2.0 in health already, and web-3, which has it too, is not there.
    story.deploy("2.0", &[("strategy", "all_at_once")]);
    story.obey_all();
    story.obey("web-4");
    story.obey("web-3");
    story.control(Verb::Abort).unwrap();
    story.obey_all();
    story.lose("web-3");

    let refusal = story.try_deploy("3.0", &[("min_healthy", "3")]).unwrap_err();

    insta::assert_snapshot!(refusal.text, @"only 3 of 4 hosts are healthy and min_healthy is 3: taking one more out would leave 2");
}

#[test]
fn a_host_that_runs_the_release_already_is_told_again_at_no_cost() {
    let mut story = Story::running(3);
    story.fail("web-2", "1.0");
    story.fail("web-3", "1.0");
    story.deploy("1.0", &[("batch", "1"), ("min_healthy", "100%")]);
    // They recover before their turn.
    story.obey("web-2");
    story.obey("web-3");

    story.settle();

    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
}

#[test]
fn hosts_that_have_not_heard_of_the_deploy_serve_as_before() {
    let mut story = Story::running(4);
    story.deploy("2.0", &[("batch", "1")]);

    // The others have not acknowledged that they should fetch 2.0; that disturbs nothing.
    story.obey("web-1");

    assert_eq!(story.hosts("updating"), "web-1");
}
