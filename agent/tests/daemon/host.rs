//! A host: a data directory, the agent's program on it, and the end of everything it started.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};

use cutover_agent::process::{ProcessRuntime, StopSpec};
use cutover_common::StopSignal;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tempfile::TempDir;

use super::coordinator::Coordinator;

/// Longer than anything here takes on a busy machine.
pub const LONG: Duration = Duration::from_secs(60);

const AGENT: &str = env!("CARGO_BIN_EXE_cutover-agent");

pub struct Host {
    dir: TempDir,
    agent: Option<Child>,
}

impl Host {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), agent: None }
    }

    /// A host that has joined and whose agent runs.
    pub async fn joined(coordinator: &Coordinator) -> Self {
        let mut host = Self::new();
        let joined = host.join(coordinator).await;
        assert!(joined.status.success(), "{}", String::from_utf8_lossy(&joined.stderr));
        host.start();
        host
    }

    pub async fn join(&self, coordinator: &Coordinator) -> Output {
        let (url, ca_hash) = (coordinator.url(), coordinator.ca_hash());
        self.run(&[
            "join",
            &url,
            "--token",
            "ctj_good",
            "--ca-hash",
            &ca_hash,
            "--name",
            "web-1",
            "--address",
            "127.0.0.1",
        ])
        .await
    }

    /// Runs the program to its end, with this host's data directory.
    pub async fn run(&self, args: &[&str]) -> Output {
        let mut command = tokio::process::Command::new(AGENT);
        command.args(args).arg("--data").arg(self.data()).kill_on_drop(true);
        let ended = tokio::time::timeout(LONG, command.output()).await;
        ended.expect("the command ends").unwrap()
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The application's own folder.
    pub fn shared(&self) -> PathBuf {
        self.data().join("shared/web")
    }

    pub fn start(&mut self) {
        let log = File::options().create(true).append(true).open(self.log_path()).unwrap();
        let agent = Command::new(AGENT)
            .args(["run", "--data"])
            .arg(self.data())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.agent = Some(agent);
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("agent.log")
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Waits until a process of a release has written its pid into a file of the application's own.
    pub async fn until_noted(&self, file: &str) -> u32 {
        let deadline = Instant::now() + LONG;
        loop {
            let text = fs::read_to_string(self.shared().join(file)).unwrap_or_default();
            if let Some(pid) = text.lines().next().and_then(|line| line.parse().ok()) {
                return pid;
            }
            assert!(Instant::now() < deadline, "nothing is written into {file}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Returns how many lines there are in a file of the application's own.
    pub fn lines(&self, file: &str) -> usize {
        fs::read_to_string(self.shared().join(file)).unwrap_or_default().lines().count()
    }

    /// Waits until there are so many: who runs has not run its first line yet.
    pub async fn until_lines(&self, file: &str, wanted: usize) {
        let deadline = Instant::now() + LONG;
        while self.lines(file) < wanted {
            assert!(Instant::now() < deadline, "{file} has {} lines", self.lines(file));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(self.lines(file), wanted, "lines of {file}");
    }

    /// Ends the agent like a power cut would, and nothing else.
    pub fn kill_agent(&mut self) {
        let mut agent = self.agent.take().expect("the agent runs");
        agent.kill().unwrap();
        agent.wait().unwrap();
    }

    /// Asks the agent to end, and returns its exit status.
    pub fn stop_agent(&mut self) -> ExitStatus {
        let mut agent = self.agent.take().expect("the agent runs");
        let pid = i32::try_from(agent.id()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
        let deadline = Instant::now() + LONG;
        loop {
            if let Some(status) = agent.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the agent does not end on SIGTERM");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends the agent if it runs.
    pub fn end_agent(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            agent.kill().ok();
            agent.wait().ok();
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.end_agent();
        if std::thread::panicking() {
            println!("--- the agent's log\n{}", self.log());
        }
        let data = self.data();
        // On a thread of its own: this one may belong to a runtime.
        let ended = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(end_instances(data));
        });
        ended.join().ok();
    }
}

async fn end_instances(data: PathBuf) {
    let runtime = ProcessRuntime::new(data, AGENT.into()).unwrap();
    for (application, instance) in runtime.list().await.unwrap_or_default() {
        let at_once = StopSpec { signal: StopSignal::Term, grace: Duration::from_millis(1) };
        runtime.stop(&application, instance, at_once).await.ok();
    }
}

pub fn is_alive(pid: u32) -> bool {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    test_kill_process(pid).is_ok()
}
