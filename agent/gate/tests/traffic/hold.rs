//! Holding: requests wait, within bounds, and go on by the route that follows.

use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    instance::Instance,
    support::{Bench, wait_until},
};

fn hold(requests_max: u32, for_ms: u32) -> Value {
    json!({ "hold": { "for_ms": for_ms, "requests_max": requests_max, "bytes_max": 1_000_000 } })
}

async fn ask_many(bench: &Bench, many: usize) -> JoinSet<(StatusCode, String)> {
    let mut asked = JoinSet::new();
    for _ in 0..many {
        let mut client = bench.client().await;
        asked.spawn(async move { client.get("/").await });
    }
    asked
}

#[tokio::test]
async fn what_is_held_goes_on_by_the_route_that_follows() {
    let (blue, green) = (Instance::start("blue").await, Instance::start("green").await);
    let mut bench = Bench::start(&[("blue", &blue, 1_000), ("green", &green, 0)]);
    bench.service["route"]["flow"] = hold(100, 60_000);
    bench.apply();

    let asked = ask_many(&bench, 50).await;
    wait_until("all are held", || bench.gate.state().services[0].held == 50).await;
    assert_eq!(blue.got(), 0);
    bench.service["route"]["flow"] = json!("open");
    bench.route(&[("blue", &blue, 0), ("green", &green, 1_000)]);

    for answer in asked.join_all().await {
        assert_eq!(answer, (StatusCode::OK, "green".to_owned()));
    }
    assert_eq!((blue.got(), bench.gate.state().services[0].held), (0, 0));
}

#[tokio::test]
async fn more_than_may_be_held_is_sent_away_at_once() {
    let blue = Instance::start("blue").await;
    let mut bench = Bench::start(&[("blue", &blue, 1_000)]);
    bench.service["route"]["flow"] = hold(3, 60_000);
    bench.apply();

    let mut asked = ask_many(&bench, 5).await;
    for _ in 0..2 {
        let (status, text) = asked.join_next().await.unwrap().unwrap();
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(text.contains("too many do already"), "{text}");
    }
    bench.service["route"]["flow"] = json!("open");
    bench.apply();

    for (status, _) in asked.join_all().await {
        assert_eq!(status, StatusCode::OK);
    }
}

#[tokio::test]
async fn nothing_is_held_for_longer_than_it_may_be() {
    let blue = Instance::start("blue").await;
    let mut bench = Bench::start(&[("blue", &blue, 1_000)]);
    bench.service["route"]["flow"] = hold(3, 20);
    bench.apply();

    let (status, text) = bench.get("/").await;

    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(text.contains("waited too long"), "{text}");
    assert_eq!(blue.got(), 0);
}

#[tokio::test]
async fn a_request_that_is_held_for_its_second_try_keeps_no_place_from_being_empty() {
    let (blue, green) = (Instance::start("blue").await, Instance::start("green").await);
    let mut bench = Bench::start(&[("blue", &blue, 1_000), ("green", &green, 0)]);
    let mut client = bench.client().await;
    let asked = tokio::spawn(async move { client.get("/slow").await });
    bench.wait_for("blue", |it| it.requests_in_flight == 1).await;
    bench.service["route"]["flow"] = hold(1, 600_000);
    bench.apply();

    // Its connections break.
    drop(blue.tasks);
    wait_until("it is held", || bench.gate.state().services[0].held == 1).await;
    bench.wait_for("blue", |it| it.requests_in_flight == 0).await;
    green.shared.slow.add_permits(1);
    bench.service["route"]["flow"] = json!("open");
    bench.service["route"]["upstreams"][0]["weight"] = json!(0);
    bench.service["route"]["upstreams"][1]["weight"] = json!(1_000);
    bench.apply();

    assert_eq!(asked.await.unwrap(), (StatusCode::OK, "green".to_owned()));
}

#[tokio::test]
async fn a_second_try_that_cannot_be_held_is_not_held_again() {
    let (blue, green) = (Instance::start("blue").await, Instance::start("green").await);
    let mut bench = Bench::start(&[("blue", &blue, 1_000), ("green", &green, 0)]);
    let mut client = bench.client().await;
    let asked = tokio::spawn(async move { client.get("/slow").await });
    bench.wait_for("blue", |it| it.requests_in_flight == 1).await;
    bench.service["route"]["flow"] = hold(0, 600_000);
    bench.apply();

    drop(blue.tasks);

    let (status, text) = asked.await.unwrap();
    assert_eq!(status, StatusCode::BAD_GATEWAY);
    assert!(text.contains("broke before it answered"), "{text}");
}
