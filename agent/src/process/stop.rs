//! Stops an instance: its signal, its grace, then SIGKILL to all that is left.
//!
//! That the signal was sent is noted in `stop.json`, so that an agent that is killed in the middle
//! goes on where it was: a grace period never begins again.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use cutover_common::{ApplicationName, InstanceId, StopSignal};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::{
    Ended, LookError, ProcessRuntime, SETTLE_WITHIN, WaitError, blocking,
    end_watch::EndWatch,
    look::{Look, Running},
    sweep::signal_followers,
};
use crate::{
    host::since_boot,
    shim::record::{read_record, write_record},
};

const STOP_FILE: &str = "stop.json";

/// How an instance is to be stopped.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StopSpec {
    pub signal: StopSignal,
    /// From the signal to SIGKILL.
    pub grace: Duration,
}

/// How a stop went. Nothing of the instance runs any more.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StopOutcome {
    pub ended: Ended,
    /// Whether it had to be killed at the end of its grace.
    pub killed: bool,
}

/// Why it is not known that nothing of an instance runs. Stopping again is safe.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    #[error("could not find out whether the instance runs")]
    Look(#[from] LookError),
    #[error("could not write or read {path}")]
    Record {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("could not signal the instance")]
    Signal(#[source] io::Error),
    #[error("could not wait for the instance to end")]
    Wait(#[from] WaitError),
    #[error("the instance does not end after SIGKILL; look for a process that hangs in the kernel")]
    DoesNotEnd,
}

/// How far a stop came.
#[derive(Clone, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
struct Progress {
    /// When the signal was sent, since boot: the instance does not outlive a boot either.
    signalled_after: Option<Duration>,
}

impl ProcessRuntime {
    /// Stops an instance, and returns once nothing of it runs any more.
    ///
    /// Can be called again after any interruption, and for an instance that ended or never ran.
    ///
    /// # Errors
    ///
    /// When something of it may still run.
    pub async fn stop(
        &self,
        application: &ApplicationName,
        instance: InstanceId,
        spec: StopSpec,
    ) -> Result<StopOutcome, StopError> {
        let killed = match self.settle(application, instance).await? {
            Look::Running(running) => {
                self.ask_to_stop(application, instance, running, spec.signal, spec.grace).await?
            }
            Look::Nothing | Look::Between { .. } | Look::Ended(_) | Look::Gone => false,
        };
        let ended = self.wait(application, instance).await?;
        Ok(StopOutcome { ended, killed })
    }

    /// Sends the signal, waits for the grace, kills. Returns whether it had to kill.
    async fn ask_to_stop(
        &self,
        application: &ApplicationName,
        instance: InstanceId,
        running: Running,
        signal: StopSignal,
        grace: Duration,
    ) -> Result<bool, StopError> {
        let dir = self.dir_of(application, instance);
        let mut progress = read_progress(&dir).await?;
        let now = since_boot().map_err(StopError::Signal)?;
        let waited = match progress.signalled_after {
            Some(signalled_after) => now.saturating_sub(signalled_after),
            None => {
                signal_instance(&running, signal_of(signal)).map_err(StopError::Signal)?;
                progress.signalled_after = Some(now);
                write_progress(&dir, progress).await?;
                Duration::ZERO
            }
        };
        let ended = self.wait(application, instance);
        if let Ok(ended) = timeout(grace.saturating_sub(waited), ended).await {
            ended?;
            return Ok(false);
        }
        self.kill(application, instance).await?;
        Ok(true)
    }

    /// Kills the application and its group; its shim then kills what left the group.
    async fn kill(
        &self,
        application: &ApplicationName,
        instance: InstanceId,
    ) -> Result<(), StopError> {
        let Look::Running(running) = self.look(application, instance).await? else {
            return Ok(());
        };
        signal_instance(&running, Signal::KILL).map_err(StopError::Signal)?;
        if let Some(shim) = &running.shim {
            // Somebody may have frozen it (SIGSTOP).
            shim.signal(Signal::CONT).map_err(StopError::Signal)?;
        }
        let could_not_wait = |error| StopError::Wait(WaitError::Poll(error));
        let watch = EndWatch::new(running.into_application_fd()).map_err(could_not_wait)?;
        match timeout(SETTLE_WITHIN, watch.ended()).await {
            Ok(ended) => ended.map_err(could_not_wait),
            Err(_) => Err(StopError::DoesNotEnd),
        }
    }
}

/// Sends `signal` to the application and to the rest of its group, each once.
fn signal_instance(running: &Running, signal: Signal) -> io::Result<()> {
    let leader = &running.application;
    // The others first: once the leader ends the shim begins to clean up.
    signal_followers(leader, running.mark.pid, signal)?;
    leader.signal(signal)?;
    // A frozen process hears its signal only after it goes on.
    leader.signal(Signal::CONT)
}

const fn signal_of(signal: StopSignal) -> Signal {
    match signal {
        StopSignal::Term => Signal::TERM,
        StopSignal::Int => Signal::INT,
        StopSignal::Quit => Signal::QUIT,
        StopSignal::Hup => Signal::HUP,
        StopSignal::Usr1 => Signal::USR1,
        StopSignal::Usr2 => Signal::USR2,
    }
}

async fn read_progress(dir: &Path) -> Result<Progress, StopError> {
    let path = dir.join(STOP_FILE);
    let dir = dir.to_owned();
    let read = blocking(move || read_record(&dir, STOP_FILE)).await;
    read.map(Option::unwrap_or_default).map_err(|source| StopError::Record { path, source })
}

async fn write_progress(dir: &Path, progress: Progress) -> Result<(), StopError> {
    let path = dir.join(STOP_FILE);
    let dir = dir.to_owned();
    let written = blocking(move || write_record(&dir, STOP_FILE, &progress)).await;
    written.map_err(|source| StopError::Record { path, source })
}
