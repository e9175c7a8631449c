//! Proxies in front of the gate that say who a client is.

use std::net::SocketAddr;

use proxy_header::{ProxiedAddress, ProxyHeader};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    instance::Instance,
    support::{Bench, Client, speak},
};

pub(crate) const CLIENT: &str = "203.0.113.7:4711";

/// Where it connected.
pub(crate) const PROXY: &str = "198.51.100.1:443";

fn header() -> Vec<u8> {
    header_of(CLIENT)
}

/// Returns the header of a client of the proxy.
pub(crate) fn header_of(client: &str) -> Vec<u8> {
    header_between(client, PROXY)
}

pub(crate) fn header_between(client: &str, server: &str) -> Vec<u8> {
    let proxied = ProxiedAddress::stream(client.parse().unwrap(), server.parse().unwrap());
    let mut bytes = Vec::new();
    ProxyHeader::with_address(proxied).encode_v2(&mut bytes).unwrap();
    bytes
}

fn bench(blue: &Instance) -> Bench {
    let mut bench = Bench::start(&[("blue", blue, 1_000)]);
    bench.service["accepts_proxy_protocol"] = json!(true);
    bench.service["trusted_peers"] = json!(["10.0.0.0/8", "127.0.0.0/8"]);
    bench.apply();
    bench
}

/// Sends `first` as it is, and returns a client that goes on from there.
pub(crate) async fn client(address: SocketAddr, first: &[u8]) -> Client {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(first).await.unwrap();
    Client::on(stream).await
}

#[tokio::test]
async fn a_client_is_who_the_proxy_in_front_says() {
    let blue = Instance::start("blue").await;
    let bench = bench(&blue);
    let mut client = client(bench.address, &header()).await;

    let (_, headers) = client.get("/headers").await;
    assert!(headers.contains(r#""x-forwarded-for": "203.0.113.7""#), "{headers}");
    let (_, again) = client.get("/headers").await;
    assert_eq!(headers, again, "one header for all requests of a connection");
}

#[tokio::test]
async fn a_proxy_that_speaks_for_itself_is_the_client() {
    let blue = Instance::start("blue").await;
    let bench = bench(&blue);
    let mut local = Vec::new();
    ProxyHeader::with_local().encode_v2(&mut local).unwrap();

    let (_, headers) = client(bench.address, &local).await.get("/headers").await;

    assert!(headers.contains(r#""x-forwarded-for": "127.0.0.1""#), "{headers}");
}

#[tokio::test]
async fn a_header_may_come_in_pieces() {
    let blue = Instance::start("blue").await;
    let bench = bench(&blue);
    let mut stream = TcpStream::connect(bench.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for byte in header() {
        stream.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();

    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();

    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn nobody_is_believed_without_a_header_nor_with_a_broken_one() {
    let blue = Instance::start("blue").await;
    let mut bench = bench(&blue);
    let request = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

    assert_eq!(speak(bench.address, request).await, "", "no header");
    assert_eq!(speak(bench.address, "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n").await, "", "version 1");
    let long = format!("\r\n\r\n\0\r\nQUIT\n\x21\x11\x7f\x7f{request}");
    assert_eq!(speak(bench.address, &long).await, "", "a rest that is too long");
    let family = format!("\r\n\r\n\0\r\nQUIT\n\x21\x77\0\0{request}");
    assert_eq!(speak(bench.address, &family).await, "", "no such family");
    bench.service["trusted_peers"] = json!(["192.0.2.1"]);
    bench.apply();
    let mut stream = TcpStream::connect(bench.address).await.unwrap();
    stream.write_all(&header()).await.unwrap();
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer).await);
    assert_eq!(answer, b"", "of a peer that is not trusted");
    assert_eq!(blue.got(), 0);
}

#[tokio::test]
async fn plain_tcp_begins_after_the_header() {
    let blue = Instance::start("blue").await;
    let mut bench = Bench::unprogrammed();
    bench.service["protocol"] = json!("tcp");
    bench.service["accepts_proxy_protocol"] = json!(true);
    bench.service["trusted_peers"] = json!(["127.0.0.1"]);
    bench.route(&[("blue", &blue, 1_000)]);

    assert_eq!(client(bench.address, &header()).await.get("/").await.1, "blue");
}
