//! Hosts that hold one instance at a time: while one is out, its gate passes requests on.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use cutover_tests::live::{Cluster, Sample};

const PORT: u16 = 8080;

fn push_in_place(cluster: &Cluster, version: &str) {
    // It takes a while to stop: requests come while nobody is there.
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

/// Asks every host all the time until `is_over`; returns how many requests were answered, and
/// what else was heard.
fn ask(cluster: &Cluster, is_over: &AtomicBool) -> (usize, Vec<String>) {
    let (mut answered, mut failures) = (0, Vec::new());
    while !is_over.load(Ordering::Relaxed) {
        for index in 0..cluster.agents().len() {
            let answer = cluster.get(index, PORT, "/").unwrap_or_default();
            let is_whole = answer.starts_with("HTTP/1.1 200") && answer.contains("web ");
            if is_whole {
                answered += 1;
            } else {
                failures.push(format!("{}: {answer:?}", cluster.agents()[index].name));
            }
        }
    }
    (answered, failures)
}

#[test]
fn no_request_fails_while_hosts_are_replaced_in_place_one_by_one() {
    let cluster = Cluster::start(2);
    push_in_place(&cluster, "1");
    push_in_place(&cluster, "2");
    deploy(&cluster, "web@1");

    let is_over = AtomicBool::new(false);
    let (answered, failures) = thread::scope(|scope| {
        let asking = scope.spawn(|| ask(&cluster, &is_over));
        for release in ["web@2", "web@1", "web@2"] {
            deploy(&cluster, release);
        }
        is_over.store(true, Ordering::Relaxed);
        asking.join().expect("the client does not panic")
    });

    assert!(answered > 100, "only {answered} requests were answered");
    assert!(failures.is_empty(), "{} of {answered} failed: {failures:?}", failures.len());
}
