//! The clock of a simulated host.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use cutover_common::Timestamp;
use cutover_runtime::clock::Clock;

/// Virtual time, from where this host believes to be: no two clocks need to agree. Clones share
/// what the host slept.
#[derive(Clone, Debug)]
pub(crate) struct HostClock {
    start: Timestamp,
    slept_ms: Arc<AtomicU64>,
}

impl HostClock {
    pub(crate) fn new(start: Timestamp) -> Self {
        Self { start, slept_ms: Arc::default() }
    }

    /// Lets the host have slept: its clock, which counts sleep, is ahead; its timers, which do not,
    /// are where they were.
    pub(crate) fn sleep(&self, time: Duration) {
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.slept_ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// Returns how long after the simulation began this host's clock showed `moment`.
    pub(crate) fn since_start(&self, moment: Timestamp) -> Duration {
        moment.since(self.start)
    }

    /// Returns the host's moment, `elapsed` after the simulation began.
    pub(crate) fn at(&self, elapsed: Duration) -> Timestamp {
        self.start + elapsed + Duration::from_millis(self.slept_ms.load(Ordering::Relaxed))
    }
}

impl Clock for HostClock {
    fn now(&self) -> Timestamp {
        self.at(elapsed())
    }
}

/// Returns the virtual time since the simulation began.
///
/// # Panics
///
/// Outside of a simulated host.
pub(crate) fn elapsed() -> Duration {
    turmoil::sim_elapsed().expect("a simulated host asks for the time")
}
