//! Stops an instance: its hook, its signal, its grace, then SIGKILL to all that is left.
//!
//! Each step is noted in `stop.json` before or after it, so that an agent that is killed in the
//! middle goes on where it was: a hook is never run twice (E3), and a grace period never begins
//! again.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use cutover_common::{ApplicationName, InstanceId, StopSignal};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::{
    Ended, LookError, ProcessRuntime, SETTLE_WITHIN, SWEEP_WITHIN, WaitError, blocking,
    bounded::{BoundedCommand, CommandEnd, run_bounded},
    end_watch::EndWatch,
    look::{Look, Running},
    sweep::{LeftBehind, kill_by_token, signal_followers},
};
use crate::{
    host::since_boot,
    shim::record::{INSTANCE_VARIABLE, SPEC_FILE, Spec, read_record, write_record},
};

const STOP_FILE: &str = "stop.json";

/// Set in the environment of a hook and so of all that it starts, in place of the instance's
/// token: what an interrupted hook left behind can be told from the instance.
const HOOK_VARIABLE: &str = "CUTOVER_HOOK";

/// How an instance is to be stopped.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StopSpec {
    /// Runs before the signal, if the instance still runs.
    pub hook: Option<StopHook>,
    pub signal: StopSignal,
    /// From the signal to SIGKILL.
    pub grace: Duration,
}

/// A `before_stop` hook with all variables filled in. It sees the instance's own environment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StopHook {
    pub command: Vec<String>,
    pub within: Duration,
}

/// How a stop went. Nothing of the instance runs any more.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StopOutcome {
    pub ended: Ended,
    pub hook: HookOutcome,
    /// Whether it had to be killed at the end of its grace.
    pub killed: bool,
}

/// What became of a hook. None of these is a veto.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub enum HookOutcome {
    /// There was none to run, or no instance to run it for.
    NotRun,
    Passed,
    /// The text is for people: how it ended, and the end of its output.
    Failed(String),
    /// The agent died while it ran. What it had done is not known; it is not run again.
    Interrupted,
}

impl HookOutcome {
    /// Returns what people should know of the hook, or None when all is well.
    pub fn warning(&self) -> Option<String> {
        match self {
            Self::NotRun | Self::Passed => None,
            Self::Failed(text) => Some(format!("the before_stop hook failed: {text}")),
            Self::Interrupted => Some(
                "the before_stop hook was interrupted by the agent's own end; what it had done \
                 is not known, and it is not run again"
                    .to_owned(),
            ),
        }
    }
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
    #[error("could not end all that the instance left behind")]
    LeftBehind(#[from] LeftBehind),
}

/// How far a stop came.
#[derive(Clone, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
struct Progress {
    hook: Option<HookProgress>,
    /// When the signal was sent, since boot: the instance does not outlive a boot either.
    signalled_after: Option<Duration>,
}

#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
enum HookProgress {
    Begun,
    Over(HookOutcome),
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
        let hook = match spec.hook {
            Some(hook) => self.run_hook(application, instance, hook).await?,
            None => HookOutcome::NotRun,
        };
        // Also when the hook is the caller's affair and was interrupted.
        self.sweep_hook(instance).await?;
        let killed = match self.settle(application, instance).await? {
            Look::Running(running) => {
                self.ask_to_stop(application, instance, running, spec.signal, spec.grace).await?
            }
            Look::Nothing | Look::Between { .. } | Look::Ended(_) | Look::Gone => false,
        };
        let ended = self.wait(application, instance).await?;
        // The shim ended its descendants. Should it have been killed on the way, the token tells.
        self.sweep(instance).await?;
        Ok(StopOutcome { ended, hook, killed })
    }

    /// Runs a hook of a running instance, at most once for each instance (E3).
    ///
    /// # Errors
    ///
    /// When its begin or end cannot be recorded. A hook that fails is an outcome.
    pub async fn run_hook(
        &self,
        application: &ApplicationName,
        instance: InstanceId,
        hook: StopHook,
    ) -> Result<HookOutcome, StopError> {
        let dir = self.dir_of(application, instance);
        let mut progress = read_progress(&dir).await?;
        let outcome = match progress.hook.take() {
            Some(HookProgress::Over(outcome)) => return Ok(outcome),
            Some(HookProgress::Begun) => HookOutcome::Interrupted,
            None => match self.settle(application, instance).await? {
                Look::Running(_) => {
                    progress.hook = Some(HookProgress::Begun);
                    write_progress(&dir, progress.clone()).await?;
                    run(&dir, instance, hook).await?
                }
                Look::Nothing | Look::Between { .. } | Look::Ended(_) | Look::Gone => {
                    return Ok(HookOutcome::NotRun);
                }
            },
        };
        self.sweep_hook(instance).await?;
        progress.hook = Some(HookProgress::Over(outcome.clone()));
        write_progress(&dir, progress).await?;
        Ok(outcome)
    }

    async fn sweep_hook(&self, instance: InstanceId) -> Result<(), LeftBehind> {
        let value = instance.0.to_string();
        blocking(move || kill_by_token(HOOK_VARIABLE, &value, SWEEP_WITHIN)).await
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

async fn run(dir: &Path, instance: InstanceId, hook: StopHook) -> Result<HookOutcome, StopError> {
    let spec = {
        let dir = dir.to_owned();
        blocking(move || read_record::<Spec>(&dir, SPEC_FILE)).await
    };
    let (directory, mut env) = match spec {
        Ok(Some(spec)) => (spec.directory, spec.env),
        Ok(None) => (PathBuf::from("/"), BTreeMap::new()),
        Err(source) => return Err(StopError::Record { path: dir.join(SPEC_FILE), source }),
    };
    env.remove(INSTANCE_VARIABLE);
    env.insert(HOOK_VARIABLE.to_owned(), instance.0.to_string());
    let argv = &hook.command;
    let command = BoundedCommand { argv, env: &env, directory: &directory, within: hook.within };
    let result = run_bounded(command).await;
    let how = match result.end {
        CommandEnd::Exited(0) => return Ok(HookOutcome::Passed),
        CommandEnd::Exited(status) => format!("it exited with status {status}"),
        CommandEnd::Signalled(signal) => format!("signal {signal} ended it"),
        CommandEnd::TimedOut => format!("it was killed after {:?}", hook.within),
        CommandEnd::NotStarted(text) => text,
    };
    let said = match result.output.trim_end() {
        "" => String::new(),
        output => format!("; it said: {output}"),
    };
    Ok(HookOutcome::Failed(format!("{how}{said}")))
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
