//! Logs: sends what instances and hooks have said to an operator who asked the coordinator for it.
//!
//! Each reading is a call of its own beside the session, so that a slow reader holds up nothing.

mod source;

use std::{
    io,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use cutover_common::{Slot, wire::LogQuery};
use cutover_proto::v1::{self as pb, agent_link_client::AgentLinkClient};
use tokio::{sync::mpsc, task::JoinSet, time::sleep};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use uuid::Uuid;

use self::source::Source;
use crate::process::{LogFiles, with_old_files};

/// How many readings one session serves at a time; each is a task, a file and a few pieces.
const READINGS_MAX: usize = 16;

/// How much one piece carries, in bytes.
const PIECE_BYTES: usize = 32 * 1024;

/// How many pieces of one reading may wait for the network.
const PIECES_MAX: usize = 4;

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
        let Some(slot) = latest(files, &query).await else {
            let what = query.hook.map_or("log".to_owned(), |kind| format!("output of {kind}"));
            return self.trouble(&format!("no {what} of {} is kept", query.application)).await;
        };
        if let Err(error) = self.send_files(files, slot, &query).await {
            self.trouble(&format!("could not read the log: {error}")).await;
        }
    }

    /// Sends what was said in `latest`, and follows the other slot too, if no slot is wanted: the
    /// next deploy goes there.
    async fn send_files(&self, files: &LogFiles, latest: Slot, query: &LogQuery) -> io::Result<()> {
        let path = path_of(files, latest, query);
        let mut sources = vec![Source::at_last(latest, path, query.lines).await?];
        if query.follow && query.slot.is_none() {
            let other = latest.other();
            sources.push(Source::at_end(other, path_of(files, other, query)).await?);
        }
        // Also of an empty file: the reader is told that it was found.
        let found = pb::LogPiece { slot: latest.to_string(), ..self.piece() };
        if self.pieces.send(found).await.is_err() {
            return Ok(());
        }
        let mut buffer = vec![0; PIECE_BYTES];
        loop {
            let mut is_all = true;
            for source in &mut sources {
                let length = source.read(&mut buffer).await?;
                if length == 0 {
                    continue;
                }
                is_all = false;
                let (slot, data) = (source.slot.to_string(), buffer[..length].to_vec());
                let piece = pb::LogPiece { slot, data, ..self.piece() };
                if self.pieces.send(piece).await.is_err() {
                    return Ok(());
                }
            }
            if is_all && (!query.follow || self.wait().await.is_err()) {
                return Ok(());
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

fn path_of(files: &LogFiles, slot: Slot, query: &LogQuery) -> PathBuf {
    match query.hook {
        Some(kind) => files.hook(&query.application, slot, kind),
        None => files.instance(&query.application, slot),
    }
}

/// Returns the slot that is wanted, if anything is kept of it, or the one whose log was written
/// last.
async fn latest(files: &LogFiles, query: &LogQuery) -> Option<Slot> {
    let mut found: Option<(SystemTime, Slot)> = None;
    for slot in Slot::ALL.into_iter().filter(|slot| query.slot.is_none_or(|it| it == *slot)) {
        // In the middle of a rotation there are only old ones.
        for path in with_old_files(&path_of(files, slot, query)) {
            let Ok(metadata) = tokio::fs::symlink_metadata(&path).await else { continue };
            let Ok(written) = metadata.modified() else { continue };
            if found.is_none_or(|(latest, _)| written > latest) {
                found = Some((written, slot));
            }
        }
    }
    found.map(|(_, slot)| slot)
}

#[cfg(test)]
mod tests;
