//! One request to end, many listeners.

use std::{future::Future, io};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Whether the program was asked to end. Clones share one request.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// Makes one that only [`request`](Self::request) sets off.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes one that SIGTERM or SIGINT sets off. Every later signal is ignored: an end that was
    /// begun is finished, and who cannot wait has SIGKILL.
    ///
    /// # Errors
    ///
    /// If the process cannot listen to signals.
    pub fn on_signals() -> io::Result<Self> {
        let shutdown = Self::new();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let token = shutdown.0.clone();
        tokio::spawn(async move {
            loop {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                };
                if token.is_cancelled() {
                    tracing::info!(signal = name, "already ending");
                } else {
                    tracing::info!(signal = name, "ending");
                    token.cancel();
                }
            }
        });
        Ok(shutdown)
    }

    /// Asks the program to end.
    pub fn request(&self) {
        self.0.cancel();
    }

    /// Returns whether the program was asked to end.
    pub fn is_requested(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits until the program is asked to end.
    pub fn requested(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        let wait: WaitForCancellationFutureOwned = self.0.clone().cancelled_owned();
        wait
    }

    /// Returns the token beneath, for what takes one.
    pub fn token(&self) -> CancellationToken {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::process::{Signal, getpid, kill_process};
    use tokio::time::timeout;

    use super::*;

    const LONG: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_request_reaches_every_clone() {
        let shutdown = Shutdown::new();
        let clone = shutdown.clone();
        assert!(!clone.is_requested());

        shutdown.request();

        timeout(LONG, clone.requested()).await.expect("the clone ends too");
        assert!(clone.is_requested());
    }

    #[tokio::test]
    async fn the_first_signal_ends_gracefully_and_more_are_ignored() {
        // nextest runs each test in a process of its own, so the signal reaches this test alone;
        // the listeners are in place when `on_signals` returns.
        let shutdown = Shutdown::on_signals().unwrap();

        kill_process(getpid(), Signal::TERM).unwrap();
        timeout(LONG, shutdown.requested()).await.expect("SIGTERM is a request");

        kill_process(getpid(), Signal::TERM).unwrap();
        kill_process(getpid(), Signal::INT).unwrap();
        // Still running is the assertion: without the listeners each would kill the process.
        assert!(shutdown.is_requested());
    }
}
