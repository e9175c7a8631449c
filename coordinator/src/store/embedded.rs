//! The event store of one coordinator on one machine: the anchor and sled put together.
//!
//! `mod.rs` tells the design. `check.rs` reads a store without opening it for use.

use std::{error::Error, fs, io, path::Path, sync::Arc};

use uuid::Uuid;

use super::{
    AppendError, EventStore, Events, Head, OpenError, ReadError, Sequence,
    anchor::{Anchor, Record},
    directory::{self, LockedDirectory, holds_anything, sync_directory},
    event_store::refuse_too_large,
    format,
    sled::{Log, Writes},
};

/// What is kept free on the disk, in bytes.
///
/// sled's errors of a full disk stick until it is reopened, so it must not come to them: room for
/// what the anchor lets sled be behind, twice over for sled's copies, and some for everybody else.
const FREE_BYTES_MIN: u64 = 16 * 1024 * 1024;

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
        let incarnation = format::read(dir)?;
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
        Ok(format::write(staging, incarnation)?)
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
        match self.log.available_bytes() {
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
        match self.log.writes() {
            Writes::Synchronous => {}
            Writes::Unordered => self.checkpoint()?,
        }
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

fn refuse_occupied(dir: &Path) -> Result<(), OpenError> {
    match holds_anything(dir) {
        Ok(false) => Ok(()),
        Ok(true) => Err(OpenError::Occupied { dir: dir.to_owned() }),
        Err(error) => Err(OpenError::io("look into", dir)(error)),
    }
}

#[cfg(test)]
mod tests;
