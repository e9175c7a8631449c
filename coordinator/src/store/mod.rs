//! The event store: the coordinator's one truth, an append-only log of opaque events.
//!
//! Who calls: the engine, through [`StoreHandle`]; `init`, `check`, `backup` and `restore`, directly.
//! Events are bytes here; what they mean, and how their format grows, is the caller's.
//!
//! # The promise
//!
//! When [`EventStore::append`] returns, its events survive `kill -9` and a power cut (D1), and if any
//! of them is ever lost or damaged the store refuses to open instead of serving a shorter or a
//! different history (D2). A failed write is never tried again on the same handle (D4).
//!
//! # The design of the embedded engine
//!
//! sled holds the log, but sled alone keeps none of the promises: its `flush` calls
//! `sync_file_range` and never `fsync` (38 of 40 simulated power cuts lost acknowledged writes), and
//! when it meets a damaged record it may truncate its log there without a word. So next to sled
//! there is an **anchor**, a preallocated ring of 4 MiB outside sled:
//!
//! ```text
//! append ─► anchor: pwrite(record) ─► fdatasync ─► pwrite(confirmation, unsynced) ─► sled: apply_batch ─► return
//!                                                            every 2 MiB, when idle, at open and at close:
//!                                                                 sled: flush ─► fdatasync(own fd on `db`)
//! ```
//!
//! A record of the anchor carries the events of one append, the chain's hash before and after them,
//! and a keyed digest. It is at once the *witness* that the log reaches at least so far and the
//! *redo copy* of what sled may not have on its disk yet. A place in the ring is used again only
//! after sled has been synced past the record that is there, and never the newest record's place.
//! At open the whole log is read, numbers and hashes are checked, every witness is compared
//! with the log, and what is missing at its end is added from the redo copies; whatever is missing and has no
//! redo copy is [`OpenError::Damaged`].
//!
//! Why not simply a small anchor beside sled? An anchor that is synced *after* the log costs a second
//! `fdatasync` for each commit. One that is synced *beside* it, as an intent, cannot tell "was never
//! acknowledged" from "was acknowledged and then lost" for the last commit, which is the one that a power
//! cut endangers. One that is synced *later* leaves a window. With the events in it, one `fdatasync` is
//! enough, on a file that never grows: that is also faster than syncing sled's own file.
//!
//! sled's own file is set to synchronous writes (`chattr +S`). sled writes on its own whenever a buffer is full,
//! and uses a place in its file again when it takes the replacement for durable; a power cut that lets
//! some of these writes through and not others leaves a log that sled does not open. The attribute makes
//! sled's belief true, at the price of some two synchronous
//! writes for each commit, as sled rolls its buffer at every batch (seen with strace; docs/benchmarks.md). Where the file system does not know it (ZFS,
//! tmpfs, overlays), sled is synced after each append: then a commit costs two.
//!
//! What stays undetected: damage that hits the newest record of the anchor together with a power cut within
//! the moment before its confirmation or a checkpoint of sled reaches the disk (then it looks like a write that was never
//! finished), a disk that loses writes which it reported as flushed, and a whole directory replaced by an
//! older copy of itself. The last is what the agents' fences are for (F7).
//!
//! # Files of a store
//!
//! | name | what |
//! | --- | --- |
//! | `lock` | held with `flock` while open; contains the holder's pid |
//! | `format` | the format's version and the incarnation, with a checksum |
//! | `anchor` | the ring |
//! | `sled/` | sled's own files; `sled/blobs/` stays empty, as sled never syncs blobs |

mod anchor;
mod backup;
mod chain;
mod check;
mod directory;
mod embedded;
mod event_store;
mod format;
mod memory;
mod quiet;
mod sled;
mod thread;

#[cfg(test)]
mod contract;
#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod luck;
#[cfg(test)]
mod place;

pub use self::{
    backup::{BackupSummary, ExportError, RestoreError, Restored, export, export_events, restore},
    chain::Head,
    check::{CheckReport, check},
    directory::OpenError,
    embedded::SledStore,
    event_store::{
        AppendError, BATCH_BYTES_MAX, EVENT_BYTES_MAX, EventStore, Events, ReadError, Sequence,
        batch_bytes,
    },
    memory::MemoryStore,
    thread::{Appended, StoreHandle, StoreThread, serve},
};
