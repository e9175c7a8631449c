//! Canaries that are judged by what gates count.

use cutover_common::{InstanceId, Slot};
use uuid::Uuid;

use crate::{
    Verb,
    rollout::Waiting,
    testing::{Story, gated, seconds},
};

/// Begins with three hosts that run 4.0, and a canary on web-1 that gets half of its traffic for
/// ten minutes.
fn canary(settings: &[(&str, &str)]) -> Story {
    let mut story = Story::fleet(3);
    for of in ["4.0", "5.0"] {
        story.push(gated(of));
    }
    story.deploy("4.0", &[("strategy", "all_at_once")]);
    story.settle();
    let all = [&[("strategy", "canary"), ("canary_steps", "50%:10m")], settings].concat();
    story.deploy("5.0", &all);
    story.settle();
    assert!(matches!(story.waiting(), Some(Waiting::ForVerdict { .. })), "{}", story.why());
    story
}

/// Lets the fleet serve for a while: of a thousand requests so many fail at the canary and beside
/// it.
fn serve(story: &mut Story, for_seconds: u64, canary: u64, beside: u64) {
    for _ in 0..for_seconds / 5 {
        story.count("web-1", Slot::Blue, 1_000, beside);
        story.count("web-1", Slot::Green, 1_000, canary);
        story.count("web-2", Slot::Blue, 2_000, 2 * beside);
        story.count("web-3", Slot::Blue, 2_000, 2 * beside);
        story.pass(seconds(5));
    }
}

/// Lets the time of the canary pass, and nobody asks for anything.
fn idle(story: &mut Story) {
    story.count("web-1", Slot::Blue, 0, 0);
    story.count("web-1", Slot::Green, 0, 0);
    story.count("web-2", Slot::Blue, 0, 0);
    story.pass(seconds(601));
}

#[test]
fn a_canary_that_answers_as_the_old_one_does_goes_on() {
    let mut story = canary(&[]);

    serve(&mut story, 595, 1, 1);
    assert!(matches!(story.waiting(), Some(Waiting::ForVerdict { .. })), "{}", story.why());
    insta::assert_snapshot!(story.why(), @"0 of 3 hosts run 5.0, and this step of batch 1 of 3 began 9m 55s ago. Comparing it with the old release for another 5s: latency p50 2.9 ms on the canary, 2.9 ms beside it (1x), after 118,000 and 118,000 requests; no more than chance gives.");
    serve(&mut story, 10, 1, 1);

    story.settle();
    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
}

#[test]
fn a_canary_that_fails_more_often_goes_back_long_before_its_time_and_nobody_else_was_touched() {
    let mut story = canary(&[]);

    serve(&mut story, 60, 20, 1);

    assert_eq!(story.state_word(), "rolling_back", "{}", story.why());
    insta::assert_snapshot!(story.why(), @"Going back because 5.0 is worse than what it replaces: errors 2 % on the canary, 0.10 % beside it (20x), after 7,000 and 7,000 requests; chance of this without a difference below 1 in 500. Waiting up to 9m 40s for web-1 to be as before, then for a person.");
    story.settle();
    assert_eq!(story.state_word(), "rolled_back");
    assert_eq!(story.hosts("pending"), "web-2 web-3");
}

/// Lets the fleet answer for a while: the canary within so many milliseconds, all others within
/// 35.
fn answer(story: &mut Story, for_seconds: u64, canary: u64) {
    for _ in 0..for_seconds / 5 {
        story.answer("web-1", Slot::Blue, 100, 35);
        story.answer("web-1", Slot::Green, 100, canary);
        story.answer("web-2", Slot::Blue, 200, 35);
        story.answer("web-3", Slot::Blue, 200, 35);
        story.pass(seconds(5));
    }
}

#[test]
fn a_canary_that_takes_half_as_long_again_goes_back() {
    let mut story = canary(&[]);

    answer(&mut story, 120, 52);

    assert_eq!(story.state_word(), "rolling_back", "{}", story.why());
    insta::assert_snapshot!(story.why(), @"Going back because 5.0 is worse than what it replaces: latency p50 53.2 ms on the canary, 34.8 ms beside it (1.5x), after 1,000 and 1,000 requests; chance of this without a difference below 1 in 2,000. Waiting up to 8m 55s for web-1 to be as before, then for a person.");
}

#[test]
fn a_canary_that_takes_a_little_longer_is_good_enough() {
    let mut story = canary(&[]);

    answer(&mut story, 605, 40);
    story.settle();

    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
}

#[test]
fn where_the_old_one_fails_as_often_it_is_nobodys_fault() {
    let mut story = canary(&[]);

    serve(&mut story, 605, 50, 50);
    story.settle();

    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
}

#[test]
fn without_traffic_there_is_no_verdict_and_a_person_decides_in_the_end() {
    let mut story = canary(&[]);

    idle(&mut story);
    insta::assert_snapshot!(story.why(), @"0 of 3 hosts run 5.0, and this step of batch 1 of 3 began 10m 1s ago. Comparing it with the old release for another 9m 59s, as there is not enough evidence yet: the canary had 0 of 50 requests, the control had 0 of 50 requests.");
    story.pass(seconds(600));
    assert_eq!(story.state_word(), "held");
    insta::assert_snapshot!(story.why(), @"Held for a person 1s ago: there is not enough evidence yet that 5.0 is as good as what it replaces: the canary had 0 of 50 requests, the control had 0 of 50 requests; retry compares it anew, and promote then says that it is good enough. 0 of 3 hosts run 5.0.");
}

#[test]
fn what_a_missing_verdict_means_is_declared() {
    let mut passes = canary(&[("canary_unsure", "pass")]);
    idle(&mut passes);
    passes.settle();
    assert_eq!(passes.state_word(), "succeeded");

    let mut fails = canary(&[("canary_unsure", "fail")]);
    idle(&mut fails);
    assert_eq!(fails.state_word(), "rolling_back");
}

#[test]
fn a_person_can_say_that_it_is_good_enough() {
    let mut story = canary(&[]);

    story.control(Verb::Promote { full: false }).unwrap();
    story.settle();

    assert_eq!(story.state_word(), "succeeded");
}

#[test]
fn a_new_process_begins_to_watch_anew() {
    let mut story = canary(&[]);
    serve(&mut story, 300, 1, 1);

    story.restart();
    story.connect_all();
    serve(&mut story, 590, 1, 1);
    assert!(matches!(story.waiting(), Some(Waiting::ForVerdict { .. })), "{}", story.why());

    serve(&mut story, 15, 1, 1);
    story.settle();
    assert_eq!(story.state_word(), "succeeded");
}

#[test]
fn with_auto_rollback_off_a_worse_canary_is_held() {
    let mut story = canary(&[("auto_rollback", "off")]);

    serve(&mut story, 60, 20, 1);

    assert_eq!(story.state_word(), "held");
}

/// Lets agents measure for a while: so much memory (MiB) and so many error lines in each heartbeat
/// at the canary, and 203 MiB and so many lines beside it.
fn measure(story: &mut Story, for_seconds: u64, canary: (u64, u64), beside: u64) {
    for _ in 0..for_seconds / 5 {
        story.measure("web-1", Slot::Blue, 203, beside);
        story.measure("web-1", Slot::Green, canary.0, canary.1);
        story.measure("web-2", Slot::Blue, 203, beside);
        story.measure("web-3", Slot::Blue, 203, beside);
        story.pass(seconds(5));
    }
}

#[test]
fn a_canary_that_complains_where_the_old_one_does_not_goes_back() {
    let mut story = canary(&[]);

    measure(&mut story, 120, (203, 2), 0);

    assert_eq!(story.state_word(), "rolling_back", "{}", story.why());
    insta::assert_snapshot!(story.why(), @"Going back because 5.0 is worse than what it replaces: error lines 24 a minute on the canary, 0 a minute beside it, after 65 and 65 seconds; chance of this without a difference below 1 in 2,000. Waiting up to 9m 10s for web-1 to be as before, then for a person.");
}

#[test]
fn a_canary_that_complains_as_much_as_the_old_one_goes_on() {
    let mut story = canary(&[]);

    measure(&mut story, 605, (203, 7), 7);
    story.settle();

    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
}

#[test]
fn a_canary_that_needs_twice_the_memory_goes_back_and_one_that_needs_a_little_more_does_not() {
    let mut story = canary(&[("canary_steps", "50%:1h")]);
    measure(&mut story, 840, (412, 0), 0);
    assert_eq!(story.state_word(), "rolling_back", "{}", story.why());
    insta::assert_snapshot!(story.why(), @"Going back because 5.0 is worse than what it replaces: memory 412 MiB on the canary, 203 MiB beside it (2x), after 13 minutes; chance of this without a difference below 1 in 2,000. Waiting up to 9m 5s for web-1 to be as before, then for a person.");

    let mut story = canary(&[("canary_steps", "50%:1h")]);
    measure(&mut story, 3_605, (260, 0), 0);
    story.settle();
    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
}

#[test]
fn what_was_said_while_nobody_measured_is_not_of_the_moment_in_which_it_is_told() {
    let mut story = canary(&[]);
    measure(&mut story, 60, (203, 0), 0);

    // Each time that its agent begins anew it finds more lines than there were.
    for _ in 0..50 {
        let vitals = std::mem::take(&mut story.agent("web-1").vitals);
        story.pass(seconds(5));
        story.agent("web-1").vitals = vitals;
        measure(&mut story, 5, (203, 1_000), 0);
    }

    assert!(matches!(story.waiting(), Some(Waiting::ForVerdict { .. })), "{}", story.why());
}

#[test]
fn what_was_measured_of_another_instance_is_not_the_canarys() {
    let mut story = canary(&[]);

    for _ in 0..50 {
        measure(&mut story, 5, (203, 0), 0);
        let canary = story.agent("web-1").vitals.iter_mut().find(|it| it.slot == Slot::Green);
        let canary = canary.unwrap();
        (canary.instance, canary.error_lines) = (InstanceId(Uuid::nil()), Some(1_000_000));
        story.pass(seconds(5));
    }

    assert!(matches!(story.waiting(), Some(Waiting::ForVerdict { .. })), "{}", story.why());
}

#[test]
fn what_was_held_as_worse_is_compared_anew_after_a_retry() {
    let mut story = canary(&[("auto_rollback", "off")]);
    serve(&mut story, 60, 20, 1);
    assert_eq!(story.state_word(), "held");

    story.control(Verb::Retry).unwrap();
    story.settle();
    assert_eq!(story.state_word(), "advancing", "{}", story.why());
    serve(&mut story, 605, 1, 1);
    story.settle();

    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
}

#[test]
fn what_was_held_as_worse_goes_on_when_a_person_says_that_it_is_good_enough() {
    let mut story = canary(&[("auto_rollback", "off")]);
    serve(&mut story, 60, 20, 1);
    story.control(Verb::Retry).unwrap();
    story.settle();

    story.control(Verb::Promote { full: true }).unwrap();
    serve(&mut story, 60, 20, 1);
    story.settle();

    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
}

#[test]
fn a_canary_of_what_runs_already_is_compared_with_nothing() {
    let mut story = Story::fleet(3);
    story.push(gated("4.0"));
    story.deploy("4.0", &[("strategy", "all_at_once")]);
    story.exclude(&["web-3"]).unwrap();
    story.settle();
    assert_eq!(story.state_word(), "succeeded", "{}", story.why());

    story.deploy("4.0", &[("strategy", "canary"), ("min_healthy", "0"), ("canary_unsure", "fail")]);
    for _ in 0..3 {
        story.settle();
        story.pass(seconds(301));
    }

    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
}

#[test]
fn a_short_first_step_can_be_passed() {
    let mut story = canary(&[("canary_steps", "5%:1m,50%:10m"), ("canary_unsure", "fail")]);

    serve(&mut story, 65, 1, 1);

    assert_eq!(story.state_word(), "advancing", "{}", story.why());
}

#[test]
fn what_is_not_to_be_judged_fails_no_canary_and_a_retry_knows_it() {
    let judge = [("canary_judge", "errors=off,requests_min=100")];
    let mut story = canary(&judge);

    serve(&mut story, 60, 20, 1);
    assert_eq!(story.state_word(), "advancing", "{}", story.why());
    let said = |story: &Story| story.newest().spec.canary.clone().unwrap().judge.unwrap();
    let before = said(&story);

    story.control(Verb::Abort).unwrap();
    story.control(Verb::Retry).unwrap();
    assert_eq!(said(&story), before);
    assert_eq!(before.to_string(), "requests_min=100,errors=off");
}

#[test]
fn harm_below_a_limit_that_was_said_goes_on() {
    let mut story = canary(&[("canary_judge", "errors=5x+5%")]);

    serve(&mut story, 60, 20, 1);

    assert_eq!(story.state_word(), "advancing", "{}", story.why());
}

#[test]
fn too_few_requests_by_what_was_said_are_not_enough() {
    let mut story = canary(&[("canary_judge", "requests_min=1000000"), ("canary_unsure", "fail")]);

    serve(&mut story, 610, 1, 1);

    assert_eq!(story.state_word(), "rolling_back", "{}", story.why());
    assert!(story.why().contains("1,000,000"), "{}", story.why());
}

#[test]
fn what_the_judge_is_told_wrongly_is_refused_when_it_is_planned() {
    let mut story = Story::running(2);

    let settings = [("strategy", "canary"), ("canary_judge", "errors=1.01x")];
    let refusal = story.try_deploy("2.0", &settings).unwrap_err();
    assert!(refusal.text.contains("1.05x"), "{refusal:?}");

    let refusal = story.try_deploy("2.0", &[("canary_judge", "errors=2x")]).unwrap_err();
    assert!(refusal.text.contains("only canary knows it"), "{refusal:?}");
}

#[test]
fn a_spec_that_was_stored_before_has_the_defaults_and_what_is_said_is_kept() {
    let story = canary(&[]);
    let stored = serde_json::to_string(&story.newest().spec).unwrap();
    assert!(!stored.contains("judge"), "{stored}");

    let mut spec = story.newest().spec.clone();
    if let Some(canary) = &mut spec.canary {
        canary.judge = "false_alarms=0.5%,latency=1.1x+2ms".parse().ok();
    }
    let stored = serde_json::to_string(&spec).unwrap();
    assert!(stored.contains(r#""judge":"false_alarms=0.5%,latency=1.1x+2ms""#), "{stored}");
    assert_eq!(serde_json::from_str::<crate::rollout::Spec>(&stored).unwrap(), spec);
}

#[test]
fn a_canary_that_fails_every_request_of_a_short_step_passes_by_no_policy_and_goes_back_in_the_end()
{
    for unsure in ["pass", "wait", "fail"] {
        let mut story = canary(&[("canary_steps", "50%:20s"), ("canary_unsure", unsure)]);

        serve(&mut story, 25, 1_000, 0);
        assert!(matches!(story.waiting(), Some(Waiting::ForVerdict { .. })), "{}", story.why());

        serve(&mut story, 60, 1_000, 0);
        assert_eq!(story.state_word(), "rolling_back", "{}", story.why());
        assert_eq!(story.hosts("pending"), "web-2 web-3");
    }
}

#[test]
fn what_looks_bad_and_was_luck_goes_on() {
    let mut story = canary(&[("canary_steps", "50%:20s")]);
    serve(&mut story, 20, 100, 0);
    story.pass(seconds(1));
    assert!(matches!(story.waiting(), Some(Waiting::ForVerdict { .. })), "{}", story.why());

    serve(&mut story, 30, 0, 0);
    story.settle();

    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
}

#[test]
fn a_canary_whose_hosts_give_it_everything_is_compared_with_the_others() {
    let mut story = canary(&[("canary_steps", "100%:10m")]);

    for _ in 0..12 {
        story.count("web-1", Slot::Blue, 0, 0);
        story.count("web-1", Slot::Green, 1_000, 20);
        story.count("web-2", Slot::Blue, 2_000, 2);
        story.count("web-3", Slot::Blue, 2_000, 2);
        story.pass(seconds(5));
    }

    assert_eq!(story.state_word(), "rolling_back", "{}", story.why());
}
