//! What operators do to rollouts, in every state.

use cutover_common::{Health, Phase};

use crate::{
    RefusalKind, Request, Verb,
    rollout::HostState,
    testing::{Story, gated, labels, order, seconds},
};

const VERBS: [Verb; 5] = [Verb::Pause, Verb::Resume, Verb::Abort, Verb::Retry, Verb::Rollback];

fn advancing() -> Story {
    let mut story = Story::running(3);
    story.deploy("2.0", &[("batch", "1"), ("bake", "5m")]);
    story.obey_all();
    story
}

fn baking() -> Story {
    let mut story = advancing();
    story.settle();
    story
}

fn rolling_back() -> Story {
    let mut story = advancing();
    story.fail("web-1", "2.0");
    story
}

fn after(mut story: Story, verb: Verb) -> Story {
    story.control(verb).unwrap();
    story
}

fn held() -> Story {
    let mut story = advancing();
    story.lose("web-1");
    story.pass(seconds(700));
    story
}

fn held_on_the_way_back() -> Story {
    let mut story = rolling_back();
    story.report("web-1", "1.0", Phase::Failed, Health::Failing);
    story
}

fn succeeded() -> Story {
    let mut story = baking();
    story.pass(seconds(300));
    story
}

fn rolled_back() -> Story {
    let mut story = rolling_back();
    story.settle();
    story
}

/// Every state that a rollout can be in, by its name.
pub(super) fn states() -> Vec<(&'static str, Story)> {
    vec![
        ("advancing", advancing()),
        ("baking", baking()),
        ("rolling_back", rolling_back()),
        ("paused", after(advancing(), Verb::Pause)),
        ("paused going back", after(rolling_back(), Verb::Pause)),
        ("held", held()),
        ("held going back", held_on_the_way_back()),
        ("succeeded", succeeded()),
        ("rolled_back", rolled_back()),
        ("aborted", after(advancing(), Verb::Abort)),
    ]
}

#[test]
fn every_verb_in_every_state_is_done_or_refused_with_a_reason() {
    let mut table = String::new();
    for (name, story) in states() {
        assert!(name.starts_with(story.state_word()), "{name}: {}", story.why());
        table.push_str(&format!("{name}\n"));
        for verb in VERBS {
            let mut story = story.clone();
            let id = story.rollout.unwrap().to_string();
            let line = match story.control(verb) {
                Ok(text) => format!("{text} -> {}", story.state_word()),
                Err(refusal) => format!("REFUSED {}; {}", refusal.text, refusal.hint),
            };
            table.push_str(&format!("  {}: {}\n", verb.word(), line.replace(&id, "ID")));
        }
    }

    insta::assert_snapshot!(table);
}

#[test]
fn what_a_view_says_to_type_next_is_accepted() {
    for (name, story) in states() {
        let view = story.core.view(story.newest(), story.now);
        for line in view.next {
            let typed: Vec<&str> = line.split(' ').collect();
            let verb = VERBS.into_iter().find(|verb| verb.word() == typed[1]);
            if let Some(verb) = verb {
                let mut story = story.clone();
                assert!(story.control(verb).is_ok(), "{name}: {line}");
            } else {
                assert_eq!(typed[1], "watch", "{name}: {line}");
            }
        }
    }
}

#[test]
fn a_pause_lets_hosts_finish_that_have_begun_and_begins_no_other() {
    let mut story = Story::running(4);
    story.deploy("2.0", &[("batch", "2")]);
    story.obey_all();
    story.report("web-1", "2.0", Phase::Starting, Health::Unknown);
    // web-2 has not accepted its goal yet.
    story.control(Verb::Pause).unwrap();

    assert_eq!(story.told("web-1").as_deref(), Some("2.0"));
    assert_eq!(story.told("web-2").as_deref(), Some("1.0"), "it was called back (A5)");
    assert_eq!(story.hosts("pending"), "web-2 web-3 web-4");

    story.settle();
    assert_eq!(story.hosts("updated"), "web-1", "its end is noted");
    assert_eq!(story.state_word(), "paused");

    story.control(Verb::Resume).unwrap();
    story.settle();
    story.pass(seconds(1));
    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
}

#[test]
fn a_host_that_was_cut_off_before_it_heard_does_not_begin_after_an_abort() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[("batch", "1")]);
    story.obey_all();
    for agent in story.agents.values_mut() {
        agent.session = None;
    }

    story.control(Verb::Abort).unwrap();
    story.pass_in_silence(seconds(60));
    story.connect_all();
    story.settle();

    assert_eq!(story.told("web-1").as_deref(), Some("1.0"));
    assert_eq!(story.state_word(), "aborted");
}

#[test]
fn a_host_that_was_left_out_before_it_heard_does_not_begin_after_a_pause() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[("batch", "1"), ("max_unreachable", "1"), ("bake", "10m")]);
    story.obey_all();
    story.lose("web-1");
    story.pass(seconds(60));
    assert_eq!(story.hosts("unreachable"), "web-1", "{}", story.why());

    story.control(Verb::Pause).unwrap();
    story.connect_all();
    story.settle();
    assert_eq!(story.told("web-1").as_deref(), Some("1.0"), "it was called back (A5)");
    assert_eq!(story.hosts("unreachable"), "web-1", "it counts as left out");

    story.control(Verb::Resume).unwrap();
    story.settle();
    story.pass(seconds(700));
    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
    assert_eq!(story.told("web-1").as_deref(), Some("1.0"));
}

#[test]
fn a_host_that_ran_something_else_is_called_back_to_that() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[("batch", "1")]);
    story.obey_all();
    story.obey("web-1");
    story.control(Verb::Abort).unwrap();
    story.obey_all();
    assert_eq!(story.told("web-1").as_deref(), Some("2.0"), "it stays as it is");

    story.deploy("3.0", &[("batch", "2"), ("min_healthy", "0")]);
    story.obey_all();
    story.control(Verb::Pause).unwrap();

    assert_eq!(story.told("web-1").as_deref(), Some("2.0"), "not 1.0: a pause takes nothing down");
    assert_eq!(story.told("web-2").as_deref(), Some("1.0"));
}

#[test]
fn a_host_that_said_at_its_hello_that_it_has_its_goal_is_not_called_back() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[("batch", "1")]);
    story.obey_all();
    story.report("web-1", "2.0", Phase::Starting, Health::Unknown);
    story.restart();
    story.hello("web-1");

    story.control(Verb::Pause).unwrap();

    assert!(matches!(story.host("web-1"), HostState::Updating { .. }));
    assert_eq!(story.told("web-1").as_deref(), Some("2.0"));
}

#[test]
fn a_resumed_soak_begins_again() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[("batch", "1"), ("soak", "60s")]);
    story.settle();
    story.pass(seconds(50));
    story.control(Verb::Pause).unwrap();
    story.pass(seconds(500));

    story.control(Verb::Resume).unwrap();
    story.pass(seconds(59));
    assert_eq!(story.hosts("updating"), "");
    story.pass(seconds(1));

    assert_eq!(story.hosts("updating"), "web-2");
}

#[test]
fn a_host_that_fails_during_a_pause_counts_when_it_is_over() {
    let mut story = Story::running(3);
    story.deploy("2.0", &[("batch", "1")]);
    story.obey_all();
    story.report("web-1", "2.0", Phase::Starting, Health::Unknown);
    story.control(Verb::Pause).unwrap();

    story.fail("web-1", "2.0");
    assert_eq!((story.state_word(), story.hosts("failed").as_str()), ("paused", "web-1"));

    story.control(Verb::Resume).unwrap();
    assert_eq!(story.state_word(), "rolling_back");
}

#[test]
fn a_retry_gives_hosts_that_are_still_updating_their_whole_time_again() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[("batch", "1"), ("healthy_within", "60s")]);
    story.obey_all();
    story.lose("web-1");
    story.pass(seconds(700));
    assert_eq!(story.state_word(), "held");
    story.connect("web-1");
    story.report("web-1", "2.0", Phase::Starting, Health::Unknown);

    story.control(Verb::Retry).unwrap();
    story.pass(seconds(70));

    assert_eq!(story.hosts("updating"), "web-1", "{}", story.why());
}

#[test]
fn rolling_back_what_succeeded_starts_a_new_rollout_to_what_ran_before() {
    let mut story = succeeded();
    let first = story.rollout;

    story.control(Verb::Rollback).unwrap();

    assert_ne!(story.rollout, first);
    assert_eq!(
        (story.newest().from.as_ref().unwrap().as_str(), story.newest().to.as_str()),
        ("2.0", "1.0")
    );
    story.settle();
    story.pass(seconds(300));
    assert_eq!(story.state_word(), "succeeded");
    assert_eq!(story.told("web-1").as_deref(), Some("1.0"));
}

#[test]
fn a_rollback_of_an_older_rollout_is_refused() {
    let mut story = succeeded();
    let older = story.rollout;
    story.deploy("3.0", &[]);
    story.settle();
    story.rollout = older;

    let refusal = story.control(Verb::Rollback).unwrap_err();

    assert!(refusal.text.ends_with("is not the newest of web"), "{refusal:?}");
}

#[test]
fn a_retry_of_what_was_rolled_back_goes_with_the_same_settings() {
    let mut story = rolled_back();
    let before = story.newest().spec.clone();

    story.control(Verb::Retry).unwrap();

    assert_eq!(story.newest().spec, before);
    assert_eq!(story.newest().to.as_str(), "2.0");
}

#[test]
fn a_canary_that_is_retried_is_reached_on_purpose_as_before() {
    let mut story = Story::running(3);
    story.push(gated("4.0"));
    let on_purpose = [("canary_header", "x-canary=1"), ("canary_cookie", "canary=1")];
    story.deploy("4.0", &[&[("strategy", "canary")], &on_purpose[..]].concat());
    let before = story.newest().spec.canary.clone().unwrap();
    assert!(before.allow.is_some());
    story.control(Verb::Abort).unwrap();

    story.control(Verb::Retry).unwrap();

    assert_eq!(story.newest().spec.canary, Some(before));
}

#[test]
fn a_rollback_that_is_asked_for_again_is_the_same_one() {
    let mut story = succeeded();
    let rollout = story.newest().id.to_string();
    let (new_rollout, reason) = (story.draw(), String::new());
    let request = Request::Control {
        rollout,
        verb: Verb::Rollback,
        reason,
        new_rollout,
        if_busy: crate::IfBusy::Refuse,
    };

    let first = story.ask(request.clone()).unwrap();
    let again = story.ask(request.clone()).unwrap();
    story.restart();
    let after_restart = story.ask(request).unwrap();

    assert_eq!(first, again);
    assert_eq!(first, after_restart);
    assert_eq!(story.core.active().count(), 1);
}

#[test]
fn a_new_rollout_never_takes_the_place_of_another() {
    let mut story = succeeded();
    let before = story.newest().clone();
    let (rollout, reason) = (before.id.to_string(), String::new());
    let new_rollout = before.id;

    let request = Request::Control {
        rollout,
        verb: Verb::Rollback,
        reason,
        new_rollout,
        if_busy: crate::IfBusy::Refuse,
    };
    let refusal = story.ask(request).unwrap_err();

    assert_eq!(refusal.kind, RefusalKind::Invalid);
    assert_eq!(*story.newest(), before);
}

#[test]
fn the_name_of_an_application_in_two_environments_is_no_order_to_roll_back() {
    let mut story = Story::running(2);
    let first = story.deploy("2.0", &[]);
    story.settle();
    let name = "same-hosts".parse().unwrap();
    let select = labels(&[("env", "prod")]);
    story.ask(Request::CreateEnvironment { name, select }).unwrap();
    let mut elsewhere = order("3.0", &[]);
    elsewhere.environment = "same-hosts".parse().unwrap();
    let (request_id, rollout) = (story.draw(), story.draw());
    story.ask(Request::Deploy { request_id, rollout, order: elsewhere }).unwrap();
    story.settle();

    let new_rollout = story.draw();
    let verb = Verb::Rollback;
    let by_name = |rollout: &str| Request::Control {
        rollout: rollout.to_owned(),
        verb,
        reason: String::new(),
        new_rollout,
        if_busy: crate::IfBusy::Refuse,
    };
    let refusal = story.ask(by_name("web")).unwrap_err();

    assert_eq!(refusal.kind, RefusalKind::Invalid);
    assert_eq!(refusal.text, "web was deployed to 2 environments");
    assert!(refusal.hint.contains("same-hosts"), "{}", refusal.hint);
    assert!(story.ask(by_name(&first.to_string())).is_ok());
}

#[test]
fn a_host_that_is_called_back_out_of_reach_on_the_way_back_goes_back_when_it_is_there() {
    let mut story = Story::running(4);
    story.deploy("2.0", &[("batch", "1"), ("min_healthy", "1"), ("max_unreachable", "1")]);
    story.obey_all();
    story.pass_in_silence(seconds(30));
    assert_eq!(story.hosts("unreachable"), "web-1");
    // Nobody is known to serve, so that nobody is told to go back yet.
    story.control(Verb::Rollback).unwrap();
    story.control(Verb::Pause).unwrap();

    story.control(Verb::Resume).unwrap();
    for agent in story.agents.values_mut() {
        agent.session = None;
    }
    story.connect_all();
    story.settle();

    assert_eq!(story.state_word(), "rolled_back", "{}", story.why());
    assert_eq!(story.told("web-1").as_deref(), Some("1.0"));
}

/// Makes a call twice, the second time as its answer was lost.
fn asked_twice(story: &mut Story, verb: Verb) -> [Result<crate::Answer, crate::Refusal>; 2] {
    let new_rollout = story.draw();
    [(); 2].map(|()| {
        let (rollout, reason) = ("web".to_owned(), String::new());
        story.ask(Request::Control {
            rollout,
            verb,
            reason,
            new_rollout,
            if_busy: crate::IfBusy::Refuse,
        })
    })
}

#[test]
fn a_call_whose_answer_was_lost_is_answered_again_and_done_once() {
    let paused = || after(advancing(), Verb::Pause);
    let stories = [
        (advancing(), Verb::Pause),
        (paused(), Verb::Resume),
        (advancing(), Verb::Abort),
        (held(), Verb::Retry),
        (advancing(), Verb::Rollback),
        (rolled_back(), Verb::Retry),
        (succeeded(), Verb::Rollback),
    ];
    for (mut story, verb) in stories {
        let [first, second] = asked_twice(&mut story, verb);

        let (Ok(crate::Answer::Controlled { rollout: one, .. }), Ok(second)) = (first, second)
        else {
            panic!("{verb:?} is refused the second time");
        };
        let crate::Answer::Controlled { rollout: two, .. } = second else { panic!("{second:?}") };
        assert_eq!(one, two, "{verb:?}");
    }
}

#[test]
fn a_call_that_was_done_is_known_after_a_restart_and_touches_no_later_rollout() {
    let mut story = advancing();
    let call = story.draw();
    let control = |verb: Verb, new_rollout| Request::Control {
        rollout: "web".to_owned(),
        verb,
        reason: String::new(),
        new_rollout,
        if_busy: crate::IfBusy::Refuse,
    };
    story.ask(control(Verb::Abort, call)).unwrap();
    let aborted = story.rollout.unwrap();
    story.restart();
    story.connect_all();
    story.deploy("3.0", &[("batch", "1")]);

    let again = story.ask(control(Verb::Abort, call)).unwrap();

    assert!(
        matches!(again, crate::Answer::Controlled { rollout, .. } if rollout == aborted),
        "{again:?}"
    );
    assert_eq!(story.state_word(), "advancing", "the abort was for the one before");
    let other = story.ask(control(Verb::Pause, call)).unwrap_err();
    assert_eq!(other.kind, RefusalKind::Invalid, "{other:?}");
}

#[test]
fn a_call_that_started_a_rollout_is_known_when_that_is_over_and_another_runs() {
    let mut story = rolled_back();
    let new_rollout = story.draw();
    let retry = Request::Control {
        rollout: "web".to_owned(),
        verb: Verb::Retry,
        reason: String::new(),
        new_rollout,
        if_busy: crate::IfBusy::Refuse,
    };
    story.ask(retry.clone()).unwrap();
    story.rollout = Some(new_rollout);
    story.control(Verb::Abort).unwrap();
    story.deploy("3.0", &[("batch", "1")]);

    let again = story.ask(retry).unwrap();

    assert!(
        matches!(again, crate::Answer::Controlled { rollout, .. } if rollout == new_rollout),
        "{again:?}"
    );
}
