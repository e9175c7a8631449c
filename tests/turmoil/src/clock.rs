//! The clock of a simulated host.

use std::time::Duration;

use cutover_common::Timestamp;
use cutover_runtime::clock::Clock;

/// Virtual time, from where this host believes to be: no two clocks need to agree.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostClock {
    pub(crate) start: Timestamp,
}

impl Clock for HostClock {
    fn now(&self) -> Timestamp {
        self.start + elapsed()
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
