//! Environments in which nothing new is deployed for a while.

use cutover_common::{EnvironmentName, FreezeWindow};

use crate::{
    Answer, Refusal, Request, Verb,
    rollout::State,
    testing::{PROD, Story, order, seconds},
};

fn prod() -> EnvironmentName {
    PROD.parse().unwrap()
}

fn freeze(story: &mut Story, window: FreezeWindow) -> Result<Answer, Refusal> {
    let (environment, reason) = (prod(), "holidays".to_owned());
    story.ask(Request::FreezeEnvironment { environment, window, reason })
}

fn thaw(story: &mut Story) {
    story.ask(Request::ThawEnvironment { environment: prod() }).unwrap();
}

fn for_an_hour(story: &Story) -> FreezeWindow {
    FreezeWindow::Once { from: story.now, until: Some(story.now + seconds(3_600)) }
}

#[test]
fn nothing_new_is_deployed_until_it_is_over() {
    let mut story = Story::running(2);
    let window = for_an_hour(&story);
    freeze(&mut story, window).unwrap();
    freeze(&mut story, window).unwrap();
    assert_eq!(story.core.freezes(&prod()).len(), 1, "the same is one");

    story.restart();
    story.pass(seconds(600));
    let refusal = story.try_deploy("2.0", &[]).unwrap_err();
    insta::assert_snapshot!(refusal.text, @"environment prod is frozen for another 50 min, by ann: holidays");
    insta::assert_snapshot!(refusal.hint, @"wait, or deploy all the same and say why: --despite-freeze REASON");
    assert!(story.core.plan(&order("2.0", &[])).is_ok(), "it can be planned");

    story.pass(seconds(3_000));
    story.deploy("2.0", &[]);
}

#[test]
fn a_freeze_without_an_end_is_lifted() {
    let mut story = Story::running(2);
    let window = FreezeWindow::Once { from: story.now, until: None };
    freeze(&mut story, window).unwrap();

    let refusal = story.try_deploy("2.0", &[]).unwrap_err();
    insta::assert_snapshot!(refusal.text, @"environment prod is frozen until it is thawed (cutover env thaw prod), by ann: holidays");
    thaw(&mut story);
    thaw(&mut story);
    story.deploy("2.0", &[]);
}

#[test]
fn whoever_says_why_deploys_all_the_same_and_it_is_told() {
    let mut story = Story::running(2);
    let window = for_an_hour(&story);
    freeze(&mut story, window).unwrap();

    let mut despite = order("2.0", &[]);
    despite.despite_freeze = "login is down".to_owned();
    let (request_id, rollout) = (story.draw(), story.draw());
    story.ask(Request::Deploy { request_id, rollout, order: despite }).unwrap();

    let history = &story.core.rollout(rollout).unwrap().history;
    assert!(history[0].1.contains("despite the freeze: login is down"), "{history:?}");
}

#[test]
fn what_is_under_way_goes_on_and_the_way_back_is_open() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[("batch", "1")]);
    let window = for_an_hour(&story);
    freeze(&mut story, window).unwrap();
    story.settle();
    assert_eq!(story.state_word(), "succeeded", "{}", story.why());

    // A rollback of what is over is a new rollout.
    story.control(Verb::Rollback).unwrap();
    story.settle();
    assert!(matches!(story.newest().state, State::Ended { .. }));
    assert_eq!(story.told("web-1").as_deref(), Some("1.0"));
    let refusal = story.control(Verb::Retry).unwrap_err();
    assert!(refusal.text.contains("is frozen"), "{refusal:?}");
    // A host that joins gets what runs.
    story.join("web-3");
    story.connect("web-3");
    story.settle();
    assert_eq!(story.told("web-3").as_deref(), Some("1.0"));
}

#[test]
fn a_freeze_that_makes_no_sense_is_refused() {
    let mut story = Story::running(1);
    let window = FreezeWindow::Once { from: story.now, until: Some(story.now) };
    assert_eq!(
        freeze(&mut story, window).unwrap_err().text,
        "the freeze would end before it begins"
    );
    let environment = "prodd".parse().unwrap();
    let nowhere = Request::ThawEnvironment { environment };
    assert!(story.ask(nowhere).unwrap_err().hint.contains("prod"));
    for number in 1..=32 {
        let until = Some(story.now + seconds(number));
        let window = FreezeWindow::Once { from: story.now, until };
        freeze(&mut story, window).unwrap();
    }
    let window = for_an_hour(&story);
    assert!(freeze(&mut story, window).unwrap_err().text.contains("which is the most"));
    // Those that are over do not count.
    story.pass(seconds(10));
    let window = for_an_hour(&story);
    freeze(&mut story, window).unwrap();
}
