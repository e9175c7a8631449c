//! What a client may take of the gate: how long it may make it wait, how much it may ask at once.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::{Request, Response, StatusCode, body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::{JoinHandle, JoinSet},
    time::timeout,
};

use crate::{
    instance::{BIG_BYTES, Instance},
    support::{Bench, PATIENCE, wait_until},
};

/// Longer than any test takes.
const LONG_MS: u32 = 600_000;

/// Longer than it takes from connecting to the first bytes, on a busy machine too.
const SHORT_MS: u32 = 1_500;

fn bench(blue: &Instance, limits: Value) -> Bench {
    let mut bench = Bench::start(&[("blue", blue, 1_000)]);
    bench.service["limits"] = limits;
    bench.apply();
    bench
}

async fn connect(bench: &Bench, first: &str) -> TcpStream {
    let mut stream = TcpStream::connect(bench.address).await.unwrap();
    stream.write_all(first.as_bytes()).await.unwrap();
    stream
}

/// Returns what comes until the connection is closed.
async fn rest(stream: &mut TcpStream) -> String {
    let mut said = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut said)).await;
    // A reset is an end, too.
    drop(read.expect("the connection is closed in the end"));
    String::from_utf8_lossy(&said).into_owned()
}

const REQUEST: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

#[tokio::test]
async fn who_sends_a_head_too_slowly_is_sent_away() {
    let blue = Instance::start("blue").await;
    let bench = bench(&blue, json!({ "head_ms": 100, "idle_ms": LONG_MS }));

    for begun in ["G", "GET / HTTP/1.1\r\nhost: a\r\n", "PRI * HTTP/2", "PRI * HTTP/2.0\r\n\r\nS"] {
        assert_eq!(rest(&mut connect(&bench, begun).await).await, "", "{begun}");
    }
    // Later ones, too. One that goes on sending gains nothing.
    let mut stream = connect(&bench, &format!("{REQUEST}GET / HTTP/1.1\r\nhost:")).await;
    let (mut from, mut to) = stream.split();
    let mut said = String::new();
    let dribble = async { while to.write_all(b" ").await.is_ok() {} };
    tokio::select! {
        () = dribble => {}
        read = from.read_to_string(&mut said) => drop(read),
    }
    assert_eq!(blue.got(), 1);
}

#[tokio::test]
async fn between_requests_there_is_another_time() {
    let blue = Instance::start("blue").await;
    let bench = bench(&blue, json!({ "head_ms": LONG_MS, "idle_ms": SHORT_MS }));
    let mut in_head = connect(&bench, "GET / HTTP/1.1\r\nhost: a\r\n").await;
    let mut silent = connect(&bench, "").await;
    let mut idle = connect(&bench, REQUEST).await;

    assert_eq!(rest(&mut silent).await, "");
    assert!(rest(&mut idle).await.ends_with("\r\n\r\nblue"));

    in_head.write_all(b"connection: close\r\n\r\n").await.unwrap();
    assert!(rest(&mut in_head).await.ends_with("\r\n\r\nblue"));
}

#[tokio::test]
async fn a_slow_answer_is_neither_a_slow_head_nor_idle() {
    let blue = Instance::start("blue").await;
    let bench = bench(&blue, json!({ "head_ms": SHORT_MS, "idle_ms": SHORT_MS }));
    let mut slow = connect(&bench, "GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
    bench.wait_for("blue", |it| it.requests_in_flight == 1).await;
    assert_eq!(rest(&mut connect(&bench, "").await).await, "", "the times are over");

    blue.shared.slow.add_permits(1);

    assert!(rest(&mut slow).await.ends_with("\r\n\r\nblue"));
}

#[tokio::test]
async fn who_takes_nothing_of_its_answer_is_sent_away() {
    let blue = Instance::start("blue").await;
    let bench = bench(&blue, json!({ "stall_ms": 100 }));
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    // Or the kernel takes all of it.
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    let mut stream = socket.connect(bench.address).await.unwrap();
    stream.write_all(b"GET /big HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    wait_until("it has the request", || blue.got() == 1).await;

    bench.wait_for("blue", |it| it.requests_in_flight == 0).await;

    let mut said = Vec::new();
    drop(timeout(PATIENCE, stream.read_to_end(&mut said)).await.unwrap());
    assert!(said.len() < BIG_BYTES, "{}", said.len());
    // What a client does not take the gate does not take either, but for what sockets hold.
    let taken = bench.upstream("blue").unwrap().counts.bytes_in;
    assert!(taken < BIG_BYTES as u64 / 2, "{taken}");
}

async fn http2(bench: &Bench) -> (http2::SendRequest<Empty<Bytes>>, JoinHandle<bool>) {
    let stream = TcpStream::connect(bench.address).await.unwrap();
    let (sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    (sender, tokio::spawn(async { connection.await.is_ok() }))
}

fn get(path: &str) -> http::request::Builder {
    Request::get(format!("http://shop.example{path}"))
}

/// Asks over HTTP/2 for something of which nothing is taken.
async fn ask_and_take_nothing(bench: &Bench, path: &str) -> (JoinHandle<bool>, Response<Incoming>) {
    let stream = TcpStream::connect(bench.address).await.unwrap();
    let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(0)
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    let ended = tokio::spawn(async { connection.await.is_ok() });
    let response = sender.send_request(get(path).body(Empty::<Bytes>::new()).unwrap()).await;
    (ended, response.unwrap())
}

#[tokio::test]
async fn an_http_2_client_that_takes_nothing_of_its_answer_loses_it() {
    let blue = Instance::start("blue").await;
    let bench = bench(&blue, json!({ "stall_ms": 100 }));

    for path in ["/", "/big", "/events"] {
        let (_ended, response) = ask_and_take_nothing(&bench, path).await;

        bench.wait_for("blue", |it| it.requests_in_flight + it.long_lived == 0).await;
        assert!(response.into_body().collect().await.is_err(), "it is never whole");
    }
}

/// What a client of HTTP/2 sends that lets everything come, and asks for `/large` so often.
fn ask_for_much(times: u32) -> Vec<u8> {
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let parts: [&[u8]; 4] = [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload];
        parts.concat()
    };
    let window = (u32::MAX >> 1).to_be_bytes();
    let settings = frame(4, 0, 0, &[&[0, 4], &window[..]].concat());
    let more = frame(8, 0, 0, &((u32::MAX >> 1) - 65_535).to_be_bytes());
    // GET, http, both by their numbers in the static table; the path and the host as they are.
    let head = b"\x82\x86\x04\x06/large\x01\x01a";
    let asks = (0..times).flat_map(|number| frame(1, 0b101, 2 * number + 1, head));
    let first = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &settings, &more].concat();
    first.into_iter().chain(asks).collect()
}

#[tokio::test]
async fn an_http_2_client_that_takes_nothing_costs_little_memory() {
    const TIMES: u32 = 64;
    let blue = Instance::start("blue").await;
    let bench = bench(&blue, json!({ "stall_ms": 300 }));
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    let mut stream = socket.connect(bench.address).await.unwrap();

    stream.write_all(&ask_for_much(TIMES)).await.unwrap();
    wait_until("it has them all", || blue.got() == u64::from(TIMES)).await;
    bench.wait_for("blue", |it| it.requests_in_flight == 0).await;

    // And what sockets hold.
    let taken = bench.upstream("blue").unwrap().counts.bytes_in;
    assert!(taken < u64::from(TIMES) * 512 * 1024, "{taken}");
}

#[tokio::test]
async fn an_http_2_client_that_takes_nothing_keeps_no_place_from_being_empty() {
    let blue = Instance::start("blue").await;
    let mut bench = bench(&blue, json!({ "stall_ms": LONG_MS }));
    for path in ["/big", "/events"] {
        let (_ended, _response) = ask_and_take_nothing(&bench, path).await;
        let load = bench.upstream("blue").unwrap();
        assert_eq!(load.requests_in_flight + load.long_lived, 1);

        bench.service["route"]["upstreams"][0]["drain"] =
            json!({ "requests_ms": 50, "long_lived_ms": 50 });
        bench.apply();

        bench.wait_until_empty("blue").await;
        bench.route(&[("blue", &blue, 1_000)]);
    }
}

#[tokio::test]
async fn a_silent_stream_of_events_is_not_its_client_s_fault() {
    let blue = Instance::start("blue").await;
    let bench = bench(&blue, json!({ "stall_ms": 50 }));
    let (mut sender, _ended) = http2(&bench).await;
    let response = sender.send_request(get("/events").body(Empty::new()).unwrap()).await;
    let mut body = response.unwrap().into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "data: hello\n\n");
    // As long as it takes to lose another.
    let (_ended, _lost) = ask_and_take_nothing(&bench, "/big").await;
    bench.wait_for("blue", |it| it.requests_in_flight == 0).await;

    blue.tell("data: again\n\n");

    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "data: again\n\n");
}

#[tokio::test]
async fn an_http_2_connection_without_requests_ends_with_a_word() {
    let blue = Instance::start("blue").await;
    let bench = bench(&blue, json!({ "idle_ms": SHORT_MS }));
    let (mut sender, ended) = http2(&bench).await;
    let response = sender.send_request(get("/").body(Empty::new()).unwrap()).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "blue");

    assert!(timeout(PATIENCE, ended).await.unwrap().unwrap(), "it is not cut");
}

#[tokio::test]
async fn an_http_2_client_has_no_more_under_way_than_it_may() {
    let blue = Instance::start("blue").await;
    let bench = bench(&blue, json!({}));
    let (mut sender, _ended) = http2(&bench).await;
    // It hears of the limit with the first answer.
    drop(sender.send_request(get("/").body(Empty::new()).unwrap()).await.unwrap());
    let mut asked = JoinSet::new();
    for _ in 0..200 {
        let answer = sender.send_request(get("/slow").body(Empty::new()).unwrap());
        asked.spawn(async move { answer.await.unwrap().status() });
    }

    wait_until("as many as may be have come", || blue.got() == 1 + 128).await;
    assert_eq!(bench.upstream("blue").unwrap().requests_in_flight, 128);
    blue.shared.slow.add_permits(200);

    while let Some(status) = asked.join_next().await {
        assert_eq!(status.unwrap(), StatusCode::OK);
    }
}

#[tokio::test]
async fn a_head_that_is_too_large_reaches_no_instance() {
    let blue = Instance::start("blue").await;
    let bench = bench(&blue, json!({ "head_bytes_max": 8_192 }));
    let large = "x".repeat(10_000);
    let (mut sender, _ended) = http2(&bench).await;
    let request = get("/").header("large", &large).body(Empty::new()).unwrap();

    let refused = sender.send_request(request).await.unwrap();
    assert_eq!(refused.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    let text = format!("GET / HTTP/1.1\r\nhost: a\r\nlarge: {large}\r\n\r\n");
    let said = rest(&mut connect(&bench, &text).await).await;
    assert!(said.starts_with("HTTP/1.1 431") || said.is_empty(), "{said}");

    assert_eq!(blue.got(), 0);
}
