//! What every event store promises: the trait, its limits and its errors.
//!
//! The engines are beside this file; `contract.rs` holds the tests that each of them must pass.

use std::{error::Error, fmt, io, sync::Arc};

pub use cutover_coordinator_core::codec::batch_bytes;
use uuid::Uuid;

/// The largest event, in bytes.
///
/// An event says that something happened; what is large (artifacts, logs) is kept elsewhere and
/// named by its digest. 1 MiB leaves room for a plan over a thousand hosts, and keeps under etcd's
/// request limit of 1.5 MiB.
pub const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// The largest sum of [`batch_bytes`] that one append takes, in bytes.
///
/// One event of the largest size and its framing, so that each event that is allowed can be stored.
pub const BATCH_BYTES_MAX: usize = EVENT_BYTES_MAX + 32 * 1024;

/// The place of an event in the log. The first event is 1; 0 stands for "before the first".
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Sequence(pub u64);

impl Sequence {
    /// The place before the first event.
    pub const ZERO: Self = Self(0);

    /// The place `count` events further on.
    #[must_use]
    pub fn plus(self, count: usize) -> Self {
        Self(self.0.saturating_add(u64::try_from(count).unwrap_or(u64::MAX)))
    }

    /// The place of the following event.
    #[must_use]
    pub fn next(self) -> Self {
        self.plus(1)
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Events in order, each with its place, each proven by the chain before it is handed out.
///
/// Ends after the first error.
pub type Events = Box<dyn Iterator<Item = Result<(Sequence, Vec<u8>), ReadError>> + Send>;

/// An append-only log of opaque events, numbered and hash-chained.
pub trait EventStore: Send {
    /// The random id that was made when this store was created, or restored from a backup.
    fn incarnation(&self) -> Uuid;

    /// The place of the newest event, [`Sequence::ZERO`] if there is none.
    fn last(&self) -> Sequence;

    /// Appends all of `events` or none, if the newest event is at `expected_last`.
    ///
    /// When this returns they are on stable storage: they survive `kill -9` and a power cut.
    /// Returns the new [`Self::last`]. Without events it only compares.
    ///
    /// # Errors
    ///
    /// After [`AppendError::Poisoned`] it is not known whether the events are stored: reopen the
    /// store and read. All other errors say that they are not.
    fn append(
        &mut self,
        expected_last: Sequence,
        events: &[Vec<u8>],
    ) -> Result<Sequence, AppendError>;

    /// The events behind `after`, up to the one that is the newest at this moment.
    ///
    /// The iterator keeps the store's files locked while it lives, and may be moved to another
    /// thread: appends go on beside it.
    fn read_after(&self, after: Sequence) -> Events;

    /// Brings the store to rest, so that reopening it has nothing to make up for.
    ///
    /// Not needed for durability. Called when nothing waits.
    ///
    /// # Errors
    ///
    /// [`AppendError::Poisoned`], as in [`Self::append`].
    fn settle(&mut self) -> Result<(), AppendError>;
}

/// Why events were not appended.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// Somebody else appended, or the caller has not read to the end.
    #[error(
        "the log ends at event {actual} and not at {expected}; read the events behind {expected} first"
    )]
    NotLast { expected: Sequence, actual: Sequence },
    /// The disk is nearly full. Nothing was written; the store stays usable.
    #[error(
        "the disk of the event store has {available_bytes} bytes left and {needed_bytes} are kept free; \
         make room and try again"
    )]
    Full { available_bytes: u64, needed_bytes: u64 },
    /// One event, or all together, are larger than an append takes.
    #[error(
        "{what} of {size_bytes} bytes is larger than {max_bytes} bytes; store its digest instead"
    )]
    TooLarge { what: &'static str, size_bytes: usize, max_bytes: usize },
    /// A write or a sync failed, now or before: the store refuses everything until it is reopened.
    ///
    /// A sync that failed once may succeed when repeated although the data is gone, so it is
    /// never repeated (D4).
    #[error(
        "writing to the event store failed; nothing more is accepted until the coordinator is restarted"
    )]
    Poisoned {
        #[source]
        cause: Arc<dyn Error + Send + Sync>,
    },
    /// The store thread has ended.
    #[error("the event store is closed; restart the coordinator")]
    Closed,
}

impl AppendError {
    /// Whether every later append will fail, too, until the store is reopened.
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::Poisoned { .. } | Self::Closed => true,
            Self::NotLast { .. } | Self::Full { .. } | Self::TooLarge { .. } => false,
        }
    }

    /// Whether a full disk, or a quota, is the cause.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Full { .. } => true,
            Self::Poisoned { cause } => {
                let mut cause: Option<&(dyn Error + 'static)> = Some(&**cause);
                while let Some(error) = cause {
                    let full = error.downcast_ref::<io::Error>().is_some_and(|error| {
                        matches!(
                            error.kind(),
                            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
                        )
                    });
                    if full {
                        return true;
                    }
                    cause = error.source();
                }
                false
            }
            Self::NotLast { .. } | Self::TooLarge { .. } | Self::Closed => false,
        }
    }
}

/// Why an event could not be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "event {sequence} cannot be read: {what}; stop the coordinator, keep its directory, and restore the newest \
     backup into an empty one with `cutover-coordinator restore`"
)]
pub struct ReadError {
    sequence: Sequence,
    what: String,
}

impl ReadError {
    /// Says that the event at `sequence` is not what it was when it was stored.
    pub(super) fn new(sequence: Sequence, what: impl Into<String>) -> Self {
        Self { sequence, what: what.into() }
    }

    pub(super) fn what(&self) -> &str {
        &self.what
    }

    /// The place of the event that could not be read.
    pub fn sequence(&self) -> Sequence {
        self.sequence
    }
}

/// Refuses events that are larger than an append takes.
pub(super) fn refuse_too_large(events: &[Vec<u8>]) -> Result<(), AppendError> {
    if let Some(event) = events.iter().find(|event| event.len() > EVENT_BYTES_MAX) {
        return Err(AppendError::TooLarge {
            what: "an event",
            size_bytes: event.len(),
            max_bytes: EVENT_BYTES_MAX,
        });
    }
    let size_bytes = batch_bytes(events);
    if size_bytes > BATCH_BYTES_MAX {
        return Err(AppendError::TooLarge {
            what: "a batch of events",
            size_bytes,
            max_bytes: BATCH_BYTES_MAX,
        });
    }
    Ok(())
}
