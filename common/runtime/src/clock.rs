//! The one reader of system time.
//!
//! The wall is read once, at start; from then on time is that plus what CLOCK_BOOTTIME counted, so
//! that a step of the wall clock disrupts nothing (promises.md §3 rows 78 and 79).

use std::time::{Duration, SystemTime};

use cutover_common::Timestamp;

/// Tells the time.
pub trait Clock: Send + Sync + 'static {
    /// Returns the current moment; never before a moment that it returned earlier.
    fn now(&self) -> Timestamp;
}

/// The machine's clock, free of steps.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: Timestamp,
    booted_at_start: Duration,
}

impl SystemClock {
    /// Starts at the wall's time, or at `not_before` if the wall is behind it.
    ///
    /// `not_before` is the last moment that the program has stored: time goes on from there even
    /// when the machine came up with a wrong clock.
    pub fn start(not_before: Timestamp) -> Self {
        Self { start: wall().max(not_before), booted_at_start: since_boot() }
    }

    /// Returns the current moment.
    pub fn now(&self) -> Timestamp {
        self.start + since_boot().saturating_sub(self.booted_at_start)
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        self.now()
    }
}

/// Reads the wall clock. Only for what is compared with other machines' clocks: the validity of
/// certificates, and an agent's own time when it joins.
pub fn wall() -> Timestamp {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::default() + since_1970
}

/// Returns the time since the machine booted, suspended time included.
fn since_boot() -> Duration {
    let read = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(read.tv_sec).unwrap_or_default();
    let nanos = u32::try_from(read.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_on_from_the_last_stored_moment_when_the_wall_is_behind() {
        let stored = wall() + Duration::from_secs(3600);
        let clock = SystemClock::start(stored);

        assert!(clock.now() >= stored);
        assert!(clock.now().since(stored) < Duration::from_secs(60));
    }

    #[test]
    fn follows_the_wall_when_it_is_ahead_of_what_was_stored() {
        let clock = SystemClock::start(Timestamp::default());

        assert!(wall().since(clock.now()) < Duration::from_secs(60));
        assert!(clock.now().since(wall()) < Duration::from_secs(60));
    }

    #[test]
    fn never_goes_back() {
        let clock = SystemClock::start(Timestamp::default());
        let mut last = clock.now();
        for _ in 0..10_000 {
            let now = clock.now();
            assert!(now >= last);
            last = now;
        }
    }
}
