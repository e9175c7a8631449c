//! Lost contact (E6, A7): unknown is neither done nor failed, and never a reason to go back.

use crate::{
    Verb,
    rollout::{HostState, Waiting},
    testing::{Story, seconds},
};

#[test]
fn a_host_lost_while_updating_is_neither_done_nor_failed() {
    let mut story = Story::running(3);
    story.deploy("2.0", &[("batch", "1")]);
    story.obey_all();

    story.lose("web-1");
    story.pass(seconds(500));

    assert!(matches!(story.host("web-1"), HostState::Updating { .. }));
    assert_eq!(story.hosts("pending"), "web-2 web-3", "its token is held, so nobody is next");
    assert!(matches!(story.waiting(), Some(Waiting::ForContact { .. })));
}

#[test]
fn lost_contact_never_goes_back_and_holds_in_the_end() {
    let mut story = Story::running(3);
    story.deploy("2.0", &[("batch", "1"), ("progress_within", "10m")]);
    story.obey_all();
    story.lose("web-1");

    story.pass(seconds(600));

    assert_eq!(story.state_word(), "held");
    insta::assert_snapshot!(story.why(), @"Held for a person just now: nothing went forward for 10m: web-1 cannot be reached, and max_unreachable is 0. 0 of 3 hosts run 2.0.");
}

#[test]
fn a_host_that_comes_back_updated_lets_the_rollout_go_on() {
    let mut story = Story::running(3);
    story.deploy("2.0", &[("batch", "1")]);
    story.obey_all();
    story.lose("web-1");
    // It had its goal, and went on without us.
    story.obey("web-1");
    story.pass(seconds(100));

    story.connect("web-1");

    assert_eq!(story.hosts("updated"), "web-1");
    assert_eq!(story.hosts("updating"), "web-2");
}

#[test]
fn an_unreachable_host_is_left_out_within_the_budget_and_not_before_it_is_long_gone() {
    let mut story = Story::running(4);
    story.deploy("2.0", &[("batch", "1"), ("max_unreachable", "1"), ("min_healthy", "2")]);
    story.lose("web-1");
    story.obey_all();

    story.pass(seconds(14));
    assert_eq!(story.hosts("unreachable"), "");
    story.pass(seconds(1));
    assert_eq!(story.hosts("unreachable"), "web-1");

    for _ in 0..6 {
        story.obey_all();
    }
    assert_eq!(story.state_word(), "succeeded");
    insta::assert_snapshot!(story.why(), @"Succeeded: 3 of 4 hosts run 2.0 in health; left out within the budgets: web-1.");
}

#[test]
fn the_next_unreachable_host_beyond_the_budget_is_waited_for() {
    let mut story = Story::running(4);
    story.deploy("2.0", &[("batch", "1"), ("max_unreachable", "1"), ("min_healthy", "1")]);
    story.lose("web-1");
    story.lose("web-2");

    story.pass(seconds(100));

    assert_eq!(story.hosts("unreachable"), "web-1");
    assert!(
        matches!(story.waiting(), Some(Waiting::ForContact { agents, .. }) if agents.len() == 1)
    );
}

#[test]
fn a_host_is_not_late_for_the_time_in_which_it_was_away() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[("batch", "1"), ("healthy_within", "60s")]);
    story.obey_all();
    story.lose("web-1");
    story.pass(seconds(300));

    // It says 1.0 still serves: it had no lease to stop it with.
    story.connect("web-1");
    story.pass(seconds(30));
    assert_eq!(story.hosts("updating"), "web-1", "{}", story.why());

    story.pass(seconds(45));
    assert_eq!(story.state_word(), "rolling_back");
}

#[test]
fn a_soak_does_not_end_while_a_watched_host_is_silent() {
    let mut story = Story::running(4);
    story.deploy("2.0", &[("batch", "1"), ("soak", "60s"), ("min_healthy", "0")]);
    story.obey_all();
    story.obey("web-1");
    story.lose("web-1");

    story.pass(seconds(120));
    assert_eq!(story.hosts("updating"), "", "no data is not health");
    assert!(matches!(story.waiting(), Some(Waiting::ForContact { .. })));

    story.connect("web-1");
    assert_eq!(story.hosts("updating"), "web-2");
}

#[test]
fn a_bake_does_not_end_while_a_host_is_silent() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[("batch", "1"), ("bake", "60s"), ("progress_within", "10m")]);
    story.settle();
    story.lose("web-2");

    story.pass(seconds(120));
    assert_eq!(story.state_word(), "baking");

    story.pass(seconds(600));
    assert_eq!(story.state_word(), "held", "{}", story.why());
}

#[test]
fn a_host_lost_after_its_batch_is_left_out_within_the_budget() {
    let mut story = Story::running(3);
    let settings =
        [("batch", "1"), ("soak", "60s"), ("max_unreachable", "1"), ("min_healthy", "1")];
    story.deploy("2.0", &settings);
    story.obey_all();
    story.obey("web-1");
    story.lose("web-1");

    story.pass(seconds(60));

    assert_eq!(story.hosts("unreachable"), "web-1");
    assert_eq!(story.hosts("updating"), "web-2");
}

#[test]
fn silence_of_three_heartbeats_is_lost_contact() {
    let mut story = Story::running(2);

    story.pass_in_silence(seconds(14));
    assert!(story.core.fleet().session(&crate::testing::name("web-1")).is_some());
    story.pass_in_silence(seconds(1));

    assert!(story.core.fleet().session(&crate::testing::name("web-1")).is_none());
}

#[test]
fn a_fleet_that_is_cut_off_for_an_hour_holds_and_goes_on_when_retried() {
    let mut story = Story::running(3);
    story.deploy("2.0", &[("batch", "1")]);
    story.obey_all();
    for agent in ["web-1", "web-2", "web-3"] {
        story.lose(agent);
    }
    story.pass(seconds(3_600));
    assert_eq!(story.state_word(), "held");

    story.connect_all();
    story.control(Verb::Retry).unwrap();
    story.settle();

    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
}

#[test]
fn what_comes_to_light_while_held_is_noted() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[("batch", "1")]);
    story.obey_all();
    story.lose("web-1");
    story.pass(seconds(700));
    assert_eq!(story.state_word(), "held");

    story.connect("web-1");
    story.obey("web-1");

    assert_eq!(story.hosts("updated"), "web-1");
    assert_eq!(story.state_word(), "held", "only a person lets it go on");
}

#[test]
fn where_it_was_said_one_that_is_away_counts_as_failed() {
    let mut story = Story::running(3);
    story.deploy("2.0", &[("batch", "1"), ("unreachable", "fail"), ("min_healthy", "1")]);
    story.obey_all();
    assert_eq!(story.hosts("updating"), "web-1");
    story.lose("web-1");

    story.pass(seconds(120));

    let failed = story.newest().history.iter().find(|(_, line)| line.contains("web-1 failed"));
    let (_, line) = failed.expect("it is said");
    assert!(line.contains("counts as failed (unreachable is fail)"), "{line}");
    // It went back, and the one that is away cannot.
    assert!(story.why().contains("web-1 (not connected) did not come back"), "{}", story.why());
}

#[test]
fn where_it_was_said_nobody_is_left_out() {
    let mut story = Story::running(3);
    story.lose("web-1");
    story.deploy("2.0", &[("batch", "1"), ("unreachable", "wait"), ("min_healthy", "1")]);
    story.obey_all();
    story.pass(seconds(300));
    assert_eq!(story.state_word(), "advancing", "{}", story.why());
    assert!(story.why().contains("web-1"), "{}", story.why());

    let refusal = Story::running(3)
        .try_deploy("2.0", &[("unreachable", "wait"), ("max_unreachable", "1")])
        .unwrap_err();
    insta::assert_snapshot!(refusal.text, @r#"max_unreachable: 1 may be left out, and unreachable = "wait" leaves out none; write max_unreachable = 0, or another word"#);
}
