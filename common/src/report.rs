//! Report: what one agent says it is running, and how that is.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{ApplicationName, Fence, OnceReport, Sha256, Slots, Version};

/// The whole state of one application on one host.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Report {
    pub application: ApplicationName,
    /// The fence of the assignment that this speaks of.
    pub fence: Fence,
    pub slots: Slots<SlotReport>,
    /// The assignment that was refused last in this session, if none was accepted since.
    pub refused: Option<Fence>,
    /// How long this host served nobody when the application was last replaced in place. None: that
    /// was not measured yet.
    pub outage: Option<Duration>,
    pub hold: HoldState,
    /// How the `once` hooks stand that it ran, of the releases in its goal.
    pub once: Vec<OnceReport>,
}

/// Whether the gate holds what is new for an application.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
pub enum HoldState {
    /// It has not said that it does.
    #[default]
    Open,
    /// It has said so.
    Holding,
    /// It holds for the very goal that the report speaks of, and has said that nothing is under
    /// way at any slot, nor can come. Where that goal is armed, so is the hold.
    Drained,
}

/// The state of one slot.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SlotReport {
    pub phase: Phase,
    /// The release in the slot: its version and content digest. None when empty.
    pub release: Option<(Version, Sha256)>,
    pub health: Health,
    /// What happened last, for people: a probe's answer, an exit status, an error.
    pub detail: String,
    /// How often the instance was restarted since it was first started.
    pub restarts: u32,
    pub instance: Option<InstanceEvidence>,
    pub traffic: Traffic,
}

impl SlotReport {
    /// Returns whether the instance serves well at this moment.
    pub fn serves(&self) -> bool {
        self.phase == Phase::Running && self.health.is_passing() && self.traffic != Traffic::Away
    }

    /// Returns whether the instance has proved itself, and clients reach it.
    pub fn has_settled(&self) -> bool {
        self.serves() && self.health == Health::Settled
    }
}

/// Whether clients reach the instance in a slot.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
pub enum Traffic {
    /// No gate stands before it: whoever knows its port reaches it.
    #[default]
    Ungated,
    /// The gate gives it nothing, or has not said that it does.
    Away,
    /// The gate has said that it gives it what is new.
    Here,
}

/// How far a slot was brought.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
pub enum Phase {
    #[default]
    Empty,
    /// Being fetched, verified, unpacked.
    Preparing,
    /// On disk and verified.
    Prepared,
    /// Is to start, and waits for a fresh lease or for the other slot to stop.
    Waiting,
    /// Started; not yet seen alive.
    Starting,
    /// An instance is alive, or will be again after its restart backoff.
    Running,
    /// The instance was told to stop.
    Stopping,
    /// It cannot be brought where it should be; the detail says why.
    Failed,
}

/// What probes say of the instance in a slot.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
pub enum Health {
    /// Not asked yet, or not enough answers.
    #[default]
    Unknown,
    /// Passing, for less than the assignment's `healthy_for`.
    Passing,
    /// Passing for `healthy_for` or longer.
    Settled,
    /// Failing, or crashed, or without enough answers within `healthy_within`.
    Failing,
}

impl Health {
    /// Returns whether the instance serves well at this moment.
    pub const fn is_passing(self) -> bool {
        matches!(self, Self::Passing | Self::Settled)
    }

    /// Returns this health of an instance that has not proved itself otherwise.
    #[must_use]
    pub const fn at_most_passing(self) -> Self {
        match self {
            Self::Settled => Self::Passing,
            Self::Unknown | Self::Passing | Self::Failing => self,
        }
    }
}

/// Names one start of an instance.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Deserialize, Serialize)]
pub struct InstanceId(pub Uuid);

/// Which process a report speaks of: never a bare pid (promise A8).
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct InstanceEvidence {
    pub instance: InstanceId,
    /// The kernel's boot id at the start.
    pub boot_id: String,
    pub pid: u32,
    /// Field 22 of `/proc/PID/stat`, in clock ticks since boot.
    pub start_ticks: u64,
}
