//! Sessions: who may speak, and for how long silence is borne.

use cutover_common::wire::{FarewellReason, REPEATED_MAX};

use crate::{
    Action,
    testing::{Story, name, seconds},
};

fn farewell(story: &Story) -> Option<FarewellReason> {
    story.actions.iter().find_map(|action| {
        if let Action::EndSession { reason, .. } = action { Some(reason.reason) } else { None }
    })
}

#[test]
fn a_second_session_is_refused_while_the_first_is_alive() {
    let mut story = Story::running(1);
    let first = story.agents[&name("web-1")].session;
    story.pass_in_silence(seconds(14));

    let second = story.hello("web-1");

    assert_eq!(farewell(&story), Some(FarewellReason::AlreadyConnected));
    assert_eq!(story.core.fleet().session(&name("web-1")), first);
    assert!(story.core.fleet().agent(second).is_none());
}

#[test]
fn a_second_session_takes_the_place_of_one_that_has_been_silent_for_too_long() {
    let mut story = Story::running(1);
    // Nobody woke the core meanwhile.
    story.now = story.now + seconds(15);

    let second = story.hello("web-1");

    assert_eq!(story.core.fleet().session(&name("web-1")), Some(second));
}

#[test]
fn what_a_session_says_after_its_end_is_not_heard() {
    let mut story = Story::running(1);
    let first = story.agents[&name("web-1")].session.unwrap();
    story.lose("web-1");
    story.connect("web-1");
    let heard = story.core.fleet().seen(&name("web-1")).unwrap().last_heard;
    story.now = story.now + seconds(5);

    let report = story.agents[&name("web-1")].said.clone().unwrap();
    story.handle(crate::Input::Reported { session: first, report });
    story.handle(crate::Input::SessionClosed { session: first });

    let seen = story.core.fleet().seen(&name("web-1")).unwrap();
    assert_eq!(seen.last_heard, heard);
    assert!(seen.session.is_some(), "the newer session lives on");
}

#[test]
fn every_heartbeat_is_echoed_with_its_nonce_and_never_touches_the_disk() {
    let mut story = Story::running(1);
    let events = story.log.len();

    story.beat("web-1");

    assert!(story.actions.iter().any(|action| matches!(action, Action::Echo { .. })));
    assert_eq!(story.log.len(), events);
}

#[test]
fn an_agent_that_comes_is_welcomed_and_shown_its_newest_goal_only() {
    let mut story = Story::running(1);
    story.lose("web-1");
    story.deploy("2.0", &[]);

    story.hello("web-1");

    assert!(matches!(story.actions[0], Action::Welcome { .. }), "{:?}", story.actions);
    let shown = story.actions.iter().filter(|action| matches!(action, Action::Assign { .. }));
    assert_eq!(shown.count(), 1);
}

#[test]
fn a_goal_that_an_agent_does_not_follow_is_sent_again_with_its_beats() {
    let mut story = Story::running(1);
    story.deploy("2.0", &[]);
    // It was held up on its way: the agent says again what it said of the goal before.
    let sends = |story: &mut Story| {
        story.pass(seconds(5));
        story.actions.iter().any(|action| matches!(action, Action::Assign { .. }))
    };

    let sent: Vec<bool> = (0..5).map(|_| sends(&mut story)).collect();
    assert_eq!(sent, [false, true, false, true, false], "not with every beat");

    story.obey("web-1");
    let sent: Vec<bool> = (0..5).map(|_| sends(&mut story)).collect();
    assert_eq!(sent, [false, true, false, true, false], "the next goal is told, and not followed");

    story.obey("web-1");
    assert!((0..5).all(|_| !sends(&mut story)), "it is followed");
}

#[test]
fn an_agent_cannot_fill_the_memory_with_applications_that_it_makes_up() {
    let mut story = Story::running(1);
    let session = story.agents[&name("web-1")].session.unwrap();
    let true_one = story.agents[&name("web-1")].said.clone().unwrap();

    for number in 0..2 * REPEATED_MAX {
        let mut report = true_one.clone();
        report.application = format!("made-up-{number}").parse().unwrap();
        story.handle(crate::Input::Reported { session, report });
    }

    let seen = story.core.fleet().seen(&name("web-1")).unwrap();
    assert_eq!((seen.held.len(), seen.reports.len()), (REPEATED_MAX, REPEATED_MAX));
    assert!(seen.reports.contains_key(&true_one.application));
}
