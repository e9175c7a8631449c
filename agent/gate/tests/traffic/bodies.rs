//! Bodies: whole in both directions, however they come.

use bytes::Bytes;
use cutover_common::Sha256;
use http_body_util::BodyExt as _;
use hyper::{Request, StatusCode};

use crate::{
    instance::Instance,
    support::{Bench, speak},
};

const CHUNKED_HELLO: &str = "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";

/// Bytes of which no two stretches are alike.
fn long(length: usize) -> Bytes {
    let mut random = fastrand::Rng::with_seed(7);
    std::iter::repeat_with(|| random.u8(..)).take(length).collect()
}

#[tokio::test]
async fn a_long_body_comes_back_byte_for_byte() {
    let blue = Instance::start("blue").await;
    let bench = Bench::start(&[("blue", &blue, 1_000)]);
    let mut client = bench.client().await;
    let body = long(20 * 1024 * 1024);

    let response = client.ask(Request::post("/echo"), body.clone()).await.unwrap();
    let back = response.into_body().collect().await.unwrap().to_bytes();

    assert_eq!(Sha256::of(&back), Sha256::of(&body));
    let counts = bench.upstream("blue").unwrap().counts;
    assert_eq!((counts.bytes_in, counts.bytes_out), (body.len() as u64, body.len() as u64));
    assert_eq!(client.get("/").await.0, StatusCode::OK);
}

#[tokio::test]
async fn chunks_and_requests_that_follow_each_other_at_once_are_understood() {
    let blue = Instance::start("blue").await;
    let bench = Bench::start(&[("blue", &blue, 1_000)]);

    let said = speak(
        bench.address,
        "POST /length HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
         5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n\
         POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc\
         GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    )
    .await;

    let bodies: Vec<&str> = said
        .split("HTTP/1.1 200 OK")
        .skip(1)
        .filter_map(|it| it.rsplit("\r\n\r\n").next())
        .collect();
    assert_eq!(bodies, ["11", "3", "blue"], "{said}");
}

#[tokio::test]
async fn the_body_of_a_get_arrives_too() {
    let blue = Instance::start("blue").await;
    let bench = Bench::start(&[("blue", &blue, 1_000)]);

    for length in ["Content-Length: 5\r\n\r\nhello", CHUNKED_HELLO] {
        let said = speak(
            bench.address,
            &format!("GET /length HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{length}"),
        )
        .await;
        assert!(said.ends_with("\r\n\r\n5"), "{said}");
    }
    let said =
        speak(bench.address, "GET /headers HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(!said.contains(r#""transfer-encoding""#), "none is announced: {said}");
}

#[tokio::test]
async fn who_expects_a_word_before_it_sends_is_given_it() {
    let blue = Instance::start("blue").await;
    let bench = Bench::start(&[("blue", &blue, 1_000)]);

    let said = speak(
        bench.address,
        "POST /length HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\
         Connection: close\r\n\r\nabc",
    )
    .await;

    assert!(said.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK"), "{said}");
}

#[tokio::test]
async fn a_client_that_goes_away_in_the_middle_leaves_nothing_behind() {
    let blue = Instance::start("blue").await;
    let bench = Bench::start(&[("blue", &blue, 1_000)]);

    for path in ["/slow", "/events"] {
        let mut client = bench.client().await;
        let asked = tokio::spawn(async move {
            let response = client.ask(Request::get(path), Bytes::new()).await;
            std::future::pending::<()>().await;
            drop(response);
        });
        bench.wait_for("blue", |it| it.requests_in_flight + it.long_lived == 1).await;
        asked.abort();
        assert!(asked.await.unwrap_err().is_cancelled());
        bench.wait_for("blue", |it| it.requests_in_flight + it.long_lived == 0).await;
    }
}
