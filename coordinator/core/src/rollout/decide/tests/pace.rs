//! Windows, zones, pauses, load, and restarts.

use cutover_common::{Health, Phase, Slot, Traffic};

use crate::{
    Verb,
    rollout::{Waiting, waiting::Short},
    testing::{Story, in_place, labels, name, seconds},
};

/// Begins with hosts that run 1.0, each in its zone.
fn zones(zones: &[&str]) -> Story {
    let mut story = Story::fleet(zones.len());
    for (number, zone) in (1..).zip(zones) {
        let set = labels(&[("az", zone)]);
        let agent = name(&format!("web-{number}"));
        story.ask(crate::Request::LabelAgent { agent, set, unset: Vec::new() }).unwrap();
    }
    story.deploy("1.0", &[("strategy", "all_at_once")]);
    story.settle();
    story
}

#[test]
fn in_a_window_the_next_host_begins_as_soon_as_one_is_done() {
    let mut story = Story::running(5);
    story.deploy("2.0", &[("batch", "2"), ("sliding", "on")]);
    story.obey_all();
    assert_eq!(story.hosts("updating"), "web-1 web-2");

    story.obey("web-2");

    assert_eq!(story.hosts("updating"), "web-1 web-3");
    story.settle();
    assert_eq!(story.state_word(), "succeeded");
}

#[test]
fn in_a_window_a_host_that_is_watched_keeps_its_place() {
    let mut story = Story::running(4);
    story.deploy("2.0", &[("batch", "2"), ("sliding", "on"), ("soak", "30s")]);
    story.obey_all();
    story.obey("web-1");
    story.pass(seconds(10));
    story.obey("web-2");
    assert_eq!(story.hosts("updating"), "");
    assert!(matches!(story.waiting(), Some(Waiting::ForSoak { .. })), "{:?}", story.waiting());

    story.pass(seconds(20));
    assert_eq!(story.hosts("updating"), "web-3", "web-1 was watched for 30 s, web-2 for 20 s");

    story.pass(seconds(10));
    assert_eq!(story.hosts("updating"), "web-3 web-4");
    story.settle();
    assert_eq!(story.state_word(), "advancing", "the last ones are watched as well");
    story.pass(seconds(30));
    assert_eq!(story.state_word(), "succeeded");
}

#[test]
fn in_a_window_what_was_watched_is_watched_anew_by_a_new_process() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[("batch", "1"), ("sliding", "on"), ("soak", "60s")]);
    story.obey_all();
    story.obey("web-1");
    story.pass(seconds(50));

    story.restart();
    story.connect_all();
    story.pass(seconds(50));
    assert_eq!(story.hosts("updating"), "");

    story.pass(seconds(10));
    assert_eq!(story.hosts("updating"), "web-2");
}

#[test]
fn zone_comes_after_zone_and_each_keeps_its_floor() {
    let mut story = zones(&["b", "a", "a", "b"]);
    let settings =
        [("zone", "az"), ("batch", "2"), ("zone_min_healthy", "1"), ("min_healthy", "0")];
    story.deploy("2.0", &settings);

    story.obey_all();

    // Two would be a batch, and one must stay.
    assert_eq!(story.hosts("updating"), "web-2");
    story.obey("web-2");
    assert_eq!(story.hosts("updating"), "web-3");
    story.obey("web-3");
    assert_eq!(story.hosts("updated"), "web-2 web-3");
    assert_eq!(story.hosts("updating"), "web-1", "the zone of web-1 and web-4 is next");
    story.settle();
    assert_eq!(story.state_word(), "succeeded");
}

#[test]
fn a_zone_that_is_down_elsewhere_stops_its_next_host() {
    let mut story = zones(&["a", "a", "a"]);
    let settings =
        [("zone", "az"), ("batch", "1"), ("zone_min_healthy", "2"), ("min_healthy", "0")];
    story.deploy("2.0", &settings);
    story.fail("web-3", "1.0");
    story.obey("web-1");

    story.report("web-1", "2.0", Phase::Prepared, Health::Unknown);

    assert_eq!(story.hosts("updating"), "");
    insta::assert_snapshot!(story.why(), @"0 of 3 hosts run 2.0, and this step of batch 1 of 3 began just now. Waiting up to 10m to take web-1 out, as 2 are healthy in a and zone_min_healthy is 2, then for a person.");
}

#[test]
fn after_the_named_batch_a_person_is_waited_for() {
    let mut story = Story::running(3);
    story.deploy("2.0", &[("batch", "1"), ("pause_after", "1")]);
    story.settle();
    assert_eq!(story.hosts("updated"), "web-1");
    story.pass(seconds(7_200));
    insta::assert_snapshot!(story.why(), @"1 of 3 hosts run 2.0, and this step of batch 1 of 3 began 2h ago. Batch 1 is done, and waits for a person to promote it.");

    story.control(Verb::Promote { full: false }).unwrap();
    story.settle();

    assert_eq!(story.state_word(), "succeeded");
}

#[test]
fn while_a_person_is_waited_for_health_is_watched() {
    let mut story = Story::running(3);
    story.deploy("2.0", &[("batch", "1"), ("pause_after", "1")]);
    story.settle();

    story.fail("web-1", "2.0");

    assert_eq!(story.state_word(), "rolling_back");
}

#[test]
fn promoted_in_full_it_waits_for_health_and_the_floor_only() {
    let mut story = Story::running(3);
    story.deploy("2.0", &[("batch", "1"), ("pause_after", "1,2"), ("soak", "1h")]);
    story.settle();

    story.control(Verb::Promote { full: true }).unwrap();
    story.settle();

    assert_eq!(story.state_word(), "succeeded");
    let refusal = story.control(Verb::Promote { full: true }).unwrap_err();
    assert!(refusal.text.contains("is over"), "{refusal:?}");
}

#[test]
fn nothing_is_promoted_that_waits_for_health() {
    let mut story = Story::running(3);
    story.deploy("2.0", &[("batch", "1")]);
    story.obey_all();

    let refusal = story.control(Verb::Promote { full: false }).unwrap_err();
    assert_eq!(refusal.text, "nothing of it waits for a person or for time");

    // And what was promoted once is asked again when it is retried.
    story.control(Verb::Pause).unwrap();
    assert!(story.control(Verb::Promote { full: true }).is_err());
}

#[test]
fn a_soak_that_is_promoted_is_over() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[("batch", "1"), ("soak", "1h")]);
    story.settle();

    story.control(Verb::Promote { full: false }).unwrap();
    story.settle();
    assert_eq!(story.hosts("updated"), "web-1 web-2");
    assert!(matches!(story.waiting(), Some(Waiting::ForSoak { .. })), "of the second batch");
}

#[test]
fn a_pause_after_a_batch_that_will_not_be_is_refused() {
    let mut story = Story::running(2);

    let refusal = story.try_deploy("2.0", &[("batch", "1"), ("pause_after", "3")]).unwrap_err();

    assert_eq!(refusal.text, "pause_after names batch 3, and there are 2");
}

/// Begins with hosts that run 1.0 in place, each busy by a third.
fn busy(count: usize) -> Story {
    let mut story = Story::fleet(count);
    for of in ["4.0", "5.0"] {
        story.push(in_place(of));
    }
    story.deploy("4.0", &[("strategy", "all_at_once")]);
    story.settle();
    for number in 1..=count {
        story.busy(&format!("web-{number}"), 330);
    }
    story
}

#[test]
fn a_batch_is_as_large_as_the_others_can_bear() {
    let mut story = busy(4);
    story.deploy("5.0", &[("batch", "3"), ("min_healthy", "0"), ("max_load", "70%")]);

    story.obey_all();

    // Two carry what four did: 66 %. One would carry 132 %.
    assert_eq!(story.hosts("updating"), "web-1 web-2");
    insta::assert_snapshot!(story.why(), @"0 of 4 hosts run 5.0, and this step of batch 1 of 2 began just now. Waiting up to 15m 15s to take web-3 out, as the hosts that stay would be 132% busy and max_load is 70%, then for a person.");
    story.settle();
    assert_eq!(story.state_word(), "succeeded");
}

#[test]
fn a_batch_waits_until_the_fleet_has_room() {
    let mut story = busy(2);
    story.deploy("5.0", &[("batch", "1"), ("max_load", "50%")]);
    story.obey_all();
    assert!(
        matches!(
            story.waiting(),
            Some(Waiting::ForFloor { short: Short::Room { load: Some(660), .. }, .. })
        ),
        "{:?}",
        story.waiting()
    );

    story.busy("web-1", 200);
    story.busy("web-2", 200);

    assert_eq!(story.hosts("updating"), "web-1");
}

#[test]
fn a_restart_replaces_each_instance_by_one_of_the_same_release() {
    let mut story = Story::running(3);
    let slot = |story: &Story, agent: &str| {
        story.core.goals.of(&name(agent), &"web".parse().unwrap()).unwrap().running_slot()
    };
    assert_eq!(slot(&story, "web-1"), Some(Slot::Blue));

    story.deploy("1.0", &[("strategy", "restart"), ("batch", "1")]);
    story.obey_all();

    assert_eq!(story.hosts("updating"), "web-1");
    assert_eq!(slot(&story, "web-1"), Some(Slot::Green));
    assert_eq!(slot(&story, "web-2"), Some(Slot::Blue));
    story.settle();
    assert_eq!(story.state_word(), "succeeded");
    assert_eq!(slot(&story, "web-3"), Some(Slot::Green));

    // The next one goes the other way, and so does a deploy after it.
    story.deploy("1.0", &[("strategy", "restart")]);
    story.settle();
    assert_eq!(slot(&story, "web-1"), Some(Slot::Blue));
    story.deploy("2.0", &[]);
    story.settle();
    assert_eq!(story.told("web-1").as_deref(), Some("2.0"));
}

#[test]
fn a_restart_keeps_the_floor_and_counts_only_the_new_instance() {
    let mut story = Story::running(2);
    story.deploy("1.0", &[("strategy", "restart"), ("batch", "2"), ("min_healthy", "1")]);

    story.obey_all();
    assert_eq!(story.hosts("updating"), "web-1");

    // The old instance is well, and is no evidence.
    let mut report = story.compliance("web-1").unwrap();
    report.slots.green.phase = Phase::Starting;
    report.slots.green.health = Health::Unknown;
    report.slots.blue.phase = Phase::Running;
    report.slots.blue.health = Health::Settled;
    story.say("web-1", report);
    assert_eq!(story.hosts("updating"), "web-1");

    story.obey("web-1");
    assert_eq!(story.hosts("updated"), "web-1");
    story.settle();
    assert_eq!(story.state_word(), "succeeded");
}

#[test]
fn a_restart_that_is_called_back_leaves_the_old_instance() {
    let mut story = Story::running(2);
    story.deploy("1.0", &[("strategy", "restart"), ("batch", "1")]);
    let goal = |story: &Story| {
        let goal = story.core.goals.of(&name("web-1"), &"web".parse().unwrap()).unwrap().clone();
        (goal.generation, goal.running_slot())
    };
    story.obey_all();
    let (told, slot) = goal(&story);
    assert_eq!(slot, Some(Slot::Green));

    // It has not accepted the goal.
    story.control(Verb::Pause).unwrap();

    let (called_back, slot) = goal(&story);
    assert!(called_back > told);
    assert_eq!(slot, Some(Slot::Blue));
}

#[test]
fn a_restart_that_was_accepted_and_waits_is_called_back() {
    let mut story = Story::running(2);
    story.deploy("1.0", &[("strategy", "restart"), ("batch", "1")]);
    story.obey_all();
    // The old instance has the traffic, and the new one is not yet well.
    let mut report = story.compliance("web-1").unwrap();
    report.slots.blue.phase = Phase::Running;
    report.slots.blue.instance = report.slots.green.instance.clone();
    report.slots.blue.traffic = Traffic::Here;
    report.slots.green.phase = Phase::Starting;
    report.slots.green.health = Health::Unknown;
    report.slots.green.traffic = Traffic::Away;
    story.say("web-1", report);

    story.control(Verb::Pause).unwrap();

    let goal = story.core.goals.of(&name("web-1"), &"web".parse().unwrap()).unwrap();
    assert_eq!(goal.running_slot(), Some(Slot::Blue));
}

#[test]
fn a_restart_brings_no_other_release() {
    let mut story = Story::running(2);

    let refusal = story.try_deploy("2.0", &[("strategy", "restart")]).unwrap_err();

    assert_eq!(refusal.text, "restart brings no other release, and prod runs web@1.0");
}

#[test]
fn a_floor_of_a_zone_that_no_host_could_leave_is_refused() {
    let mut story = zones(&["a", "a", "b"]);
    let settings = [("zone", "az"), ("zone_min_healthy", "1"), ("min_healthy", "0")];

    let refusal = story.try_deploy("2.0", &settings).unwrap_err();

    assert_eq!(
        refusal.text,
        "zone_min_healthy 1 of the 1 hosts of zone \"b\" can never be met: taking one out leaves 0"
    );
}

#[test]
fn in_a_window_the_end_of_a_watch_is_noticed_while_another_host_is_under_way() {
    let mut story = Story::running(3);
    story.deploy("2.0", &[("batch", "2"), ("sliding", "on"), ("soak", "7s")]);
    story.obey_all();
    story.obey("web-1");

    story.pass_in_silence(seconds(7));

    assert_eq!(story.hosts("updating"), "web-2 web-3");
}

#[test]
fn a_window_whose_last_host_is_lost_waits_no_longer_than_for_progress() {
    let mut story = Story::running(2);
    let settings = [("batch", "1"), ("sliding", "on"), ("soak", "10s"), ("progress_within", "5m")];
    story.deploy("2.0", &settings);
    story.obey_all();
    story.obey("web-1");
    story.pass(seconds(10));
    story.obey("web-2");
    assert_eq!(story.hosts("updated"), "web-1 web-2");
    story.lose("web-2");

    story.pass(seconds(330));

    assert_eq!(story.state_word(), "held", "{}", story.why());
    // Nor when somebody sends it on.
    story.control(Verb::Retry).unwrap();
    assert_eq!(story.state_word(), "advancing");
    story.pass(seconds(330));
    assert_eq!(story.state_word(), "held", "{}", story.why());
}
