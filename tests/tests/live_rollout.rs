//! Whole rollouts with the real programs: what an operator types, and what the hosts then serve.

use std::time::Duration;

use cutover_tests::live::{Cluster, Sample, wait_for};

const PORT: u16 = 8080;

/// How long what happens by itself may take, on a machine that is busy.
const SOON: Duration = Duration::from_secs(60);

/// Short waits, so that the test is, and limits that no good version misses on a machine that is busy.
const QUICK: [&str; 6] =
    ["--healthy-for", "300ms", "--healthy-within", "30s", "--progress-within", "2m"];

fn deploy<'a>(release: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["deploy", release, "--to", "test"];
    args.extend(QUICK);
    args.extend(more);
    args
}

fn push(cluster: &Cluster, sample: Sample<'_>) {
    let dir = sample.write(cluster.folder(), &cluster.programs().sample);
    cluster.push(&dir, sample.version);
}

fn serves(cluster: &Cluster, index: usize, version: &str) -> bool {
    let answer = cluster.get(index, PORT, "/").unwrap_or_default();
    answer.contains(&format!("web {version} "))
}

#[test]
fn a_release_reaches_a_fleet_and_a_broken_one_goes_back_by_itself() {
    let cluster = Cluster::start(4);
    push(&cluster, Sample::good("1.0.0"));
    push(&cluster, Sample::good("2.0.0"));
    push(&cluster, Sample { args: &["--fail-health"], ..Sample::good("3.0.0") });

    cluster.cutover(&deploy("web@1.0.0", &["--strategy", "all_at_once"])).done();
    assert!((0..4).all(|index| serves(&cluster, index, "1.0.0")));

    let plan = cluster.cutover(&deploy("web@2.0.0", &["--batch", "1,50%", "--plan"])).done();
    assert!(plan.contains("web-1"), "{plan}");
    assert!((0..4).all(|index| serves(&cluster, index, "1.0.0")), "a plan does nothing");
    cluster.cutover(&deploy("web@2.0.0", &["--batch", "1,50%"])).done();
    assert!((0..4).all(|index| serves(&cluster, index, "2.0.0")));

    let simulate = |faults: &[&str]| {
        let mut args = vec!["simulate", "web@3.0.0", "--to", "test", "--batch", "1"];
        args.extend(QUICK);
        args.extend(faults);
        cluster.cutover(&args)
    };
    let well = simulate(&[]).done();
    assert!(well.contains("succeeded after") && well.contains("4 of 4 hosts run 3.0.0"), "{well}");
    let fails = simulate(&["--fail", "web-1", "--output", "json"]);
    let told: serde_json::Value = serde_json::from_str(&fails.stdout).unwrap();
    fails.failed_with(1);
    assert_eq!(told["ending"], "rolled_back", "{told}");
    let unknown = simulate(&["--lose", "web-11"]).failed_with(2);
    assert!(unknown.contains("did you mean \"web-1\"?"), "{unknown}");
    assert!((0..4).all(|index| serves(&cluster, index, "2.0.0")), "a simulation does nothing");

    let broken = cluster.cutover(&deploy("web@3.0.0", &["--batch", "1"]));
    broken.failed_with(1);
    assert!((0..4).all(|index| serves(&cluster, index, "2.0.0")));
    let why = cluster.cutover(&["why", "web"]).done();
    assert!(why.contains("Rolled back") && why.contains("web-1"), "{why}");

    let history = cluster.json(&["history", "web", "--output", "json"]);
    let states: Vec<&str> =
        history.as_array().unwrap().iter().map(|it| it["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["rolled_back", "succeeded", "succeeded"]);
}

#[test]
fn a_paused_rollout_begins_nothing_until_it_is_resumed_and_rollback_brings_all_back() {
    let cluster = Cluster::start(2);
    push(&cluster, Sample::good("1"));
    push(&cluster, Sample::good("2"));
    cluster.cutover(&deploy("web@1", &["--strategy", "all_at_once"])).done();

    // The soak is long enough that the pause comes before the second batch, however slow we are.
    let soak = ["--batch", "1", "--soak", "1h", "--no-watch"];
    cluster.cutover(&deploy("web@2", &soak)).done();
    wait_for("the first batch to be watched", SOON, || {
        let why = cluster.cutover(&["why", "web"]).stdout;
        why.contains("Watching the batch").then_some(())
    });
    let refused = cluster.cutover(&deploy("web@1", &["--no-watch"])).failed_with(3);
    assert!(refused.contains("not over"), "{refused}");
    cluster.cutover(&["pause", "web", "--reason", "lunch"]).done();
    let why = cluster.cutover(&["why", "web"]).done();
    assert!(why.contains(" by admin (lunch)"), "{why}");
    let agent = cluster.agents()[1].name.as_str();
    let of_host = cluster.cutover(&["why", "web", agent]).done();
    assert!(of_host.contains(&format!("{agent}, in batch 2, was not told to run 2")), "{of_host}");
    let of_batch = cluster.cutover(&["why", "web", "--batch", "1"]).done();
    assert!(of_batch.contains("1 of 1 are done with 2. Paused "), "{of_batch}");
    let refused = cluster.cutover(&["why", "web", "--batch", "3"]).failed_with(2);
    assert!(refused.contains("give a number from 1 to 2"), "{refused}");
    cluster.cutover(&["resume", "web"]).done();
    assert!(serves(&cluster, 0, "2") && serves(&cluster, 1, "1"));

    cluster.cutover(&["rollback", "web", "--reason", "a bug"]).done();
    cluster.cutover(&["watch", "web"]).failed_with(1);
    assert!((0..2).all(|index| serves(&cluster, index, "1")));
    let why = cluster.cutover(&["why", "web"]).done();
    assert!(why.contains("a bug"), "{why}");
}

#[test]
fn a_queued_deploy_outlives_the_coordinator_and_begins_when_its_turn_comes() {
    let mut cluster = Cluster::start(2);
    for version in ["1", "2", "3"] {
        push(&cluster, Sample::good(version));
    }
    cluster.cutover(&deploy("web@1", &["--strategy", "all_at_once"])).done();
    cluster.cutover(&deploy("web@2", &["--batch", "1", "--soak", "1h", "--no-watch"])).done();
    let accepted = cluster.cutover(&deploy("web@3", &["--if-busy", "queue", "--no-watch"])).done();
    assert!(accepted.contains("queued"), "{accepted}");

    cluster.kill_the_coordinator();
    cluster.start_the_coordinator();

    let status = cluster.json(&["status", "web", "--output", "json"]);
    let queue = &status[0]["queue"];
    assert_eq!(queue[0]["to_version"], "3", "{status}");
    let id = queue[0]["rollout"].as_str().expect("a queued rollout has an id");
    let why = cluster.cutover(&["why", id]).done();
    assert!(why.contains("Waiting for rollout"), "{why}");
    let refused = cluster.cutover(&["why", id, "--batch", "1"]).failed_with(3);
    assert!(refused.contains("has not begun"), "{refused}");
    assert!((0..2).all(|index| !serves(&cluster, index, "3")), "its turn has not come");

    cluster.cutover(&["abort", "web"]).done();
    cluster.cutover(&["watch", id]).done();
    assert!((0..2).all(|index| serves(&cluster, index, "3")));
}

#[test]
fn hosts_that_are_excluded_or_drained_are_left_as_they_are_and_the_end_names_them() {
    let cluster = Cluster::start(3);
    push(&cluster, Sample::good("1"));
    push(&cluster, Sample::good("2"));
    cluster.cutover(&deploy("web@1", &["--strategy", "all_at_once"])).done();
    // The soak is long enough that all this comes before the second batch, however slow we are.
    let soak = ["--batch", "1", "--soak", "1h", "--no-watch"];
    cluster.cutover(&deploy("web@2", &soak)).done();
    wait_for("the first batch to be watched", SOON, || {
        let why = cluster.cutover(&["why", "web"]).stdout;
        why.contains("Watching the batch").then_some(())
    });

    let unknown = cluster.cutover(&["exclude", "web", "web-22"]).failed_with(2);
    assert!(unknown.contains("did you mean \"web-2\"?"), "{unknown}");
    let said = cluster.cutover(&["exclude", "web", "web-2", "--reason", "a bad disk"]).done();
    assert!(said.contains("excluded, and left as they are: web-2"), "{said}");
    cluster.cutover(&["agents", "drain", "web-3", "--reason", "a new disk"]).done();
    let refused = cluster.cutover(&["agents", "drain", "web-1"]).failed_with(3);
    assert!(refused.contains("min_healthy is 2"), "{refused}");
    let listed = cluster.cutover(&["agents", "list"]).done();
    assert!(listed.contains("live, drained"), "{listed}");
    let shown = cluster.json(&["agents", "show", "web-3", "--output", "json"]);
    assert_eq!(
        (&shown["drain"]["by"], &shown["drain"]["reason"]),
        (&"admin".into(), &"a new disk".into())
    );
    cluster.cutover(&["abort", "web"]).done();
    let why = cluster.cutover(&["why", "web"]).done();
    assert!(why.contains("; excluded: web-2; drained: web-3."), "{why}");

    let plan = cluster.cutover(&deploy("web@2", &["--plan"])).done();
    assert!(plan.contains("left out, as drained: web-3"), "{plan}");
    cluster.cutover(&deploy("web@2", &[])).done();
    assert!(serves(&cluster, 1, "2") && serves(&cluster, 2, "1"));
    cluster.cutover(&["agents", "drain", "web-3", "--undo"]).done();
    wait_for("web-3 to get by itself what the others run", SOON, || {
        serves(&cluster, 2, "2").then_some(())
    });
}

#[test]
fn impossible_plans_are_refused_with_the_numbers_and_nothing_is_touched() {
    let cluster = Cluster::start(2);
    push(&cluster, Sample::good("1"));
    push(&cluster, Sample::good("2"));
    cluster.cutover(&deploy("web@1", &["--strategy", "all_at_once"])).done();
    let before = cluster.instances(PORT);

    for (args, status, said) in [
        (&["--batch", "0"][..], 2, "batch"),
        (&["--batch", "101%"], 2, "101%"),
        (&["--min-healthy", "3"], 3, "2 hosts"),
        (&["--min-healthy", "100%"], 3, "can never be met"),
        (&["--strategy", "rollling"], 2, "rolling"),
        (&["--healthy-within", "5"], 2, "unit"),
    ] {
        let mut command = vec!["deploy", "web@2", "--to", "test", "--no-watch"];
        command.extend(args);
        let stderr = cluster.cutover(&command).failed_with(status);
        assert!(stderr.contains(said), "{args:?}: {stderr}");
    }
    for (release, environment, near) in
        [("wbe@2", "test", "web"), ("web@22", "test", "2"), ("web@2", "tets", "test")]
    {
        let command = ["deploy", release, "--to", environment, "--no-watch"];
        let stderr = cluster.cutover(&command).failed_with(2);
        assert!(stderr.contains(&format!("did you mean \"{near}\"")), "{stderr}");
    }
    let stderr = cluster.cutover(&["agents", "show", "web-11"]).failed_with(2);
    assert!(stderr.contains("web-1"), "{stderr}");
    assert_eq!(cluster.instances(PORT), before);
}

#[test]
fn an_instance_that_crashes_is_restarted_and_keeps_running_without_a_coordinator() {
    let mut cluster = Cluster::start(1);
    push(&cluster, Sample::good("1"));
    cluster.cutover(&deploy("web@1", &[])).done();
    let first = cluster.instances(PORT)[0].clone().unwrap();

    cluster.stop_the_coordinator();
    let pid = rustix::process::Pid::from_raw(i32::try_from(first.pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let second = wait_for("the instance to be restarted", SOON, || {
        cluster.instances(PORT)[0].clone().filter(|found| *found != first)
    });
    assert!(serves(&cluster, 0, "1"));

    cluster.start_the_coordinator();
    cluster.wait_until_live(1);
    assert_eq!(cluster.instances(PORT)[0], Some(second));
}

#[test]
fn a_host_that_joins_gets_by_itself_what_runs_and_never_what_is_being_tried() {
    let mut cluster = Cluster::start(2);
    push(&cluster, Sample::good("1"));
    push(&cluster, Sample::good("2"));
    cluster.cutover(&deploy("web@1", &["--strategy", "all_at_once"])).done();
    cluster.cutover(&deploy("web@2", &["--batch", "1", "--soak", "1h", "--no-watch"])).done();
    wait_for("the first batch to be watched", SOON, || {
        let why = cluster.cutover(&["why", "web"]).stdout;
        why.contains("Watching the batch").then_some(())
    });

    cluster.add_agent(3);
    cluster.wait_until_live(3);
    cluster.cutover(&["rollback", "web"]).done();

    wait_for("web-3 to serve what the others do", SOON, || serves(&cluster, 2, "1").then_some(()));
    let history = cluster.json(&["history", "web", "--output", "json"]);
    let begun: Vec<(&str, &str)> = history
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["started_by"].as_str().unwrap(), it["to_version"].as_str().unwrap()))
        .collect();
    assert_eq!(begun[0], ("cutover", "1"), "{begun:?}");
}
