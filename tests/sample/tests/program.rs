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
