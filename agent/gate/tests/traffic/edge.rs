//! A gate in front of other hosts' gates: hosts that go, hosts that are out, and no circle.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, StatusCode};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::{
    instance::Instance,
    support::{Bench, Client, PATIENCE, upstream, wait_until},
};

/// Starts a gate that stands in front of these hosts.
fn edge(hosts: &[(&str, SocketAddr)]) -> Bench {
    let mut edge = Bench::unprogrammed();
    lead(&mut edge, hosts);
    edge
}

fn lead(edge: &mut Bench, hosts: &[(&str, SocketAddr)]) {
    edge.service["route"]["upstreams"] = of_kind("host", hosts);
    edge.apply();
}

pub(crate) fn of_kind(kind: &str, hosts: &[(&str, SocketAddr)]) -> Value {
    let hosts = hosts.iter().map(|(name, address)| {
        let mut host = upstream(name, *address, 1_000);
        host["kind"] = json!(kind);
        host
    });
    json!(hosts.collect::<Vec<Value>>())
}

/// Returns an address at which nobody listens.
pub(crate) async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// Returns whether the kernel asks after the other end of this connection (`timer_active` of
/// proc(5), `/proc/net/tcp`).
fn is_asked_after(is_it: impl Fn(SocketAddr, SocketAddr) -> bool) -> bool {
    let address = |text: &str| {
        let (ip, port) = text.split_once(':').unwrap();
        let ip = u32::from_str_radix(ip, 16).unwrap().to_ne_bytes();
        SocketAddr::from((ip, u16::from_str_radix(port, 16).unwrap()))
    };
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().skip(1).any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        is_it(address(fields[1]), address(fields[2])) && fields[5].starts_with("02:")
    })
}

#[tokio::test]
async fn the_kernel_asks_after_clients_and_other_gates() {
    let blue = Instance::start("blue").await;
    let host = Bench::start(&[("blue", &blue, 1_000)]);
    let edge = edge(&[("host", host.address)]);
    let mut client = edge.client().await;
    assert_eq!(client.get("/").await.1, "blue");

    let ends = [
        ("a client", true, edge.address),
        ("a gate", false, host.address),
        ("a gate as a client", true, host.address),
    ];
    for (who, is_accepted, address) in ends {
        // What was sent last is acknowledged first.
        wait_until(who, || {
            is_asked_after(|local, remote| address == if is_accepted { local } else { remote })
        })
        .await;
    }
    assert!(!is_asked_after(|_, remote| remote == blue.address), "on this host there is no need");
}

#[tokio::test]
async fn a_host_whose_instance_is_gone_costs_no_request_and_is_left_alone_for_a_while() {
    let blue = Instance::start("blue").await;
    let serving = Bench::start(&[("blue", &blue, 1_000)]);
    let mut left = Bench::unprogrammed();
    left.service["route"]["upstreams"] = json!([upstream("blue", nobody().await, 1_000)]);
    left.apply();
    let edge = edge(&[("host-a", left.address), ("host-b", serving.address)]);

    for _ in 0..40 {
        assert_eq!(edge.get("/").await, (StatusCode::OK, "blue".to_owned()));
        let posted = edge.client().await.send(Request::post("/"), Bytes::new()).await;
        assert_eq!(posted, (StatusCode::OK, "blue".to_owned()));
    }

    assert_eq!(blue.got(), 80);
    // By its weight it would have had every other one.
    let left = edge.upstream("host-a").unwrap().counts;
    assert!((1..20).contains(&left.requests) && left.requests == left.retries, "{left:?}");
    assert_eq!(left.statuses, [0; 5]);
}

#[tokio::test]
async fn several_hosts_may_be_gone_at_once() {
    let blue = Instance::start("blue").await;
    let serving = Bench::start(&[("blue", &blue, 1_000)]);
    let gone = [nobody().await, nobody().await, nobody().await];
    let edge = edge(&[
        ("host-a", gone[0]),
        ("host-b", gone[1]),
        ("host-c", gone[2]),
        ("host-d", serving.address),
    ]);

    for _ in 0..20 {
        let body = Bytes::from_static(b"once and whole");
        let answer = edge.client().await.post("/echo", body).await;
        assert_eq!(answer, (StatusCode::OK, "once and whole".to_owned()));
    }
}

#[tokio::test]
async fn what_a_client_hears_is_an_answer_and_no_word_between_gates() {
    let mut left = Bench::unprogrammed();
    left.service["route"]["upstreams"] = json!([upstream("blue", nobody().await, 1_000)]);
    left.apply();
    let edge = edge(&[("host-a", left.address)]);

    for asked in [&edge, &left] {
        let mut client = asked.client().await;
        let response = client.ask(Request::get("/"), Bytes::new()).await.unwrap();
        assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
        assert!(!response.headers().contains_key("cutover-gate-refused"));
    }
}

#[tokio::test]
async fn through_a_host_that_is_out_a_request_goes_one_gate_further_and_nothing_circles() {
    let blue = Instance::start("blue").await;
    let serving = Bench::start(&[("blue", &blue, 1_000)]);
    let mut out = Bench::unprogrammed();
    out.service["route"]["upstreams"] = of_kind("gate", &[("peer-0", serving.address)]);
    out.apply();
    let mut front = edge(&[("host-a", out.address)]);
    assert_eq!(front.get("/").await, (StatusCode::OK, "blue".to_owned()));

    // The peer is out as well, and has the first for its own peer.
    let mut serving = serving;
    serving.service["route"]["upstreams"] = of_kind("gate", &[("peer-0", out.address)]);
    serving.apply();
    let (status, _) = front.get("/").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);

    // Two edges, each in front of the other.
    let other = edge(&[("host-a", front.address)]);
    lead(&mut front, &[("host-a", other.address)]);
    let (status, _) = Client::connect(front.address).await.get("/").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn plain_tcp_is_passed_on_by_one_gate_and_does_not_circle() {
    let mut gates = ["127.7.0.1", "127.7.0.2"].map(Bench::unprogrammed_at);
    let echo = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let instance = upstream("blue", echo.local_addr().unwrap(), 1_000);
    let echoes = tokio::spawn(async move {
        let (mut stream, _) = echo.accept().await.unwrap();
        let (mut reader, mut writer) = stream.split();
        drop(tokio::io::copy(&mut reader, &mut writer).await);
    });
    let [first, second] = &mut gates;
    for gate in [&mut *first, &mut *second] {
        gate.service["protocol"] = json!("tcp");
    }
    first.service["route"]["upstreams"] = of_kind("gate", &[("peer-0", second.address)]);
    second.service["route"]["upstreams"] = json!([instance]);
    first.apply();
    second.apply();

    let mut client = TcpStream::connect(first.address).await.unwrap();
    client.write_all(b"hello").await.unwrap();
    let mut back = [0; 5];
    client.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"hello");
    drop(client);
    echoes.await.unwrap();

    // Both are out, and each has the other for a peer.
    second.service["route"]["upstreams"] = of_kind("gate", &[("peer-0", first.address)]);
    second.apply();
    let mut client = TcpStream::connect(first.address).await.unwrap();
    let ended = timeout(PATIENCE, client.read(&mut back)).await.expect("it ends");
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
}

#[tokio::test]
async fn a_client_of_an_edge_is_given_one_cookie_to_stay_by() {
    let blue = Instance::start("blue").await;
    let sticky = json!({ "cookie": { "name": "stay" } });
    let mut host = Bench::unprogrammed();
    host.service["route"]["sticky"] = sticky.clone();
    host.route(&[("blue", &blue, 1_000)]);
    let mut front = Bench::unprogrammed();
    front.service["route"]["sticky"] = sticky;
    lead(&mut front, &[("host-a", host.address)]);

    for (asked, given) in [(&front, 1), (&host, 1)] {
        let mut client = asked.client().await;
        let response = client.ask(Request::get("/"), Bytes::new()).await.unwrap();
        assert_eq!(response.headers().get_all("set-cookie").iter().count(), given);
    }
}

#[tokio::test]
async fn an_instance_cannot_pretend_to_be_a_gate_that_refuses() {
    let blue = Instance::start("blue").await;
    let host = Bench::start(&[("blue", &blue, 1_000)]);
    let edge = edge(&[("host-a", host.address)]);
    let mut client = edge.client().await;
    let asks = Request::get("/headers").header("cutover-gate-refused", "unsent");

    let (status, text) = client.send(asks, Bytes::new()).await;

    assert_eq!(status, StatusCode::OK);
    assert!(!text.contains("cutover-gate"), "{text}");
}
