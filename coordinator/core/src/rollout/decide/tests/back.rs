//! The way back: worst hosts first, from local disk, in batches; held where it fails.

use cutover_common::{Health, Phase, Slot, SlotGoal};

use crate::{
    Verb,
    rollout::{HostState, State},
    testing::{Story, name, seconds},
};

/// Eight hosts, of which four run 2.0 in health, web-5 fails and web-6 was told to switch.
fn failing_in_the_third_batch() -> Story {
    let mut story = Story::running(8);
    story.deploy("2.0", &[("batch", "2")]);
    story.obey_all();
    for agent in ["web-1", "web-2", "web-3", "web-4"] {
        story.obey(agent);
    }
    assert_eq!(story.hosts("updating"), "web-5 web-6");
    story.fail("web-5", "2.0");
    story
}

#[test]
fn the_worst_go_back_first_and_then_the_others_in_batches() {
    let mut story = failing_in_the_third_batch();

    let State::RollingBack { waves, .. } = story.state() else { panic!("{}", story.why()) };
    let waves: Vec<Vec<String>> =
        waves.iter().map(|wave| wave.iter().map(ToString::to_string).collect()).collect();
    assert_eq!(waves, [["web-5", "web-6"], ["web-1", "web-2"], ["web-3", "web-4"]]);
    assert_eq!(story.hosts("reverting"), "web-5 web-6");
    assert_eq!(story.hosts("updated"), "web-1 web-2 web-3 web-4");

    story.obey("web-5");
    assert_eq!(story.hosts("reverting"), "web-6");
    story.obey("web-6");
    assert_eq!(story.hosts("reverting"), "web-1 web-2");

    story.settle();
    assert_eq!(story.state_word(), "rolled_back");
    assert_eq!(story.hosts("pending"), "web-7 web-8");
}

#[test]
fn the_way_back_is_from_local_disk() {
    let story = failing_in_the_third_batch();

    // Before: 2.0 runs and 1.0 is kept on disk. After: the other way round.
    let updated = story.agents[&name("web-1")].assigned.as_ref().unwrap();
    let reverting = story.agents[&name("web-5")].assigned.as_ref().unwrap();
    for slot in Slot::ALL {
        let kept = updated.slots.of(slot).release().map(|it| it.name.clone());
        let wanted = reverting.slots.of(slot).release().map(|it| it.name.clone());
        assert_eq!(kept, wanted, "the same releases in the same places");
    }
    assert!(updated.slots.iter().any(
        |(_, slot)| matches!(slot, SlotGoal::Prepared(it) if it.name.version.as_str() == "1.0")
    ));
}

#[test]
fn the_floor_binds_the_way_back_too() {
    let mut story = failing_in_the_third_batch();
    story.obey("web-5");
    story.fail("web-7", "1.0");

    story.obey("web-6");

    // Seven are healthy, six must stay: one at a time.
    assert_eq!(story.hosts("reverting"), "web-1");
    story.obey("web-1");
    assert_eq!(story.hosts("reverting"), "web-2");
}

#[test]
fn a_first_deploy_goes_back_to_nothing() {
    let mut story = Story::fleet(3);
    story.deploy("1.0", &[("batch", "1")]);
    story.obey_all();
    story.obey("web-1");
    assert_eq!(story.hosts("updated"), "web-1");

    story.fail("web-2", "1.0");
    assert_eq!(story.state_word(), "rolling_back");
    story.settle();

    assert_eq!(story.state_word(), "rolled_back", "{}", story.why());
    assert_eq!(story.told("web-1"), None);
    assert_eq!(story.told("web-2"), None);
    assert!(story.why().ends_with("Nothing runs, as before."), "{}", story.why());
}

#[test]
fn without_a_release_that_succeeded_a_host_goes_back_to_what_ran_on_it() {
    let mut story = Story::fleet(2);
    story.deploy("1.0", &[("batch", "1")]);
    story.obey_all();
    story.obey("web-1");
    story.control(Verb::Abort).unwrap();
    story.obey_all();

    story.deploy("2.0", &[("batch", "2")]);
    story.obey_all();
    assert_eq!(story.told("web-1").as_deref(), Some("2.0"), "{}", story.why());
    story.fail("web-1", "2.0");
    story.settle();

    assert_eq!(story.state_word(), "rolled_back", "{}", story.why());
    assert_eq!(story.told("web-1").as_deref(), Some("1.0"), "it served before, and must again");
    assert_eq!(story.told("web-2"), None);
}

#[test]
fn a_host_that_cannot_go_back_is_held_with_its_name_and_the_others_come_back() {
    let mut story = failing_in_the_third_batch();

    story.report("web-5", "1.0", Phase::Failed, Health::Failing);
    for _ in 0..6 {
        for agent in ["web-1", "web-2", "web-3", "web-4", "web-6"] {
            story.obey(agent);
        }
    }

    assert_eq!(story.hosts("stuck"), "web-5");
    assert_eq!(story.hosts("reverted"), "web-1 web-2 web-3 web-4 web-6");
    assert_eq!(story.state_word(), "held");
    assert!(story.why().contains("web-5"), "{}", story.why());

    story.control(Verb::Retry).unwrap();
    story.settle();
    assert_eq!(story.state_word(), "rolled_back", "{}", story.why());
}

#[test]
fn there_is_one_automatic_rollback_and_then_a_person() {
    let mut story = failing_in_the_third_batch();
    story.pass(seconds(5_000));

    assert_eq!(story.state_word(), "held", "{}", story.why());
    let begun = story.newest().history.iter().filter(|(_, line)| line.starts_with("going back on"));
    assert_eq!(begun.count(), 1);
}

#[test]
fn a_host_that_is_lost_on_the_way_back_does_not_keep_the_others() {
    let mut story = failing_in_the_third_batch();
    story.lose("web-6");
    for _ in 0..6 {
        for agent in ["web-1", "web-2", "web-3", "web-4", "web-5"] {
            story.obey(agent);
        }
        story.pass(seconds(10));
    }

    assert_eq!(story.hosts("reverted"), "web-1 web-2 web-3 web-4 web-5");
    assert_eq!(story.state_word(), "held");
    insta::assert_snapshot!(story.why(), @"Held for a person 40s ago: web-6 (not connected) did not come back; going back because web-5 failed (crashed 2 times: exited with 1) and max_failed is 0. 5 of 6 hosts are back.");

    story.connect("web-6");
    story.obey("web-6");
    assert_eq!(story.hosts("reverted"), "web-1 web-2 web-3 web-4 web-5 web-6");
    story.control(Verb::Retry).unwrap();
    assert_eq!(story.state_word(), "rolled_back");
}

#[test]
fn a_way_back_with_nobody_touched_is_over_at_once() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[("batch", "1")]);

    story.control(Verb::Rollback).unwrap();

    assert_eq!(story.state_word(), "rolled_back");
    assert_eq!(story.told("web-1").as_deref(), Some("1.0"));
}

#[test]
fn a_host_that_failed_and_was_sent_again_still_goes_back() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[("batch", "1"), ("auto_rollback", "off")]);
    story.obey_all();
    story.fail("web-1", "2.0");
    assert_eq!(story.state_word(), "held");
    story.lose("web-1");
    story.control(Verb::Retry).unwrap();
    assert_eq!(story.host("web-1"), &HostState::Pending);

    story.control(Verb::Rollback).unwrap();
    story.connect("web-1");
    story.settle();

    assert_eq!(story.told("web-1").as_deref(), Some("1.0"));
    assert!(matches!(story.host("web-1"), HostState::Reverted), "{}", story.why());
}

#[test]
fn what_replaces_itself_has_no_way_back() {
    let mut story = Story::running(2);
    story.fail("web-1", "1.0");
    story.deploy("1.0", &[]);
    story.obey("web-2");
    story.report("web-1", "1.0", Phase::Running, Health::Unknown);

    story.fail("web-1", "1.0");

    assert_eq!(story.state_word(), "held", "{}", story.why());
    assert!(story.control(Verb::Rollback).is_err());
}

#[test]
fn retrying_brings_a_release_to_disk_that_could_not_be() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[("batch", "1"), ("auto_rollback", "off")]);
    story.report("web-2", "2.0", Phase::Failed, Health::Unknown);
    assert_eq!(story.state_word(), "held");
    let before = story.generation("web-2");

    story.control(Verb::Retry).unwrap();

    assert!(story.generation("web-2") > before, "only another goal is tried again");
    story.settle();
    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
}

#[test]
fn retrying_tells_a_host_again_whose_start_failed() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[("batch", "1"), ("auto_rollback", "off")]);
    story.obey_all();
    story.report("web-1", "2.0", Phase::Failed, Health::Failing);
    assert_eq!(story.state_word(), "held");

    story.control(Verb::Retry).unwrap();

    assert_eq!(story.hosts("updating"), "web-1", "{}", story.why());
    story.settle();
    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
}

#[test]
fn a_host_that_was_told_twice_is_not_called_back_to_what_it_left() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[("batch", "1"), ("auto_rollback", "off")]);
    story.obey_all();
    story.fail("web-1", "2.0");
    story.control(Verb::Retry).unwrap();
    assert_eq!(story.hosts("updating"), "web-1");

    story.control(Verb::Pause).unwrap();

    assert_eq!(story.told("web-1").as_deref(), Some("2.0"));
}

#[test]
fn an_abort_on_the_way_back_calls_back_who_has_not_begun() {
    let mut story = Story::running(3);
    story.deploy("2.0", &[("batch", "1"), ("max_unreachable", "1"), ("min_healthy", "2")]);
    story.obey_all();
    story.obey("web-1");
    story.lose("web-2");
    story.obey_all();
    story.pass(seconds(20));
    assert_eq!(story.hosts("unreachable"), "web-2", "{}", story.why());
    story.lose("web-1");
    story.control(Verb::Rollback).unwrap();
    assert_eq!(story.hosts("reverting"), "", "the floor binds it");

    story.control(Verb::Abort).unwrap();
    story.connect("web-2");

    assert_eq!(story.told("web-2").as_deref(), Some("1.0"));
}
