//! What simulations say, and that they say it of nothing real.

use std::{fmt::Write as _, time::Duration};

use cutover_common::{DeploySetting, ProbePort, ProbeSpec, ProbeTarget, Version, duration_text};
use proptest::prelude::*;

use super::{Ending, Faults, SimulateOrder, Simulated};
use crate::{
    IfBusy, Refusal, RefusalKind,
    testing::{Story, gated, in_place, labels, order, seconds},
};

/// Begins with hosts that run 4.0 in health behind their gates, and can run 5.0 beside it.
fn behind_gates(count: usize) -> Story {
    running(Story::fleet(count), EVERYWHERE)
}

/// Begins with two hosts in each of the zones a, b and c.
fn in_zones() -> Story {
    let mut story = Story::fleet(0);
    for (number, zone) in (1..).zip(["a", "a", "b", "b", "c", "c"]) {
        story.join_with(&format!("web-{number}"), labels(&[("env", "prod"), ("zone", zone)]));
    }
    story.connect_all();
    running(story, EVERYWHERE)
}

const EVERYWHERE: &[(&str, &str)] = &[("strategy", "all_at_once")];

fn running(mut story: Story, settings: &[(&str, &str)]) -> Story {
    for mut release in [gated("4.0"), gated("5.0"), in_place("6.0")] {
        release.probe = Some(ProbeSpec {
            target: ProbeTarget::Tcp { port: ProbePort::Instance },
            every: seconds(2),
            timeout: seconds(1),
            passes: 2,
            failures: 3,
            start_within: seconds(60),
        });
        story.push(release);
    }
    story.deploy("4.0", settings);
    story.settle();
    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
    story
}

fn asked(to: &str, settings: &[(&str, &str)], faults: (&[&str], &[&str])) -> SimulateOrder {
    let texts = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    SimulateOrder {
        order: order(to, settings),
        faults: Faults { fail: texts(faults.0), lose: texts(faults.1) },
        promotes: false,
        starts_in: seconds(5),
    }
}

fn try_simulate(story: &Story, asked: SimulateOrder) -> Result<Simulated, Refusal> {
    let before = format!("{:?}", story.core);
    let simulated = story
        .core
        .simulation("ann", asked, story.now)
        .and_then(|simulation| simulation.run(|| true));
    assert_eq!(format!("{:?}", story.core), before, "a simulation reached the real coordinator");
    simulated
}

fn simulate(story: &Story, asked: SimulateOrder) -> Simulated {
    try_simulate(story, asked).unwrap_or_else(|refusal| panic!("{refusal:?}"))
}

fn refused(story: &Story, asked: SimulateOrder) -> String {
    let refusal = try_simulate(story, asked).unwrap_err();
    format!("{:?}: {} / {}", refusal.kind, refusal.text, refusal.hint)
}

/// Tells all but what is assumed.
fn text(simulated: &Simulated) -> String {
    let mut text = String::new();
    for line in &simulated.story {
        let after = duration_text::print(line.after);
        writeln!(text, "{after}: {}", line.text).unwrap();
    }
    let lasts = duration_text::print(simulated.lasts);
    writeln!(text, "{} after {lasts}: {}", simulated.ending.word(), simulated.why).unwrap();
    let lowest = simulated.lowest;
    let after = duration_text::print(lowest.after);
    writeln!(text, "lowest {} of {} at {after}", lowest.healthy, simulated.members).unwrap();
    for host in &simulated.hosts {
        let runs = host.runs.as_ref().map_or("?", Version::as_str);
        let end = format!("{} {} {runs} {}", host.agent, host.state, host.detail);
        writeln!(text, "{}", end.trim_end()).unwrap();
    }
    text
}

const ROLLING: &[(&str, &str)] = &[("batch", "2"), ("soak", "30s")];

#[test]
fn where_nothing_goes_wrong_it_succeeds_batch_by_batch() {
    let simulated = simulate(&behind_gates(4), asked("5.0", ROLLING, (&[], &[])));

    insta::assert_snapshot!(text(&simulated), @r"
    0s: ann started: web from 4.0 to 5.0 in prod, rolling over 4 hosts in 2 batches
    0s: batch 1 of 2: replacing on web-1, web-2
    0s: web-1, web-2 told to run 5.0
    15s: web-1, web-2 run 5.0 and are healthy
    15s: batch 1 of 2 is healthy; watching it for 30s
    45s: batch 2 of 2: preparing web-3, web-4
    45s: batch 2 of 2: replacing on web-3, web-4
    45s: web-3, web-4 told to run 5.0
    1m: web-3, web-4 run 5.0 and are healthy
    1m: batch 2 of 2 is healthy; watching it for 30s
    90s: succeeded: 4 of 4 hosts run 5.0 in health
    succeeded after 90s: Succeeded: 4 of 4 hosts run 5.0 in health.
    lowest 4 of 4 at 0s
    web-1 updated 5.0
    web-2 updated 5.0
    web-3 updated 5.0
    web-4 updated 5.0
    ");
}

#[test]
fn a_host_that_fails_turns_it_back_and_serves_all_the_time() {
    let simulated = simulate(&behind_gates(4), asked("5.0", ROLLING, (&["web-3"], &[])));

    insta::assert_snapshot!(text(&simulated), @r"
    0s: ann started: web from 4.0 to 5.0 in prod, rolling over 4 hosts in 2 batches
    0s: batch 1 of 2: replacing on web-1, web-2
    0s: web-1, web-2 told to run 5.0
    15s: web-1, web-2 run 5.0 and are healthy
    15s: batch 1 of 2 is healthy; watching it for 30s
    45s: batch 2 of 2: preparing web-3, web-4
    45s: batch 2 of 2: replacing on web-3, web-4
    45s: web-3, web-4 told to run 5.0
    1m: web-4 runs 5.0 and is healthy
    345s: web-3 failed: not healthy within 5m: assumed to fail
    345s: going back on 4 hosts: web-3 failed (not healthy within 5m: assumed to fail) and max_failed is 0
    345s: web-3 told to run 4.0 again
    345s: web-3 runs 4.0 again and is healthy
    345s: going back: group 2
    345s: web-1, web-2 told to run 4.0 again
    6m: web-1, web-2 run 4.0 again and are healthy
    6m: going back: group 3
    6m: web-4 told to run 4.0 again
    375s: web-4 runs 4.0 again and is healthy
    375s: rolled back: web-3 failed (not healthy within 5m: assumed to fail) and max_failed is 0
    rolled_back after 375s: Rolled back: web-3 failed (not healthy within 5m: assumed to fail) and max_failed is 0. Every host it had touched runs 4.0 again.
    lowest 4 of 4 at 0s
    web-1 reverted 4.0
    web-2 reverted 4.0
    web-3 reverted 4.0
    web-4 reverted 4.0
    ");
}

#[test]
fn a_host_that_fails_within_the_budget_is_left_behind() {
    let settings = [ROLLING, &[("max_failed", "1")]].concat();
    let simulated = simulate(&behind_gates(4), asked("5.0", &settings, (&["web-3"], &[])));

    assert_eq!(simulated.ending, Ending::Succeeded, "{}", simulated.why);
    assert!(simulated.why.contains("web-3"), "{}", simulated.why);
}

#[test]
fn what_is_replaced_in_place_is_out_meanwhile() {
    let simulated = simulate(&behind_gates(4), asked("6.0", ROLLING, (&[], &[])));

    assert_eq!(simulated.ending, Ending::Succeeded, "{}", simulated.why);
    assert_eq!(simulated.lowest.healthy, 2);
}

#[test]
fn a_lost_zone_is_waited_for_until_a_person_is() {
    let settings = [ROLLING, &[("zone", "zone")]].concat();
    let simulated = simulate(&in_zones(), asked("5.0", &settings, (&[], &["b"])));

    insta::assert_snapshot!(text(&simulated), @"
    0s: ann started: web from 4.0 to 5.0 in prod, rolling over 6 hosts in 3 batches
    0s: batch 1 of 3: replacing on web-1, web-2
    0s: web-1, web-2 told to run 5.0
    15s: web-1, web-2 run 5.0 and are healthy
    15s: batch 1 of 3 is healthy; watching it for 30s
    45s: batch 2 of 3: preparing web-3, web-4
    45s: batch 2 of 3: replacing on web-3, web-4
    45s: web-3, web-4 told to run 5.0
    45s: lost, as assumed: web-3, web-4
    645s: held: nothing went forward for 10m: web-3, web-4 cannot be reached, and max_unreachable is 0
    held after 645s: Held for a person just now: nothing went forward for 10m: web-3, web-4 cannot be reached, and max_unreachable is 0. 2 of 6 hosts run 5.0.
    lowest 4 of 6 at 1m
    web-1 updated 5.0
    web-2 updated 5.0
    web-3 updating ?
    web-4 updating ?
    web-5 prepared 4.0
    web-6 prepared 4.0
    ");
}

#[test]
fn zone_after_zone_it_succeeds() {
    let settings = [ROLLING, &[("zone", "zone"), ("zone_soak", "1m")]].concat();
    let simulated = simulate(&in_zones(), asked("5.0", &settings, (&[], &[])));

    insta::assert_snapshot!(text(&simulated), @r"
    0s: ann started: web from 4.0 to 5.0 in prod, rolling over 6 hosts in 3 batches
    0s: batch 1 of 3: replacing on web-1, web-2
    0s: web-1, web-2 told to run 5.0
    15s: web-1, web-2 run 5.0 and are healthy
    15s: batch 1 of 3 is healthy; watching it for 1m
    75s: batch 2 of 3: preparing web-3, web-4
    75s: batch 2 of 3: replacing on web-3, web-4
    75s: web-3, web-4 told to run 5.0
    90s: web-3, web-4 run 5.0 and are healthy
    90s: batch 2 of 3 is healthy; watching it for 1m
    150s: batch 3 of 3: preparing web-5, web-6
    150s: batch 3 of 3: replacing on web-5, web-6
    150s: web-5, web-6 told to run 5.0
    165s: web-5, web-6 run 5.0 and are healthy
    165s: batch 3 of 3 is healthy; watching it for 1m
    225s: succeeded: 6 of 6 hosts run 5.0 in health
    succeeded after 225s: Succeeded: 6 of 6 hosts run 5.0 in health.
    lowest 6 of 6 at 0s
    web-1 updated 5.0
    web-2 updated 5.0
    web-3 updated 5.0
    web-4 updated 5.0
    web-5 updated 5.0
    web-6 updated 5.0
    ");
}

#[test]
fn lost_hosts_within_the_budget_are_left_out() {
    let settings = [ROLLING, &[("max_unreachable", "2"), ("min_healthy", "3")]].concat();
    let simulated = simulate(&in_zones(), asked("5.0", &settings, (&[], &["web-1", "web-5"])));

    assert_eq!(simulated.ending, Ending::Succeeded, "{}", simulated.why);
    assert!(simulated.why.contains("web-1, web-5"), "{}", simulated.why);
    assert_eq!(simulated.lowest.healthy, 4);
}

const CANARY: &[(&str, &str)] =
    &[("strategy", "canary"), ("canary_steps", "5%:5m,50%:10m"), ("batch", "2")];

#[test]
fn a_canary_is_held_as_there_are_no_requests_to_judge_it_by() {
    let simulated = simulate(&behind_gates(3), asked("5.0", CANARY, (&[], &[])));

    insta::assert_snapshot!(text(&simulated), @"
    0s: ann started: web from 4.0 to 5.0 in prod, canary over 3 hosts in 2 batches
    0s: batch 1 of 2: starting 5.0 beside what serves on web-1
    0s: web-1 told to start 5.0 beside what serves
    15s: web-1 runs 5.0 beside what serves, and it is healthy
    15s: batch 1 of 2: 5% of the traffic to 5.0
    15s: web-1 told to give 5.0 5% of the traffic
    15s: batch 1 of 2: comparing for 5m
    915s: held: there is not enough evidence yet that 5.0 is as good as what it replaces: the canary had 0 of 50 requests, the control had 0 of 50 requests; retry compares it anew, and promote then says that it is good enough
    held after 915s: Held for a person just now: there is not enough evidence yet that 5.0 is as good as what it replaces: the canary had 0 of 50 requests, the control had 0 of 50 requests; retry compares it anew, and promote then says that it is good enough. 0 of 3 hosts run 5.0.
    lowest 3 of 3 at 0s
    web-1 staged 4.0
    web-2 prepared 4.0
    web-3 prepared 4.0
    ");
}

#[test]
fn a_canary_that_somebody_promotes_goes_on() {
    let asked = SimulateOrder { promotes: true, ..asked("5.0", CANARY, (&[], &[])) };
    let simulated = simulate(&behind_gates(3), asked);

    insta::assert_snapshot!(text(&simulated), @r"
    0s: ann started: web from 4.0 to 5.0 in prod, canary over 3 hosts in 2 batches
    0s: batch 1 of 2: starting 5.0 beside what serves on web-1
    0s: web-1 told to start 5.0 beside what serves
    15s: web-1 runs 5.0 beside what serves, and it is healthy
    15s: batch 1 of 2: 5% of the traffic to 5.0
    15s: web-1 told to give 5.0 5% of the traffic
    15s: batch 1 of 2: comparing for 5m
    315s: promoted by ann
    315s: batch 1 of 2: 50% of the traffic to 5.0
    315s: web-1 told to give 5.0 50% of the traffic
    315s: batch 1 of 2: comparing for 10m
    915s: promoted by ann
    915s: batch 1 of 2: replacing on web-1
    915s: web-1 told to run 5.0
    915s: web-1 runs 5.0 and is healthy
    915s: batch 2 of 2: preparing web-2, web-3
    915s: batch 2 of 2: replacing on web-2, web-3
    915s: web-2, web-3 told to run 5.0
    930s: web-2, web-3 run 5.0 and are healthy
    930s: succeeded: 3 of 3 hosts run 5.0 in health
    succeeded after 930s: Succeeded: 3 of 3 hosts run 5.0 in health.
    lowest 3 of 3 at 0s
    web-1 updated 5.0
    web-2 updated 5.0
    web-3 updated 5.0
    ");
}

#[test]
fn a_canary_that_fails_goes_back_alone() {
    let simulated = simulate(&behind_gates(3), asked("5.0", CANARY, (&["web-1"], &[])));

    assert_eq!(simulated.ending, Ending::RolledBack, "{}", simulated.why);
    let states: Vec<&str> = simulated.hosts.iter().map(|host| host.state).collect();
    assert_eq!(states, ["reverted", "prepared", "prepared"]);
    assert_eq!(simulated.lowest.healthy, 3);
}

#[test]
fn edges_that_lead_from_one_group_to_the_other_are_pretended_too() {
    let mut story = Story::fleet(0);
    for (number, group) in (1..).zip(["blue", "blue", "green", "green"]) {
        story.join_with(&format!("web-{number}"), labels(&[("env", "prod"), ("group", group)]));
    }
    story.join_with("edge-9", labels(&[("edge", "prod")]));
    story.connect_all();
    let story = running(story, &[("strategy", "blue_green"), ("groups", "group"), ("keep", "0s")]);
    let settings = [("strategy", "blue_green"), ("groups", "group"), ("keep", "5m")];

    insta::assert_snapshot!(text(&simulate(&story, asked("5.0", &settings, (&[], &[])))), @r"
    0s: ann started: web from 4.0 to 5.0 in prod, blue_green over 2 hosts in 1 batches
    0s: batch 1 of 1: starting 5.0 where no edge leads, on web-3, web-4
    0s: web-3, web-4 told to run 5.0
    15s: web-3, web-4 run 5.0 and are healthy
    15s: cutting over to 5.0
    15s: all gates told to hold what is new
    15s: nothing is under way at any gate; all told to hold until they are told
    15s: edges told to lead clients to the hosts with group=green
    15s: batch 1 of 1 is healthy; watching it for 5m
    315s: stopping what was replaced
    315s: web-1, web-2 told to stop what was replaced
    315s: succeeded: 2 of 2 hosts run 5.0 in health
    succeeded after 315s: Succeeded: 2 of 2 hosts run 5.0 in health.
    lowest 2 of 2 at 0s
    web-3 updated 5.0
    web-4 updated 5.0
    ");
    insta::assert_snapshot!(text(&simulate(&story, asked("5.0", &settings, (&["web-3"], &[])))), @r"
    0s: ann started: web from 4.0 to 5.0 in prod, blue_green over 2 hosts in 1 batches
    0s: batch 1 of 1: starting 5.0 where no edge leads, on web-3, web-4
    0s: web-3, web-4 told to run 5.0
    15s: web-4 runs 5.0 and is healthy
    5m: web-3 failed: not healthy within 5m: assumed to fail
    5m: going back on 2 hosts: web-3 failed (not healthy within 5m: assumed to fail) and max_failed is 0
    5m: web-3 told to stop 5.0
    5m: web-3 runs nothing again, as before
    5m: going back: group 2
    5m: web-4 told to stop 5.0
    5m: web-4 runs nothing again, as before
    5m: rolled back: web-3 failed (not healthy within 5m: assumed to fail) and max_failed is 0
    rolled_back after 5m: Rolled back: web-3 failed (not healthy within 5m: assumed to fail) and max_failed is 0. Clients get 4.0. Every host it had touched runs what it ran before.
    lowest 2 of 2 at 0s
    web-3 reverted ?
    web-4 reverted ?
    ");
}

const BLUE_GREEN: &[(&str, &str)] = &[("strategy", "blue_green"), ("keep", "5m")];

#[test]
fn a_strict_cutover_is_made_at_one_moment() {
    let simulated = simulate(&behind_gates(3), asked("5.0", BLUE_GREEN, (&[], &[])));

    insta::assert_snapshot!(text(&simulated), @r"
    0s: ann started: web from 4.0 to 5.0 in prod, blue_green over 3 hosts in 1 batches
    0s: batch 1 of 1: starting 5.0 beside what serves on web-1, web-2, web-3
    0s: web-1, web-2, web-3 told to start 5.0 beside what serves
    15s: web-1, web-2, web-3 run 5.0 beside what serves, and it is healthy
    15s: cutting over to 5.0
    15s: all gates told to hold what is new
    15s: nothing is under way at any gate; all told to hold until they are told
    15s: web-1, web-2, web-3 told to lead clients to 5.0
    15s: web-1, web-2, web-3 run 5.0 and are healthy
    15s: batch 1 of 1 is healthy; watching it for 5m
    315s: stopping what was replaced
    315s: web-1, web-2, web-3 told to stop what was replaced
    315s: succeeded: 3 of 3 hosts run 5.0 in health
    succeeded after 315s: Succeeded: 3 of 3 hosts run 5.0 in health.
    lowest 3 of 3 at 0s
    web-1 updated 5.0
    web-2 updated 5.0
    web-3 updated 5.0
    ");
}

#[test]
fn an_approval_is_waited_for_or_given() {
    let settings = [BLUE_GREEN, &[("approve", "on")]].concat();
    let story = behind_gates(3);

    let waits = simulate(&story, asked("5.0", &settings, (&[], &[])));
    assert_eq!(waits.ending, Ending::Waits);
    insta::assert_snapshot!(waits.why, @"0 of 3 hosts run 5.0, and this step of batch 1 of 1 began just now. Batch 1 is done, and waits for a person to promote it.");
    let given = SimulateOrder { promotes: true, ..asked("5.0", &settings, (&[], &[])) };
    assert_eq!(simulate(&story, given).ending, Ending::Succeeded);
}

#[test]
fn a_stop_before_clients_notice_is_a_success() {
    let settings = [("strategy", "blue_green"), ("until", "smoke")];
    let simulated = simulate(&behind_gates(3), asked("5.0", &settings, (&[], &[])));

    assert_eq!(simulated.ending, Ending::Staged, "{}", simulated.why);
    assert!(simulated.ending.is_success());
}

#[test]
fn a_first_deploy_has_nothing_to_go_back_to() {
    let simulated = simulate(&Story::fleet(2), asked("1.0", &[], (&[], &[])));
    assert_eq!(simulated.ending, Ending::Succeeded, "{}", simulated.why);
    assert_eq!((simulated.lowest.healthy, simulated.from), (0, None));

    let simulated = simulate(&Story::fleet(2), asked("1.0", &[], (&["web-1"], &[])));
    assert_eq!(simulated.ending, Ending::RolledBack, "{}", simulated.why);
}

#[test]
fn hosts_are_as_they_are() {
    let mut story = behind_gates(4);
    story.lose("web-2");
    story.fail("web-3", "4.0");
    let simulated = simulate(&story, asked("5.0", &[("min_healthy", "1")], (&[], &[])));

    insta::assert_snapshot!(text(&simulated), @"
    0s: ann started: web from 4.0 to 5.0 in prod, rolling over 4 hosts in 4 batches
    10m: held: nothing went forward for 10m: web-2 cannot be reached, and max_unreachable is 0
    held after 10m: Held for a person just now: nothing went forward for 10m: web-2 cannot be reached, and max_unreachable is 0. 0 of 4 hosts run 5.0.
    lowest 2 of 4 at 0s
    web-1 prepared 4.0
    web-2 pending ?
    web-3 prepared 4.0
    web-4 prepared 4.0
    ");
}

#[test]
fn a_rollout_that_is_in_the_way_is_in_the_way_here_too() {
    let mut story = behind_gates(3);
    story.deploy("5.0", ROLLING);

    let refusal = refused(&story, asked("6.0", &[], (&[], &[])));
    assert!(refusal.contains("has a rollout in prod that is not over"), "{refusal}");
    let mut supersedes = asked("6.0", &[], (&[], &[]));
    supersedes.order.if_busy = IfBusy::Supersede;
    assert_eq!(simulate(&story, supersedes).ending, Ending::Succeeded);
}

#[test]
fn what_a_deploy_refuses_is_refused_and_so_are_unknown_names() {
    let story = in_zones();
    let zones = [("zone", "zone")];
    let lines = [
        refused(&story, asked("5.1", &[], (&[], &[]))),
        refused(&story, asked("4.0", &[], (&[], &[]))),
        refused(&story, asked("5.0", &[("min_healthy", "7")], (&[], &[]))),
        refused(&story, asked("5.0", &[], (&["web-33"], &[]))),
        refused(&story, asked("5.0", &zones, (&[], &["prod"]))),
        refused(&story, asked("5.0", &zones, (&[], &["bb"]))),
    ];

    insta::assert_snapshot!(lines.join("\n"), @r#"
    NotFound: there is no release of web "5.1" / did you mean "5.0"? `cutover release list web` lists all
    State: web@4.0 runs in health on all 6 hosts of prod already / nothing is to be done
    State: min_healthy 7 can never be met: prod has 6 hosts / give at most --min-healthy 5
    NotFound: there is no agent of prod "web-33" / did you mean "web-3"? `cutover agents list` lists all
    NotFound: there is no agent or zone of prod "prod" / `cutover agents list` lists all
    NotFound: there is no agent or zone of prod "bb" / did you mean "b"? `cutover agents list` lists all
    "#);
}

#[test]
fn a_fault_of_a_host_that_takes_no_part_is_refused() {
    let mut story = behind_gates(3);
    story.force_drain("web-2");

    let refusal = refused(&story, asked("5.0", &[], (&["web-2"], &[])));
    insta::assert_snapshot!(refusal, @"Invalid: web-2 takes no part in this rollout, as it is drained / name a host that the plan has (cutover deploy --plan)");
}

#[test]
fn nobody_who_is_gone_is_waited_for() {
    let story = behind_gates(3);
    let simulation = story.core.simulation("ann", asked("5.0", ROLLING, (&[], &[])), story.now);

    let mut looks = 0;
    let simulated = simulation.unwrap().run(|| {
        looks += 1;
        looks < 3
    });
    assert_eq!(simulated.unwrap().ending, Ending::Unfinished);
}

/// Lets the same happen to a story that the simulation says.
#[test]
fn the_same_hosts_end_the_same_when_it_is_no_simulation() {
    for fails in [&[][..], &["web-3"]] {
        let mut story = behind_gates(4);
        let simulated = simulate(&story, asked("5.0", ROLLING, (fails, &[])));
        story.deploy("5.0", ROLLING);
        let end = story.now + Duration::from_secs(3_600);
        while story.now < end && !story.is_at_rest() {
            for agent in story.names() {
                if fails.contains(&agent.as_str())
                    && story.told(agent.as_str()).as_deref() == Some("5.0")
                {
                    story.fail(agent.as_str(), "5.0");
                } else {
                    story.obey(agent.as_str());
                }
            }
            story.pass(seconds(5));
        }

        assert_eq!(simulated.ending.word(), story.state_word());
        for host in &simulated.hosts {
            let state = story.core.view(story.newest(), story.now);
            let real = state.hosts.iter().find(|real| *real.agent == host.agent).unwrap();
            assert_eq!((host.state, &host.runs), (real.state, &real.running), "{}", host.agent);
        }
    }
}

const STRATEGIES: [&str; 4] = ["rolling", "all_at_once", "blue_green", "restart"];

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Each simulation is also checked to leave the real coordinator as it was.
    #[test]
    fn where_nothing_goes_wrong_every_rollout_succeeds(
        hosts in 2..7_usize,
        batch in 1..4_u32,
        soak in 0..60_u64,
        bake in 0..60_u64,
        strategy in 0..STRATEGIES.len(),
        is_sliding in any::<bool>(),
    ) {
        let strategy = STRATEGIES[strategy];
        let (batch, soak, bake) = (batch.to_string(), format!("{soak}s"), format!("{bake}s"));
        let mut settings = vec![("strategy", strategy), ("soak", &soak), ("bake", &bake)];
        if matches!(strategy, "rolling" | "restart") {
            settings.push((DeploySetting::Batch.name(), &batch));
            settings.push(("sliding", if is_sliding { "on" } else { "off" }));
        }
        let to = if strategy == "restart" { "4.0" } else { "5.0" };
        let simulated = simulate(&behind_gates(hosts), asked(to, &settings, (&[], &[])));

        prop_assert_eq!(simulated.ending, Ending::Succeeded, "{}", simulated.why);
        prop_assert!(simulated.hosts.iter().all(|host| host.state == "updated"));
        let outs = usize::try_from(simulated.lowest.healthy).unwrap();
        prop_assert_eq!(outs, hosts, "they stand beside each other");
    }

    /// Whatever goes wrong, it comes to an end.
    #[test]
    fn whatever_goes_wrong_it_ends_or_a_person_is_waited_for(
        faults in prop::collection::vec(0..3_u8, 5),
        batch in 1..4_u32,
        budgets in (0..3_u32, 0..3_u32),
        strategy in 0..STRATEGIES.len(),
    ) {
        let names: Vec<String> = (1..=5).map(|number| format!("web-{number}")).collect();
        let of = |kind: u8| -> Vec<&str> {
            let hit = names.iter().zip(&faults).filter(|(_, fault)| **fault == kind);
            hit.map(|(name, _)| name.as_str()).collect()
        };
        let (batch, failed) = (batch.to_string(), budgets.0.to_string());
        let unreachable = budgets.1.to_string();
        let strategy = STRATEGIES[strategy];
        let mut settings = vec![
            ("strategy", strategy),
            ("max_failed", &failed),
            ("max_unreachable", &unreachable),
        ];
        if matches!(strategy, "rolling" | "restart") {
            settings.push(("batch", &batch));
        }
        let to = if strategy == "restart" { "4.0" } else { "5.0" };
        let simulated = simulate(&behind_gates(5), asked(to, &settings, (&of(1), &of(2))));

        prop_assert_ne!(simulated.ending, Ending::Unfinished, "{}", text(&simulated));
    }
}

#[test]
fn refusals_of_names_are_of_the_kind_that_other_unknown_names_have() {
    let refusal = try_simulate(&behind_gates(2), asked("5.0", &[], (&["web-9"], &[]))).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::NotFound);
}
