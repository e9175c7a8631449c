//! Hosts that join or come back get what the environment runs.

use crate::{
    Request, Verb,
    rollout::HostState,
    testing::{Story, labels, name, seconds},
};

#[test]
fn a_host_that_joins_gets_what_the_environment_runs() {
    let mut story = Story::running(2);

    story.join("web-3");
    story.connect("web-3");

    let rollout = story.follow();
    assert!(rollout.converges);
    assert_eq!(rollout.plan.waves.len(), 1);
    assert_eq!(rollout.plan.waves[0].agents, [name("web-3")]);
    story.settle();
    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
    assert_eq!(story.told("web-3").as_deref(), Some("1.0"));
    // It is the release that was tried last.
    assert_eq!(story.core.find_rollout("web").unwrap().number, 1);
}

#[test]
fn a_host_that_joins_during_a_rollout_waits_and_never_gets_what_was_not_good() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[("batch", "1"), ("auto_rollback", "on")]);
    story.obey_all();

    story.join("web-3");
    story.connect("web-3");
    assert_eq!(story.told("web-3"), None, "one rollout at a time");
    story.fail("web-1", "2.0");
    story.settle();

    assert!(story.follow().converges, "{}", story.why());
    assert_eq!(story.told("web-3").as_deref(), Some("1.0"));
}

#[test]
fn a_host_that_was_away_catches_up_when_it_is_back() {
    let mut story = Story::running(3);
    story.lose("web-3");
    story.pass(seconds(400));
    story.deploy("2.0", &[("max_unreachable", "1"), ("min_healthy", "1")]);
    story.settle();
    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
    assert!(matches!(story.host("web-3"), HostState::Unreachable { .. }));

    story.connect("web-3");

    assert!(story.follow().converges);
    story.settle();
    assert_eq!(story.told("web-3").as_deref(), Some("2.0"));
}

#[test]
fn a_host_that_was_drained_catches_up_when_it_takes_part_again() {
    let mut story = Story::running(2);
    story.drain("web-2").unwrap();
    story.deploy("2.0", &[("min_healthy", "0")]);
    story.settle();
    assert_eq!(story.told("web-2").as_deref(), Some("1.0"));

    story.undrain("web-2").unwrap();

    assert!(story.follow().converges);
    story.settle();
    assert_eq!(story.told("web-2").as_deref(), Some("2.0"));
    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
}

#[test]
fn a_host_that_fails_is_left_as_it_is_and_no_person_is_asked() {
    let mut story = Story::running(1);
    story.join("web-2");
    story.connect("web-2");
    story.follow();
    story.obey("web-2");
    story.fail("web-2", "1.0");
    assert_eq!(story.state_word(), "aborted", "{}", story.why());
    let tried = story.newest().number;

    story.lose("web-2");
    story.connect("web-2");

    assert_eq!(story.follow().number, tried, "it is not tried for ever");
    story.deploy("2.0", &[]);
    story.settle();
    assert_eq!(story.told("web-2").as_deref(), Some("2.0"));
}

#[test]
fn who_was_excluded_or_failed_is_left_to_people() {
    let mut story = Story::running(3);
    story.deploy("2.0", &[("max_failed", "1"), ("batch", "1"), ("min_healthy", "0")]);
    story.exclude(&["web-1"]).unwrap();
    story.obey_all();
    story.fail("web-2", "2.0");
    story.settle();
    assert_eq!(story.state_word(), "succeeded", "{}", story.why());

    story.lose("web-1");
    story.connect("web-1");
    story.lose("web-2");
    story.connect("web-2");

    assert!(!story.follow().converges);
}

#[test]
fn what_a_person_asks_for_takes_its_place() {
    let mut story = Story::running(1);
    story.join("web-2");
    story.connect("web-2");
    assert!(story.follow().converges);
    let converging = story.newest().id;

    story.deploy("2.0", &[]);

    assert!(story.core.rollout(converging).unwrap().is_over());
    assert!(!story.newest().converges);
    story.settle();
    assert_eq!(story.told("web-2").as_deref(), Some("2.0"));
}

#[test]
fn a_label_brings_a_host_in() {
    let mut story = Story::running(1);
    story.join_with("web-2", labels(&[("env", "other")]));
    story.connect("web-2");
    assert!(!story.follow().converges);

    let agent = name("web-2");
    let set = labels(&[("env", "prod")]);
    story.ask(Request::LabelAgent { agent, set, unset: Vec::new() }).unwrap();

    assert!(story.follow().converges);
    story.settle();
    assert_eq!(story.told("web-2").as_deref(), Some("1.0"));
}

#[test]
fn a_rollout_that_stands_is_superseded_when_somebody_says_so() {
    let mut story = Story::running(2);
    let first = story.deploy("2.0", &[("batch", "1")]);
    story.obey_all();
    story.control(Verb::Pause).unwrap();
    let mut order = crate::testing::order("3.0", &[]);
    let refusal = story.core.plan(&order).unwrap_err();
    assert!(refusal.hint.contains("--if-busy supersede"), "{}", refusal.hint);

    order.if_busy = crate::IfBusy::Supersede;
    let (request_id, rollout) = (story.draw(), story.draw());
    story.ask(Request::Deploy { request_id, rollout, order }).unwrap();

    assert!(story.core.rollout(first).unwrap().is_over());
    story.follow();
    story.settle();
    assert_eq!(story.state_word(), "succeeded");
    assert_eq!(story.told("web-1").as_deref(), Some("3.0"));
}

#[test]
fn a_host_that_was_skipped_gets_the_release_when_it_has_succeeded() {
    let mut story = Story::running(3);
    story.deploy("2.0", &[("batch", "1")]);
    story.obey_all();

    let text = story.skip(&["web-3"]).unwrap();
    assert_eq!(text, "skipped until 2.0 has succeeded everywhere else: web-3");
    let skipping = story.rollout.unwrap();
    story.settle();
    let rollout = story.core.rollout(skipping).unwrap();
    assert!(matches!(rollout.hosts[&name("web-3")].state, HostState::Excluded { .. }));
    let ended = story.core.why(rollout, story.now);
    assert!(ended.contains("skipped: web-3"), "{ended}");

    assert!(story.follow().converges);
    story.settle();
    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
    assert_eq!(story.told("web-3").as_deref(), Some("2.0"));
}

#[test]
fn a_host_that_was_skipped_stays_when_the_release_was_not_good() {
    let mut story = Story::running(3);
    story.deploy("2.0", &[("batch", "1"), ("auto_rollback", "on")]);
    story.skip(&["web-3"]).unwrap();

    story.obey_all();
    story.fail("web-1", "2.0");
    story.settle();

    assert_eq!(story.state_word(), "rolled_back", "{}", story.why());
    assert_eq!(story.told("web-3").as_deref(), Some("1.0"));
}
