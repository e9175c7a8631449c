//! Inspecting: reads an archive strictly from end to end, and its `cutover.toml` out of it.

use std::io::{self, Read};

use cutover_runtime::archive::{
    Declared, EntryPath, FileEntry, Limits, LinkTarget, ReadError, Sink, read,
};

use super::upload::UploadError;

/// Where a release says what it is.
pub const MANIFEST_PATH: &str = "cutover.toml";

/// How large a `cutover.toml` may be, in bytes (promises.md §4 row 16).
pub const MANIFEST_BYTES_MAX: u64 = 256 << 10;

/// What an accepted archive turned out to hold.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Inspected {
    /// The text of its `cutover.toml`.
    pub manifest: String,
    /// Files, folders and symlinks.
    pub entries: u64,
}

/// Reads an archive from its first byte to its last. Blocks.
///
/// # Errors
///
/// Refuses what [`read`] refuses, and an archive without a readable `cutover.toml`.
pub(super) fn inspect(archive: impl Read, declared: &Declared) -> Result<Inspected, UploadError> {
    let mut found = Found::default();
    let outcome = read(archive, declared, &Limits::default(), &mut found);
    if let Some(size_bytes) = found.too_large {
        return Err(UploadError::ManifestTooLarge { size_bytes });
    }
    let entries = outcome.map_err(UploadError::Verify)?.entries;
    let manifest = found.manifest.ok_or(UploadError::NoManifest)?;
    let manifest = String::from_utf8(manifest).map_err(|_| UploadError::ManifestNotText)?;
    Ok(Inspected { manifest, entries })
}

/// Tells whether reading failed for want of bytes that could not be had, which is our fault, and
/// no fault of the archive.
pub(super) fn is_ours(error: &ReadError) -> bool {
    match error {
        // The decoder's own complaints are `Other`, an early end is `UnexpectedEof`, and too many
        // bytes are `InvalidData`.
        ReadError::Corrupt { cause: Some(cause), .. } => cause.raw_os_error().is_some(),
        ReadError::Sink { .. } => true,
        ReadError::Corrupt { cause: None, .. }
        | ReadError::Refused(_)
        | ReadError::Digest { .. }
        | ReadError::Size { .. } => false,
    }
}

/// Keeps the manifest and lets the rest pass.
#[derive(Default)]
struct Found {
    manifest: Option<Vec<u8>>,
    too_large: Option<u64>,
}

impl Sink for Found {
    fn folder(&mut self, _: &EntryPath) -> io::Result<()> {
        Ok(())
    }

    fn file(
        &mut self,
        path: &EntryPath,
        file: FileEntry,
        content: &mut dyn Read,
    ) -> io::Result<()> {
        if path.as_str() != MANIFEST_PATH {
            return Ok(());
        }
        if file.size_bytes > MANIFEST_BYTES_MAX {
            self.too_large = Some(file.size_bytes);
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let mut text = Vec::new();
        content.read_to_end(&mut text)?;
        self.manifest = Some(text);
        Ok(())
    }

    fn symlink(&mut self, _: &EntryPath, _: &LinkTarget) -> io::Result<()> {
        Ok(())
    }
}
