//! Swaps behind the gate, under clients that ask all the time: none of them notices.

use cutover_tests::live::{Clients, Cluster, Ran, Sample};

const PORT: u16 = 8080;

fn push(cluster: &Cluster, sample: Sample<'_>) {
    let dir = sample.write(cluster.folder(), &cluster.programs().sample);
    cluster.push(&dir, sample.version);
}

fn deploy(cluster: &Cluster, release: &str, healthy_within: &str) -> Ran {
    let mut args = vec!["deploy", release, "--to", "test", "--batch", "1"];
    args.extend(["--healthy-for", "500ms", "--healthy-within", healthy_within]);
    cluster.cutover(&args)
}

fn fleet_on(version: &str, hosts: u8) -> Cluster {
    let cluster = Cluster::start(hosts);
    push(&cluster, Sample::good(version));
    deploy(&cluster, &format!("web@{version}"), "30s").done();
    cluster
}

#[test]
fn versions_follow_each_other_and_no_request_fails() {
    let cluster = fleet_on("1", 2);
    push(&cluster, Sample::good("2"));
    // The second takes longer than the sample waits for its requests when it is told to stop:
    // whoever stops it before it is empty cuts one off.
    let clients = Clients::ask(&cluster, PORT, &["GET /", "POST /slow?ms=1500"]);
    for (old, new) in [("1", "2"), ("2", "1"), ("1", "2")] {
        deploy(&cluster, &format!("web@{new}"), "30s").done();
        clients.heard().all_is_well().moved(old, new);
    }
}

#[test]
fn a_version_that_never_becomes_healthy_is_asked_by_nobody_and_goes_back() {
    let cluster = fleet_on("1", 2);
    push(&cluster, Sample { args: &["--fail-health"], ..Sample::good("2") });
    let clients = Clients::ask(&cluster, PORT, &["GET /", "POST /slow?ms=200"]);
    deploy(&cluster, "web@2", "4s").failed_with(1);

    clients.heard().all_is_well().only("1");
}
