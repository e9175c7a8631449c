//! The `process` runtime: instances on hosts without systemd, each under a shim of its own.
//!
//! The agent and an instance share nothing but a folder, `instances/APPLICATION/INSTANCE` in the
//! agent's data directory: the agent writes `spec.json` and starts the shim, the shim writes
//! `shim.json`, `state.json` and at the end `exit.json` (see [`crate::shim`]). So the agent may be
//! killed, upgraded or away at any moment, and finds all of it again by looking.
//!
//! Every operation begins with that look and goes on from what it finds, so that each can be
//! repeated, and resumed by another agent process:
//!
//! ```text
//! nothing ─ start ─▶ starting ─▶ running ─▶ ending ─▶ ended
//!                        └───────────┴─────────┴────▶ gone  (reboot, or the shim was killed)
//! ```
//!
//! Applications run as the agent's own user, root included: choosing a user per application comes
//! with the systemd runtime.

pub mod bounded;
mod check;
mod end_watch;
mod hook;
pub mod identity;
mod kept_output;
mod log_files;
mod look;
mod probe;
mod start;
pub mod stat;
mod stop;
pub mod sweep;
mod variables;
mod vitals;
mod wait;

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use cutover_common::{ApplicationName, InstanceEvidence, InstanceId, Slot};
use tokio::task::spawn_blocking;
use uuid::Uuid;

pub use self::{
    check::{CheckSpec, end_checks, run_check},
    hook::{HookOutcome, HookSpec},
    kept_output::KEPT_BYTES_MAX,
    log_files::{LogFiles, open_log, with_old_files},
    look::LookError,
    probe::{end_probe, mark_probe},
    start::{StartError, StartSpec, Started},
    stop::{StopError, StopOutcome, StopSpec},
    variables::{FillInError, Variables, fill_in},
    wait::{Ended, WaitError},
};
pub use crate::shim::record::{ExitCause, ExitRecord, LogSpec};
use crate::{
    artifact::SHARED,
    host::boot_id,
    process::{look::Look, sweep::kill_by_token},
    shim::record::INSTANCE_VARIABLE,
};

/// How long a shim may be between two of its records. It needs milliseconds; a host that swaps or
/// fsyncs slowly gets a thousand times that, and its own cleaning up may take 10 s.
const SETTLE_WITHIN: Duration = Duration::from_secs(15);

/// How often the folder is looked at while a shim is between two records.
const LOOK_EVERY: Duration = Duration::from_millis(3);

/// How long processes without a shim may take to end after SIGKILL.
const SWEEP_WITHIN: Duration = Duration::from_secs(5);

/// What became of an instance while nobody looked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Adopted {
    /// It runs, and is proven to be the one (A8).
    Running(InstanceEvidence),
    /// It ended, and nothing of it is left.
    Exited(ExitRecord),
    /// It was never started.
    Never,
    /// It was started, and left no exit record: the host rebooted, or somebody killed the shim.
    /// Nothing of it is left either.
    Gone,
}

/// Why it is not known what became of an instance.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    #[error("could not find out whether the instance runs")]
    Look(#[from] LookError),
    #[error("the instance ended, and what it left behind could not be ended")]
    LeftBehind(#[from] sweep::LeftBehind),
}

/// Why the instances on disk could not be listed, or one not be forgotten.
#[derive(Debug, thiserror::Error)]
pub enum InstanceDirError {
    #[error("could not list the instances in {path}")]
    List {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("instance {instance} still runs; stop it before it is forgotten")]
    StillRunning { instance: Uuid },
    #[error("could not find out whether instance {instance} runs")]
    Look {
        instance: Uuid,
        #[source]
        source: LookError,
    },
    #[error("could not end what instance {instance} left behind")]
    LeftBehind {
        instance: Uuid,
        #[source]
        source: sweep::LeftBehind,
    },
    #[error("could not remove {path}")]
    Remove {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Starts, finds, waits for and stops instances. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ProcessRuntime {
    places: Arc<Places>,
}

#[derive(Debug)]
struct Places {
    data_dir: PathBuf,
    shim_program: PathBuf,
    boot_id: String,
}

impl ProcessRuntime {
    /// Makes the runtime of an agent whose data is in `data_dir`, an absolute path.
    /// `shim_program` is called as `PROGRAM shim --dir DIR`: the agent's own program.
    ///
    /// # Errors
    ///
    /// When the kernel does not tell its boot id.
    pub fn new(data_dir: PathBuf, shim_program: PathBuf) -> io::Result<Self> {
        let data_dir = std::path::absolute(data_dir)?;
        Ok(Self { places: Arc::new(Places { data_dir, shim_program, boot_id: boot_id()? }) })
    }

    /// Returns where what instances and hooks say is kept.
    pub fn logs(&self) -> LogFiles {
        LogFiles::in_data(&self.places.data_dir)
    }

    /// Returns where the log of an application's slot is kept. Instances of the slot follow each
    /// other in it.
    pub fn log_path(&self, application: &ApplicationName, slot: Slot) -> PathBuf {
        self.logs().instance(application, slot)
    }

    /// Returns the application's folder that stays from release to release.
    pub fn shared_dir(&self, application: &ApplicationName) -> PathBuf {
        self.places.data_dir.join(SHARED).join(application.as_str())
    }

    /// Finds an instance again. Waits while its shim is about to begin or to end it, for 15 s at
    /// most, and ends what one that ended has left behind: another one may follow at once.
    ///
    /// # Errors
    ///
    /// When its records cannot be read, its shim hangs, or something of it may still run.
    pub async fn adopt(
        &self,
        application: &ApplicationName,
        instance: InstanceId,
    ) -> Result<Adopted, AdoptError> {
        let ended = match self.settle(application, instance).await? {
            Look::Running(running) => return Ok(Adopted::Running(running.evidence(instance))),
            Look::Nothing => return Ok(Adopted::Never),
            Look::Ended(record) => Adopted::Exited(record),
            Look::Between { .. } | Look::Gone => Adopted::Gone,
        };
        self.sweep(instance).await?;
        Ok(ended)
    }

    /// Removes an instance's folder, and ends what might be left of it. Its log is kept.
    ///
    /// # Errors
    ///
    /// When it still runs, or its folder cannot be removed.
    pub async fn forget(
        &self,
        application: &ApplicationName,
        instance: InstanceId,
    ) -> Result<(), InstanceDirError> {
        let id = instance.0;
        match self.settle(application, instance).await {
            Ok(Look::Running(_) | Look::Between { .. }) => {
                return Err(InstanceDirError::StillRunning { instance: id });
            }
            Ok(Look::Nothing | Look::Ended(_) | Look::Gone) => {}
            Err(source) => return Err(InstanceDirError::Look { instance: id, source }),
        }
        self.sweep(instance)
            .await
            .map_err(|source| InstanceDirError::LeftBehind { instance: id, source })?;
        let path = self.dir_of(application, instance);
        let removed = {
            let path = path.clone();
            blocking(move || match fs::remove_dir_all(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                Ok(()) | Err(_) => Ok(()),
            })
        };
        removed.await.map_err(|source| InstanceDirError::Remove { path, source })
    }

    /// Lists the instances that have a folder, running or not. What is not named like one is left
    /// out.
    ///
    /// # Errors
    ///
    /// When a folder cannot be read.
    pub async fn list(&self) -> Result<Vec<(ApplicationName, InstanceId)>, InstanceDirError> {
        let path = self.places.data_dir.join("instances");
        let listed = {
            let path = path.clone();
            blocking(move || list_instances(&path)).await
        };
        listed.map_err(|source| InstanceDirError::List { path, source })
    }

    fn dir_of(&self, application: &ApplicationName, instance: InstanceId) -> PathBuf {
        let instances = self.places.data_dir.join("instances");
        instances.join(application.as_str()).join(instance.0.to_string())
    }

    /// Ends every process that carries the instance's token. Only for when its shim is gone.
    async fn sweep(&self, instance: InstanceId) -> Result<(), sweep::LeftBehind> {
        // Of an agent that was killed while it asked.
        end_probe(instance).await;
        let value = instance.0.to_string();
        blocking(move || kill_by_token(INSTANCE_VARIABLE, &value, SWEEP_WITHIN)).await
    }
}

fn list_instances(path: &Path) -> io::Result<Vec<(ApplicationName, InstanceId)>> {
    let mut found = Vec::new();
    for application in names_in(path)? {
        let Ok(name) = application.parse::<ApplicationName>() else { continue };
        let instances = names_in(&path.join(&application))?;
        let ids = instances.iter().filter_map(|id| Uuid::try_parse(id).ok());
        found.extend(ids.map(|id| (name.clone(), InstanceId(id))));
    }
    found.sort();
    Ok(found)
}

fn names_in(path: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    entries
        .filter(|entry| entry.as_ref().map_or(true, |e| e.file_type().is_ok_and(|t| t.is_dir())))
        .filter_map(|entry| entry.map(|e| e.file_name().into_string().ok()).transpose())
        .collect()
}

/// Makes a folder that only the agent's user may look into: specs hold environments.
fn make_private_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Runs file work where it may block.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only a runtime that shuts down cancels; nobody polls this any more then.
            Err(_) => std::future::pending().await,
        },
    }
}
