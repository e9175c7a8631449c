//! Batches, soak, bake, and who is left out.

use cutover_common::{Health, Phase, Release, TlsFiles};

use crate::{
    Verb,
    rollout::{HostState, State, Waiting},
    testing::{Story, in_place, seconds},
};

/// Returns the sizes of the batches of a deploy over ten hosts.
fn sizes(batch: &str) -> Vec<usize> {
    let mut story = Story::running(10);
    story.deploy("2.0", &[("batch", batch)]);
    story.newest().plan.waves.iter().map(|wave| wave.agents.len()).collect()
}

#[test]
fn batches_follow_the_count_the_share_and_the_ramp() {
    assert_eq!(sizes("3"), [3, 3, 3, 1]);
    assert_eq!(sizes("25%"), [2, 2, 2, 2, 2]);
    assert_eq!(sizes("1,5,20%"), [1, 5, 2, 2]);
    assert_eq!(sizes("100%"), [10]);
}

#[test]
fn a_rollout_takes_batch_after_batch_and_succeeds() {
    let mut story = Story::running(4);

    story.deploy("2.0", &[("batch", "2")]);
    assert_eq!(story.hosts("updating"), "", "nobody has it on disk yet");

    story.obey_all();
    assert_eq!(story.hosts("updating"), "web-1 web-2");
    assert_eq!(story.told("web-3").as_deref(), Some("1.0"));

    story.obey("web-1");
    assert_eq!(story.hosts("updated"), "web-1");
    assert_eq!(story.hosts("updating"), "web-2", "the batch is not done");

    story.obey("web-2");
    assert_eq!(story.hosts("updating"), "web-3 web-4");

    story.settle();
    assert_eq!(story.state_word(), "succeeded");
    assert_eq!(story.hosts("updated"), "web-1 web-2 web-3 web-4");
}

#[test]
fn a_batch_starts_when_all_of_it_have_the_release_on_disk() {
    let mut story = Story::running(4);
    story.deploy("2.0", &[("batch", "2")]);

    story.obey("web-1");
    story.report("web-2", "2.0", Phase::Preparing, Health::Unknown);
    assert!(
        matches!(story.waiting(), Some(Waiting::ForPrepared { agents, .. }) if agents.len() == 1)
    );

    story.report("web-2", "2.0", Phase::Prepared, Health::Unknown);
    assert_eq!(story.hosts("updating"), "web-1 web-2");
}

#[test]
fn the_second_batch_waits_for_the_first_to_soak() {
    let mut story = Story::running(4);
    story.deploy("2.0", &[("batch", "2"), ("soak", "60s")]);
    story.obey_all();
    story.obey_all();
    let until = story.now + seconds(60);
    assert_eq!(story.waiting(), Some(&Waiting::ForSoak { until }));

    story.pass(seconds(59));
    assert_eq!(story.hosts("updating"), "");

    story.pass(seconds(1));
    assert_eq!(story.hosts("updating"), "web-3 web-4");
}

#[test]
fn the_last_batch_soaks_too_and_then_everything_bakes() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[("batch", "1"), ("soak", "30s"), ("bake", "5m")]);
    story.settle();
    story.pass(seconds(30));
    story.settle();
    assert!(matches!(story.waiting(), Some(Waiting::ForSoak { .. })), "{}", story.why());

    story.pass(seconds(30));
    assert_eq!(story.state_word(), "baking");

    story.pass(seconds(299));
    assert_eq!(story.state_word(), "baking");
    story.pass(seconds(1));
    assert_eq!(story.state_word(), "succeeded");
}

#[test]
fn a_host_that_turns_bad_while_baking_turns_everything_back() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[("batch", "1"), ("bake", "5m")]);
    story.settle();
    story.pass(seconds(200));

    story.fail("web-1", "2.0");

    assert_eq!(story.state_word(), "rolling_back");
}

#[test]
fn a_host_that_turns_bad_in_a_soak_stops_the_next_batch_at_once() {
    let mut story = Story::running(4);
    story.deploy("2.0", &[("batch", "2"), ("soak", "60s"), ("auto_rollback", "off")]);
    story.obey_all();
    story.obey_all();
    story.pass(seconds(30));

    story.fail("web-2", "2.0");
    assert_eq!(story.state_word(), "held");

    story.pass(seconds(600));
    assert_eq!(story.hosts("pending"), "web-3 web-4");
}

#[test]
fn a_canary_that_fails_at_the_tick_that_would_end_its_soak_never_reaches_a_second_batch() {
    let mut story = Story::running(3);
    story.deploy("2.0", &[("batch", "1"), ("soak", "60s")]);
    story.settle();
    story.pass(seconds(59));
    story.now = story.now + seconds(1);

    story.fail("web-1", "2.0");

    assert_eq!(story.state_word(), "rolling_back");
    assert_eq!(story.hosts("pending"), "web-2 web-3");
}

#[test]
fn a_host_that_runs_the_release_in_health_is_left_alone() {
    let mut story = Story::running(3);
    story.deploy("2.0", &[("batch", "1")]);
    story.obey_all();
    story.obey("web-1");
    story.control(Verb::Abort).unwrap();
    // web-2 was told, and had not begun: it was called back.
    story.obey_all();

    let again = story.deploy("2.0", &[("batch", "1")]);

    let rollout = story.core.rollout(again).unwrap();
    assert!(!rollout.hosts.contains_key(&crate::testing::name("web-1")));
    assert_eq!(rollout.hosts.len(), 2);
    story.settle();
    assert_eq!(story.state_word(), "succeeded");
}

#[test]
fn a_host_that_runs_the_release_in_bad_health_is_not_left_out() {
    let mut story = Story::running(2);
    story.fail("web-2", "1.0");

    let rollout = story.deploy("1.0", &[]);

    let hosts: Vec<_> = story.core.rollout(rollout).unwrap().hosts.keys().collect();
    assert_eq!(hosts, [&crate::testing::name("web-2")]);
}

#[test]
fn hosts_that_serve_nobody_come_first() {
    let mut story = Story::running(3);
    story.fail("web-3", "1.0");

    story.deploy("2.0", &[("batch", "1")]);

    let first = &story.newest().plan.waves[0].agents;
    assert_eq!(first, &[crate::testing::name("web-3")]);
}

#[test]
fn of_hosts_that_serve_those_that_run_something_else_come_first() {
    let mut story = Story::running(3);
    story.fail("web-3", "1.0");
    story.deploy("2.0", &[("batch", "1"), ("min_healthy", "1"), ("soak", "1m")]);
    story.obey("web-3");
    story.obey("web-3");
    story.control(Verb::Abort).unwrap();
    let runs = ["web-1", "web-2", "web-3"].map(|agent| story.told(agent).unwrap());
    assert_eq!(runs, ["1.0", "1.0", "2.0"], "the environment runs 1.0");

    story.deploy("3.0", &[("batch", "1")]);

    let waves = &story.newest().plan.waves;
    let order: Vec<&str> = waves.iter().map(|wave| wave.agents[0].as_str()).collect();
    assert_eq!(order, ["web-3", "web-1", "web-2"]);
}

#[test]
fn all_at_once_is_one_batch() {
    let mut story = Story::running(5);
    story.deploy("2.0", &[("strategy", "all_at_once")]);

    story.obey_all();

    assert_eq!(story.hosts("updating").split(' ').count(), 5);
}

#[test]
fn a_host_is_done_when_it_is_settled_and_not_while_it_only_passes() {
    let mut story = Story::running(1);
    story.deploy("2.0", &[]);
    story.obey_all();

    story.report("web-1", "2.0", Phase::Starting, Health::Unknown);
    story.report("web-1", "2.0", Phase::Running, Health::Unknown);
    story.report("web-1", "2.0", Phase::Running, Health::Passing);
    assert!(matches!(story.host("web-1"), HostState::Updating { .. }));

    story.report("web-1", "2.0", Phase::Running, Health::Settled);
    assert_eq!(story.host("web-1"), &HostState::Updated);
    assert!(matches!(story.state(), State::Ended { .. }));
}

#[test]
fn a_rollout_that_no_host_follows_is_no_success() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[("strategy", "all_at_once"), ("max_failed", "2")]);
    story.obey_all();
    story.fail("web-1", "2.0");
    story.fail("web-2", "2.0");

    assert_eq!(story.state_word(), "held");
    insta::assert_snapshot!(story.why(), @"Held for a person just now: no host runs 2.0: web-1, web-2. 0 of 2 hosts run 2.0.");
}

#[test]
fn a_host_that_goes_out_is_told_who_serves_meanwhile_and_is_not_disrupted() {
    let mut story = Story::running(4);
    story.push(in_place("4.0"));
    story.push(in_place("5.0"));
    story.deploy("4.0", &[]);
    story.settle();
    story.deploy("5.0", &[("batch", "2")]);
    story.obey_all();
    assert_eq!(story.hosts("updating"), "web-1 web-2");

    assert_eq!(story.peers_of("web-1"), ["10.0.0.3", "10.0.0.4"]);
    assert_eq!(story.peers_of("web-2"), ["10.0.0.3", "10.0.0.4"]);
}

/// Deploys `4.0` and then `5.0` host by host, and returns the peers that each was told of.
fn peers_in_turn(change: fn(&mut [Release; 2])) -> Vec<String> {
    let mut story = Story::running(3);
    let mut releases = [in_place("4.0"), in_place("5.0")];
    change(&mut releases);
    for release in releases {
        story.push(release);
    }
    story.deploy("4.0", &[]);
    story.settle();
    story.deploy("5.0", &[("batch", "1")]);
    let mut peers = Vec::new();
    // One agent at a time, and more often than there is something to do.
    for agent in ["web-1", "web-2", "web-3"].into_iter().cycle().take(30) {
        let out = story.hosts("updating");
        if out.is_empty() {
            story.obey(agent);
            continue;
        }
        peers.push(format!("{out}: {}", story.peers_of(&out).join(" ")));
        story.obey(&out);
    }
    peers.dedup();
    peers
}

#[test]
fn only_those_are_named_as_peers_whose_gates_take_what_is_passed_on() {
    let same = peers_in_turn(|releases| {
        for release in releases {
            release.service.as_mut().unwrap().tls = Some(files());
        }
    });
    assert_eq!(
        same,
        ["web-1: 10.0.0.2 10.0.0.3", "web-2: 10.0.0.1 10.0.0.3", "web-3: 10.0.0.1 10.0.0.2"]
    );

    // The first has nobody who is reached as it is from now on, and the others have those before.
    let from_clear = peers_in_turn(|[_, new]| new.service.as_mut().unwrap().tls = Some(files()));
    assert_eq!(from_clear, ["web-1: ", "web-2: 10.0.0.1", "web-3: 10.0.0.1 10.0.0.2"]);

    let believed = peers_in_turn(|releases| {
        for (release, trusted) in releases.iter_mut().zip(["10.0.0.1", "10.0.0.0/24"]) {
            let service = release.service.as_mut().unwrap();
            service.proxy_protocol = true;
            service.trusted_peers = vec![trusted.parse().unwrap()];
        }
    });
    assert_eq!(
        believed,
        ["web-1: 10.0.0.2 10.0.0.3", "web-2: 10.0.0.1", "web-3: 10.0.0.1 10.0.0.2"]
    );
}

fn files() -> TlsFiles {
    TlsFiles { certificate: "/c.pem".to_owned(), key: "/c.key".to_owned() }
}

#[test]
fn who_starts_beside_or_has_no_gate_is_told_of_nobody() {
    let mut story = Story::running(4);
    story.deploy("2.0", &[("batch", "2")]);
    story.obey_all();

    assert!(story.peers_of("web-1").is_empty());
}
