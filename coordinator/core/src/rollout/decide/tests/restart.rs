//! A coordinator that dies and comes back: nothing is lost, and no watch or deadline is shorter.

use cutover_common::{Health, Phase};

use crate::{
    Verb,
    rollout::Waiting,
    testing::{Story, seconds},
};

#[test]
fn a_soak_begins_again() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[("batch", "1"), ("soak", "60s")]);
    story.settle();
    story.pass(seconds(59));

    story.restart();
    story.connect_all();

    let until = story.now + seconds(60);
    assert_eq!(story.waiting(), Some(&Waiting::ForSoak { until }));
    story.pass(seconds(59));
    assert_eq!(story.hosts("updating"), "");
    story.pass(seconds(1));
    assert_eq!(story.hosts("updating"), "web-2");
}

#[test]
fn a_bake_begins_again() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[("batch", "2"), ("min_healthy", "0"), ("bake", "100s")]);
    story.settle();
    story.pass(seconds(99));

    story.restart();
    story.connect_all();
    story.pass(seconds(99));
    assert_eq!(story.state_word(), "baking");
    story.pass(seconds(1));

    assert_eq!(story.state_word(), "succeeded");
}

#[test]
fn a_deadline_begins_again() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[("batch", "1"), ("healthy_within", "60s")]);
    story.obey_all();
    story.report("web-1", "2.0", Phase::Starting, Health::Unknown);
    story.pass(seconds(70));

    story.restart();
    story.connect_all();
    story.pass(seconds(74));
    assert_eq!(story.hosts("updating"), "web-1");
    story.pass(seconds(1));

    assert_eq!(story.state_word(), "rolling_back");
}

#[test]
fn a_standstill_is_counted_from_the_new_start() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[("batch", "1")]);
    story.report("web-1", "2.0", Phase::Preparing, Health::Unknown);
    story.pass(seconds(590));

    story.restart();
    story.connect_all();
    story.pass(seconds(590));
    assert_eq!(story.state_word(), "advancing");
    story.pass(seconds(10));

    assert_eq!(story.state_word(), "held");
}

#[test]
fn a_rollout_goes_on_where_it_was_however_often_the_coordinator_dies() {
    let mut story = Story::running(5);
    story.deploy("2.0", &[("batch", "1")]);

    for _ in 0..40 {
        story.restart();
        story.connect_all();
        story.pass(seconds(5));
        story.obey_all();
    }

    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
}

#[test]
fn a_way_back_goes_on_where_it_was() {
    let mut story = Story::running(4);
    story.deploy("2.0", &[("batch", "2")]);
    story.obey_all();
    story.fail("web-1", "2.0");
    assert_eq!(story.state_word(), "rolling_back");

    story.restart();
    assert_eq!(story.state_word(), "rolling_back");
    story.connect_all();
    story.settle();

    assert_eq!(story.state_word(), "rolled_back");
}

#[test]
fn a_pause_outlives_the_coordinator() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[("batch", "1")]);
    story.control(Verb::Pause).unwrap();

    story.restart();
    story.connect_all();
    story.settle();

    assert_eq!(story.state_word(), "paused");
    assert_eq!(story.hosts("updating"), "");
}

#[test]
fn agents_that_have_not_come_back_yet_are_not_unreachable_at_once() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[("batch", "1"), ("max_unreachable", "1"), ("min_healthy", "0")]);

    story.restart();
    story.pass(seconds(44));
    assert_eq!(story.hosts("unreachable"), "");
    story.pass(seconds(1));

    assert_eq!(story.hosts("unreachable"), "web-1");
}

#[test]
fn an_agent_that_dials_late_after_a_long_outage_has_not_failed() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[("batch", "1"), ("unreachable", "fail"), ("min_healthy", "0")]);
    story.obey_all();
    assert_eq!(story.hosts("updating"), "web-1");

    story.restart();
    story.pass(seconds(30));
    story.connect_all();
    story.settle();

    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
}

#[test]
fn goals_are_shown_again_to_agents_that_come_back() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[("batch", "1")]);
    story.obey_all();
    for agent in story.agents.values_mut() {
        agent.assigned = None;
    }

    story.restart();
    story.connect_all();

    assert_eq!(story.told("web-1").as_deref(), Some("2.0"));
    assert_eq!(story.told("web-2").as_deref(), Some("1.0"));
}

/// Runs `step`, and goes on from every log that a crash in the middle of storing it can leave.
fn cut_everywhere(before: &Story, step: impl Fn(&mut Story), goes_on: impl Fn(&mut Story)) {
    let mut whole = before.clone();
    step(&mut whole);
    let begun = before.log.len() + 1;
    assert!(whole.log.len() > begun, "nothing to cut");
    for end in begun..=whole.log.len() {
        let mut story = Story::from_log(before, whole.log[..end].to_vec());
        story.rollout = whole.rollout;
        story.connect_all();
        goes_on(&mut story);
    }
}

#[test]
fn goals_that_a_crash_cut_off_from_what_they_follow_from_are_set_by_the_next_process() {
    let all = [("batch", "3"), ("min_healthy", "0")];
    let succeeds = |story: &mut Story| {
        story.settle();
        assert_eq!(story.state_word(), "succeeded", "{}", story.why());
    };
    let running = Story::running(3);
    cut_everywhere(&running, |story| _ = story.deploy("2.0", &all), succeeds);

    let mut prepared = running.clone();
    prepared.deploy("2.0", &all);
    prepared.obey("web-1");
    prepared.obey("web-2");
    cut_everywhere(&prepared, |story| story.obey("web-3"), succeeds);

    let mut failing = running;
    failing.deploy("2.0", &all);
    failing.obey_all();
    cut_everywhere(
        &failing,
        |story| story.fail("web-2", "2.0"),
        |story| {
            story.fail("web-2", "2.0");
            story.settle();
            assert_eq!(story.state_word(), "rolled_back", "{}", story.why());
            assert_eq!(story.told("web-1").as_deref(), Some("1.0"));
        },
    );
}

#[test]
fn goals_that_call_hosts_back_are_set_by_the_next_process() {
    let mut story = Story::running(3);
    story.deploy("2.0", &[("batch", "1"), ("max_unreachable", "1"), ("min_healthy", "1")]);
    story.obey_all();
    story.obey("web-1");
    story.lose("web-2");
    story.obey_all();
    story.pass(seconds(20));
    assert_eq!(story.hosts("unreachable"), "web-2", "{}", story.why());

    cut_everywhere(
        &story,
        |story| drop(story.control(Verb::Pause)),
        |story| assert_eq!(story.told("web-2").as_deref(), Some("1.0")),
    );
}
