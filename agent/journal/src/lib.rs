//! The journal: the agent's own log of what it remembers, on disk before anything is done.
//!
//! One commit is one frame, whole or not there at all. A frame that was torn by a crash is the
//! last one, was never acted on, and is cut off; a frame that is damaged with others behind it
//! means that the disk lies, and the agent then changes nothing on this host (promise D3). A
//! write or fsync that failed is never tried again (D4).

mod disk;
mod disk_journal;
mod frame;
mod memory;
mod real_disk;

#[cfg(test)]
mod contract;
#[cfg(test)]
mod fake;

use std::{io, path::PathBuf};

use cutover_agent_core::Event;

pub use self::{
    disk::Disk,
    disk_journal::{DiskJournal, JOURNAL_FILE, LENGTH_MAX},
    memory::MemoryJournal,
    real_disk::RealDisk,
};

/// Where events are kept.
pub trait Journal: Send {
    /// Appends events so that they are on disk, all or none, once this returned.
    ///
    /// # Errors
    ///
    /// After an error nothing can be appended any more: the process ends, and reads what is on
    /// disk when it is started again.
    fn append(&mut self, events: &[Event]) -> Result<(), WriteJournal>;

    /// Returns whether it has grown long enough to be replaced with a summary.
    fn is_long(&self) -> bool;

    /// Replaces everything with these events, in one step.
    ///
    /// # Errors
    ///
    /// As for [`append`](Self::append).
    fn replace(&mut self, events: &[Event]) -> Result<(), WriteJournal>;
}

/// Events could not be brought to disk.
#[derive(Debug, thiserror::Error)]
pub enum WriteJournal {
    #[error("could not {step} {}; the agent ends and reads its journal again when it is started", path.display())]
    Write {
        step: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("an earlier write to the journal failed, so that nobody knows what is in it (D4)")]
    Poisoned,
}

/// Why there is no journal to go on from. What runs is left as it is.
#[derive(Debug, thiserror::Error)]
pub enum OpenJournal {
    #[error("could not {step} {}", path.display())]
    Io {
        step: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "OBSERVE_ONLY: {} is damaged at byte {at}, in front of what was written later. Nothing \
         on this host is started or stopped. Check the disk and restore the file from a backup; \
         or, knowing that this agent then forgets what it runs, stop the applications, move the \
         file away and start the agent",
        path.display()
    )]
    Damaged { path: PathBuf, at: u64 },
    #[error(
        "OBSERVE_ONLY: {} holds what this agent cannot have written. Nothing on this host is \
         started or stopped. Restore the file from a backup",
        path.display()
    )]
    Unreadable {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error(
        "JOURNAL_TOO_NEW: {} is of format {found}, and this agent reads up to {known}: it was \
         written by a newer agent. Nothing on this host is started or stopped. Start the newer \
         agent again",
        path.display()
    )]
    TooNew { path: PathBuf, found: u8, known: u8 },
}

/// Actions whose reasons are on disk. Only [`commit`] makes one.
#[derive(Debug)]
#[must_use]
pub struct Durable<A>(Vec<A>);

impl<A> Durable<A> {
    /// Returns the actions, to be performed.
    pub fn into_actions(self) -> Vec<A> {
        self.0
    }
}

/// Stores events with one flush and releases the actions that they led to.
///
/// # Errors
///
/// On an error no action is released.
pub fn commit<A>(
    journal: &mut dyn Journal,
    events: &[Event],
    actions: Vec<A>,
) -> Result<Durable<A>, WriteJournal> {
    if !events.is_empty() {
        journal.append(events)?;
    }
    Ok(Durable(actions))
}
