//! Canaries and cutovers: what runs beside what serves.

use cutover_common::{Health, HoldState, Phase, RouteMode, Slot, Traffic};

use crate::{
    Verb,
    rollout::{CutoverPhase, HostState, Waiting},
    testing::{Story, gated, in_place, name, seconds},
};

/// Begins with `count` hosts that run 4.0 in health behind their gates.
fn behind_gates(count: usize) -> Story {
    let mut story = Story::fleet(count);
    for of in ["4.0", "5.0", "6.0"] {
        story.push(gated(of));
    }
    story.deploy("4.0", &[("strategy", "all_at_once")]);
    story.settle();
    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
    story
}

/// Returns what clients of `agent` are to get, and in thousandths what the other slot gets.
fn route(story: &Story, agent: &str) -> (String, Option<(String, u16)>) {
    let goal = story.core.goals.of(&name(agent), &"web".parse().unwrap()).unwrap();
    let leads = goal.wanted.leads().unwrap().1.to_string();
    let share = goal.wanted.route.as_ref().map(|route| route.share.get());
    let beside = goal.wanted.beside().map(|(_, version)| version.to_string());
    (leads, beside.zip(share))
}

fn mode(story: &Story, agent: &str) -> Option<&'static str> {
    let goal = story.core.goals.of(&name(agent), &"web".parse().ok()?)?;
    goal.wanted.route.as_ref().map(|route| match route.mode {
        RouteMode::Open => "open",
        RouteMode::Hold(_) => "hold",
        RouteMode::Armed(_) => "armed",
    })
}

fn beside(leads: &str, other: &str, share: u16) -> (String, Option<(String, u16)>) {
    (leads.to_owned(), Some((other.to_owned(), share)))
}

const CANARY: [(&str, &str); 3] =
    [("strategy", "canary"), ("canary_steps", "5%:5m,50%:10m"), ("batch", "2")];

#[test]
fn a_canary_gets_traffic_step_by_step_before_anybody_else() {
    let mut story = behind_gates(3);
    story.deploy("5.0", &CANARY);
    story.obey_all();
    assert_eq!(route(&story, "web-1"), beside("4.0", "5.0", 0), "started, and no traffic");
    assert_eq!(story.hosts("staging"), "web-1");

    story.obey("web-1");
    assert_eq!(route(&story, "web-1"), beside("4.0", "5.0", 50));
    assert!(matches!(story.waiting(), Some(Waiting::ForShift { .. })), "{:?}", story.waiting());

    story.obey("web-1");
    insta::assert_snapshot!(story.why(), @"0 of 3 hosts run 5.0, and this step of batch 1 of 2 began just now. Comparing it with the old release for another 5m.");
    story.pass(seconds(300));
    assert_eq!(route(&story, "web-1"), beside("4.0", "5.0", 500));
    assert_eq!(story.hosts("pending"), "web-2 web-3");

    story.obey("web-1");
    story.pass(seconds(600));
    assert_eq!(route(&story, "web-1"), ("5.0".to_owned(), None));
    story.settle();
    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
}

#[test]
fn a_canary_that_fails_is_all_that_goes_back() {
    let mut story = behind_gates(3);
    story.deploy("5.0", &CANARY);
    story.obey_all();
    story.obey("web-1");
    story.obey("web-1");

    story.fail("web-1", "5.0");

    assert_eq!(story.state_word(), "rolling_back");
    assert_eq!(route(&story, "web-1"), ("4.0".to_owned(), None), "at once: it takes nobody out");
    story.settle();
    assert_eq!(story.state_word(), "rolled_back");
    assert_eq!(story.hosts("pending"), "web-2 web-3");
}

#[test]
fn a_canary_that_is_promoted_by_hand_waits_for_it() {
    let mut story = behind_gates(3);
    story.deploy(
        "5.0",
        &[("strategy", "canary"), ("canary_steps", "50%:1m"), ("canary_promote", "manual")],
    );
    story.settle();
    story.pass(seconds(60));
    story.settle();
    assert!(matches!(story.waiting(), Some(Waiting::ForPromotion { .. })), "{}", story.why());
    assert_eq!(route(&story, "web-1"), beside("4.0", "5.0", 500));

    story.control(Verb::Promote { full: false }).unwrap();
    story.settle();
    assert_eq!(story.state_word(), "succeeded");
}

#[test]
fn a_shift_that_has_not_begun_is_called_back_by_a_pause() {
    let mut story = behind_gates(2);
    story.deploy("5.0", &CANARY);
    story.obey_all();
    story.obey("web-1");
    assert_eq!(route(&story, "web-1"), beside("4.0", "5.0", 50));

    story.control(Verb::Pause).unwrap();

    assert_eq!(route(&story, "web-1"), beside("4.0", "5.0", 0));
    story.obey_all();
    story.control(Verb::Resume).unwrap();
    assert_eq!(route(&story, "web-1"), beside("4.0", "5.0", 50));
}

#[test]
fn a_pause_leaves_a_canary_the_share_that_it_has() {
    let mut story = behind_gates(2);
    story.deploy("5.0", &CANARY);
    story.obey_all();
    story.obey("web-1");
    story.obey("web-1");
    assert_eq!(route(&story, "web-1"), beside("4.0", "5.0", 50));

    story.control(Verb::Pause).unwrap();

    assert_eq!(route(&story, "web-1"), beside("4.0", "5.0", 50));
}

#[test]
fn canaries_are_chosen_by_label() {
    let mut story = behind_gates(3);
    let set = crate::testing::labels(&[("tier", "canary")]);
    let agent = name("web-2");
    story.ask(crate::Request::LabelAgent { agent, set, unset: Vec::new() }).unwrap();

    story.deploy("5.0", &[("strategy", "canary"), ("canary_hosts", "tier=canary")]);

    assert_eq!(story.newest().plan.waves[0].agents, [name("web-2")]);
    story.control(Verb::Abort).unwrap();
    let refusal = story
        .try_deploy("5.0", &[("strategy", "canary"), ("canary_hosts", "tier=none")])
        .unwrap_err();
    assert_eq!(refusal.text, "no host that the release is to come to has the label tier=none");
}

const BLUE_GREEN: [(&str, &str); 2] = [("strategy", "blue_green"), ("keep", "1h")];

/// Brings the release beside what serves on every host of three.
fn staged(settings: &[(&str, &str)]) -> Story {
    let mut story = behind_gates(3);
    story.deploy("5.0", settings);
    story.obey_all();
    story.obey("web-1");
    story.obey("web-2");
    assert_eq!(story.hosts("staged"), "web-1 web-2");
    assert_eq!(mode(&story, "web-1"), Some("open"), "not before all are");
    story
}

#[test]
fn a_strict_cutover_holds_then_arms_then_switches_all() {
    let mut story = staged(&BLUE_GREEN);
    story.obey("web-3");
    for agent in ["web-1", "web-2", "web-3"] {
        assert_eq!(mode(&story, agent), Some("hold"));
    }

    story.obey("web-1");
    story.obey("web-2");
    assert_eq!(mode(&story, "web-1"), Some("hold"), "web-3 is not drained");
    story.obey("web-3");
    assert_eq!(mode(&story, "web-1"), Some("armed"));

    story.obey("web-1");
    story.obey("web-2");
    assert_eq!(route(&story, "web-1"), beside("4.0", "5.0", 0), "web-3 is not armed");
    story.obey("web-3");
    for agent in ["web-1", "web-2", "web-3"] {
        assert_eq!(route(&story, agent), beside("5.0", "4.0", 0), "the old one stays warm");
        assert_eq!(mode(&story, agent), Some("open"));
    }

    story.settle();
    assert!(matches!(story.waiting(), Some(Waiting::ForSoak { .. })), "{}", story.why());
    story.pass(seconds(3_600));
    assert_eq!(route(&story, "web-1"), ("5.0".to_owned(), None));
    story.settle();
    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
}

#[test]
fn a_gate_that_does_not_get_empty_lets_all_go_on_and_after_three_times_a_person_decides() {
    let mut story = staged(&BLUE_GREEN);
    story.obey("web-3");
    for attempt in 1..=3 {
        story.obey("web-1");
        story.obey("web-2");
        let mut report = story.compliance("web-3").unwrap();
        report.hold = HoldState::Holding;
        story.say("web-3", report);
        assert_eq!(mode(&story, "web-1"), Some("hold"), "attempt {attempt}");

        story.pass(seconds(10));
        assert_eq!(mode(&story, "web-1"), Some("open"));
        assert_eq!(route(&story, "web-1"), beside("4.0", "5.0", 0));
        story.obey_all();
        story.pass(seconds(5));
    }

    assert_eq!(story.state_word(), "held");
    insta::assert_snapshot!(story.why(), @"Held for a person 8s ago: clients could not be led to 5.0 at all gates at one moment, 3 times: something was still under way at a gate after 9s; they get the old release. 0 of 3 hosts run 5.0.");
    story.control(Verb::Retry).unwrap();
    story.settle();
    assert_eq!(story.hosts("updated"), "web-1 web-2 web-3");
}

#[test]
fn a_gate_that_is_lost_while_all_hold_lets_all_go_on() {
    let mut story = staged(&BLUE_GREEN);
    story.obey("web-3");
    story.obey("web-1");

    story.lose("web-2");

    assert_eq!(mode(&story, "web-1"), Some("open"));
    assert_eq!(mode(&story, "web-2"), Some("open"));
    story.pass(seconds(6));
    assert!(matches!(story.waiting(), Some(Waiting::ForContact { .. })), "{:?}", story.waiting());
    story.connect("web-2");
    story.settle();
    assert_eq!(story.hosts("updated"), "web-1 web-2 web-3");
}

#[test]
fn a_gate_that_is_lost_when_the_switch_was_decided_keeps_its_goal() {
    let mut story = staged(&BLUE_GREEN);
    story.obey("web-3");
    story.obey_all();
    story.obey("web-1");
    story.obey("web-2");
    story.obey("web-3");
    assert_eq!(route(&story, "web-2"), beside("5.0", "4.0", 0));

    story.lose("web-2");
    story.obey("web-1");
    story.obey("web-3");

    assert_eq!(story.hosts("updated"), "web-1 web-3");
    assert_eq!(route(&story, "web-2"), beside("5.0", "4.0", 0));
    story.connect("web-2");
    story.settle();
    assert_eq!(story.hosts("updated"), "web-1 web-2 web-3");
}

#[test]
fn a_gate_that_does_not_hold_yet_is_waited_for() {
    let mut story = staged(&BLUE_GREEN);
    story.obey("web-3");
    // The agent tells at once that it has the goal, and its gate holds a moment later.
    let mut report = story.compliance("web-1").unwrap();
    report.hold = HoldState::Open;

    story.say("web-1", report);

    assert_eq!(mode(&story, "web-2"), Some("hold"));
    story.obey_all();
    assert_eq!(mode(&story, "web-2"), Some("armed"));
    assert_eq!(story.newest().cutover.unwrap().attempt, 1);
}

#[test]
fn an_armed_gate_that_let_go_by_itself_is_seen() {
    let mut story = staged(&BLUE_GREEN);
    story.obey("web-3");
    story.obey_all();
    let mut report = story.compliance("web-1").unwrap();
    report.hold = HoldState::Open;

    story.say("web-1", report);

    assert_eq!(mode(&story, "web-2"), Some("open"));
    let cutover = story.newest().cutover.unwrap();
    assert_eq!((cutover.phase, cutover.attempt), (CutoverPhase::Release, 1));
}

#[test]
fn to_hold_and_to_arm_take_no_longer_together_than_a_request_may_wait() {
    let mut story = staged(&BLUE_GREEN);
    story.obey("web-3");
    story.pass(seconds(6));
    assert_eq!(mode(&story, "web-1"), Some("hold"));
    story.obey_all();
    story.obey("web-1");
    story.obey("web-2");

    story.pass(seconds(2));
    assert_eq!(mode(&story, "web-1"), Some("armed"), "web-3 has not said that it is");
    // Before the gates of web-1 and web-2 would tell clients to come again later.
    story.pass(seconds(1));

    assert_eq!(mode(&story, "web-1"), Some("open"));
    assert_eq!(route(&story, "web-1"), beside("4.0", "5.0", 0));
}

#[test]
fn whoever_pauses_or_aborts_in_the_middle_leaves_no_client_waiting() {
    for verb in [Verb::Pause, Verb::Abort] {
        let mut story = staged(&BLUE_GREEN);
        story.obey("web-3");
        story.obey_all();
        assert_eq!(mode(&story, "web-1"), Some("armed"));

        story.control(verb).unwrap();

        assert_eq!(mode(&story, "web-1"), Some("open"), "{verb:?}");
        assert_eq!(route(&story, "web-1"), beside("4.0", "5.0", 0));
    }
}

#[test]
fn a_host_that_is_excluded_in_the_middle_leaves_no_client_waiting() {
    let mut story = staged(&BLUE_GREEN);
    story.obey("web-3");

    story.exclude(&["web-3"]).unwrap();

    assert_eq!(mode(&story, "web-3"), Some("open"));
    story.settle();
    story.pass(seconds(10));
    story.settle();
    assert_eq!(story.hosts("updated"), "web-1 web-2");
}

#[test]
fn a_new_process_goes_on_with_a_cutover() {
    for armed in [false, true] {
        let mut story = staged(&BLUE_GREEN);
        story.obey("web-3");
        if armed {
            story.obey_all();
        }

        story.restart();
        story.connect_all();
        story.settle();
        story.pass(seconds(6));
        story.settle();

        assert_eq!(story.hosts("updated"), "web-1 web-2 web-3", "{armed}: {}", story.why());
    }
}

#[test]
fn rolling_back_while_the_old_one_is_warm_is_at_once_and_everywhere() {
    let mut story = staged(&BLUE_GREEN);
    story.settle();
    assert_eq!(story.hosts("updated"), "web-1 web-2 web-3");

    story.control(Verb::Rollback).unwrap();

    for agent in ["web-1", "web-2", "web-3"] {
        assert_eq!(route(&story, agent), ("4.0".to_owned(), None));
    }
    story.settle();
    assert_eq!(story.state_word(), "rolled_back");
}

#[test]
fn a_relaxed_cutover_holds_nobody() {
    let mut story = staged(&[("strategy", "blue_green"), ("cutover", "relaxed"), ("keep", "0s")]);

    story.obey("web-3");

    assert_eq!(route(&story, "web-1"), beside("5.0", "4.0", 0));
    story.settle();
    assert_eq!(story.state_word(), "succeeded");
    assert_eq!(route(&story, "web-1"), ("5.0".to_owned(), None));
}

#[test]
fn until_smoke_it_is_staging_and_the_next_deploy_goes_straight_to_the_cutover() {
    let mut story = behind_gates(2);
    story.deploy("5.0", &[("strategy", "blue_green"), ("until", "smoke")]);
    story.settle();
    assert_eq!(story.state_word(), "staged");
    insta::assert_snapshot!(story.why(), @"Staged: 2 of 2 hosts run 5.0 beside what serves, without traffic.");
    assert_eq!(route(&story, "web-1"), beside("4.0", "5.0", 0));
    let from = story.core.environments.values().next().unwrap().stable.values().next().unwrap();
    assert_eq!(from.as_str(), "4.0");

    story.deploy("5.0", &BLUE_GREEN);
    story.obey_all();
    story.obey_all();
    assert_eq!(mode(&story, "web-1"), Some("hold"), "nothing had to be started");
    story.settle();
    assert_eq!(story.hosts("updated"), "web-1 web-2");
}

#[test]
fn another_release_takes_the_place_of_what_was_staged() {
    let mut story = behind_gates(2);
    story.deploy("5.0", &[("strategy", "blue_green"), ("until", "smoke")]);
    story.settle();

    story.deploy("6.0", &[]);
    story.settle();

    assert_eq!(story.state_word(), "succeeded");
    assert_eq!(route(&story, "web-1"), ("6.0".to_owned(), None));
}

#[test]
fn a_first_blue_green_deploy_has_nothing_to_cut_over_from() {
    let mut story = Story::fleet(2);
    story.push(gated("4.0"));
    story.deploy("4.0", &BLUE_GREEN);
    story.settle();
    assert_eq!(story.hosts("updated"), "web-1 web-2", "{}", story.why());
}

#[test]
fn what_is_replaced_in_place_cannot_be_cut_over() {
    let mut story = Story::fleet(1);
    for of in ["4.0", "5.0"] {
        story.push(in_place(of));
    }
    story.deploy("4.0", &[]);
    story.settle();

    let refusal = story.try_deploy("5.0", &BLUE_GREEN).unwrap_err();

    assert_eq!(
        refusal.text,
        "blue_green starts 5.0 beside what runs, and web is replaced in place"
    );
}

#[test]
fn what_turns_bad_beside_what_serves_goes_back_without_anybody_noticing() {
    let mut story = staged(&BLUE_GREEN);

    let mut report = story.compliance("web-1").unwrap();
    report.slots.green.health = Health::Failing;
    report.slots.green.phase = Phase::Running;
    report.slots.green.traffic = Traffic::Away;
    story.say("web-1", report);

    assert_eq!(story.state_word(), "rolling_back");
    for agent in ["web-1", "web-2", "web-3"] {
        assert_eq!(route(&story, agent).0, "4.0");
    }
    story.settle();
    assert_eq!(story.state_word(), "rolled_back");
    assert!(matches!(story.host("web-2"), HostState::Reverted));
    let slot = story.core.goals.of(&name("web-2"), &"web".parse().unwrap()).unwrap().running_slot();
    assert_eq!(slot, Some(Slot::Blue));
}

#[test]
fn a_canary_that_is_called_back_from_the_last_switch_stays_a_canary() {
    let mut story = behind_gates(2);
    story.deploy("5.0", &[("strategy", "canary"), ("canary_steps", "50%:1m")]);
    story.obey_all();
    story.obey("web-1");
    story.obey("web-1");
    story.pass(seconds(60));
    assert_eq!(route(&story, "web-1"), ("5.0".to_owned(), None));

    // It has not accepted that goal.
    story.control(Verb::Pause).unwrap();

    assert_eq!(route(&story, "web-1"), beside("4.0", "5.0", 500));
    story.obey("web-1");
    story.control(Verb::Resume).unwrap();
    story.settle();
    story.pass(seconds(60));
    story.settle();
    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
}

#[test]
fn who_was_switched_and_is_tried_again_keeps_its_clients() {
    let mut story = staged(&[("strategy", "blue_green"), ("keep", "1h"), ("auto_rollback", "off")]);
    story.settle();
    story.fail("web-1", "5.0");
    story.control(Verb::Retry).unwrap();
    assert_eq!(story.hosts("staging"), "web-1");
    assert_eq!(route(&story, "web-1").0, "5.0");
    story.fail("web-2", "5.0");
    assert_eq!(story.state_word(), "held");

    story.control(Verb::Retry).unwrap();

    assert_eq!(route(&story, "web-1").0, "5.0", "nobody gave the floor for its way back");
    assert_eq!(route(&story, "web-2").0, "5.0");
}

#[test]
fn nobody_is_led_back_by_a_pause_or_a_drain_after_a_strict_switch_was_decided() {
    let decided = || {
        let mut story = staged(&BLUE_GREEN);
        story.obey("web-3");
        story.obey_all();
        for agent in ["web-1", "web-2", "web-3"] {
            story.obey(agent);
        }
        story.lose("web-2");
        assert_eq!(route(&story, "web-2"), beside("5.0", "4.0", 0));
        story
    };

    let mut paused = decided();
    paused.control(Verb::Pause).unwrap();
    assert_eq!(route(&paused, "web-2"), beside("5.0", "4.0", 0), "others serve 5.0");
    let mut aborted = decided();
    aborted.control(Verb::Abort).unwrap();
    assert_eq!(route(&aborted, "web-2"), beside("5.0", "4.0", 0));
    let mut drained = decided();
    drained.force_drain("web-2");
    assert_eq!(route(&drained, "web-2"), beside("5.0", "4.0", 0));

    // Where each host leads over for itself it is called back as in a batch.
    let mut relaxed = staged(&[("strategy", "blue_green"), ("cutover", "relaxed")]);
    relaxed.lose("web-2");
    relaxed.control(Verb::Pause).unwrap();
    assert_eq!(route(&relaxed, "web-2"), beside("4.0", "5.0", 0));
}
