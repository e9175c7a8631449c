//! Room: whether the disk can take a release, before anything is written.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use rustix::io::Errno;

/// What a release needs of a disk.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Need {
    pub bytes: u64,
    pub inodes: u64,
}

impl Need {
    /// Adds what must stay free beside it: as much again and a tenth (promises.md §3 row 56), so
    /// that the old version, its logs and the next release have room too.
    pub(super) const fn with_reserve(self) -> Self {
        const fn reserve(amount: u64) -> u64 {
            amount.saturating_mul(2).saturating_add(amount / 5)
        }
        Self { bytes: reserve(self.bytes), inodes: reserve(self.inodes) }
    }
}

/// The disk is too full for a release.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DiskFull {
    folder: PathBuf,
    need: Need,
    free: Need,
}

impl fmt::Display for DiskFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { folder, need, free } = self;
        write!(
            f,
            "not enough room in {}: the release needs {} MiB and {} inodes free, there are {} MiB \
             and {}; free some and deploy again, the old version keeps running",
            folder.display(),
            need.bytes.div_ceil(1 << 20),
            need.inodes,
            free.bytes >> 20,
            free.inodes,
        )
    }
}

impl std::error::Error for DiskFull {}

/// Why there is no room, or none is known of.
#[derive(Debug, thiserror::Error)]
pub enum RoomError {
    #[error(transparent)]
    Full(DiskFull),
    #[error("could not ask how full the disk of {} is", folder.display())]
    Ask {
        folder: PathBuf,
        #[source]
        cause: io::Error,
    },
}

/// Succeeds if the disk of `folder` has as much free as is needed.
///
/// # Errors
///
/// Says what is needed and what is there.
pub(super) fn require(folder: &Path, need: Need) -> Result<(), RoomError> {
    let free = free(folder)
        .map_err(|errno| RoomError::Ask { folder: folder.to_owned(), cause: errno.into() })?;
    if free.bytes < need.bytes || free.inodes < need.inodes {
        return Err(RoomError::Full(DiskFull { folder: folder.to_owned(), need, free }));
    }
    Ok(())
}

/// Returns the error to report if `cause` says that the disk ran full while writing.
pub(super) fn ran_full(folder: &Path, need: Need, cause: &io::Error) -> Option<DiskFull> {
    let is_full = matches!(cause.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let full =
        || DiskFull { folder: folder.to_owned(), need, free: free(folder).unwrap_or_default() };
    is_full.then(full)
}

fn free(folder: &Path) -> Result<Need, Errno> {
    let disk = rustix::fs::statvfs(folder)?;
    // Some file systems (btrfs) have no fixed number of inodes and say zero of zero.
    let inodes = if disk.f_files == 0 { u64::MAX } else { disk.f_favail };
    Ok(Need { bytes: disk.f_bavail.saturating_mul(disk.f_frsize), inodes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_asked_for_twice_and_a_tenth() {
        // promises.md §3 row 56.
        let need = Need { bytes: 1000, inodes: 10 }.with_reserve();

        assert_eq!(need, Need { bytes: 2200, inodes: 22 });
    }

    #[test]
    fn a_lack_of_bytes_or_of_inodes_is_an_error_with_the_numbers() {
        // promises.md §3 rows 56 and 58.
        let folder = std::env::temp_dir();
        require(&folder, Need { bytes: 1, inodes: 1 }).unwrap();
        for need in [Need { bytes: u64::MAX, inodes: 1 }, Need { bytes: 1, inodes: u64::MAX }] {
            let text = require(&folder, need).unwrap_err().to_string();

            assert!(text.contains(&need.inodes.to_string()), "{text}");
            assert!(text.contains("the old version keeps running"), "{text}");
        }
    }
}
