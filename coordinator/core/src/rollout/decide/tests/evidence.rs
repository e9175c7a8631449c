//! What does not count as evidence: late, stale, foreign and lookalike reports.

use cutover_common::{Fence, Generation, Health, Phase, Slot};

use crate::{
    rollout::HostState,
    testing::{Story, hash, seconds},
};

#[test]
fn a_report_of_an_older_goal_is_no_evidence() {
    let mut story = Story::running(1);
    story.deploy("2.0", &[]);
    story.obey_all();
    let mut late = story.slot_as("web-1", "2.0", |_| {});
    late.fence.generation = Generation(late.fence.generation.0 - 1);

    story.say("web-1", late);

    assert!(matches!(story.host("web-1"), HostState::Updating { .. }));
}

#[test]
fn a_failure_under_an_older_goal_is_no_evidence_either() {
    let mut story = Story::running(1);
    story.deploy("2.0", &[]);
    let mut late = story.slot_as("web-1", "2.0", |slot| slot.phase = Phase::Failed);
    story.obey_all();
    late.fence.generation = Generation(late.fence.generation.0);

    story.say("web-1", late);

    assert!(matches!(story.host("web-1"), HostState::Updating { .. }));
}

#[test]
fn a_report_of_a_goal_that_this_coordinator_never_made_is_no_evidence() {
    let mut story = Story::running(1);
    story.deploy("2.0", &[]);
    story.obey_all();
    let mut foreign = story.slot_as("web-1", "2.0", |_| {});
    foreign.fence.generation = Generation(foreign.fence.generation.0 + 5);

    story.say("web-1", foreign);

    assert!(matches!(story.host("web-1"), HostState::Updating { .. }));
    assert_eq!(story.state_word(), "held", "somebody else commands it (F7)");
}

#[test]
fn the_same_version_with_another_content_is_no_evidence() {
    let mut story = Story::running(1);
    story.deploy("2.0", &[]);
    story.obey_all();
    let mut lookalike = story.slot_as("web-1", "2.0", |_| {});
    for slot in Slot::ALL {
        if let Some((_, digest)) = &mut lookalike.slots.of_mut(slot).release {
            *digest = hash("something else");
        }
    }

    story.say("web-1", lookalike);

    assert!(matches!(story.host("web-1"), HostState::Updating { .. }));
}

#[test]
fn what_was_said_in_an_earlier_session_is_no_evidence() {
    let mut story = Story::running(3);
    story.deploy("2.0", &[("batch", "1"), ("soak", "10s"), ("min_healthy", "0")]);
    story.obey_all();
    story.obey("web-1");
    story.lose("web-1");

    story.hello("web-1");
    story.pass_in_silence(seconds(12));
    assert_eq!(story.hosts("updating"), "", "it has not said how it is");

    story.beat("web-1");
    assert_eq!(story.hosts("updating"), "web-2");
}

#[test]
fn late_opposite_reports_change_nothing_after_the_end() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[("batch", "1")]);
    story.settle();
    assert_eq!(story.state_word(), "succeeded");
    let ended = story.newest().clone();
    let events = story.log.len();

    story.fail("web-1", "2.0");
    story.report("web-2", "2.0", Phase::Failed, Health::Failing);
    story.pass(seconds(1_000));

    assert_eq!(story.newest(), &ended);
    assert_eq!(story.log.len(), events, "what is over is not written about");
}

#[test]
fn a_restart_of_the_coordinator_changes_nothing_of_what_is_over() {
    let mut story = Story::running(2);
    let ended = story.newest().clone();

    story.pass(seconds(100));
    story.restart();

    assert_eq!(story.newest(), &ended);
}

#[test]
fn a_heartbeat_that_names_no_application_says_that_it_is_gone() {
    let mut story = Story::running(2);
    let web_1 = crate::testing::name("web-1");
    assert!(story.core.fleet().is_healthy(&web_1, &"web".parse().unwrap()));

    story.agents.get_mut(&web_1).unwrap().said = None;
    story.beat("web-1");

    assert!(!story.core.fleet().is_healthy(&web_1, &"web".parse().unwrap()));
}

#[test]
fn an_older_report_does_not_lower_what_an_agent_is_known_to_hold() {
    let mut story = Story::running(1);
    let held = |story: &Story| {
        story.core.fleet().seen(&crate::testing::name("web-1")).unwrap().held
            [&"web".parse().unwrap()]
    };
    let before: Fence = held(&story);
    let mut old = story.slot_as("web-1", "1.0", |_| {});
    old.fence.generation = Generation(1);

    story.say("web-1", old);

    assert_eq!(held(&story), before);
}
