//! The program as a whole: what it logs, answers, and does when it is told to stop.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// Far above what anything here takes, so that a fault is told and not waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// A process that does not outlive its test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // Mostly it has ended already, which is an error here and just what is wanted.
        match self.0.kill().and_then(|()| self.0.wait()) {
            Ok(_) | Err(_) => {}
        }
    }
}

/// A running sample.
struct Sample {
    process: Ended,
    address: SocketAddr,
    log: BufReader<ChildStdout>,
    first_line: String,
}

impl Sample {
    fn start(args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_cutover-sample"))
            .args(["--port", "0", "--address", "127.0.0.1"])
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let log = child.stdout.take().unwrap();
        let process = Ended(child);
        let mut log = BufReader::new(log);
        let mut first_line = String::new();
        log.read_line(&mut first_line).unwrap();
        let address = first_line.trim().rsplit(' ').next().unwrap().parse().unwrap();
        Self { process, address, log, first_line }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.process.0.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for the end. The pipe closes with the process, so nothing is polled.
    fn end(mut self) -> (ExitStatus, String) {
        let (sender, receiver) = mpsc::channel();
        let mut log = self.log;
        thread::spawn(move || {
            let mut rest = String::new();
            log.read_to_string(&mut rest).unwrap();
            sender.send(rest)
        });
        let rest = receiver.recv_timeout(PATIENCE).expect("the sample did not end");
        (self.process.0.wait().unwrap(), rest)
    }
}

/// Reads one answer: its head, and the body that the head announces.
fn read_answer(stream: &TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let mut text = String::new();
    while !text.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut text).unwrap() > 0, "closed after {text:?}");
    }
    let length = text.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    text + std::str::from_utf8(&body).unwrap()
}

#[test]
fn two_requests_on_one_connection_are_answered_by_the_version_that_was_logged() {
    let file = std::env::temp_dir().join(format!("cutover-sample-version-{}", std::process::id()));
    std::fs::write(&file, "1.10\n").unwrap();
    let sample = Sample::start(&["--version-file", file.to_str().unwrap()]);
    std::fs::remove_file(&file).unwrap();
    let pid = sample.process.0.id();
    let mut stream = sample.connect();

    for _ in 0..2 {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let answer = read_answer(&stream);
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with(&format!("\r\n\r\nweb 1.10 pid {pid}\n")), "{answer}");
    }
    let begin = format!("web 1.10 pid {pid} listens on 127.0.0.1:");
    assert!(sample.first_line.starts_with(&begin), "{}", sample.first_line);
    sample.signal(Signal::TERM);
    sample.end();
}

#[test]
fn term_lets_a_request_finish_and_exits_with_zero_within_a_second() {
    let sample = Sample::start(&[]);
    let address = sample.address;
    let mut idle = sample.connect();
    let mut busy = sample.connect();
    busy.write_all(b"GET /slow?ms=400 HTTP/1.1\r\n\r\n").unwrap();

    let since = Instant::now();
    sample.signal(Signal::TERM);
    let answer = read_answer(&busy);
    let (status, log) = sample.end();

    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("Connection: close"), "{answer}");
    assert_eq!(status.code(), Some(0));
    assert!(since.elapsed() < Duration::from_secs(5), "took {:?}", since.elapsed());
    assert!(log.contains("asked to stop"), "{log}");
    assert_eq!(idle.read(&mut [0; 1]).unwrap(), 0, "an idle connection is closed");
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
}

#[test]
fn term_does_not_wait_for_a_request_that_takes_longer_than_a_second() {
    let sample = Sample::start(&[]);
    let mut busy = sample.connect();
    busy.write_all(b"GET /slow?ms=10000 HTTP/1.1\r\n\r\n").unwrap();

    let since = Instant::now();
    sample.signal(Signal::TERM);
    let (status, _) = sample.end();

    assert_eq!(status.code(), Some(0));
    assert!(since.elapsed() < Duration::from_secs(5), "took {:?}", since.elapsed());
}

#[test]
fn crash_after_ends_by_a_signal() {
    let (status, _) = Sample::start(&["--crash-after", "0"]).end();

    assert_eq!(status.code(), None, "{status}");
}

#[test]
fn a_check_too_many_crashes_it_and_what_clients_asked_for_is_in_its_log() {
    let sample = Sample::start(&["--crash-after-checks", "1"]);
    let (mut client, mut checks) = (sample.connect(), sample.connect());

    for path in ["/", "/slow?ms=0"] {
        client.write_all(format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes()).unwrap();
        assert!(read_answer(&client).starts_with("HTTP/1.1 200 OK\r\n"));
    }
    checks.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").unwrap();
    assert!(read_answer(&checks).starts_with("HTTP/1.1 200 OK\r\n"));
    checks.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").unwrap();
    let (status, log) = sample.end();

    assert_eq!(status.code(), None, "{status}");
    assert_eq!(log.matches("was asked for").count(), 1, "the first is told: {log}");
    assert!(log.contains("was asked for \"/\""), "{log}");
}

#[test]
fn health_and_a_request_wait_for_a_file() {
    let file = std::env::temp_dir().join(format!("cutover-sample-go-{}", std::process::id()));
    let path = file.to_str().unwrap();
    let mut sample = Sample::start(&["--healthy-when", path, "--held-until", path]);
    let (mut held, mut checks) = (sample.connect(), sample.connect());

    held.write_all(b"POST /held HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody").unwrap();
    let mut log = String::new();
    while !log.contains("holds a request") {
        assert!(sample.log.read_line(&mut log).unwrap() > 0, "{log}");
    }
    checks.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").unwrap();
    assert!(read_answer(&checks).starts_with("HTTP/1.1 503 "));
    std::fs::write(&file, "").unwrap();
    let answer = read_answer(&held);
    checks.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").unwrap();
    let health = read_answer(&checks);
    std::fs::remove_file(&file).unwrap();

    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(health.starts_with("HTTP/1.1 200 OK\r\n"), "{health}");
    sample.signal(Signal::TERM);
    sample.end();
}

#[test]
fn term_is_ignored_on_demand() {
    let sample = Sample::start(&["--ignore-term"]);

    sample.signal(Signal::TERM);
    let mut client = sample.connect();
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let answer = read_answer(&client);
    assert!(answer.contains("Connection: keep-alive"), "{answer}");
    sample.signal(Signal::INT);
    assert_eq!(sample.end().0.code(), Some(0));
}

#[test]
fn a_child_that_is_left_holds_the_port_and_answers_nobody() {
    let mut sample = Sample::start(&["--leave-child"]);
    let mut line = String::new();
    sample.log.read_line(&mut line).unwrap();
    let child: i32 = line.trim().rsplit(' ').next().unwrap().parse().unwrap();
    let child = Pid::from_raw(child).unwrap();
    let address = sample.address;

    sample.process.0.kill().unwrap();
    sample.process.0.wait().unwrap();
    let mut client = TcpStream::connect(address).expect("the child holds the port");
    client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    client.read(&mut [0; 1]).expect_err("nobody answers");
    kill_process(child, Signal::KILL).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(address).is_ok() {
        assert!(Instant::now() < deadline, "somebody holds the port still");
    }
}

#[test]
fn a_port_that_is_taken_is_told() {
    let sample = Sample::start(&[]);
    let port = sample.address.port().to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_cutover-sample"))
        .args(["--port", &port, "--address", "127.0.0.1"])
        .output()
        .unwrap();

    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains(&format!("could not listen on 127.0.0.1:{port}")), "{error}");
    sample.signal(Signal::INT);
    assert_eq!(sample.end().0.code(), Some(0));
}
