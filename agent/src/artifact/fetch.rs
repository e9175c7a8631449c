//! Fetching: an archive comes into a `.part` file, in as many goes as it takes.

use std::{
    error::Error as StdError,
    fs::{self, File, OpenOptions},
    future::Future,
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    pin::pin,
    time::Duration,
};

use bytes::Bytes;
use cutover_common::Sha256;
use futures::{Stream, StreamExt as _};
use sha2::Digest as _;
use tokio::{
    sync::mpsc,
    task::{JoinError, spawn_blocking},
    time::timeout,
};

/// How long a fetch may bring no byte.
///
/// Longer than any pause of a link that still works (the session itself is given up after 15 s),
/// short enough for an operator who watches.
pub(super) const STALL_MAX: Duration = Duration::from_secs(30);

/// How often an archive is fetched whose bytes turn out wrong (promises.md §3 row 83).
const ATTEMPTS_MAX: u32 = 3;

/// How many chunks may wait for the disk. Each is at most a message long, so that a slow disk
/// slows the sender down instead of filling our memory.
const CHUNKS_WAITING_MAX: usize = 4;

/// Why an archive was not fetched. What has come stays in the `.part` file, and the next try goes
/// on from there.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("could not ask for the archive from byte {offset} on")]
    Open {
        offset: u64,
        #[source]
        cause: Box<dyn StdError + Send + Sync>,
    },
    #[error("the archive stopped coming at byte {offset} of {size_bytes}")]
    Interrupted {
        offset: u64,
        size_bytes: u64,
        #[source]
        cause: Option<Box<dyn StdError + Send + Sync>>,
    },
    #[error("no byte of the archive came for {} s, at byte {offset} of {size_bytes}", .waited.as_secs())]
    Stalled { offset: u64, size_bytes: u64, waited: Duration },
    #[error("what came was {attempts} times not the archive {expected}: other sha256 or longer")]
    DigestMismatch { expected: Sha256, attempts: u32 },
    #[error("could not {step} {}", path.display())]
    Part {
        step: &'static str,
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("the work was cut short")]
    Ended(#[from] JoinError),
}

/// What an archive must turn out to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub archive_digest: Sha256,
    pub archive_size_bytes: u64,
    /// How long it may bring no byte.
    pub stall_max: Duration,
}

/// Fetches an archive and returns its file, verified, on disk and still locked.
///
/// `open` is asked for a stream of the archive's bytes from an offset on.
///
/// # Errors
///
/// After [`FetchError::DigestMismatch`] the next try begins at the first byte, after any other
/// error where this one ended.
pub(super) async fn fetch<O, F, S, E>(
    mut part: Part,
    wanted: Wanted,
    mut open: O,
) -> Result<File, FetchError>
where
    O: FnMut(u64) -> F,
    F: Future<Output = Result<S, E>>,
    S: Stream<Item = Result<Bytes, E>>,
    E: StdError + Send + Sync + 'static,
{
    part = spawn_blocking(move || part.recall(wanted.archive_size_bytes)).await??;
    for _ in 0..ATTEMPTS_MAX {
        if part.length < wanted.archive_size_bytes {
            part = pump(part, wanted, &mut open).await?;
        }
        let verified = spawn_blocking(move || part.verify(wanted)).await??;
        match verified {
            Verified::Is(file) => return Ok(file),
            Verified::IsNot(emptied) => part = emptied,
        }
    }
    Err(FetchError::DigestMismatch { expected: wanted.archive_digest, attempts: ATTEMPTS_MAX })
}

/// Asks for the bytes that are missing and writes them as they come. Returns when all are there,
/// or one too many.
async fn pump<O, F, S, E>(part: Part, wanted: Wanted, open: &mut O) -> Result<Part, FetchError>
where
    O: FnMut(u64) -> F,
    F: Future<Output = Result<S, E>>,
    S: Stream<Item = Result<Bytes, E>>,
    E: StdError + Send + Sync + 'static,
{
    let size_bytes = wanted.archive_size_bytes;
    let mut offset = part.length;
    let stalled = |offset| FetchError::Stalled { offset, size_bytes, waited: wanted.stall_max };
    let stream = timeout(wanted.stall_max, open(offset))
        .await
        .map_err(|_| stalled(offset))?
        .map_err(|cause| FetchError::Open { offset, cause: cause.into() })?;
    let mut stream = pin!(stream);
    let (chunks, arriving) = mpsc::channel(CHUNKS_WAITING_MAX);
    let writer = spawn_blocking(move || part.append_all(arriving, size_bytes));

    let mut outcome = Ok(());
    while outcome.is_ok() && offset < size_bytes {
        // Empty chunks are no progress, however many of them come.
        let some = stream.by_ref().filter(|chunk| {
            let is_progress = chunk.as_ref().map_or(true, |bytes| !bytes.is_empty());
            std::future::ready(is_progress)
        });
        let interrupted = |cause| FetchError::Interrupted { offset, size_bytes, cause };
        match timeout(wanted.stall_max, pin!(some).next()).await {
            Err(_) => outcome = Err(stalled(offset)),
            Ok(None) => outcome = Err(interrupted(None)),
            Ok(Some(Err(cause))) => outcome = Err(interrupted(Some(cause.into()))),
            Ok(Some(Ok(bytes))) => {
                offset = offset.saturating_add(bytes.len() as u64);
                if chunks.send(bytes).await.is_err() {
                    // The writer has failed; it says why.
                    break;
                }
            }
        }
    }
    drop(chunks);
    let part = writer.await??;
    outcome.map(|()| part)
}

/// A `.part` file, locked: nobody else fetches or unpacks the same archive.
#[derive(Debug)]
pub(super) struct Part {
    file: File,
    path: PathBuf,
    hash: sha2::Sha256,
    length: u64,
}

/// What the bytes of a part turned out to be.
enum Verified {
    Is(File),
    /// It was emptied.
    IsNot(Part),
}

impl Part {
    /// Opens or makes the file and waits for whoever has it locked. Blocks.
    ///
    /// Whoever had it may have finished the release meanwhile: look before fetching again.
    pub(super) fn lock(path: PathBuf) -> Result<Self, FetchError> {
        loop {
            let part = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&path)
                .and_then(|file| file.lock().map(|()| file));
            let file = part.map_err(|cause| failed("open", &path, cause))?;
            let held = file.metadata().map_err(|cause| failed("look at", &path, cause))?;
            // The one before us may have removed the file that we then locked.
            let is_there = fs::symlink_metadata(&path)
                .is_ok_and(|named| (named.dev(), named.ino()) == (held.dev(), held.ino()));
            if is_there {
                return Ok(Self { file, path, hash: sha2::Sha256::new(), length: 0 });
            }
        }
    }

    /// Hashes what is there from earlier.
    fn recall(mut self, size_bytes: u64) -> Result<Self, FetchError> {
        let length = self.file.metadata().map_err(|cause| self.failed("look at", cause))?.len();
        if length > size_bytes {
            return self.empty();
        }
        let mut buffer = vec![0; 256 << 10];
        self.file.seek(SeekFrom::Start(0)).map_err(|cause| self.failed("read", cause))?;
        loop {
            match self.file.read(&mut buffer) {
                Ok(0) => return Ok(self),
                Ok(count) => {
                    self.hash.update(&buffer[..count]);
                    self.length += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => return Err(self.failed("read", cause)),
            }
        }
    }

    /// Writes chunks until there are no more, or more bytes than there should be.
    fn append_all(
        mut self,
        mut chunks: mpsc::Receiver<Bytes>,
        size_bytes: u64,
    ) -> Result<Self, FetchError> {
        while let Some(chunk) = chunks.blocking_recv() {
            let length = self.length.saturating_add(chunk.len() as u64);
            if length > size_bytes {
                // Not written, so that nobody fills the disk; the length alone makes it wrong.
                self.length = length;
                return Ok(self);
            }
            self.file.write_all(&chunk).map_err(|cause| self.failed("write", cause))?;
            self.hash.update(&chunk);
            self.length = length;
        }
        Ok(self)
    }

    fn verify(mut self, wanted: Wanted) -> Result<Verified, FetchError> {
        let found = Sha256::from_bytes(self.hash.finalize_reset().into());
        if self.length != wanted.archive_size_bytes || found != wanted.archive_digest {
            return Ok(Verified::IsNot(self.empty()?));
        }
        self.file.sync_all().map_err(|cause| self.failed("flush", cause))?;
        Ok(Verified::Is(self.file))
    }

    fn empty(mut self) -> Result<Self, FetchError> {
        self.file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)))
            .map_err(|cause| self.failed("empty", cause))?;
        self.hash = sha2::Sha256::new();
        self.length = 0;
        Ok(self)
    }

    fn failed(&self, step: &'static str, cause: io::Error) -> FetchError {
        failed(step, &self.path, cause)
    }
}

fn failed(step: &'static str, path: &Path, cause: io::Error) -> FetchError {
    FetchError::Part { step, path: path.to_owned(), cause }
}

#[cfg(test)]
mod tests;
