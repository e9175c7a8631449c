//! Hosts that are taken out of a rollout: it keeps its hands off them, forward and back.

use cutover_common::{Health, Phase};

use super::control::states;
use crate::{
    LeaveOut, RefusalKind, Request, Verb,
    rollout::{HostState, Waiting, waiting::Short},
    testing::{Story, name, seconds},
};

/// Three hosts, one a batch; web-1 was told to switch and has not begun.
fn one_told() -> Story {
    let mut story = Story::running(3);
    story.deploy("2.0", &[("batch", "1")]);
    story.obey_all();
    assert_eq!(story.hosts("updating"), "web-1");
    story
}

#[test]
fn in_every_state_a_host_can_be_excluded_until_it_is_over() {
    let mut table = String::new();
    for (state, mut story) in states() {
        let id = story.rollout.unwrap().to_string();
        let line = match story.exclude(&["web-3"]) {
            Ok(text) => format!("{text} -> {}", story.state_word()),
            Err(refusal) => format!("REFUSED {}; {}", refusal.text, refusal.hint),
        };
        table.push_str(&format!("{state}: {}\n", line.replace(&id, "ID")));
    }

    insta::assert_snapshot!(table, @"
advancing: excluded, and left as they are: web-3 -> advancing
baking: excluded, and left as they are: web-3 -> baking
rolling_back: excluded, and left as they are: web-3 -> rolling_back
paused: excluded, and left as they are: web-3; it is paused, and goes on with: cutover resume ID -> paused
paused going back: excluded, and left as they are: web-3; it is paused, and goes on with: cutover resume ID -> paused
held: excluded, and left as they are: web-3; it is held, and goes on with: cutover retry ID -> held
held going back: excluded, and left as they are: web-3; it is held, and goes on with: cutover retry ID -> held
succeeded: REFUSED rollout ID is over, so no host can be excluded; see how it ended: cutover why ID
rolled_back: REFUSED rollout ID is over, so no host can be excluded; see how it ended: cutover why ID
aborted: REFUSED rollout ID is over, so no host can be excluded; see how it ended: cutover why ID
");
}

#[test]
fn a_host_that_was_not_told_is_never_told_and_the_others_go_on() {
    let mut story = one_told();
    let before = story.generation("web-2");

    story.exclude(&["web-2"]).unwrap();
    story.settle();

    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
    assert_eq!(
        (story.hosts("updated"), story.hosts("excluded")),
        ("web-1 web-3".into(), "web-2".into())
    );
    assert_eq!(story.told("web-2").as_deref(), Some("1.0"));
    assert_eq!(story.generation("web-2"), before, "it has no new goal");
    insta::assert_snapshot!(story.why(), @"Succeeded: 2 of 3 hosts run 2.0 in health; excluded: web-2.");
}

#[test]
fn a_host_that_was_told_and_has_not_begun_is_called_back() {
    let mut story = one_told();

    story.exclude(&["web-1"]).unwrap();

    assert_eq!(story.told("web-1").as_deref(), Some("1.0"));
    assert!(matches!(story.host("web-1"), HostState::Excluded { touched: false, .. }));
    assert_eq!(story.hosts("updating"), "", "the floor waits for its word that it stayed");
    story.settle();
    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
    assert_eq!(story.told("web-1").as_deref(), Some("1.0"));
}

#[test]
fn a_host_that_has_begun_stays_as_it_is_and_nobody_waits_for_it() {
    let mut story = one_told();
    story.report("web-1", "2.0", Phase::Starting, Health::Unknown);
    let before = story.generation("web-1");

    story.exclude(&["web-1"]).unwrap();

    assert!(matches!(story.host("web-1"), HostState::Excluded { touched: true, .. }));
    // It counts as down for as long as it is not known to serve.
    assert!(
        matches!(
            story.waiting(),
            Some(Waiting::ForFloor { short: Short::Healthy { healthy: 2, floor: 2, .. }, .. })
        ),
        "{:?}",
        story.waiting()
    );
    story.fail("web-1", "2.0");
    assert_eq!(story.state_word(), "advancing", "it is not judged");
    story.report("web-1", "2.0", Phase::Running, Health::Settled);
    assert_eq!(story.hosts("updating"), "web-2", "it serves, and so the floor bears the next");
    story.settle();
    assert_eq!(story.state_word(), "succeeded");
    assert_eq!(story.generation("web-1"), before);
}

#[test]
fn an_updated_host_that_is_excluded_does_not_go_back() {
    let mut story = one_told();
    story.obey("web-1");
    story.exclude(&["web-1"]).unwrap();
    assert_eq!(story.hosts("updating"), "web-2");

    story.fail("web-2", "2.0");
    story.settle();

    assert_eq!(story.state_word(), "rolled_back", "{}", story.why());
    assert_eq!(story.told("web-1").as_deref(), Some("2.0"));
    assert_eq!(story.told("web-2").as_deref(), Some("1.0"));
    insta::assert_snapshot!(story.why(), @"Rolled back: web-2 failed (crashed 2 times: exited with 1) and max_failed is 0; excluded: web-1. Every other host it had touched runs 1.0 again.");
}

#[test]
fn a_host_that_does_not_come_back_is_excluded_and_the_way_back_ends() {
    let mut story = one_told();
    story.obey("web-1");
    story.fail("web-2", "2.0");
    story.report("web-2", "1.0", Phase::Failed, Health::Failing);
    story.settle();
    assert_eq!(story.state_word(), "held", "{}", story.why());

    let text = story.exclude(&["web-2"]).unwrap();
    assert!(text.contains("it is held, and goes on with: cutover retry "), "{text}");
    story.control(Verb::Retry).unwrap();
    story.settle();

    assert_eq!(story.state_word(), "rolled_back", "{}", story.why());
}

#[test]
fn a_failed_host_that_is_excluded_is_not_counted_any_more() {
    let mut story = Story::running(3);
    story.deploy("2.0", &[("batch", "1"), ("auto_rollback", "off")]);
    story.obey_all();
    story.fail("web-1", "2.0");
    assert_eq!(story.state_word(), "held");

    story.exclude(&["web-1"]).unwrap();
    story.control(Verb::Retry).unwrap();
    assert!(story.hosts("updating").is_empty(), "two must stay: {}", story.why());
    story.report("web-1", "2.0", Phase::Running, Health::Settled);
    story.settle();

    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
}

#[test]
fn what_an_excluded_host_has_told_before_a_crash_is_as_it_was_after_it() {
    let mut story = one_told();
    story.exclude(&["web-1"]).unwrap();
    let goal = story.generation("web-1");

    story.restart();
    story.connect_all();
    story.settle();

    assert_eq!(story.generation("web-1"), goal);
    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
}

#[test]
fn a_call_that_is_made_again_is_answered_and_done_once() {
    let mut story = one_told();
    let call = story.draw();
    story.leave_out(LeaveOut::Exclude, "web", &["web-2"], call).unwrap();
    let lines = story.newest().history.len();

    story.restart();
    let again = story.leave_out(LeaveOut::Exclude, "web", &["web-2"], call).unwrap();

    assert_eq!(again, "excluded already, by this very request");
    assert_eq!(story.newest().history.len(), lines);
    let other = Request::Control {
        rollout: "web".to_owned(),
        verb: Verb::Abort,
        reason: String::new(),
        new_rollout: call,
        if_busy: crate::IfBusy::Refuse,
    };
    let refusal = story.ask(other).unwrap_err();
    assert!(refusal.text.starts_with("by this request id hosts were excluded"), "{refusal:?}");
}

#[test]
fn what_makes_no_sense_is_refused_in_words_that_help() {
    let mut story = one_told();
    let id = story.rollout.unwrap().to_string();
    let mut words = |agents: &[&str]| {
        let refusal = story.exclude(agents).unwrap_err();
        format!("{:?} {}; {}", refusal.kind, refusal.text, refusal.hint).replace(&id, "ID")
    };

    insta::assert_snapshot!(words(&[]), @"Invalid no host is named; name one: cutover exclude ID AGENT");
    insta::assert_snapshot!(words(&["web-4"]), @r#"NotFound there is no host of rollout ID "web-4"; did you mean "web-1"? `cutover why ID --output json` lists all"#);
    insta::assert_snapshot!(words(&["web-1", "web-2", "web-3"]), @"State that would leave no host in the rollout; end it: cutover abort ID");
    assert_eq!(
        story.exclude(&["web-2", "web-2", "web-3"]),
        Ok("excluded, and left as they are: web-2, web-3".to_owned())
    );
    assert_eq!(story.exclude(&["web-2"]), Ok("left out already".to_owned()));
    assert_eq!(story.exclude(&["web-1"]).unwrap_err().kind, RefusalKind::State);
}

#[test]
fn a_rollout_of_which_no_host_is_left_to_do_waits_for_a_person() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[("batch", "1"), ("max_unreachable", "1")]);
    story.obey_all();
    story.lose("web-1");
    story.pass(seconds(60));
    assert_eq!(story.hosts("unreachable"), "web-1");
    story.exclude(&["web-2"]).unwrap();

    assert_eq!(story.state_word(), "held");
    insta::assert_snapshot!(story.why(), @"Held for a person just now: no host that takes part runs 2.0: web-1; excluded: web-2. 0 of 2 hosts run 2.0 and 1 is left out.");
}

#[test]
fn a_goal_that_a_crash_cost_an_excluded_host_is_not_set() {
    let mut story = one_told();
    story.report("web-1", "2.0", Phase::Starting, Health::Unknown);
    story.exclude(&["web-1"]).unwrap();
    // As if the crash had come before the goal of the switch was stored.
    let switched = story.log.iter().rposition(|event| {
        matches!(&event.kind, crate::EventKind::GoalSet { agent, .. } if *agent == name("web-1"))
    });
    let mut log = story.log.clone();
    log.remove(switched.unwrap());

    let again = Story::from_log(&story, log);

    assert_eq!(again.generation("web-1").0 + 1, story.generation("web-1").0);
}

#[test]
fn who_was_skipped_or_drained_can_be_excluded_for_good() {
    let mut story = Story::running(3);
    story.deploy("2.0", &[("batch", "1"), ("min_healthy", "0")]);
    story.skip(&["web-3"]).unwrap();
    assert_eq!(story.skip(&["web-3"]).unwrap(), "left out already");

    let text = story.exclude(&["web-3"]).unwrap();
    assert!(text.starts_with("excluded"), "{text}");
    assert_eq!(story.skip(&["web-3"]).unwrap(), "left out already");
    story.settle();

    assert!(!story.follow().converges, "it does not come to it");
    assert_eq!(story.told("web-3").as_deref(), Some("1.0"));
}
