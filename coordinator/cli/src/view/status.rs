//! What runs where, and how it is.

use serde::Serialize;

use super::RolloutState;
use crate::text::Text;

/// One application in one environment.
#[derive(Clone, Debug, Serialize)]
pub struct ApplicationStatus {
    pub application: Text,
    pub environment: Text,
    /// Null until a first rollout succeeded.
    pub stable_version: Option<Text>,
    pub hosts: u32,
    pub healthy: u32,
    pub host_states: Vec<HostStatus>,
    /// Set while a rollout is not over, as are the two below.
    pub rollout: Option<Text>,
    pub rollout_state: Option<RolloutState>,
    pub rollout_why: Option<Text>,
    /// Those that come next, in their order.
    pub queue: Vec<QueuedRollout>,
    /// Set where hosts are in groups: the label of those that edges lead to. The others stand by.
    pub group: Option<Text>,
}

/// A rollout that waits for its turn.
#[derive(Clone, Debug, Serialize)]
pub struct QueuedRollout {
    pub rollout: Text,
    pub to_version: Text,
    pub queued_by: Text,
    pub queued_unix_ms: u64,
}

/// One application on one host.
#[derive(Clone, Debug, Serialize)]
pub struct HostStatus {
    pub agent: Text,
    pub presence: Text,
    pub version: Option<Text>,
    pub phase: Option<Text>,
    pub health: Option<Text>,
    pub detail: Option<Text>,
    pub restarts: u32,
    /// Whether it is in the group that edges do not lead to.
    pub stands_by: bool,
}
