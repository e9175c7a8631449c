//! Report <-> pb.

use std::time::Duration;

use cutover_proto::v1 as pb;
use uuid::Uuid;

use super::{cut, millis};
use crate::{
    Generation, Health, HoldState, InstanceEvidence, InstanceId, OnceReport, OnceStand, Phase,
    Report, SlotReport, Slots, Traffic,
    digest::InvalidDigest,
    name::{InvalidName, InvalidVersion},
};

/// The longest outage that is believed: a week, which nobody waits for.
const OUTAGE_MS_MAX: u64 = 7 * 24 * 3_600_000;

/// Of how many `once` hooks is told: one of each slot's release, and one that still runs in each.
const ONCE_MAX: usize = 4;

/// Why a message is no [`Report`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidReport {
    #[error("field `application` is invalid")]
    Application(#[source] InvalidName),
    #[error("field `version` is invalid")]
    Version(#[source] InvalidVersion),
    #[error("field `digest` is invalid")]
    Digest(#[source] InvalidDigest),
    #[error("field `{0}` is missing")]
    Missing(&'static str),
    #[error("field `{0}` has a value that this version does not know")]
    Unknown(&'static str),
    #[error("field `once` has more than {ONCE_MAX} entries")]
    TooManyOnce,
    #[error("field `instance` is no uuid")]
    Instance,
}

impl TryFrom<pb::Report> for Report {
    type Error = InvalidReport;

    fn try_from(message: pb::Report) -> Result<Self, InvalidReport> {
        let hold = message.hold();
        let pb::Report { application, fence, blue, green, refused, outage_ms, hold: _, once } =
            message;
        if once.len() > ONCE_MAX {
            return Err(InvalidReport::TooManyOnce);
        }
        Ok(Self {
            application: application.parse().map_err(InvalidReport::Application)?,
            fence: fence.ok_or(InvalidReport::Missing("fence"))?.into(),
            slots: Slots {
                blue: blue.ok_or(InvalidReport::Missing("blue"))?.try_into()?,
                green: green.ok_or(InvalidReport::Missing("green"))?.try_into()?,
            },
            refused: refused.map(Into::into),
            outage: (outage_ms > 0).then(|| Duration::from_millis(outage_ms.min(OUTAGE_MS_MAX))),
            hold: hold.into(),
            once: once.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
        })
    }
}

impl From<pb::report::Hold> for HoldState {
    fn from(hold: pb::report::Hold) -> Self {
        match hold {
            // A value that is not known is no word that anything is held.
            pb::report::Hold::Unspecified => Self::Open,
            pb::report::Hold::Holding => Self::Holding,
            pb::report::Hold::Drained => Self::Drained,
        }
    }
}

impl From<HoldState> for pb::report::Hold {
    fn from(hold: HoldState) -> Self {
        match hold {
            HoldState::Open => Self::Unspecified,
            HoldState::Holding => Self::Holding,
            HoldState::Drained => Self::Drained,
        }
    }
}

impl From<Report> for pb::Report {
    fn from(report: Report) -> Self {
        let Report {
            application,
            fence,
            slots: Slots { blue, green },
            refused,
            outage,
            hold,
            once,
        } = report;
        Self {
            application: application.into(),
            fence: Some(fence.into()),
            blue: Some(blue.into()),
            green: Some(green.into()),
            refused: refused.map(Into::into),
            outage_ms: outage.map_or(0, |outage| millis(outage).max(1)),
            hold: pb::report::Hold::from(hold).into(),
            once: once.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<pb::OnceReport> for OnceReport {
    type Error = InvalidReport;

    fn try_from(message: pb::OnceReport) -> Result<Self, InvalidReport> {
        let stand = message.stand();
        let pb::OnceReport { release, permit, stand: _ } = message;
        Ok(Self {
            release: release.parse().map_err(InvalidReport::Digest)?,
            permit: Generation(permit),
            stand: match stand {
                pb::once_report::Stand::Unspecified => {
                    return Err(InvalidReport::Unknown("once.stand"));
                }
                pb::once_report::Stand::Running => OnceStand::Running,
                pb::once_report::Stand::Passed => OnceStand::Passed,
                pb::once_report::Stand::Failed => OnceStand::Failed,
                pb::once_report::Stand::Interrupted => OnceStand::Interrupted,
            },
        })
    }
}

impl From<OnceReport> for pb::OnceReport {
    fn from(report: OnceReport) -> Self {
        let OnceReport { release, permit, stand } = report;
        let stand = match stand {
            OnceStand::Running => pb::once_report::Stand::Running,
            OnceStand::Passed => pb::once_report::Stand::Passed,
            OnceStand::Failed => pb::once_report::Stand::Failed,
            OnceStand::Interrupted => pb::once_report::Stand::Interrupted,
        };
        Self { release: release.to_string(), permit: permit.0, stand: stand.into() }
    }
}

impl TryFrom<pb::SlotReport> for SlotReport {
    type Error = InvalidReport;

    fn try_from(message: pb::SlotReport) -> Result<Self, InvalidReport> {
        let (phase, health, traffic) = (message.phase(), message.health(), message.traffic());
        let pb::SlotReport {
            phase: _,
            health: _,
            version,
            digest,
            detail,
            restarts,
            instance,
            traffic: _,
        } = message;
        let release = if version.is_empty() && digest.is_empty() {
            None
        } else {
            Some((
                version.parse().map_err(InvalidReport::Version)?,
                digest.parse().map_err(InvalidReport::Digest)?,
            ))
        };
        Ok(Self {
            phase: phase_in(phase).ok_or(InvalidReport::Unknown("phase"))?,
            release,
            health: health_in(health).ok_or(InvalidReport::Unknown("health"))?,
            detail: cut(&detail),
            restarts,
            instance: instance.map(TryInto::try_into).transpose()?,
            traffic: match traffic {
                pb::slot_report::Traffic::Unspecified => Traffic::Ungated,
                pb::slot_report::Traffic::Away => Traffic::Away,
                pb::slot_report::Traffic::Here => Traffic::Here,
            },
        })
    }
}

impl From<SlotReport> for pb::SlotReport {
    fn from(report: SlotReport) -> Self {
        let SlotReport { phase, release, health, detail, restarts, instance, traffic } = report;
        let traffic = match traffic {
            Traffic::Ungated => pb::slot_report::Traffic::Unspecified,
            Traffic::Away => pb::slot_report::Traffic::Away,
            Traffic::Here => pb::slot_report::Traffic::Here,
        };
        let (version, digest) = match release {
            None => (String::new(), String::new()),
            Some((version, digest)) => (version.into(), digest.into()),
        };
        Self {
            phase: phase_out(phase).into(),
            version,
            digest,
            health: health_out(health).into(),
            detail: cut(&detail),
            restarts,
            instance: instance.map(Into::into),
            traffic: traffic.into(),
        }
    }
}

const fn phase_in(phase: pb::slot_report::Phase) -> Option<Phase> {
    Some(match phase {
        pb::slot_report::Phase::Unspecified => return None,
        pb::slot_report::Phase::Empty => Phase::Empty,
        pb::slot_report::Phase::Preparing => Phase::Preparing,
        pb::slot_report::Phase::Prepared => Phase::Prepared,
        pb::slot_report::Phase::Waiting => Phase::Waiting,
        pb::slot_report::Phase::Starting => Phase::Starting,
        pb::slot_report::Phase::Running => Phase::Running,
        pb::slot_report::Phase::Stopping => Phase::Stopping,
        pb::slot_report::Phase::Failed => Phase::Failed,
    })
}

const fn phase_out(phase: Phase) -> pb::slot_report::Phase {
    match phase {
        Phase::Empty => pb::slot_report::Phase::Empty,
        Phase::Preparing => pb::slot_report::Phase::Preparing,
        Phase::Prepared => pb::slot_report::Phase::Prepared,
        Phase::Waiting => pb::slot_report::Phase::Waiting,
        Phase::Starting => pb::slot_report::Phase::Starting,
        Phase::Running => pb::slot_report::Phase::Running,
        Phase::Stopping => pb::slot_report::Phase::Stopping,
        Phase::Failed => pb::slot_report::Phase::Failed,
    }
}

const fn health_in(health: pb::slot_report::Health) -> Option<Health> {
    Some(match health {
        pb::slot_report::Health::Unspecified => return None,
        pb::slot_report::Health::Unknown => Health::Unknown,
        pb::slot_report::Health::Passing => Health::Passing,
        pb::slot_report::Health::Settled => Health::Settled,
        pb::slot_report::Health::Failing => Health::Failing,
    })
}

const fn health_out(health: Health) -> pb::slot_report::Health {
    match health {
        Health::Unknown => pb::slot_report::Health::Unknown,
        Health::Passing => pb::slot_report::Health::Passing,
        Health::Settled => pb::slot_report::Health::Settled,
        Health::Failing => pb::slot_report::Health::Failing,
    }
}

impl TryFrom<pb::InstanceEvidence> for InstanceEvidence {
    type Error = InvalidReport;

    fn try_from(message: pb::InstanceEvidence) -> Result<Self, InvalidReport> {
        let pb::InstanceEvidence { instance, boot_id, pid, start_ticks } = message;
        let instance = Uuid::try_parse(&instance).map_err(|_| InvalidReport::Instance)?;
        Ok(Self { instance: InstanceId(instance), boot_id: cut(&boot_id), pid, start_ticks })
    }
}

impl From<InstanceEvidence> for pb::InstanceEvidence {
    fn from(evidence: InstanceEvidence) -> Self {
        let InstanceEvidence { instance, boot_id, pid, start_ticks } = evidence;
        Self { instance: instance.0.to_string(), boot_id, pid, start_ticks }
    }
}
