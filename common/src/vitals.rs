//! Vitals: what an agent measures of a running instance.

use crate::{ApplicationName, InstanceId, Slot};

/// What was measured of one instance. What is unknown is none, and no zero.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InstanceVitals {
    pub application: ApplicationName,
    pub slot: Slot,
    /// Whose they are: another one in the same slot has its own.
    pub instance: InstanceId,
    /// Resident memory of all its processes. A page that several of them share counts for each.
    pub memory_bytes: Option<u64>,
    /// Lines of its output that say error, since it was started.
    pub error_lines: Option<u64>,
}

impl InstanceVitals {
    /// The most memory that an instance is believed to have: 2^52 bytes are what the largest
    /// machines of today can address.
    pub const MEMORY_BYTES_MAX: u64 = 1 << 52;
}
