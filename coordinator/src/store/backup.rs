//! A logical export of the log to one file, and the way back into a new store.
//!
//! The file does not depend on sled: it is also the way to another engine. It starts with magic,
//! version, incarnation and number of events; then each event with its length; then the chain's
//! head and a SHA-256 over all before it. The checksum shows damage. It is no signature: who can
//! write the file can also make a valid one, so keep it where only operators can write.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, BufWriter, Read, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{
    AppendError, BATCH_BYTES_MAX, EVENT_BYTES_MAX, EventStore, Events, Head, OpenError, ReadError,
    Sequence, SledStore, batch_bytes, directory,
};

const MAGIC: &[u8; 16] = b"cutover backup\0\n";

/// The version of the file, as this build writes it; it reads this one only.
const VERSION: u32 = 1;

/// Rights of a backup: it holds what the store holds.
const FILE_MODE: u32 = 0o600;

/// What a backup holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BackupSummary {
    /// The incarnation of the store that was exported.
    pub incarnation: Uuid,
    /// The number of events, which is also the place of the newest.
    pub events: u64,
    /// The hash over all events, in the exported store's chain.
    pub head: Head,
    pub file_bytes: u64,
}

/// What [`restore`] has made, for the caller's own "restored" event.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Restored {
    /// What the backup held.
    pub backup: BackupSummary,
    /// The incarnation of the new store.
    pub incarnation: Uuid,
    /// The place of the newest event, the same in the backup and in the new store.
    pub last: Sequence,
}

/// Why a backup was not written. What was at its path before is still there.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("could not read the event log to back it up")]
    Read(#[source] ReadError),
    #[error(
        "the event log gave {found} events to back up and not {expected}; \
         run `cutover-coordinator check`"
    )]
    Incomplete { found: u64, expected: u64 },
    #[error("could not {doing} the backup {}", path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Why a backup was not restored. Nothing has been changed, neither the backup nor the target.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("{} is no whole backup: {what}; restore another one", path.display())]
    Invalid { path: PathBuf, what: String },
    #[error(
        "{} has format {found} and this coordinator reads format {supported}; \
         restore it with the newer coordinator that wrote it", path.display()
    )]
    Newer { path: PathBuf, found: u32, supported: u32 },
    #[error("could not {doing} the backup {}", path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("could not make the store to restore into")]
    Target(#[from] OpenError),
    #[error("could not write the restored events")]
    Append(#[from] AppendError),
}

impl RestoreError {
    /// The stable name of this kind of failure.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid { .. } | Self::Newer { .. } => "BACKUP_INVALID",
            Self::Io { .. } => "BACKUP_IO",
            Self::Target(error) => error.code(),
            Self::Append(error) if error.is_disk_full() => "STORE_FULL",
            Self::Append(_other) => "STORE_IO",
        }
    }
}

/// Writes all events of `store` to the file `path`, which is replaced as a whole if it exists.
///
/// # Errors
///
/// See [`ExportError`].
pub fn export(store: &dyn EventStore, path: &Path) -> Result<BackupSummary, ExportError> {
    export_events(store.incarnation(), store.last(), store.read_after(Sequence::ZERO), path)
}

/// As [`export`], from `events` that were taken from a store in use: all of them, up to `last`.
///
/// # Errors
///
/// See [`ExportError`].
pub fn export_events(
    incarnation: Uuid,
    last: Sequence,
    events: Events,
    path: &Path,
) -> Result<BackupSummary, ExportError> {
    let name = path.file_name().unwrap_or_default().display();
    let unfinished = directory::parent(path).join(format!(".{name}.new-{}", Uuid::new_v4()));
    let written = write_backup(incarnation, last, events, &unfinished).and_then(|summary| {
        fs::rename(&unfinished, path)
            .and_then(|()| File::open(directory::parent(path))?.sync_all())
            .map_err(failed_to("move into place", path))?;
        Ok(summary)
    });
    if written.is_err() && unfinished.exists() {
        // The first error is the one to tell.
        drop(fs::remove_file(&unfinished));
    }
    written
}

/// Makes a new store in `target`, which must not exist or be empty, with the events of `backup`.
///
/// It gets an incarnation of its own and the same events at the same places, and nothing else: the
/// caller appends that it was restored. `target` appears only when everything is on the disk.
///
/// # Errors
///
/// See [`RestoreError`].
pub fn restore(backup: &Path, target: &Path) -> Result<Restored, RestoreError> {
    let mut reader = BackupReader::open(backup)?;
    let mut restored = None;
    SledStore::build(target, |store| {
        let mut batch = Vec::new();
        while let Some(event) = reader.event()? {
            let full = batch_bytes(&batch) + batch_bytes(std::slice::from_ref(&event));
            if full > BATCH_BYTES_MAX {
                store.append(store.last(), &batch)?;
                batch.clear();
            }
            batch.push(event);
        }
        store.append(store.last(), &batch)?;
        let summary = reader.end()?;
        restored = Some(Restored {
            backup: summary,
            incarnation: store.incarnation(),
            last: store.last(),
        });
        Ok::<(), RestoreError>(())
    })?;
    restored.ok_or_else(|| RestoreError::Invalid {
        path: backup.to_owned(),
        what: "it was not read to its end".to_owned(),
    })
}

fn failed_to(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ExportError {
    move |source| ExportError::Io { doing, path: path.to_owned(), source }
}

fn write_backup(
    incarnation: Uuid,
    last: Sequence,
    events: Events,
    path: &Path,
) -> Result<BackupSummary, ExportError> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(path)
        .map_err(failed_to("create", path))?;
    let mut out = Hashed { inner: BufWriter::new(file), hash: Sha256::new(), bytes: 0 };
    let header =
        [MAGIC.as_slice(), &VERSION.to_be_bytes(), incarnation.as_bytes(), &last.0.to_be_bytes()];
    out.write_all(&header.concat()).map_err(failed_to("write", path))?;

    let mut head = Head::genesis(incarnation);
    let mut found = Sequence::ZERO;
    for event in events {
        let (sequence, event) = event.map_err(ExportError::Read)?;
        head = head.extended(sequence, &event);
        found = sequence;
        // A store holds no event above EVENT_BYTES_MAX.
        let length = u32::try_from(event.len()).unwrap_or(u32::MAX);
        out.write_all(&length.to_be_bytes())
            .and_then(|()| out.write_all(&event))
            .map_err(failed_to("write", path))?;
    }
    if found != last {
        return Err(ExportError::Incomplete { found: found.0, expected: last.0 });
    }
    out.write_all(head.as_bytes()).map_err(failed_to("write", path))?;
    let Hashed { inner: mut file, hash, bytes } = out;
    let checksum = hash.finalize();
    file.write_all(&checksum)
        .and_then(|()| file.flush())
        .and_then(|()| file.get_ref().sync_all())
        .map_err(failed_to("write", path))?;
    let checksum_bytes = u64::try_from(checksum.len()).unwrap_or(u64::MAX);
    Ok(BackupSummary { incarnation, events: last.0, head, file_bytes: bytes + checksum_bytes })
}

/// Reads a backup from its start to its end, and believes nothing before [`Self::end`].
#[derive(Debug)]
struct BackupReader {
    path: PathBuf,
    input: Hashed<BufReader<File>>,
    incarnation: Uuid,
    count: u64,
    last: Sequence,
    head: Head,
}

impl BackupReader {
    fn open(path: &Path) -> Result<Self, RestoreError> {
        let file = File::open(path).map_err(|source| RestoreError::Io {
            doing: "open",
            path: path.to_owned(),
            source,
        })?;
        let mut reader = Self {
            path: path.to_owned(),
            input: Hashed { inner: BufReader::new(file), hash: Sha256::new(), bytes: 0 },
            incarnation: Uuid::nil(),
            count: 0,
            last: Sequence::ZERO,
            head: Head::genesis(Uuid::nil()),
        };
        if &reader.array::<16>()? != MAGIC {
            return Err(reader.invalid("it does not begin like one"));
        }
        let found = u32::from_be_bytes(reader.array()?);
        if found > VERSION {
            let path = path.to_owned();
            return Err(RestoreError::Newer { path, found, supported: VERSION });
        }
        if found != VERSION {
            return Err(reader.invalid("it names no version"));
        }
        reader.incarnation = Uuid::from_bytes(reader.array()?);
        reader.count = u64::from_be_bytes(reader.array()?);
        reader.head = Head::genesis(reader.incarnation);
        Ok(reader)
    }

    /// The following event, if there is one.
    fn event(&mut self) -> Result<Option<Vec<u8>>, RestoreError> {
        if self.last.0 == self.count {
            return Ok(None);
        }
        let length = usize::try_from(u32::from_be_bytes(self.array()?)).unwrap_or(usize::MAX);
        if length > EVENT_BYTES_MAX {
            return Err(self.invalid("it has an event that is too large"));
        }
        let mut event = vec![0; length];
        self.fill(&mut event)?;
        self.last = self.last.next();
        self.head = self.head.extended(self.last, &event);
        Ok(Some(event))
    }

    /// Checks what follows the last event, and that nothing follows that.
    fn end(mut self) -> Result<BackupSummary, RestoreError> {
        if &self.array::<{ Head::BYTES }>()? != self.head.as_bytes() {
            return Err(self.invalid("its events do not match their hash"));
        }
        let expected: [u8; 32] = self.input.hash.clone().finalize().into();
        if self.array::<32>()? != expected {
            return Err(self.invalid("its checksum does not match"));
        }
        let file_bytes = self.input.bytes;
        let mut rest = [0];
        match self.input.read(&mut rest) {
            Ok(0) => {}
            Ok(_more) => return Err(self.invalid("something follows its end")),
            Err(source) => {
                return Err(RestoreError::Io { doing: "read", path: self.path, source });
            }
        }
        let Self { incarnation, count: events, head, .. } = self;
        Ok(BackupSummary { incarnation, events, head, file_bytes })
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RestoreError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), RestoreError> {
        match self.input.read_exact(bytes) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(self.invalid("it is cut off"))
            }
            Err(source) => Err(RestoreError::Io { doing: "read", path: self.path.clone(), source }),
        }
    }

    fn invalid(&self, what: &str) -> RestoreError {
        RestoreError::Invalid { path: self.path.clone(), what: what.to_owned() }
    }
}

/// Hashes and counts what passes through.
#[derive(Debug)]
struct Hashed<T> {
    inner: T,
    hash: Sha256,
    bytes: u64,
}

impl<T> Hashed<T> {
    fn passed(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.bytes += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    }
}

impl<T: Write> Write for Hashed<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.passed(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<T: Read> Read for Hashed<T> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(bytes)?;
        self.passed(&bytes[..read]);
        Ok(read)
    }
}

#[cfg(test)]
#[cfg(test)]
mod tests;
