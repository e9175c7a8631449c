//! The gate's side of its control socket.

use std::{
    fs, io,
    os::unix::{fs::PermissionsExt as _, net::UnixListener as StdListener},
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::{Mutex, Semaphore, watch},
};

use super::{Asked, LINE_BYTES_MAX, Said};
use crate::{duty::Duty, handover};

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
    duty: Arc<Mutex<Duty>>,
    /// It speaks for a process that has left.
    has_left: bool,
    /// Nobody is accepted while this is handed over: who comes now is for the next process.
    rests: Arc<watch::Sender<bool>>,
    places: Arc<Semaphore>,
}

impl Server {
    /// Listens at the control socket.
    pub(crate) fn new(listener: StdListener, duty: Arc<Mutex<Duty>>) -> io::Result<Self> {
        Self::on(listener, duty, false)
    }

    /// Listens at `path` for a process that has left.
    pub(crate) fn open_leaving(path: &Path, duty: Arc<Mutex<Duty>>) -> Result<Self, OpenSocket> {
        let failed = |source| OpenSocket { path: path.to_owned(), source };
        Self::on(listen(path)?, duty, true).map_err(failed)
    }

    fn on(listener: StdListener, duty: Arc<Mutex<Duty>>, has_left: bool) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        // Its file was made by this user, or by the process that was taken over from.
        let owner = rustix::process::geteuid().as_raw();
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let rests = Arc::new(watch::Sender::new(false));
        Ok(Self { listener, owner, duty, has_left, rests, places })
    }

    /// Serves for ever.
    pub(crate) async fn run(self) {
        let mut rests = self.rests.subscribe();
        loop {
            if rests.wait_for(|rests| !rests).await.is_err() {
                return;
            }
            let accepted = tokio::select! {
                biased;
                _ = rests.wait_for(|rests| *rests) => continue,
                accepted = self.listener.accept() => accepted,
            };
            let stream = match accepted {
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
            let (duty, has_left) = (Arc::clone(&self.duty), self.has_left);
            let rests = Arc::clone(&self.rests);
            tokio::spawn(async move {
                if let Err(error) = converse(stream, duty, has_left, &rests).await {
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

/// Makes a socket at `path`, in the place of one that is there: under another name first, so that it
/// is never there with a wider mode.
pub(crate) fn listen(path: &Path) -> Result<StdListener, OpenSocket> {
    let make = || {
        let beside = path.with_extension("new");
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let listener = StdListener::bind(&beside)?;
        fs::set_permissions(&beside, fs::Permissions::from_mode(0o600))?;
        fs::rename(&beside, path)?;
        Ok(listener)
    };
    make().map_err(|source| OpenSocket { path: path.to_owned(), source })
}

async fn converse(
    stream: UnixStream,
    duty: Arc<Mutex<Duty>>,
    has_left: bool,
    rests: &watch::Sender<bool>,
) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        (&mut stream).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await?;
        if line.is_empty() {
            return Ok(());
        }
        let is_whole = line.ends_with(b"\n");
        let mut number = None;
        let said = match serde_json::from_slice::<Asked>(&line) {
            Ok(Asked::TakeOver) if is_whole && !has_left => {
                rests.send_replace(true);
                let handed = handover::hand_over(stream.into_inner(), duty).await;
                rests.send_replace(handed.is_ok());
                return handed;
            }
            Ok(asked) if is_whole => {
                let mut duty = duty.lock().await;
                if duty.has_left() != has_left {
                    // Without an answer: whoever asks again reaches the process that took over.
                    return Ok(());
                }
                let said = answer(asked, &mut duty).await;
                number = Some(duty.asked());
                said
            }
            Ok(_) => Said::Refused("the line has no end".to_owned()),
            Err(error) => Said::Refused(format!("this is not understood: {error}")),
        };
        let mut line = serde_json::to_vec(&said)?;
        line.push(b'\n');
        stream.get_mut().write_all(&line).await?;
        if let Some(number) = number {
            duty.lock().await.was_told(number);
        }
        if !is_whole {
            return Ok(());
        }
    }
}

/// The gate is held until it is done: what is on disk is what was followed last.
async fn answer(asked: Asked, duty: &mut Duty) -> Said {
    match asked {
        Asked::State => Said::State(duty.state().await),
        Asked::Apply(program) => duty.apply(*program).await,
        Asked::TakeOver => Said::Refused("this process has left".to_owned()),
    }
}
