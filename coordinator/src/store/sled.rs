//! The event store on sled and the anchor. The only file that names sled.
//!
//! `mod.rs` tells the design; each guard here names the finding that it answers.

use std::{
    error::Error,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use ::sled::{Batch, Config, Db, IVec, Iter};
use uuid::Uuid;

use super::{
    AppendError, EventStore, Events, Head, OpenError, ReadError, Sequence,
    anchor::{Anchor, Record, Witness},
    chain::{Joined, frames},
    directory::{self, LockedDirectory, sync_directory},
    event_store::refuse_too_large,
    quiet::caught,
};

/// sled's cache, in bytes.
///
/// sled's default is 1 GiB, and it was seen to use up to ten times what it is given. The log is read
/// once, at start; after that a cache has nothing to do.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;

/// What is kept free on the disk, in bytes.
///
/// sled's errors of a full disk stick until it is reopened, so it must not come to them: room for
/// what the anchor lets sled be behind, twice over for sled's copies, and some for everybody else.
const FREE_BYTES_MIN: u64 = 16 * 1024 * 1024;

/// A key in sled: the event's place and the frame's number, both big-endian, so that they sort.
const KEY_BYTES: usize = 8 + 2;

/// The event store of one coordinator on one machine.
#[derive(Debug)]
pub struct SledStore {
    log: Log,
    anchor: Anchor,
    incarnation: Uuid,
    last: Sequence,
    head: Head,
    /// The first failure of a write or a sync (D4).
    poison: Option<Arc<dyn Error + Send + Sync>>,
}

/// What [`check`] found in a store that is whole.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CheckReport {
    pub incarnation: Uuid,
    /// The number of events, which is also the place of the newest.
    pub events: u64,
    /// The sum of the events' own sizes.
    pub event_bytes: u64,
    /// What the directory takes on the disk.
    pub disk_bytes: u64,
    /// The hash over all events.
    pub head: Head,
    /// How many of the newest events only the anchor had, as after `kill -9`; opening adds them.
    pub completed_events: u64,
}

impl SledStore {
    /// Makes an empty store in `dir`, which must not exist or be empty, and opens it.
    ///
    /// Its parent must exist. The store is built beside `dir` and renamed when it is whole.
    ///
    /// # Errors
    ///
    /// Nothing is left behind, except by a crash: then a directory `.NAME.new-…` beside `dir`.
    pub fn create(dir: &Path) -> Result<Self, OpenError> {
        Self::build(dir, |_empty| Ok(()))?;
        Self::open(dir)
    }

    /// Opens the store in `dir`, and reads and proves all of it.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]. No event is deleted or changed, whatever the error.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let directory = Arc::new(LockedDirectory::lock(dir)?);
        let incarnation = directory.read_format()?;
        let (anchor, witnesses) = Anchor::open(dir, &dir.join("anchor"), incarnation)?;
        let log = Log::open(dir, &dir.join("sled"), directory)?;
        let proven = log.prove(dir, incarnation)?;
        let completed = log.complete(dir, &proven, &witnesses)?;
        let mut store = Self {
            log,
            anchor,
            incarnation,
            last: completed.last,
            head: completed.head,
            poison: None,
        };
        // From here on sled has everything, so the anchor may be overwritten.
        store.checkpoint().map_err(OpenError::io("sync the log in", dir))?;
        Ok(store)
    }

    /// Makes a store in `dir`, which must not exist or be empty, and has `fill` fill it before it appears there.
    pub(super) fn build<E: From<OpenError>>(
        dir: &Path,
        fill: impl FnOnce(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        refuse_occupied(dir)?;
        let parent = directory::parent(dir);
        let name = dir.file_name().unwrap_or_default().display();
        let staging = parent.join(format!(".{name}.new-{}", Uuid::new_v4()));
        let built = Self::build_at(&staging, fill).and_then(|()| {
            // Renaming onto a directory is refused by the system unless it is empty.
            fs::rename(&staging, dir).map_err(OpenError::io("move the finished store to", dir))?;
            Ok(sync_directory(parent)?)
        });
        if built.is_err() && staging.exists() {
            // The first error is the one to tell; what stays behind is a name in the parent directory.
            drop(fs::remove_dir_all(&staging));
        }
        built
    }

    fn build_at<E: From<OpenError>>(
        staging: &Path,
        fill: impl FnOnce(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        let directory = Arc::new(LockedDirectory::create(staging)?);
        let incarnation = Uuid::new_v4();
        let anchor = Anchor::create(&staging.join("anchor"), incarnation)?;
        let log = Log::open(staging, &staging.join("sled"), Arc::clone(&directory))?;
        let head = Head::genesis(incarnation);
        let mut store = Self { log, anchor, incarnation, last: Sequence::ZERO, head, poison: None };
        fill(&mut store)?;
        store.checkpoint().map_err(OpenError::io("sync the log in", staging))?;
        Ok(directory.write_format(incarnation)?)
    }

    /// The hash over all events.
    pub fn head(&self) -> Head {
        self.head
    }

    fn refuse_poisoned(&self) -> Result<(), AppendError> {
        match &self.poison {
            Some(cause) => Err(AppendError::Poisoned { cause: Arc::clone(cause) }),
            None => Ok(()),
        }
    }

    /// Remembers the first failure of a write or a sync, after which nothing is tried again (D4).
    fn poisoned(&mut self, cause: io::Error) -> AppendError {
        let cause: Arc<dyn Error + Send + Sync> = Arc::new(cause);
        self.poison = Some(Arc::clone(&cause));
        AppendError::Poisoned { cause }
    }

    fn refuse_full(&mut self) -> Result<(), AppendError> {
        match self.log.directory.available_bytes() {
            Ok(available_bytes) if available_bytes < FREE_BYTES_MIN => {
                Err(AppendError::Full { available_bytes, needed_bytes: FREE_BYTES_MIN })
            }
            Ok(_enough) => Ok(()),
            Err(error) => Err(self.poisoned(error)),
        }
    }

    fn write(&mut self, events: &[Vec<u8>]) -> io::Result<Head> {
        if self.anchor.is_full_for(events) {
            self.checkpoint()?;
        }
        let head = self.head.extended_by(self.last, events);
        self.anchor.write(&Record { after: self.last, head_before: self.head, events, head })?;
        self.anchor.confirm(self.last.plus(events.len()), head)?;
        self.log.put(self.last, self.head, events)?;
        Ok(head)
    }

    /// Brings everything into sled's file and that to the disk.
    fn checkpoint(&mut self) -> io::Result<()> {
        self.log.sync()?;
        self.anchor.settled();
        Ok(())
    }
}

impl EventStore for SledStore {
    fn incarnation(&self) -> Uuid {
        self.incarnation
    }

    fn last(&self) -> Sequence {
        self.last
    }

    fn append(
        &mut self,
        expected_last: Sequence,
        events: &[Vec<u8>],
    ) -> Result<Sequence, AppendError> {
        self.refuse_poisoned()?;
        if expected_last != self.last {
            return Err(AppendError::NotLast { expected: expected_last, actual: self.last });
        }
        refuse_too_large(events)?;
        if events.is_empty() {
            return Ok(self.last);
        }
        self.refuse_full()?;
        self.head = self.write(events).map_err(|error| self.poisoned(error))?;
        self.last = self.last.plus(events.len());
        Ok(self.last)
    }

    fn read_after(&self, after: Sequence) -> Events {
        match self.log.head_at(self.incarnation, after) {
            _ if after >= self.last => Box::new(std::iter::empty()),
            Ok(head) => Box::new(self.log.events(after, head, Some(self.last))),
            Err(what) => Box::new(std::iter::once(Err(ReadError::new(after, what)))),
        }
    }

    fn settle(&mut self) -> Result<(), AppendError> {
        self.refuse_poisoned()?;
        if self.anchor.is_unsettled() {
            self.checkpoint().map_err(|error| self.poisoned(error))?;
        }
        Ok(())
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        // Saves the next open some work. If it fails, the anchor has what sled has not.
        drop(self.settle());
    }
}

/// Reads and proves the store in `dir`, which no coordinator may have open, and changes nothing in it.
///
/// sled changes its files whenever it opens them, so this works on a copy of them in the system's
/// directory for temporary files (`TMPDIR`), which needs room for it.
///
/// # Errors
///
/// As [`SledStore::open`].
pub fn check(dir: &Path) -> Result<CheckReport, OpenError> {
    let directory = Arc::new(LockedDirectory::lock(dir)?);
    let incarnation = directory.read_format()?;
    let (_anchor, witnesses) = Anchor::open(dir, &dir.join("anchor"), incarnation)?;
    let scratch = Scratch::create()?;
    let copy = scratch.0.join("sled");
    let original = dir.join("sled");
    // Without it, sled begins anew, and the anchor tells what is missing.
    let mut disk_bytes = if original.exists() { copy_directory(&original, &copy)? } else { 0 };
    for name in ["anchor", "format", "lock"] {
        let path = dir.join(name);
        disk_bytes += fs::metadata(&path).map_err(OpenError::io("look at", &path))?.len();
    }
    let log = Log::open(dir, &copy, directory)?;
    let proven = log.prove(dir, incarnation)?;
    let whole = log.complete(dir, &proven, &witnesses)?;
    Ok(CheckReport {
        incarnation,
        events: whole.last.0,
        event_bytes: whole.event_bytes,
        disk_bytes,
        head: whole.head,
        completed_events: whole.last.0 - proven.last.0,
    })
}

/// How far a log goes, and what it adds up to.
#[derive(Clone, Copy, Debug)]
struct Proven {
    last: Sequence,
    head: Head,
    event_bytes: u64,
    incarnation: Uuid,
}

/// The events in sled.
#[derive(Debug)]
struct Log {
    db: Db,
    /// Our own handle on sled's one file, to sync it: sled's `flush` does not.
    db_file: File,
    blobs: PathBuf,
    directory: Arc<LockedDirectory>,
}

impl Log {
    /// Opens sled in `path`, for the store in `dir`.
    fn open(dir: &Path, path: &Path, directory: Arc<LockedDirectory>) -> Result<Self, OpenError> {
        remove_unfinished_snapshots(path)?;
        let blobs = path.join("blobs");
        if holds_anything(&blobs).map_err(OpenError::io("read", &blobs))? {
            return Err(OpenError::damaged(dir, "`sled/blobs` is not empty"));
        }
        // No flusher of sled's own: it would only log what fails.
        let config = Config::new().path(path).cache_capacity(CACHE_BYTES).flush_every_ms(None);
        let db = match caught(|| config.open()) {
            Ok(Ok(db)) => db,
            Ok(Err(::sled::Error::Io(error))) if !is_about_content(&error) => {
                return Err(OpenError::io("open sled in", path)(error));
            }
            Ok(Err(error)) => {
                return Err(OpenError::damaged(dir, format!("sled does not open it: {error}")));
            }
            Err(panic) => {
                return Err(OpenError::damaged(dir, format!("sled panics on opening it: {panic}")));
            }
        };
        let db_path = path.join("db");
        let db_file = File::open(&db_path).map_err(OpenError::io("open", &db_path))?;
        // What sled has created or renamed on opening.
        for file in files_of(path)? {
            File::open(&file)
                .and_then(|file| file.sync_all())
                .map_err(OpenError::io("sync", &file))?;
        }
        sync_directory(path)?;
        sync_directory(directory.path())?;
        Ok(Self { db, db_file, blobs, directory })
    }

    /// Reads the whole log: no gap, every hash right.
    fn prove(&self, dir: &Path, incarnation: Uuid) -> Result<Proven, OpenError> {
        let genesis = Head::genesis(incarnation);
        let mut events = self.events(Sequence::ZERO, genesis, None);
        let mut event_bytes = 0_u64;
        for event in &mut events {
            match event {
                Ok((_, event)) => event_bytes += u64::try_from(event.len()).unwrap_or(u64::MAX),
                Err(error) => {
                    let what = format!("event {} {}", error.sequence(), error.what());
                    return Err(OpenError::damaged(dir, what));
                }
            }
        }
        Ok(Proven { last: events.last, head: events.head, event_bytes, incarnation })
    }

    /// Compares the log with each witness, and adds the events at its end that only they have (D2).
    fn complete(
        &self,
        dir: &Path,
        proven: &Proven,
        witnesses: &[Witness],
    ) -> Result<Proven, OpenError> {
        let mut whole = *proven;
        for witness in witnesses {
            let (after, last) = (witness.after, witness.last());
            if after > whole.last {
                let what = format!("its log ends at event {} and had reached {last}", whole.last);
                return Err(OpenError::damaged(dir, what));
            }
            let differs = || {
                OpenError::damaged(dir, format!("its log and its anchor differ up to event {last}"))
            };
            let head_at = |sequence| {
                self.head_at(proven.incarnation, sequence)
                    .map_err(|what| OpenError::damaged(dir, format!("event {sequence} {what}")))
            };
            if head_at(after)? != witness.head_before {
                return Err(differs());
            }
            if last <= whole.last {
                if head_at(last)? != witness.head {
                    return Err(differs());
                }
                continue;
            }
            let known = usize::try_from(whole.last.0 - after.0).unwrap_or(usize::MAX);
            let (known, missing) = witness.events.split_at(known);
            if witness.head_before.extended_by(after, known) != whole.head
                || whole.head.extended_by(whole.last, missing) != witness.head
            {
                return Err(differs());
            }
            self.put(whole.last, whole.head, missing)
                .map_err(OpenError::io("complete the log in", dir))?;
            whole.event_bytes += missing
                .iter()
                .map(|event| u64::try_from(event.len()).unwrap_or(u64::MAX))
                .sum::<u64>();
            (whole.last, whole.head) = (last, witness.head);
        }
        Ok(whole)
    }

    /// Puts events behind `last` into sled, all or none. Not synced.
    fn put(&self, last: Sequence, head: Head, events: &[Vec<u8>]) -> io::Result<()> {
        let mut batch = Batch::default();
        let (mut sequence, mut head) = (last, head);
        for event in events {
            sequence = sequence.next();
            head = head.extended(sequence, event);
            for (number, frame) in (0_u16..).zip(frames(head, event)) {
                batch.insert(&key(sequence, number), frame);
            }
        }
        caught(|| self.db.apply_batch(batch)).map_err(io::Error::other)?.map_err(io::Error::from)
    }

    /// Makes all that was put survive a power cut.
    fn sync(&self) -> io::Result<()> {
        caught(|| self.db.flush()).map_err(io::Error::other)?.map_err(io::Error::from)?;
        self.db_file.sync_data()?;
        if holds_anything(&self.blobs)? {
            return Err(io::Error::other(
                "sled has put a value into `blobs`, where it does not survive a power cut",
            ));
        }
        Ok(())
    }

    /// The head after the event at `sequence`, or what is wrong with that event.
    fn head_at(&self, incarnation: Uuid, sequence: Sequence) -> Result<Head, String> {
        if sequence == Sequence::ZERO {
            return Ok(Head::genesis(incarnation));
        }
        let first = caught(|| self.db.get(key(sequence, 0)))
            .map_err(|panic| format!("makes sled panic: {panic}"))?
            .map_err(|error| format!("is not given out by sled: {error}"))?
            .ok_or("is missing")?;
        Ok(Joined::begin(&first).ok_or("has no readable first frame")?.head)
    }

    /// The events behind `after`, where the head is `head`, up to `end` or whatever the last is.
    fn events(&self, after: Sequence, head: Head, end: Option<Sequence>) -> LogEvents {
        LogEvents {
            frames: self.db.range(key(after.next(), 0)..),
            ahead: None,
            last: after,
            head,
            end,
            has_ended: false,
            _directory: Arc::clone(&self.directory),
        }
    }
}

/// Reads events from sled, and proves each before it hands it out.
struct LogEvents {
    frames: Iter,
    /// The frame that was read to see that an event had ended: the following event's first.
    ahead: Option<(IVec, IVec)>,
    /// The place and the head of what has been handed out.
    last: Sequence,
    head: Head,
    end: Option<Sequence>,
    has_ended: bool,
    /// Keeps the store locked: sled is open while its iterator lives.
    _directory: Arc<LockedDirectory>,
}

impl LogEvents {
    fn next_frame(&mut self) -> Result<Option<(IVec, IVec)>, String> {
        if let Some(frame) = self.ahead.take() {
            return Ok(Some(frame));
        }
        match caught(|| self.frames.next()) {
            Ok(Some(Ok(frame))) => Ok(Some(frame)),
            Ok(Some(Err(error))) => Err(format!("is not given out by sled: {error}")),
            Ok(None) => Ok(None),
            Err(panic) => Err(format!("makes sled panic: {panic}")),
        }
    }

    fn read(&mut self) -> Result<Option<Vec<u8>>, String> {
        let sequence = self.last.next();
        if self.end.is_some_and(|end| sequence > end) {
            return Ok(None);
        }
        let Some((first_key, first)) = self.next_frame()? else {
            return if self.end.is_some() { Err("is missing".to_owned()) } else { Ok(None) };
        };
        if first_key != key(sequence, 0) {
            return Err("is missing".to_owned());
        }
        let mut joined = Joined::begin(&first).ok_or("has no readable first frame")?;
        let mut number = 0;
        while !joined.is_complete() {
            number += 1;
            let (frame_key, frame) = self.next_frame()?.ok_or("is cut off")?;
            if frame_key != key(sequence, number) {
                return Err("is cut off".to_owned());
            }
            joined.add(&frame).ok_or("has a frame that does not fit")?;
        }
        let head = self.head.extended(sequence, &joined.event);
        if head != joined.head {
            return Err("does not match its hash".to_owned());
        }
        (self.last, self.head) = (sequence, head);
        Ok(Some(joined.event))
    }
}

impl Iterator for LogEvents {
    type Item = Result<(Sequence, Vec<u8>), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_ended {
            return None;
        }
        match self.read() {
            Ok(Some(event)) => Some(Ok((self.last, event))),
            Ok(None) => {
                self.has_ended = true;
                None
            }
            Err(what) => {
                self.has_ended = true;
                Some(Err(ReadError::new(self.last.next(), what)))
            }
        }
    }
}

/// A private directory for temporary files, removed when dropped.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Scratch {
    fn create() -> Result<Self, OpenError> {
        let path = std::env::temp_dir().join(format!("cutover-check-{}", Uuid::new_v4()));
        directory::create_directory(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A temporary directory that stays does no harm.
        drop(fs::remove_dir_all(&self.0));
    }
}

fn key(sequence: Sequence, frame: u16) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    key[..8].copy_from_slice(&sequence.0.to_be_bytes());
    key[8..].copy_from_slice(&frame.to_be_bytes());
    key
}

/// Whether `error` speaks of what is in a file, and not of a system that would not read it.
fn is_about_content(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput
    )
}

fn refuse_occupied(dir: &Path) -> Result<(), OpenError> {
    match holds_anything(dir) {
        Ok(false) => Ok(()),
        Ok(true) => Err(OpenError::Occupied { dir: dir.to_owned() }),
        Err(error) => Err(OpenError::io("look into", dir)(error)),
    }
}

/// Whether there is anything in the directory `path`. One that does not exist holds nothing.
fn holds_anything(path: &Path) -> io::Result<bool> {
    match fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.next().transpose()?.is_some()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes snapshots that sled was killed in the middle of writing.
///
/// sled takes such a file for its newest snapshot, and then never opens again. It holds no event.
fn remove_unfinished_snapshots(path: &Path) -> Result<(), OpenError> {
    if !path.exists() {
        return Ok(());
    }
    for file in files_of(path)? {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(&file).map_err(OpenError::io("remove", &file))?;
        }
    }
    Ok(())
}

fn files_of(path: &Path) -> Result<Vec<PathBuf>, OpenError> {
    let entries = fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = entries.map_err(OpenError::io("read", path))?;
    Ok(entries.into_iter().map(|entry| entry.path()).filter(|path| path.is_file()).collect())
}

/// Copies the directory `from`, with what is in it, and returns its size in bytes.
fn copy_directory(from: &Path, to: &Path) -> Result<u64, OpenError> {
    directory::create_directory(to)?;
    let mut bytes = 0;
    let entries = fs::read_dir(from).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    for entry in entries.map_err(OpenError::io("read", from))? {
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        bytes += if path.is_dir() {
            copy_directory(&path, &to)?
        } else {
            fs::copy(&path, &to).map_err(OpenError::io("copy", &path))?
        };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
