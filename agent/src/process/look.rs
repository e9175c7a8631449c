//! What the folder of an instance and the kernel together say of it.

use std::{
    fs::{self, OpenOptions, TryLockError},
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use cutover_common::{ApplicationName, InstanceEvidence, InstanceId};
use tokio::time::{Instant, sleep};

use super::{
    LOOK_EVERY, ProcessRuntime, SETTLE_WITHIN, blocking,
    identity::{ProcessMark, Proven},
};
use crate::shim::record::{
    EXIT_FILE, ExitRecord, LOCK_FILE, SHIM_FILE, SPEC_FILE, STATE_FILE, StateRecord, read_record,
};

/// Why nothing can be said of an instance.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    #[error("could not read {path}")]
    Record {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} is a record of another instance; it was put there by somebody else")]
    Foreign { path: PathBuf },
    #[error("could not open process {pid}")]
    Open {
        pid: u32,
        #[source]
        source: io::Error,
    },
    #[error(
        "the shim of {path} (pid {shim:?}) neither begins nor ends its instance; look for a \
         process that hangs in the kernel, such as on a network disk"
    )]
    Hangs { shim: Option<u32>, path: PathBuf },
}

/// What is known of an instance at one moment.
#[derive(Debug)]
pub(super) enum Look {
    /// No shim began with it.
    Nothing,
    /// Its shim lives and its application does not: it begins or it ends.
    Between {
        shim: ProcessMark,
    },
    Running(Running),
    /// It ended, and its shim too.
    Ended(ExitRecord),
    /// It was begun, and there is neither a process nor an exit record.
    Gone,
}

/// A running instance, proven.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) mark: ProcessMark,
    pub(super) application: Proven,
    /// None: somebody killed the shim, and the exit status will be unknown.
    pub(super) shim: Option<Proven>,
}

impl Running {
    pub(super) fn evidence(&self, instance: InstanceId) -> InstanceEvidence {
        InstanceEvidence {
            instance,
            boot_id: self.mark.boot_id.clone(),
            pid: self.mark.pid,
            start_ticks: self.mark.start_ticks,
        }
    }

    /// Returns the descriptor that becomes readable when the application ends.
    pub(super) fn into_application_fd(self) -> OwnedFd {
        self.application.into_fd()
    }
}

impl ProcessRuntime {
    /// Looks once.
    pub(super) async fn look(
        &self,
        application: &ApplicationName,
        instance: InstanceId,
    ) -> Result<Look, LookError> {
        let dir = self.dir_of(application, instance);
        let boot_id = self.places.boot_id.clone();
        blocking(move || look(&dir, instance, &boot_id)).await
    }

    /// Looks until the shim is not between two of its records.
    ///
    /// What is found to be nothing stays nothing: a shim that a killed agent started, and that
    /// did not come to its first record yet, will not find its spec.
    pub(super) async fn settle(
        &self,
        application: &ApplicationName,
        instance: InstanceId,
    ) -> Result<Look, LookError> {
        let dir = self.dir_of(application, instance);
        let deadline = Instant::now() + SETTLE_WITHIN;
        loop {
            let look = self.look(application, instance).await?;
            let shim = match look {
                Look::Between { shim } => Some(shim.pid),
                Look::Nothing => {
                    let dir = dir.clone();
                    match blocking(move || revoke(&dir)).await? {
                        Revoked::Yes => return Ok(Look::Nothing),
                        Revoked::TooLate => None,
                    }
                }
                Look::Running(_) | Look::Ended(_) | Look::Gone => return Ok(look),
            };
            if Instant::now() >= deadline {
                return Err(LookError::Hangs { shim, path: dir });
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

enum Revoked {
    Yes,
    /// A shim holds the lock, or did so a moment ago.
    TooLate,
}

/// Takes the spec away from a shim that may be about to read it.
fn revoke(dir: &Path) -> Result<Revoked, LookError> {
    let spec = dir.join(SPEC_FILE);
    let lock = dir.join(LOCK_FILE);
    if !spec.exists() {
        return Ok(Revoked::Yes);
    }
    let could_not = |path: &Path| {
        let path = path.to_owned();
        move |source| LookError::Record { path, source }
    };
    // Made here if need be: a shim that opens it later waits for nobody and ends.
    let lock_file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&lock)
        .map_err(could_not(&lock))?;
    match lock_file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(Revoked::TooLate),
        Err(TryLockError::Error(source)) => return Err(could_not(&lock)(source)),
    }
    // It may have come and gone between the look and the lock.
    if dir.join(SHIM_FILE).exists() {
        return Ok(Revoked::TooLate);
    }
    fs::remove_file(&spec).map_err(could_not(&spec))?;
    Ok(Revoked::Yes)
}

fn look(dir: &Path, instance: InstanceId, boot_id: &str) -> Result<Look, LookError> {
    let Some(shim_mark) = read::<ProcessMark>(dir, SHIM_FILE)? else {
        return Ok(Look::Nothing);
    };
    // The order matters: a shim that is seen to be dead has written all that it ever will.
    let shim = prove(&shim_mark, boot_id)?;
    let state = read::<StateRecord>(dir, STATE_FILE)?;
    if state.as_ref().is_some_and(|state| state.instance != instance.0) {
        return Err(LookError::Foreign { path: dir.join(STATE_FILE) });
    }
    let exit = read::<ExitRecord>(dir, EXIT_FILE)?;
    if let (Some(state), None) = (state, &exit)
        && let Some(application) = prove(&state.application, boot_id)?
    {
        let mark = state.application;
        return Ok(Look::Running(Running { mark, application, shim }));
    }
    Ok(match (shim, exit) {
        (Some(_), _) => Look::Between { shim: shim_mark },
        (None, Some(record)) => Look::Ended(record),
        (None, None) => Look::Gone,
    })
}

fn read<T: serde::de::DeserializeOwned>(dir: &Path, file: &str) -> Result<Option<T>, LookError> {
    read_record(dir, file).map_err(|source| LookError::Record { path: dir.join(file), source })
}

fn prove(mark: &ProcessMark, boot_id: &str) -> Result<Option<Proven>, LookError> {
    mark.prove(boot_id).map_err(|source| LookError::Open { pid: mark.pid, source })
}
