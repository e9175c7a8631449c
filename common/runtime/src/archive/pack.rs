//! Packing: a folder becomes the canonical archive of a release.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Read as _, Write},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use cutover_common::Sha256;
use rustix::fs::OFlags;

use super::{
    Limits,
    header::{self, BLOCK_BYTES, FILE_BYTES_MAX, Kind, MODE_EXECUTABLE, MODE_PLAIN},
    meter::Metered,
    path::{EntryPath, LinkTarget},
    refusal::{Bound, Refusal, echo},
    tree::{Entry, Tree},
};

/// What archives are compressed with. Level 3 is zstd's default: on one core it keeps up with the
/// network that follows, and higher levels save a few percent only.
const ZSTD_LEVEL: i32 = 3;

/// What is left out of a release, at the top of its folder only: the repository that it came from
/// (in a git worktree this is a file that names a path of the builder's machine).
const LEFT_OUT: &str = ".git";

/// The end marker of a tar stream.
const END: [u8; 2 * BLOCK_BYTES] = [0; 2 * BLOCK_BYTES];

/// What [`pack`] wrote.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PackedArchive {
    /// Of the uncompressed archive: the content's identity.
    pub digest: Sha256,
    pub size_bytes: u64,
    /// Of the compressed archive, as it was written.
    pub archive_digest: Sha256,
    pub archive_size_bytes: u64,
    /// Files, folders and symlinks.
    pub entries: u64,
}

/// Why a folder could not be packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    #[error("could not pack the folder; {}", .0.advice())]
    Refused(#[source] Refusal),
    #[error("could not read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error(
        "{} changed while it was packed; let the build finish, then pack again",
        path.display()
    )]
    Changed { path: PathBuf },
    #[error("could not write the archive")]
    Write(#[source] io::Error),
}

impl From<Refusal> for PackError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Packs what is in `folder` and writes the compressed archive to `out`.
///
/// The same tree gives the same bytes, whoever owns it, wherever it is and whenever it was
/// written: entries are sorted by the bytes of their paths, times and owners are zero, modes are
/// 0755 for folders and for files that anybody may execute, 0644 for others. Symlinks are packed,
/// never followed (`folder` itself may be one). Nothing is left out but `.git` at the top.
///
/// # Errors
///
/// Refuses what is no file, folder or symlink inside the tree, a name that [`EntryPath`] refuses,
/// and a tree beyond the limits of [`read`](super::read()). After an error `out` holds a useless
/// beginning.
pub fn pack(folder: &Path, out: impl Write) -> Result<PackedArchive, PackError> {
    pack_without(folder, &[], out)
}

/// The same without what is at the paths `left_out` in it, which the release gets where it runs.
///
/// # Errors
///
/// The same as [`pack`].
pub fn pack_without(
    folder: &Path,
    left_out: &[String],
    out: impl Write,
) -> Result<PackedArchive, PackError> {
    let limits = Limits::default();
    let found = survey(folder, left_out, &limits)?;
    let entries = found.len() as u64;
    let frame = Metered::new(out, u64::MAX);
    let mut encoder = zstd::Encoder::new(frame, ZSTD_LEVEL).map_err(PackError::Write)?;
    encoder.include_checksum(true).map_err(PackError::Write)?;
    let mut stream = Metered::new(encoder, u64::MAX);
    write_stream(folder, &found, &mut stream)?;

    let size_bytes = stream.seen();
    let (digest, encoder) = stream.finish();
    let mut frame = encoder.finish().map_err(PackError::Write)?;
    frame.flush().map_err(PackError::Write)?;
    let archive_size_bytes = frame.seen();
    let (archive_digest, _) = frame.finish();
    limits.admit(size_bytes, archive_size_bytes)?;
    Ok(PackedArchive { digest, size_bytes, archive_digest, archive_size_bytes, entries })
}

/// Computes the digest that the release packed from `folder` has, without compressing it.
///
/// # Errors
///
/// The same as [`pack`].
pub fn digest_of_tree(folder: &Path) -> Result<Sha256, PackError> {
    let found = survey(folder, &[], &Limits::default())?;
    let mut stream = Metered::new(io::sink(), u64::MAX);
    write_stream(folder, &found, &mut stream)?;
    Ok(stream.finish().0)
}

/// What lies in the folder under one path.
struct Found {
    path: EntryPath,
    what: What,
}

enum What {
    Folder,
    File { stamp: Stamp, mode: u32 },
    Link { target: LinkTarget },
}

/// What a file that nobody touches keeps.
#[derive(Clone, Copy, Eq, PartialEq)]
struct Stamp {
    device: u64,
    inode: u64,
    size_bytes: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size_bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// Lists the whole tree, sorted, and judges it as the reader will.
fn survey(folder: &Path, left_out: &[String], limits: &Limits) -> Result<Vec<Found>, PackError> {
    let mut found = Vec::new();
    let mut todo: Vec<Option<EntryPath>> = vec![None];
    while let Some(parent) = todo.pop() {
        let at = parent.as_ref().map_or_else(|| folder.to_owned(), |path| folder.join(path));
        let unreadable = |cause| PackError::Read { path: at.clone(), cause };
        for entry in fs::read_dir(&at).map_err(unreadable)? {
            let name = entry.map_err(unreadable)?.file_name();
            if parent.is_none() && name == LEFT_OUT {
                continue;
            }
            let mut raw = Vec::new();
            if let Some(parent) = &parent {
                raw.extend_from_slice(parent.as_str().as_bytes());
                raw.push(b'/');
            }
            raw.extend_from_slice(name.as_bytes());
            let path = EntryPath::parse(&raw)?;
            if left_out.iter().any(|left_out| left_out == path.as_str()) {
                continue;
            }
            let what = look_at(folder, &path)?;
            if matches!(what, What::Folder) {
                todo.push(Some(path.clone()));
            }
            found.push(Found { path, what });
            if found.len() as u64 > limits.entries_max {
                return Err(Refusal::whole(Bound::Entries, limits.entries_max).into());
            }
        }
    }
    // By bytes, which puts a folder before what is in it.
    found.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    judge(&found, limits)?;
    Ok(found)
}

fn look_at(folder: &Path, path: &EntryPath) -> Result<What, PackError> {
    let full = folder.join(path);
    let unreadable = |cause| PackError::Read { path: full.clone(), cause };
    let metadata = fs::symlink_metadata(&full).map_err(unreadable)?;
    let kind = metadata.file_type();
    let entry = || echo(path.as_str().as_bytes());
    if kind.is_dir() {
        // A folder's setgid bit only says which group its files get; it is masked, not refused.
        return Ok(What::Folder);
    }
    if kind.is_symlink() {
        let raw = fs::read_link(&full).map_err(unreadable)?;
        let target = LinkTarget::parse(path, raw.as_os_str().as_bytes())?;
        return Ok(What::Link { target });
    }
    if !kind.is_file() {
        return Err(Refusal::EntryType { entry: entry(), kind: "a device, fifo or socket" }.into());
    }
    let mode = metadata.mode() & 0o7777;
    if mode & !0o777 != 0 {
        return Err(Refusal::Privileged { entry: entry(), mode }.into());
    }
    if metadata.size() > FILE_BYTES_MAX {
        let max = FILE_BYTES_MAX;
        return Err(Refusal::EntryLimit { entry: entry(), bound: Bound::FileBytes, max }.into());
    }
    let mode = if mode & 0o111 == 0 { MODE_PLAIN } else { MODE_EXECUTABLE };
    Ok(What::File { stamp: Stamp::of(&metadata), mode })
}

/// Judges what can only be known of all entries together.
fn judge(found: &[Found], limits: &Limits) -> Result<(), Refusal> {
    let mut tree = Tree::new();
    let mut size_bytes = END.len() as u64;
    for Found { path, what } in found {
        size_bytes += header_of(path, what).len() as u64;
        let entry = match what {
            What::Folder => Entry::Folder,
            What::File { stamp, .. } => {
                size_bytes += stamp.size_bytes.next_multiple_of(BLOCK_BYTES as u64);
                Entry::File
            }
            What::Link { target } => Entry::Link(target.clone()),
        };
        tree.add(path, entry)?;
    }
    if size_bytes > limits.size_bytes_max {
        return Err(Refusal::whole(Bound::SizeBytes, limits.size_bytes_max));
    }
    tree.follow_links()
}

fn header_of(path: &EntryPath, what: &What) -> Vec<u8> {
    let kind = match what {
        What::Folder => Kind::Folder,
        What::File { stamp, mode } => Kind::File { size_bytes: stamp.size_bytes, mode: *mode },
        What::Link { target } => Kind::Link { target: target.as_str() },
    };
    header::encode(path.as_str(), kind)
}

fn write_stream(folder: &Path, found: &[Found], out: &mut impl Write) -> Result<(), PackError> {
    for Found { path, what } in found {
        out.write_all(&header_of(path, what)).map_err(PackError::Write)?;
        if let What::File { stamp, .. } = what {
            write_content(&folder.join(path), *stamp, out)?;
        }
    }
    out.write_all(&END).map_err(PackError::Write)
}

/// Writes a file's content and padding, if it is the file that was looked at.
fn write_content(path: &Path, stamp: Stamp, out: &mut impl Write) -> Result<(), PackError> {
    let unreadable = |cause| PackError::Read { path: path.to_owned(), cause };
    let mut file = open(path).map_err(unreadable)?;
    let is_unchanged = |file: &File| Ok(Stamp::of(&file.metadata()?) == stamp);
    let mut is_same = is_unchanged(&file).map_err(unreadable)?;
    let mut buffer = vec![0; 64 << 10];
    let mut left = stamp.size_bytes;
    while is_same && left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let count = file.read(&mut buffer[..most]).map_err(unreadable)?;
        is_same = count > 0;
        left -= count as u64;
        out.write_all(&buffer[..count]).map_err(PackError::Write)?;
    }
    if !is_same || !is_unchanged(&file).map_err(unreadable)? {
        return Err(PackError::Changed { path: path.to_owned() });
    }
    let padding = stamp.size_bytes.next_multiple_of(BLOCK_BYTES as u64) - stamp.size_bytes;
    io::copy(&mut io::repeat(0).take(padding), out).map_err(PackError::Write)?;
    Ok(())
}

/// Opens a file for reading. What has become a symlink or a fifo since it was looked at neither
/// leads elsewhere nor blocks.
fn open(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(path)
}

#[cfg(test)]
mod tests;
