//! Limits: what a client may take of a service's gate, and how long the gate waits.

use std::{ops::RangeInclusive, time::Duration};

use serde::{Deserialize, Serialize};

use crate::duration_text::LONGEST;

/// What a client may take of the gate, and how long the gate waits for others.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Limits {
    /// The largest head of a request.
    pub head_bytes: u32,
    /// The largest body of a request; none means any size, as bodies are passed on while they
    /// arrive.
    pub body_bytes: Option<u64>,
    /// How long a client may take to send one head, to shake hands for TLS, or to send a PROXY
    /// header.
    pub head_within: Duration,
    /// How long a client may make no progress within a body, in either direction.
    pub stall_within: Duration,
    /// How long a connection may wait for its next request.
    pub idle_within: Duration,
    /// How long an instance may take to begin its answer.
    pub answer_within: Duration,
    /// How many clients may be connected at once.
    pub connections: u32,
}

impl Limits {
    /// The parser's buffer is 8 KiB at least, and a head of more than a MiB is an attack.
    pub const HEAD_BYTES: RangeInclusive<u32> = 8 * 1024..=1024 * 1024;

    /// From what a form has, to a TiB.
    pub const BODY_BYTES: RangeInclusive<u64> = 1024..=1 << 40;

    /// Of all times here: from the smallest unit that there is.
    pub const WITHIN: RangeInclusive<Duration> = Duration::from_millis(1)..=LONGEST;

    /// Up to as many as a process may have descriptors.
    pub const CONNECTIONS: RangeInclusive<u32> = 1..=1_000_000;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Cookies of 4 KiB a few times over, and what common servers allow (32 KiB).
            head_bytes: 32 * 1024,
            body_bytes: None,
            head_within: Duration::from_secs(15),
            stall_within: Duration::from_secs(60),
            // Longer than the 60 s of common load balancers in front, so that they close first.
            idle_within: Duration::from_secs(75),
            // As slow as the slowest report that people wait for.
            answer_within: Duration::from_secs(300),
            connections: 50_000,
        }
    }
}
