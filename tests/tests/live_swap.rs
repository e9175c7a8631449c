//! Swaps behind the gate, under clients that ask all the time: none of them notices.

use cutover_tests::live::{Cluster, Heard, Ran, Sample, while_asked};

const PORT: u16 = 8080;

fn push(cluster: &Cluster, sample: Sample<'_>) {
    let dir = sample.write(cluster.folder(), &cluster.programs().sample);
    cluster.push(&dir, sample.version);
}

fn deploy(cluster: &Cluster, release: &str) -> Ran {
    let quick = ["--healthy-for", "500ms", "--healthy-within", "4s", "--progress-within", "30s"];
    let mut args = vec!["deploy", release, "--to", "test", "--batch", "1"];
    args.extend(quick);
    cluster.cutover(&args)
}

/// Begins with `web@1` on every host, and asks for it while `work` is done.
fn under_clients<T>(cluster: &Cluster, work: impl FnOnce() -> T) -> (T, Heard) {
    let is_good = |answer: &str| answer.starts_with("HTTP/1.1 200") && answer.contains("web ");
    while_asked(cluster, (PORT, "/"), is_good, work)
}

fn fleet_on(version: &str, hosts: u8) -> Cluster {
    let cluster = Cluster::start(hosts);
    push(&cluster, Sample::good(version));
    deploy(&cluster, &format!("web@{version}")).done();
    cluster
}

#[test]
fn versions_follow_each_other_and_no_request_fails() {
    let cluster = fleet_on("1", 2);
    push(&cluster, Sample::good("2"));
    let ((), heard) = under_clients(&cluster, || {
        for release in ["web@2", "web@1", "web@2", "web@1"] {
            deploy(&cluster, release).done();
        }
    });

    heard.all_is_well(200);
}

#[test]
fn a_version_that_never_becomes_healthy_is_asked_by_nobody_and_goes_back() {
    let cluster = fleet_on("1", 2);
    push(&cluster, Sample { args: &["--fail-health"], ..Sample::good("2") });
    let is_good = |answer: &str| answer.starts_with("HTTP/1.1 200") && answer.contains("web 1 ");
    let ((), heard) = while_asked(&cluster, (PORT, "/"), is_good, || {
        deploy(&cluster, "web@2").failed_with(1);
    });

    heard.all_is_well(100);
}

#[test]
fn an_agent_that_is_killed_in_the_middle_of_a_swap_takes_nothing_from_its_clients() {
    let mut cluster = fleet_on("1", 1);
    push(&cluster, Sample::good("2"));
    for release in ["web@2", "web@1"] {
        let args = ["deploy", release, "--to", "test", "--healthy-for", "1s", "--no-watch"];
        cluster.cutover(&args).done();
        cluster.kill_agent(0);
        let (_, alone) = under_clients(&cluster, || cluster.cutover(&["status", "web"]).done());
        alone.all_is_well(1);

        cluster.start_agent(0);
        let (_, again) = under_clients(&cluster, || {
            cluster.cutover(&["watch", "web", "--timeout", "60s"]).done()
        });
        again.all_is_well(1);
        let answer = cluster.get(0, PORT, "/").unwrap_or_default();
        assert!(answer.contains(&format!("web {} ", &release[4..])), "{answer}");
    }
}
