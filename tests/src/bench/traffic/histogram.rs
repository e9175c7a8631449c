//! Times of many requests, counted into steps of 3 %.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Steps between two powers of two.
const STEPS: usize = 32;

/// Up to 2^30 us, which is more than any request may take.
const BUCKETS: usize = 64 + 24 * STEPS;

/// Counts of times. Many may add to it at once.
#[derive(Debug)]
pub(super) struct Histogram(Vec<AtomicU64>);

impl Histogram {
    pub(super) fn new() -> Self {
        Self((0..BUCKETS).map(|_| AtomicU64::new(0)).collect())
    }

    pub(super) fn add(&self, taken: Duration) {
        let us = usize::try_from(taken.as_micros()).unwrap_or(usize::MAX);
        self.0[bucket(us)].fetch_add(1, Ordering::Relaxed);
    }

    /// Adds what another one has counted.
    pub(super) fn merge(&self, other: &Self) {
        for (own, other) in self.0.iter().zip(&other.0) {
            own.fetch_add(other.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.0.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Returns the milliseconds within which `permyriad` of 10,000 requests were. NaN without any.
    pub(super) fn at(&self, permyriad: u64) -> f64 {
        let wanted = (self.count() * permyriad).div_ceil(10_000);
        let mut seen = 0;
        for (index, count) in self.0.iter().enumerate() {
            seen += count.load(Ordering::Relaxed);
            if seen >= wanted && seen > 0 {
                return end(index) as f64 / 1e3;
            }
        }
        f64::NAN
    }
}

fn bucket(us: usize) -> usize {
    if us < 64 {
        return us;
    }
    let power = us.ilog2() as usize;
    let step = (us >> (power - 5)) & (STEPS - 1);
    (64 + (power - 6) * STEPS + step).min(BUCKETS - 1)
}

/// Returns the microseconds below which everything of a bucket is.
fn end(bucket: usize) -> usize {
    if bucket < 64 {
        return bucket + 1;
    }
    let (power, step) = ((bucket - 64) / STEPS + 6, (bucket - 64) % STEPS);
    (STEPS + step + 1) << (power - 5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_within_a_step_of_the_truth() {
        let histogram = Histogram::new();
        for us in 1..=10_000 {
            histogram.add(Duration::from_micros(us));
        }

        for (permyriad, ms) in [(5_000, 5.0), (9_900, 9.9), (9_990, 9.99), (10, 0.01)] {
            let found = histogram.at(permyriad);
            assert!((ms..ms * 1.04 + 0.002).contains(&found), "{permyriad}: {found}");
        }
        assert!(Histogram::new().at(5_000).is_nan());
    }
}
