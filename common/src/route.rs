//! Route: where a host's gate leads while both slots of an application are to run.

use std::{ops::RangeInclusive, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{Allow, Assignment, Protocol, Slot, SlotGoal};

/// Where a gate leads, and whether it leads anywhere at this time.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct Route {
    /// The slot that gets what is new, but for what the other one gets.
    pub to: Slot,
    /// How much of what is new the other slot gets, from when it has settled.
    pub share: Permille,
    /// How clients reach the other slot on purpose, from when it has settled.
    pub allow: Option<Allow>,
    pub mode: RouteMode,
}

/// Whether what is new goes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub enum RouteMode {
    Open,
    /// The gate holds what is new, and what is under way ends. When no other goal comes in time,
    /// the agent releases it to `to` by itself, and does not hold again for this goal. So it does
    /// when it begins again: a hold does not outlive the process that began it.
    Hold(HoldLimits),
    /// It is held until another goal comes, whatever time passes and whoever begins again. Only a
    /// hold for the same `to` that is still in force is armed; without one, what is new goes on.
    Armed(HoldLimits),
}

impl RouteMode {
    /// Returns what may be held, unless all goes on.
    pub const fn limits(self) -> Option<HoldLimits> {
        match self {
            Self::Open => None,
            Self::Hold(limits) | Self::Armed(limits) => Some(limits),
        }
    }
}

/// What a gate may hold. What is beyond is answered with 503 and Retry-After.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct HoldLimits {
    /// How long each request waits at the most. The whole hold is shorter: [`Self::lasts`].
    pub within: Duration,
    /// How many wait.
    pub requests: u32,
    /// How many bytes of requests wait.
    pub bytes: u64,
}

impl HoldLimits {
    /// Ten minutes is more than any client waits.
    pub const WITHIN: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_mins(10);

    /// As many as a host can have waiting.
    pub const REQUESTS: RangeInclusive<u32> = 0..=100_000;

    /// The same in memory: one GiB.
    pub const BYTES: RangeInclusive<u64> = 0..=1024 * 1024 * 1024;

    /// Returns how long a hold lasts that is not armed: counted by the agent's monotonic clock from
    /// when it decides to hold, so never from later than the gate begins.
    ///
    /// Shorter than requests may wait, or the first of them would hear that they shall ask again
    /// while they are let go: the message to the gate and the sync of its program take milliseconds,
    /// and on a busy machine a part of a second. The more is set aside for that, the less time is
    /// left for what is under way.
    pub fn lasts(self) -> Duration {
        let to_let_go = (self.within / 4).min(Duration::from_secs(1));
        self.within.saturating_sub(to_let_go)
    }

    /// Returns the name of the first limit that is out of its range.
    pub fn out_of_range(self) -> Option<&'static str> {
        let Self { within, requests, bytes } = self;
        let limits = [
            ("hold.within", Self::WITHIN.contains(&within)),
            ("hold.requests", Self::REQUESTS.contains(&requests)),
            ("hold.bytes", Self::BYTES.contains(&bytes)),
        ];
        limits.into_iter().find(|(_, is_within)| !is_within).map(|(name, _)| name)
    }
}

/// A share of a thousand.
#[derive(
    Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Deserialize, Serialize,
)]
#[serde(try_from = "u32", into = "u32")]
pub struct Permille(u16);

/// A number is no share of a thousand.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0} is no share of a thousand; 0 to 1000 are allowed")]
pub struct InvalidPermille(u32);

impl Permille {
    pub const NONE: Self = Self(0);
    pub const ALL: Self = Self(1000);

    pub const fn get(self) -> u16 {
        self.0
    }

    /// Returns what is left of the whole.
    #[must_use]
    pub const fn rest(self) -> Self {
        Self(Self::ALL.0 - self.0)
    }
}

impl TryFrom<u32> for Permille {
    type Error = InvalidPermille;

    fn try_from(number: u32) -> Result<Self, InvalidPermille> {
        match u16::try_from(number) {
            Ok(share) if share <= Self::ALL.0 => Ok(Self(share)),
            Ok(_) | Err(_) => Err(InvalidPermille(number)),
        }
    }
}

impl From<Permille> for u32 {
    fn from(share: Permille) -> Self {
        share.0.into()
    }
}

/// Why a goal's route and its slots do not go together.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidRoute {
    #[error("both slots are to run, and no route says where the gate leads")]
    Missing,
    #[error("the route leads to {0}, which is not to run")]
    NotRunning(Slot),
    #[error("the route has {what}, and {slot} is not to run")]
    Alone { what: &'static str, slot: Slot },
    #[error("a route is for what stands behind the gate, and the release in {0} does not")]
    Ungated(Slot),
    #[error("both slots are to run, and their releases cannot stand beside each other")]
    NotBeside,
    #[error("the route lets clients through by a header or a cookie, and the service is no HTTP")]
    OnlyHttp,
    #[error("the route's {0} is out of range")]
    OutOfRange(&'static str),
}

impl Assignment {
    /// Judges whether the route and the slots go together.
    ///
    /// # Errors
    ///
    /// The first reason why they do not.
    pub fn check_route(&self) -> Result<(), InvalidRoute> {
        let running = self.slots.map(|_, goal| match goal {
            SlotGoal::Running(release) => Some(release.clone()),
            SlotGoal::Absent | SlotGoal::Prepared(_) => None,
        });
        let Some(Route { to, share, allow, mode }) = &self.route else {
            let both = running.blue.is_some() && running.green.is_some();
            return if both { Err(InvalidRoute::Missing) } else { Ok(()) };
        };
        let release = running.of(*to).as_ref().ok_or(InvalidRoute::NotRunning(*to))?;
        let service = release.service.as_ref().ok_or(InvalidRoute::Ungated(*to))?;
        if let Some(field) = mode.limits().and_then(HoldLimits::out_of_range) {
            return Err(InvalidRoute::OutOfRange(field));
        }
        if allow.is_some() && service.protocol != Protocol::Http {
            return Err(InvalidRoute::OnlyHttp);
        }
        let slot = to.other();
        match running.of(slot) {
            Some(other) if release.can_stand_beside(other) => Ok(()),
            Some(_) => Err(InvalidRoute::NotBeside),
            None => {
                let needs = [
                    ("a share", *share > Permille::NONE),
                    ("a header or a cookie", allow.is_some()),
                    ("a hold", *mode != RouteMode::Open),
                ];
                match needs.into_iter().find(|(_, needs)| *needs) {
                    Some((what, _)) => Err(InvalidRoute::Alone { what, slot }),
                    None => Ok(()),
                }
            }
        }
    }
}
