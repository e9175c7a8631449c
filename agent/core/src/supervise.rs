//! Supervision: when an instance that ended is started again.

use std::time::Duration;

use cutover_common::{Backoff, Jitter, Timestamp};

/// How fast an instance is started again: the first crash costs a second, a crash loop one
/// start a minute.
pub const RESTART_BACKOFF: Backoff =
    Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(60) };

/// How long an instance must have been healthy for its earlier crashes not to count any more.
pub const FORGIVEN_AFTER: Duration = Duration::from_secs(600);

/// Crashes in a row of the instances in one slot. Volatile: a restarted agent starts at once
/// what should be running.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Crashes {
    failures: u32,
    /// None: at once.
    restart_at: Option<Timestamp>,
}

impl Crashes {
    /// Notes that an instance ended that had been healthy since `healthy_since`.
    pub(crate) fn note(
        &mut self,
        now: Timestamp,
        healthy_since: Option<Timestamp>,
        jitter: Jitter,
    ) {
        if healthy_since.is_some_and(|since| now.since(since) >= FORGIVEN_AFTER) {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        self.restart_at = Some(now + RESTART_BACKOFF.after(self.failures, jitter));
    }

    /// Returns when the next instance may be started; none means at once.
    pub(crate) const fn restart_at(&self) -> Option<Timestamp> {
        self.restart_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_healthy_minutes_forgive_earlier_crashes() {
        let start = Timestamp::from_unix_ms(0);
        let mut crashes = Crashes::default();
        for _ in 0..8 {
            crashes.note(start, None, Jitter::NONE);
        }
        assert_eq!(crashes.restart_at(), Some(start + Duration::from_secs(60)));

        let later = start + FORGIVEN_AFTER;
        crashes.note(later, Some(start), Jitter::NONE);

        assert_eq!(crashes.restart_at(), Some(later + Duration::from_secs(1)));
    }
}
