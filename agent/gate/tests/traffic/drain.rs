//! Draining: what is under way ends by itself, or at its limit, and the gate says when.

use hyper::{Request, StatusCode};
use serde_json::json;

use crate::{
    instance::Instance,
    support::{Bench, Client, wait_until},
};

async fn ask_slowly(address: std::net::SocketAddr) -> tokio::task::JoinHandle<Option<String>> {
    let mut client = Client::connect(address).await;
    tokio::spawn(async move {
        let response = client.ask(Request::get("/slow"), bytes::Bytes::new()).await.ok()?;
        let status = response.status();
        let body = http_body_util::BodyExt::collect(response.into_body()).await.ok()?;
        let text = String::from_utf8(body.to_bytes().to_vec()).ok()?;
        Some(if status == StatusCode::OK { text } else { status.to_string() })
    })
}

#[tokio::test]
async fn a_place_is_empty_only_after_its_last_request() {
    let (blue, green) = (Instance::start("blue").await, Instance::start("green").await);
    let mut bench = Bench::start(&[("blue", &blue, 1_000), ("green", &green, 0)]);
    let slow = ask_slowly(bench.address).await;
    bench.wait_for("blue", |blue| blue.requests_in_flight == 1).await;
    assert!(bench.upstream("green").unwrap().is_empty);

    bench.route(&[("blue", &blue, 0), ("green", &green, 1_000)]);

    assert_eq!(bench.get("/").await.1, "green");
    assert!(!bench.upstream("blue").unwrap().is_empty);
    blue.shared.slow.add_permits(1);
    assert_eq!(slow.await.unwrap().as_deref(), Some("blue"));
    bench.wait_until_empty("blue").await;
}

#[tokio::test]
async fn one_that_is_gone_from_the_program_drains_and_is_forgotten() {
    let (blue, green) = (Instance::start("blue").await, Instance::start("green").await);
    let mut bench = Bench::start(&[("blue", &blue, 1_000)]);
    let slow = ask_slowly(bench.address).await;
    bench.wait_for("blue", |blue| blue.requests_in_flight == 1).await;

    bench.route(&[("green", &green, 1_000)]);

    assert!(!bench.upstream("blue").unwrap().is_empty);
    blue.shared.slow.add_permits(1);
    assert_eq!(slow.await.unwrap().as_deref(), Some("blue"));
    bench.wait_until_empty("blue").await;
    assert_eq!(bench.upstream("blue"), None, "it was said once");
}

#[tokio::test]
async fn what_is_left_at_the_limit_is_cut_and_its_client_is_told() {
    let (blue, green) = (Instance::start("blue").await, Instance::start("green").await);
    let mut bench = Bench::start(&[("blue", &blue, 1_000), ("green", &green, 0)]);
    let slow = ask_slowly(bench.address).await;
    bench.wait_for("blue", |blue| blue.requests_in_flight == 1).await;

    bench.service["route"]["upstreams"][0]["drain"] =
        json!({ "requests_ms": 50, "long_lived_ms": 600_000 });
    bench.service["route"]["upstreams"][1]["weight"] = json!(1_000);
    bench.apply();
    bench.wait_until_empty("blue").await;

    // It can be done twice, so that it is: by the one that serves now.
    wait_until("green has it", || green.got() == 1).await;
    green.shared.slow.add_permits(1);
    assert_eq!(slow.await.unwrap().as_deref(), Some("green"));
}

#[tokio::test]
async fn a_drain_that_is_taken_back_cuts_nothing() {
    let blue = Instance::start("blue").await;
    let mut bench = Bench::start(&[("blue", &blue, 1_000)]);
    let slow = ask_slowly(bench.address).await;
    bench.wait_for("blue", |blue| blue.requests_in_flight == 1).await;

    bench.service["route"]["upstreams"][0]["drain"] =
        json!({ "requests_ms": 3_600_000, "long_lived_ms": 3_600_000 });
    bench.apply();
    assert_eq!(bench.get("/").await.0, StatusCode::SERVICE_UNAVAILABLE);
    bench.route(&[("blue", &blue, 1_000)]);

    assert_eq!(bench.get("/").await.1, "blue");
    blue.shared.slow.add_permits(1);
    assert_eq!(slow.await.unwrap().as_deref(), Some("blue"));
}
