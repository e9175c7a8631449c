//! Bodies of requests, and how long an instance is waited for meanwhile.

use hyper::StatusCode;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::{
    instance::Instance,
    support::{Bench, PATIENCE, upstream},
};

/// More than all sockets between hold.
const LONG_BYTES: usize = 64 * 1024 * 1024;

async fn begin_upload(bench: &Bench, length: usize) -> TcpStream {
    let mut stream = TcpStream::connect(bench.address).await.unwrap();
    let head = format!(
        "POST /length HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// Sends as much as is taken, and returns the first line of the answer.
async fn send_all(stream: TcpStream, length: usize) -> String {
    let (mut from, mut to) = stream.into_split();
    // What is not taken breaks when the answer was.
    let sends = tokio::spawn(async move { to.write_all(&vec![7; length]).await.is_ok() });
    let mut said = Vec::new();
    let first_line = async {
        while !said.ends_with(b"\r\n") {
            said.push(from.read_u8().await.unwrap());
        }
    };
    timeout(PATIENCE, first_line).await.expect("it is answered");
    sends.abort();
    String::from_utf8(said).unwrap()
}

#[tokio::test]
async fn an_upload_may_take_longer_than_its_answer() {
    let blue = Instance::start("blue").await;
    let mut bench = Bench::start(&[("blue", &blue, 1_000)]);
    bench.service["limits"] = json!({ "answer_ms": 1_000 });
    bench.apply();
    let mut stream = begin_upload(&bench, 2).await;
    stream.write_all(b"a").await.unwrap();
    bench.wait_for("blue", |it| it.counts.bytes_out == 1).await;

    // As long as an answer may take.
    assert_eq!(bench.get("/slow").await.0, StatusCode::GATEWAY_TIMEOUT);
    stream.write_all(b"b").await.unwrap();

    let mut said = String::new();
    stream.read_to_string(&mut said).await.unwrap();
    assert!(said.starts_with("HTTP/1.1 200 ") && said.ends_with("\r\n\r\n2"), "{said}");
}

#[tokio::test]
async fn an_instance_that_takes_nothing_of_an_upload_is_waited_for_as_for_an_answer() {
    // Nobody accepts, and the kernel connects.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut bench = Bench::unprogrammed();
    let upstreams = [upstream("blue", silent.local_addr().unwrap(), 1_000)];
    bench.service["route"]["upstreams"] = json!(upstreams);
    bench.service["limits"] = json!({ "answer_ms": 200 });
    bench.apply();

    let said = send_all(begin_upload(&bench, LONG_BYTES).await, LONG_BYTES).await;

    assert!(said.starts_with("HTTP/1.1 504 "), "{said}");
}
