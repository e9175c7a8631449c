//! The side of the process that takes over.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::{
    Before, Handed, LEFT, SERVING,
    descriptors::{self, Received},
    socket_of,
};
use crate::{
    control::{Asked, LINE_BYTES_MAX},
    gate::Sockets,
    program::{Program, Service},
    state::State,
};

/// How long the old process may take to answer: what it does at the moment may be an fsync.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// How long it is waited for that a process whose sockets are closed is gone.
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// How often that is looked at: all that tells of it is that nobody listens any more where it did, which
/// the kernel announces to nobody.
const GONE_LOOK: Duration = Duration::from_millis(10);

/// Why nothing is taken over. The old process goes on, if it is there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TakeOver {
    #[error("the gate that runs hands nothing over: {0}")]
    Refused(String),
    #[error("the gate that runs is not heard")]
    Broken(#[from] io::Error),
    #[error("what the gate that runs hands over is not understood")]
    NotUnderstood(#[from] serde_json::Error),
    #[error("the gate that runs did not give way, and goes on")]
    Stays,
}

/// Everything that the old process had, and that is its own until [`Taken::serving`].
pub(crate) struct Taken {
    pub(crate) lock: File,
    pub(crate) control: UnixListener,
    pub(crate) sockets: Sockets,
    pub(crate) program: Option<Program>,
    pub(crate) as_they_were: Vec<Service>,
    /// What goes on being counted.
    pub(crate) state: State,
    /// The processes that have something under way, the old one last.
    pub(crate) before: Vec<(Uuid, State)>,
    old: Old,
}

/// The process that is taken over from.
struct Old {
    stream: BufReader<UnixStream>,
    /// Where it can be asked when it has left. It is there before anything is handed over.
    leaving: PathBuf,
}

/// Asks the gate of `data`, which listens at `path`, for all that it has. None: it is not there, or
/// ended before it gave anything.
///
/// # Errors
///
/// When it is there and does not give it.
pub(crate) fn take(data: &Path, path: &Path) -> Result<Option<Taken>, TakeOver> {
    match ask(path) {
        Ok((stream, descriptors, handed)) => {
            let leaving = socket_of(data, handed.process);
            sort(descriptors, handed, Old { stream, leaving }).map(Some)
        }
        // Whether it is gone is for the lock to say.
        Err(TakeOver::Broken(error)) => {
            tracing::info!(%error, "no gate hands anything over");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn ask(path: &Path) -> Result<(BufReader<UnixStream>, Vec<OwnedFd>, Handed), TakeOver> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.set_write_timeout(Some(ANSWER_WITHIN))?;
    let mut line = serde_json::to_vec(&Asked::TakeOver)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let received = descriptors::receive(&stream)?;
    let mut stream = BufReader::new(stream);
    let descriptors = match received {
        Received::Descriptors(descriptors) => descriptors,
        Received::Else(first) => {
            let mut said = vec![first];
            (&mut stream).take(LINE_BYTES_MAX).read_until(b'\n', &mut said)?;
            return Err(TakeOver::Refused(String::from_utf8_lossy(&said).trim().to_owned()));
        }
    };
    let mut line = Vec::new();
    (&mut stream).take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    if !line.ends_with(b"\n") {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok((stream, descriptors, serde_json::from_slice(&line)?))
}

impl Old {
    /// Whether it has ended, and not only gone silent: nobody else may serve then.
    fn is_gone(&self) -> bool {
        let until = Instant::now() + GONE_WITHIN;
        loop {
            match UnixStream::connect(&self.leaving) {
                // Its file is there, and nobody listens any more.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return true,
                Ok(_) if Instant::now() < until => thread::sleep(GONE_LOOK),
                Ok(_) | Err(_) => return false,
            }
        }
    }
}

/// Says which descriptor is what.
fn sort(descriptors: Vec<OwnedFd>, handed: Handed, old: Old) -> Result<Taken, TakeOver> {
    let Handed { listens, program, as_they_were, process, state, before } = handed;
    let missing = || TakeOver::Refused("descriptors are missing".to_owned());
    let mut descriptors = descriptors.into_iter();
    let lock = File::from(descriptors.next().ok_or_else(missing)?);
    let control = UnixListener::from(descriptors.next().ok_or_else(missing)?);
    let mut sockets = Sockets::new();
    for listen in listens {
        let socket = descriptors.next().ok_or_else(missing)?;
        sockets.insert(listen, listener(socket, listen)?);
    }
    let mut before: Vec<_> =
        before.into_iter().map(|Before { process, state }| (process, state)).collect();
    before.push((process, state.clone()));
    Ok(Taken { lock, control, sockets, program, as_they_were, state, before, old })
}

fn listener(socket: OwnedFd, listen: SocketAddr) -> Result<TcpListener, TakeOver> {
    let listens = rustix::net::sockopt::socket_acceptconn(socket.as_fd());
    let socket = TcpListener::from(socket);
    if listens.map_err(io::Error::from)? && socket.local_addr()? == listen {
        return Ok(socket);
    }
    Err(TakeOver::Refused(format!("the socket for {listen} does not listen there")))
}

impl Taken {
    /// Tells the old process that this one accepts clients. After this it is the one that is told
    /// what to do.
    ///
    /// # Errors
    ///
    /// When the old process goes on: this one must end.
    pub(crate) fn serving(&mut self) -> Result<(), TakeOver> {
        let old = &mut self.old;
        let mut said = String::new();
        let told = old.stream.get_mut().write_all(SERVING.as_bytes()).and_then(|()| {
            (&mut old.stream).take(LEFT.len() as u64).read_line(&mut said).map(drop)
        });
        if said == LEFT || old.is_gone() {
            return Ok(());
        }
        tracing::warn!(?told, "the gate that runs says nothing and is not gone");
        Err(TakeOver::Stays)
    }
}
