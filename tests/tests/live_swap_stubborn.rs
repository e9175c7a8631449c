//! Swaps of applications that behave badly: late, deaf, with a child on their port, with a health
//! that flaps, or dead as soon as they are healthy. Clients ask all the time, and none notices.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::Path,
    time::{Duration, Instant},
};

use cutover_tests::live::{Clients, Cluster, Ran, Sample, release_dir, wait_for};
use rustix::process::{Pid, Signal, kill_process};

const PORT: u16 = 8080;

/// Half of the clients wait for the second: at any moment something is under way.
const PAGES: [&str; 2] = ["GET /", "POST /slow?ms=200"];

/// How long what was asked to end may take to be gone, on a machine that is busy.
const GONE_WITHIN: Duration = Duration::from_secs(30);

fn push(cluster: &Cluster, sample: Sample<'_>) {
    let dir = sample.write(cluster.folder(), &cluster.programs().sample);
    cluster.push(&dir, sample.version);
}

fn deploy(cluster: &Cluster, release: &str, (healthy_for, within): (&str, &str)) -> Ran {
    let mut args = vec!["deploy", release, "--to", "test"];
    args.extend(["--healthy-for", healthy_for, "--healthy-within", within]);
    cluster.cutover(&args)
}

/// Longer than good versions need on a machine that is busy.
const GOOD: (&str, &str) = ("300ms", "60s");

/// Longer than bad versions seem good, and time enough for several tries of them.
const BAD: (&str, &str) = ("1s", "4s");

fn host_on(sample: Sample<'_>) -> Cluster {
    let cluster = Cluster::start(1);
    let release = format!("web@{}", sample.version);
    push(&cluster, sample);
    deploy(&cluster, &release, GOOD).done();
    cluster
}

/// Returns what follows `what` in the last line that version `version` logged with it.
fn logged(cluster: &Cluster, version: &str, what: &str) -> Option<String> {
    let logs = cluster.instance_logs(0);
    let mut lines = logs.lines().filter(|line| line.starts_with(&format!("web {version} ")));
    let (_, rest) = lines.rfind(|line| line.contains(what))?.split_once(what)?;
    Some(rest.trim().to_owned())
}

fn is_there(pid: &str) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').map(|(_, rest)| rest.trim_start().to_owned());
    state.is_some_and(|state| !state.starts_with(['Z', 'X']))
}

fn wait_until_gone(what: &str, pid: &str) {
    wait_for(&format!("{what} (pid {pid}) to be gone"), GONE_WITHIN, || {
        (!is_there(pid)).then_some(())
    });
}

/// Demands that version 2 was started, asked by nobody and rolled back.
fn second_was_asked_by_nobody_and_is_gone(cluster: &Cluster) {
    let why = cluster.cutover(&["why", "web"]).done();
    assert!(why.contains("Rolled back"), "{why}");
    assert!(logged(cluster, "2", "listens on").is_some(), "it was started");
    assert_eq!(logged(cluster, "2", "was asked for"), None);
    assert!(logged(cluster, "1", "was asked for").is_some(), "whoever is asked says so");
    wait_for("the slot of version 2 to be empty", GONE_WITHIN, || {
        let slots = cluster.slots(0);
        let runs = |version: &str| {
            slots.iter().any(|slot| slot.version == version && slot.phase == "running")
        };
        (runs("1") && !runs("2")).then_some(())
    });
}

#[test]
fn one_that_takes_20_s_to_start_is_waited_for() {
    let cluster = host_on(Sample::good("1"));
    let late = &["--listen-after", "20"];
    push(&cluster, Sample { args: late, start_within: "60s", ..Sample::good("2") });
    let clients = Clients::ask(&cluster, PORT, &PAGES);
    let begun = Instant::now();
    deploy(&cluster, "web@2", ("300ms", "120s")).done();

    assert!(begun.elapsed() >= Duration::from_secs(20), "it was not late");
    clients.heard().all_is_well().moved("1", "2");
}

#[test]
fn one_that_ignores_term_is_killed_when_its_time_is_over() {
    let deaf = Sample { args: &["--ignore-term"], stop_within: "300ms", ..Sample::good("1") };
    let cluster = host_on(deaf);
    push(&cluster, Sample::good("2"));
    let first = cluster.instances(PORT)[0].as_ref().unwrap().pid.to_string();
    // Far longer than it lives once it is asked to stop: stopped too early, it cuts one off.
    let clients = Clients::ask(&cluster, PORT, &["GET /", "POST /slow?ms=2000"]);
    deploy(&cluster, "web@2", GOOD).done();
    wait_until_gone("the one that ignores TERM", &first);

    clients.heard().all_is_well().moved("1", "2");
    assert_eq!(logged(&cluster, "1", "was asked to stop"), None);
    assert!(cluster.agent_log(0).contains("had to be killed"), "{}", cluster.agent_log(0));
}

#[test]
fn a_child_that_is_left_on_the_port_ends_with_its_instance() {
    let cluster = host_on(Sample { args: &["--leave-child"], ..Sample::good("1") });
    push(&cluster, Sample::good("2"));
    let child = || logged(&cluster, "1", "left its port to pid").unwrap();

    // It dies and leaves the child; the next one is started in spite of it.
    let (parent, left) = (cluster.instances(PORT)[0].clone().unwrap(), child());
    assert!(is_there(&left));
    let pid = Pid::from_raw(i32::try_from(parent.pid).unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    wait_for("another instance to answer", GONE_WITHIN, || {
        cluster.instances(PORT)[0].clone().filter(|it| *it != parent)
    });
    wait_until_gone("the child of one that died", &left);

    // It is replaced.
    let (left, port) = (child(), logged(&cluster, "1", "listens on").unwrap());
    assert!(is_there(&left));
    let clients = Clients::ask(&cluster, PORT, &PAGES);
    deploy(&cluster, "web@2", GOOD).done();
    wait_until_gone("the child of one that was replaced", &left);
    clients.heard().all_is_well().moved("1", "2");
    let port: SocketAddr = port.parse().unwrap();
    wait_for("the port to be free", GONE_WITHIN, || TcpListener::bind(port).ok());
}

#[test]
fn without_a_gate_the_next_one_gets_the_very_port_that_a_child_held() {
    let cluster = Cluster::start(1);
    // Nobody but this cluster is at this address, so the port stays free.
    let free = TcpListener::bind((cluster.agents()[0].address, 0)).unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    for version in ["1", "2"] {
        let manifest = format!(
            r#"[application]
name = "web"

[run]
command = ["./server", "--address", "$ADDRESS", "--port", "{port}", "--version-file", "VERSION", "--leave-child"]
stop_within = "5s"

[health]
http = "/healthz"
port = {port}
every = "100ms"
timeout = "100ms"
start_within = "5s"
"#
        );
        let files = [("cutover.toml", manifest.as_str()), ("VERSION", version)];
        let dir = release_dir(cluster.folder(), version, &files);
        fs::copy(&cluster.programs().sample, dir.join("server")).unwrap();
        cluster.push(&dir, version);
    }
    deploy(&cluster, "web@1", GOOD).done();
    let child = logged(&cluster, "1", "left its port to pid").unwrap();
    assert!(is_there(&child));
    deploy(&cluster, "web@2", GOOD).done();

    assert!(!is_there(&child), "it ended before the next one began");
    let answer = cluster.get(0, port, "/").unwrap_or_default();
    assert!(answer.contains("web 2 "), "{answer}");
}

#[test]
fn one_whose_health_flaps_never_gets_traffic_and_goes_back() {
    flaps(2);
}

#[test]
fn one_that_flaps_and_is_never_failing_for_long_enough_does_not_either() {
    flaps(50);
}

/// Tries a version whose health passes three times, fails three times, and so on, and that is
/// failing after so many failures in a row.
fn flaps(failures: u8) {
    let cluster = host_on(Sample::good("1"));
    push(&cluster, Sample { args: &["--flap", "3"], failures, ..Sample::good("2") });
    let clients = Clients::ask(&cluster, PORT, &PAGES);
    deploy(&cluster, "web@2", BAD).failed_with(1);

    clients.heard().all_is_well().only("1");
    second_was_asked_by_nobody_and_is_gone(&cluster);
}

#[test]
fn one_that_dies_as_soon_as_it_is_healthy_gets_no_request_and_goes_back() {
    let cluster = host_on(Sample::good("1"));
    // Two checks make it healthy.
    push(&cluster, Sample { args: &["--crash-after-checks", "2"], ..Sample::good("2") });
    let clients = Clients::ask(&cluster, PORT, &PAGES);
    deploy(&cluster, "web@2", BAD).failed_with(1);

    clients.heard().all_is_well().only("1");
    second_was_asked_by_nobody_and_is_gone(&cluster);
}
