//! The side of those who tell a gate what to do.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
    time::timeout,
};

use super::{Applied, Asked, LINE_BYTES_MAX, Said};
use crate::{program::Program, state::State};

/// How long an answer may take: binding sockets and one fsync.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// A connection to a gate.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    stream: BufReader<UnixStream>,
}

/// Why a gate did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum AskGate {
    #[error("no gate can be reached at {}; is cutover-gate running?", path.display())]
    Connect {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the connection to the gate at {} broke", path.display())]
    Broken {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the gate refuses: {0}")]
    Refused(String),
    #[error("the gate answers something else than it was asked; is it of another version?")]
    Unexpected,
}

impl Client {
    /// Connects to the gate that listens at `path`.
    ///
    /// # Errors
    ///
    /// When nobody listens there, or not to this user.
    pub async fn connect(path: &Path) -> Result<Self, AskGate> {
        let stream = UnixStream::connect(path)
            .await
            .map_err(|source| AskGate::Connect { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), stream: BufReader::new(stream) })
    }

    /// Has the gate follow `program`.
    ///
    /// # Errors
    ///
    /// When it is refused; nothing has changed then. When the connection breaks nobody knows.
    pub async fn apply(&mut self, program: &Program) -> Result<Applied, AskGate> {
        match self.ask(&Asked::Apply(Box::new(program.clone()))).await? {
            Said::Applied(applied) => Ok(applied),
            Said::Refused(why) => Err(AskGate::Refused(why)),
            Said::State(_) => Err(AskGate::Unexpected),
        }
    }

    /// Asks what the gate does at this moment.
    ///
    /// # Errors
    ///
    /// When the connection breaks.
    pub async fn state(&mut self) -> Result<State, AskGate> {
        match self.ask(&Asked::State).await? {
            Said::State(state) => Ok(state),
            Said::Refused(why) => Err(AskGate::Refused(why)),
            Said::Applied(_) => Err(AskGate::Unexpected),
        }
    }

    /// Whatever is asked can be asked twice. So it is when the connection breaks: the process at its
    /// other end may have been replaced by another one, which is asked then.
    async fn ask(&mut self, asked: &Asked) -> Result<Said, AskGate> {
        match self.ask_once(asked).await {
            Err(AskGate::Broken { source, .. }) if source.kind() != io::ErrorKind::TimedOut => {
                let Self { stream, .. } = Self::connect(&self.path).await?;
                self.stream = stream;
                self.ask_once(asked).await
            }
            said => said,
        }
    }

    async fn ask_once(&mut self, asked: &Asked) -> Result<Said, AskGate> {
        let said = timeout(ANSWER_WITHIN, self.exchange(asked)).await;
        let said = said.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        said.map_err(|source| AskGate::Broken { path: self.path.clone(), source })
    }

    async fn exchange(&mut self, asked: &Asked) -> io::Result<Said> {
        let mut line = serde_json::to_vec(asked)?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line).await?;
        line.clear();
        (&mut self.stream).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await?;
        if line.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_slice(&line)?)
    }
}
