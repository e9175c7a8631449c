//! kill -9 at random moments of a rollout, of the coordinator, of agents, of both. The moments
//! come from a seed that a failing test prints.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use cutover_tests::live::{Cluster, Dice, Instance, Sample, wait_for};

const PORT: u16 = 8080;
const AGENTS: u8 = 3;

/// How long a rollout may take through ten kills: each costs a start and a reconnect.
const ENDS_WITHIN: Duration = Duration::from_secs(240);

/// Counts the starts of instances, as the instances' own logs tell them.
fn starts(cluster: &Cluster) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for agent in cluster.agents() {
        let logs = agent.data.join("logs").join("web");
        for entry in std::fs::read_dir(logs).into_iter().flatten().flatten() {
            let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
            for line in text.lines().filter(|line| line.contains("listens on")) {
                let version = line.split_whitespace().nth(1).unwrap_or_default();
                *counts.entry(format!("{} {version}", agent.name)).or_default() += 1;
            }
        }
    }
    counts
}

fn prepared() -> Cluster {
    let cluster = Cluster::start(AGENTS);
    for version in ["1", "2"] {
        let sample = Sample::good(version);
        let dir = sample.write(cluster.folder(), &cluster.programs().sample);
        cluster.push(&dir, version);
    }
    cluster
        .cutover(&[
            "deploy",
            "web@1",
            "--to",
            "test",
            "--strategy",
            "all_at_once",
            "--healthy-for",
            "300ms",
            "--healthy-within",
            "20s",
        ])
        .done();
    cluster
}

fn begin_second(cluster: &Cluster) {
    cluster
        .cutover(&[
            "deploy",
            "web@2",
            "--to",
            "test",
            "--batch",
            "1",
            "--soak",
            "500ms",
            "--healthy-for",
            "500ms",
            "--healthy-within",
            "60s",
            "--no-watch",
        ])
        .done();
}

fn state(cluster: &Cluster) -> Option<String> {
    let history = cluster.cutover(&["history", "web", "--output", "json"]);
    let history: serde_json::Value = serde_json::from_str(&history.stdout).ok()?;
    Some(history[0]["state"].as_str()?.to_owned())
}

fn wait_for_success(cluster: &Cluster) {
    let state = wait_for("the rollout to end", ENDS_WITHIN, || {
        state(cluster).filter(|state| !["advancing", "baking"].contains(&state.as_str()))
    });
    assert_eq!(state, "succeeded", "{}", cluster.cutover(&["why", "web"]).stdout);
}

fn all_serve_the_second(cluster: &Cluster) -> bool {
    (0..usize::from(AGENTS))
        .all(|index| cluster.get(index, PORT, "/").is_some_and(|it| it.contains("web 2 ")))
}

/// Waits for a moment of the rollout, measured from now.
fn pass(moment: Duration) {
    let until = Instant::now() + moment;
    wait_for("a moment to pass", Duration::from_secs(60), || {
        (Instant::now() >= until).then_some(())
    });
}

#[test]
fn the_coordinator_is_killed_ten_times_and_the_rollout_ends_with_no_instance_started_twice() {
    let mut dice = Dice::from_environment();
    let mut cluster = prepared();
    begin_second(&cluster);
    for _ in 0..10 {
        pass(Duration::from_millis(dice.below(700)));
        cluster.kill_the_coordinator();
        cluster.start_the_coordinator();
    }
    wait_for_success(&cluster);
    assert!(all_serve_the_second(&cluster));
    let starts = starts(&cluster);
    assert_eq!(starts.len(), 2 * usize::from(AGENTS), "{starts:?}");
    assert!(starts.values().all(|count| *count == 1), "{starts:?}");
}

#[test]
fn an_agent_is_killed_ten_times_and_its_instance_does_not_notice() {
    let mut dice = Dice::from_environment();
    let mut cluster = prepared();
    let before: Vec<Option<Instance>> = cluster.instances(PORT);
    assert!(before.iter().all(Option::is_some), "{before:?}");
    for _ in 0..10 {
        pass(Duration::from_millis(dice.below(400)));
        cluster.kill_agent(0);
        cluster.start_agent(0);
    }
    cluster.wait_until_live(usize::from(AGENTS));
    assert_eq!(cluster.instances(PORT), before);
}

#[test]
fn agents_and_coordinator_are_killed_in_the_middle_and_everything_is_started_once() {
    let mut dice = Dice::from_environment();
    let mut cluster = prepared();
    begin_second(&cluster);
    for round in 0..10 {
        pass(Duration::from_millis(dice.below(700)));
        let index = usize::try_from(dice.below(u64::from(AGENTS))).unwrap();
        cluster.kill_agent(index);
        if round % 2 == 0 {
            cluster.kill_the_coordinator();
            cluster.start_the_coordinator();
        }
        cluster.start_agent(index);
    }
    wait_for_success(&cluster);
    assert!(all_serve_the_second(&cluster));
    let starts = starts(&cluster);
    assert!(starts.values().all(|count| *count == 1), "{starts:?}");
}
