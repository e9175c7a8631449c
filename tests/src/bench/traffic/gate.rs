//! A real gate's process, told what to do as the agent tells it.

use std::{
    fs::File,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use cutover_gate::{Program, State, UpstreamState, control::Client, daemon::SOCKET_FILE};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tempfile::TempDir;

use super::{LOOK_EVERY, UP_WITHIN, beside, own_address};

/// How long an upstream may take until it is empty.
const EMPTY_WITHIN: Duration = Duration::from_secs(60);

/// Where requests go: name, address, weight, and the limits of its drain, in milliseconds.
pub(super) type Way<'a> = (&'a str, SocketAddr, u16, Option<[u32; 2]>);

/// A running gate. Ended when it is dropped.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) listen: SocketAddr,
    control: Client,
    revision: u64,
    processes: Vec<Child>,
    dir: TempDir,
}

impl Gate {
    /// Starts one with two cores, and waits until it takes a program.
    pub(super) async fn start() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let child = spawn(&dir, &[])?;
        let processes = vec![child];
        let control = connect(&dir.path().join("gate").join(SOCKET_FILE)).await;
        let listen = own_address()?;
        match control {
            Ok(control) => Ok(Self { listen, control, revision: 0, processes, dir }),
            Err(error) => {
                processes.into_iter().for_each(end);
                Err(error)
            }
        }
    }

    /// Returns the pid of the process that accepts.
    pub(super) fn pid(&self) -> u32 {
        self.processes.last().map_or(0, Child::id)
    }

    /// Has it follow `ways`; returns when it does.
    pub(super) async fn follow(&mut self, ways: &[Way<'_>]) -> Result<()> {
        self.revision += 1;
        let upstreams: Vec<_> = ways
            .iter()
            .map(|(name, address, weight, drain)| {
                let mut upstream = json!({
                    "name": name, "address": address, "weight": weight, "is_healthy": true,
                });
                if let Some([requests, long_lived]) = drain {
                    upstream["drain"] =
                        json!({ "requests_ms": requests, "long_lived_ms": long_lived });
                }
                upstream
            })
            .collect();
        let program: Program = serde_json::from_value(json!({
            "revision": self.revision,
            "services": [{
                "application": "bench", "listen": self.listen, "protocol": "http",
                "route": { "flow": "open", "upstreams": upstreams },
            }],
        }))?;
        self.control.apply(&program).await?;
        Ok(())
    }

    pub(super) async fn upstream(&mut self, name: &str) -> Result<UpstreamState> {
        let State { services, .. } = self.control.state().await?;
        let service = services.into_iter().next().context("the gate has one service")?;
        let found = service.upstreams.into_iter().find(|it| it.name.as_str() == name);
        found.with_context(|| format!("the gate has no upstream {name}"))
    }

    /// Waits until `name` has nothing and can get nothing.
    pub(super) async fn is_empty(&mut self, name: &str) -> Result<()> {
        let begun = Instant::now();
        loop {
            let state = self.upstream(name).await?;
            if state.is_empty {
                return Ok(());
            }
            ensure!(begun.elapsed() < EMPTY_WITHIN, "{name} is never empty: {state:?}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Starts another process that takes over; returns when it has.
    pub(super) async fn upgrade(&mut self) -> Result<()> {
        let child = spawn(&self.dir, &["--take-over"])?;
        let old = self.processes.len() - 1;
        self.processes.push(child);
        let begun = Instant::now();
        loop {
            let has_ended = self.processes[old].try_wait()?.is_some();
            // While it is handed over, nobody may answer.
            let leaving = self.control.state().await.map_or(0, |state| state.leaving);
            if leaving > 0 || has_ended {
                return Ok(());
            }
            ensure!(begun.elapsed() < UP_WITHIN, "the new gate never takes over");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until all processes that were taken over from have ended.
    pub(super) async fn is_alone(&mut self, within: Duration) -> Result<bool> {
        let begun = Instant::now();
        let last = self.processes.len() - 1;
        for child in &mut self.processes[..last] {
            while child.try_wait()?.is_none() {
                if begun.elapsed() > within {
                    return Ok(false);
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        Ok(true)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.processes.drain(..).for_each(end);
    }
}

fn end(mut child: Child) {
    // Fails only when it has ended already.
    let _asked = kill_process(Pid::from_child(&child), Signal::KILL);
    drop(child.wait());
}

fn spawn(dir: &TempDir, arguments: &[&str]) -> Result<Child> {
    let log = File::options().create(true).append(true).open(dir.path().join("log"))?;
    Command::new(beside("cutover-gate")?)
        .args(["run", "--cores", "2", "--data"])
        .arg(dir.path().join("gate"))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .context("cutover-gate can be started")
}

async fn connect(socket: &Path) -> Result<Client> {
    let begun = Instant::now();
    loop {
        match Client::connect(socket).await {
            Ok(client) => return Ok(client),
            Err(error) => ensure!(begun.elapsed() < UP_WITHIN, "the gate never listens: {error}"),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
