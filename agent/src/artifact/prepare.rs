//! Preparing: a release is brought onto this host, or already is there.

use std::{
    error::Error as StdError,
    fs,
    future::Future,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use cutover_common::{ApplicationName, ErrorChain, Release};
use cutover_runtime::archive::{Declared, Limits, Refusal};
use futures::Stream;
use tokio::task::{JoinError, spawn_blocking};

use super::{
    fetch::{FetchError, Part, STALL_MAX, Wanted, fetch},
    release_dir::{ReleaseDirError, ReleaseDirs},
    room::{self, DiskFull, Need, RoomError},
    unpack::{UnpackError, unpack},
};
use crate::secrets::MissingSecret;

/// How long a detail may be, in characters: what fits a report, and a line or two of a terminal.
const DETAIL_MAX: usize = 400;

/// Why a release could not be prepared. The release that runs is not touched.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    #[error(transparent)]
    Full(DiskFull),
    #[error("could not prepare the release")]
    Room(#[source] RoomError),
    #[error("could not prepare the release")]
    Folder(#[from] ReleaseDirError),
    #[error("could not prepare the release")]
    Declared(#[from] Refusal),
    #[error("could not fetch the release")]
    Fetch(#[source] FetchError),
    #[error("could not prepare the release")]
    Unpack(#[source] UnpackError),
    #[error("could not prepare the release")]
    Secret(#[from] MissingSecret),
    #[error("the work was cut short")]
    Ended(#[from] JoinError),
}

impl PrepareError {
    /// Returns the stable code (promises.md §3 row 56, §4 rows 26 to 40).
    pub fn code(&self) -> &'static str {
        match self {
            Self::Full(_) | Self::Unpack(UnpackError::Full(_)) => "DISK_FULL",
            Self::Fetch(FetchError::DigestMismatch { .. }) => "DIGEST_MISMATCH",
            Self::Fetch(_) => "FETCH_FAILED",
            Self::Declared(refusal) => refusal.code(),
            Self::Unpack(UnpackError::Verify(error) | UnpackError::Write(error)) => error.code(),
            Self::Unpack(UnpackError::Shared { .. }) => "SHARED_TAKEN",
            Self::Unpack(UnpackError::NoOpenat2(_)) => "KERNEL_TOO_OLD",
            Self::Secret(error) if error.is_of_full_disk() => "DISK_FULL",
            Self::Secret(_)
            | Self::Room(_)
            | Self::Folder(_)
            | Self::Unpack(
                UnpackError::Room(_) | UnpackError::Folder(_) | UnpackError::Rewind(_),
            )
            | Self::Ended(_) => "INTERNAL",
        }
    }

    /// Returns the code and the whole chain of causes, short enough for a report.
    pub fn detail(&self) -> String {
        let text = format!("{}: {}", self.code(), ErrorChain(self));
        match text.char_indices().nth(DETAIL_MAX) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text,
        }
    }
}

/// Brings `release` onto this host and returns its folder. Does nothing if it is there already.
///
/// May be repeated after any error, and after the agent was killed at any point: what has come of
/// the archive is kept, all else is begun anew. Two at a time for one archive wait for each other.
///
/// `open` is asked for a stream of the archive's bytes from an offset on.
///
/// # Errors
///
/// After an error the release is not there; nothing half-done can be mistaken for it.
pub async fn prepare<O, F, S, E>(
    data_dir: &Path,
    release: &Release,
    open: O,
) -> Result<PathBuf, PrepareError>
where
    O: FnMut(u64) -> F,
    F: Future<Output = Result<S, E>>,
    S: Stream<Item = Result<Bytes, E>>,
    E: StdError + Send + Sync + 'static,
{
    prepare_within(STALL_MAX, data_dir, release, open).await
}

async fn prepare_within<O, F, S, E>(
    stall_max: Duration,
    data_dir: &Path,
    release: &Release,
    open: O,
) -> Result<PathBuf, PrepareError>
where
    O: FnMut(u64) -> F,
    F: Future<Output = Result<S, E>>,
    S: Stream<Item = Result<Bytes, E>>,
    E: StdError + Send + Sync + 'static,
{
    let declared = Declared::from(release);
    let application = release.name.application.clone();
    let shared = release.run.shared.clone();
    let data_dir = data_dir.to_owned();
    let ready = {
        let application = application.clone();
        spawn_blocking(move || {
            let dirs = ReleaseDirs::open(&data_dir)?;
            begin(dirs, &application, &declared)
        })
        .await??
    };
    let (dirs, part) = match ready {
        Ready::Complete(folder) => return Ok(folder),
        Ready::Fetch(dirs, part) => (dirs, part),
    };

    let wanted = Wanted {
        archive_digest: declared.archive_digest,
        archive_size_bytes: declared.archive_size_bytes,
        stall_max,
    };
    let need = need_of(&declared);
    let mut archive =
        fetch(part, wanted, open).await.map_err(|error| fetch_error(&dirs, need, error))?;
    spawn_blocking(move || {
        let unpacked = unpack(&dirs, &mut archive, &application, (&declared, &shared));
        // Needed no more, or of no use: its bytes are what they should be, and still refused.
        if matches!(unpacked, Ok(_) | Err(UnpackError::Verify(_))) {
            remove_part(&dirs, &declared)?;
        }
        unpacked.map_err(PrepareError::Unpack)
    })
    .await?
}

/// What is left to do.
enum Ready {
    Complete(PathBuf),
    Fetch(ReleaseDirs, Part),
}

/// Judges what was declared and waits for whoever prepares the same archive.
fn begin(
    dirs: ReleaseDirs,
    application: &ApplicationName,
    declared: &Declared,
) -> Result<Ready, PrepareError> {
    let path = dirs.part(declared.archive_digest);
    if dirs.is_complete(application, declared.digest) {
        // An agent that was killed between the two left a part that nobody would ever need again.
        if !path.exists() {
            return Ok(Ready::Complete(dirs.path(application, declared.digest)));
        }
    } else {
        Limits::default().admit(declared.size_bytes, declared.archive_size_bytes)?;
        room::require(dirs.data(), need_of(declared)).map_err(|error| match error {
            RoomError::Full(full) => PrepareError::Full(full),
            error @ RoomError::Ask { .. } => PrepareError::Room(error),
        })?;
    }
    let part = Part::lock(path).map_err(PrepareError::Fetch)?;
    if dirs.is_complete(application, declared.digest) {
        remove_part(&dirs, declared)?;
        return Ok(Ready::Complete(dirs.path(application, declared.digest)));
    }
    Ok(Ready::Fetch(dirs, part))
}

/// Returns what is known to be needed before the archive is there. How many files are in it is
/// not; unpacking asks again.
fn need_of(declared: &Declared) -> Need {
    Need { bytes: declared.size_bytes, inodes: 1 }.with_reserve()
}

fn remove_part(dirs: &ReleaseDirs, declared: &Declared) -> Result<(), PrepareError> {
    let path = dirs.part(declared.archive_digest);
    match fs::remove_file(&path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
            Err(ReleaseDirError::while_doing("remove", &path, cause).into())
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn fetch_error(dirs: &ReleaseDirs, need: Need, error: FetchError) -> PrepareError {
    if let FetchError::Part { cause, .. } = &error
        && let Some(full) = room::ran_full(dirs.data(), need, cause)
    {
        return PrepareError::Full(full);
    }
    PrepareError::Fetch(error)
}

#[cfg(test)]
mod tests;
