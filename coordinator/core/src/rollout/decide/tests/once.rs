//! `once` hooks: one host runs them for all, before any other begins; where nobody knows what they
//! have done, a person decides.

use cutover_common::{Health, OncePart, OnceReport, OnceStand, Phase, Report};

use crate::{
    EventKind, Verb,
    event::Change,
    once::{OnceStep, Stand},
    rollout::{State, Waiting},
    testing::{Story, gated, hash, migrated, order, release, seconds, version},
};

/// Begins with so many agents that run 1.0, and a release 4.0 with a once hook.
fn running(count: usize) -> Story {
    let mut story = Story::running(count);
    story.push(migrated(release("4.0", "4.0")));
    story
}

/// The hosts whose newest goal lets them run the hook.
fn permitted(story: &Story) -> Vec<String> {
    let runs = |agent: &&cutover_common::AgentName| {
        let goal = story.core.goals().of(agent, &"web".parse().unwrap());
        let part = goal.and_then(|goal| goal.once_of(&version("4.0")));
        matches!(part, Some(OncePart::Run { .. }))
    };
    story.names().iter().filter(runs).map(ToString::to_string).collect()
}

/// Lets `agent` say that it has the goal, and that the hook stands so.
fn say(story: &mut Story, agent: &str, stand: Option<OnceStand>) {
    let report = hook_as(story, agent, stand);
    story.say(agent, report);
}

fn hook_as(story: &Story, agent: &str, stand: Option<OnceStand>) -> Report {
    let mut evidence = None;
    let mut report = story.slot_as(agent, "4.0", |slot| {
        (slot.phase, slot.health) = (Phase::Waiting, Health::Unknown);
        evidence = slot.instance.take();
        "running its before_start hook".clone_into(&mut slot.detail);
        if matches!(stand, Some(OnceStand::Failed | OnceStand::Interrupted)) {
            slot.phase = Phase::Failed;
            "its before_start hook did not pass".clone_into(&mut slot.detail);
        }
    });
    // What ran before runs on.
    for slot in cutover_common::Slot::ALL {
        let slot = report.slots.of_mut(slot);
        if slot.release.as_ref().is_some_and(|(held, _)| *held == version("1.0")) {
            (slot.phase, slot.health) = (Phase::Running, Health::Settled);
            slot.instance = evidence.clone();
        }
    }
    // Of what it was told to run it tells also when it was called back.
    let once = story.core.onces.of(story.newest()).expect("a host was chosen");
    let permit = once.permit.expect("it was told");
    let told = |stand| OnceReport { release: hash("4.0"), permit, stand };
    report.once = stand.map(told).into_iter().collect();
    report
}

fn held_why(story: &Story) -> String {
    let State::Held { why, .. } = story.state() else { panic!("{}", story.why()) };
    why.replace(&story.rollout.unwrap().to_string(), "ID")
}

fn was_given(story: &Story) -> usize {
    let is_given = |event: &&crate::Event| {
        let EventKind::Rollout { change, .. } = &event.kind else { return false };
        matches!(change, Change::Once { step: OnceStep::Given, .. })
    };
    story.log.iter().filter(is_given).count()
}

#[test]
fn one_host_runs_the_hook_and_the_others_wait_for_its_word() {
    for settings in [
        &[("strategy", "all_at_once"), ("min_healthy", "0")][..],
        &[("batch", "2"), ("min_healthy", "0")],
        &[("batch", "3"), ("sliding", "on"), ("min_healthy", "0")],
    ] {
        let mut story = running(3);
        story.deploy("4.0", settings);
        story.obey_all();
        assert_eq!(story.hosts("updating"), "web-1", "{settings:?}");
        assert_eq!(permitted(&story), ["web-1"]);

        say(&mut story, "web-1", Some(OnceStand::Running));
        story.pass(seconds(5));
        assert_eq!(story.hosts("updating"), "web-1");
        let Some(Waiting::ForOnce { agent, .. }) = story.waiting() else {
            panic!("{}", story.why())
        };
        assert_eq!(agent.as_str(), "web-1");
        say(&mut story, "web-1", Some(OnceStand::Passed));
        assert_ne!(story.hosts("updating"), "web-1", "{settings:?}");

        story.settle();
        assert_eq!(story.state_word(), "succeeded", "{}", story.why());
        assert_eq!(was_given(&story), 1);
    }
}

#[test]
fn a_plan_says_who_runs_the_hook_and_that_it_has_passed() {
    let mut story = running(2);
    let said = |story: &Story| {
        let planned = story.core.plan(&order("4.0", &[("min_healthy", "0")])).unwrap();
        planned.once.map(|once| once.to_string()).unwrap_or_default()
    };
    assert_eq!(
        said(&story),
        "its once hook is run on web-1, and no other host begins before it has passed"
    );
    story.deploy("4.0", &[("min_healthy", "0")]);
    story.settle();
    story.deploy("1.0", &[("min_healthy", "0")]);
    story.settle();
    assert_eq!(said(&story), "its once hook has passed here, and is not run again");
}

#[test]
fn why_says_who_is_waited_for_and_what_it_does() {
    let mut story = running(2);
    story.deploy("4.0", &[("strategy", "all_at_once"), ("min_healthy", "0")]);
    story.obey_all();
    say(&mut story, "web-1", Some(OnceStand::Running));

    insta::assert_snapshot!(story.why(), @"0 of 2 hosts run 4.0, and this step of batch 1 of 1 began just now. Waiting up to 10m for the once hook of 4.0 to pass on web-1 (web-1: running its before_start hook), then for a person. No other host begins before.");
}

#[test]
fn what_has_passed_is_never_run_again_in_the_environment() {
    let mut story = running(2);
    story.deploy("4.0", &[("min_healthy", "0")]);
    story.settle();
    story.deploy("1.0", &[("min_healthy", "0")]);
    story.settle();
    story.restart();
    story.connect_all();
    story.deploy("4.0", &[("strategy", "all_at_once"), ("min_healthy", "0")]);
    story.obey_all();

    assert_eq!(story.hosts("updating"), "web-1 web-2");
    assert!(permitted(&story).is_empty());
    story.settle();
    assert_eq!(story.state_word(), "succeeded");
    assert_eq!(was_given(&story), 1);
}

#[test]
fn a_hook_that_was_interrupted_holds_until_a_person_sends_it_again() {
    let mut story = running(2);
    story.deploy("4.0", &[("strategy", "all_at_once"), ("min_healthy", "0")]);
    story.obey_all();
    say(&mut story, "web-1", Some(OnceStand::Interrupted));

    insta::assert_snapshot!(held_why(&story), @"the once hook of 4.0 was interrupted on web-1, and nobody knows what it has done; no other host begins. See what it has done, then run it again with `cutover retry ID`, or go back with `cutover rollback ID`");
    story.pass(seconds(3_600));
    story.restart();
    story.connect_all();
    assert_eq!(story.state_word(), "held");
    assert_eq!(was_given(&story), 1);

    story.control(Verb::Retry).unwrap();
    story.settle();
    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
    assert_eq!(was_given(&story), 2);
}

#[test]
fn another_deploy_does_not_run_what_was_interrupted_before_a_person_says_so() {
    let mut story = running(2);
    story.deploy("4.0", &[("strategy", "all_at_once"), ("min_healthy", "0")]);
    story.obey_all();
    say(&mut story, "web-1", Some(OnceStand::Interrupted));
    story.control(Verb::Rollback).unwrap();
    story.settle();
    assert_eq!(story.state_word(), "rolled_back", "{}", story.why());

    story.deploy("4.0", &[("min_healthy", "0")]);
    story.obey_all();
    assert_eq!(story.state_word(), "held", "{}", story.why());
    assert!(permitted(&story).is_empty());
    story.control(Verb::Retry).unwrap();
    story.settle();
    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
}

#[test]
fn a_hook_that_failed_counts_as_a_failed_host_and_nobody_begins_before_it_passed() {
    let mut story = running(3);
    story.deploy("4.0", &[("strategy", "all_at_once"), ("min_healthy", "0")]);
    story.obey_all();
    say(&mut story, "web-1", Some(OnceStand::Failed));
    story.settle();
    assert_eq!(story.state_word(), "rolled_back", "{}", story.why());

    // It is known what became of it: the next deploy runs it again.
    let settings = [("strategy", "all_at_once"), ("min_healthy", "0"), ("max_failed", "1")];
    story.deploy("4.0", &settings);
    story.obey_all();
    assert_eq!(permitted(&story), ["web-1"]);
    say(&mut story, "web-1", Some(OnceStand::Failed));
    insta::assert_snapshot!(held_why(&story), @"the once hook of 4.0 failed on web-1; no other host begins. See what it has done, then run it again with `cutover retry ID`, or go back with `cutover rollback ID`");
    story.control(Verb::Retry).unwrap();
    story.settle();
    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
    assert_eq!(was_given(&story), 3);
}

#[test]
fn where_the_host_is_lost_nobody_else_runs_it_before_a_person_says_so() {
    let mut story = running(3);
    story.deploy(
        "4.0",
        &[("strategy", "all_at_once"), ("min_healthy", "0"), ("max_unreachable", "1")],
    );
    story.obey_all();
    say(&mut story, "web-1", Some(OnceStand::Running));
    story.lose("web-1");
    story.pass(seconds(60));
    insta::assert_snapshot!(held_why(&story), @"web-1 was told to run the once hook of 4.0 and cannot be reached, so that nobody knows whether it ran; no other host begins. See what it has done, then run it again with `cutover retry ID`, or go back with `cutover rollback ID`");
    assert_eq!(permitted(&story), ["web-1"]);

    story.control(Verb::Retry).unwrap();
    assert_eq!(permitted(&story), ["web-2"], "the one that is lost has no permit any more");
    story.settle();
    story.connect("web-1");
    story.settle();
    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
    assert_eq!(was_given(&story), 2);
}

#[test]
fn a_host_that_comes_back_and_says_that_it_passed_ends_the_doubt() {
    let mut story = running(3);
    story.deploy("4.0", &[("strategy", "all_at_once"), ("min_healthy", "0")]);
    story.obey_all();
    say(&mut story, "web-1", Some(OnceStand::Running));
    story.lose("web-1");
    story.pass(seconds(60));
    assert_eq!(story.state_word(), "held");
    story.connect("web-1");
    say(&mut story, "web-1", Some(OnceStand::Passed));

    story.control(Verb::Retry).unwrap();
    story.settle();
    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
    assert_eq!(was_given(&story), 1);
}

#[test]
fn whoever_excludes_a_lost_host_lets_another_run_it() {
    let mut story = running(3);
    story.deploy("4.0", &[("strategy", "all_at_once"), ("min_healthy", "0")]);
    story.obey_all();
    say(&mut story, "web-1", Some(OnceStand::Running));
    story.lose("web-1");
    story.exclude(&["web-1"]).unwrap();

    assert_eq!(story.hosts("updating"), "web-2");
    story.settle();
    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
}

#[test]
fn an_excluded_host_that_is_there_is_waited_for_as_long_as_it_runs_it() {
    let mut story = running(3);
    story.deploy("4.0", &[("strategy", "all_at_once"), ("min_healthy", "0")]);
    story.obey_all();
    say(&mut story, "web-1", Some(OnceStand::Running));
    story.exclude(&["web-1"]).unwrap();
    story.pass(seconds(30));
    assert_eq!(story.hosts("updating"), "");

    say(&mut story, "web-1", Some(OnceStand::Passed));
    assert_eq!(story.hosts("updating"), "web-2 web-3");
    assert_eq!(was_given(&story), 1);
}

#[test]
fn a_pause_calls_the_host_back_and_a_hook_that_it_has_begun_counts_all_the_same() {
    for stand in [None, Some(OnceStand::Running), Some(OnceStand::Passed)] {
        let mut story = running(2);
        story.deploy("4.0", &[("strategy", "all_at_once"), ("min_healthy", "0")]);
        story.obey_all();
        say(&mut story, "web-1", stand.filter(|stand| *stand == OnceStand::Running));
        story.control(Verb::Pause).unwrap();
        assert_eq!(story.told("web-1").as_deref(), Some("1.0"), "nothing is disturbed");
        say(&mut story, "web-1", stand);

        story.control(Verb::Resume).unwrap();
        let is_alone = story.hosts("updating") == "web-1";
        assert_eq!(is_alone, stand != Some(OnceStand::Passed), "{stand:?}");
        story.settle();
        assert_eq!(story.state_word(), "succeeded", "{}", story.why());
        assert_eq!(was_given(&story), 1, "the same host runs it after all");
    }
}

#[test]
fn beside_what_serves_it_is_run_before_any_other_host_starts_the_release() {
    let canary = [("strategy", "canary"), ("canary_hosts", "2"), ("canary_steps", "50%:1s")];
    for settings in [&[("strategy", "blue_green")][..], &canary] {
        let mut story = Story::fleet(3);
        story.push(gated("1.1"));
        story.push(migrated(gated("4.0")));
        story.deploy("1.1", &[("strategy", "all_at_once")]);
        story.settle();
        story.deploy("4.0", settings);
        story.obey_all();
        assert_eq!(story.hosts("staging"), "web-1", "{settings:?}");

        story.settle();
        assert_ne!(story.hosts("staged") + &story.hosts("updated"), "web-1", "{settings:?}");
        assert_eq!(was_given(&story), 1);
    }
}

#[test]
fn a_crash_between_the_choice_and_the_goal_runs_it_on_the_same_host() {
    let mut story = running(2);
    story.deploy("4.0", &[("strategy", "all_at_once"), ("min_healthy", "0")]);
    story.obey_all();
    let is_release = |event: &crate::Event| matches!(&event.kind, EventKind::Rollout { change: Change::HostsReleased { agents }, .. } if agents.len() == 1);
    let at = story.log.iter().rposition(is_release).unwrap();
    for end in at - 1..=at + 2 {
        let mut again = Story::from_log(&story, story.log[..end].to_vec());
        again.rollout = story.rollout;
        again.connect_all();
        again.settle();
        assert_eq!(again.state_word(), "succeeded", "{end}: {}", again.why());
        assert_eq!(was_given(&again), 1, "{end}");
        let once = again.core.onces.get(
            &"prod".parse().unwrap(),
            &"web".parse().unwrap(),
            &version("4.0"),
        );
        assert_eq!(once.unwrap().stand, Stand::Passed);
        assert_eq!(once.unwrap().agent.as_str(), "web-1");
    }
}

#[test]
fn what_was_given_up_before_its_hook_had_passed_is_started_by_nobody() {
    let mut story = running(1);
    let settings = [("min_healthy", "0"), ("auto_rollback", "off")];
    story.deploy("4.0", &settings);
    story.obey_all();
    say(&mut story, "web-1", Some(OnceStand::Failed));
    assert_eq!(story.state_word(), "held");
    story.control(Verb::Abort).unwrap();

    story.deploy("2.0", &settings);
    let goal = story.core.goals().of(&"web-1".parse().unwrap(), &"web".parse().unwrap());
    assert_eq!(goal.unwrap().once_of(&version("4.0")), Some(OncePart::Awaited));
}

#[test]
fn another_machine_under_the_name_of_the_one_that_may_have_run_it_does_not_run_it() {
    let mut story = running(2);
    story.deploy("4.0", &[("batch", "1")]);
    story.obey_all();
    say(&mut story, "web-1", Some(OnceStand::Running));
    story.control(Verb::Abort).unwrap();
    story.lose("web-1");
    story.ask(crate::Request::RemoveAgent { agent: "web-1".parse().unwrap() }).unwrap();
    story.join("web-1");
    story.connect("web-1");

    story.deploy("4.0", &[("batch", "1")]);
    story.settle();

    assert_eq!(was_given(&story), 1);
    assert!(held_why(&story).contains("nobody knows whether it ran"), "{}", story.why());
}

#[test]
fn a_hook_that_fails_under_an_earlier_permit_is_not_run_elsewhere_by_itself() {
    let mut story = running(2);
    let settings = [("batch", "1"), ("max_failed", "1"), ("min_healthy", "0")];
    story.deploy("4.0", &settings);
    story.obey_all();
    say(&mut story, "web-1", Some(OnceStand::Running));
    story.control(Verb::Abort).unwrap();
    story.deploy("4.0", &settings);
    say(&mut story, "web-1", Some(OnceStand::Running));

    say(&mut story, "web-1", Some(OnceStand::Failed));
    story.settle();

    assert_eq!(was_given(&story), 1);
    assert!(held_why(&story).contains("failed on web-1"), "{}", story.why());
}

#[test]
fn the_silence_of_a_host_whose_goal_does_not_name_the_release_says_nothing() {
    let mut story = Story::fleet(2);
    story.push(migrated(release("4.0", "4.0")));
    story.deploy("4.0", &[("batch", "1"), ("min_healthy", "0")]);
    story.obey_all();
    say(&mut story, "web-1", Some(OnceStand::Running));
    // Nothing ran before, so that it goes back to nothing, and is not asked about the hook any more.
    story.control(Verb::Rollback).unwrap();
    story.obey_all();
    story.settle();
    story.force_drain("web-1");

    story.deploy("4.0", &[("batch", "1"), ("min_healthy", "0")]);
    story.settle();

    assert_eq!(was_given(&story), 1, "{}", story.why());
    assert!(matches!(story.waiting(), Some(Waiting::ForOnce { .. })), "{}", story.why());
}

#[test]
fn a_release_that_waits_for_the_hook_of_another_one_says_so() {
    let mut story = running(2);
    story.push(migrated(release("5.0", "5.0")));
    story.deploy("4.0", &[("min_healthy", "0")]);
    story.obey_all();
    say(&mut story, "web-1", Some(OnceStand::Running));
    story.control(Verb::Abort).unwrap();
    say(&mut story, "web-1", Some(OnceStand::Running));

    story.deploy("5.0", &[("min_healthy", "0")]);
    say_of_old(&mut story);

    insta::assert_snapshot!(story.why(), @"0 of 2 hosts run 5.0, and this step of batch 1 of 2 began just now. Waiting up to 10m for the once hook of 4.0 to end on web-1, then for a person. No host begins before.");
}

/// web-1 goes on with the hook of 4.0.
fn say_of_old(story: &mut Story) {
    let mut report = story.compliance("web-1").expect("it has a goal");
    let permit = story.generation("web-1");
    report.once = vec![OnceReport { release: hash("4.0"), permit, stand: OnceStand::Running }];
    story.say("web-1", report);
    story.obey("web-2");
}

#[test]
fn the_same_release_with_another_config_does_not_wait_for_its_hook_beside_itself() {
    let mut story = Story::fleet(2);
    story.push(gated("3.5"));
    story.deploy("3.5", &[]);
    story.settle();
    story.push(migrated(gated("4.0")));
    story.deploy("4.0", &[("min_healthy", "0"), ("auto_rollback", "off")]);
    story.obey_all();
    say(&mut story, "web-1", Some(OnceStand::Failed));
    story.control(Verb::Abort).unwrap();
    story.configure(&[("LOG", "info")]);

    let refused = story.try_deploy("4.0", &[("strategy", "blue_green")]).unwrap_err();
    insta::assert_snapshot!(refused.text, @"web starts 4.0~prod.1 beside what runs, and 4.0, which web-1 was told to run, waits for the once hook of the same release, which has not passed");
    assert_eq!(refused.hint, "replace it: --strategy rolling");
    story.deploy("4.0", &[("min_healthy", "0")]);
    story.settle();
    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
}

#[test]
fn nothing_is_started_beside_what_leaves_no_place() {
    // A first deploy that was aborted: nothing counts as what the environment runs.
    let mut story = Story::fleet(1);
    story.deploy("1.0", &[("bake", "1m")]);
    story.obey_all();
    story.obey_all();
    story.control(Verb::Abort).unwrap();
    story.push(gated("4.0"));

    let refused = story.try_deploy("4.0", &[("strategy", "blue_green")]).unwrap_err();

    insta::assert_snapshot!(refused.text, @"web starts 4.0 beside what runs, and 1.0, which web-1 was told to run, leaves no place for another one beside it");
    story.deploy("4.0", &[("min_healthy", "0")]);
    story.settle();
    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
}
