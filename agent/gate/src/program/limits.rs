//! What a client may take of the gate: sizes in bytes, times in milliseconds.

use serde::{Deserialize, Serialize};

/// What a client may take of the gate, and how long the gate waits for others.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// The largest head of a request, in bytes: 8 KiB to 1 MiB.
    pub head_bytes_max: u32,
    /// The largest body of a request, in bytes; none means any size, as bodies are passed on
    /// while they arrive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_bytes_max: Option<u64>,
    /// How long a client may take to send one head.
    pub head_ms: u32,
    /// How long a client may make no progress within a body, in either direction.
    pub stall_ms: u32,
    /// How long a connection may wait for its next request; on plain TCP, how long neither side
    /// may say anything.
    pub idle_ms: u32,
    /// How long an instance may take to begin its answer.
    pub answer_ms: u32,
    /// How long connecting to an instance on this host may take.
    pub connect_ms: u32,
    /// How long connecting to another host's gate may take.
    pub gate_connect_ms: u32,
    /// How many clients may be connected at once.
    pub connections_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Cookies of 4 KiB a few times over, and what common servers allow (32 KiB).
            head_bytes_max: 32 * 1024,
            body_bytes_max: None,
            head_ms: 15_000,
            stall_ms: 60_000,
            // Longer than the 60 s of common load balancers in front, so that they close first.
            idle_ms: 75_000,
            // As slow as the slowest report that people wait for.
            answer_ms: 300_000,
            // A slot is on this host: a full backlog makes the kernel try again after 1 s.
            connect_ms: 3_000,
            // One lost SYN (1 s) and a second one (3 s) on a network.
            gate_connect_ms: 5_000,
            connections_max: 50_000,
        }
    }
}
