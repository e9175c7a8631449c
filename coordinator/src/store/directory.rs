//! A store's directory: who may use it, on which file systems, by one process at a time.
//!
//! Nothing here knows sled or the anchor; `sled.rs` puts them together.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, flock, fstatvfs, statfs},
    io::Errno,
    process::geteuid,
};

/// Rights of a store's directory: it holds hashed tokens, and names and addresses of servers.
const DIRECTORY_MODE: u32 = 0o700;

/// Rights of a store's files.
const FILE_MODE: u32 = 0o600;

/// File systems on which locks, or synced writes, depend on another machine or a program, by the
/// magic numbers of statfs(2).
const REFUSED_FILESYSTEMS: [(u32, &str); 9] = [
    (0x6969, "NFS"),
    (0xFF53_4D42, "CIFS"),
    (0x517B, "SMB"),
    (0xFE53_4D42, "SMB2"),
    (0x6573_5546, "FUSE"),
    (0x0102_1997, "9P"),
    (0x00C3_6400, "Ceph"),
    (0x5346_414F, "AFS"),
    (0x7375_7245, "Coda"),
];

/// Why an event store was not opened, or not created.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "there is no event store in {}; make one with `cutover-coordinator init`, or bring one back with \
         `cutover-coordinator restore`", dir.display()
    )]
    Missing { dir: PathBuf },
    #[error("{} is not empty; name a directory that does not exist or is empty", dir.display())]
    Occupied { dir: PathBuf },
    #[error(
        "the event store in {} is locked by another coordinator (pid {}); stop that one first",
        dir.display(), pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string())
    )]
    Locked { dir: PathBuf, pid: Option<u32> },
    #[error(
        "the event store in {} has format {found} and this coordinator reads formats up to {supported}; \
         run the newer coordinator that wrote it", dir.display()
    )]
    Newer { dir: PathBuf, found: u32, supported: u32 },
    #[error(
        "the event store in {} is damaged: {what}; keep the directory as it is, and bring the newest backup back \
         into an empty one with `cutover-coordinator restore`", dir.display()
    )]
    Damaged { dir: PathBuf, what: String },
    #[error(
        "{} is on a {filesystem} file system, where locks and synced writes cannot be relied on; \
         move the data directory to a local disk", dir.display()
    )]
    NetworkFilesystem { dir: PathBuf, filesystem: &'static str },
    #[error("{} {what}; {fix}", path.display())]
    Permissions { path: PathBuf, what: String, fix: &'static str },
    #[error("could not {doing} {}", path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl OpenError {
    /// The stable name of this kind of failure.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "STORE_MISSING",
            Self::Occupied { .. } => "STORE_OCCUPIED",
            Self::Locked { .. } => "STORE_LOCKED",
            Self::Newer { .. } => "STORE_NEWER",
            Self::Damaged { .. } => "STORE_DAMAGED",
            Self::NetworkFilesystem { .. } => "STORE_NETWORK_FILESYSTEM",
            Self::Permissions { .. } => "STORE_PERMISSIONS",
            Self::Io { .. } => "STORE_IO",
        }
    }

    /// Makes the closure that says what was being done to `path` when the system refused.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }

    pub(super) fn damaged(dir: &Path, what: impl Into<String>) -> Self {
        Self::Damaged { dir: dir.to_owned(), what: what.into() }
    }
}

/// A store's directory, held by this process until dropped.
#[derive(Debug)]
pub(super) struct LockedDirectory {
    path: PathBuf,
    /// Holds the `flock`, which ends when the file is closed, also by `kill -9`.
    lock: File,
}

impl LockedDirectory {
    /// Locks the existing directory `path`, once it has passed as private and local.
    pub(super) fn lock(path: &Path) -> Result<Self, OpenError> {
        let metadata = match fs::symlink_metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(OpenError::Missing { dir: path.to_owned() });
            }
            Err(error) => return Err(OpenError::io("look at", path)(error)),
        };
        refuse_foreign(path, &metadata)?;
        refuse_network(path)?;
        if !path.join("format").exists() && !path.join("lock").exists() {
            // A lock file is not left in a directory that is no store.
            return Err(OpenError::Missing { dir: path.to_owned() });
        }
        let lock = take_lock(path)?;
        Ok(Self { path: path.to_owned(), lock })
    }

    /// Makes the directory `path`, private and locked, which must not exist.
    pub(super) fn create(path: &Path) -> Result<Self, OpenError> {
        create_directory(path)?;
        refuse_network(path)?;
        let lock = take_lock(path)?;
        Ok(Self { path: path.to_owned(), lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The bytes that the file system has left for this process.
    pub(super) fn available_bytes(&self) -> io::Result<u64> {
        let filesystem = fstatvfs(&self.lock)?;
        Ok(filesystem.f_bavail.saturating_mul(filesystem.f_frsize))
    }
}

/// Makes what was created, renamed or removed in `dir` survive a power cut.
pub(super) fn sync_directory(dir: &Path) -> Result<(), OpenError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(OpenError::io("sync the directory", dir))
}

/// Creates a private directory that must not exist.
pub(super) fn create_directory(path: &Path) -> Result<(), OpenError> {
    DirBuilder::new()
        .mode(DIRECTORY_MODE)
        .create(path)
        .map_err(OpenError::io("create the directory", path))
}

/// Creates a private file that must not exist, open for reading and writing.
pub(super) fn create_file(path: &Path) -> Result<File, OpenError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(path)
        .map_err(OpenError::io("create", path))
}

/// The directory that holds `path`.
pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _no_parent_or_a_bare_name => Path::new("."),
    }
}

fn refuse_foreign(path: &Path, metadata: &fs::Metadata) -> Result<(), OpenError> {
    let refused =
        |what: String, fix| Err(OpenError::Permissions { path: path.to_owned(), what, fix });
    if metadata.is_symlink() {
        return refused("is a symbolic link".to_owned(), "name the directory itself");
    }
    if !metadata.is_dir() {
        return refused("is no directory".to_owned(), "name a directory");
    }
    let user = geteuid().as_raw();
    if metadata.uid() != user {
        return refused(
            format!("belongs to user {} and this is user {user}", metadata.uid()),
            "run the coordinator as the directory's owner",
        );
    }
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        return refused(
            format!("has mode {mode:03o} and is open to other users"),
            "make it private with `chmod 700`",
        );
    }
    Ok(())
}

fn refuse_network(path: &Path) -> Result<(), OpenError> {
    let filesystem =
        statfs(path).map_err(io::Error::from).map_err(OpenError::io("look at", path))?;
    // The kernel's magic numbers have 32 bits; the field is wider on some architectures.
    match refused_filesystem(filesystem.f_type as u64 & 0xFFFF_FFFF) {
        Some(filesystem) => Err(OpenError::NetworkFilesystem { dir: path.to_owned(), filesystem }),
        None => Ok(()),
    }
}

fn refused_filesystem(magic: u64) -> Option<&'static str> {
    REFUSED_FILESYSTEMS
        .iter()
        .find(|(refused, _)| u64::from(*refused) == magic)
        .map(|(_, name)| *name)
}

fn take_lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(FILE_MODE)
        .open(&path)
        .map_err(OpenError::io("open", &path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            let mut text = String::new();
            // Without a readable pid the lock is just as held.
            let pid = match file.take(16).read_to_string(&mut text) {
                Ok(_) => text.trim().parse().ok(),
                Err(_) => None,
            };
            return Err(OpenError::Locked { dir: dir.to_owned(), pid });
        }
        Err(error) => return Err(OpenError::io("lock", &path)(error.into())),
    }
    file.set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(OpenError::io("write", &path))?;
    Ok(file)
}

/// Whether there is anything in the directory `path`. One that does not exist holds nothing.
pub(super) fn holds_anything(path: &Path) -> io::Result<bool> {
    match fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.next().transpose()?.is_some()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

pub(super) fn files_of(path: &Path) -> Result<Vec<PathBuf>, OpenError> {
    let entries = fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = entries.map_err(OpenError::io("read", path))?;
    Ok(entries.into_iter().map(|entry| entry.path()).filter(|path| path.is_file()).collect())
}

/// Copies the directory `from`, with what is in it, and returns its size in bytes.
pub(super) fn copy_directory(from: &Path, to: &Path) -> Result<u64, OpenError> {
    create_directory(to)?;
    let mut bytes = 0;
    let entries = fs::read_dir(from).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    for entry in entries.map_err(OpenError::io("read", from))? {
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        bytes += if path.is_dir() {
            copy_directory(&path, &to)?
        } else {
            fs::copy(&path, &to).map_err(OpenError::io("copy", &path))?
        };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_and_user_space_file_systems_are_refused_by_name_and_local_ones_are_not() {
        for (magic, name) in [(0x6969, "NFS"), (0xFF53_4D42, "CIFS"), (0x6573_5546, "FUSE")] {
            assert_eq!(refused_filesystem(magic), Some(name));
        }
        let (ext4, xfs, btrfs, tmpfs) = (0xEF53, 0x5846_5342, 0x9123_683E, 0x0102_1994);
        for magic in [ext4, xfs, btrfs, tmpfs] {
            assert_eq!(refused_filesystem(magic), None);
        }
    }
}
