//! An edge in front of a fleet, and clients that ask it all the time: whatever happens behind it,
//! and to it, none of their requests fails.

use std::{net::SocketAddr, time::Duration};

use cutover_tests::live::{Clients, Cluster, Sample, ask_aside, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const PORT: u16 = 8080;

/// The edge's place among the agents: it joins after three hosts.
const EDGE: usize = 3;

/// How long anything here may take to be known: a session's silence, and a loaded machine.
const KNOWN_WITHIN: Duration = Duration::from_secs(60);

/// What one edge says of one host.
#[derive(Clone, Debug, PartialEq)]
struct Behind {
    weight: u64,
    is_certain: bool,
    requests: u64,
    open: u64,
}

fn push(cluster: &Cluster, version: &str, service: &str) {
    let sample = Sample { service, ..Sample::good(version) };
    let dir = sample.write(cluster.folder(), &cluster.programs().sample);
    cluster.push(&dir, version);
}

fn deploy(cluster: &Cluster, release: &str) {
    let quick = ["--healthy-for", "500ms", "--healthy-within", "20s", "--batch", "1"];
    let mut args = vec!["deploy", release, "--to", "test"];
    args.extend(quick);
    cluster.cutover(&args).done();
}

fn edge_says(cluster: &Cluster) -> Value {
    cluster.json(&["agents", "show", "edge-9", "--output", "json"])["edge"].clone()
}

fn behind(cluster: &Cluster, host: &str) -> Option<Behind> {
    let edge = edge_says(cluster);
    if edge["is_followed"] != true {
        return None;
    }
    let host = edge["hosts"].as_array()?.iter().find(|it| it["host"] == host)?;
    let number = |key: &str| host[key].as_u64();
    Some(Behind {
        weight: number("weight_permille")?,
        is_certain: host["is_certain"].as_bool()?,
        requests: number("requests")?,
        open: number("requests_in_flight")? + number("long_lived")?,
    })
}

/// Waits until the edge leads to a host as `is_so` demands.
fn wait_until(
    cluster: &Cluster,
    host: &str,
    what: &str,
    is_so: impl Fn(&Behind) -> bool,
) -> Behind {
    wait_for(&format!("the edge to lead to {host} {what}"), KNOWN_WITHIN, || {
        behind(cluster, host).filter(&is_so)
    })
}

fn serves(behind: &Behind) -> bool {
    behind.weight > 0 && behind.is_certain
}

/// Begins with three hosts that run `web@1`, and an edge in front of them that leads to all.
fn fleet(service: &str) -> Cluster {
    let mut cluster = Cluster::start(3);
    cluster.add_edge(9);
    for version in ["1", "2"] {
        push(&cluster, version, service);
    }
    deploy(&cluster, "web@1");
    for host in ["web-1", "web-2", "web-3"] {
        wait_until(&cluster, host, "once it serves", serves);
    }
    cluster
}

/// Begins to ask the edge, on connections that are kept and on new ones.
fn ask(cluster: &Cluster) -> Clients {
    Clients::ask_at(&[SocketAddr::new(cluster.agents()[EDGE].address, PORT)], &["GET /"])
}

fn kill_instance(cluster: &Cluster, index: usize) {
    let instance = cluster.instances(PORT)[index].clone().expect("it answers");
    let pid = Pid::from_raw(i32::try_from(instance.pid).expect("a pid")).expect("a pid");
    kill_process(pid, Signal::KILL).expect("it is alive");
}

#[test]
fn nobody_notices_a_rolling_deploy_behind_an_edge() {
    let cluster = fleet("");
    let clients = ask(&cluster);

    for new in ["2", "1"] {
        deploy(&cluster, &format!("web@{new}"));
        clients.heard().all_is_well();
        clients.heard().all_is_well().only(new);
    }

    for host in ["web-1", "web-2", "web-3"] {
        // It is told with the next beat.
        wait_until(&cluster, host, "with requests", |host| host.requests > 0);
    }
}

#[test]
fn nobody_notices_hosts_that_are_replaced_in_place_behind_an_edge() {
    let cluster = fleet("swap = \"in_place\"");
    let clients = ask(&cluster);

    for release in ["web@2", "web@1"] {
        deploy(&cluster, release);
        clients.heard().all_is_well();
    }
}

#[test]
fn connections_that_are_not_http_go_through_an_edge_as_well() {
    let cluster = fleet("protocol = \"tcp\"");
    let edge = SocketAddr::new(cluster.agents()[EDGE].address, PORT);
    // One connection each: who keeps one has it until the drain's limit.
    let is_answered = |by: &[&str]| {
        let answer = ask_aside(edge, "GET /").join().expect("a client does not panic");
        let is_good = |page: &String| by.iter().any(|it| page.starts_with(&format!("web {it} ")));
        assert!(answer.as_ref().is_ok_and(is_good), "{answer:?}");
    };
    is_answered(&["1"]);
    std::thread::scope(|scope| {
        let deploys = scope.spawn(|| deploy(&cluster, "web@2"));
        while !deploys.is_finished() {
            is_answered(&["1", "2"]);
        }
    });
    is_answered(&["2"]);
}

#[test]
fn nobody_notices_a_host_that_loses_its_agent_and_its_instance() {
    let mut cluster = fleet("");
    let clients = ask(&cluster);

    cluster.kill_agent(1);
    kill_instance(&cluster, 1);
    // Nobody starts it again, and its gate is left alone: it is known to be out of touch.
    wait_until(&cluster, "web-2", "in doubt", |host| !host.is_certain);
    clients.heard().all_is_well();
    cluster.start_agent(1);
    wait_until(&cluster, "web-2", "again", serves);

    clients.heard().all_is_well();
}

#[test]
fn a_drained_host_gets_nothing_new_and_nobody_notices() {
    let cluster = fleet("");
    let clients = ask(&cluster);

    cluster.cutover(&["agents", "drain", "web-2", "--reason", "a new disk"]).done();
    let before =
        wait_until(&cluster, "web-2", "no more", |host| host.weight == 0 && host.open == 0);
    let others = wait_until(&cluster, "web-1", "still", serves).requests;
    // What was counted is told with a beat: the others' counts show that there was one.
    wait_until(&cluster, "web-1", "much more", |host| host.requests > others + 50);
    let after = wait_until(&cluster, "web-2", "no more", |_| true);
    assert_eq!(after, before, "it got something new");
    cluster.cutover(&["agents", "drain", "web-2", "--undo"]).done();
    wait_until(&cluster, "web-2", "again", |host| host.requests > before.requests);

    clients.heard().all_is_well();
}

#[test]
fn nobody_notices_an_edge_whose_agent_dies_nor_a_coordinator_that_is_away() {
    let mut cluster = fleet("");
    let clients = ask(&cluster);

    cluster.kill_agent(EDGE);
    cluster.start_agent(EDGE);
    cluster.wait_until_live(4);
    let before = wait_until(&cluster, "web-1", "as before", serves).requests;
    cluster.kill_the_coordinator();
    // Without anybody to tell it, the edge's agent begins anew once more.
    cluster.kill_agent(EDGE);
    cluster.start_agent(EDGE);
    clients.ask_on();
    cluster.start_the_coordinator();
    cluster.wait_until_live(4);
    for host in ["web-1", "web-2", "web-3"] {
        wait_until(&cluster, host, "as before", |host| serves(host) && host.requests > before);
    }
    deploy(&cluster, "web@2");

    clients.heard().all_is_well();
}
