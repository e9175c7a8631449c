//! Clients and instances that nobody here wrote: curl, and a WebSocket library of Python.

use std::{path::PathBuf, process::Stdio};

use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::{
    encrypted::{self, Files},
    instance::Instance,
    support::{Bench, upstream},
};

/// Says whether `program` is there. Where everything must be, it must be.
#[expect(clippy::print_stdout, reason = "whoever runs the tests is told what was not")]
fn is_there(program: &PathBuf) -> bool {
    let path = std::env::var_os("PATH").unwrap();
    let is_there = std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
    assert!(is_there || std::env::var_os("CI").is_none(), "tests/setup.sh test installs it");
    if !is_there {
        println!("skipped: there is no {}", program.display());
    }
    is_there
}

/// Returns what curl says, with the heads before the bodies and all that follows.
async fn curl(arguments: &[&str]) -> String {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--include", "--max-time", "30"])
        .args(["--write-out", "\nversion %{http_version}"])
        .args(arguments)
        .output()
        .await
        .unwrap();
    let (said, error) = (output.stdout, output.stderr);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&error));
    String::from_utf8(said).unwrap()
}

#[tokio::test]
async fn curl_is_served_in_both_versions_and_encrypted() {
    if !is_there(&"curl".into()) {
        return;
    }
    let (blue, files) = (Instance::start("blue").await, Files::new());
    files.renew(1);
    let plain = Bench::start(&[("blue", &blue, 1_000)]);
    let tls = encrypted::bench(&blue, &files);
    let url = format!("http://{}/", plain.address);
    let port = tls.address.port();
    let (resolve, secure) =
        (format!("shop.example:{port}:127.0.0.1"), format!("https://shop.example:{port}/"));
    let certificate = files.certificate();
    let encrypted = ["--cacert", certificate.to_str().unwrap(), "--resolve", &resolve, &secure];

    let said = curl(&["--http1.1", &url, &url]).await;
    assert!(said.ends_with("\r\n\r\nblue\nversion 1.1"), "{said}");
    assert_eq!(said.matches("HTTP/1.1 200 OK").count(), 2, "{said}");
    let said = curl(&["--http2-prior-knowledge", &url]).await;
    assert!(said.starts_with("HTTP/2 200") && said.ends_with("blue\nversion 2"), "{said}");
    let said = curl(&[&["--http2"], &encrypted[..]].concat()).await;
    assert!(said.starts_with("HTTP/2 200") && said.ends_with("blue\nversion 2"), "{said}");
    let said = curl(&[&["--http1.1", "--tls-max", "1.2"], &encrypted[..]].concat()).await;
    assert!(said.ends_with("blue\nversion 1.1"), "{said}");
    // It offers to speak HTTP/2 from here on, which the gate does not take up.
    let said = curl(&["--http2", &url, &url]).await;
    assert!(said.ends_with("blue\nversion 1.1"), "{said}");
    assert_eq!(said.matches("HTTP/1.1 200 OK").count(), 2, "{said}");
    let said = curl(&["--http1.0", &url]).await;
    assert!(said.contains("200 OK") && said.contains("blue"), "{said}");
    let said = curl(&["--head", &url]).await;
    assert!(said.contains("content-length: 4\r\n") && !said.contains("blue"), "{said}");
}

#[tokio::test]
async fn what_curl_uploads_arrives_whole_however_it_is_sent() {
    if !is_there(&"curl".into()) {
        return;
    }
    let blue = Instance::start("blue").await;
    let bench = Bench::start(&[("blue", &blue, 1_000)]);
    let (length, echo) =
        (format!("http://{}/length", bench.address), format!("http://{}/echo", bench.address));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("upload");
    std::fs::write(&file, vec![b'7'; 3_000_000]).unwrap();
    let file = file.to_str().unwrap();

    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let said = curl(&[version, "--upload-file", file, &length]).await;
        assert!(said.contains("\r\n\r\n3000000\n"), "{said}");
    }
    let chunked = ["--http1.1", "--header", "Transfer-Encoding: chunked"];
    let said = curl(&[&chunked[..], &["--upload-file", file, &echo]].concat()).await;
    let (_, body) = said.rsplit_once("\r\n\r\n").unwrap();
    assert_eq!(body.matches('7').count(), 3_000_000);
    let expects = ["--http1.1", "--header", "Expect: 100-continue"];
    let said = curl(&[&expects[..], &["--upload-file", file, &length]].concat()).await;
    assert!(said.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK"), "{said}");
    assert!(said.contains("\r\n\r\n3000000\n"), "{said}");
}

#[tokio::test]
async fn curl_sees_the_trailers_of_an_instance() {
    if !is_there(&"curl".into()) {
        return;
    }
    let blue = Instance::start("blue").await;
    let bench = Bench::start(&[("blue", &blue, 1_000)]);
    let url = format!("http://{}/trailers", bench.address);

    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let said = curl(&[version, "--header", "TE: trailers", &url]).await;
        assert!(said.contains("hello") && said.contains("sum: 5"), "{said}");
    }
}

/// One end of WebSockets.
struct Outsider {
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
}

impl Outsider {
    fn start(python: &PathBuf, arguments: &[&str]) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/traffic/websocket.py");
        let mut child = Command::new(python)
            .arg(script)
            .args(arguments)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, said }
    }

    async fn line(&mut self) -> String {
        self.said.next_line().await.unwrap().expect("it says something")
    }
}

#[tokio::test]
async fn websockets_of_a_library_are_carried_and_closed_with_a_word() {
    let target = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/test-venv/bin/python");
    let python = PathBuf::from(target);
    if !is_there(&python) {
        return;
    }
    let mut server = Outsider::start(&python, &["server"]);
    let port: u16 = server.line().await.parse().unwrap();
    let mut bench = Bench::unprogrammed();
    let address = format!("127.0.0.1:{port}").parse().unwrap();
    bench.service["route"]["upstreams"] = json!([upstream("blue", address, 1_000)]);
    bench.apply();

    let url = format!("ws://{}/", bench.address);
    let mut client = Outsider::start(&python, &["client", &url]);
    assert_eq!(client.line().await, "ready");
    for _ in 0..10 {
        assert_eq!(server.line().await, "closed 1000");
    }
    bench.service["route"]["upstreams"][0]["drain"] =
        json!({ "requests_ms": 0, "long_lived_ms": 0 });
    bench.apply();

    assert_eq!(client.line().await, "closed 1001");
    assert_eq!(server.line().await, "closed 1001");
    assert!(client.child.wait().await.unwrap().success());
    bench.wait_until_empty("blue").await;
}
