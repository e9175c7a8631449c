//! Logs: sends what instances and hooks have said to an operator who asked the coordinator for it.
//!
//! Each reading is a call of its own beside the session, so that a slow reader holds up nothing.

use std::{
    io::{self, SeekFrom},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use cutover_common::{Slot, wire::LogQuery};
use cutover_proto::v1::{self as pb, agent_link_client::AgentLinkClient};
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncSeekExt as _},
    sync::mpsc,
    task::JoinSet,
    time::sleep,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use uuid::Uuid;

use crate::process::LogFiles;

/// How many readings one session serves at a time; each is a task, a file and a few pieces.
const READINGS_MAX: usize = 16;

/// How much one piece carries, in bytes.
const PIECE_BYTES: usize = 32 * 1024;

/// How many pieces of one reading may wait for the network.
const PIECES_MAX: usize = 4;

/// How far back the last lines are looked for, in bytes: what is kept of one hook.
const TAIL_BYTES_MAX: u64 = crate::process::KEPT_BYTES_MAX as u64 + 1024;

/// How often a file that is followed is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Serves the readings of one session, and ends them with it.
pub(super) struct Readings {
    files: LogFiles,
    link: AgentLinkClient<Channel>,
    tasks: JoinSet<()>,
}

impl Readings {
    pub(super) fn new(files: LogFiles, link: AgentLinkClient<Channel>) -> Self {
        Self { files, link, tasks: JoinSet::new() }
    }

    /// Begins to send what is wanted.
    pub(super) fn begin(&mut self, id: Uuid, query: LogQuery) {
        while self.tasks.try_join_next().is_some() {}
        let is_full = self.tasks.len() >= READINGS_MAX;
        let (files, mut link) = (self.files.clone(), self.link.clone());
        self.tasks.spawn(async move {
            let (pieces, outgoing) = mpsc::channel(PIECES_MAX);
            let reading = async move {
                let reader = Reader { id, pieces };
                if is_full {
                    reader.trouble("this agent is read by too many; try again later").await;
                } else {
                    reader.read(&files, query).await;
                }
            };
            let (sent, ()) = tokio::join!(link.send_log(ReceiverStream::new(outgoing)), reading);
            if let Err(status) = sent {
                tracing::debug!(message = status.message(), "a log was not read to its end");
            }
        });
    }
}

struct Reader {
    id: Uuid,
    pieces: mpsc::Sender<pb::LogPiece>,
}

/// Nobody reads any more.
struct Gone;

impl Reader {
    async fn read(&self, files: &LogFiles, query: LogQuery) {
        let Some((slot, path)) = latest(files, &query).await else {
            let what = query.hook.map_or("log".to_owned(), |kind| format!("output of {kind}"));
            return self.trouble(&format!("no {what} of {} is kept", query.application)).await;
        };
        if let Err(error) = self.send_file(slot, &path, &query).await {
            self.trouble(&format!("could not read the log: {error}")).await;
        }
    }

    async fn send_file(&self, slot: Slot, path: &Path, query: &LogQuery) -> io::Result<()> {
        let mut file = File::open(path).await?;
        let from = match query.lines {
            Some(lines) => start_of_last(&mut file, lines).await?,
            None => 0,
        };
        let mut at = file.seek(SeekFrom::Start(from)).await?;
        // Also of an empty file: the reader is told that it was found.
        let mut piece = pb::LogPiece { slot: slot.to_string(), ..self.piece() };
        if self.pieces.send(piece.clone()).await.is_err() {
            return Ok(());
        }
        let mut buffer = vec![0; PIECE_BYTES];
        loop {
            match file.read(&mut buffer).await? {
                0 if !query.follow => return Ok(()),
                0 => {
                    if self.wait().await.is_err() {
                        return Ok(());
                    }
                    // The file may have been put aside for a new one, or been written anew.
                    if is_another(&file, path, at).await? {
                        file = File::open(path).await?;
                        at = 0;
                    }
                }
                length => {
                    at += length as u64;
                    piece.data = buffer[..length].to_vec();
                    if self.pieces.send(piece.clone()).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Waits for more to be written.
    async fn wait(&self) -> Result<(), Gone> {
        tokio::select! {
            () = self.pieces.closed() => Err(Gone),
            () = sleep(LOOK_EVERY) => Ok(()),
        }
    }

    async fn trouble(&self, text: &str) {
        let piece = pb::LogPiece { trouble: text.to_owned(), ..self.piece() };
        // Not received: nobody reads any more.
        drop(self.pieces.send(piece).await);
    }

    fn piece(&self) -> pb::LogPiece {
        pb::LogPiece { id: self.id.to_string(), ..pb::LogPiece::default() }
    }
}

/// Returns the file that is wanted: of the given slot, or the one that was written last.
async fn latest(files: &LogFiles, query: &LogQuery) -> Option<(Slot, PathBuf)> {
    let mut found: Option<(std::time::SystemTime, Slot, PathBuf)> = None;
    for slot in Slot::ALL.into_iter().filter(|slot| query.slot.is_none_or(|it| it == *slot)) {
        let path = match query.hook {
            Some(kind) => files.hook(&query.application, slot, kind),
            None => files.instance(&query.application, slot),
        };
        let Ok(metadata) = tokio::fs::metadata(&path).await else { continue };
        let Ok(written) = metadata.modified() else { continue };
        if found.as_ref().is_none_or(|(latest, _, _)| written > *latest) {
            found = Some((written, slot, path));
        }
    }
    found.map(|(_, slot, path)| (slot, path))
}

/// Returns where the last `lines` lines begin.
async fn start_of_last(file: &mut File, lines: u32) -> io::Result<u64> {
    let end = file.metadata().await?.len();
    let from = end.saturating_sub(TAIL_BYTES_MAX);
    file.seek(SeekFrom::Start(from)).await?;
    let mut tail = Vec::new();
    (&mut *file).take(end - from).read_to_end(&mut tail).await?;
    let within = tail.strip_suffix(b"\n").unwrap_or(&tail);
    let breaks = within.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
    let nth = usize::try_from(lines).unwrap_or(usize::MAX).saturating_sub(1);
    let start = breaks.map(|(at, _)| at + 1).nth(nth).unwrap_or(0);
    Ok(from + start as u64)
}

/// Returns whether what is at `path` is not the file that was read up to `at`, or shorter.
async fn is_another(file: &File, path: &Path, at: u64) -> io::Result<bool> {
    let Ok(there) = tokio::fs::metadata(path).await else { return Ok(false) };
    Ok(there.ino() != file.metadata().await?.ino() || there.len() < at)
}

#[cfg(test)]
mod tests;
