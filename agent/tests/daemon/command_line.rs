//! What operators type on a server, and how it ends.

use cutover_common::{Slot, SlotGoal};
use cutover_proto::v1 as pb;
use serde_json::Value;

use super::{
    coordinator::Coordinator,
    deploys::{SERVER, is_settled, pid_of, running},
    host::{Host, LONG, is_alive},
};

fn stderr(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

async fn wait_for(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = std::time::Instant::now() + LONG;
    while !is_so().await {
        assert!(std::time::Instant::now() < deadline, "{what}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_agent_with_the_same_data_is_refused() {
    let coordinator = Coordinator::start().await;
    let host = Host::joined(&coordinator).await;
    wait_for("the first agent runs", async || coordinator.hellos() > 0).await;

    let second = host.run(&["run"]).await;

    assert_eq!(second.status.code(), Some(73), "{}", stderr(&second));
    assert!(stderr(&second).contains("another agent runs with"), "{}", stderr(&second));
}

#[tokio::test(flavor = "multi_thread")]
async fn status_says_what_runs_and_leaving_keeps_it() {
    let coordinator = Coordinator::start().await;
    let mut host = Host::joined(&coordinator).await;
    let one = coordinator.release("1", &[("server", SERVER)]);
    coordinator.assign(1, running(&one), SlotGoal::Absent);
    let blue = coordinator.until_slot("release 1 settles", Slot::Blue, is_settled).await;

    wait_for("the status shows it", async || {
        let output = host.run(&["status", "--output", "json"]).await;
        let Ok(status) = serde_json::from_slice::<Value>(&output.stdout) else { return false };
        let slot = &status["applications"][0]["slots"][0];
        status["connected"] == true && slot["health"] == "Settled" && slot["pid"] == pid_of(&blue)
    })
    .await;
    let text = String::from_utf8(host.run(&["status"]).await.stdout).unwrap();
    assert!(text.contains("agent web-1: running, connected to"), "{text}");

    let refused = host.run(&["leave"]).await;
    assert_eq!(refused.status.code(), Some(3), "{}", stderr(&refused));
    assert_eq!(host.stop_agent().code(), Some(0));
    let text = String::from_utf8(host.run(&["status"]).await.stdout).unwrap();
    assert!(text.contains("not running"), "{text}");

    let left = host.run(&["leave"]).await;
    assert_eq!(left.status.code(), Some(0), "{}", stderr(&left));
    assert!(String::from_utf8_lossy(&left.stdout).contains("still there: web 1 in blue"));
    assert!(is_alive(pid_of(&blue)));

    let again = host.join(&coordinator).await;
    assert!(again.status.success(), "{}", stderr(&again));
    host.start();
    let after = coordinator.until_slot("it is taken over", Slot::Blue, is_settled).await;
    assert_eq!(after.instance, blue.instance);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_use_and_unreachable_coordinators_have_their_exit_statuses() {
    let coordinator = Coordinator::start().await;
    let host = Host::new();

    assert_eq!(host.run(&["run"]).await.status.code(), Some(2));
    assert_eq!(host.run(&["status"]).await.status.code(), Some(2));
    assert_eq!(host.run(&["leave"]).await.status.code(), Some(2));
    assert_eq!(host.run(&["run", "--runtime", "docker"]).await.status.code(), Some(2));
    let (url, ca_hash) = (coordinator.url(), coordinator.ca_hash());
    let join = ["join", &url, "--ca-hash", &ca_hash, "--name", "web-1", "--token"];
    let guess = host.run(&[&join[..], &["guess"]].concat()).await;
    assert_eq!(guess.status.code(), Some(3), "{}", stderr(&guess));
    coordinator.go_away();
    let away = host.run(&[&join[..], &["ctj_good"]].concat()).await;
    assert_eq!(away.status.code(), Some(4), "{}", stderr(&away));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_farewell_is_logged_with_its_text_and_the_agent_stays() {
    let coordinator = Coordinator::start().await;
    coordinator.send_away(Some(pb::Farewell {
        reason: pb::farewell::Reason::AlreadyConnected.into(),
        text: "an agent of this name is connected from elsewhere".to_owned(),
    }));
    let mut host = Host::joined(&coordinator).await;

    wait_for("the log says why", async || {
        host.log().contains("an agent of this name is connected from elsewhere")
    })
    .await;
    coordinator.send_away(None);
    wait_for("it dials again", async || coordinator.hellos() > 1).await;
    assert_eq!(host.stop_agent().code(), Some(0));
}
