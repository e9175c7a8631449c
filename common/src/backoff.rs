//! Backoff: how long to wait before trying again, given failures and luck drawn elsewhere.

use std::time::Duration;

use crate::planted;

/// A growing wait: doubles with each failure, up to a longest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Backoff {
    pub first: Duration,
    pub longest: Duration,
}

/// Luck for one wait: a share of it, 0.0 to 1.0, that is added.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Jitter(f64);

impl Jitter {
    /// Adds nothing.
    pub const NONE: Self = Self(0.0);

    /// Takes any 32 random bits.
    pub fn from_bits(bits: u32) -> Self {
        Self(f64::from(bits) / f64::from(u32::MAX))
    }
}

impl Backoff {
    /// Returns the wait after `failures` failed tries in a row.
    ///
    /// Luck makes it longer, and at the longest shorter: a thousand agents that have waited for
    /// the longest time must not dial in one moment either.
    pub fn after(self, failures: u32, jitter: Jitter) -> Duration {
        let doublings = planted!(BackoffDoesNotGrow: 0; failures.saturating_sub(1).min(31));
        let base = self.first.saturating_mul(1 << doublings).min(self.longest);
        let wait = base.saturating_add(base.mul_f64(jitter.0));
        wait.min(self.longest.saturating_sub(wait.saturating_sub(self.longest) / 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff =
        Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(30) };

    #[test]
    fn doubles_until_the_cap() {
        let waits: Vec<u64> = (1..=7).map(|n| BACKOFF.after(n, Jitter::NONE).as_secs()).collect();

        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
    }

    #[test]
    fn jitter_adds_at_most_the_wait_again() {
        assert_eq!(BACKOFF.after(2, Jitter::from_bits(u32::MAX)), Duration::from_secs(4));
        assert_eq!(BACKOFF.after(99, Jitter::from_bits(u32::MAX)), Duration::from_secs(15));
    }
    #[test]
    fn luck_spreads_the_longest_waits_too() {
        let lucky = Jitter::from_bits(u32::MAX / 2);

        assert_eq!(BACKOFF.after(99, Jitter::NONE), Duration::from_secs(30));
        assert!(BACKOFF.after(99, lucky) < Duration::from_secs(23));
        assert!(BACKOFF.after(99, lucky) > Duration::from_secs(22));
    }
}
