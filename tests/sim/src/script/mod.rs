//! Script: everything that decides a run: the fleet, its applications, how the world behaves, and
//! a schedule of faults and operators' calls. A seed makes one; a found bug is kept as one.

mod behaviour;
mod entry;
mod print;

use cutover_common::HookKind;
use serde::{Deserialize, Serialize};

pub use self::{
    behaviour::{
        Answers, BadHook, Behaviour, CheckBehaviour, CheckBehaviours, HookBehaviour, Life, OnStop,
    },
    entry::{
        Call, DESPITE_FREEZE, Direction, Entry, Fault, GROUP_LABEL, Group, KillPoint, QUEUES,
        SUPERSEDES, What,
    },
};

/// What one run is made of. Times are in milliseconds of virtual time.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct Script {
    /// Where the world's small luck comes from: delays, ties, ids.
    pub seed: u64,
    pub mode: Mode,
    pub ends_ms: u64,
    pub hosts: u16,
    pub network: Network,
    pub disks: Disks,
    pub settings: Settings,
    pub applications: Vec<Application>,
    /// What happens, by time.
    #[serde(default)]
    pub entries: Vec<Entry>,
}

/// What is demanded of a run.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Mode {
    /// Any fault at any time: nothing wrong may ever be done.
    Safety,
    /// From a moment on one coordinator and the hosts that are not in `broken` are healthy for
    /// ever, the others stay broken for ever: everything must reach an end.
    Liveness { heals_ms: u64, broken: Vec<u16> },
}

/// How every link behaves when nothing else was scheduled.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
pub struct Network {
    pub delay_min_us: u64,
    pub delay_max_us: u64,
    /// How many packets in a thousand are lost, and come after a retransmission.
    pub loss_permille: u32,
    /// How many messages in a thousand the sender drops, because its queue is full.
    pub drop_permille: u32,
    /// How many messages to an agent in a thousand come twice: more than TCP would do.
    pub duplicate_permille: u32,
    /// How many messages to an agent in a thousand are overtaken: more than TCP would do.
    pub reorder_permille: u32,
    /// How late a message that is overtaken or repeated may be.
    pub late_max_ms: u64,
    /// Of one link, for artifacts.
    pub bytes_per_ms: u64,
    /// Whether connections are pinged, so that a dead one is noticed before the silence counts.
    pub keepalive: bool,
}

/// How every disk behaves when nothing else was scheduled.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
pub struct Disks {
    /// How long an fsync takes.
    pub sync_min_us: u64,
    pub sync_max_us: u64,
    /// How many bytes a journal grows before it is replaced with its summary.
    pub journal_bytes_max: u64,
    /// How many bytes the coordinator's store takes in one append.
    pub append_bytes_max: usize,
}

/// What the programs are told when they start.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct Settings {
    /// How many inputs one flush of the coordinator covers at the most.
    pub coordinator_batch_max: usize,
    /// How many inputs one flush of an agent covers at the most.
    pub agent_batch_max: usize,
    /// How long a certificate is valid; renewed at half of it.
    pub certificate_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            // As in the daemons' engines.
            coordinator_batch_max: 512,
            agent_batch_max: 64,
            // 24 h, as the coordinator's authority signs.
            certificate_ms: 24 * 3_600_000,
        }
    }
}

/// One application and where it runs.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct Application {
    pub name: String,
    /// The hosts of its environment, which bears its name.
    pub hosts: Vec<u16>,
    /// None: an instance is healthy while it is alive.
    pub probe: Option<Probe>,
    pub has_stop_hook: bool,
    /// The other hooks that its releases have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<HookKind>,
    /// Whether one host runs the `before_start` hook for all.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub once: bool,
    pub stop_within_ms: u64,
    /// None: no gate stands before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Gated>,
    /// What its canaries are asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checks: Option<Checks>,
    /// How many requests a second each of its hosts gets. None: nobody counts any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_s: Option<u32>,
    pub releases: Vec<Release>,
}

/// The checks that the releases of an application declare.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct Checks {
    pub metric: bool,
    pub command: bool,
    /// How many failures in a row fail a canary.
    pub failures: u32,
}

/// How an application stands behind the gate.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct Gated {
    /// Whether a host holds one instance at a time.
    pub in_place: bool,
    /// The longest that a request takes.
    pub requests_ms: u64,
    /// When what an instance still has is cut.
    pub drain_ms: u64,
    pub keep_warm_ms: u64,
}

/// How an application's health is asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct Probe {
    pub every_ms: u64,
    pub timeout_ms: u64,
    pub passes: u32,
    pub failures: u32,
    pub start_within_ms: u64,
}

/// One release of an application.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct Release {
    pub version: String,
    pub archive_bytes: u64,
    /// Whether the archive holds something else than its digest says.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_damaged: bool,
    pub behaviour: Behaviour,
    /// What its checks answer.
    #[serde(default, skip_serializing_if = "CheckBehaviours::all_pass")]
    pub checks: CheckBehaviours,
    /// How its requests end, where any are counted.
    #[serde(default, skip_serializing_if = "Answers::are_good")]
    pub answers: Answers,
    /// Where it behaves differently.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exceptions: Vec<Exception>,
}

/// How a release behaves on one host.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct Exception {
    pub host: u16,
    pub behaviour: Behaviour,
}

impl Release {
    /// Returns how it behaves on this host.
    pub fn behaviour_on(&self, host: u16) -> &Behaviour {
        let exception = self.exceptions.iter().find(|exception| exception.host == host);
        exception.map_or(&self.behaviour, |exception| &exception.behaviour)
    }
}

/// Why a text is no script.
#[derive(Debug, thiserror::Error)]
#[error("this is no script of a run; `cutover-sim shrink` writes one")]
pub struct ParseScript(#[source] toml::de::Error);

impl Script {
    /// Reads a script.
    ///
    /// # Errors
    ///
    /// Says where the text is not a script.
    pub fn parse(text: &str) -> Result<Self, ParseScript> {
        toml::from_str(text).map_err(ParseScript)
    }

    /// Prints the script, so that it can be read again, by people too.
    pub fn print(&self) -> String {
        print::script(self)
    }
}
