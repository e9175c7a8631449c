//! A program's clock: the machine's wall at its start, and virtual time from then on. It is what
//! `cutover_runtime::clock` does with the real ones.

use std::time::Duration;

use cutover_common::Timestamp;

use crate::moment::Moment;

/// Where the wall clocks of all machines stand when a run begins: an ordinary day, so that every
/// one of them can be set back by years.
const BEGINNING: Timestamp = Timestamp::from_unix_ms(1_750_000_000_000);

/// The wall clock of one machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wall {
    pub ahead_ms: i64,
}

impl Wall {
    /// Returns what it shows.
    pub fn at(self, now: Moment) -> Timestamp {
        let ms = BEGINNING.unix_ms().saturating_add(now.ms()).saturating_add_signed(self.ahead_ms);
        Timestamp::from_unix_ms(ms)
    }
}

/// The clock of one process.
#[derive(Clone, Copy, Debug)]
pub struct ProcessClock {
    start: Timestamp,
    started: Moment,
}

impl ProcessClock {
    /// Starts at the wall's time, or at `not_before` if the wall is behind it.
    pub(crate) fn start(wall: Wall, now: Moment, not_before: Timestamp) -> Self {
        Self { start: wall.at(now).max(not_before), started: now }
    }

    /// Returns what it shows.
    pub fn at(self, now: Moment) -> Timestamp {
        self.start + Duration::from_millis(now.ms().saturating_sub(self.started.ms()))
    }

    /// Returns the first moment at which it shows `at` or later.
    pub fn moment_of(self, at: Timestamp) -> Moment {
        Moment::from_ms(
            self.started.ms().saturating_add(at.unix_ms().saturating_sub(self.start.unix_ms())),
        )
    }
}
