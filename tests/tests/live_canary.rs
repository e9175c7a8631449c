//! Canaries with the real programs: their share of the traffic, who reaches them on purpose, and
//! what becomes of a bad one.

use std::{fs, net::SocketAddr};

use cutover_tests::live::{Cluster, Failed, Failure, Fleet, Heard, Sample};

const CANARY: [&str; 6] = ["--strategy", "canary", "--canary-hosts", "1", "--batch", "2"];

fn begin(fleet: &Fleet, steps: &str, more: &[&str]) {
    let mut args = CANARY.to_vec();
    args.extend(["--canary-steps", steps, "--no-watch"]);
    args.extend(more);
    fleet.deploy("2", &args).done();
}

fn is_of(host: SocketAddr, version: &str, header: &str) -> bool {
    let page = Cluster::get_with(host, "/", header).expect("every request is answered");
    assert!(page.starts_with("HTTP/1.1 200 "), "{page}");
    page.contains(&format!("web {version} "))
}

#[test]
fn a_canary_gets_its_share_step_by_step_and_whoever_asks_for_it_gets_it() {
    let fleet = Fleet::start(3);
    let hosts = fleet.cluster.hosts(Fleet::PORT);
    let on_purpose = ["--canary-header", "x-canary=1", "--canary-cookie", "canary=1"];
    begin(&fleet, "20%:1h,50%:1h", &on_purpose);
    fleet.until_why_says("Comparing");
    fleet.assert_share(0, "2", 20);
    assert!((0..50).all(|_| is_of(hosts[0], "2", "x-canary: 1\r\n")), "the header reaches it");
    let cookies = "cookie: theme=dark; canary=1\r\n";
    assert!((0..50).all(|_| is_of(hosts[0], "2", cookies)), "so does the cookie");
    let gets_the_old_one = |more| (0..50).any(|_| is_of(hosts[0], "1", more));
    assert!(gets_the_old_one("cookie: theme=dark\r\n"), "who has another one goes by the share");
    assert!(gets_the_old_one("cookie: xcanary=1; canary=2\r\n"), "so does who has no such one");
    for more in ["x-canary: 1\r\n", cookies] {
        assert!((0..50).all(|_| is_of(hosts[1], "1", more)), "there is none to reach");
    }

    let clients = fleet.ask();
    fleet.tell("promote");
    fleet.until_why_says("Comparing");
    clients.heard().all_is_well();
    drop(clients);
    fleet.assert_share(0, "2", 50);
    assert!((0..50).all(|_| is_of(hosts[1], "1", "")), "nobody else was touched");

    let clients = fleet.ask();
    fleet.tell("promote");
    fleet.until_over_as("succeeded");
    drop(clients.heard());
    clients.heard().all_is_well().only("2");
    assert_eq!(fleet.starts_everywhere("2"), 3);
}

#[test]
fn a_canary_that_complains_more_than_the_old_version_goes_back() {
    let fleet = Fleet::start(2);
    fleet.push(Sample { args: &["--complain-every", "1"], ..Sample::good("2-loud") });
    let mut args = CANARY.to_vec();
    args.extend(["--canary-steps", "50%:1h", "--no-watch"]);
    fleet.deploy("2-loud", &args).done();
    fleet.until_why_says("Comparing");
    let clients = fleet.ask();

    // A minute of heartbeats: the judge believes one complaint in each, as there are none beside.
    fleet.until_over_as("rolled_back");

    clients.heard().all_is_well();
    let why = fleet.cluster.cutover(&["why", "web"]).done();
    assert!(why.contains("error lines ") && why.contains(" a minute on the canary, 0 "), "{why}");
}

/// A canary of a release with these faults is compared, under traffic, until it goes back. Returns
/// what clients heard meanwhile, and demands that the gates' counts of `metric` are the reason.
fn goes_back_for(metric: &str, faults: &[&str]) -> (Fleet, Heard) {
    let fleet = Fleet::start(2);
    fleet.push(Sample { args: faults, ..Sample::good("2-bad") });
    let clients = fleet.ask();
    let mut args = CANARY.to_vec();
    args.extend(["--canary-steps", "50%:1h", "--no-watch"]);
    fleet.deploy("2-bad", &args).done();
    fleet.until_over_as("rolled_back");

    let heard = clients.heard();
    clients.heard().all_is_well().only("1");
    assert_eq!(fleet.starts_by_host("2-bad"), [1, 0]);
    assert_eq!(fleet.starts_by_host("1"), [1, 1], "the old one ran beside it");
    let why = fleet.cluster.cutover(&["why", "web"]).done();
    assert!(why.contains(metric) && why.contains(" on the canary, "), "{why}");
    (fleet, heard)
}

#[test]
fn a_canary_whose_answers_are_errors_goes_back_by_what_the_gates_count() {
    let (fleet, heard) = goes_back_for("errors ", &["--fail-each", "4"]);

    let canary = fleet.cluster.hosts(Fleet::PORT)[0];
    let is_its_own = |it: &&Failed| it.host == canary && it.failure == Failure::Status(500);
    assert_eq!(heard.failures.iter().find(|it| !is_its_own(it)), None);
    assert!(!heard.failures.is_empty(), "its answers are its own, badly or well");
}

#[test]
fn a_canary_that_is_slow_goes_back_by_what_the_gates_count_and_no_request_fails() {
    let (_fleet, heard) = goes_back_for("latency ", &["--slow-by", "40"]);

    heard.all_is_well();
}

#[test]
fn a_canary_that_turns_bad_goes_back_and_nobody_else_is_touched() {
    let fleet = Fleet::start(3);
    let good = fleet.cluster.folder().join("good");
    fs::write(&good, "").unwrap();
    let path = good.display().to_string();
    fleet.push(Sample { args: &["--healthy-when", &path], ..Sample::good("2-bad") });
    let before = fleet.cluster.instances(Fleet::PORT);
    let clients = fleet.ask();
    let mut args = CANARY.to_vec();
    args.extend(["--canary-steps", "50%:1h", "--no-watch"]);
    fleet.deploy("2-bad", &args).done();
    fleet.until_why_says("Comparing");
    fleet.until_it_serves("2-bad");

    fs::remove_file(&good).unwrap();
    fleet.until_over_as("rolled_back");

    clients.heard().all_is_well();
    clients.heard().all_is_well().only("1");
    assert_eq!(fleet.cluster.instances(Fleet::PORT), before);
    assert_eq!(fleet.starts_by_host("2-bad"), [1, 0, 0]);
    let why = fleet.cluster.cutover(&["why", "web"]).done();
    assert!(why.contains("web-1"), "{why}");
}
