//! What is counted at one place. Only ever up, so that two readings give a rate.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use cutover_common::{LATENCY_BUCKETS, Latencies, LatencyBucket};
use http::StatusCode;

use crate::state::Counts;

#[derive(Debug, Default)]
pub(crate) struct Counters {
    requests: AtomicU64,
    statuses: [AtomicU64; 5],
    connect_errors: AtomicU64,
    resets: AtomicU64,
    retries: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    latency: Latency,
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
        self.latency.count(micros);
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
            latency: self.latency.read(),
            latency_us_sum: get(&self.latency_us_sum),
        }
    }
}

#[derive(Debug)]
struct Latency([AtomicU64; LATENCY_BUCKETS]);

impl Default for Latency {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; LATENCY_BUCKETS])
    }
}

impl Latency {
    fn count(&self, micros: u64) {
        self.0[LatencyBucket::of_us(micros).place()].fetch_add(1, Relaxed);
    }

    fn read(&self) -> Latencies {
        let known = LatencyBucket::all().zip(&self.0);
        known.map(|(bucket, answers)| (bucket, answers.load(Relaxed))).collect()
    }
}
