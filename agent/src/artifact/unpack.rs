//! Unpacking: a verified archive becomes a release's folder, or nothing.

use std::{
    fs::{self, File},
    io::{self, Read, Seek as _, SeekFrom},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use cutover_common::{ApplicationName, Sha256};
use cutover_runtime::archive::{
    Declared, EntryPath, FileEntry, Limits, LinkTarget, ReadError, Sink, read,
};
use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, fchmod, mkdirat, openat2, symlinkat, unlinkat},
    io::Errno,
};

use super::{
    release_dir::{ReleaseDirError, ReleaseDirs, SHARED, Staging},
    room::{self, DiskFull, Need, RoomError},
};

/// What a file system takes for a file's last bytes, or for a folder, at the least.
const BLOCK_BYTES: u64 = 4096;

/// Why an archive did not become a release.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The archive is not what the release says, or is hostile.
    #[error("could not verify the release")]
    Verify(#[source] ReadError),
    #[error("could not write the release")]
    Write(#[source] ReadError),
    #[error(transparent)]
    Full(DiskFull),
    #[error(transparent)]
    Room(RoomError),
    #[error(transparent)]
    Folder(#[from] ReleaseDirError),
    #[error(
        "the release brings {path:?}, which its cutover.toml declares as shared; push it with \
         `cutover release push`, which leaves shared folders out"
    )]
    Shared { path: String },
    #[error("could not read the archive again")]
    Rewind(#[source] io::Error),
    #[error(
        "this kernel, or the container's seccomp profile, has no openat2, without which releases \
         are not unpacked safely; run Linux 5.6 or later and allow openat2 (systemd's \
         RestrictSUIDSGID=yes forbids it)"
    )]
    NoOpenat2(#[source] io::Error),
}

/// Unpacks `archive` into the folder of the release that it is, with a link at each of the `shared`
/// paths to the application's own folder.
///
/// The archive is read twice: first to verify all of it and to count what it needs, then to write
/// it, verifying it again. So a bad archive leaves no trace, and nobody can change it in between.
///
/// # Errors
///
/// After an error the release is not there, and nothing is left in the staging folder.
pub(super) fn unpack(
    dirs: &ReleaseDirs,
    archive: &mut File,
    application: &ApplicationName,
    (declared, shared): (&Declared, &[String]),
) -> Result<PathBuf, UnpackError> {
    let limits = Limits::default();
    let mut survey = Survey::default();
    rewind(archive)?;
    read(&mut *archive, declared, &limits, &mut survey).map_err(UnpackError::Verify)?;
    let need = survey.need(declared.size_bytes).with_reserve();
    room::require(dirs.data(), need).map_err(|error| match error {
        RoomError::Full(full) => UnpackError::Full(full),
        error @ RoomError::Ask { .. } => UnpackError::Room(error),
    })?;

    let written = write(dirs, archive, application, (declared, shared), &limits);
    written.map_err(|error| match full_disk(dirs, need, &error) {
        Some(full) => UnpackError::Full(full),
        None => error,
    })
}

fn write(
    dirs: &ReleaseDirs,
    archive: &mut File,
    application: &ApplicationName,
    (declared, shared): (&Declared, &[String]),
    limits: &Limits,
) -> Result<PathBuf, UnpackError> {
    let staging = dirs.stage()?;
    let mut tree = StagedTree::open(&staging)?;
    rewind(archive)?;
    read(&mut *archive, declared, limits, &mut tree).map_err(UnpackError::Write)?;
    for path in shared {
        tree.share(application, path, &staging)?;
        dirs.make_shared(application, path)?;
    }
    sync_tree(staging.path())?;
    let digest: Sha256 = declared.digest;
    Ok(dirs.publish(staging, application, digest)?)
}

fn rewind(archive: &mut File) -> Result<(), UnpackError> {
    archive.seek(SeekFrom::Start(0)).map_err(UnpackError::Rewind)?;
    Ok(())
}

/// Returns the error to report instead if the disk ran full, which preflight cannot rule out.
fn full_disk(dirs: &ReleaseDirs, need: Need, error: &UnpackError) -> Option<DiskFull> {
    match error {
        UnpackError::Write(ReadError::Sink { cause, .. })
        | UnpackError::Folder(ReleaseDirError { cause, .. }) => {
            room::ran_full(dirs.data(), need, cause)
        }
        UnpackError::Verify(_)
        | UnpackError::Write(_)
        | UnpackError::Full(_)
        | UnpackError::Room(_)
        | UnpackError::Rewind(_)
        | UnpackError::Shared { .. }
        | UnpackError::NoOpenat2(_) => None,
    }
}

/// Flushes all files and folders. Only after all are written: the first flush then takes most of
/// them along.
fn sync_tree(folder: &Path) -> Result<(), ReleaseDirError> {
    let unreadable = |cause| ReleaseDirError::while_doing("list", folder, cause);
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let kind = entry.file_type().map_err(unreadable)?;
        if kind.is_dir() {
            sync_tree(&entry.path())?;
        } else if kind.is_file() {
            super::release_dir::sync(&entry.path())?;
        }
    }
    super::release_dir::sync(folder)
}

/// Counts what an archive needs and writes nothing.
#[derive(Default)]
struct Survey {
    need: Need,
}

impl Survey {
    /// Returns the need, at least as large as the archive says it is.
    fn need(&self, size_bytes: u64) -> Need {
        // One more inode, for the release's own folder.
        Need { bytes: self.need.bytes.max(size_bytes), inodes: self.need.inodes + 1 }
    }

    fn count(&mut self, bytes: u64) {
        self.need.bytes = self.need.bytes.saturating_add(bytes.next_multiple_of(BLOCK_BYTES));
        self.need.inodes += 1;
    }
}

impl Sink for Survey {
    fn folder(&mut self, _: &EntryPath) -> io::Result<()> {
        self.count(BLOCK_BYTES);
        Ok(())
    }

    fn file(&mut self, _: &EntryPath, file: FileEntry, _: &mut dyn Read) -> io::Result<()> {
        self.count(file.size_bytes);
        Ok(())
    }

    fn symlink(&mut self, _: &EntryPath, _: &LinkTarget) -> io::Result<()> {
        self.count(BLOCK_BYTES);
        Ok(())
    }
}

/// Writes into a staging folder and nowhere else: the kernel resolves every path beneath it and
/// through no symlink (promises.md D6), whatever the reader may have missed.
struct StagedTree {
    root: OwnedFd,
}

impl StagedTree {
    fn open(staging: &Staging) -> Result<Self, UnpackError> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = openat2(CWD, staging.path(), flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS)
            .map_err(|errno| match errno {
                // Old container runtimes answer EPERM for calls they do not know.
                Errno::NOSYS | Errno::PERM => UnpackError::NoOpenat2(errno.into()),
                errno => ReleaseDirError::while_doing("open", staging.path(), errno.into()).into(),
            })?;
        Ok(Self { root })
    }

    fn open_beneath(&self, path: &str, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        Ok(rustix::io::retry_on_intr(|| openat2(&self.root, path, flags, mode, resolve))?)
    }

    /// Opens the folder that `path` is in, and returns it with the last name.
    fn parent_of<'a>(&self, path: &'a EntryPath) -> io::Result<(OwnedFd, &'a str)> {
        let (folder, name) = path.split();
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        Ok((self.open_beneath(folder.unwrap_or("."), flags, Mode::empty())?, name))
    }
}

impl StagedTree {
    /// Makes the link to what stays from release to release. An empty folder in its place makes way.
    fn share(
        &self,
        application: &ApplicationName,
        path: &str,
        staging: &Staging,
    ) -> Result<(), UnpackError> {
        let failed = |errno: Errno| {
            ReleaseDirError::while_doing("make", &staging.path().join(path), errno.into())
        };
        let (folders, name) = path.rsplit_once('/').unwrap_or((".", path));
        let mut at = String::new();
        for folder in folders.split('/') {
            at = if at.is_empty() { folder.to_owned() } else { format!("{at}/{folder}") };
            match mkdirat(&self.root, &at, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(failed(errno).into()),
            }
        }
        let taken = || UnpackError::Shared { path: path.to_owned() };
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        // Not through a link of the release's: it would be made elsewhere.
        let parent = self.open_beneath(folders, flags, Mode::empty()).map_err(|_| taken())?;
        match unlinkat(&parent, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(_) => return Err(taken()),
        }
        // From the release's final place: releases/APPLICATION/DIGEST.
        let up = "../".repeat(3 + path.matches('/').count());
        let target = format!("{up}{SHARED}/{application}/{path}");
        symlinkat(target, &parent, name).map_err(|errno| failed(errno).into())
    }
}

impl Sink for StagedTree {
    fn folder(&mut self, path: &EntryPath) -> io::Result<()> {
        let (parent, name) = self.parent_of(path)?;
        let mode = Mode::from_raw_mode(0o755);
        mkdirat(&parent, name, mode)?;
        // The umask of whoever started the agent has no say here.
        let folder = self.open_beneath(path.as_str(), OFlags::DIRECTORY, Mode::empty())?;
        Ok(fchmod(&folder, mode)?)
    }

    fn file(
        &mut self,
        path: &EntryPath,
        file: FileEntry,
        content: &mut dyn Read,
    ) -> io::Result<()> {
        let mode = Mode::from_raw_mode(if file.is_executable { 0o755 } else { 0o644 });
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let mut out = File::from(self.open_beneath(path.as_str(), flags, mode)?);
        io::copy(content, &mut out)?;
        Ok(fchmod(&out, mode)?)
    }

    fn symlink(&mut self, path: &EntryPath, target: &LinkTarget) -> io::Result<()> {
        let (parent, name) = self.parent_of(path)?;
        Ok(symlinkat(target.as_str(), &parent, name)?)
    }
}

#[cfg(test)]
mod tests;
