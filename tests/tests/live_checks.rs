//! Checks of canaries with the real programs and a real Prometheus server: what fails a canary, what
//! says nothing, and what `why` says of it.

use std::{fs, path::PathBuf};

use cutover_tests::live::{Fleet, Sample};

/// A canary on one host, until somebody says something.
const FOR_LONG: [&str; 10] = [
    "--strategy",
    "canary",
    "--canary-hosts",
    "1",
    "--batch",
    "2",
    "--canary-steps",
    "50%:1h",
    "--canary-unsure",
    "wait",
];

/// One that is over as soon as there is enough evidence.
const FOR_SHORT: [&str; 10] = [
    "--strategy",
    "canary",
    "--canary-hosts",
    "1",
    "--canary-steps",
    "50%:1s",
    "--canary-unsure",
    "wait",
    "--canary-judge",
    "requests_min=1,watched_min=1s,latency=off",
];

fn begin(fleet: &Fleet, version: &str, canary: &[&str]) {
    let mut args = canary.to_vec();
    args.push("--no-watch");
    fleet.deploy(version, &args).done();
}

/// A check that fails above so many live agents, which the coordinator counts itself.
fn agents_above(limit: &str) -> String {
    format!(
        r#"
[[checks]]
name = "agents"
prometheus = 'sum(cutover_coordinator_agents{{presence="live"}})'
source = "main"
fail_above = {limit}
every = "1s"
"#
    )
}

/// A check that fails, with words, while there is a file of this name; it writes down each run.
fn queue(fleet: &Fleet) -> (String, PathBuf, PathBuf) {
    let folder = fleet.cluster.folder();
    let (bad, runs) = (folder.join("queue-is-long"), folder.join("runs"));
    let script = format!(
        "echo run >> {}; test ! -e {} || {{ echo looking; echo the queue has 250 entries; exit 1; }}",
        runs.display(),
        bad.display()
    );
    let toml = format!(
        "\n[[checks]]\nname = \"queue\"\ncommand = [\"sh\", \"-c\", {script:?}]\nevery = \"1s\"\n"
    );
    (toml, bad, runs)
}

#[test]
fn a_number_beyond_its_limit_takes_the_canary_back_and_nobody_else_is_touched() {
    let mut fleet = Fleet::start(2);
    fleet.cluster.start_prometheus();
    let toml = agents_above("1");
    fleet.push(Sample { toml: &toml, ..Sample::good("2-checked") });
    let clients = fleet.ask();
    let args = [&FOR_LONG[..], &["--plan"]].concat();
    let plan = fleet.deploy("2-checked", &args).done();
    assert!(plan.contains("agents (main, fails above 1, 2 in a row, every 1s)"), "{plan}");

    begin(&fleet, "2-checked", &FOR_LONG);
    fleet.until_over_as("rolled_back");

    let why = fleet.cluster.cutover(&["why", "web"]).done();
    let reason = "check agents fails (asked main): 2 is above 1, 2 times in a row";
    assert!(why.contains(reason), "{why}");
    clients.heard().all_is_well();
    assert_eq!(fleet.starts_by_host("2-checked"), [1, 0]);
}

#[test]
fn a_command_that_fails_takes_the_canary_back_with_its_last_words() {
    let mut fleet = Fleet::start(2);
    let (toml, bad, runs) = queue(&fleet);
    fleet.push(Sample { toml: &toml, ..Sample::good("2-checked") });
    begin(&fleet, "2-checked", &FOR_LONG);
    fleet.until_why_says("check queue on web-1 passes: it exited with status 0");

    // Another agent process runs it anew.
    fleet.cluster.kill_agent(0);
    let before = fs::read_to_string(&runs).unwrap().len();
    fleet.cluster.start_agent(0);
    cutover_tests::live::wait_for(
        "the check to run again",
        std::time::Duration::from_secs(60),
        || (fs::read_to_string(&runs).unwrap().len() > before).then_some(()),
    );
    fs::write(&bad, "").unwrap();
    fleet.until_over_as("rolled_back");

    let why = fleet.cluster.cutover(&["why", "web"]).done();
    let reason =
        "check queue fails on web-1: it exited with status 1; it said: the queue has 250 entries";
    assert!(why.contains(reason), "{why}");
    assert_eq!(fleet.starts_by_host("2-checked"), [1, 0]);
}

#[test]
fn a_canary_waits_while_the_metrics_server_is_away_and_goes_on_when_all_checks_pass() {
    let mut fleet = Fleet::start(2);
    fleet.cluster.start_prometheus();
    let (queue, ..) = queue(&fleet);
    let toml = agents_above("100") + &queue;
    fleet.push(Sample { toml: &toml, ..Sample::good("2-checked") });
    fleet.cluster.stop_prometheus();
    let clients = fleet.ask();

    begin(&fleet, "2-checked", &FOR_SHORT);
    // The judge has enough by then, and the command passes.
    fleet.until_why_says("not enough evidence yet: check agents (asked main) cannot tell");
    fleet.until_why_says("evidence yet: check agents (asked main) cannot tell: could not connect");
    assert_eq!(fleet.starts_by_host("2-checked"), [1, 0]);
    fleet.cluster.start_prometheus_again();
    fleet.until_over_as("succeeded");

    clients.heard().all_is_well();
    assert_eq!(fleet.starts_everywhere("2-checked"), 2);
}

#[test]
fn a_source_that_the_coordinator_was_not_told_of_is_refused_before_anything_begins() {
    let fleet = Fleet::start(1);
    let toml = agents_above("1");
    fleet.push(Sample { toml: &toml, ..Sample::good("2-checked") });

    let args = [&FOR_LONG[..], &["--no-watch"]].concat();
    let refused = fleet.deploy("2-checked", &args).failed_with(3);

    assert!(refused.contains("check agents asks \"main\", which is no source"), "{refused}");
    assert!(refused.contains("--metrics main=URL"), "{refused}");
    assert_eq!(fleet.starts_everywhere("2-checked"), 0);
}
