//! Counts: what the gate counted of one slot of one application.

use crate::{ApplicationName, Latencies, Slot};

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
    /// Answers by the time until their head came.
    pub latency: Latencies,
}
