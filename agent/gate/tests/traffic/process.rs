//! The program `cutover-gate`, as a process: told what to do, killed, started again.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    ops::{Deref, DerefMut},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use cutover_gate::{
    Program,
    control::{AskGate, Client},
    daemon::SOCKET_FILE,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpStream, UnixStream},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_cutover-gate");
const PATIENCE: Duration = Duration::from_secs(30);

/// A process that ends with its test, however that ends.
pub(crate) struct Ours(Child);

impl Drop for Ours {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Deref for Ours {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Ours {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

/// A gate's process in a directory of its own.
pub(crate) struct Process {
    pub(crate) child: Ours,
    pub(crate) dir: tempfile::TempDir,
}

impl Process {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let child = spawn(&dir, &[]);
        let process = Self { child, dir };
        process.wait_until_ready().await;
        process
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("gate").join(SOCKET_FILE)
    }

    pub(crate) async fn wait_until_ready(&self) -> Client {
        let begin = Instant::now();
        loop {
            if let Ok(client) = Client::connect(&self.socket()).await {
                return client;
            }
            assert!(begin.elapsed() < PATIENCE, "the gate never listens");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Kills it as a crash would, and starts another in its place.
    pub(crate) async fn crash(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = spawn(&self.dir, &[]);
        self.wait_until_ready().await;
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

pub(crate) fn spawn(dir: &tempfile::TempDir, arguments: &[&str]) -> Ours {
    start(&mut command(dir, arguments))
}

pub(crate) fn start(command: &mut Command) -> Ours {
    Ours(command.spawn().unwrap())
}

pub(crate) fn command(dir: &tempfile::TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .args(["run", "--cores", "2", "--data"])
        .arg(dir.path().join("gate"))
        .args(arguments)
        .stdout(Stdio::null());
    command
}

/// An address that belongs to this process alone: nobody else takes its port meanwhile.
pub(crate) fn own_address() -> SocketAddr {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let ip = Ipv4Addr::new(127, 77, high, low);
    TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap()
}

fn program(revision: u64, listen: SocketAddr, instance: SocketAddr) -> Program {
    let upstream: Value =
        json!({ "name": "blue", "address": instance, "weight": 1000, "is_healthy": true });
    serde_json::from_value(json!({
        "revision": revision,
        "services": [{
            "application": "shop", "listen": listen, "protocol": "tcp",
            "route": { "flow": "open", "upstreams": [upstream] },
        }],
    }))
    .unwrap()
}

/// Says back what it hears, for ever.
async fn echo() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                drop(tokio::io::copy(&mut from, &mut to).await);
            });
        }
    });
    address
}

async fn serves(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(address).await else { return false };
    stream.write_all(b"ping").await.unwrap();
    let mut back = [0; 4];
    stream.read_exact(&mut back).await.is_ok() && &back == b"ping"
}

#[tokio::test]
async fn it_does_what_it_is_told_and_does_it_again_after_a_crash() {
    let mut process = Process::start().await;
    let (listen, instance) = (own_address(), echo().await);
    let mut client = process.wait_until_ready().await;

    let applied = client.apply(&program(3, listen, instance)).await.unwrap();
    assert!(applied.is_kept && applied.revision == 3);
    assert!(serves(listen).await);

    process.crash().await;
    assert!(serves(listen).await, "nobody told it anew");
    let state = process.wait_until_ready().await.state().await.unwrap();
    assert_eq!(state.revision, Some(3));
    assert_ne!(state.gate, applied.gate, "another process has another name");
}

#[tokio::test]
async fn after_a_crash_a_certificate_that_is_broken_by_then_stops_no_other_service() {
    let mut process = Process::start().await;
    let (listen, instance) = (own_address(), echo().await);
    let files = crate::encrypted::Files::new();
    files.renew(1);
    let mut both = program(1, listen, instance);
    let mut secure = both.services[0].clone();
    secure.application = "secure".parse().unwrap();
    secure.listen = own_address();
    secure.tls = serde_json::from_value(json!({
        "certificate": files.certificate(), "key": files.key(),
    }))
    .unwrap();
    both.services.push(secure);
    process.wait_until_ready().await.apply(&both).await.unwrap();

    std::fs::write(files.certificate(), "broken").unwrap();
    process.crash().await;

    assert!(serves(listen).await);
    let state = process.wait_until_ready().await.state().await.unwrap();
    assert_eq!(state.revision, Some(1));
    let [secure, shop] = &state.services[..] else { panic!("two services: {state:?}") };
    assert!(shop.is_served && shop.trouble.is_empty());
    assert!(!secure.is_served && secure.trouble.contains("certificate.pem"), "{}", secure.trouble);
    assert!(!secure.upstreams[0].is_empty, "it is served as soon as it can be");
}

#[tokio::test]
async fn a_port_that_a_stranger_has_keeps_only_its_own_service_waiting() {
    let process = Process::start().await;
    let (listen, instance, other) = (own_address(), echo().await, echo().await);
    let stranger = TcpListener::bind((listen.ip(), 0)).unwrap();
    let theirs = stranger.local_addr().unwrap();
    let mut both = program(1, listen, instance);
    let mut unlucky = program(1, theirs, instance).services.remove(0);
    unlucky.application = "unlucky".parse().unwrap();
    both.services.push(unlucky);
    let mut client = process.wait_until_ready().await;

    client.apply(&both).await.unwrap();
    assert!(serves(listen).await);
    let state = client.state().await.unwrap();
    let [shop, unlucky] = &state.services[..] else { panic!("two services: {state:?}") };
    assert!(shop.is_served && shop.trouble.is_empty());
    assert!(!unlucky.is_served, "{state:?}");
    let told = &unlucky.trouble;
    assert!(told.contains(&theirs.to_string()) && told.contains("end the program"), "{told}");

    // Another swap goes on.
    both.revision = 2;
    both.services[0].route.upstreams[0].address = other;
    client.apply(&both).await.unwrap();
    let state = client.state().await.unwrap();
    assert_eq!(state.services[0].upstreams[0].address, other);
    assert!(!state.services[1].is_served);

    drop(stranger);
    let begin = Instant::now();
    while !serves(theirs).await {
        assert!(begin.elapsed() < PATIENCE, "it is never served");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let state = client.state().await.unwrap();
    assert!(state.services.iter().all(|it| it.is_served && it.trouble.is_empty()), "{state:?}");
}

#[tokio::test]
async fn services_change_their_ports_with_each_other_and_one_its_protocol() {
    let process = Process::start().await;
    let (listen, instance, other) = (own_address(), echo().await, echo().await);
    let second = own_address();
    let mut both = program(1, listen, instance);
    let mut another = program(1, second, other).services.remove(0);
    another.application = "another".parse().unwrap();
    both.services.push(another);
    let mut client = process.wait_until_ready().await;
    client.apply(&both).await.unwrap();

    both.revision = 2;
    both.services[0].listen = second;
    both.services[1].listen = listen;
    client.apply(&both).await.unwrap();
    let state = client.state().await.unwrap();
    assert!(state.services.iter().all(|it| it.is_served), "{state:?}");
    assert!(serves(listen).await && serves(second).await);

    both.revision = 3;
    both.services[0].protocol = cutover_gate::program::Protocol::Http;
    client.apply(&both).await.unwrap();
    let state = client.state().await.unwrap();
    assert!(state.services.iter().all(|it| it.is_served), "{state:?}");
    let said = crate::support::speak(second, "nonsense\r\n\r\n").await;
    assert!(said.starts_with("HTTP/1.1 400"), "{said}");
}

#[tokio::test]
async fn a_program_that_is_refused_changes_nothing_and_says_why() {
    let process = Process::start().await;
    let (listen, instance) = (own_address(), echo().await);
    let mut client = process.wait_until_ready().await;
    client.apply(&program(1, listen, instance)).await.unwrap();

    let circle = program(2, listen, listen);
    let refused = client.apply(&circle).await.unwrap_err();
    assert!(matches!(&refused, AskGate::Refused(why) if why.contains("in a circle")), "{refused}");
    assert_eq!(client.state().await.unwrap().revision, Some(1));
    assert!(serves(listen).await);
}

#[tokio::test]
async fn what_is_not_understood_is_answered_and_a_second_gate_ends() {
    let process = Process::start().await;
    let mode = std::fs::metadata(process.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut stream = BufReader::new(UnixStream::connect(process.socket()).await.unwrap());
    for nonsense in ["{}\n", "\"reboot\"\n", "{\"apply\":{\"revision\":1}}\n", "\n"] {
        stream.write_all(nonsense.as_bytes()).await.unwrap();
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        assert!(line.starts_with("{\"refused\":\"this is not understood"), "{line}");
    }

    let second = spawn(&process.dir, &[]).wait().unwrap();
    assert!(!second.success());
    assert!(process.wait_until_ready().await.state().await.is_ok());
}

#[tokio::test]
async fn told_to_end_it_finishes_what_is_under_way() {
    let mut process = Process::start().await;
    let (listen, instance) = (own_address(), echo().await);
    let mut client = process.wait_until_ready().await;
    client.apply(&program(1, listen, instance)).await.unwrap();
    let mut stream = TcpStream::connect(listen).await.unwrap();
    stream.write_all(b"one").await.unwrap();
    let mut back = [0; 3];
    stream.read_exact(&mut back).await.unwrap();

    process.signal(rustix::process::Signal::TERM);
    // It accepts no other: once that is so, it has begun to end.
    let begin = Instant::now();
    while TcpStream::connect(listen).await.is_ok() {
        assert!(begin.elapsed() < PATIENCE, "it goes on accepting");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stream.write_all(b"two").await.unwrap();
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"two");
    assert!(process.child.try_wait().unwrap().is_none());

    drop(stream);
    let begin = Instant::now();
    let ended = loop {
        if let Some(ended) = process.child.try_wait().unwrap() {
            break ended;
        }
        assert!(begin.elapsed() < PATIENCE, "it never ends");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert!(ended.success());
}

#[tokio::test]
async fn status_says_where_requests_go() {
    let process = Process::start().await;
    let (listen, instance) = (own_address(), echo().await);
    let mut client = process.wait_until_ready().await;
    client.apply(&program(1, listen, instance)).await.unwrap();

    let told = |args: &[&str]| {
        let data = process.dir.path().join("gate");
        let output =
            Command::new(PROGRAM).arg("status").args(args).arg("--data").arg(data).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    let text = told(&[]);
    assert!(text.contains(&format!("shop on {listen}: 0 clients, 0 held")), "{text}");
    assert!(text.contains(&format!("blue at {instance}: in use")), "{text}");
    let json: Value = serde_json::from_str(&told(&["--json"])).unwrap();
    assert_eq!(json["services"][0]["upstreams"][0]["name"], "blue");

    let nobody = tempfile::tempdir().unwrap();
    let output =
        Command::new(PROGRAM).args(["status", "--data"]).arg(nobody.path()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("is cutover-gate running?"), "{said}");
}

async fn metrics(address: SocketAddr) -> String {
    let said = crate::support::speak(address, "GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    said
}

#[tokio::test]
async fn prometheus_is_told_what_is_counted_and_finds_the_next_process_at_the_same_address() {
    let dir = tempfile::tempdir().unwrap();
    let asked = own_address();
    let arguments = ["--metrics", &asked.to_string()];
    let child = spawn(&dir, &arguments);
    let mut process = Process { child, dir };
    let (listen, instance) = (own_address(), echo().await);
    let mut client = process.wait_until_ready().await;
    client.apply(&program(7, listen, instance)).await.unwrap();
    assert!(serves(listen).await);

    let page = metrics(asked).await;
    for line in [
        "cutover_gate_program_revision 7",
        "# TYPE cutover_gate_connections gauge",
        "cutover_gate_requests_total{application=\"shop\",upstream=\"blue\"} 1",
        "cutover_gate_responses_total{application=\"shop\",upstream=\"blue\",class=\"5xx\"} 0",
        "cutover_gate_response_seconds_bucket{application=\"shop\",upstream=\"blue\",le=\"0.001024\"} 0",
        "cutover_gate_response_seconds_bucket{application=\"shop\",upstream=\"blue\",le=\"+Inf\"} 0",
        "cutover_gate_response_seconds_sum{application=\"shop\",upstream=\"blue\"} 0",
    ] {
        assert!(page.lines().any(|it| it == line), "{line} is not in: {page}");
    }
    let elsewhere = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    assert!(crate::support::speak(asked, elsewhere).await.starts_with("HTTP/1.1 404"));

    let new = spawn(&process.dir, &[&arguments[..], &["--take-over"]].concat());
    let mut old = std::mem::replace(&mut process.child, new);
    crate::support::wait_until("the old one ends", || old.try_wait().unwrap().is_some()).await;
    assert!(
        metrics(asked).await.contains("requests_total{application=\"shop\",upstream=\"blue\"} 1")
    );
}
