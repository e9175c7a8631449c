//! Starts a gate that outlives the agent, on hosts whose init system does not.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use cutover_gate::control::{AskGate, Client};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep},
};

/// The gate's program, which is installed beside the agent's.
const PROGRAM: &str = "cutover-gate";

/// What the gate says goes here.
const LOG_FILE: &str = "gate.log";

/// How large its log may be when it is started again. It says a line for each of its troubles.
const LOG_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// From its exec to its control socket: it makes some threads and reads one file.
const START_WITHIN: Duration = Duration::from_secs(5);

/// How often it is tried to reach it until then.
const TRY_EVERY: Duration = Duration::from_millis(5);

/// Why a gate was not started.
#[derive(Debug, thiserror::Error)]
pub enum StartGate {
    #[error("could not find out where this program is")]
    WhereAmI(#[source] io::Error),
    #[error("there is no {}; install cutover-gate beside cutover-agent", .0.display())]
    Missing(PathBuf),
    #[error("could not write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("could not run {}", path.display())]
    Run {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the gate ended with {status} as soon as it was started; see {}", log.display())]
    Ended { status: ExitStatus, log: PathBuf },
    #[error("the gate was started, and cannot be reached; see {}", log.display())]
    Unreachable {
        log: PathBuf,
        #[source]
        source: AskGate,
    },
}

/// The gate's program.
#[derive(Debug)]
pub(super) struct GateProgramFile(PathBuf);

/// A gate that was started.
#[derive(Debug)]
pub(super) struct Started {
    child: Child,
    log: PathBuf,
}

impl GateProgramFile {
    /// Finds it beside this program.
    pub(super) fn find() -> Result<Self, StartGate> {
        let path = std::env::current_exe().map_err(StartGate::WhereAmI)?.with_file_name(PROGRAM);
        if path.is_file() { Ok(Self(path)) } else { Err(StartGate::Missing(path)) }
    }

    /// Starts it, in a process group of its own: what ends the agent does not end it.
    pub(super) fn start(self, gate: &Path) -> Result<Started, StartGate> {
        let Self(path) = self;
        let log = gate.join(LOG_FILE);
        let could_not = |source| StartGate::Write { path: log.clone(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(gate).map_err(could_not)?;
        let is_long = fs::metadata(&log).is_ok_and(|found| found.len() > LOG_BYTES_MAX);
        let says = OpenOptions::new()
            .create(true)
            .write(true)
            .append(!is_long)
            .truncate(is_long)
            .mode(0o600)
            .open(&log)
            .map_err(could_not)?;
        let child = Command::new(&path)
            .args(["run", "--data"])
            .arg(gate)
            .env_clear()
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(says)
            .spawn()
            .map_err(|source| StartGate::Run { path, source })?;
        tracing::info!(pid = child.id(), "the gate is started");
        Ok(Started { child, log })
    }
}

impl Started {
    /// Waits until it can be told something.
    pub(super) async fn connect(self, socket: &Path) -> Result<Client, StartGate> {
        let Self { mut child, log } = self;
        let deadline = Instant::now() + START_WITHIN;
        let client = loop {
            let ended = child.try_wait().ok().flatten();
            match Client::connect(socket).await {
                Ok(client) => break client,
                Err(source) if Instant::now() >= deadline => {
                    return Err(StartGate::Unreachable { log, source });
                }
                // One that ended found another gate there, which is as good, or cannot run.
                Err(_) => match ended {
                    Some(status) => return Err(StartGate::Ended { status, log }),
                    None => sleep(TRY_EVERY).await,
                },
            }
        };
        // Only to take its exit status, so that no zombie is left.
        tokio::spawn(async move { drop(child.wait().await) });
        Ok(client)
    }
}
