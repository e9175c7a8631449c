//! The journal of this host: on its real disk, in a directory that is locked.

mod lock;

pub use cutover_agent_journal::{
    DiskJournal, Journal, MemoryJournal, OpenJournal, RealDisk, WriteJournal, commit,
};

pub use self::lock::{DataLock, LockError, is_locked};

/// The journal in a data directory.
pub type FileJournal = DiskJournal<RealDisk>;
