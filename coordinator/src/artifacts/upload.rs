//! Upload: the `.part` file of an archive that is arriving, and why one is not taken.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use cutover_common::Sha256;
use cutover_runtime::archive::{ReadError, Refusal};
use tokio::task::JoinError;

use super::inspect::{MANIFEST_BYTES_MAX, MANIFEST_PATH, is_ours};

/// How many bytes one append may bring: what a message of our protocol may be at the most.
pub const CHUNK_BYTES_MAX: usize = 4 << 20;

/// Why an upload was not begun, continued or accepted.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    #[error("the archive is refused")]
    Limits(#[from] Refusal),
    #[error(
        "an upload of this archive with {begun} bytes is under way, and {declared} were declared; \
         push the same archive"
    )]
    OtherSize { begun: u64, declared: u64 },
    /// `BAD_OFFSET`: bytes were lost, or somebody else pushes the same archive.
    #[error("the upload goes on at byte {expected}, not {found}; begin the push again")]
    BadOffset { expected: u64, found: u64 },
    #[error("a piece of {found} bytes is too large; send at most {CHUNK_BYTES_MAX} at a time")]
    ChunkTooLarge { found: usize },
    #[error("more than the {declared} bytes that were declared were sent; pack and push again")]
    TooLong { declared: u64 },
    #[error("{have} of {declared} bytes are here; begin the push again to send the rest")]
    Incomplete { have: u64, declared: u64 },
    #[error("this upload was not begun; begin the push again")]
    Unknown,
    #[error("could not accept the archive; pack and push again")]
    Verify(#[source] ReadError),
    #[error("the archive has no {MANIFEST_PATH} at its top; add one and push again")]
    NoManifest,
    #[error(
        "the archive's {MANIFEST_PATH} has {size_bytes} bytes, at most {MANIFEST_BYTES_MAX} are \
         read; shorten it"
    )]
    ManifestTooLarge { size_bytes: u64 },
    #[error("the archive's {MANIFEST_PATH} is not UTF-8; save it as UTF-8 and push again")]
    ManifestNotText,
    #[error(
        "the coordinator's disk is too full: {need} bytes are needed in {}, {free} are free; \
         free some and push again",
        folder.display()
    )]
    Full { folder: PathBuf, need: u64, free: u64 },
    #[error("could not {step} {}", path.display())]
    Part {
        step: &'static str,
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("could not store the archive")]
    Store(#[source] object_store::Error),
    #[error("the archive's bytes changed on the coordinator's disk; check the disk and push again")]
    Changed,
    #[error("the work was cut short")]
    Ended(#[from] JoinError),
}

/// Whose move it is after an error.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Blame {
    /// Another try of the same ends the same.
    Sender,
    /// Another try may succeed once the coordinator is well.
    Us,
}

impl UploadError {
    /// Tells whose move it is.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Verify(error) if is_ours(error) => Blame::Us,
            Self::Limits(_)
            | Self::OtherSize { .. }
            | Self::BadOffset { .. }
            | Self::ChunkTooLarge { .. }
            | Self::TooLong { .. }
            | Self::Incomplete { .. }
            | Self::Unknown
            | Self::Verify(_)
            | Self::NoManifest
            | Self::ManifestTooLarge { .. }
            | Self::ManifestNotText => Blame::Sender,
            Self::Full { .. }
            | Self::Part { .. }
            | Self::Store(_)
            | Self::Changed
            | Self::Ended(_) => Blame::Us,
        }
    }

    /// Returns the stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Limits(refusal) => refusal.code(),
            Self::Verify(error) => error.code(),
            Self::BadOffset { .. } => "BAD_OFFSET",
            Self::Full { .. } => "DISK_FULL",
            Self::TooLong { .. } | Self::Incomplete { .. } | Self::OtherSize { .. } => {
                "ARCHIVE_CORRUPT"
            }
            Self::ChunkTooLarge { .. } | Self::Unknown => "BAD_UPLOAD",
            Self::NoManifest | Self::ManifestTooLarge { .. } | Self::ManifestNotText => {
                "BAD_MANIFEST"
            }
            Self::Part { .. } | Self::Store(_) | Self::Changed | Self::Ended(_) => "INTERNAL",
        }
    }
}

/// An archive that is arriving.
#[derive(Debug)]
pub(super) struct Upload {
    file: File,
    path: PathBuf,
    archive_size_bytes: u64,
    length: u64,
    /// It became an object, or was given up.
    is_over: bool,
}

impl Upload {
    /// Opens the part file, or makes it. Blocks.
    pub(super) fn open(path: PathBuf, archive_size_bytes: u64) -> Result<Self, UploadError> {
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .and_then(|file| {
                let length = file.metadata()?.len();
                if length > archive_size_bytes {
                    file.set_len(0)?;
                }
                Ok((file, if length > archive_size_bytes { 0 } else { length }))
            });
        let (file, length) = opened.map_err(|cause| failed("open", &path, cause))?;
        Ok(Self { file, path, archive_size_bytes, length, is_over: false })
    }

    pub(super) const fn length(&self) -> u64 {
        self.length
    }

    pub(super) const fn archive_size_bytes(&self) -> u64 {
        self.archive_size_bytes
    }

    pub(super) const fn is_over(&self) -> bool {
        self.is_over
    }

    /// Appends bytes at just the offset where the upload stands. Blocks.
    pub(super) fn append(&mut self, offset: u64, bytes: &[u8]) -> Result<(), UploadError> {
        if self.is_over {
            return Err(UploadError::Unknown);
        }
        if bytes.len() > CHUNK_BYTES_MAX {
            return Err(UploadError::ChunkTooLarge { found: bytes.len() });
        }
        if offset != self.length {
            return Err(UploadError::BadOffset { expected: self.length, found: offset });
        }
        let length = self.length.saturating_add(bytes.len() as u64);
        if length > self.archive_size_bytes {
            return Err(UploadError::TooLong { declared: self.archive_size_bytes });
        }
        let written = self
            .file
            .seek(SeekFrom::Start(offset))
            .and_then(|_| self.file.write_all(bytes))
            .inspect_err(|_| {
                // So that the next try does not find half a piece. If this fails too, the digest
                // tells.
                drop(self.file.set_len(offset));
            });
        written.map_err(|cause| failed("write", &self.path, cause))?;
        self.length = length;
        Ok(())
    }

    /// Returns the file at its first byte, if all of it is here.
    pub(super) fn whole(&mut self) -> Result<&File, UploadError> {
        let (have, declared) = (self.length, self.archive_size_bytes);
        if have != declared {
            return Err(UploadError::Incomplete { have, declared });
        }
        self.file.seek(SeekFrom::Start(0)).map_err(|cause| failed("read", &self.path, cause))?;
        Ok(&self.file)
    }

    /// Reads on from where the last reading ended, at most `bytes_max`. Blocks.
    pub(super) fn read_piece(&mut self, bytes_max: u64) -> Result<Bytes, UploadError> {
        let mut piece = Vec::new();
        (&self.file)
            .take(bytes_max)
            .read_to_end(&mut piece)
            .map_err(|cause| failed("read", &self.path, cause))?;
        Ok(piece.into())
    }

    /// Removes the part file. Blocks.
    pub(super) fn end(&mut self) -> Result<(), UploadError> {
        self.is_over = true;
        remove(&self.path)
    }
}

/// Returns where an archive arrives.
pub(super) fn part(uploads: &Path, archive_digest: Sha256) -> PathBuf {
    uploads.join(format!("{archive_digest}.part"))
}

/// Removes a file that may be gone already.
pub(super) fn remove(path: &Path) -> Result<(), UploadError> {
    match fs::remove_file(path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(failed("remove", path, cause)),
        Ok(()) | Err(_) => Ok(()),
    }
}

pub(super) fn failed(step: &'static str, path: &Path, cause: io::Error) -> UploadError {
    UploadError::Part { step, path: path.to_owned(), cause }
}
