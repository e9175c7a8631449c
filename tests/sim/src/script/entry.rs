//! Entry: one thing that happens at one moment of a run.

use serde::{Deserialize, Serialize};

/// One thing that happens.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct Entry {
    pub at_ms: u64,
    #[serde(flatten)]
    pub what: What,
}

/// A fault of the world, or an operator's call.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    Fault(Fault),
    Call(Call),
}

/// Where exactly a process is killed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum KillPoint {
    /// At this moment.
    Now,
    /// The next time that there is something to store: before any of it is.
    BeforeStore,
    /// The next time that there was something to store: when it is durable and nothing was done.
    AfterStore,
    /// The next time that there was something to store: after so many of the actions.
    AfterActions { count: u32 },
    /// At the n-th operation on the disk from now.
    AtDisk { operation: u32 },
}

/// Which way of a link.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Agent to coordinator.
    Up,
    /// Coordinator to agent.
    Down,
    Both,
}

/// Something that goes wrong. Hosts are numbered from 0, coordinators too.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Fault {
    /// kill -9 of the agent; its supervisor starts it again.
    KillAgent { host: u16, point: KillPoint, down_ms: u64 },
    /// The agent is stopped, and goes on later.
    PauseAgent { host: u16, for_ms: u64 },
    /// The power is cut: unsynced writes are lost or torn, and the host boots again.
    CutPower { host: u16, down_ms: u64 },
    /// The host is suspended with everything on it, and goes on later.
    Suspend { host: u16, for_ms: u64 },
    /// The wall clock is set; programs that start after this read it.
    SetClock { host: u16, ahead_ms: i64 },
    /// An application's instance is killed, as for want of memory.
    KillInstance { host: u16, application: u16 },
    /// The gate crashes, and is started again with its last program, or with none.
    CrashGate { host: u16, down_ms: u64, forgets: bool },
    /// The gate cannot serve what it is newly told of one application: a stranger has its port, or its
    /// certificate cannot be read.
    HinderGate { host: u16, application: u16, for_ms: u64 },
    /// Writes fail for want of room.
    FillDisk { host: u16, for_ms: u64 },
    /// The n-th write or fsync of the journal from now fails once.
    FailDisk { host: u16, operation: u32 },
    /// Every fsync takes this long.
    SlowDisk { host: u16, sync_ms: u64, for_ms: u64 },
    /// The host has no room for another process.
    RefuseProcesses { host: u16, for_ms: u64 },
    /// A bit of the journal changes.
    FlipBit { host: u16, at_permille: u32 },
    /// Nothing passes. Connections stay open until somebody notices.
    CutLink { host: u16, direction: Direction, for_ms: u64 },
    /// Messages take longer.
    SlowLink { host: u16, delay_ms: u64, for_ms: u64 },
    /// The connection is reset, as by a middlebox.
    ResetLink { host: u16 },
    /// kill -9 of a coordinator; its supervisor starts it again.
    KillCoordinator { coordinator: u16, point: KillPoint, down_ms: u64 },
    /// A coordinator is stopped, and goes on later.
    PauseCoordinator { coordinator: u16, for_ms: u64 },
    /// The coordinator's machine loses its power.
    CutCoordinatorPower { coordinator: u16, down_ms: u64 },
    /// Every fsync of the coordinator takes this long.
    SlowCoordinatorDisk { coordinator: u16, sync_ms: u64, for_ms: u64 },
    /// The coordinator's next append fails: it ends, and is started again.
    FailCoordinatorDisk { coordinator: u16, down_ms: u64 },
    /// The coordinator's wall clock is set; a process that starts after this reads it.
    SetCoordinatorClock { coordinator: u16, ahead_ms: i64 },
    /// A backup is taken.
    Backup,
    /// The coordinator is ended, and begun again from the last backup.
    Restore { down_ms: u64 },
    /// A second coordinator starts from a copy of the first one's disk, as of now.
    Clone,
    /// The clone is ended for ever.
    EndClone,
    /// A host reaches another coordinator from its next connection on, and loses the one it has.
    Route { host: u16, coordinator: u16 },
    /// The store is gone and so is the coordinator, for ever.
    LoseCoordinator,
}

/// The option by which a deploy stops the one that is under way.
pub const SUPERSEDES: &str = "supersedes";

/// Among the options of a deploy: it waits for the one that is under way.
pub const QUEUES: &str = "queues";

/// Among the options of a deploy: it comes also where its environment is frozen.
pub const DESPITE_FREEZE: &str = "despite_freeze";

/// The label that says in which group a host is.
pub const GROUP_LABEL: &str = "group";

/// A group of hosts.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Group {
    Blue,
    Green,
}

impl Group {
    /// Returns the value of its label.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Blue => "blue",
            Self::Green => "green",
        }
    }
}

/// What an operator does.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Call {
    Deploy {
        application: u16,
        release: u16,
        /// Pairs of an option's name and value, as typed.
        #[serde(default)]
        options: Vec<(String, String)>,
    },
    Pause {
        application: u16,
    },
    Resume {
        application: u16,
    },
    Abort {
        application: u16,
    },
    Retry {
        application: u16,
    },
    Rollback {
        application: u16,
    },
    /// Says that what waits for a word, or is watched, is good enough.
    Promote {
        application: u16,
        #[serde(default)]
        full: bool,
    },
    /// Deploys what the environment of an application runs once more, as a restart.
    Restart {
        application: u16,
        #[serde(default)]
        options: Vec<(String, String)>,
    },
    /// Takes a host out of the rollout of an application that is under way.
    Exclude {
        host: u16,
        application: u16,
        /// Whether it gets the release when the rollout has succeeded.
        #[serde(default)]
        is_skip: bool,
    },
    /// Takes a host out for maintenance.
    Drain {
        host: u16,
        /// Whether also below the floor of what runs there.
        #[serde(default)]
        is_forced: bool,
    },
    /// Lets it take part again.
    Undrain {
        host: u16,
    },
    /// Keeps anything new from the environment of an application until it is thawed.
    Freeze {
        application: u16,
    },
    /// Lifts its freezes.
    Thaw {
        application: u16,
    },
    /// Sets a variable in the environment of an application to this, or to a secret; unsets it without.
    Configure {
        application: u16,
        #[serde(default)]
        level: Option<u32>,
        #[serde(default)]
        is_secret: bool,
    },
    /// Takes the last one out of the queue of an application.
    AbortQueued {
        application: u16,
    },
    /// Takes a host out of the environment of an application by its label.
    Unlabel {
        host: u16,
        application: u16,
    },
    /// Takes it in again.
    Label {
        host: u16,
        application: u16,
    },
    /// Puts a host in front of the environment of an application.
    Edge {
        host: u16,
        application: u16,
    },
    /// Takes it from there.
    Unedge {
        host: u16,
    },
    /// Says of a host in which of two groups it is.
    Group {
        host: u16,
        group: Group,
    },
    /// Removes an agent for good.
    Remove {
        host: u16,
    },
    /// Joins a removed agent again, with a token of this age.
    Join {
        host: u16,
        token_age_ms: u64,
    },
    /// Shows the token again with which a host has joined, with another key: somebody found it.
    ShowUsedToken {
        host: u16,
    },
}

impl What {
    /// Returns the host that it concerns, to change it.
    pub const fn host_mut(&mut self) -> Option<&mut u16> {
        match self {
            Self::Fault(fault) => fault.host_mut(),
            Self::Call(
                Call::Exclude { host, .. }
                | Call::Drain { host, .. }
                | Call::Undrain { host }
                | Call::Unlabel { host, .. }
                | Call::Label { host, .. }
                | Call::Edge { host, .. }
                | Call::Unedge { host }
                | Call::Group { host, .. }
                | Call::Remove { host }
                | Call::Join { host, .. }
                | Call::ShowUsedToken { host },
            ) => Some(host),
            Self::Call(
                Call::Deploy { .. }
                | Call::Pause { .. }
                | Call::Resume { .. }
                | Call::Abort { .. }
                | Call::Retry { .. }
                | Call::Rollback { .. }
                | Call::Promote { .. }
                | Call::Freeze { .. }
                | Call::Thaw { .. }
                | Call::Configure { .. }
                | Call::AbortQueued { .. }
                | Call::Restart { .. },
            ) => None,
        }
    }

    /// Returns the application that it concerns, to change it.
    pub const fn application_mut(&mut self) -> Option<&mut u16> {
        match self {
            Self::Fault(
                Fault::KillInstance { application, .. } | Fault::HinderGate { application, .. },
            )
            | Self::Call(
                Call::Exclude { application, .. }
                | Call::Unlabel { application, .. }
                | Call::Label { application, .. }
                | Call::Edge { application, .. }
                | Call::Deploy { application, .. }
                | Call::Pause { application }
                | Call::Resume { application }
                | Call::Abort { application }
                | Call::Retry { application }
                | Call::Rollback { application }
                | Call::Promote { application, .. }
                | Call::Freeze { application }
                | Call::Thaw { application }
                | Call::Configure { application, .. }
                | Call::AbortQueued { application }
                | Call::Restart { application, .. },
            ) => Some(application),
            Self::Fault(_)
            | Self::Call(
                Call::Drain { .. }
                | Call::Undrain { .. }
                | Call::Unedge { .. }
                | Call::Group { .. }
                | Call::Remove { .. }
                | Call::Join { .. }
                | Call::ShowUsedToken { .. },
            ) => None,
        }
    }
}

impl Fault {
    /// Returns how long it lasts, to change it.
    pub const fn lasts_ms_mut(&mut self) -> Option<&mut u64> {
        match self {
            Self::KillAgent { down_ms: ms, .. }
            | Self::PauseAgent { for_ms: ms, .. }
            | Self::CutPower { down_ms: ms, .. }
            | Self::Suspend { for_ms: ms, .. }
            | Self::CrashGate { down_ms: ms, .. }
            | Self::HinderGate { for_ms: ms, .. }
            | Self::FillDisk { for_ms: ms, .. }
            | Self::SlowDisk { for_ms: ms, .. }
            | Self::RefuseProcesses { for_ms: ms, .. }
            | Self::CutLink { for_ms: ms, .. }
            | Self::SlowLink { for_ms: ms, .. }
            | Self::KillCoordinator { down_ms: ms, .. }
            | Self::PauseCoordinator { for_ms: ms, .. }
            | Self::CutCoordinatorPower { down_ms: ms, .. }
            | Self::SlowCoordinatorDisk { for_ms: ms, .. }
            | Self::FailCoordinatorDisk { down_ms: ms, .. }
            | Self::Restore { down_ms: ms } => Some(ms),
            Self::SetClock { .. }
            | Self::KillInstance { .. }
            | Self::FailDisk { .. }
            | Self::FlipBit { .. }
            | Self::ResetLink { .. }
            | Self::SetCoordinatorClock { .. }
            | Self::Backup
            | Self::Clone
            | Self::EndClone
            | Self::Route { .. }
            | Self::LoseCoordinator => None,
        }
    }

    /// Returns the host that it concerns, to change it.
    pub const fn host_mut(&mut self) -> Option<&mut u16> {
        match self {
            Self::KillAgent { host, .. }
            | Self::PauseAgent { host, .. }
            | Self::CutPower { host, .. }
            | Self::Suspend { host, .. }
            | Self::SetClock { host, .. }
            | Self::KillInstance { host, .. }
            | Self::CrashGate { host, .. }
            | Self::HinderGate { host, .. }
            | Self::FillDisk { host, .. }
            | Self::FailDisk { host, .. }
            | Self::SlowDisk { host, .. }
            | Self::RefuseProcesses { host, .. }
            | Self::FlipBit { host, .. }
            | Self::CutLink { host, .. }
            | Self::SlowLink { host, .. }
            | Self::ResetLink { host }
            | Self::Route { host, .. } => Some(host),
            Self::KillCoordinator { .. }
            | Self::PauseCoordinator { .. }
            | Self::CutCoordinatorPower { .. }
            | Self::SlowCoordinatorDisk { .. }
            | Self::FailCoordinatorDisk { .. }
            | Self::SetCoordinatorClock { .. }
            | Self::Backup
            | Self::Restore { .. }
            | Self::Clone
            | Self::EndClone
            | Self::LoseCoordinator => None,
        }
    }
}
