//! What is counted at one place. Only ever up, so that two readings give a rate.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use http::StatusCode;

use crate::state::{Counts, LATENCY_BUCKETS};

#[derive(Debug, Default)]
pub(crate) struct Counters {
    requests: AtomicU64,
    statuses: [AtomicU64; 5],
    connect_errors: AtomicU64,
    resets: AtomicU64,
    retries: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    latency: [AtomicU64; LATENCY_BUCKETS],
    latency_us_sum: AtomicU64,
}

impl Counters {
    pub(crate) fn began(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    pub(crate) fn answered(&self, status: StatusCode, after: Duration) {
        let class = usize::from(status.as_u16() / 100).saturating_sub(1);
        if let Some(count) = self.statuses.get(class) {
            count.fetch_add(1, Relaxed);
        }
        let micros = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        self.latency[bucket(micros)].fetch_add(1, Relaxed);
        self.latency_us_sum.fetch_add(micros, Relaxed);
    }

    pub(crate) fn could_not_connect(&self) {
        self.connect_errors.fetch_add(1, Relaxed);
    }

    pub(crate) fn was_reset(&self) {
        self.resets.fetch_add(1, Relaxed);
    }

    pub(crate) fn was_retried(&self) {
        self.retries.fetch_add(1, Relaxed);
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.bytes_in.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.bytes_out.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn read(&self) -> Counts {
        let get = |count: &AtomicU64| count.load(Relaxed);
        Counts {
            requests: get(&self.requests),
            statuses: self.statuses.each_ref().map(get),
            connect_errors: get(&self.connect_errors),
            resets: get(&self.resets),
            retries: get(&self.retries),
            bytes_in: get(&self.bytes_in),
            bytes_out: get(&self.bytes_out),
            latency: self.latency.each_ref().map(get),
            latency_us_sum: get(&self.latency_us_sum),
        }
    }
}

/// Returns the bucket of a latency: the `n`th holds those under 2^n microseconds.
fn bucket(micros: u64) -> usize {
    let bits = usize::try_from(u64::BITS - micros.leading_zeros()).unwrap_or(LATENCY_BUCKETS);
    bits.min(LATENCY_BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_is_in_the_first_bucket_that_is_above_it() {
        assert_eq!([0, 1, 2, 3, 4, 1_000, 1_024].map(bucket), [0, 1, 2, 2, 3, 10, 11]);
        assert_eq!(bucket(u64::MAX), LATENCY_BUCKETS - 1);
    }
}
