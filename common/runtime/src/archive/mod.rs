//! The canonical archive of a release: packing a folder, and the one strict reader.
//!
//! An archive is a plain ustar stream (with PAX `path` and `linkpath` where a name is too long for
//! ustar) in one zstd frame. Packing is deterministic: the same tree gives the same bytes, so the
//! digest of the uncompressed stream is the identity of a release's content.
//!
//! The reader lists what it accepts and refuses all else (promises.md D6, §4 rows 26 to 38). Who
//! reads gives a [`Sink`], which only ever sees checked paths: the agent writes files, the
//! coordinator looks at what arrives.

mod header;
mod meter;
pub mod pack;
pub mod path;
mod pax;
pub mod read;
pub mod refusal;
mod tree;

#[cfg(test)]
mod hostile;

use cutover_common::{Release, Sha256};

pub use pack::{PackError, PackedArchive, digest_of_tree, pack, pack_without};
pub use path::{EntryPath, LinkTarget};
pub use read::{FileEntry, ReadArchive, ReadError, Sink, read};
pub use refusal::{Bound, Refusal};

/// How many files, folders and symlinks an archive may hold (promises.md §4 row 37).
pub const ENTRIES_MAX: u64 = 200_000;

/// How large the uncompressed archive may be, in bytes: 16 GiB.
///
/// Far above any release that is brought to a fleet with care, far below what fills the disks of
/// both sides by accident.
pub const SIZE_BYTES_MAX: u64 = 16 << 30;

/// How many times larger than its compressed form an archive may be (promises.md §4 row 37).
pub const RATIO_MAX: u64 = 200;

/// Up to this size, in bytes, the ratio is not looked at: 16 MiB.
///
/// A small tree of empty or repeated files packs better than [`RATIO_MAX`] and harms nobody.
pub const RATIO_FREE_BYTES: u64 = 16 << 20;

/// What a release says of its archive, before a byte of it is believed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Declared {
    /// Of the uncompressed archive.
    pub digest: Sha256,
    pub size_bytes: u64,
    /// Of the compressed archive.
    pub archive_digest: Sha256,
    pub archive_size_bytes: u64,
}

impl From<&Release> for Declared {
    fn from(release: &Release) -> Self {
        Self {
            digest: release.digest,
            size_bytes: release.size_bytes,
            archive_digest: release.archive_digest,
            archive_size_bytes: release.archive_size_bytes,
        }
    }
}

impl From<&PackedArchive> for Declared {
    fn from(packed: &PackedArchive) -> Self {
        Self {
            digest: packed.digest,
            size_bytes: packed.size_bytes,
            archive_digest: packed.archive_digest,
            archive_size_bytes: packed.archive_size_bytes,
        }
    }
}

/// What an archive may cost whoever reads it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    pub entries_max: u64,
    /// Of the uncompressed archive.
    pub size_bytes_max: u64,
    /// Uncompressed bytes for each compressed one.
    pub ratio_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries_max: ENTRIES_MAX, size_bytes_max: SIZE_BYTES_MAX, ratio_max: RATIO_MAX }
    }
}

impl Limits {
    /// Judges sizes that were declared or measured.
    ///
    /// # Errors
    ///
    /// Names the bound that is exceeded.
    pub fn admit(&self, size_bytes: u64, archive_size_bytes: u64) -> Result<(), Refusal> {
        if size_bytes > self.size_bytes_max {
            return Err(Refusal::whole(Bound::SizeBytes, self.size_bytes_max));
        }
        let fair = archive_size_bytes.saturating_mul(self.ratio_max);
        if size_bytes > fair.saturating_add(RATIO_FREE_BYTES) {
            return Err(Refusal::whole(Bound::Ratio, self.ratio_max));
        }
        Ok(())
    }
}
