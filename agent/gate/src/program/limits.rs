//! What a client may take of the gate: sizes in bytes, times in milliseconds.

use std::time::Duration;

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
    /// How long a connection may wait for its next request.
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

impl From<cutover_common::Limits> for Limits {
    fn from(limits: cutover_common::Limits) -> Self {
        let cutover_common::Limits {
            head_bytes,
            body_bytes,
            head_within,
            stall_within,
            idle_within,
            answer_within,
            connections,
        } = limits;
        Self {
            head_bytes_max: head_bytes,
            body_bytes_max: body_bytes,
            head_ms: millis(head_within),
            stall_ms: millis(stall_within),
            idle_ms: millis(idle_within),
            answer_ms: millis(answer_within),
            // A slot is on this host: a full backlog makes the kernel try again after 1 s.
            connect_ms: 3_000,
            // One lost SYN (1 s) and a second one (3 s) on a network.
            gate_connect_ms: 5_000,
            connections_max: connections,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        cutover_common::Limits::default().into()
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
