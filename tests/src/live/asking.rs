//! Clients that ask every host of a fleet all the time, while something is done to it.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use super::Cluster;

/// What clients heard.
#[derive(Debug, Default)]
pub struct Heard {
    pub answered: usize,
    /// Everything else, with the host that was asked.
    pub failures: Vec<String>,
}

/// Asks every host, one after the other and again, until `work` is done. `is_good` judges each
/// answer: the whole of it, head and body.
///
/// # Panics
///
/// When `work` does.
pub fn while_asked<T>(
    cluster: &Cluster,
    (port, path): (u16, &str),
    is_good: impl Fn(&str) -> bool + Sync,
    work: impl FnOnce() -> T,
) -> (T, Heard) {
    let is_over = AtomicBool::new(false);
    let ask = || {
        let mut heard = Heard::default();
        while !is_over.load(Ordering::Relaxed) {
            for (index, agent) in cluster.agents().iter().enumerate() {
                let answer = cluster.get(index, port, path).unwrap_or_default();
                if is_good(&answer) {
                    heard.answered += 1;
                } else {
                    heard.failures.push(format!("{}: {answer:?}", agent.name));
                }
            }
        }
        heard
    };
    thread::scope(|scope| {
        let asking = scope.spawn(ask);
        // Also when the work fails: the clients are to end.
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        is_over.store(true, Ordering::Relaxed);
        let heard = asking.join().expect("a client does not panic");
        match done {
            Ok(done) => (done, heard),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

impl Heard {
    /// Demands that enough was asked, and that nothing failed.
    ///
    /// # Panics
    ///
    /// When it is not so.
    pub fn all_is_well(&self, asked_at_least: usize) {
        let Self { answered, failures } = self;
        assert!(*answered >= asked_at_least, "only {answered} requests were answered");
        assert!(failures.is_empty(), "{} of {answered} failed: {failures:?}", failures.len());
    }
}
