//! Agents, environments and join tokens.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::text::Text;

/// One agent.
#[derive(Clone, Debug, Serialize)]
pub struct Agent {
    pub name: Text,
    /// live, lost or never_seen
    pub presence: Text,
    pub labels: BTreeMap<Text, Text>,
    pub address: Option<Text>,
    pub version: Option<Text>,
    pub last_heard_unix_ms: Option<u64>,
    pub joined_unix_ms: Option<u64>,
    pub host: Option<Host>,
    pub load: Option<Load>,
    pub applications: Vec<AgentApplication>,
    /// What the host's gate counted, since it began.
    pub traffic: Vec<SlotTraffic>,
    /// Null while the host takes part.
    pub drain: Option<Drain>,
    /// Null for an agent that never stood in front of an environment.
    pub edge: Option<Edge>,
}

/// What an edge says of the hosts behind it.
#[derive(Clone, Debug, Serialize)]
pub struct Edge {
    /// Whether its gate does what the coordinator told it last.
    pub is_followed: bool,
    /// What of it is not served, and why.
    pub trouble: Option<Text>,
    pub hosts: Vec<EdgeHost>,
}

/// One host behind an edge, and what the edge's gate counted of it since it began.
#[derive(Clone, Debug, Serialize)]
pub struct EdgeHost {
    pub application: Text,
    pub host: Text,
    /// Its share of what is new; shares count against their sum. With 0 it gets nothing new.
    pub weight_permille: u16,
    /// False: the coordinator is out of touch with it, and it keeps what it had.
    pub is_certain: bool,
    pub requests: u64,
    pub requests_in_flight: u64,
    pub long_lived: u64,
    pub answered_5xx: u64,
    pub connect_errors: u64,
    pub resets: u64,
    pub retries: u64,
}

/// That a host is taken out for maintenance.
#[derive(Clone, Debug, Serialize)]
pub struct Drain {
    pub by: Text,
    pub reason: Option<Text>,
    pub since_unix_ms: Option<u64>,
}

/// What a gate counted of one slot.
#[derive(Clone, Debug, Serialize)]
pub struct SlotTraffic {
    pub application: Text,
    pub slot: Text,
    pub requests: u64,
    pub requests_in_flight: u64,
    pub long_lived: u64,
    pub answered_5xx: u64,
    pub connect_errors: u64,
    pub resets: u64,
    pub retries: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// At most; exact to an eighth.
    pub p50_us: Option<u64>,
    pub p99_us: Option<u64>,
}

/// What does not change while an agent runs.
#[derive(Clone, Debug, Serialize)]
pub struct Host {
    pub hostname: Text,
    pub os: Text,
    pub kernel: Text,
    pub arch: Text,
    pub cpus: u32,
    pub memory_bytes: u64,
    pub disk_bytes: u64,
    pub runtime: Text,
}

/// How busy a host is.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Load {
    pub cpu_permille: u32,
    pub memory_used_bytes: u64,
    pub memory_total_bytes: u64,
    pub disk_used_bytes: u64,
    pub disk_total_bytes: u64,
    pub load1_milli: u32,
}

/// One application on one host, as its agent last reported it.
#[derive(Clone, Debug, Serialize)]
pub struct AgentApplication {
    pub application: Text,
    /// The slots that hold something.
    pub slots: Vec<AgentSlot>,
}

/// One slot that holds a release.
#[derive(Clone, Debug, Serialize)]
pub struct AgentSlot {
    pub slot: &'static str,
    pub version: Option<Text>,
    pub phase: &'static str,
    pub health: &'static str,
    /// Whether the gate leads here; none if no gate stands before it.
    pub traffic: Option<&'static str>,
    pub restarts: u32,
    pub detail: Option<Text>,
}

/// One environment.
#[derive(Clone, Debug, Serialize)]
pub struct Environment {
    pub name: Text,
    pub select: BTreeMap<Text, Text>,
    pub agents: Vec<Text>,
    pub stable: Vec<StableRelease>,
    pub freezes: Vec<Freeze>,
}

/// An environment with what it adds to releases.
#[derive(Clone, Debug, Serialize)]
pub struct ShownEnvironment {
    #[serde(flatten)]
    pub environment: Environment,
    pub config: Vec<ConfigVariable>,
}

/// A variable that an environment adds to releases.
#[derive(Clone, Debug, Serialize)]
pub struct ConfigVariable {
    /// Null: for all applications that say nothing else.
    pub application: Option<Text>,
    pub name: Text,
    pub is_secret: bool,
    /// Null for a secret.
    pub value: Option<Text>,
    pub by: Text,
    pub set_unix_ms: u64,
}

/// What became of a change of an environment's config.
#[derive(Clone, Debug, Serialize)]
pub struct Configured {
    pub environment: Text,
    /// Null: it was like this before.
    pub number: Option<u32>,
    /// What it comes to with a deploy.
    pub concerns: Vec<StableRelease>,
}

/// That nothing new is deployed to an environment for a while.
#[derive(Clone, Debug, Serialize)]
pub struct Freeze {
    /// Null for one of every week.
    pub from_unix_ms: Option<u64>,
    /// Null for one of every week, and for one that lasts until it is lifted.
    pub until_unix_ms: Option<u64>,
    /// A part of every week, in UTC; null for another.
    pub weekly: Option<Text>,
    pub by: Text,
    pub reason: Text,
    pub is_on: bool,
}

/// The release of an application that an environment goes back to.
#[derive(Clone, Debug, Serialize)]
pub struct StableRelease {
    pub application: Text,
    pub version: Text,
}

/// An environment that was created.
#[derive(Clone, Debug, Serialize)]
pub struct Created {
    pub name: Text,
    /// How many agents it selects at this moment.
    pub agents: u32,
}

/// A one-time token, and how a server joins with it.
#[derive(Clone, Debug, Serialize)]
pub struct JoinToken {
    pub token: Text,
    pub ca_hash: Text,
    pub join_url: Text,
    pub expires_unix_ms: u64,
    /// One line, ready to paste on the server.
    pub join_command: Text,
}
