//! What lasts: upgrades, streams of events, plain TCP.

use std::net::SocketAddr;

use http_body_util::{BodyExt as _, Empty};
use hyper::{Request, StatusCode, client::conn::http1, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{instance::Instance, support::Bench};

pub(crate) async fn upgrade(bench: &Bench) -> TokioIo<Upgraded> {
    upgrade_to(bench, "echo").await
}

async fn upgrade_to(bench: &Bench, protocol: &str) -> TokioIo<Upgraded> {
    upgrade_at(bench.address, protocol).await
}

pub(crate) async fn upgrade_at(address: SocketAddr, protocol: &str) -> TokioIo<Upgraded> {
    upgrade_on(TcpStream::connect(address).await.unwrap(), protocol).await
}

pub(crate) async fn upgrade_on(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    protocol: &str,
) -> TokioIo<Upgraded> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let request = Request::get("/upgrade")
        .header("host", "a")
        .header("connection", "Upgrade")
        .header("upgrade", protocol)
        .body(Empty::<bytes::Bytes>::new())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()["upgrade"], protocol);
    TokioIo::new(hyper::upgrade::on(response).await.unwrap())
}

pub(crate) async fn echo(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    stream.write_all(b"ping").await.unwrap();
    let mut back = [0; 4];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"ping");
}

#[tokio::test]
async fn an_upgrade_outlives_a_swap_until_it_ends_by_itself() {
    let (blue, green) = (Instance::start("blue").await, Instance::start("green").await);
    let mut bench = Bench::start(&[("blue", &blue, 1_000), ("green", &green, 0)]);
    let mut stream = upgrade(&bench).await;
    echo(&mut stream).await;
    bench.wait_for("blue", |it| (it.long_lived, it.requests_in_flight) == (1, 0)).await;

    bench.route(&[("blue", &blue, 0), ("green", &green, 1_000)]);
    assert_eq!(bench.get("/").await.1, "green");
    echo(&mut stream).await;
    assert!(!bench.upstream("blue").unwrap().is_empty);

    drop(stream);
    bench.wait_until_empty("blue").await;
}

#[tokio::test]
async fn an_upgrade_has_its_own_limit_when_its_place_drains() {
    let blue = Instance::start("blue").await;
    let mut bench = Bench::start(&[("blue", &blue, 1_000)]);
    let mut stream = upgrade(&bench).await;
    bench.wait_for("blue", |it| it.long_lived == 1).await;

    bench.service["route"]["upstreams"][0]["drain"] =
        json!({ "requests_ms": 0, "long_lived_ms": 50 });
    bench.apply();

    let mut rest = Vec::new();
    drop(stream.read_to_end(&mut rest).await);
    assert!(rest.is_empty());
    bench.wait_until_empty("blue").await;
}

#[tokio::test]
async fn a_websocket_is_closed_at_the_limit_between_two_frames() {
    let blue = Instance::start("blue").await;
    let mut bench = Bench::start(&[("blue", &blue, 1_000)]);
    let mut stream = upgrade_to(&bench, "WebSocket").await;
    // A frame of ten bytes, of which four are there when the limit comes.
    let frame = *b"\x82\x8a....0123456789";
    stream.write_all(&frame[..10]).await.unwrap();
    let mut back = [0; 10];
    stream.read_exact(&mut back).await.unwrap();

    bench.service["route"]["upstreams"][0]["drain"] =
        json!({ "requests_ms": 0, "long_lived_ms": 0 });
    bench.apply();
    assert_eq!(bench.upstream("blue").unwrap().long_lived, 1);
    stream.write_all(&frame[10..]).await.unwrap();

    let text = b"this server goes away; connect again";
    let close = [b"456789\x88\x26\x03\xe9", &text[..]].concat();
    let mut rest = vec![0; close.len()];
    stream.read_exact(&mut rest).await.unwrap();
    drop(stream);
    assert_eq!(rest, close, "the frame is whole, then comes a close that is not masked");
    bench.wait_until_empty("blue").await;
    let heard = blue.shared.heard.lock().unwrap().clone();
    let after = heard.strip_prefix(&frame).unwrap();
    assert_eq!((after[..2].to_vec(), after.len()), (vec![0x88, 0x80 | 38], 2 + 4 + 38));
    let mask = after[2..6].iter().cycle();
    let payload: Vec<u8> = after[6..].iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect();
    assert_eq!(payload, close[8..], "a close that is masked, as from a client");
}

#[tokio::test]
async fn events_come_one_by_one_and_count_as_long_lived() {
    let blue = Instance::start("blue").await;
    let bench = Bench::start(&[("blue", &blue, 1_000)]);
    let mut client = bench.client().await;

    let response = client.ask(Request::get("/events"), bytes::Bytes::new()).await.unwrap();
    let mut body = response.into_body();
    let mut next = async || body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(next().await, "data: hello\n\n");
    assert_eq!(bench.upstream("blue").unwrap().long_lived, 1);
    for _ in 0..3 {
        blue.tell("data: again\n\n");
        assert_eq!(next().await, "data: again\n\n");
    }
}

#[tokio::test]
async fn a_stream_of_events_has_its_own_limit_when_its_place_drains() {
    let blue = Instance::start("blue").await;
    let mut bench = Bench::start(&[("blue", &blue, 1_000)]);
    let mut client = bench.client().await;
    let response = client.ask(Request::get("/events"), bytes::Bytes::new()).await.unwrap();
    let mut body = response.into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "data: hello\n\n");

    bench.service["route"]["upstreams"][0]["drain"] =
        json!({ "requests_ms": 0, "long_lived_ms": 50 });
    bench.apply();

    bench.wait_until_empty("blue").await;
    assert!(body.frame().await.is_none_or(|frame| frame.is_err()), "it is over for its client");
}

#[tokio::test]
async fn what_turns_out_to_last_after_that_limit_ends_at_once() {
    let blue = Instance::start("blue").await;
    let mut bench = Bench::start(&[("blue", &blue, 1_000)]);
    for path in ["/slow/events", "/slow/upgrade"] {
        let mut client = bench.client().await;
        let asked = Request::get(path).header("connection", "upgrade").header("upgrade", "echo");
        let asked = tokio::spawn(async move { client.ask(asked, bytes::Bytes::new()).await });
        bench.wait_for("blue", |it| it.requests_in_flight == 1).await;
        let mut lasting = upgrade(&bench).await;
        bench.service["route"]["upstreams"][0]["drain"] =
            json!({ "requests_ms": 3_600_000, "long_lived_ms": 0 });
        bench.apply();
        let mut rest = Vec::new();
        drop(lasting.read_to_end(&mut rest).await);
        bench.wait_for("blue", |it| it.long_lived == 0).await;
        assert_eq!(bench.upstream("blue").unwrap().requests_in_flight, 1, "it has its own limit");

        blue.shared.slow.add_permits(1);

        bench.wait_until_empty("blue").await;
        drop(asked.await.unwrap());
        bench.route(&[("blue", &blue, 1_000)]);
        echo(&mut upgrade(&bench).await).await;
    }
}

#[tokio::test]
async fn plain_tcp_is_carried_and_one_that_is_gone_is_passed_over() {
    let echo_server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = echo_server.local_addr().unwrap();
    let served = tokio::spawn(async move {
        while let Ok((mut stream, _)) = echo_server.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                drop(tokio::io::copy(&mut from, &mut to).await);
            });
        }
    });
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut bench = Bench::unprogrammed();
    bench.service["protocol"] = json!("tcp");
    bench.service["route"]["upstreams"] = json!([
        crate::support::upstream("blue", gone, 500),
        crate::support::upstream("green", address, 500),
    ]);
    bench.apply();

    for _ in 0..10 {
        let mut stream = TcpStream::connect(bench.address).await.unwrap();
        echo(&mut stream).await;
    }
    bench.wait_for("green", |it| it.long_lived == 0 && it.requests_in_flight == 0).await;
    served.abort();
}
