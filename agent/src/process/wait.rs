//! Waits for an instance to end, whoever started it.

use std::io;

use cutover_common::{ApplicationName, InstanceId};

use super::{
    ExitRecord, LookError, ProcessRuntime, end_watch::EndWatch, look::Look, sweep::LeftBehind,
};

/// How an instance ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Ended {
    Exited(ExitRecord),
    /// It left no exit record: the host rebooted, or somebody killed the shim.
    Gone,
    /// It was never started.
    Never,
}

/// Why nobody can wait for an instance.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    #[error("could not find out whether the instance runs")]
    Look(#[from] LookError),
    #[error("could not wait for the instance's process")]
    Poll(#[source] io::Error),
    #[error("the instance ended, and what it left behind could not be ended")]
    LeftBehind(#[from] LeftBehind),
}

impl ProcessRuntime {
    /// Returns once nothing of the instance runs any more, its descendants included.
    ///
    /// # Errors
    ///
    /// When its records cannot be read, its shim hangs after the application ended, or something
    /// of it may still run.
    pub async fn wait(
        &self,
        application: &ApplicationName,
        instance: InstanceId,
    ) -> Result<Ended, WaitError> {
        let ended = loop {
            match self.settle(application, instance).await? {
                Look::Running(running) => {
                    let watch = EndWatch::new(running.into_application_fd());
                    watch.map_err(WaitError::Poll)?.ended().await.map_err(WaitError::Poll)?;
                }
                Look::Ended(record) => break Ended::Exited(record),
                Look::Nothing => break Ended::Never,
                // The first never comes out of `settle`.
                Look::Between { .. } | Look::Gone => break Ended::Gone,
            }
        };
        // Its shim ends its descendants, unless somebody killed it before, whatever is on record.
        self.sweep(instance).await?;
        Ok(ended)
    }
}
