//! Hosts that hold one instance at a time: while one is out, its gate passes requests on.

use cutover_tests::live::{Clients, Cluster, Sample};

const PORT: u16 = 8080;

fn push_in_place(cluster: &Cluster, version: &str) {
    let sample = Sample { service: "swap = \"in_place\"", ..Sample::good(version) };
    let dir = sample.write(cluster.folder(), &cluster.programs().sample);
    cluster.push(&dir, version);
}

fn deploy(cluster: &Cluster, release: &str) {
    let quick = ["--healthy-for", "300ms", "--healthy-within", "30s", "--batch", "1"];
    let mut args = vec!["deploy", release, "--to", "test"];
    args.extend(quick);
    cluster.cutover(&args).done();
}

#[test]
fn no_request_fails_while_hosts_are_replaced_in_place_one_by_one() {
    let cluster = Cluster::start(2);
    push_in_place(&cluster, "1");
    push_in_place(&cluster, "2");
    deploy(&cluster, "web@1");

    let clients = Clients::ask(&cluster, PORT, &["GET /", "POST /slow?ms=100"]);
    for (old, new) in [("1", "2"), ("2", "1"), ("1", "2")] {
        deploy(&cluster, &format!("web@{new}"));
        clients.heard().all_is_well().moved(old, new);
    }
}
