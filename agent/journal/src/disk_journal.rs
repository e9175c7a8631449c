//! The journal on a disk: append, sync, cut off a torn tail, replace atomically.

use std::{io, path::Path};

use cutover_agent_core::Event;
use cutover_common::planted;

use crate::{
    Disk, Journal, OpenJournal, WriteJournal,
    frame::{self, Content, VERSION},
};

/// The file that holds the journal.
pub const JOURNAL_FILE: &str = "agent.journal";

/// The file that is written to take the journal's place. One that a crash left is written over.
const BESIDE_FILE: &str = "agent.journal.new";

/// How long a journal may grow before it is replaced with a summary, in bytes. Replaying a
/// mebibyte takes some ten milliseconds.
pub const LENGTH_MAX: u64 = 1024 * 1024;

/// A journal that can be appended to. Nobody else may write to its directory.
#[derive(Debug)]
pub struct DiskJournal<D> {
    disk: D,
    /// A write failed, and nothing touches the disk any more (D4).
    is_poisoned: bool,
    next_sequence: u64,
    length: u64,
    /// The length after the last summary: a summary alone may be long.
    summary_length: u64,
    length_max: u64,
}

impl<D: Disk> DiskJournal<D> {
    /// Opens the journal of a disk, or begins it, and returns what is in it. A tail that was torn
    /// by a crash is cut off: nothing that it says was acted on. What is returned is durable.
    ///
    /// # Errors
    ///
    /// When it cannot be read or made durable, is damaged, or is newer than this agent.
    pub fn open(mut disk: D) -> Result<(Self, Vec<Event>), OpenJournal> {
        let path = disk.path(JOURNAL_FILE);
        let failed = |step| {
            let path = path.clone();
            move |source| OpenJournal::Io { step, path, source }
        };
        let bytes = match disk.read(JOURNAL_FILE).map_err(failed("read"))? {
            Some(bytes) => bytes,
            None => {
                // A journal is never without a whole commit, not even for a moment: one without
                // was damaged, and is not taken for a new one.
                let first = frame::encode(1, &[]).unwrap_or_default();
                write_beside(&mut disk, &first).map_err(failed("begin"))?;
                first
            }
        };
        let Found { events, last, length, next_sequence } = read(&path, &bytes)?;
        if length < bytes.len() {
            tracing::warn!(
                path = %path.display(), kept = length, cut = bytes.len() - length,
                "cutting off a commit that a crash interrupted"
            );
            let cut = planted!(TailNotCut: Ok(()); disk.set_length(JOURNAL_FILE, length as u64));
            cut.map_err(failed("cut"))?;
        }
        // Whoever wrote the last commit may have died before its sync, or of its sync: then it is
        // here to be read, and a sync alone would not write it. All others were synced.
        let tail = &bytes[last..length];
        let written = planted!(
            UnsyncedTailBelieved: Ok(());
            disk.overwrite(JOURNAL_FILE, last as u64, tail)
        );
        written.map_err(failed("write"))?;
        disk.sync(JOURNAL_FILE).map_err(failed("sync"))?;
        let synced = planted!(DirectoryNotSynced: Ok(()); disk.sync_directory());
        synced.map_err(failed("sync the directory of"))?;
        let journal = Self {
            disk,
            is_poisoned: false,
            next_sequence,
            length: length as u64,
            summary_length: 0,
            length_max: LENGTH_MAX,
        };
        Ok((journal, events))
    }

    /// Reads the journal of a disk without changing it, also while an agent runs.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub fn peek(disk: &mut D) -> Result<Vec<Event>, OpenJournal> {
        let path = disk.path(JOURNAL_FILE);
        match disk.read(JOURNAL_FILE) {
            Ok(None) => Ok(Vec::new()),
            Ok(Some(bytes)) => Ok(read(&path, &bytes)?.events),
            Err(source) => Err(OpenJournal::Io { step: "read", path, source }),
        }
    }

    /// Asks for a summary at another length than [`LENGTH_MAX`], in bytes.
    #[must_use]
    pub fn with_length_max(self, length_max: u64) -> Self {
        Self { length_max, ..self }
    }

    /// Returns the disk: what is on it is all that outlives a crash.
    pub fn into_disk(self) -> D {
        self.disk
    }

    /// Returns the disk, to see what is on it.
    pub const fn disk(&self) -> &D {
        &self.disk
    }

    /// Returns the disk, to change how it behaves. Whoever writes to it breaks the journal.
    pub const fn disk_mut(&mut self) -> &mut D {
        &mut self.disk
    }

    /// Writes commits, unless something failed before, and nothing after a failure.
    fn once(
        &mut self,
        commits: &[&[Event]],
        write: impl FnOnce(&mut D, &[u8]) -> Result<(), (&'static str, io::Error)>,
    ) -> Result<u64, WriteJournal> {
        if std::mem::replace(&mut self.is_poisoned, true) {
            return Err(WriteJournal::Poisoned);
        }
        let too_large = || io::Error::new(io::ErrorKind::FileTooLarge, "the commit is too large");
        let next_sequence = self.next_sequence.wrapping_add(commits.len() as u64);
        let frames: Option<Vec<Vec<u8>>> = (0..)
            .zip(commits)
            .map(|(n, events)| frame::encode(self.next_sequence.wrapping_add(n), events))
            .collect();
        let written = frames
            .ok_or_else(|| ("append to", too_large()))
            .map(|frames| frames.concat())
            .and_then(|bytes| write(&mut self.disk, &bytes).map(|()| bytes.len() as u64));
        match written {
            Ok(length) => {
                self.is_poisoned = false;
                self.next_sequence = next_sequence;
                Ok(length)
            }
            Err((step, source)) => {
                Err(WriteJournal::Write { step, path: self.disk.path(JOURNAL_FILE), source })
            }
        }
    }
}

impl<D: Disk> Journal for DiskJournal<D> {
    fn append(&mut self, events: &[Event]) -> Result<(), WriteJournal> {
        self.length += self.once(&[events], |disk, frame| {
            disk.append(JOURNAL_FILE, frame).map_err(|error| ("append to", error))?;
            let synced = planted!(AppendNotSynced: Ok(()); disk.sync(JOURNAL_FILE));
            planted!(FailedSyncRetried: synced.or_else(|_| disk.sync(JOURNAL_FILE)); synced)
                .map_err(|error| ("sync", error))
        })?;
        Ok(())
    }

    fn is_long(&self) -> bool {
        self.length > self.length_max.max(self.summary_length.saturating_mul(2))
    }

    fn replace(&mut self, events: &[Event]) -> Result<(), WriteJournal> {
        // A summary is never the last commit: damaged, it would pass for one that a crash tore, and
        // an agent that forgot everything would begin a second instance of all that runs.
        self.length = self.once(&[events, &[]], |disk, frames| {
            write_beside(disk, frames).map_err(|error| ("replace", error))
        })?;
        self.summary_length = self.length;
        Ok(())
    }
}

/// Writes `frames` to a file that then takes the journal's place. A crash leaves the one or the
/// other.
fn write_beside(disk: &mut impl Disk, frames: &[u8]) -> io::Result<()> {
    disk.write_new(BESIDE_FILE, frames)?;
    planted!(SummaryNotSynced: (); disk.sync(BESIDE_FILE)?);
    disk.rename(BESIDE_FILE, JOURNAL_FILE)?;
    planted!(DirectoryNotSynced: Ok(()); disk.sync_directory())
}

/// What a file holds.
struct Found {
    events: Vec<Event>,
    /// Where the last commit begins.
    last: usize,
    /// How many bytes hold all of it.
    length: usize,
    next_sequence: u64,
}

fn read(path: &Path, bytes: &[u8]) -> Result<Found, OpenJournal> {
    let (frames, length) = match frame::decode(bytes) {
        Content::Frames(frames, _) if frames.is_empty() => {
            return Err(OpenJournal::Damaged { path: path.to_owned(), at: 0 });
        }
        Content::Frames(frames, length) => (frames, length),
        Content::Damaged(at) => {
            return Err(OpenJournal::Damaged { path: path.to_owned(), at: at as u64 });
        }
    };
    let mut events = Vec::new();
    for frame in &frames {
        let (version, json) = frame.payload.split_first().unwrap_or((&0, &[]));
        if *version > VERSION {
            let path = path.to_owned();
            return Err(OpenJournal::TooNew { path, found: *version, known: VERSION });
        }
        let commit: Vec<Event> = serde_json::from_slice(json)
            .map_err(|source| OpenJournal::Unreadable { path: path.to_owned(), source })?;
        events.extend(commit);
    }
    let next_sequence = frames.last().map_or(1, |last| last.sequence.wrapping_add(1));
    let last = length - frames.last().map_or(0, frame::Frame::length);
    Ok(Found { events, last, length, next_sequence })
}

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod tests;
