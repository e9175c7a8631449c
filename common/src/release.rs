//! Release: one immutable version of an application, as an agent needs it.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{ApplicationName, CheckName, CommandCheck, Config, Service, Sha256, Version};

/// Names a release.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Deserialize, Serialize)]
pub struct ReleaseRef {
    pub application: ApplicationName,
    pub version: Version,
}

impl fmt::Display for ReleaseRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.application, self.version)
    }
}

/// What is deployed. Immutable: another content is another release.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct Release {
    pub name: ReleaseRef,
    /// Of the canonical archive before compression: the content's identity.
    pub digest: Sha256,
    pub size_bytes: u64,
    /// Of the compressed archive, as it is stored and sent.
    pub archive_digest: Sha256,
    pub archive_size_bytes: u64,
    pub run: RunSpec,
    /// None: an instance counts as healthy while its process is alive.
    pub probe: Option<ProbeSpec>,
    pub hooks: Vec<Hook>,
    /// Commands that say whether a canary of it is well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CommandCheck>,
    /// None: no gate stands before the application, and it listens wherever it does.
    pub service: Option<Service>,
    /// What the environment adds that it is deployed to; empty as it was pushed.
    #[serde(default, skip_serializing_if = "Config::is_empty")]
    pub config: Config,
}

impl Release {
    /// Returns the hook of this kind.
    pub fn hook(&self, kind: HookKind) -> Option<&Hook> {
        self.hooks.iter().find(|hook| hook.kind == kind)
    }

    /// Returns the check of this name.
    pub fn check(&self, name: &CheckName) -> Option<&CommandCheck> {
        self.checks.iter().find(|check| check.name == *name)
    }

    /// Returns the hook that one host of an environment runs for all.
    pub fn once_hook(&self) -> Option<&Hook> {
        self.hooks.iter().find(|hook| hook.once)
    }

    /// Returns how long the hooks may take together that bring the release into service.
    pub fn hooks_within(&self) -> Duration {
        let kinds = [HookKind::BEFORE_THE_START, HookKind::BEFORE_THE_TRAFFIC];
        let hooks = kinds.as_flattened().iter().filter_map(|kind| self.hook(*kind));
        hooks.map(|hook| hook.within).sum()
    }

    /// Returns how long it may take until the stop of an instance that is to make room for another
    /// is all that is left: for what is under way there, and for its hooks.
    pub fn drained_within(&self) -> Duration {
        let kinds = [HookKind::BeforeStop, HookKind::AfterStop];
        let hooks = kinds.into_iter().filter_map(|kind| self.hook(kind));
        let drain = self
            .service
            .as_ref()
            .map_or(Duration::ZERO, |service| service.drain.max(service.drain_long_lived));
        drain + hooks.map(|hook| hook.within).sum::<Duration>()
    }

    /// Returns whether instances of this release and of `other` can be there at the same time.
    pub fn can_stand_beside(&self, other: &Self) -> bool {
        let services = self.service.as_ref().zip(other.service.as_ref());
        services.is_some_and(|(service, other)| service.can_stand_beside(other))
    }
}

/// How an instance is started and stopped.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct RunSpec {
    /// argv; never given to a shell. `$PORT`, `$ADDRESS`, `$RELEASE_DIR`, `$SHARED_DIR` and the
    /// like are filled in by the agent.
    pub command: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub stop_signal: StopSignal,
    /// From the stop signal to SIGKILL.
    pub stop_within: Duration,
    /// Folders of the release, by their paths in it, that stay from release to release.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shared: Vec<String>,
}

/// The longest path of a folder that stays from release to release, in bytes.
const SHARED_PATH_BYTES_MAX: usize = 255;

/// Returns whether `path` names a folder below a release, plainly: it leads nowhere else, whatever
/// is on the disk.
pub fn is_shared_path(path: &str) -> bool {
    let is_plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
    path.len() <= SHARED_PATH_BYTES_MAX && path.split('/').all(is_plain)
}

/// The signal that asks an instance to stop.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
pub enum StopSignal {
    #[default]
    Term,
    Int,
    Quit,
    Hup,
    Usr1,
    Usr2,
}

impl StopSignal {
    /// All of them, in the order to list.
    pub const ALL: [Self; 6] =
        [Self::Term, Self::Int, Self::Quit, Self::Hup, Self::Usr1, Self::Usr2];

    /// Returns the signal's name without SIG.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Term => "TERM",
            Self::Int => "INT",
            Self::Quit => "QUIT",
            Self::Hup => "HUP",
            Self::Usr1 => "USR1",
            Self::Usr2 => "USR2",
        }
    }

    /// Returns the signal of this name, with or without SIG.
    pub fn from_name(name: &str) -> Option<Self> {
        let name = name.strip_prefix("SIG").unwrap_or(name);
        Self::ALL.into_iter().find(|signal| signal.name() == name)
    }
}

/// How health is asked.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct ProbeSpec {
    pub target: ProbeTarget,
    pub every: Duration,
    pub timeout: Duration,
    /// How many passes in a row make it healthy.
    pub passes: u32,
    /// How many failures in a row make it unhealthy.
    pub failures: u32,
    /// How long after a start failures do not count.
    pub start_within: Duration,
}

impl ProbeSpec {
    /// Returns whether the instance's own port is asked.
    pub const fn asks_own_port(&self) -> bool {
        match self.target {
            ProbeTarget::Http { port, .. } | ProbeTarget::Tcp { port } => {
                matches!(port, ProbePort::Instance)
            }
            ProbeTarget::Command(_) => false,
        }
    }
}

/// What a probe asks. Always on the agent's own host (promises.md §4 row 14).
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub enum ProbeTarget {
    /// GET of this path answers 2xx or 3xx.
    Http { port: ProbePort, path: String },
    /// The port accepts a connection.
    Tcp { port: ProbePort },
    /// Exits with status 0.
    Command(Vec<String>),
}

/// Which port a probe asks.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub enum ProbePort {
    /// The instance's own, which it was given as `$PORT`: nobody else answers there.
    Instance,
    /// Always this one.
    Fixed(u16),
}

/// An argv that runs at a point of an instance's life.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct Hook {
    pub kind: HookKind,
    pub command: Vec<String>,
    pub within: Duration,
    /// Whether one host of an environment runs it for all, once for the release. Only a
    /// `before_start` can be that: the others are about the host that they run on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub once: bool,
}

/// When a hook runs.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Deserialize, Serialize)]
pub enum HookKind {
    /// `install`: once the release is unpacked, before anything is disturbed.
    Install,
    /// `before_start`: before the first instance of the release is started, and before what it
    /// replaces is disturbed.
    BeforeStart,
    /// `after_start`: once an instance is healthy, before it gets traffic.
    AfterStart,
    /// `smoke`: after that, against the instance's own port.
    Smoke,
    /// `before_stop`: before the stop signal is sent. Its failure is a warning, never a veto.
    BeforeStop,
    /// `after_stop`: once nothing of the instance runs. Its failure is a warning too.
    AfterStop,
}

impl HookKind {
    /// All of them, in the order of an instance's life.
    pub const ALL: [Self; 6] = [
        Self::Install,
        Self::BeforeStart,
        Self::AfterStart,
        Self::Smoke,
        Self::BeforeStop,
        Self::AfterStop,
    ];

    /// Those that pass before an instance of the release is started, in order.
    pub const BEFORE_THE_START: [Self; 2] = [Self::Install, Self::BeforeStart];

    /// Those that pass before a started instance gets traffic and counts, in order.
    pub const BEFORE_THE_TRAFFIC: [Self; 2] = [Self::AfterStart, Self::Smoke];

    /// Returns the name that a `cutover.toml` has for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Install => "install",
            Self::BeforeStart => "before_start",
            Self::AfterStart => "after_start",
            Self::Smoke => "smoke",
            Self::BeforeStop => "before_stop",
            Self::AfterStop => "after_stop",
        }
    }
}

impl fmt::Display for HookKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
