//! Deploys that wait for what is under way.

use cutover_common::FreezeWindow;
use uuid::Uuid;

use crate::{
    Answer, IfBusy, Refusal, Request, Verb,
    event::{Dequeued, EventKind},
    operate::Found,
    queue::QUEUED_MAX,
    rollout::{Outcome, State},
    testing::{PROD, Story, labels, order, seconds},
};

fn ask_queued(
    story: &mut Story,
    to: &str,
    settings: &[(&str, &str)],
) -> (Uuid, Result<Answer, Refusal>) {
    let (request_id, rollout) = (story.draw(), story.draw());
    let order = crate::DeployOrder { if_busy: IfBusy::Queue, ..order(to, settings) };
    (rollout, story.ask(Request::Deploy { request_id, rollout, order }))
}

/// Queues a deploy that has to wait.
fn queue(story: &mut Story, to: &str) -> Uuid {
    let (rollout, answer) = ask_queued(story, to, &[]);
    assert!(matches!(answer, Ok(Answer::RolloutQueued { .. })), "{answer:?}");
    rollout
}

/// Does something to the rollout of this id.
fn control(story: &mut Story, rollout: Uuid, verb: Verb, call: Uuid) -> Result<Answer, Refusal> {
    let (rollout, reason, if_busy) = (rollout.to_string(), String::new(), IfBusy::Refuse);
    story.ask(Request::Control { rollout, verb, reason, new_rollout: call, if_busy })
}

/// Returns the state of a rollout, that has begun or not, and why.
fn shown(story: &Story, id: Uuid) -> (&'static str, String) {
    match story.core.find(&id.to_string()).unwrap() {
        Found::Rollout(rollout) => {
            let view = story.core.view(rollout, story.now);
            (view.state, view.why)
        }
        Found::Queued(queued) => {
            let view = story.core.view_queued(queued, story.now);
            (view.state, view.why)
        }
    }
}

fn state(story: &Story, id: Uuid) -> &'static str {
    shown(story, id).0
}

fn frozen() -> Request {
    let window = FreezeWindow::Once { from: cutover_common::Timestamp::default(), until: None };
    let environment = PROD.parse().unwrap();
    Request::FreezeEnvironment { environment, window, reason: "holidays".to_owned() }
}

#[test]
fn where_nothing_is_under_way_it_begins_at_once() {
    let mut story = Story::running(2);

    let (rollout, answer) = ask_queued(&mut story, "2.0", &[]);

    assert_eq!(answer, Ok(Answer::RolloutStarted { rollout, repeated: false }));
}

#[test]
fn queued_rollouts_begin_in_their_order_when_the_one_before_is_over() {
    let mut story = Story::running(2);
    let first = story.deploy("2.0", &[]);
    let second = queue(&mut story, "3.0");
    let (third, answer) = ask_queued(&mut story, "1.0", &[]);
    let waits_for = Some(second);
    let queued = Answer::RolloutQueued { rollout: third, repeated: false, waits_for, ahead: 1 };
    assert_eq!(answer, Ok(queued));

    story.pass(seconds(120));
    let why =
        |id| shown(&story, id).1.replace(&first.to_string(), "A").replace(&second.to_string(), "B");
    insta::assert_snapshot!(why(second), @"Waiting for rollout A to 2.0 to end (advancing), for 2m by now. Then it is planned on the fleet of that moment, and begins.");
    insta::assert_snapshot!(why(third), @"Waiting for rollout B to 3.0, which is queued before it, to begin and end, for 2m by now. Then it is planned on the fleet of that moment, and begins.");

    story.settle();
    let states = [first, second, third].map(|id| state(&story, id));
    assert_eq!(states, ["succeeded"; 3]);
    let history = story.core.history(None, None, 3);
    let order: Vec<Uuid> = history.iter().map(|found| found.id()).collect();
    assert_eq!(order, [third, second, first]);
    let (at, told) = &story.core.rollout(third).unwrap().history[0];
    assert_eq!(
        (told.as_str(), story.core.rollout(third).unwrap().started > *at),
        ("queued by ann", true)
    );
}

#[test]
fn one_that_is_held_or_paused_keeps_the_queue_waiting() {
    let mut story = Story::running(2);
    let first = story.deploy("2.0", &[]);
    story.control(Verb::Pause).unwrap();
    let second = queue(&mut story, "3.0");
    story.settle();
    story.pass(seconds(3_600));
    assert_eq!(state(&story, second), "queued");

    let call = story.draw();
    control(&mut story, first, Verb::Abort, call).unwrap();

    assert_eq!((state(&story, first), state(&story, second)), ("aborted", "advancing"));
}

#[test]
fn it_begins_also_when_the_one_before_went_back() {
    let mut story = Story::running(2);
    let first = story.deploy("2.0", &[]);
    let second = queue(&mut story, "3.0");
    story.obey_all();
    story.control(Verb::Rollback).unwrap();
    assert_eq!((state(&story, first), state(&story, second)), ("rolling_back", "queued"));

    story.settle();

    assert_eq!((state(&story, first), state(&story, second)), ("rolled_back", "succeeded"));
    assert_eq!(story.core.rollout(second).unwrap().from, Some("1.0".parse().unwrap()));
}

#[test]
fn what_cannot_begin_when_its_turn_comes_is_refused_and_the_next_is_looked_at() {
    let mut story = Story::running(2);
    let first = story.deploy("2.0", &[]);
    // By then it runs everywhere.
    let same = queue(&mut story, "2.0");
    let next = queue(&mut story, "3.0");

    story.settle();

    assert_eq!((state(&story, first), state(&story, next)), ("succeeded", "succeeded"));
    let (word, why) = shown(&story, same);
    assert_eq!(word, "refused");
    insta::assert_snapshot!(why, @"Refused when its turn came: web@2.0 runs in health on all 2 hosts of prod already (nothing is to be done).");
}

#[test]
fn a_freeze_of_that_moment_refuses_it_unless_it_says_why_it_comes() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[]);
    let refused = queue(&mut story, "3.0");
    let (request_id, comes) = (story.draw(), story.draw());
    let mut order = order("1.0", &[]);
    (order.if_busy, order.despite_freeze) = (IfBusy::Queue, "it burns".to_owned());
    story.ask(Request::Deploy { request_id, rollout: comes, order }).unwrap();
    story.ask(frozen()).unwrap();

    story.settle();

    assert_eq!((state(&story, refused), state(&story, comes)), ("refused", "succeeded"));
    assert!(shown(&story, refused).1.contains("is frozen"), "{}", shown(&story, refused).1);
}

#[test]
fn it_is_planned_on_the_fleet_of_its_moment() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[]);
    let second = queue(&mut story, "3.0");
    story.join("web-3");
    story.connect_all();

    story.settle();

    assert_eq!(story.core.rollout(second).unwrap().hosts.len(), 3);
}

#[test]
fn what_is_mistyped_is_refused_at_once() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[]);

    assert!(ask_queued(&mut story, "9.9", &[]).1.is_err());
    assert!(ask_queued(&mut story, "3.0", &[("batch", "many")]).1.is_err());
    assert_eq!(story.core.queue().waiting().count(), 0);
}

#[test]
fn a_queue_is_bounded() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[]);
    for _ in 0..QUEUED_MAX {
        queue(&mut story, "3.0");
    }

    let refusal = ask_queued(&mut story, "3.0", &[]).1.unwrap_err();

    insta::assert_snapshot!(refusal.text, @"16 rollouts of web are queued for prod, which is the most");
}

#[test]
fn an_abort_takes_it_out_and_is_known_again() {
    let mut story = Story::running(2);
    let first = story.deploy("2.0", &[]);
    let second = queue(&mut story, "3.0");
    let third = queue(&mut story, "1.0");
    let call = story.draw();

    control(&mut story, second, Verb::Abort, call).unwrap();
    story.restart();
    story.connect_all();
    let again = control(&mut story, second, Verb::Abort, call).unwrap();
    let other = story.draw();
    assert!(control(&mut story, second, Verb::Abort, other).is_err(), "it is over");
    assert!(control(&mut story, third, Verb::Pause, other).is_err(), "it has not begun");
    story.settle();

    let text = "aborted already, by this very request".to_owned();
    assert_eq!(again, Answer::Controlled { rollout: second, text });
    let states = [first, second, third].map(|id| state(&story, id));
    assert_eq!(states, ["succeeded", "aborted", "succeeded"]);
}

#[test]
fn one_that_was_refused_is_tried_again_by_a_retry() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[]);
    let refused = queue(&mut story, "3.0");
    story.ask(frozen()).unwrap();
    story.settle();
    story.ask(Request::ThawEnvironment { environment: PROD.parse().unwrap() }).unwrap();
    let call = story.draw();

    let answer = control(&mut story, refused, Verb::Retry, call).unwrap();
    let again = control(&mut story, refused, Verb::Retry, call).unwrap();
    story.settle();

    assert_eq!(answer, again);
    assert_eq!((state(&story, refused), state(&story, call)), ("refused", "succeeded"));
}

#[test]
fn a_deploy_that_supersedes_takes_the_place_of_all() {
    let mut story = Story::running(2);
    let first = story.deploy("2.0", &[]);
    let second = queue(&mut story, "3.0");
    let (request_id, third) = (story.draw(), story.draw());
    let order = crate::DeployOrder { if_busy: IfBusy::Supersede, ..order("3.0", &[]) };

    story.ask(Request::Deploy { request_id, rollout: third, order }).unwrap();

    let ended = &story.core.rollout(first).unwrap().state;
    assert!(matches!(ended, State::Ended { outcome: Outcome::Aborted, .. }), "{ended:?}");
    assert_eq!((state(&story, second), state(&story, third)), ("aborted", "advancing"));
    let how = Dequeued::Superseded { by: "ann".to_owned(), rollout: third };
    let told = EventKind::RolloutDequeued { id: second, how, call: None };
    assert!(story.log.iter().any(|event| event.kind == told));
}

#[test]
fn the_same_request_again_is_the_same_queued_rollout() {
    let mut story = Story::running(2);
    let first = story.deploy("2.0", &[]);
    let (request_id, rollout, other) = (story.draw(), story.draw(), story.draw());
    let deploy = |rollout| {
        let order = crate::DeployOrder { if_busy: IfBusy::Queue, ..order("3.0", &[]) };
        Request::Deploy { request_id, rollout, order }
    };
    story.ask(deploy(rollout)).unwrap();
    story.restart();

    let again = story.ask(deploy(other)).unwrap();
    story.connect_all();
    story.settle();
    let begun = story.ask(deploy(other)).unwrap();

    let waits_for = Some(first);
    assert_eq!(again, Answer::RolloutQueued { rollout, repeated: true, waits_for, ahead: 0 });
    assert_eq!(begun, Answer::RolloutStarted { rollout, repeated: true });
}

#[test]
fn a_coordinator_that_is_killed_at_any_event_loses_no_queued_rollout() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[("soak", "30s")]);
    let second = ask_queued(&mut story, "3.0", &[("soak", "30s")]).0;
    let third = ask_queued(&mut story, "1.0", &[("soak", "30s")]).0;

    // Between two batches, and between two rollouts, only time passes.
    while state(&story, third) != "succeeded" {
        story.settle();
        let before = story.clone();
        story.pass(seconds(10));
        for events in before.log.len()..=story.log.len() {
            let mut again = Story::from_log(&before, story.log[..events].to_vec());
            again.leave_alone(None, seconds(600));
            let states = [second, third].map(|id| state(&again, id));
            assert_eq!(states, ["succeeded"; 2], "after {:?}", story.log[events - 1].kind);
        }
    }
}

#[test]
fn what_is_next_waits_until_the_hosts_were_heard() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[]);
    let second = queue(&mut story, "3.0");
    let call = story.draw();
    let first = story.rollout.unwrap();
    control(&mut story, first, Verb::Abort, call).unwrap();
    let begins = story.log.iter().rposition(
        |event| matches!(&event.kind, EventKind::RolloutStarted(started) if started.id == second),
    );

    // Killed right before it begins.
    let mut again = Story::from_log(&story, story.log[..begins.unwrap()].to_vec());

    let (word, why) = shown(&again, second);
    assert_eq!(word, "queued");
    insta::assert_snapshot!(why, @"Waiting for word of web-1, web-2, for 0s by now. Then it is planned on the fleet of that moment, and begins.");
    assert!(again.try_deploy("1.0", &[]).is_err(), "nobody is overtaken");
    again.pass_in_silence(seconds(600));
    assert_ne!(state(&again, second), "queued", "whoever stays away is planned without");
}

#[test]
fn after_a_restore_nothing_waits_that_would_begin_by_itself() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[]);
    let second = queue(&mut story, "3.0");
    let mut log = story.log.clone();
    let term = cutover_common::Term(1_000_003);
    log.push(crate::Event { at: story.now, kind: EventKind::Restored { term } });

    let again = Story::from_log(&story, log);

    assert_eq!(state(&again, second), "aborted");
}

#[test]
fn it_waits_for_a_rollout_of_another_environment_that_shares_its_hosts() {
    let mut story = Story::running(2);
    let select = labels(&[("env", "prod")]);
    let name: cutover_common::EnvironmentName = "same-hosts".parse().unwrap();
    story.ask(Request::CreateEnvironment { name: name.clone(), select }).unwrap();
    let first = story.deploy("2.0", &[]);
    let (request_id, second) = (story.draw(), story.draw());
    let mut order = order("3.0", &[]);
    (order.environment, order.if_busy) = (name, IfBusy::Queue);
    story.ask(Request::Deploy { request_id, rollout: second, order }).unwrap();
    assert_eq!(state(&story, second), "queued");
    assert!(shown(&story, second).1.contains("to 2.0 in prod to end"));

    story.settle();

    assert_eq!((state(&story, first), state(&story, second)), ("succeeded", "succeeded"));
}

#[test]
fn a_first_deploy_that_waits_is_in_the_status() {
    let mut story = Story::running(2);
    let shops: cutover_common::EnvironmentName = "shops".parse().unwrap();
    let select = labels(&[("env", "prod")]);
    story.ask(Request::CreateEnvironment { name: shops.clone(), select }).unwrap();
    story.deploy("2.0", &[]);
    let (request_id, rollout) = (story.draw(), story.draw());
    let order = crate::DeployOrder {
        if_busy: IfBusy::Queue,
        environment: shops.clone(),
        ..order("3.0", &[])
    };
    story.ask(Request::Deploy { request_id, rollout, order }).unwrap();

    let status = story.core.status(None, story.now);

    let row = status.iter().find(|row| *row.environment == shops).expect("it waits there");
    assert_eq!(row.queue.iter().map(|view| view.queued.id).collect::<Vec<_>>(), [rollout]);
    assert!(row.rollout.is_none() && row.stable.is_none());
}

#[test]
fn what_was_asked_for_before_is_not_later_for_having_waited() {
    let mut story = Story::running(2);
    let first = story.deploy("2.0", &[]);
    let second = queue(&mut story, "3.0");
    let third = queue(&mut story, "1.0");
    let (call, again) = (story.draw(), story.draw());
    control(&mut story, third, Verb::Abort, call).unwrap();
    story.settle();
    assert_eq!([first, second].map(|id| state(&story, id)), ["succeeded"; 2]);

    control(&mut story, third, Verb::Retry, again).unwrap();
    story.settle();

    assert_eq!(state(&story, again), "succeeded");
}
