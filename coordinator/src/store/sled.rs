//! The log in sled. The only file that names sled.
//!
//! `mod.rs` tells the design; each guard against sled is here, with the finding that it answers.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use ::sled::{Batch, Config, Db, IVec, Iter};
use rustix::{
    fs::{FlockOperation, IFlags, flock, ioctl_getflags, ioctl_setflags},
    io::Errno,
};
use uuid::Uuid;

use super::{
    Head, OpenError, ReadError, Sequence,
    anchor::Witness,
    chain::{Joined, frames},
    directory::{LockedDirectory, files_of, holds_anything, sync_directory},
    quiet::caught,
};

/// sled's cache, in bytes.
///
/// sled's default is 1 GiB, and it was seen to use up to ten times what it is given. The log is read
/// once, at start; after that a cache has nothing to do.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;

/// How long sled's threads may keep its file open after it was dropped. Milliseconds were seen.
const RELEASE_WITHIN: Duration = Duration::from_secs(10);

/// How often that is looked at.
const RELEASE_POLL: Duration = Duration::from_millis(2);

/// A key in sled: the event's place and the frame's number, both big-endian, so that they sort.
const KEY_BYTES: usize = 8 + 2;

/// How far a log goes, and what it adds up to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Proven {
    pub(super) last: Sequence,
    pub(super) head: Head,
    pub(super) event_bytes: u64,
    incarnation: Uuid,
}

/// What becomes of what sled writes between two syncs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Writes {
    /// Each write is on the disk when it returns, and so in the order in which sled makes them.
    Synchronous,
    /// The system keeps writes, and a power cut lets any of them through: sled does not open after
    /// that. The file system knows no synchronous files; then the log has to be synced after each append.
    Unordered,
}

/// The events in sled.
#[derive(Debug)]
pub(super) struct Log {
    db: Db,
    /// Our own handle on sled's one file, to sync it: sled's `flush` does not.
    db_file: File,
    blobs: PathBuf,
    directory: Arc<LockedDirectory>,
    writes: Writes,
}

impl Log {
    /// Opens sled in `path`, for the store in `dir`.
    pub(super) fn open(
        dir: &Path,
        path: &Path,
        directory: Arc<LockedDirectory>,
    ) -> Result<Self, OpenError> {
        remove_unfinished_snapshots(path)?;
        let blobs = path.join("blobs");
        if holds_anything(&blobs).map_err(OpenError::io("read", &blobs))? {
            return Err(OpenError::damaged(dir, "`sled/blobs` is not empty"));
        }
        let db_path = path.join("db");
        if db_path.exists() {
            // Before sled's recovery writes anything.
            let (db_file, _writes) = write_through(&db_path)?;
            await_release(dir, &db_path, &db_file)?;
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
        let (db_file, writes) = write_through(&db_path)?;
        // What sled has created or renamed on opening.
        for file in files_of(path)? {
            File::open(&file)
                .and_then(|file| file.sync_all())
                .map_err(OpenError::io("sync", &file))?;
        }
        sync_directory(path)?;
        sync_directory(directory.path())?;
        Ok(Self { db, db_file, blobs, directory, writes })
    }

    /// Reads the whole log: no gap, every hash right.
    pub(super) fn prove(&self, dir: &Path, incarnation: Uuid) -> Result<Proven, OpenError> {
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
    pub(super) fn complete(
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
    pub(super) fn put(&self, last: Sequence, head: Head, events: &[Vec<u8>]) -> io::Result<()> {
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

    /// The bytes that the file system has left.
    pub(super) fn available_bytes(&self) -> io::Result<u64> {
        self.directory.available_bytes()
    }

    pub(super) fn writes(&self) -> Writes {
        self.writes
    }

    /// Makes all that was put survive a power cut.
    pub(super) fn sync(&self) -> io::Result<()> {
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
    pub(super) fn head_at(&self, incarnation: Uuid, sequence: Sequence) -> Result<Head, String> {
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
    pub(super) fn events(&self, after: Sequence, head: Head, end: Option<Sequence>) -> LogEvents {
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
pub(super) struct LogEvents {
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

/// Makes the system write the file at `path` through to the disk, whoever has it open, and opens it.
///
/// sled writes a segment again when it believes what replaced it to be on the disk; it believes that
/// after `sync_file_range`. With 2 MiB written between two syncs, 6 of 6 runs of the power-cut test ended with a log that
/// sled did not open; with this attribute (chattr +S), none of 75 runs, 750 cuts.
fn write_through(path: &Path) -> Result<(File, Writes), OpenError> {
    let file = File::open(path).map_err(OpenError::io("open", path))?;
    let set = ioctl_getflags(&file).and_then(|flags| ioctl_setflags(&file, flags | IFlags::SYNC));
    match set {
        Ok(()) => Ok((file, Writes::Synchronous)),
        Err(Errno::NOTTY | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::PERM) => {
            Ok((file, Writes::Unordered))
        }
        Err(error) => Err(OpenError::io("set to synchronous writes", path)(error.into())),
    }
}

/// Waits until nobody holds sled's own lock.
///
/// The store's lock is held by the caller, so this can only be an earlier log of this process: sled's threads
/// close its file some time after it was dropped.
fn await_release(dir: &Path, path: &Path, file: &File) -> Result<(), OpenError> {
    let deadline = Instant::now() + RELEASE_WITHIN;
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => thread::sleep(RELEASE_POLL),
            Err(Errno::WOULDBLOCK) => {
                return Err(OpenError::Locked { dir: dir.to_owned(), pid: None });
            }
            Err(error) => return Err(OpenError::io("lock", path)(error.into())),
        }
    }
    flock(file, FlockOperation::Unlock).map_err(|error| OpenError::io("unlock", path)(error.into()))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{EVENT_BYTES_MAX, EventStore as _, chain::FRAME_BYTES_MAX, place::Place};

    fn open(place: &Place) -> Db {
        let path = place.dir.join("sled/db");
        await_release(&place.dir, &path, &File::open(&path).expect("opened")).expect("released");
        Config::new().path(place.dir.join("sled")).open().expect("sled")
    }

    #[test]
    fn no_value_in_sled_is_larger_than_a_frame_and_none_becomes_a_blob() {
        let place = Place::new();
        let mut store = place.create();
        store.append(Sequence::ZERO, &[vec![7; EVENT_BYTES_MAX]]).expect("appended");
        drop(store);

        let values: Vec<usize> =
            open(&place).iter().values().map(|value| value.expect("readable").len()).collect();
        assert!(values.len() > EVENT_BYTES_MAX / FRAME_BYTES_MAX, "{} values", values.len());
        assert!(values.iter().all(|length| *length <= FRAME_BYTES_MAX), "{values:?}");
        assert!(!holds_anything(&place.dir.join("sled/blobs")).expect("readable"));
    }

    #[test]
    fn an_event_changed_or_taken_out_within_sled_is_refused() {
        let change = |place: &Place, change: &dyn Fn(&Db)| {
            let db = open(place);
            change(&db);
            db.flush().expect("flushed");
        };
        let place = Place::closed(20);
        change(&place, &|db| {
            let mut value = db.get(key(Sequence(7), 0)).expect("read").expect("there").to_vec();
            *value.last_mut().expect("a byte") ^= 1;
            db.insert(key(Sequence(7), 0), value).expect("written");
        });
        assert!(place.refused("STORE_DAMAGED").contains("event 7 does not match its hash"));

        let place = Place::closed(20);
        change(&place, &|db| drop(db.remove(key(Sequence(7), 0)).expect("removed")));
        assert!(place.refused("STORE_DAMAGED").contains("event 7 is missing"));
    }
}
