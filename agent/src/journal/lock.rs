//! The lock on a data directory: one agent a directory (promises.md §3 row 93).

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

const LOCK_FILE: &str = "agent.lock";

/// Held for as long as this value lives; the kernel lets go of it when the process dies.
#[derive(Debug)]
pub struct DataLock {
    _file: File,
}

/// Why a data directory could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error(
        "another agent runs with {}; two of them would work against each other. Stop it first, \
         or give each its own --data",
        data.display()
    )]
    Held { data: PathBuf },
    #[error("could not lock {}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl DataLock {
    /// Takes the lock of a data directory that exists.
    ///
    /// # Errors
    ///
    /// When another process has it, or the file cannot be opened.
    pub fn take(data: &Path) -> Result<Self, LockError> {
        let path = data.join(LOCK_FILE);
        let opened =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = match opened {
            Ok(file) => file,
            Err(source) => return Err(LockError::Io { path, source }),
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: file }),
            Err(Errno::WOULDBLOCK) => Err(LockError::Held { data: data.to_owned() }),
            Err(errno) => Err(LockError::Io { path, source: errno.into() }),
        }
    }
}

/// Returns whether an agent runs with this data directory. Takes the lock for a moment, shared,
/// so that two who ask do not see each other.
pub fn is_locked(data: &Path) -> bool {
    File::open(data.join(LOCK_FILE)).is_ok_and(|file| {
        flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
    })
}
