//! Hosts that hold one instance at a time: while one is out, its gate passes requests on.

use std::fs;

use cutover_tests::live::{Cluster, Sample, while_asked};

const PORT: u16 = 8080;

fn push_in_place(cluster: &Cluster, version: &str) {
    let sample = Sample::good(version);
    let dir = sample.write(cluster.folder(), &cluster.programs().sample);
    let path = dir.join("cutover.toml");
    let text = fs::read_to_string(&path).expect("it was written");
    let in_place = "[service]\nswap = \"in_place\"";
    assert!(text.contains("[service]"));
    fs::write(&path, text.replace("[service]", in_place)).expect("the disk takes a file");
    cluster.push(&dir, version);
}

fn deploy(cluster: &Cluster, release: &str) {
    let quick = ["--healthy-for", "300ms", "--healthy-within", "10s", "--batch", "1"];
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

    let is_good = |answer: &str| answer.starts_with("HTTP/1.1 200") && answer.contains("web ");
    let ((), heard) = while_asked(&cluster, (PORT, "/"), is_good, || {
        for release in ["web@2", "web@1", "web@2"] {
            deploy(&cluster, release);
        }
    });

    heard.all_is_well(100);
}
