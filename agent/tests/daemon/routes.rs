//! Two releases beside each other behind the real gate, under clients that ask all the time: what
//! is held goes on where the next goal says, or where it was.

use std::{
    fs,
    net::{SocketAddr, TcpListener as StdListener},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use cutover_common::{
    Health, HoldLimits, HoldState, Limits, Permille, ProbePort, ProbeSpec, ProbeTarget, Protocol,
    Release, Report, Route, RouteMode, Service, Slot, SlotGoal, Slots, Swap, Traffic,
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

use super::{
    coordinator::Coordinator,
    host::{Host, LONG},
};

/// One answer that a client got.
#[derive(Debug)]
struct Answer {
    asked: Instant,
    ended: Instant,
    text: String,
}

/// Clients that ask until they are stopped.
struct Clients {
    are_done: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    tasks: JoinSet<Vec<Answer>>,
}

impl Clients {
    fn ask(address: SocketAddr) -> Self {
        let are_done = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        for client in 0..8 {
            // Some take long, so that what is under way has to be waited for.
            let target = if client % 2 == 0 { "/" } else { "/slow?ms=200" };
            let (are_done, answered) = (Arc::clone(&are_done), Arc::clone(&answered));
            tasks.spawn(async move {
                let mut answers = Vec::new();
                while !are_done.load(Ordering::Relaxed) {
                    let asked = Instant::now();
                    let text = get(address, target).await;
                    answers.push(Answer { asked, ended: Instant::now(), text });
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                answers
            });
        }
        Self { are_done, answered, tasks }
    }

    /// Waits until they have been answered so often.
    async fn until_answered(&self, wanted: usize) {
        let deadline = Instant::now() + LONG;
        while self.answered.load(Ordering::Relaxed) < wanted {
            assert!(Instant::now() < deadline, "the clients are not answered");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends them, and returns what they were answered by, in order. Each answer was a good one.
    async fn end(self) -> Vec<(Answer, char)> {
        self.are_done.store(true, Ordering::Relaxed);
        let mut answers: Vec<Answer> = self.tasks.join_all().await.into_iter().flatten().collect();
        answers.sort_by_key(|answer| answer.ended);
        let version = |answer: Answer| {
            let is_good = answer.text.starts_with("HTTP/1.1 200 ");
            let version = answer.text.split_once("web ").and_then(|(_, web)| web.chars().next());
            assert!(is_good && version.is_some(), "a request failed: {answer:?}");
            (answer, version.unwrap())
        };
        answers.into_iter().map(version).collect()
    }
}

async fn get(address: SocketAddr, target: &str) -> String {
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {target} HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok::<_, std::io::Error>(text)
    };
    match tokio::time::timeout(LONG, ask).await {
        Ok(Ok(text)) => text,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer".to_owned(),
    }
}

/// The application on one host, with its gate.
struct Stage {
    coordinator: Coordinator,
    host: Host,
    one: Release,
    two: Release,
    address: SocketAddr,
    /// Of the goal that is followed.
    generation: u64,
}

impl Stage {
    /// Release 1 serves in blue, and 2 has settled beside it in green.
    async fn set() -> Self {
        let coordinator = Coordinator::start().await;
        let host = Host::joined(&coordinator).await;
        let address = StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (one, two) =
            (served(&coordinator, "1", address.port()), served(&coordinator, "2", address.port()));
        let mut stage = Self { coordinator, host, one, two, address, generation: 0 };
        let leads = |slot| {
            move |report: &Report| {
                let slot: &cutover_common::SlotReport = report.slots.of(slot);
                slot.health == Health::Settled && slot.traffic == Traffic::Here
            }
        };
        stage.lead(Slot::Blue, RouteMode::Open);
        stage.until("release 1 serves", leads(Slot::Blue)).await;
        let has_settled = |report: &Report| report.slots.green.health == Health::Settled;
        stage.until("release 2 has settled beside it", has_settled).await;
        stage
    }

    /// Asks for another goal, in which both releases run.
    fn lead(&mut self, to: Slot, mode: RouteMode) {
        self.generation += 1;
        let running = |release: &Release| SlotGoal::Running(release.clone().into());
        let slots = Slots { blue: running(&self.one), green: running(&self.two) };
        let route = Route { to, share: Permille::NONE, allow: None, mode };
        self.coordinator.assign_led(self.generation, slots, Some(route));
    }

    /// Waits for a report that speaks of the last goal.
    async fn until(&self, what: &str, wanted: impl Fn(&Report) -> bool) -> Report {
        let is_of_goal = |report: &Report| report.fence.generation.0 == self.generation;
        self.coordinator.until(what, |report| is_of_goal(report) && wanted(report)).await
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // First, or it would start another one.
        self.host.end_agent();
        end_gate(&self.host.data().join("gate"));
    }
}

/// Ends the gate of this folder: nobody else has it.
fn end_gate(data: &Path) {
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let Ok(command) = fs::read(process.path().join("cmdline")) else { continue };
        let args: Vec<&[u8]> = command.split(|byte| *byte == 0).collect();
        if args.contains(&data.to_str().unwrap().as_bytes()) {
            kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).ok();
        }
    }
}

/// The program that serves, built beside the one under test.
fn sample() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_cutover-agent")).with_file_name("cutover-sample");
    assert!(path.is_file(), "{} is not built; run: make test", path.display());
    path
}

fn served(coordinator: &Coordinator, version: &str, port: u16) -> Release {
    let mut release = coordinator.release_of(version, |folder| {
        fs::copy(sample(), folder.join("server")).unwrap();
    });
    let args = ["./server", "--address", "$ADDRESS", "--port", "$PORT"];
    release.run.command = args.into_iter().map(str::to_owned).collect();
    release.run.command.extend(["--version-file".to_owned(), "VERSION".to_owned()]);
    release.probe = Some(ProbeSpec {
        target: ProbeTarget::Http { port: ProbePort::Instance, path: "/healthz".to_owned() },
        every: Duration::from_millis(100),
        timeout: Duration::from_secs(5),
        passes: 2,
        failures: 50,
        start_within: LONG,
    });
    release.service = Some(Service {
        port,
        protocol: Protocol::Http,
        swap: Swap::Beside,
        drain: Duration::from_secs(30),
        drain_long_lived: Duration::from_secs(30),
        keep_warm: Duration::ZERO,
        tls: None,
        sticky: None,
        proxy_protocol: false,
        trusted_peers: Vec::new(),
        limits: Limits::default(),
    });
    release
}

fn limits(within: Duration) -> HoldLimits {
    HoldLimits { within, requests: 1_000, bytes: 1 << 20 }
}

fn is_drained(report: &Report) -> bool {
    report.hold == HoldState::Drained
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_is_answered_by_the_new_version_and_nothing_by_the_old_one_after() {
    let mut stage = Stage::set().await;
    let clients = Clients::ask(stage.address);
    clients.until_answered(2).await;
    // Long enough for an agent that begins again on a busy machine.
    let limits = limits(LONG);

    stage.lead(Slot::Blue, RouteMode::Hold(limits));
    stage.until("what is new is held, and what was under way has ended", is_drained).await;
    stage.lead(Slot::Blue, RouteMode::Armed(limits));
    stage.until("it is armed", is_drained).await;
    stage.host.kill_agent();
    stage.host.start();
    stage.until("it is held by the next process too", is_drained).await;
    stage.lead(Slot::Green, RouteMode::Open);
    let is_open = |report: &Report| {
        report.hold == HoldState::Open && report.slots.green.traffic == Traffic::Here
    };
    stage.until("release 2 has it all", is_open).await;
    // What is asked from here on is answered by it, too.
    let after = get(stage.address, "/").await;

    let answers = clients.end().await;
    assert!(after.contains("web 2 "), "{after}");
    let versions: String = answers.iter().map(|(_, version)| *version).collect();
    let (old, new) = versions.split_at(versions.find('2').expect("the new version answers"));
    assert!(old.len() > 1 && !new.contains('1'), "old and new answer in turns: {versions}");
    // Of each client one request was held meanwhile.
    let flip = answers[old.len()].0.ended;
    let held = answers[old.len()..].iter().filter(|(answer, _)| answer.asked < flip).count();
    assert!(held >= 8, "{held} were held");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_nobody_arms_is_released_to_the_old_version_and_no_request_fails() {
    let mut stage = Stage::set().await;
    let clients = Clients::ask(stage.address);
    // From 4 s on there is a whole second to let go; and clients have some to come into the hold.
    let within = Duration::from_secs(10);

    stage.lead(Slot::Blue, RouteMode::Hold(limits(within)));
    stage.until("what is new is held", is_drained).await;
    let released = |report: &Report| {
        let detail = &report.slots.blue.detail;
        report.hold == HoldState::Open && detail.contains("released, as no other goal came")
    };
    stage.until("it is released", released).await;
    stage.coordinator.go_away();

    let answers = clients.end().await;
    assert!(answers.iter().all(|(_, version)| *version == '1'));
    let longest = answers.iter().map(|(answer, _)| answer.ended - answer.asked).max().unwrap();
    // It was asked when the hold began, or a little later.
    assert!(longest > within / 2, "the longest wait was {longest:?}");
}
