//! The journal in a file: append, fdatasync, cut off a torn tail, replace atomically.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use cutover_agent_core::Event;

use super::{
    Journal, LENGTH_MAX, OpenJournal, WriteJournal,
    frame::{self, Content, VERSION},
};

const JOURNAL_FILE: &str = "agent.journal";

/// A journal that can be appended to. Its directory must be locked.
#[derive(Debug)]
pub struct FileJournal {
    path: PathBuf,
    /// None after a write failed (D4).
    file: Option<File>,
    next_sequence: u64,
    length: u64,
    /// The length after the last summary: a summary alone may be long.
    summary_length: u64,
}

impl FileJournal {
    /// Opens the journal of a data directory, or begins it, and returns what is in it. A tail
    /// that was torn by a crash is cut off: nothing that it says was acted on.
    ///
    /// # Errors
    ///
    /// When it cannot be read, is damaged, or is newer than this agent.
    pub fn open(data: &Path) -> Result<(Self, Vec<Event>), OpenJournal> {
        let path = data.join(JOURNAL_FILE);
        let failed = |step| {
            let path = path.clone();
            move |source| OpenJournal::Io { step, path, source }
        };
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed("open"))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed("read"))?;
        let (events, length, next_sequence) = read(&path, &bytes)?;
        let length = length as u64;
        if length < bytes.len() as u64 {
            tracing::warn!(
                path = %path.display(), kept = length, cut = bytes.len() as u64 - length,
                "cutting off a commit that a crash interrupted"
            );
            file.set_len(length).map_err(failed("cut"))?;
            file.sync_all().map_err(failed("sync"))?;
        }
        if bytes.is_empty() {
            sync_dir(data).map_err(failed("sync the directory of"))?;
        }
        let file = Some(file);
        Ok((Self { path, file, next_sequence, length, summary_length: 0 }, events))
    }

    /// Reads the journal of a data directory without changing it, also while an agent runs.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub fn peek(data: &Path) -> Result<Vec<Event>, OpenJournal> {
        let path = data.join(JOURNAL_FILE);
        match fs::read(&path) {
            Ok(bytes) => Ok(read(&path, &bytes)?.0),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(OpenJournal::Io { step: "read", path, source }),
        }
    }

    fn failed(&mut self, step: &'static str, source: io::Error) -> WriteJournal {
        self.file = None;
        WriteJournal::Write { step, path: self.path.clone(), source }
    }

    fn encode(&mut self, events: &[Event]) -> Result<Vec<u8>, WriteJournal> {
        let too_large = || io::Error::new(io::ErrorKind::FileTooLarge, "the commit is too large");
        match frame::encode(self.next_sequence, events) {
            Some(frame) => Ok(frame),
            None => Err(self.failed("append to", too_large())),
        }
    }
}

impl Journal for FileJournal {
    fn append(&mut self, events: &[Event]) -> Result<(), WriteJournal> {
        let Some(mut file) = self.file.take() else { return Err(WriteJournal::Poisoned) };
        let frame = self.encode(events)?;
        if let Err(source) = file.write_all(&frame) {
            return Err(self.failed("append to", source));
        }
        if let Err(source) = file.sync_data() {
            return Err(self.failed("sync", source));
        }
        self.file = Some(file);
        self.next_sequence += 1;
        self.length += frame.len() as u64;
        Ok(())
    }

    fn is_long(&self) -> bool {
        self.length > LENGTH_MAX.max(self.summary_length.saturating_mul(2))
    }

    fn replace(&mut self, events: &[Event]) -> Result<(), WriteJournal> {
        if self.file.take().is_none() {
            return Err(WriteJournal::Poisoned);
        }
        let frame = self.encode(events)?;
        match write_beside(&self.path, &frame) {
            Ok(file) => {
                self.file = Some(file);
                self.next_sequence += 1;
                self.length = frame.len() as u64;
                self.summary_length = self.length;
                Ok(())
            }
            Err(source) => Err(self.failed("replace", source)),
        }
    }
}

/// Writes `frame` to a file that then takes the journal's place. A crash leaves the one or the
/// other.
fn write_beside(path: &Path, frame: &[u8]) -> io::Result<File> {
    let beside = path.with_extension("journal.new");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(frame)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&beside, path)?;
    if let Some(dir) = path.parent() {
        sync_dir(dir)?;
    }
    OpenOptions::new().append(true).open(path)
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Returns the events, how many bytes hold them, and the number of the next commit.
fn read(path: &Path, bytes: &[u8]) -> Result<(Vec<Event>, usize, u64), OpenJournal> {
    let (frames, length) = match frame::decode(bytes) {
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
    Ok((events, length, next_sequence))
}

#[cfg(test)]
mod tests;
