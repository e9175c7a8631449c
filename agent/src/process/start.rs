//! Starts an instance under a shim, once for each id.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use cutover_common::{ApplicationName, InstanceEvidence, InstanceId, VariableName};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep},
};

use super::{
    ExitRecord, LOOK_EVERY, LogSpec, LookError, ProcessRuntime, blocking, look::Look,
    make_private_dir,
};
use crate::shim::{
    files::read_capped,
    program::PATH,
    record::{INSTANCE_VARIABLE, SHIM_LOG_FILE, SPEC_FILE, Spec, write_record},
};

/// From the shim's exec to the record of the application it started: usually 10 ms, of which
/// three fsyncs are most. Being late here fails a start that would have succeeded.
const START_WITHIN: Duration = Duration::from_secs(10);

/// A shim complains in a line or two.
const SHIM_LOG_BYTES_MAX: u64 = 16 * 1024;

/// What to start. All variables are filled in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StartSpec {
    pub application: ApplicationName,
    pub instance: InstanceId,
    /// The working directory.
    pub release_dir: PathBuf,
    pub command: Vec<String>,
    /// The whole environment, to which `PATH`, if it has none, and the instance's token are
    /// added.
    pub env: BTreeMap<String, String>,
    /// What is in the environment besides, by the files that hold the values: no record has them.
    pub secrets: BTreeMap<VariableName, PathBuf>,
    pub log: LogSpec,
}

/// What became of a start.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Started {
    Running(InstanceEvidence),
    /// It ended already, or there was nothing that could be started; the record says which.
    Ended(ExitRecord),
}

/// Why it is not known that an instance was started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("could not find out whether instance {0:?} was started before")]
    Look(InstanceId, #[source] LookError),
    #[error("could not write {path}")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("could not run the shim {path}")]
    Shim {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the shim ended with {status} before it started the application: {complaint}")]
    ShimEnded { status: ExitStatus, complaint: String },
    #[error("instance {0:?} was started before and is gone; start another one")]
    Gone(InstanceId),
    #[error("the shim did not start the application within {START_WITHIN:?}; see {shim_log}")]
    TooSlow { shim_log: PathBuf },
}

impl ProcessRuntime {
    /// Starts an instance, and returns once its process is on record.
    ///
    /// An id stands for one start: called again, by this agent or the next one, it finds what the
    /// first call began, and starts nothing (promises.md §3 row 11).
    ///
    /// # Errors
    ///
    /// When there is no telling whether it was started: ask [`ProcessRuntime::adopt`] later, or
    /// stop it and start another.
    pub async fn start(&self, spec: StartSpec) -> Result<Started, StartError> {
        let (application, instance) = (spec.application.clone(), spec.instance);
        let found = self.settle(&application, instance).await;
        match found.map_err(|source| StartError::Look(instance, source))? {
            Look::Running(running) => return Ok(Started::Running(running.evidence(instance))),
            Look::Ended(record) => return Ok(Started::Ended(record)),
            Look::Gone | Look::Between { .. } => return Err(StartError::Gone(instance)),
            Look::Nothing => {}
        }
        let dir = self.dir_of(&application, instance);
        let shim_program = self.places.shim_program.clone();
        let shim = blocking({
            let dir = dir.clone();
            let runtime = tokio::runtime::Handle::current();
            move || {
                let _in_runtime = runtime.enter();
                write_spec(&dir, spec)?;
                spawn_shim(&shim_program, &dir)
            }
        })
        .await?;
        self.until_started(&application, instance, shim).await
    }

    async fn until_started(
        &self,
        application: &ApplicationName,
        instance: InstanceId,
        mut shim: Child,
    ) -> Result<Started, StartError> {
        let shim_log = self.dir_of(application, instance).join(SHIM_LOG_FILE);
        let deadline = Instant::now() + START_WITHIN;
        let started = loop {
            // Asked before the look: what an ended shim wrote is seen by the look.
            let ended = shim.try_wait().ok().flatten();
            let look = self.look(application, instance).await;
            match look.map_err(|source| StartError::Look(instance, source))? {
                Look::Running(running) => break Started::Running(running.evidence(instance)),
                Look::Ended(record) => break Started::Ended(record),
                // A shim that ended well found another one at work.
                Look::Between { .. } | Look::Nothing | Look::Gone => {
                    if let Some(status) = ended.filter(|status| !status.success()) {
                        let complaint = read_complaint(&shim_log);
                        return Err(StartError::ShimEnded { status, complaint });
                    }
                }
            }
            if Instant::now() >= deadline {
                return Err(StartError::TooSlow { shim_log });
            }
            sleep(LOOK_EVERY).await;
        };
        // Only to take its exit status, so that no zombie is left.
        tokio::spawn(async move { drop(shim.wait().await) });
        Ok(started)
    }
}

fn write_spec(dir: &Path, spec: StartSpec) -> Result<(), StartError> {
    let StartSpec { application: _, instance, release_dir, command, mut env, secrets, log } = spec;
    env.entry("PATH".to_owned()).or_insert_with(|| PATH.to_owned());
    env.insert(INSTANCE_VARIABLE.to_owned(), instance.0.to_string());
    let spec = Spec { instance: instance.0, command, env, secrets, directory: release_dir, log };
    let could_not = |path: PathBuf| move |source| StartError::Write { path, source };
    make_private_dir(dir).map_err(could_not(dir.to_owned()))?;
    write_record(dir, SPEC_FILE, &spec).map_err(could_not(dir.join(SPEC_FILE)))
}

fn spawn_shim(program: &Path, dir: &Path) -> Result<Child, StartError> {
    let path = dir.join(SHIM_LOG_FILE);
    let complaints = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(&path)
        .map_err(|source| StartError::Write { path, source })?;
    Command::new(program)
        .arg("shim")
        .arg("--dir")
        .arg(dir)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(complaints)
        .spawn()
        .map_err(|source| StartError::Shim { path: program.to_owned(), source })
}

fn read_complaint(shim_log: &Path) -> String {
    match read_capped(shim_log, SHIM_LOG_BYTES_MAX) {
        Ok(bytes) if bytes.is_empty() => "it said nothing".to_owned(),
        Ok(bytes) => String::from_utf8_lossy(&bytes).trim().escape_debug().to_string(),
        Err(error) => format!("what it said could not be read: {error}"),
    }
}

impl ProcessRuntime {
    /// Makes the application's folder that stays from release to release, and returns it.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub async fn make_shared_dir(&self, application: &ApplicationName) -> io::Result<PathBuf> {
        let path = self.shared_dir(application);
        let made = path.clone();
        blocking(move || fs::create_dir_all(made)).await?;
        Ok(path)
    }
}
