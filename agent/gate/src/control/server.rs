//! The gate's side of its control socket.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use cutover_common::ErrorChain;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::{Mutex, Semaphore},
};

use super::{Applied, Asked, LINE_BYTES_MAX, Said};
use crate::{
    gate::{Gate, Sockets},
    keep,
    program::Program,
};

/// How many may be connected: the agent, and a person or two who look.
const CONNECTIONS_MAX: usize = 16;

/// Why nobody can tell this gate anything.
#[derive(Debug, thiserror::Error)]
#[error("the control socket {} cannot be made", path.display())]
pub(crate) struct OpenSocket {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Listens to those who tell the gate what to do.
#[derive(Debug)]
pub(crate) struct Server {
    listener: UnixListener,
    /// Whose word counts, beside root's.
    owner: u32,
    gate: Arc<Mutex<Gate>>,
    data: PathBuf,
    places: Arc<Semaphore>,
}

impl Server {
    /// Listens at `path`. Whoever holds the lock of `data` may take it from a gate before it.
    pub(crate) fn open(
        path: &Path,
        data: &Path,
        gate: Arc<Mutex<Gate>>,
    ) -> Result<Self, OpenSocket> {
        let failed = |source| OpenSocket { path: path.to_owned(), source };
        let (listener, owner) = listen(path).map_err(failed)?;
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        Ok(Self { listener, owner, gate, data: data.to_owned(), places })
    }

    /// Serves for ever.
    pub(crate) async fn run(self) {
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "nobody can be accepted at the control socket");
                    tokio::time::sleep(crate::tcp::ACCEPT_REST).await;
                    continue;
                }
            };
            if !self.may(&stream) {
                continue;
            }
            let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
                tracing::warn!("too many are connected to the control socket");
                continue;
            };
            let (gate, data) = (Arc::clone(&self.gate), self.data.clone());
            tokio::spawn(async move {
                if let Err(error) = converse(stream, &gate, &data).await {
                    tracing::debug!(%error, "a conversation at the control socket broke");
                }
                drop(place);
            });
        }
    }

    /// The file's mode says so already; this does not rest on it.
    fn may(&self, stream: &UnixStream) -> bool {
        let uid = stream.peer_cred().map(|peer| peer.uid());
        let may = matches!(uid, Ok(uid) if uid == self.owner || uid == 0);
        if !may {
            tracing::warn!(?uid, "somebody else is sent away from the control socket");
        }
        may
    }
}

/// Makes the socket under another name first: it is never there with a wider mode.
fn listen(path: &Path) -> io::Result<(UnixListener, u32)> {
    let beside = path.with_extension("new");
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&beside)?;
    fs::set_permissions(&beside, fs::Permissions::from_mode(0o600))?;
    let owner = fs::metadata(&beside)?.uid();
    fs::rename(&beside, path)?;
    Ok((listener, owner))
}

async fn converse(stream: UnixStream, gate: &Mutex<Gate>, data: &Path) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        (&mut stream).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await?;
        if line.is_empty() {
            return Ok(());
        }
        let is_whole = line.ends_with(b"\n");
        let said = match serde_json::from_slice::<Asked>(&line) {
            Ok(asked) if is_whole => answer(asked, gate, data).await,
            Ok(_) => Said::Refused("the line has no end".to_owned()),
            Err(error) => Said::Refused(format!("this is not understood: {error}")),
        };
        let mut line = serde_json::to_vec(&said)?;
        line.push(b'\n');
        stream.get_mut().write_all(&line).await?;
        if !is_whole {
            return Ok(());
        }
    }
}

async fn answer(asked: Asked, gate: &Mutex<Gate>, data: &Path) -> Said {
    match asked {
        Asked::State => Said::State(gate.lock().await.state()),
        Asked::Apply(program) => apply(*program, gate, data).await,
    }
}

async fn apply(program: Program, gate: &Mutex<Gate>, data: &Path) -> Said {
    // Held until it is kept: what is on disk is what was followed last.
    let mut gate = gate.lock().await;
    if let Err(error) = gate.apply(&program, &mut Sockets::new()) {
        return Said::Refused(ErrorChain(&error).to_string());
    }
    let (id, revision) = (gate.state().gate, program.revision);
    let data = data.to_owned();
    let kept = tokio::task::spawn_blocking(move || keep::write(&data, &program)).await;
    let is_kept = match kept {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::error!(error = %ErrorChain(&error), "the program is followed and cannot be kept");
            false
        }
        Err(error) => {
            tracing::error!(%error, "the program is followed and was not kept");
            false
        }
    };
    Said::Applied(Applied { gate: id, revision, is_kept })
}
