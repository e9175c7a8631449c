//! Joining, and being removed, with the real programs.

use std::{process::Command, time::Duration};

use cutover_tests::live::{Cluster, Ran, run, wait_for};
use serde_json::Value;

struct Invitation {
    url: String,
    token: String,
    ca_hash: String,
}

fn invite(cluster: &Cluster, more: &[&str]) -> Invitation {
    let mut args = vec!["agents", "token", "--output", "json"];
    args.extend(more);
    let json = cluster.json(&args);
    let of = |key: &str| json[key].as_str().expect("a text").to_owned();
    Invitation { url: of("join_url"), token: of("token"), ca_hash: of("ca_hash") }
}

fn join(cluster: &Cluster, invitation: &Invitation, name: &str, folder: &str) -> Ran {
    let Invitation { url, token, ca_hash } = invitation;
    run(Command::new(&cluster.programs().agent)
        .args(["join", url, "--token", token, "--ca-hash", ca_hash, "--name", name, "--data"])
        .arg(cluster.folder().join(folder)))
}

#[test]
fn wrong_used_and_foreign_tokens_are_refused_with_one_text() {
    let cluster = Cluster::start_coordinator();
    let good = invite(&cluster, &[]);
    let bound = invite(&cluster, &["--name", "db-1"]);
    let wrong = Invitation { token: format!("ctj_{}", "0".repeat(64)), ..invite(&cluster, &[]) };

    join(&cluster, &good, "web-1", "web-1").done();
    let refusals = [
        join(&cluster, &good, "web-2", "used"),
        join(&cluster, &wrong, "web-3", "wrong"),
        join(&cluster, &bound, "web-4", "bound"),
    ];
    let texts: Vec<String> = refusals.into_iter().map(|ran| ran.failed_with(3)).collect();
    assert!(texts[0].contains("does not take this token"), "{}", texts[0]);
    assert!(texts.iter().all(|text| *text == texts[0]), "{texts:?}");
}

#[test]
fn a_wrong_ca_hash_is_told_before_the_token_is_sent() {
    let cluster = Cluster::start_coordinator();
    let good = invite(&cluster, &[]);
    let elsewhere = Invitation {
        ca_hash: format!("sha256:{}", "0".repeat(64)),
        url: good.url.clone(),
        token: good.token.clone(),
    };

    let text = join(&cluster, &elsewhere, "web-1", "one").failed_with(3);
    assert!(text.contains("wrong host, or somebody is in between"), "{text}");
    // The token was not used up.
    join(&cluster, &good, "web-1", "two").done();
}

#[test]
fn keys_are_private_and_a_key_that_others_can_read_is_refused() {
    use std::{fs, os::unix::fs::PermissionsExt as _};
    let mut cluster = Cluster::start(1);
    let identity = cluster.agents()[0].data.join("identity");
    let keys: Vec<_> = fs::read_dir(&identity)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| fs::read_to_string(path).unwrap_or_default().contains("PRIVATE KEY"))
        .collect();
    assert!(!keys.is_empty());
    for key in &keys {
        assert_eq!(fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600, "{key:?}");
    }

    cluster.stop_agent(0);
    fs::set_permissions(&keys[0], fs::Permissions::from_mode(0o644)).unwrap();
    let refused = run(Command::new(&cluster.programs().agent)
        .args(["run", "--data"])
        .arg(&cluster.agents()[0].data));
    assert_ne!(refused.status, 0);
    assert!(refused.stderr.contains("chmod"), "{}", refused.stderr);
}

#[test]
fn a_removed_agent_loses_its_session_within_a_minute_and_never_comes_back() {
    let cluster = Cluster::start(2);
    cluster.cutover(&["agents", "remove", "web-1"]).done();
    wait_for("the session to end", Duration::from_secs(60), || {
        cluster.agent_log(0).contains("removed").then_some(())
    });
    let list = cluster.json(&["agents", "list", "--output", "json"]);
    let names: Vec<&Value> = list.as_array().unwrap().iter().map(|it| &it["name"]).collect();
    assert_eq!(names, ["web-2"]);

    // Its certificate is still good for a day; the coordinator is not interested.
    let agent = &cluster.agents()[0];
    let status =
        run(Command::new(&cluster.programs().agent).args(["status", "--data"]).arg(&agent.data));
    assert!(!status.stdout.contains("connected: yes"), "{}", status.stdout);
    assert_eq!(cluster.json(&["agents", "list", "--output", "json"]).as_array().unwrap().len(), 1);
}
