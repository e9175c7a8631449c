//! Assignment <-> pb.

use std::{net::IpAddr, sync::Arc, time::Duration};

use cutover_proto::v1 as pb;

use super::{InvalidRelease, InvalidRouteMessage, millis};
use crate::{
    Assignment, Generation, OnceDuty, OncePart, Release, Slot, SlotGoal, Slots, Timers,
    assignment::PEERS_MAX, digest::InvalidDigest, duration_text::LONGEST, name::InvalidName,
};

/// Why a message is no [`Assignment`]. Names the field, as the sender would.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidAssignment {
    #[error("field `application` is invalid")]
    Application(#[source] InvalidName),
    #[error("field `{0}` is missing")]
    Missing(&'static str),
    #[error("field `generation` is zero")]
    NoGeneration,
    #[error("field `{slot}.release` is invalid")]
    Release { slot: &'static str, source: InvalidRelease },
    #[error("field `{0}.level` has a value that this version does not know")]
    UnknownLevel(&'static str),
    #[error("field `{0}` names another application's release")]
    ForeignRelease(&'static str),
    #[error("field `peers` is no list of at most {PEERS_MAX} addresses")]
    Peers,
    #[error("both slots are to run, and there is no route")]
    BothRun,
    #[error("field `route` is invalid")]
    Route(#[source] InvalidRouteMessage),
    #[error("field `once.release` is invalid")]
    Once(#[source] InvalidDigest),
    #[error("field `once` has more entries than there are slots")]
    TooManyOnce,
    #[error("field `timers` is longer than 24h")]
    TooLong,
}

impl TryFrom<pb::Assignment> for Assignment {
    type Error = InvalidAssignment;

    fn try_from(message: pb::Assignment) -> Result<Self, InvalidAssignment> {
        let pb::Assignment { application, fence, blue, green, timers, rollout, peers, route, once } =
            message;

        let fence = fence.ok_or(InvalidAssignment::Missing("fence"))?;
        if fence.generation == 0 {
            return Err(InvalidAssignment::NoGeneration);
        }
        if once.len() > Slot::ALL.len() {
            return Err(InvalidAssignment::TooManyOnce);
        }
        let assignment = Self {
            application: application.parse().map_err(InvalidAssignment::Application)?,
            fence: fence.into(),
            slots: Slots { blue: goal("blue", blue)?, green: goal("green", green)? },
            timers: timers.ok_or(InvalidAssignment::Missing("timers"))?.try_into()?,
            rollout,
            peers: addresses(&peers)?,
            route: route.map(TryInto::try_into).transpose().map_err(InvalidAssignment::Route)?,
            once: once.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
        };
        for (name, goal) in [("blue", &assignment.slots.blue), ("green", &assignment.slots.green)] {
            let release = goal.release();
            if release.is_some_and(|release| release.name.application != assignment.application) {
                return Err(InvalidAssignment::ForeignRelease(name));
            }
        }
        // Whether the route and the slots go together is for the agent to refuse, in words that
        // reach the coordinator. A coordinator that knows no routes sends none.
        if assignment.route.is_none()
            && assignment.slots.iter().all(|(_, goal)| goal.wants_instance())
        {
            return Err(InvalidAssignment::BothRun);
        }
        Ok(assignment)
    }
}

fn addresses(peers: &[String]) -> Result<Vec<IpAddr>, InvalidAssignment> {
    if peers.len() > PEERS_MAX {
        return Err(InvalidAssignment::Peers);
    }
    peers.iter().map(|peer| peer.parse().map_err(|_| InvalidAssignment::Peers)).collect()
}

fn goal(slot: &'static str, message: Option<pb::SlotGoal>) -> Result<SlotGoal, InvalidAssignment> {
    let message = message.ok_or(InvalidAssignment::Missing(slot))?;
    let level = message.level();
    let pb::SlotGoal { level: _, release } = message;
    let release = || {
        release
            .ok_or(InvalidRelease::Missing("release"))
            .and_then(Release::try_from)
            .map(Arc::new)
            .map_err(|source| InvalidAssignment::Release { slot, source })
    };
    Ok(match level {
        pb::slot_goal::Level::Unspecified => return Err(InvalidAssignment::UnknownLevel(slot)),
        pb::slot_goal::Level::Absent => SlotGoal::Absent,
        pb::slot_goal::Level::Prepared => SlotGoal::Prepared(release()?),
        pb::slot_goal::Level::Running => SlotGoal::Running(release()?),
    })
}

impl From<Assignment> for pb::Assignment {
    fn from(assignment: Assignment) -> Self {
        let Assignment {
            application,
            fence,
            slots: Slots { blue, green },
            timers,
            rollout,
            peers,
            route,
            once,
        } = assignment;
        Self {
            application: application.into(),
            fence: Some(fence.into()),
            blue: Some(blue.into()),
            green: Some(green.into()),
            timers: Some(timers.into()),
            rollout,
            peers: peers.iter().map(ToString::to_string).collect(),
            route: route.map(Into::into),
            once: once.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<SlotGoal> for pb::SlotGoal {
    fn from(goal: SlotGoal) -> Self {
        let (level, release) = match goal {
            SlotGoal::Absent => (pb::slot_goal::Level::Absent, None),
            SlotGoal::Prepared(release) => (pb::slot_goal::Level::Prepared, Some(release)),
            SlotGoal::Running(release) => (pb::slot_goal::Level::Running, Some(release)),
        };
        Self {
            level: level.into(),
            release: release.map(|release| Arc::unwrap_or_clone(release).into()),
        }
    }
}

impl TryFrom<pb::OnceDuty> for OnceDuty {
    type Error = InvalidAssignment;

    fn try_from(message: pb::OnceDuty) -> Result<Self, InvalidAssignment> {
        let pb::OnceDuty { release, permit } = message;
        let part = match permit {
            0 => OncePart::Awaited,
            permit => OncePart::Run { permit: Generation(permit) },
        };
        Ok(Self { release: release.parse().map_err(InvalidAssignment::Once)?, part })
    }
}

impl From<OnceDuty> for pb::OnceDuty {
    fn from(duty: OnceDuty) -> Self {
        let OnceDuty { release, part } = duty;
        let permit = match part {
            OncePart::Awaited => 0,
            OncePart::Run { permit } => permit.0,
        };
        Self { release: release.to_string(), permit }
    }
}

impl TryFrom<pb::Timers> for Timers {
    type Error = InvalidAssignment;

    fn try_from(message: pb::Timers) -> Result<Self, InvalidAssignment> {
        let pb::Timers { healthy_for_ms, healthy_within_ms } = message;
        let timers = Self {
            healthy_for: Duration::from_millis(healthy_for_ms),
            healthy_within: Duration::from_millis(healthy_within_ms),
        };
        if timers.healthy_for > LONGEST || timers.healthy_within > LONGEST {
            return Err(InvalidAssignment::TooLong);
        }
        Ok(timers)
    }
}

impl From<Timers> for pb::Timers {
    fn from(timers: Timers) -> Self {
        let Timers { healthy_for, healthy_within } = timers;
        Self { healthy_for_ms: millis(healthy_for), healthy_within_ms: millis(healthy_within) }
    }
}
