//! The program `cutover-gate`: a gate with its files, its control socket and its signals.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    num::NonZeroUsize,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use cutover_common::ErrorChain;
use cutover_runtime::{
    shutdown::Shutdown,
    tls::files::{self, WriteFile},
};
use tokio::{sync::Mutex, time::Instant};

use crate::{
    control::{OpenSocket, Server},
    gate::{Gate, Sockets, StartGate},
    keep,
};

/// The control socket, in the gate's directory.
pub const SOCKET_FILE: &str = "gate.sock";

const LOCK_FILE: &str = "gate.lock";

/// How long requests may take to end when the gate is told to: what init systems grant, less a
/// little.
const END_WITHIN: Duration = Duration::from_secs(60);

/// How often it is looked whether the last request has ended.
const END_LOOK: Duration = Duration::from_millis(20);

/// What a gate is run with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The gate's directory. Made if it is not there.
    pub data: PathBuf,
    /// How many cores it uses.
    pub shards: NonZeroUsize,
}

/// Why a gate does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunGate {
    #[error("the gate's directory cannot be made")]
    Directory(#[from] WriteFile),
    #[error("another gate runs in {}; end it, or choose another --data", .0.display())]
    Taken(PathBuf),
    #[error("the lock {} cannot be taken", path.display())]
    Lock {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Start(#[from] StartGate),
    #[error("the gate cannot be told anything")]
    Socket(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Runs a gate until `shutdown` is requested, and then until its last request has ended.
///
/// It follows the last program at once, as nobody may be there to tell it anew.
///
/// # Errors
///
/// When it cannot start. A kept program that cannot be followed is logged: the gate is there to be
/// told another.
pub async fn run(settings: Settings, shutdown: Shutdown) -> Result<(), RunGate> {
    let Settings { data, shards } = settings;
    files::create_private_dir(&data)?;
    let _lock = lock(&data)?;
    let mut gate = Gate::start(shards)?;
    follow_kept(&mut gate, &data);
    let gate = Arc::new(Mutex::new(gate));
    let server = Server::open(&data.join(SOCKET_FILE), &data, Arc::clone(&gate))
        .map_err(|error: OpenSocket| RunGate::Socket(Box::new(error)))?;
    tracing::info!(data = %data.display(), %shards, "the gate is ready");
    tokio::select! {
        () = server.run() => {}
        () = shutdown.requested() => {}
    }
    let mut gate = gate.lock().await;
    gate.close();
    let until = Instant::now() + END_WITHIN;
    while gate.connections() > 0 && Instant::now() < until {
        tokio::time::sleep(END_LOOK).await;
    }
    tracing::info!(cut = gate.connections(), "the gate ends");
    Ok(())
}

fn follow_kept(gate: &mut Gate, data: &Path) {
    let program = match keep::read(data) {
        Ok(Some(program)) => program,
        Ok(None) => return,
        Err(error) => {
            tracing::error!(
                error = %ErrorChain(&error),
                "nothing is served before somebody says what"
            );
            return;
        }
    };
    match gate.apply(&program, &mut Sockets::new()) {
        Ok(()) => tracing::info!(revision = program.revision, "following the kept program"),
        Err(error) => tracing::error!(
            error = %ErrorChain(&error),
            "the kept program cannot be followed; nothing is served before somebody says what"
        ),
    }
}

/// Takes the directory for this process, for as long as the file is open.
fn lock(data: &Path) -> Result<File, RunGate> {
    let path = data.join(LOCK_FILE);
    let opened =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = opened.map_err(|source| RunGate::Lock { path: path.clone(), source })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(RunGate::Taken(data.to_owned())),
        Err(TryLockError::Error(source)) => Err(RunGate::Lock { path, source }),
    }
}
