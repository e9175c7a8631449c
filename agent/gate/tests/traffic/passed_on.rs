//! A host that is out, and what it passes on in the clear: with a PROXY protocol header where the service
//! asks for one, in which no client is taken for another.

use std::{net::SocketAddr, time::Instant};

use bytes::Bytes;
use http::{Request, StatusCode};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::rustls::version::TLS13;

use crate::{
    edge::{nobody, of_kind},
    encrypted::{Files, connect_on},
    instance::Instance,
    lasting::{echo, upgrade_on},
    proxied::{CLIENT, PROXY, client, header_between, header_of},
    support::{Bench, Client, PATIENCE, speak, wait_until},
};

/// Where the proxy is from which the tests' clients come: the kernel's choice on this machine.
const TRUSTED: &str = "127.0.0.1";

/// What a connection begins with on which a proxy speaks for itself.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// A host of a service that asks for PROXY headers.
fn host(ip: &str, trusted: &[&str]) -> Bench {
    let mut host = Bench::unprogrammed_at(ip);
    host.service["accepts_proxy_protocol"] = json!(true);
    host.service["trusted_peers"] = json!(trusted);
    host
}

fn lead(out: &mut Bench, peers: &[(&str, SocketAddr)]) {
    out.service["route"]["upstreams"] = of_kind("gate", peers);
    out.apply();
}

/// Two hosts: one that is out, and one that serves `blue` and believes the first, and nobody else.
fn pair(blue: &Instance, [out, serving]: [&str; 2], protocol: &str) -> [Bench; 2] {
    let mut serving = host(serving, &[out]);
    let mut out = host(out, &[TRUSTED]);
    for host in [&mut serving, &mut out] {
        host.service["protocol"] = json!(protocol);
    }
    serving.route(&[("blue", blue, 1_000)]);
    lead(&mut out, &[("peer-0", serving.address)]);
    [out, serving]
}

#[tokio::test]
async fn clients_are_told_apart_although_they_share_a_connection_between_gates() {
    let blue = Instance::start("blue").await;
    let [out, serving] = pair(&blue, ["127.9.0.1", "127.9.0.2"], "http");

    let addresses = ["203.0.113.7", "203.0.113.8", "2001:db8::7", "203.0.113.9"];
    for address in addresses {
        let (of, to) = if address.contains(':') {
            (format!("[{address}]:4711"), "[2001:db8::1]:443")
        } else {
            (format!("{address}:4711"), PROXY)
        };
        let mut client = client(out.address, &header_between(&of, to)).await;
        // What it says of itself is no one's word.
        let asks = Request::get("/headers")
            .header("x-forwarded-for", "192.0.2.66")
            .header("forwarded", "for=192.0.2.66")
            .header("x-real-ip", "192.0.2.66");
        let (_, headers) = client.send(asks, Bytes::new()).await;
        let chain = format!(r#""x-forwarded-for": "{address}, 127.9.0.1""#);
        assert!(headers.contains(&chain), "{headers}");
        assert!(!headers.contains("192.0.2.66") && !headers.contains("real-ip"), "{headers}");
    }
    // One for each thread of the gate. After a pause there is another, and the end of the one before
    // may be noticed later.
    wait_until("they share two", || serving.gate.connections() <= 2).await;
    assert_eq!(out.upstream("peer-0").unwrap().counts.requests, 4);
}

#[tokio::test]
async fn a_connection_between_gates_begins_with_a_header_that_names_nobody() {
    let peer = TcpListener::bind("127.9.1.2:0").await.unwrap();
    let mut out = host("127.9.1.1", &[TRUSTED]);
    lead(&mut out, &[("peer-0", peer.local_addr().unwrap())]);
    let mut client = client(out.address, &header_of(CLIENT)).await;
    let asked = tokio::spawn(async move { client.get("/").await });

    let (mut stream, from) = accepted(&peer).await;
    assert_eq!(from.ip(), out.address.ip(), "by this address it is known");
    assert_begins(&mut stream, &[LOCAL, b"GET "].concat()).await;
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfake").await.unwrap();
    assert_eq!(asked.await.unwrap(), (StatusCode::OK, "fake".to_owned()));
}

#[tokio::test]
async fn who_does_not_trust_the_host_that_is_out_gets_nothing_from_it() {
    let blue = Instance::start("blue").await;
    let [out, mut serving] = pair(&blue, ["127.9.2.1", "127.9.2.2"], "http");
    serving.service["trusted_peers"] = json!([TRUSTED]);
    serving.apply();

    let (status, _) = client(out.address, &header_of(CLIENT)).await.get("/").await;

    assert_eq!(status, StatusCode::BAD_GATEWAY);
    assert_eq!(blue.got(), 0);
    // Nor does a client that claims to come from a gate.
    let forged = "GET / HTTP/1.1\r\nhost: a\r\ncutover-gate-hop: 1\r\nconnection: close\r\n\r\n";
    assert_eq!(speak(serving.address, forged).await, "");
    assert_eq!(blue.got(), 0);
}

#[tokio::test]
async fn a_client_that_claims_to_be_passed_on_is_not_and_forges_nothing() {
    let blue = Instance::start("blue").await;
    let [out, _serving] = pair(&blue, ["127.9.3.1", "127.9.3.2"], "http");
    let mut client = client(out.address, &header_of(CLIENT)).await;

    let asks = Request::get("/headers").header("cutover-gate-hop", "1");
    assert_eq!(client.send(asks, Bytes::new()).await.0, StatusCode::SERVICE_UNAVAILABLE);
    let asks = Request::get("/headers").header("cutover-gate-hop", "edge");
    let (_, headers) = client.send(asks, Bytes::new()).await;
    assert!(headers.contains(r#""x-forwarded-for": "203.0.113.7, 127.9.3.1""#), "{headers}");
    assert!(!headers.contains("cutover-gate"), "{headers}");
}

#[tokio::test]
async fn upgrades_are_passed_on_after_a_header() {
    let blue = Instance::start("blue").await;
    let [out, serving] = pair(&blue, ["127.9.4.1", "127.9.4.2"], "http");
    let mut stream = TcpStream::connect(out.address).await.unwrap();
    stream.write_all(&header_of(CLIENT)).await.unwrap();

    let mut upgraded = upgrade_on(stream, "echo").await;
    echo(&mut upgraded).await;

    serving.wait_for("blue", |it| it.long_lived == 1).await;
}

#[tokio::test]
async fn the_header_of_a_tcp_connection_names_its_client_and_where_it_connected() {
    let peer = TcpListener::bind("127.9.5.2:0").await.unwrap();
    let mut out = host("127.9.5.1", &[TRUSTED]);
    out.service["protocol"] = json!("tcp");
    lead(&mut out, &[("peer-0", peer.local_addr().unwrap())]);

    let mut own = TcpStream::connect(out.address).await.unwrap();
    let own_address = own.local_addr().unwrap();
    let mut of_proxy = TcpStream::connect(out.address).await.unwrap();
    // Of itself a proxy says nothing: then the connection is its own.
    own.write_all(&[LOCAL, b"hello"].concat()).await.unwrap();
    let named = header_between(&own_address.to_string(), &out.address.to_string());
    let (mut stream, from) = accepted(&peer).await;
    assert_eq!(from.ip(), out.address.ip());
    assert_begins(&mut stream, &[&named[..], b"hello"].concat()).await;

    of_proxy.write_all(&[&header_of(CLIENT)[..], b"hello"].concat()).await.unwrap();
    let (mut stream, _) = accepted(&peer).await;
    assert_begins(&mut stream, &[&header_of(CLIENT)[..], b"hello"].concat()).await;
}

async fn assert_begins(stream: &mut TcpStream, with: &[u8]) {
    let mut begins = vec![0; with.len()];
    let read = timeout(PATIENCE, stream.read_exact(&mut begins)).await;
    assert!(read.is_ok_and(|read| read.is_ok()) && begins == with, "{begins:?}");
}

async fn accepted(peer: &TcpListener) -> (TcpStream, SocketAddr) {
    timeout(PATIENCE, peer.accept()).await.expect("the gate connects").unwrap()
}

#[tokio::test]
async fn plain_tcp_is_passed_on_after_a_header_and_only_to_who_trusts_this_host() {
    let blue = Instance::start("blue").await;
    let [out, mut serving] = pair(&blue, ["127.9.6.1", "127.9.6.2"], "tcp");

    assert_eq!(client(out.address, &header_of(CLIENT)).await.get("/").await.1, "blue");

    serving.service["trusted_peers"] = json!([TRUSTED]);
    serving.apply();
    let mut stream = TcpStream::connect(out.address).await.unwrap();
    let request = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    stream.write_all(&[&header_of(CLIENT)[..], request].concat()).await.unwrap();
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer).await);
    assert_eq!(answer, b"");
    assert_eq!(blue.got(), 1);
}

#[tokio::test]
async fn with_a_certificate_the_header_comes_first_and_in_the_clear() {
    let (blue, files) = (Instance::start("blue").await, Files::new());
    let certificate = files.renew(1);
    for (protocol, ips) in
        [("http", ["127.9.7.1", "127.9.7.2"]), ("tcp", ["127.9.8.1", "127.9.8.2"])]
    {
        let [mut out, mut serving] = pair(&blue, ips, protocol);
        for host in [&mut out, &mut serving] {
            files.show(host);
            host.apply();
        }
        let mut stream = TcpStream::connect(out.address).await.unwrap();
        stream.write_all(&header_of(CLIENT)).await.unwrap();
        let stream = connect_on(stream, &certificate, &[&TLS13], &[b"http/1.1"]).await;
        let mut upgraded = upgrade_on(stream, "echo").await;
        echo(&mut upgraded).await;

        let peer = TcpListener::bind((ips[1], 0)).await.unwrap();
        lead(&mut out, &[("peer-1", peer.local_addr().unwrap())]);
        let mut stream = TcpStream::connect(out.address).await.unwrap();
        stream.write_all(&header_of(CLIENT)).await.unwrap();
        let certificate = certificate.clone();
        let asks = tokio::spawn(async move {
            let stream = connect_on(stream, &certificate, &[&TLS13], &[b"http/1.1"]).await;
            drop(Client::on(stream).await.ask(Request::get("/"), Bytes::new()).await);
        });
        let (mut stream, _) = accepted(&peer).await;
        let header = if protocol == "http" { LOCAL.to_vec() } else { header_of(CLIENT) };
        // A record of a handshake (RFC 8446, 5.1).
        assert_begins(&mut stream, &[&header[..], &[22, 3]].concat()).await;
        drop(peer);
        drop(stream);
        asks.await.unwrap();
    }
}

#[tokio::test]
async fn several_peers_may_be_gone_at_once() {
    let blue = Instance::start("blue").await;
    let serving = Bench::start(&[("blue", &blue, 1_000)]);
    let gone = [nobody().await, nobody().await, nobody().await];
    let mut out = Bench::unprogrammed();
    let peers = [
        ("peer-0", gone[0]),
        ("peer-1", gone[1]),
        ("peer-2", gone[2]),
        ("peer-3", serving.address),
    ];
    lead(&mut out, &peers);
    let began = Instant::now();

    for _ in 0..20 {
        let answer = out.client().await.post("/echo", Bytes::from_static(b"whole")).await;
        assert_eq!(answer, (StatusCode::OK, "whole".to_owned()));
    }
    // They are left alone for 5 s each time.
    let times = 1 + began.elapsed().as_secs() / 5;
    let tried = (0..3).map(|it| out.upstream(&format!("peer-{it}")).unwrap().counts.requests);
    assert!(tried.sum::<u64>() <= 3 * times);
}
