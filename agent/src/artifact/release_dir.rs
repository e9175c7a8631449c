//! ReleaseDirs: where releases lie in the agent's folder, and which of them stay.
//!
//! ```text
//! <data>/releases/<application>/<digest>/   complete, immutable
//! <data>/staging/                           being written or removed; emptied at start
//! <data>/archives/<archive digest>.part     being fetched; kept, so that a fetch resumes
//! <data>/shared/<application>/              the application's own, from release to release
//! ```

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use cutover_common::{ApplicationName, Sha256};
use uuid::Uuid;

/// How many releases of an application stay on a host: those to roll back to (design.md §5).
pub const KEEP_LAST: usize = 5;

/// How long the beginning of an archive is kept that nobody went on fetching.
///
/// A deploy that was interrupted is repeated within days; after that the bytes only take room.
const PART_AGE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// The folder of what stays from release to release.
pub const SHARED: &str = "shared";

/// Something about the agent's folders of releases failed.
#[derive(Debug, thiserror::Error)]
#[error("could not {step} {}", path.display())]
pub struct ReleaseDirError {
    step: &'static str,
    path: PathBuf,
    #[source]
    pub(super) cause: io::Error,
}

impl ReleaseDirError {
    /// Makes the error of one step.
    pub(super) fn while_doing(step: &'static str, path: &Path, cause: io::Error) -> Self {
        Self { step, path: path.to_owned(), cause }
    }
}

/// Returns a maker of errors of one step, for `map_err`.
fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ReleaseDirError {
    move |cause| ReleaseDirError::while_doing(step, path, cause)
}

/// The agent's folders of releases.
#[derive(Clone, Debug)]
pub struct ReleaseDirs {
    data: PathBuf,
}

impl ReleaseDirs {
    /// Opens the folders in `data`, and makes them where they are missing.
    ///
    /// # Errors
    ///
    /// Names the folder that could not be made.
    pub fn open(data: &Path) -> Result<Self, ReleaseDirError> {
        let dirs = Self { data: data.to_owned() };
        // Instances run as other users and must reach their release; nobody else's business is
        // what is not verified yet.
        make(&dirs.releases(), 0o755)?;
        make(&dirs.staging(), 0o700)?;
        make(&dirs.archives(), 0o700)?;
        Ok(dirs)
    }

    /// Returns where this release is, once it is complete.
    pub fn path(&self, application: &ApplicationName, digest: Sha256) -> PathBuf {
        self.releases().join(application.as_str()).join(digest.to_string())
    }

    /// Tells whether the release is on this disk, verified and whole.
    pub fn is_complete(&self, application: &ApplicationName, digest: Sha256) -> bool {
        fs::symlink_metadata(self.path(application, digest)).is_ok_and(|found| found.is_dir())
    }

    /// Removes what was being written or removed when the agent ended, and archives that nobody
    /// has gone on fetching for a week. To be called at start, before anything is prepared.
    ///
    /// # Errors
    ///
    /// Names what could not be removed.
    pub fn remove_unfinished(&self) -> Result<(), ReleaseDirError> {
        for path in list(&self.staging())? {
            remove(&path)?;
        }
        for path in list(&self.archives())? {
            let age = fs::symlink_metadata(&path)
                .and_then(|found| found.modified())
                .map_err(failed("look at", &path))?
                .elapsed();
            if age.is_ok_and(|age| age > PART_AGE_MAX) {
                remove(&path)?;
            }
        }
        Ok(())
    }

    /// Removes releases of `application`: all but those in `keep` and the `keep_last` that came
    /// last. Returns what it removed.
    ///
    /// `keep` names what is current, previous or part of unfinished work (promises.md E7).
    ///
    /// # Errors
    ///
    /// Names what could not be removed; older releases may then be there still.
    pub fn retain(
        &self,
        application: &ApplicationName,
        keep: &[Sha256],
        keep_last: usize,
    ) -> Result<Vec<Sha256>, ReleaseDirError> {
        let folder = self.releases().join(application.as_str());
        if !folder.exists() {
            return Ok(Vec::new());
        }
        let mut releases: Vec<(SystemTime, Sha256)> = Vec::new();
        for path in list(&folder)? {
            // Whatever has another name was not put there by us, and is left alone.
            let name = path.file_name().and_then(|name| name.to_str());
            let Some(Ok(digest)) = name.map(str::parse) else {
                continue;
            };
            let found = fs::symlink_metadata(&path).map_err(failed("look at", &path))?;
            if found.is_dir() {
                releases.push((found.modified().map_err(failed("look at", &path))?, digest));
            }
        }
        releases.sort_unstable_by(|a, b| b.cmp(a));
        let keep: BTreeSet<Sha256> = keep.iter().copied().collect();
        let mut removed = Vec::new();
        for (_, digest) in releases.into_iter().skip(keep_last) {
            if !keep.contains(&digest) {
                self.remove_release(&folder.join(digest.to_string()))?;
                removed.push(digest);
            }
        }
        Ok(removed)
    }

    /// Removes a release: at once out of sight, so that a crash leaves no half of it.
    fn remove_release(&self, path: &Path) -> Result<(), ReleaseDirError> {
        let doomed = self.staging().join(format!("removed-{}", Uuid::new_v4()));
        fs::rename(path, &doomed).map_err(failed("remove", path))?;
        sync_parent(path)?;
        remove(&doomed)
    }

    /// Returns where the archive of this digest is fetched to.
    pub(super) fn part(&self, archive_digest: Sha256) -> PathBuf {
        self.archives().join(format!("{archive_digest}.part"))
    }

    /// Makes an empty folder to unpack into.
    pub(super) fn stage(&self) -> Result<Staging, ReleaseDirError> {
        let path = self.staging().join(format!("unpack-{}", Uuid::new_v4()));
        DirBuilder::new().mode(0o700).create(&path).map_err(failed("make", &path))?;
        Ok(Staging { path })
    }

    /// Makes what is staged the release, in one step. All of it must be on disk already.
    pub(super) fn publish(
        &self,
        staging: Staging,
        application: &ApplicationName,
        digest: Sha256,
    ) -> Result<PathBuf, ReleaseDirError> {
        let to = self.path(application, digest);
        make(&self.releases().join(application.as_str()), 0o755)?;
        let open_to_all = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&staging.path, open_to_all).map_err(failed("open", &staging.path))?;
        sync(&staging.path)?;
        match fs::rename(&staging.path, &to) {
            Ok(()) => sync_parent(&to)?,
            // Somebody else was faster with the same content.
            Err(_) if self.is_complete(application, digest) => {}
            Err(cause) => return Err(failed("make", &to)(cause)),
        }
        drop(staging);
        Ok(to)
    }

    /// Makes the folder that a shared path of an application's releases leads to.
    pub(super) fn make_shared(
        &self,
        application: &ApplicationName,
        path: &str,
    ) -> Result<(), ReleaseDirError> {
        let folder = self.data.join(SHARED).join(application.as_str()).join(path);
        fs::create_dir_all(&folder).map_err(failed("make", &folder))
    }

    pub(super) fn data(&self) -> &Path {
        &self.data
    }

    fn releases(&self) -> PathBuf {
        self.data.join("releases")
    }

    fn staging(&self) -> PathBuf {
        self.data.join("staging")
    }

    fn archives(&self) -> PathBuf {
        self.data.join("archives")
    }
}

/// A folder that is removed when it is dropped, unless it was published.
#[derive(Debug)]
pub(super) struct Staging {
    path: PathBuf,
}

impl Staging {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %self.path.display(), %error, "could not empty the staging folder; the next start will");
            }
            Ok(()) | Err(_) => {}
        }
    }
}

/// Flushes a file or folder to disk.
pub(super) fn sync(path: &Path) -> Result<(), ReleaseDirError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(failed("flush", path))
}

/// Flushes the folder that `path` is in, without which a rename or removal may be lost.
pub(super) fn sync_parent(path: &Path) -> Result<(), ReleaseDirError> {
    sync(path.parent().unwrap_or(path))
}

/// Makes a folder and flushes its parent, if it is not there.
fn make(path: &Path, mode: u32) -> Result<(), ReleaseDirError> {
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => {
            // The umask of whoever started the agent has no say here.
            fs::set_permissions(path, fs::Permissions::from_mode(mode))
                .map_err(failed("open", path))?;
            sync_parent(path)
        }
        Err(_) if path.is_dir() => Ok(()),
        Err(cause) => Err(failed("make", path)(cause)),
    }
}

fn list(folder: &Path) -> Result<Vec<PathBuf>, ReleaseDirError> {
    fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
        .map_err(failed("list", folder))
}

/// Removes a file or a whole folder, and never follows a symlink.
fn remove(path: &Path) -> Result<(), ReleaseDirError> {
    let is_folder = fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
    let removed = if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.map_err(failed("remove", path))
}

#[cfg(test)]
mod tests;
