//! What an agent says about its host.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Labels of an agent, set by operators. Keys and values are names in the widest sense:
/// 1 to 63 printable ASCII characters without `=`, `,` and spaces.
pub type Labels = BTreeMap<String, String>;

/// Returns whether `text` may be a label's key or value.
pub fn is_label_part(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_graphic() && !b"=,".contains(&b))
}

/// What does not change while an agent runs.
#[derive(Clone, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
pub struct Inventory {
    pub hostname: String,
    pub os: String,
    pub kernel: String,
    pub arch: String,
    pub cpus: u32,
    pub memory_bytes: u64,
    pub disk_bytes: u64,
    /// The address that the host's applications listen on.
    pub address: String,
    /// `process` or `systemd`.
    pub runtime: String,
}

/// What changes from heartbeat to heartbeat.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct HostLoad {
    /// Share of all cpus in use, 0 to 1000.
    pub cpu_permille: u32,
    pub memory_used_bytes: u64,
    pub memory_total_bytes: u64,
    pub disk_used_bytes: u64,
    pub disk_total_bytes: u64,
    /// One-minute load average in thousandths.
    pub load1_milli: u32,
}
