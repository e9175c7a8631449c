//! Reads and proves a store that is not in use, and changes nothing in it.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use uuid::Uuid;

use super::{
    Head, OpenError,
    anchor::Anchor,
    directory::{LockedDirectory, copy_directory, create_directory},
    format,
    sled::Log,
};

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

/// Reads and proves the store in `dir`, which no coordinator may have open, and changes nothing in it.
///
/// sled changes its files whenever it opens them, so this works on a copy of them in the system's
/// directory for temporary files (`TMPDIR`), which needs room for it.
///
/// # Errors
///
/// As [`SledStore::open`](super::SledStore::open).
pub fn check(dir: &Path) -> Result<CheckReport, OpenError> {
    let directory = Arc::new(LockedDirectory::lock(dir)?);
    let incarnation = format::read(dir)?;
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

/// A private directory for temporary files, removed when dropped.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Scratch {
    fn create() -> Result<Self, OpenError> {
        let path = std::env::temp_dir().join(format!("cutover-check-{}", Uuid::new_v4()));
        create_directory(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A temporary directory that stays does no harm.
        drop(fs::remove_dir_all(&self.0));
    }
}
