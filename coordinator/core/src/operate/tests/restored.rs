//! A store that is older than the fleet (F7): nothing is sent until a person decides, and then
//! what runs stays until its turn.

use cutover_common::{Generation, Health, OnceReport, OnceStand, Phase, Report, Term};

use crate::{
    Coordinator, EventKind, Input, RefusalKind, Verb,
    event::{Change, Event},
    once::{OnceStep, Stand},
    rollout::Waiting,
    testing::{PROD, Story, gated, hash, migrated, release, seconds, version},
};

/// A coordinator restored from a backup of when the fleet ran 1.0; the fleet runs 3.0.
fn restored(count: usize) -> Story {
    let mut story = Story::running(count);
    let backup = story.log.clone();
    for newer in ["2.0", "3.0"] {
        story.deploy(newer, &[]);
        story.settle();
        assert_eq!(story.state_word(), "succeeded");
    }
    restore(&story, backup)
}

fn restore(story: &Story, mut log: Vec<Event>) -> Story {
    let term = Term(story.core.term().0 + 1_000_000);
    log.push(Event { at: story.now, kind: EventKind::Restored { term } });
    Story::from_log(story, log)
}

#[test]
fn hosts_that_hold_a_later_goal_are_sent_nothing() {
    let mut story = restored(2);
    for agent in story.agents.values_mut() {
        agent.assigned = None;
    }

    story.connect_all();
    story.pass(seconds(1_000));

    assert_eq!(story.told("web-1"), None);
    assert_eq!(
        story.core.status(None, story.now)[0].hosts[0].detail,
        "follows a goal that this coordinator has not set; deploy anew to take it over"
    );
}

#[test]
fn a_deploy_takes_them_over_above_what_they_hold_and_leaves_what_runs_until_its_turn() {
    let mut story = restored(3);
    story.connect_all();
    let held = story.agents.values().map(|agent| agent.held.generation).max().unwrap();

    story.deploy("2.0", &[("batch", "1")]);

    assert!(story.generation("web-3") > held);
    for agent in ["web-1", "web-2", "web-3"] {
        assert_eq!(story.told(agent).as_deref(), Some("3.0"), "not 1.0, which the backup knew");
    }
    story.obey_all();
    assert_eq!(story.hosts("updating"), "web-1");
    story.settle();
    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
}

#[test]
fn a_deploy_that_fails_goes_back_to_what_the_fleet_ran() {
    let mut story = restored(2);
    story.connect_all();
    story.deploy("2.0", &[("batch", "1")]);
    story.obey_all();

    story.fail("web-1", "2.0");
    story.settle();

    assert_eq!(story.state_word(), "rolled_back", "{}", story.why());
    assert_eq!(story.told("web-1").as_deref(), Some("3.0"));
}

#[test]
fn a_config_that_the_backup_has_is_taken_over_also_where_it_was_deployed_later() {
    let mut story = Story::running(1);
    story.configure(&[("LOG", "info")]);
    let backup = story.log.clone();
    story.deploy("2.0", &[]);
    story.settle();
    assert_eq!(story.told("web-1").as_deref(), Some("2.0~prod.1"));
    let mut story = restore(&story, backup);
    story.connect_all();

    story.deploy("3.0", &[]);

    assert_eq!(story.told("web-1").as_deref(), Some("2.0~prod.1"), "it stays until its turn");
    story.settle();
    assert_eq!(story.told("web-1").as_deref(), Some("3.0~prod.1"));
}

#[test]
fn a_known_config_of_what_the_backup_does_not_know_is_taken_over_when_that_is_pushed_again() {
    let mut story = Story::running(1);
    story.configure(&[("LOG", "info")]);
    let backup = story.log.clone();
    story.push(release("4.0", "4.0"));
    story.deploy("4.0", &[]);
    story.settle();
    assert_eq!(story.told("web-1").as_deref(), Some("4.0~prod.1"));
    let mut story = restore(&story, backup);
    story.connect_all();

    let refusal = story.try_deploy("3.0", &[]).unwrap_err();
    assert!(refusal.hint.contains("push that release again"), "{refusal:?}");
    story.push(release("4.0", "4.0"));
    story.deploy("3.0", &[]);
    story.settle();
    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
    story.control(Verb::Rollback).unwrap();
    story.settle();
    assert_eq!(story.told("web-1").as_deref(), Some("4.0~prod.1"));
}

#[test]
fn a_config_that_came_after_the_backup_is_not_taken_for_another() {
    let mut story = Story::running(1);
    story.configure(&[("LOG", "info")]);
    let backup = story.log.clone();
    story.configure(&[("LOG", "debug")]);
    story.deploy("2.0", &[]);
    story.settle();
    let mut story = restore(&story, backup);
    story.connect_all();
    story.configure(&[("LOG", "warn")]);

    let refusal = story.try_deploy("3.0", &[]).unwrap_err();

    insta::assert_snapshot!(refusal.text, @"agent web-1 runs a web@2.0~prod.2 that this coordinator does not know");
    assert!(refusal.hint.contains("leave and join again"), "{refusal:?}");
}

/// Deploys 4.0, whose once hook passes on web-1, and returns the coordinator as it was before.
fn migrated_after_the_backup(story: &mut Story) -> Story {
    let backup = story.log.clone();
    story.deploy("4.0", &[("batch", "1")]);
    story.settle();
    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
    // An agent tells of it for as long as its goal names the release.
    let onces = story.core.onces();
    let once = onces.get(&PROD.parse().unwrap(), &"web".parse().unwrap(), &version("4.0"));
    let (agent, permit) = once.map(|once| (once.agent.clone(), once.permit.unwrap())).unwrap();
    let told = OnceReport { release: hash("4.0"), permit, stand: OnceStand::Passed };
    story.agent(agent.as_str()).said.as_mut().unwrap().once = vec![told];
    restore(story, backup)
}

fn was_given(story: &Story) -> usize {
    let is_given = |event: &&Event| {
        let EventKind::Rollout { change, .. } = &event.kind else { return false };
        matches!(change, Change::Once { step: OnceStep::Given, .. })
    };
    story.log.iter().filter(is_given).count()
}

#[test]
fn a_once_hook_is_run_again_only_when_all_hosts_have_been_asked() {
    let mut story = Story::running(2);
    story.push(migrated(release("4.0", "4.0")));
    let mut story = migrated_after_the_backup(&mut story);
    story.connect("web-2");
    // It takes no part, and may know something all the same.
    story.force_drain("web-1");

    story.deploy("4.0", &[("batch", "1"), ("min_healthy", "0")]);
    story.obey("web-2");
    assert_eq!(was_given(&story), 0, "{}", story.why());
    assert!(matches!(story.waiting(), Some(Waiting::ForOnce { .. })), "{}", story.why());

    story.connect("web-1");
    assert_eq!(was_given(&story), 0, "{}", story.why());
    let once =
        story.core.onces().get(&PROD.parse().unwrap(), &"web".parse().unwrap(), &version("4.0"));
    assert_eq!(once.map(|once| once.stand), Some(Stand::Passed));
}

#[test]
fn what_passed_after_the_backup_counts_also_where_the_backup_knows_that_it_failed() {
    let mut story = Story::running(2);
    story.push(migrated(release("4.0", "4.0")));
    story.deploy("4.0", &[("batch", "1")]);
    story.obey_all();
    let failed = story.slot_as("web-1", "4.0", |slot| {
        (slot.phase, slot.health) = (Phase::Failed, Health::Unknown);
    });
    let once = failed.once.iter().map(|told| OnceReport { stand: OnceStand::Failed, ..*told });
    let failed = Report { once: once.collect(), ..failed.clone() };
    story.say("web-1", failed);
    story.settle();
    assert_eq!(story.state_word(), "rolled_back", "{}", story.why());
    let before = was_given(&story);
    let mut story = migrated_after_the_backup(&mut story);
    story.connect_all();

    story.deploy("4.0", &[("batch", "1"), ("min_healthy", "0")]);
    story.settle();

    assert_eq!(was_given(&story), before, "{}", story.why());
}

#[test]
fn what_runs_and_is_not_known_must_be_pushed_first() {
    let mut story = Story::running(2);
    let mut backup = story.log.clone();
    backup.retain(|event| !matches!(&event.kind, EventKind::ReleaseRegistered { release, .. } if release.name.version.as_str() == "3.0"));
    story.deploy("3.0", &[]);
    story.settle();
    let mut story = restore(&story, backup);
    story.connect_all();

    let refusal = story.try_deploy("2.0", &[]).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::State);
    insta::assert_snapshot!(format!("{}; {}", refusal.text, refusal.hint), @"agent web-1 runs a web@3.0 that this coordinator does not know; push that release again (`cutover release push`), then deploy");

    story.push(release("3.0", "3.0"));
    assert!(story.try_deploy("2.0", &[]).is_ok());
}

#[test]
fn a_host_that_has_not_said_what_it_runs_is_waited_for() {
    let mut story = restored(1);
    story.hello("web-1");

    let refusal = story.try_deploy("2.0", &[]).unwrap_err();

    assert!(refusal.text.contains("has not said yet what it runs"), "{refusal:?}");
}

#[test]
fn a_rollout_that_was_under_way_in_the_backup_is_held() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[("batch", "1")]);
    let rollout = story.rollout;

    let mut story = restore(&story, story.log.clone());
    story.rollout = rollout;
    story.connect_all();
    story.settle();

    assert_eq!(story.state_word(), "held");
    assert_eq!(story.hosts("updating"), "");
    insta::assert_snapshot!(story.why(), @"Held for a person just now: this coordinator was restored from a backup, which may be older than what the hosts run. 0 of 2 hosts run 2.0.");

    story.control(Verb::Retry).unwrap();
    story.settle();
    assert_eq!(story.state_word(), "succeeded", "the hosts are as the backup says, so it goes on");
}

#[test]
fn a_rollout_whose_hosts_follow_another_coordinator_is_held_and_sends_nothing() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[("batch", "1")]);
    story.obey_all();
    story.lose("web-2");
    story.agents.get_mut(&crate::testing::name("web-2")).unwrap().held.generation = Generation(99);
    let told = story.told("web-2");

    story.hello("web-2");
    story.settle();

    assert_eq!(story.state_word(), "held");
    assert_eq!(story.told("web-2"), told);
    insta::assert_snapshot!(story.why(), @"Held for a person just now: web-2 follow goals that this coordinator has not set, as after a restore; abort this, then deploy what they should run. 1 of 2 hosts run 2.0.");
    story.control(Verb::Retry).unwrap();
    assert_eq!(story.state_word(), "held", "nothing has changed");
}

#[test]
fn a_host_of_a_later_term_cannot_be_taken_over() {
    let mut story = Story::running(1);
    story.lose("web-1");
    story.agents.get_mut(&crate::testing::name("web-1")).unwrap().held.term = Term(77);
    story.connect("web-1");

    let refusal = story.try_deploy("2.0", &[]).unwrap_err();

    assert!(refusal.text.contains("of term 77"), "{refusal:?}");
}

#[test]
fn a_log_whose_terms_go_back_is_refused() {
    let story = Story::running(1);
    let mut core = Coordinator::default();
    for event in &story.log {
        core.apply(event).unwrap();
    }

    assert!(core.apply(&story.log[0]).is_err());
}

#[test]
fn a_start_begins_a_term_above_the_last() {
    let mut story = Story::fleet(1);
    let before = story.core.term();
    let boot_nonce = story.draw();

    story.handle(Input::Started { boot_nonce });

    assert!(story.core.term() > before);
}

#[test]
fn a_deploy_while_a_host_is_away_does_not_pass_over_what_it_was_told_in_between() {
    let mut story = Story::fleet(1);
    let backup = story.log.clone();
    // Its first goal ever is not in the backup.
    story.deploy("1.0", &[]);
    story.settle();
    assert_eq!(story.state_word(), "succeeded");
    let mut story = restore(&story, backup);
    for agent in story.agents.values_mut() {
        agent.assigned = None;
    }

    // Nobody is there when it is deployed anew, and again, so that the numbers pass those.
    for _ in 0..3 {
        story.deploy("2.0", &[]);
        story.control(Verb::Abort).unwrap();
    }
    story.deploy("3.0", &[]);
    story.connect_all();
    story.pass(seconds(30));

    assert_eq!(story.told("web-1"), None);
    assert!(story.why().contains("goals that this coordinator has not set"), "{}", story.why());
}

#[test]
fn a_second_restore_knows_no_more_of_a_host_than_the_first() {
    let mut story = Story::fleet(1);
    let backup = story.log.clone();
    story.deploy("1.0", &[]);
    story.settle();
    let mut story = restore(&story, backup);
    for agent in story.agents.values_mut() {
        agent.assigned = None;
    }
    for _ in 0..3 {
        story.deploy("2.0", &[]);
        story.control(Verb::Abort).unwrap();
    }

    let again = story.log.clone();
    let mut story = restore(&story, again);
    story.connect_all();
    story.pass(seconds(30));

    assert_eq!(story.told("web-1"), None);
}

#[test]
fn a_goal_that_an_agent_refuses_for_another_of_its_number_waits_for_a_person() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[("batch", "1")]);
    let mut report = story.compliance("web-2").unwrap();
    // What a clone of this coordinator had it hold, of the same number.
    report.refused = Some(report.fence);
    report.fence.term = Term(0);
    *report.slots.of_mut(cutover_common::Slot::Green) = cutover_common::SlotReport::default();

    story.say("web-2", report);

    assert_eq!(story.state_word(), "held");
    insta::assert_snapshot!(story.why(), @"Held for a person just now: web-2 follow goals that this coordinator has not set, as after a restore; abort this, then deploy what they should run. 0 of 2 hosts run 2.0.");
    let refused = story.generation("web-2");
    story.control(Verb::Abort).unwrap();
    story.deploy("2.0", &[("batch", "1")]);
    assert!(story.generation("web-2") > refused);
    story.settle();
    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
}

#[test]
fn what_a_host_that_is_ahead_tries_to_run_is_taken_over_as_what_it_runs() {
    let mut story = restored(2);
    for agent in ["web-1", "web-2"] {
        let report = story.slot_as(agent, "3.0", |slot| {
            slot.phase = Phase::Failed;
            slot.health = Health::Failing;
        });
        story.agents.get_mut(&crate::testing::name(agent)).unwrap().said = Some(report);
    }
    story.connect_all();

    story.deploy("2.0", &[("batch", "1")]);

    assert_eq!(story.told("web-2").as_deref(), Some("3.0"));
}

#[test]
fn of_two_that_get_traffic_the_one_that_was_there_before_is_taken_over() {
    let mut story = Story::fleet(1);
    for of in ["4.0", "5.0", "6.0"] {
        story.push(gated(of));
    }
    story.deploy("4.0", &[]);
    story.settle();
    // It is in the other slot than at first.
    story.deploy("4.0", &[("strategy", "restart")]);
    story.settle();
    let backup = story.log.clone();
    story.deploy("5.0", &[("strategy", "canary"), ("canary_steps", "10%:1h")]);
    story.settle();
    assert_eq!(story.state_word(), "advancing", "{}", story.why());
    let mut story = restore(&story, backup);
    story.connect_all();

    story.deploy("6.0", &[]);

    assert_eq!(story.told("web-1").as_deref(), Some("4.0"), "90 of 100 clients get it");
}
