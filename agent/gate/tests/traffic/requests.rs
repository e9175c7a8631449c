//! Requests: where they go, what is written on them, what is refused.

use std::net::TcpListener;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, StatusCode, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    instance::Instance,
    support::{Bench, speak, upstream},
};

#[tokio::test]
async fn a_request_goes_to_the_instance_and_its_answer_back() {
    let blue = Instance::start("blue").await;
    let bench = Bench::start(&[("blue", &blue, 1_000)]);
    let mut client = bench.client().await;

    for _ in 0..3 {
        assert_eq!(client.get("/").await, (StatusCode::OK, "blue".to_owned()));
    }

    let counts = bench.upstream("blue").unwrap().counts;
    assert_eq!((counts.requests, counts.statuses), (3, [0, 3, 0, 0, 0]));
    assert_eq!((counts.bytes_in, counts.latency.answers()), (12, 3));
    let (_, headers) = client.get("/headers").await;
    assert!(headers.contains(r#""x-forwarded-for": "127.0.0.1""#), "{headers}");
    assert!(headers.contains(r#""host": "shop.example""#), "{headers}");
}

#[tokio::test]
async fn requests_are_shared_by_weight() {
    let (blue, green) = (Instance::start("blue").await, Instance::start("green").await);
    let bench = Bench::start(&[("blue", &blue, 900), ("green", &green, 100)]);
    let mut client = bench.client().await;

    for _ in 0..1_000 {
        client.get("/").await;
    }

    assert!((98..=102).contains(&green.got()), "{} of 1000", green.got());
    assert_eq!(blue.got() + green.got(), 1_000);
}

#[tokio::test]
async fn a_client_without_the_cookie_gets_one_and_stays_with_it() {
    let (blue, green) = (Instance::start("blue").await, Instance::start("green").await);
    let mut bench = Bench::start(&[("blue", &blue, 500), ("green", &green, 500)]);
    bench.service["route"]["sticky"] = json!({ "cookie": { "name": "stay" } });
    bench.apply();
    let mut client = bench.client().await;

    for _ in 0..10 {
        let first = client.ask(Request::get("/"), Bytes::new()).await.unwrap();
        let cookie = first.headers()["set-cookie"].to_str().unwrap().to_owned();
        let (cookie, rules) = cookie.split_once(';').unwrap();
        assert!(rules.contains("HttpOnly"), "{rules}");
        let body = first.into_body().collect().await.unwrap().to_bytes();
        for _ in 0..5 {
            let again = client.send(Request::get("/").header("cookie", cookie), Bytes::new()).await;
            assert_eq!(again.1.as_bytes(), body);
        }
    }
    assert!(blue.got() > 0 && green.got() > 0, "{} and {}", blue.got(), green.got());
}

#[tokio::test]
async fn the_header_and_the_cookie_reach_the_new_version_that_gets_nothing_else() {
    let (blue, green) = (Instance::start("blue").await, Instance::start("green").await);
    let mut bench = Bench::start(&[("blue", &blue, 1_000), ("green", &green, 0)]);
    bench.service["route"]["allow"] = json!({ "header": "X-Canary", "value": "yes",
        "cookie": { "name": "canary", "value": "1" }, "upstream": "green" });
    bench.apply();
    let mut client = bench.client().await;

    assert_eq!(client.get("/").await.1, "blue");
    assert!(!bench.upstream("green").unwrap().is_empty, "it can be reached at any moment");
    for (cookies, version) in [("stay=2; canary=1", "green"), ("stay=2; xcanary=1", "blue")] {
        let asked = Request::get("/").header("cookie", cookies);
        assert_eq!(client.send(asked, Bytes::new()).await.1, version, "{cookies:?}");
    }
    for (value, version) in [("1", "blue"), ("yes ", "green"), ("yes, 1", "blue"), ("yes", "green")]
    {
        let asked = Request::get("/").header("x-canary", value);
        assert_eq!(client.send(asked, Bytes::new()).await.1, version, "{value:?}");
    }
}

#[tokio::test]
async fn nobody_to_go_to_is_said_and_so_is_when_to_try_again() {
    let bench = Bench::start(&[]);
    let mut client = bench.client().await;

    let response = client.ask(Request::get("/"), Bytes::new()).await.unwrap();

    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["retry-after"], "1");
    let text = response.into_body().collect().await.unwrap().to_bytes();
    assert!(text.starts_with(b"cutover-gate: no instance takes requests"), "{text:?}");
}

#[tokio::test]
async fn a_request_that_cannot_be_sent_goes_to_another_with_its_body() {
    let green = Instance::start("green").await;
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut bench = Bench::start(&[("green", &green, 500)]);
    let here = upstream("green", green.address, 500);
    bench.service["route"]["upstreams"] = json!([upstream("blue", gone, 500), here]);
    bench.apply();
    let mut client = bench.client().await;

    for _ in 0..20 {
        let body = Bytes::from_static(b"once and whole");
        let (status, text) = client.post("/echo", body).await;
        assert_eq!((status, text.as_str()), (StatusCode::OK, "once and whole"));
    }

    assert_eq!(green.got(), 20);
    let counts = bench.upstream("blue").unwrap().counts;
    assert!(counts.connect_errors > 0 && counts.retries == counts.connect_errors, "{counts:?}");
}

#[tokio::test]
async fn an_instance_that_closes_after_each_answer_fails_no_request() {
    let blue = Instance::that_closes("blue").await;
    let bench = Bench::start(&[("blue", &blue, 1_000)]);
    let mut client = bench.client().await;

    for _ in 0..200 {
        assert_eq!(client.get("/").await, (StatusCode::OK, "blue".to_owned()));
        let posted = client.post("/", Bytes::from_static(b"abc")).await;
        assert_eq!(posted, (StatusCode::OK, "blue".to_owned()));
    }
}

#[tokio::test]
async fn http2_is_spoken_to_those_who_begin_with_it() {
    let blue = Instance::start("blue").await;
    let bench = Bench::start(&[("blue", &blue, 1_000)]);
    let stream = TcpStream::connect(bench.address).await.unwrap();
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);

    let uri = "http://shop.example/headers";
    let request = Request::get(uri).body(Full::<Bytes>::default()).unwrap();
    let response = sender.send_request(request).await.unwrap();

    assert_eq!(response.status(), StatusCode::OK);
    let text = response.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(text.to_vec()).unwrap();
    assert!(text.contains(r#""host": "shop.example""#), "{text}");
}

#[tokio::test]
async fn a_request_that_passed_one_gate_passes_no_third() {
    let blue = Instance::start("blue").await;
    let inner = Bench::start(&[("blue", &blue, 1_000)]);
    let mut outer = Bench::unprogrammed();
    let mut peer = upstream("web-2", inner.address, 1_000);
    peer["kind"] = json!("gate");
    outer.service["route"]["upstreams"] = json!([peer]);
    outer.apply();
    assert_eq!(outer.get("/").await, (StatusCode::OK, "blue".to_owned()));

    // Now each is all that the other has.
    let mut inner = inner;
    let mut back = upstream("web-1", outer.address, 1_000);
    back["kind"] = json!("gate");
    inner.service["route"]["upstreams"] = json!([back]);
    inner.apply();

    assert_eq!(outer.get("/").await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(inner.get("/").await.0, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn a_request_that_could_be_read_in_two_ways_reaches_no_instance() {
    let blue = Instance::start("blue").await;
    let bench = Bench::start(&[("blue", &blue, 1_000)]);
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let length = smuggled.len();
    let chunked = "Transfer-Encoding: chunked\r\n\r\n";
    let dubious = [
        format!("Content-Length: {length}\r\nContent-Length: 0\r\n\r\n{smuggled}"),
        format!("Content-Length: {length}, 0\r\n\r\n{smuggled}"),
        format!("Content-Length: +{length}\r\n\r\n{smuggled}"),
        format!("Content-Length: {length}\r\n{chunked}0\r\n\r\n{smuggled}"),
        format!("Content-Length : 0\r\n\r\n{smuggled}"),
        format!("Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{smuggled}"),
        format!("Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n{smuggled}"),
        format!("{chunked}zz\r\n{smuggled}"),
        format!("{chunked}-1\r\n{smuggled}"),
        format!("{chunked}ffffffffffffffff1\r\n{smuggled}"),
        format!("{chunked}1\r\nab\r\n0\r\n\r\n{smuggled}"),
        format!("{chunked}1;{}\r\na\r\n0\r\n\r\n{smuggled}", "x".repeat(100_000)),
        format!("{chunked}1\na\r\n0\r\n\r\n{smuggled}"),
        format!("X-A: b\r\n {chunked}0\r\n\r\n{smuggled}"),
        format!("X-A: b\nContent-Length: 0\r\n\r\n{smuggled}"),
        format!("X-A: b\rContent-Length: 0\r\n\r\n{smuggled}"),
        format!("\n\n{smuggled}"),
    ];
    for rest in dubious {
        let said =
            speak(bench.address, &format!("POST /length HTTP/1.1\r\nHost: a\r\n{rest}")).await;

        // What it did not read resets the connection, which can overtake the answer.
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 400 "), "{rest:?}: {said}");
        assert_eq!(said.matches("HTTP/1.1 ").count(), usize::from(!said.is_empty()), "{said}");
        assert_eq!(blue.got(), 0, "{rest:?}");
    }
}

#[tokio::test]
async fn a_body_that_turns_out_dubious_is_never_whole() {
    let blue = Instance::start("blue").await;
    let bench = Bench::start(&[("blue", &blue, 1_000)]);
    let mut stream = TcpStream::connect(bench.address).await.unwrap();
    let begun = "POST /length HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n";
    stream.write_all(begun.as_bytes()).await.unwrap();
    bench.wait_for("blue", |it| it.counts.bytes_out == 1).await;

    stream.write_all(b"1\nb\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();

    let mut said = String::new();
    drop(stream.read_to_string(&mut said).await);
    assert!(!said.contains(" 200 "), "{said}");
    bench.wait_for("blue", |it| it.requests_in_flight == 0).await;
    assert_eq!(blue.got(), 1, "what was begun, and nothing else");
}

#[tokio::test]
async fn what_is_too_long_is_refused() {
    let blue = Instance::start("blue").await;
    let mut bench = Bench::start(&[("blue", &blue, 1_000)]);
    bench.service["limits"] = json!({ "body_bytes_max": 10, "head_bytes_max": 8192 });
    bench.apply();
    let mut client = bench.client().await;

    assert_eq!(client.post("/length", Bytes::from_static(b"0123456789")).await.1, "10");
    let (status, _) = client.post("/length", Bytes::from_static(b"0123456789a")).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(blue.got(), 1);
    let said = speak(
        bench.address,
        "POST /length HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
         b\r\n0123456789a\r\n0\r\n\r\n",
    )
    .await;
    assert!(said.starts_with("HTTP/1.1 413 "), "{said}");

    let long = "a".repeat(10_000);
    let said =
        speak(bench.address, &format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n")).await;
    // What it did not read resets the connection, which can overtake the answer.
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 431 "), "{said}");
    assert!(blue.got() <= 2, "{}", blue.got());
}
