//! Counts: what the gate counted of one slot of one application.

use crate::{ApplicationName, Slot};

/// How many buckets of latency are counted: the last one holds all of 67 seconds and more.
pub const LATENCY_BUCKETS: usize = 27;

/// What a gate counted of one slot since its process began. Only ever grows, but for what is
/// under way.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SlotCounts {
    pub application: ApplicationName,
    pub slot: Slot,
    /// Which gate process counted: another one has counted from zero.
    pub gate: String,
    pub requests_in_flight: u64,
    /// Upgrades, event streams and plain TCP that are under way.
    pub long_lived: u64,
    pub requests: u64,
    /// Answers by their class, 1xx to 5xx.
    pub statuses: [u64; 5],
    pub connect_errors: u64,
    /// Connections that broke before the end of an answer.
    pub resets: u64,
    /// Requests that could not be sent there, and went on elsewhere or anew.
    pub retries: u64,
    /// Bytes of bodies received from there.
    pub bytes_in: u64,
    /// Bytes of bodies sent there.
    pub bytes_out: u64,
    /// Answers by the time until their head came; the `n`th holds those under 2^n microseconds.
    pub latency: [u64; LATENCY_BUCKETS],
}

impl SlotCounts {
    /// Returns an upper bound, in microseconds, of the latency that `permille` of the answers did
    /// not exceed: exact to a factor of two. None: nothing was answered, or too slowly to tell.
    pub fn latency_us_at(&self, permille: u64) -> Option<u64> {
        let all: u64 = self.latency.iter().sum();
        let wanted = (all * permille).div_ceil(1000).max(1);
        let mut seen = 0;
        let at = self.latency.iter().position(|count| {
            seen += count;
            seen >= wanted
        })?;
        (at + 1 < LATENCY_BUCKETS).then(|| 1 << at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_the_upper_bound_of_its_bucket() {
        let mut latency = [0; LATENCY_BUCKETS];
        (latency[10], latency[12], latency[26]) = (98, 1, 1);
        let counts = SlotCounts {
            application: "web".parse().unwrap(),
            slot: Slot::Blue,
            gate: String::new(),
            requests_in_flight: 0,
            long_lived: 0,
            requests: 100,
            statuses: [0, 100, 0, 0, 0],
            connect_errors: 0,
            resets: 0,
            retries: 0,
            bytes_in: 0,
            bytes_out: 0,
            latency,
        };

        assert_eq!(counts.latency_us_at(500), Some(1024));
        assert_eq!(counts.latency_us_at(990), Some(4096));
        assert_eq!(counts.latency_us_at(1000), None);
        let nothing = SlotCounts { latency: [0; LATENCY_BUCKETS], ..counts };
        assert_eq!(nothing.latency_us_at(500), None);
    }
}
