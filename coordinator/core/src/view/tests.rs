//! What `cutover why` says: two sentences at the most, to be read at three in the morning.

use cutover_common::{Health, Phase};

use crate::{
    Verb,
    operate::Found,
    testing::{Story, name, seconds},
    view::Part,
};

/// Checks the shape that every answer has, and returns it.
fn why(story: &Story) -> String {
    let why = story.why();
    let sentences = why.matches(". ").count() + 1;
    assert!(sentences <= 2, "{sentences} sentences: {why}");
    assert!(why.ends_with('.') && !why.ends_with(".."), "{why}");
    let id = story.rollout.unwrap().to_string();
    assert!(!why.contains(&id[..8]), "an id where a name is better: {why}");
    assert!(why.len() <= 400, "{} characters: {why}", why.len());
    why
}

#[test]
fn while_hosts_fetch() {
    let mut story = Story::running(4);
    story.deploy("2.0", &[("batch", "2")]);
    story.pass(seconds(30));

    insta::assert_snapshot!(why(&story), @"0 of 4 hosts run 2.0, and this step of batch 1 of 2 began 30s ago. Waiting up to 9m 30s for web-1, web-2 to fetch and verify 2.0, then for a person.");
}

#[test]
fn while_a_host_becomes_healthy() {
    let mut story = Story::running(4);
    story.deploy("2.0", &[("batch", "2")]);
    story.obey_all();
    let starting = story.slot_as("web-1", "2.0", |slot| {
        slot.health = Health::Failing;
        "connection refused".clone_into(&mut slot.detail);
    });
    story.say("web-1", starting);
    story.pass(seconds(15));

    insta::assert_snapshot!(why(&story), @"0 of 4 hosts run 2.0, and this step of batch 1 of 2 began 15s ago. Waiting up to 4m 45s for web-1, web-2 to be healthy (web-1: connection refused), or they count as failed.");
}

#[test]
fn while_the_floor_is_waited_for() {
    let mut story = Story::running(4);
    story.deploy("2.0", &[("batch", "1")]);
    story.obey_all();
    story.fail("web-4", "1.0");
    story.obey("web-1");

    insta::assert_snapshot!(why(&story), @"1 of 4 hosts run 2.0, and this step of batch 2 of 4 began just now. Waiting up to 10m to take web-2 out, as 3 are healthy and min_healthy is 3, then for a person.");
}

#[test]
fn while_a_host_is_out_of_contact() {
    let mut story = Story::running(4);
    story.deploy("2.0", &[("batch", "1")]);
    story.obey_all();
    story.lose("web-1");

    insta::assert_snapshot!(why(&story), @"0 of 4 hosts run 2.0, and this step of batch 1 of 4 began just now. Waiting up to 10m for web-1 to be reachable, as lost contact is no failure, then for a person.");
}

#[test]
fn while_it_soaks_and_while_it_bakes() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[("batch", "1"), ("soak", "90s"), ("bake", "10m")]);
    story.settle();
    story.pass(seconds(20));
    insta::assert_snapshot!(why(&story), @"1 of 2 hosts run 2.0, and this step of batch 1 of 2 began 20s ago. Watching the batch for another 1m 10s, then batch 2 begins.");

    story.pass(seconds(70));
    story.settle();
    story.pass(seconds(100));
    insta::assert_snapshot!(why(&story), @"2 of 2 hosts run 2.0. Watching all hosts for another 9m 50s, then it has succeeded.");
}

#[test]
fn while_it_goes_back() {
    let mut story = Story::running(4);
    story.deploy("2.0", &[("batch", "2")]);
    story.obey_all();
    story.fail("web-1", "2.0");

    insta::assert_snapshot!(why(&story), @"Going back because web-1 failed (crashed 2 times: exited with 1) and max_failed is 0. Waiting up to 10m for web-1, web-2 to be as before, then for a person.");
}

#[test]
fn while_it_goes_back_as_somebody_asked_for_it() {
    let mut story = Story::running(4);
    story.deploy("2.0", &[("batch", "2")]);
    story.obey_all();
    story.control(Verb::Rollback).unwrap();

    insta::assert_snapshot!(why(&story), @"Going back because ann asked for it. Waiting up to 10m for web-1, web-2 to be as before, then for a person.");
}

#[test]
fn while_it_is_paused() {
    let mut story = Story::running(4);
    story.deploy("2.0", &[("batch", "2")]);
    story.obey_all();
    story.obey("web-1");
    story.control(Verb::Pause).unwrap();

    insta::assert_snapshot!(why(&story), @"Paused just now by ann. 1 of 4 hosts run 2.0.");
}

#[test]
fn while_it_is_held_with_auto_rollback_off() {
    let mut story = Story::running(4);
    story.deploy("2.0", &[("batch", "2"), ("auto_rollback", "off")]);
    story.obey_all();
    story.fail("web-2", "2.0");

    insta::assert_snapshot!(why(&story), @"Held for a person just now: web-2 failed (crashed 2 times: exited with 1) and max_failed is 0; auto_rollback is off. 0 of 4 hosts run 2.0.");
}

#[test]
fn while_it_is_held_on_the_way_back() {
    let mut story = Story::running(4);
    story.deploy("2.0", &[("batch", "2")]);
    story.obey_all();
    story.fail("web-1", "2.0");
    let stuck = story.slot_as("web-1", "1.0", |slot| {
        slot.phase = Phase::Failed;
        "port 8080 is taken".clone_into(&mut slot.detail);
    });
    story.say("web-1", stuck);
    story.obey("web-2");

    insta::assert_snapshot!(why(&story), @"Held for a person just now: web-1 (port 8080 is taken) did not come back; going back because web-1 failed (crashed 2 times: exited with 1) and max_failed is 0. 1 of 2 hosts are back.");
}

#[test]
fn when_it_succeeded() {
    let mut story = Story::running(4);
    story.deploy("2.0", &[]);
    story.settle();

    insta::assert_snapshot!(why(&story), @"Succeeded: 4 of 4 hosts run 2.0 in health.");
}

#[test]
fn when_it_was_rolled_back() {
    let mut story = Story::running(4);
    story.deploy("2.0", &[]);
    story.obey_all();
    story.fail("web-1", "2.0");
    story.settle();

    insta::assert_snapshot!(why(&story), @"Rolled back: web-1 failed (crashed 2 times: exited with 1) and max_failed is 0. Every host it had touched runs 1.0 again.");
}

#[test]
fn when_a_first_deploy_was_rolled_back() {
    let mut story = Story::fleet(2);
    story.deploy("1.0", &[]);
    story.obey_all();
    story.fail("web-1", "1.0");
    story.settle();

    insta::assert_snapshot!(why(&story), @"Rolled back: web-1 failed (crashed 2 times: exited with 1) and max_failed is 0. Nothing runs, as before.");
}

#[test]
fn when_it_was_aborted() {
    let mut story = Story::running(4);
    story.deploy("2.0", &[("batch", "2")]);
    story.obey_all();
    story.obey("web-1");
    story.control(Verb::Abort).unwrap();

    insta::assert_snapshot!(why(&story), @"Aborted: stopped by ann; 1 of 4 hosts were told to run 2.0 and stay as they are.");
}

#[test]
fn many_hosts_are_counted_after_the_first() {
    let mut story = Story::running(20);
    story.deploy("2.0", &[("strategy", "all_at_once")]);

    insta::assert_snapshot!(why(&story), @"0 of 20 hosts run 2.0, and this step of batch 1 of 1 began just now. Waiting up to 10m for web-1, web-10, web-11, web-12, web-13, web-14 and 14 more to fetch and verify 2.0, then for a person.");
}

#[test]
fn the_history_reads_as_a_story() {
    let mut story = Story::running(3);
    story.deploy("2.0", &[("batch", "1"), ("soak", "10s")]);
    story.settle();
    story.pass(seconds(10));
    story.obey_all();
    story.fail("web-2", "2.0");
    story.settle();

    let lines: Vec<&str> = story.newest().history.iter().map(|(_, line)| line.as_str()).collect();
    insta::assert_snapshot!(lines.join("\n"), @"
ann started: web from 1.0 to 2.0 in prod, rolling over 3 hosts in 3 batches
batch 1 of 3: replacing on web-1
web-1 told to run 2.0
web-1 runs 2.0 and is healthy
batch 1 of 3 is healthy; watching it for 10s
batch 2 of 3: preparing web-2
batch 2 of 3: replacing on web-2
web-2 told to run 2.0
web-2 runs 2.0 and is healthy
batch 2 of 3 is healthy; watching it for 10s
web-2 failed: was healthy and turned bad: exited with 1
going back on 2 hosts: web-2 failed (was healthy and turned bad: exited with 1) and max_failed is 0
web-2 told to run 1.0 again
web-2 runs 1.0 again and is healthy
going back: group 2
web-1 told to run 1.0 again
web-1 runs 1.0 again and is healthy
rolled back: web-2 failed (was healthy and turned bad: exited with 1) and max_failed is 0
");
}

#[test]
fn a_status_shows_the_fleet_as_it_is() {
    let mut story = Story::running(3);
    story.lose("web-3");
    story.fail("web-2", "1.0");

    let status = story.core.status(None, story.now);
    let hosts: Vec<String> = status[0]
        .hosts
        .iter()
        .map(|host| {
            let version = host.version.as_ref().map_or("-", cutover_common::Version::as_str);
            let (presence, phase, health) = (host.presence, host.phase, host.health);
            format!("{} {presence} {version} {phase} {health} {:?}", host.agent, host.detail)
        })
        .collect();

    insta::assert_snapshot!(hosts.join("\n"), @r#"
web-1 live 1.0 running healthy ""
web-2 live 1.0 running failing "exited with 1"
web-3 lost 1.0 running unknown ""
"#);
}

/// Checks the shape that every answer about a part has, and returns it.
fn part(story: &Story, part: &Part) -> String {
    let rollout = story.core.rollout(story.rollout.unwrap()).unwrap();
    let said = story.core.why_part(Found::Rollout(rollout), part, story.now).unwrap();
    assert!(said.matches(". ").count() <= 2, "three sentences at the most: {said}");
    assert!(said.ends_with('.') && !said.ends_with(".."), "{said}");
    said
}

fn host(story: &Story, agent: &str) -> String {
    part(story, &Part::Host(name(agent)))
}

#[test]
fn of_each_host_and_batch_while_it_goes_on() {
    let mut story = Story::running(3);
    story.deploy("2.0", &[("batch", "1"), ("soak", "90s")]);
    story.settle();
    story.pass(seconds(90));
    story.obey_all();
    story.pass(seconds(20));

    insta::assert_snapshot!(host(&story, "web-1"), @"web-1, in batch 1, runs 2.0, healthy for 1m 50s. It is watched until the rollout is over, and counts as failed if it turns bad; 0 have failed and max_failed is 0: with more the rollout goes back.");
    insta::assert_snapshot!(host(&story, "web-2"), @"web-2, in batch 2, runs 2.0, healthy for 20s. It is watched until the rollout is over, and counts as failed if it turns bad; 0 have failed and max_failed is 0: with more the rollout goes back.");
    insta::assert_snapshot!(host(&story, "web-3"), @"web-3, in batch 3, was not told to run 2.0, and has it on disk. Its turn comes after batch 2 of 3; batch 2 is under way. Watching the batch for another 1m 10s, then batch 3 begins.");
    let batch = |number| part(&story, &Part::Batch(number));
    insta::assert_snapshot!(batch(1), @"Batch 1 (web-1): 1 of 1 are done with 2.0. It is done, and watched until the rollout is over; 0 have failed and max_failed is 0: with more the rollout goes back.");
    insta::assert_snapshot!(batch(2), @"Batch 2 (web-2): 1 of 1 are done with 2.0. Its step began 20s ago. Watching the batch for another 1m 10s, then batch 3 begins.");
    insta::assert_snapshot!(batch(3), @"Batch 3 (web-3): 0 of 1 are done with 2.0. It begins after batch 2; batch 2 is under way. Watching the batch for another 1m 10s, then batch 3 begins.");
}

#[test]
fn of_hosts_that_failed_wait_for_a_person_or_are_left_out() {
    let mut story = Story::running(3);
    story.deploy("2.0", &[("batch", "1"), ("auto_rollback", "off"), ("min_healthy", "1")]);
    story.obey_all();
    story.fail("web-1", "2.0");
    story.skip(&["web-3"]).unwrap();
    story.pass(seconds(75));

    insta::assert_snapshot!(host(&story, "web-1"), @"web-1, in batch 1, counts as failed: crashed 2 times: exited with 1. Held for a person 1m 15s ago: web-1 failed (crashed 2 times: exited with 1) and max_failed is 0; auto_rollback is off.");
    story.control(Verb::Retry).unwrap();
    insta::assert_snapshot!(host(&story, "web-3"), @"web-3, in batch 3, is skipped by ann: a bad disk. It gets 2.0 by itself when the rollout has succeeded.");
    story.control(Verb::Pause).unwrap();
    story.pass(seconds(5));
    insta::assert_snapshot!(host(&story, "web-2"), @"web-2, in batch 2, was not told to run 2.0, and has it on disk. Paused 5s ago by ann.");
}

#[test]
fn of_a_host_that_is_out_of_reach_that_it_is_waited_for_and_does_not_fail_by_that() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[("batch", "1")]);
    story.obey_all();
    story.lose("web-1");
    story.pass(seconds(500));

    insta::assert_snapshot!(host(&story, "web-1"), @"web-1 (not connected), in batch 1, was told 8m 20s ago to run 2.0. Lost contact is no failure: when it is reachable it may take 5m to be healthy; 0 have failed and max_failed is 0: with more the rollout goes back.");
}

#[test]
fn of_a_host_that_is_out_of_reach_that_the_budget_bears_it() {
    for unreachable in ["skip", "fail"] {
        let mut story = Story::running(2);
        let borne = [("batch", "1"), ("max_unreachable", "1"), ("unreachable", unreachable)];
        story.deploy("2.0", &borne);
        story.obey_all();
        story.lose("web-1");
        story.pass(seconds(1));

        assert_eq!(
            host(&story, "web-1"),
            "web-1 (not connected), in batch 1, was told 1s ago to run 2.0. It is left out unless it is \
             reachable within 14s; max_unreachable is 1."
        );
        assert!(story.why().contains("then it is left out"), "{}", story.why());
        story.pass(seconds(15));
        assert_eq!(story.hosts("unreachable"), "web-1");
    }
}

#[test]
fn of_a_host_that_is_out_of_reach_where_that_counts_as_failed() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[("batch", "1"), ("unreachable", "fail")]);
    story.obey_all();
    story.lose("web-1");
    story.pass(seconds(1));

    insta::assert_snapshot!(host(&story, "web-1"), @"web-1 (not connected), in batch 1, was told 1s ago to run 2.0. It counts as failed unless it is reachable within 14s; 0 have failed and max_failed is 0: with more the rollout goes back.");
}

#[test]
fn of_hosts_that_go_back_and_when_it_is_over() {
    let mut story = Story::running(3);
    story.deploy("2.0", &[("batch", "1"), ("bake", "10m")]);
    story.obey_all();
    story.obey_all();
    story.control(Verb::Rollback).unwrap();

    insta::assert_snapshot!(host(&story, "web-1"), @"web-1, in batch 1, was told just now to run again what it ran before. It goes back with the others. Waiting up to 10m for web-1 to be as before, then for a person.");
    insta::assert_snapshot!(host(&story, "web-3"), @"web-3, in batch 3, runs 2.0, healthy from now on. It goes back with the others. Waiting up to 10m for web-1 to be as before, then for a person.");
    insta::assert_snapshot!(part(&story, &Part::Batch(1)), @"Batch 1 (web-1): 0 of 1 are done with 2.0. What was told to change goes back. Waiting up to 10m for web-1 to be as before, then for a person.");
    story.settle();
    insta::assert_snapshot!(host(&story, "web-1"), @"When it ended: web-1, in batch 1, runs again what it ran before. The rollout is over: it went back.");
    insta::assert_snapshot!(part(&story, &Part::Batch(3)), @"Batch 3 (web-3): 0 of 1 ran 2.0 when it ended. The rollout is over: it went back.");
}

#[test]
fn what_takes_no_part_is_refused_with_the_nearest_name() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[]);
    let rollout = story.core.rollout(story.rollout.unwrap()).unwrap();
    let refused = |part: &Part| {
        let refusal = story.core.why_part(Found::Rollout(rollout), part, story.now).unwrap_err();
        let text = format!("{}; {}", refusal.text, refusal.hint);
        text.replace(&rollout.id.to_string(), "ID")
    };

    insta::assert_snapshot!(refused(&Part::Host(name("web-11"))), @r#"there is no host of rollout ID "web-11"; did you mean "web-1"? `cutover status web` lists all"#);
    insta::assert_snapshot!(refused(&Part::Batch(0)), @"rollout ID has no batch 0; give a number from 1 to 2");
    insta::assert_snapshot!(refused(&Part::Batch(9)), @"rollout ID has no batch 9; give a number from 1 to 2");
}
