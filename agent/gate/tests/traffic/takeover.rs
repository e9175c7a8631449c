//! One gate's process takes over from another: nobody is refused, nothing is forgotten.

use std::{
    net::SocketAddr,
    os::unix::net::{UnixDatagram, UnixStream as StdUnixStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use cutover_gate::{Program, State, UpstreamState, control::Client as Control};
use http_body_util::Empty;
use hyper::{Request, StatusCode, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    task::{JoinHandle, JoinSet},
};

use crate::{
    instance::Instance,
    lasting::{echo, upgrade_at},
    process::{Ours, Process, command, own_address, spawn, start},
    support::{Client, upstream, wait_until},
};

/// How often the gate is replaced under load.
const UPGRADES: usize = 10;

pub(crate) fn program(revision: u64, listen: SocketAddr, upstreams: &[Value]) -> Program {
    serde_json::from_value(json!({
        "revision": revision,
        "services": [{
            "application": "shop", "listen": listen, "protocol": "http",
            "route": { "flow": "open", "upstreams": upstreams },
        }],
    }))
    .unwrap()
}

impl Process {
    /// Starts another process that takes over, and returns the one before.
    pub(crate) async fn take_over(&mut self) -> Ours {
        let mut old = std::mem::replace(&mut self.child, spawn(&self.dir, &["--take-over"]));
        let begin = std::time::Instant::now();
        // It says that another one leaves, or that one is gone already.
        while self.state().await.leaving == 0 && old.try_wait().unwrap().is_none() {
            assert!(begin.elapsed() < crate::support::PATIENCE, "it never takes over");
        }
        old
    }

    pub(crate) async fn state(&self) -> State {
        self.wait_until_ready().await.state().await.unwrap()
    }

    async fn upstream(&self, name: &str) -> UpstreamState {
        let state = self.state().await;
        state.services[0].upstreams.iter().find(|it| it.name.as_str() == name).unwrap().clone()
    }

    pub(crate) async fn wait_for(&self, what: &str, is_so: impl Fn(&State) -> bool) {
        let mut control = self.wait_until_ready().await;
        let begin = std::time::Instant::now();
        while !is_so(&control.state().await.unwrap()) {
            assert!(begin.elapsed() < crate::support::PATIENCE, "never came: {what}");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}

fn leaving_sockets(socket: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(socket.parent().unwrap()).unwrap();
    let names = entries.map(|it| it.unwrap().file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> =
        names.filter(|it| it.starts_with("leaving-") && it.ends_with(".sock")).collect();
    names.sort();
    names
}

pub(crate) async fn wait_until_ended(mut child: Ours) {
    wait_until("the old process ends", || child.try_wait().unwrap().is_some()).await;
    assert!(child.wait().unwrap().success());
}

/// Clients that never rest.
struct Load {
    ends: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    clients: JoinSet<Result<(), String>>,
}

impl Load {
    fn start(address: SocketAddr) -> Self {
        let (ends, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let mut clients = JoinSet::new();
        for number in 0..8 {
            let (ends, answered) = (Arc::clone(&ends), Arc::clone(&answered));
            clients.spawn(async move {
                let mut client = None;
                while !ends.load(Ordering::SeqCst) {
                    // Some connect for each request, some only when they are told to.
                    let mut with = match client.take() {
                        Some(client) if number % 4 != 0 => client,
                        Some(_) | None => Client::connect(address).await,
                    };
                    let body = Bytes::from_static(&[7; 5_000]);
                    let asked = with.ask(Request::post("/length"), body).await;
                    let response = asked.map_err(|error| format!("{error:?}"))?;
                    let says_last =
                        response.headers().get("connection").is_some_and(|it| it == "close");
                    let status = response.status();
                    let text = http_body_util::BodyExt::collect(response.into_body()).await;
                    let text = text.map_err(|error| format!("{error:?}"))?.to_bytes();
                    if (status, &text[..]) != (StatusCode::OK, b"5000") {
                        return Err(format!("{status} {text:?}"));
                    }
                    answered.fetch_add(1, Ordering::SeqCst);
                    client = Some(with).filter(|_| !says_last);
                }
                Ok(())
            });
        }
        Self { ends, answered, clients }
    }

    fn answered(&self) -> u64 {
        self.answered.load(Ordering::SeqCst)
    }

    async fn goes_on(&self) {
        let before = self.answered();
        wait_until("clients are answered", || self.answered() > before + 20).await;
    }

    async fn end(self) -> u64 {
        self.ends.store(true, Ordering::SeqCst);
        for ended in self.clients.join_all().await {
            assert_eq!(ended, Ok(()));
        }
        self.answered.load(Ordering::SeqCst)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_the_gate_is_replaced_again_and_again() {
    let blue = Instance::start("blue").await;
    let mut process = Process::start().await;
    let listen = own_address();
    let mut control = process.wait_until_ready().await;
    let with = [upstream("blue", blue.address, 1_000)];
    let first = control.apply(&program(1, listen, &with)).await.unwrap();
    let load = Load::start(listen);
    // Programs come all the while, over a connection that was there before.
    let (ends, with) = (Arc::new(AtomicBool::new(false)), with.clone());
    let told = tokio::spawn({
        let ends = Arc::clone(&ends);
        async move {
            let mut revision = 1;
            while !ends.load(Ordering::SeqCst) {
                revision += 1;
                let applied = control.apply(&program(revision, listen, &with)).await.unwrap();
                assert!(applied.is_kept && applied.revision == revision);
            }
            revision
        }
    });

    for _ in 0..UPGRADES {
        load.goes_on().await;
        let old = process.take_over().await;
        wait_until_ended(old).await;
    }
    load.goes_on().await;

    ends.store(true, Ordering::SeqCst);
    let revision = told.await.unwrap();
    let answered = load.end().await;
    process.wait_for("all have ended", |state| state.leaving == 0).await;
    let state = process.state().await;
    assert_eq!(state.revision, Some(revision));
    assert_eq!(state.gate, first.gate, "it goes on counting under its name");
    let counts = &process.upstream("blue").await.counts;
    assert_eq!((counts.requests, counts.statuses[1]), (answered, answered));
}

async fn ask_slowly(address: SocketAddr) -> JoinHandle<(StatusCode, String)> {
    let mut client = Client::connect(address).await;
    tokio::spawn(async move { client.get("/slow").await })
}

#[tokio::test]
async fn a_place_is_empty_only_when_the_process_before_has_nothing_there_too() {
    let (blue, green) = (Instance::start("blue").await, Instance::start("green").await);
    let mut process = Process::start().await;
    let listen = own_address();
    let mut control = process.wait_until_ready().await;
    let both = |blue_gets, green_gets| {
        [upstream("blue", blue.address, blue_gets), upstream("green", green.address, green_gets)]
    };
    control.apply(&program(1, listen, &both(1_000, 0))).await.unwrap();
    let slow = ask_slowly(listen).await;
    process.wait_for("blue has it", |it| it.services[0].upstreams[0].requests_in_flight == 1).await;
    let mut idle = Client::connect(listen).await;
    assert_eq!(idle.get("/").await.1, "blue");

    let old = process.take_over().await;
    control.apply(&program(2, listen, &both(0, 1_000))).await.unwrap();

    assert_eq!(Client::connect(listen).await.get("/").await.1, "green");
    let state = process.upstream("blue").await;
    assert!(!state.is_empty && state.requests_in_flight == 1, "{state:?}");
    assert_eq!(process.state().await.leaving, 1);
    // The old one follows the new program too, and says that its connection is over.
    let last = idle.ask(Request::get("/"), Bytes::new()).await.unwrap();
    assert_eq!(last.headers()["connection"], "close");
    let text = http_body_util::BodyExt::collect(last.into_body()).await.unwrap().to_bytes();
    assert_eq!(text, "green");

    blue.shared.slow.add_permits(1);
    assert_eq!(slow.await.unwrap(), (StatusCode::OK, "blue".to_owned()));
    wait_until_ended(old).await;
    process.wait_for("blue is empty", |it| it.services[0].upstreams[0].is_empty).await;
    assert_eq!(process.upstream("blue").await.counts.requests, 2);
    assert_eq!(process.upstream("green").await.counts.requests, 2);
}

#[tokio::test]
async fn what_lasts_goes_on_in_the_old_process_and_http_2_is_told_to_go() {
    let blue = Instance::start("blue").await;
    let mut process = Process::start().await;
    let listen = own_address();
    let mut control = process.wait_until_ready().await;
    let with = [upstream("blue", blue.address, 1_000)];
    control.apply(&program(1, listen, &with)).await.unwrap();
    let mut lasting = upgrade_at(listen, "echo").await;
    let stream = TokioIo::new(TcpStream::connect(listen).await.unwrap());
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    let ended = tokio::spawn(async { connection.await.is_ok() });
    let slow = Request::get("http://shop.example/slow").body(Empty::<Bytes>::new()).unwrap();
    let slow = tokio::spawn(sender.send_request(slow));
    process
        .wait_for("it is under way", |it| it.services[0].upstreams[0].requests_in_flight == 1)
        .await;

    let old = process.take_over().await;

    let under_way = process.upstream("blue").await;
    assert_eq!((under_way.requests_in_flight, under_way.long_lived), (1, 1));
    echo(&mut lasting).await;
    blue.shared.slow.add_permits(1);
    assert_eq!(slow.await.unwrap().unwrap().status(), StatusCode::OK);
    assert!(ended.await.unwrap(), "it ends with a word");
    assert_eq!(process.state().await.leaving, 1);

    drop(lasting);
    wait_until_ended(old).await;
}

/// Does as a process that takes over, up to a point, and is gone then.
fn take_over_until(socket: &Path, point: usize) {
    use std::io::{Read as _, Write as _};
    let mut stream = StdUnixStream::connect(socket).unwrap();
    let steps: [&mut dyn FnMut(&mut StdUnixStream); 4] = [
        &mut |_| {},
        &mut |stream| stream.write_all(b"\"take_over\"\n").unwrap(),
        // The sockets arrive, and are closed with this process.
        &mut |stream| stream.read_exact(&mut [0; 1]).unwrap(),
        &mut |stream| stream.write_all(b"serv").unwrap(),
    ];
    for step in steps.into_iter().take(point) {
        step(&mut stream);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_dies_before_it_serves_leaves_the_old_one_as_it_was() {
    let blue = Instance::start("blue").await;
    let process = Process::start().await;
    let listen = own_address();
    let mut control = process.wait_until_ready().await;
    let with = [upstream("blue", blue.address, 1_000)];
    control.apply(&program(1, listen, &with)).await.unwrap();
    let load = Load::start(listen);

    for point in 0..=4 {
        take_over_until(&process.socket(), point);
        load.goes_on().await;
        let revision = 2 + point as u64;
        let applied = control.apply(&program(revision, listen, &with)).await.unwrap();
        assert!(applied.is_kept && applied.revision == revision);
    }

    let answered = load.end().await;
    assert_eq!(process.upstream("blue").await.counts.requests, answered);
    assert_eq!(leaving_sockets(&process.socket()), Vec::<String>::new());
}

#[tokio::test]
async fn after_a_crash_of_the_new_process_the_next_one_finds_what_the_old_one_has() {
    let (blue, green) = (Instance::start("blue").await, Instance::start("green").await);
    let mut process = Process::start().await;
    let listen = own_address();
    let mut control = process.wait_until_ready().await;
    let of_blue = [upstream("blue", blue.address, 1_000)];
    let applied = control.apply(&program(1, listen, &of_blue)).await.unwrap();
    let slow = ask_slowly(listen).await;
    process.wait_for("blue has it", |it| it.services[0].upstreams[0].requests_in_flight == 1).await;

    let old = process.take_over().await;
    process.crash().await;

    let state = process.state().await;
    assert_eq!((state.revision, state.leaving), (Some(1), 1));
    assert_ne!(state.gate, applied.gate, "it has counted from zero");
    let of_green = [upstream("green", green.address, 1_000)];
    control.apply(&program(2, listen, &of_green)).await.unwrap();
    let left = process.upstream("blue").await;
    assert!(!left.is_empty && left.requests_in_flight == 1, "{left:?}");

    blue.shared.slow.add_permits(1);
    assert_eq!(slow.await.unwrap().1, "blue");
    wait_until_ended(old).await;
    process.wait_for("blue is gone", |it| it.services[0].upstreams.len() == 1).await;
    assert_eq!(leaving_sockets(&process.socket()), Vec::<String>::new());
}

#[tokio::test]
async fn when_the_old_process_is_killed_in_the_middle_the_new_one_has_all() {
    let blue = Instance::start("blue").await;
    for stops in [true, false] {
        let mut process = Process::start().await;
        let listen = own_address();
        let with = [upstream("blue", blue.address, 1_000)];
        let mut control = process.wait_until_ready().await;
        control.apply(&program(1, listen, &with)).await.unwrap();
        if stops {
            // It hears nothing, so that the new one waits for it.
            process.signal(rustix::process::Signal::STOP);
        } else {
            // It stays until it is killed, as it has something to end.
            ask_slowly(listen).await;
            process
                .wait_for("blue has it", |it| it.services[0].upstreams[0].requests_in_flight == 1)
                .await;
        }
        let new = spawn(&process.dir, &["--take-over"]);
        let mut old = std::mem::replace(&mut process.child, new);
        if !stops {
            let socket = process.socket();
            wait_until("it hands over", || !leaving_sockets(&socket).is_empty()).await;
        }
        old.kill().unwrap();
        old.wait().unwrap();

        process.wait_for("the new one has it", |it| it.leaving == 0).await;
        control.apply(&program(2, listen, &with)).await.unwrap();
        assert_eq!(Client::connect(listen).await.get("/").await.1, "blue");
        let second = spawn(&process.dir, &[]).wait().unwrap();
        assert!(!second.success(), "the lock is held");
    }
}

/// A process that is not this one's child, killed with the test.
struct Stranger(rustix::process::Pid);

impl Drop for Stranger {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _gone = rustix::process::kill_process(self.0, rustix::process::Signal::KILL);
    }
}

#[tokio::test]
async fn told_to_upgrade_it_starts_the_program_anew_and_tells_its_supervisor() {
    let blue = Instance::start("blue").await;
    let dir = tempfile::tempdir().unwrap();
    let heard = UnixDatagram::bind(dir.path().join("notify")).unwrap();
    heard.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
    let child = start(command(&dir, &[]).env("NOTIFY_SOCKET", dir.path().join("notify")));
    let mut process = Process { child, dir };
    let main_pid = || {
        let mut message = [0; 100];
        let length = heard.recv(&mut message).unwrap();
        let text = String::from_utf8_lossy(&message[..length]).into_owned();
        text.strip_prefix("READY=1\nMAINPID=").unwrap().trim().parse::<i32>().unwrap()
    };
    assert_eq!(u32::try_from(main_pid()).unwrap(), process.child.id());
    let mut control = Control::connect(&process.socket()).await.unwrap();
    let listen = own_address();
    let with = [upstream("blue", blue.address, 1_000)];
    control.apply(&program(1, listen, &with)).await.unwrap();

    process.signal(rustix::process::Signal::HUP);
    let new = Stranger(rustix::process::Pid::from_raw(main_pid()).unwrap());

    assert_ne!(new.0, rustix::process::Pid::from_child(&process.child));
    wait_until("the old process ends", || process.child.try_wait().unwrap().is_some()).await;
    assert_eq!(Client::connect(listen).await.get("/").await.1, "blue");
    assert_eq!(control.state().await.unwrap().revision, Some(1));
}

#[tokio::test]
async fn what_stays_as_it_was_does_so_in_the_next_process_too() {
    let mut process = Process::start().await;
    let (listen, theirs) = (own_address(), own_address());
    let stranger = std::net::TcpListener::bind(theirs).unwrap();
    let blue = Instance::start("blue").await;
    let upstreams = [upstream("blue", blue.address, 1_000)];
    let mut control = process.wait_until_ready().await;
    control.apply(&program(1, listen, &upstreams)).await.unwrap();
    control.apply(&program(2, theirs, &upstreams)).await.unwrap();
    assert!(!control.state().await.unwrap().services[0].is_served);

    wait_until_ended(process.take_over().await).await;

    let state = process.state().await;
    let service = &state.services[0];
    assert_eq!((state.revision, service.listen, service.is_served), (Some(2), listen, false));
    assert_eq!(Client::connect(listen).await.get("/").await.1, "blue");

    drop(stranger);
    process.wait_for("the other port is served", |state| state.services[0].is_served).await;
    assert_eq!(Client::connect(theirs).await.get("/").await.1, "blue");
}

#[tokio::test]
async fn a_process_that_could_not_serve_what_is_served_does_not_take_over() {
    let mut process = Process::start().await;
    let (listen, files) = (own_address(), crate::encrypted::Files::new());
    files.renew(1);
    let blue = Instance::start("blue").await;
    let mut secure = program(1, listen, &[upstream("blue", blue.address, 1_000)]);
    let tls = json!({ "certificate": files.certificate(), "key": files.key() });
    secure.services[0].tls = serde_json::from_value(tls).unwrap();
    process.wait_until_ready().await.apply(&secure).await.unwrap();
    std::fs::remove_file(files.key()).unwrap();

    let mut next = spawn(&process.dir, &["--take-over"]);
    wait_until("the next process ends", || next.try_wait().unwrap().is_some()).await;

    assert!(!next.wait().unwrap().success());
    assert!(process.child.try_wait().unwrap().is_none(), "the old one goes on");
    let state = process.state().await;
    assert_eq!((state.leaving, state.services[0].is_served), (0, true));
    assert!(state.services[0].trouble.contains("key.pem"), "{}", state.services[0].trouble);
}
