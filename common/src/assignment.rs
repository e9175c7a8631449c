//! Assignment: the whole goal for one application on one host, never a step.

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{ApplicationName, Fence, OnceDuty, Release, Route, SecretId};

/// One of two places on a host that can hold a release of an application.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Deserialize, Serialize)]
pub enum Slot {
    Blue,
    Green,
}

impl Slot {
    /// Both, in order.
    pub const ALL: [Self; 2] = [Self::Blue, Self::Green];

    /// Returns the slot of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|slot| slot.to_string() == name)
    }

    /// Returns the other slot.
    pub const fn other(self) -> Self {
        match self {
            Self::Blue => Self::Green,
            Self::Green => Self::Blue,
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Blue => "blue",
            Self::Green => "green",
        })
    }
}

/// One thing for each slot.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
pub struct Slots<T> {
    pub blue: T,
    pub green: T,
}

impl<T> Slots<T> {
    /// Returns the thing of `slot`.
    pub const fn of(&self, slot: Slot) -> &T {
        match slot {
            Slot::Blue => &self.blue,
            Slot::Green => &self.green,
        }
    }

    /// Returns the thing of `slot`, to change it.
    pub const fn of_mut(&mut self, slot: Slot) -> &mut T {
        match slot {
            Slot::Blue => &mut self.blue,
            Slot::Green => &mut self.green,
        }
    }

    /// Returns both with their slots, blue first.
    pub fn iter(&self) -> impl Iterator<Item = (Slot, &T)> {
        Slot::ALL.into_iter().map(|slot| (slot, self.of(slot)))
    }

    /// Makes another thing for each slot.
    pub fn map<U>(&self, mut f: impl FnMut(Slot, &T) -> U) -> Slots<U> {
        Slots { blue: f(Slot::Blue, &self.blue), green: f(Slot::Green, &self.green) }
    }
}

/// What a slot should hold, and how far it should be brought.
#[derive(Clone, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
pub enum SlotGoal {
    /// Nothing; what it held is stopped and forgotten.
    #[default]
    Absent,
    /// On disk and verified, not running.
    Prepared(Arc<Release>),
    /// Running.
    Running(Arc<Release>),
}

impl SlotGoal {
    /// Returns the release that the slot should hold.
    pub const fn release(&self) -> Option<&Arc<Release>> {
        match self {
            Self::Absent => None,
            Self::Prepared(release) | Self::Running(release) => Some(release),
        }
    }

    /// Returns whether the slot should have an instance.
    pub const fn wants_instance(&self) -> bool {
        matches!(self, Self::Running(_))
    }
}

/// How long health must last, and may take.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct Timers {
    /// How long probes must pass without a break before the host counts as done; measured from
    /// the first pass.
    pub healthy_for: Duration,
    /// How long an instance may take from its start until then.
    pub healthy_within: Duration,
}

/// The whole goal for one application on one host.
///
/// The two slots of an application without a gate exclude each other: the agent stops the one
/// before it starts the other (replacing in place). Behind the gate both may be to run, beside
/// each other; then a route says where it leads.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct Assignment {
    pub application: ApplicationName,
    pub fence: Fence,
    pub slots: Slots<SlotGoal>,
    pub timers: Timers,
    /// The rollout that asked for this, for logs; empty when none did.
    pub rollout: String,
    /// Hosts whose gates serve the application as well, as far as was known when this was sent:
    /// while this host is out, its gate passes requests on to them. Advice, and no part of what
    /// is asked: two goals that differ here only are the same.
    #[serde(default)]
    pub peers: Vec<IpAddr>,
    /// Where the gate leads. None: all that is new goes to the one slot that is to run, when it has
    /// settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<Route>,
    /// What this host has to do with the `once` hooks of the releases that it is to run, where they
    /// have not passed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub once: Vec<OnceDuty>,
}

/// How many peers an assignment names at the most: enough to bear one host's requests, and few
/// enough to be told with every goal.
pub const PEERS_MAX: usize = 16;

impl Assignment {
    /// Returns the secrets that the releases of both slots name.
    pub fn secrets(&self) -> impl Iterator<Item = SecretId> {
        let releases = self.slots.iter().filter_map(|(_, slot)| slot.release());
        releases.flat_map(|release| release.config.secrets.values().copied())
    }

    /// Returns whether `other` asks for the same thing, whoever asks (F5: an equal generation
    /// with another content is a conflict, never a no-op).
    pub fn asks_the_same_as(&self, other: &Self) -> bool {
        self.application == other.application
            && self.slots == other.slots
            && self.timers == other.timers
            && self.route == other.route
            && self.once == other.once
    }
}
