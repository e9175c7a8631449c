//! What a session says besides assignments and reports <-> pb.

use std::time::Duration;

use cutover_proto::v1 as pb;
use uuid::Uuid;

use super::{InvalidEdge, InvalidLatency, InvalidReport, TooMany, bounded, cut, millis};
use crate::{
    ApplicationName, CheckReport, Compared, EdgeReport, Fence, HostLoad, InstanceVitals, Inventory,
    Report, SlotCounts, Term,
    name::{InvalidName, InvalidVersion},
};

/// Why a message of a session is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidSessionMessage {
    #[error("field `{0}` is missing")]
    Missing(&'static str),
    #[error("field `{0}` is no uuid")]
    Uuid(&'static str),
    #[error("field `{0}` is invalid")]
    Application(&'static str, #[source] InvalidName),
    #[error("field `reports` is invalid")]
    Report(#[source] InvalidReport),
    #[error("field `counts.latency` is invalid")]
    Latency(#[source] InvalidLatency),
    #[error("field `vitals.memory_bytes` is more than a host can have")]
    Memory,
    #[error("field `edge` is invalid")]
    Edge(#[source] InvalidEdge),
    #[error("field `{0}` is invalid")]
    Check(&'static str, #[source] InvalidName),
    #[error("field `compared.version` is invalid")]
    Version(#[source] InvalidVersion),
    #[error("field `checks.answer` has a value that this version does not know")]
    Answer,
    #[error("field `heartbeat_every_ms` must be 100 to 60000")]
    HeartbeatEvery,
    #[error("field `reason` has a value that this version does not know")]
    Reason,
    #[error(transparent)]
    TooMany(#[from] TooMany),
}

/// An agent's first message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Hello {
    pub protocol: u32,
    pub agent_version: String,
    pub inventory: Inventory,
    /// The highest fence accepted, for each application that the agent knows.
    pub held: Vec<(ApplicationName, Fence)>,
    pub boot_id: String,
}

/// The coordinator's answer to it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Welcome {
    pub protocol: u32,
    pub coordinator_version: String,
    pub incarnation: Uuid,
    pub term: Term,
    /// One per coordinator process: two of them in one term are a split brain (F3).
    pub boot_nonce: Uuid,
    pub heartbeat_every: Duration,
}

/// An agent's sign of life.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Heartbeat {
    pub nonce: Uuid,
    pub load: HostLoad,
    /// What the gate counted of the slots behind it.
    pub counts: Vec<SlotCounts>,
    /// What was measured of the instances that run.
    pub vitals: Vec<InstanceVitals>,
    pub reports: Vec<Report>,
    /// Of an agent that has routes of an edge.
    pub edge: Option<EdgeReport>,
    /// How the checks of canaries stand that are compared here.
    pub checks: Vec<CheckReport>,
}

/// The coordinator's answer to one, which makes the lease.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Echo {
    pub nonce: Uuid,
    /// The canaries of this host that are being compared.
    pub compared: Vec<Compared>,
}

/// The coordinator's last message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Farewell {
    pub reason: FarewellReason,
    pub text: String,
}

/// Why the coordinator ends a session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FarewellReason {
    ProtocolMismatch,
    AlreadyConnected,
    Removed,
    ShuttingDown,
    BadMessage,
}

impl TryFrom<pb::Hello> for Hello {
    type Error = InvalidSessionMessage;

    fn try_from(message: pb::Hello) -> Result<Self, InvalidSessionMessage> {
        let pb::Hello { protocol, agent_version, inventory, held, boot_id } = message;
        bounded("held", held.len())?;
        let held = held
            .into_iter()
            .map(|pb::HeldFence { application, fence }| {
                let application = named("held.application", &application)?;
                let fence = fence.ok_or(InvalidSessionMessage::Missing("held.fence"))?;
                Ok((application, fence.into()))
            })
            .collect::<Result<_, InvalidSessionMessage>>()?;
        Ok(Self {
            protocol,
            agent_version: cut(&agent_version),
            inventory: inventory.ok_or(InvalidSessionMessage::Missing("inventory"))?.into(),
            held,
            boot_id: cut(&boot_id),
        })
    }
}

impl From<Hello> for pb::Hello {
    fn from(hello: Hello) -> Self {
        let Hello { protocol, agent_version, inventory, held, boot_id } = hello;
        let held = held
            .into_iter()
            .map(|(application, fence)| pb::HeldFence {
                application: application.into(),
                fence: Some(fence.into()),
            })
            .collect();
        Self { protocol, agent_version, inventory: Some(inventory.into()), held, boot_id }
    }
}

impl From<pb::Inventory> for Inventory {
    fn from(message: pb::Inventory) -> Self {
        let pb::Inventory {
            hostname,
            os,
            kernel,
            arch,
            cpus,
            memory_bytes,
            disk_bytes,
            address,
            runtime,
        } = message;
        Self {
            hostname: cut(&hostname),
            os: cut(&os),
            kernel: cut(&kernel),
            arch: cut(&arch),
            cpus,
            memory_bytes,
            disk_bytes,
            address: cut(&address),
            runtime: cut(&runtime),
        }
    }
}

impl From<Inventory> for pb::Inventory {
    fn from(inventory: Inventory) -> Self {
        let Inventory {
            hostname,
            os,
            kernel,
            arch,
            cpus,
            memory_bytes,
            disk_bytes,
            address,
            runtime,
        } = inventory;
        Self { hostname, os, kernel, arch, cpus, memory_bytes, disk_bytes, address, runtime }
    }
}

impl TryFrom<pb::Welcome> for Welcome {
    type Error = InvalidSessionMessage;

    fn try_from(message: pb::Welcome) -> Result<Self, InvalidSessionMessage> {
        let pb::Welcome {
            protocol,
            coordinator_version,
            incarnation,
            term,
            boot_nonce,
            heartbeat_every_ms,
        } = message;
        if !(100..=60_000).contains(&heartbeat_every_ms) {
            return Err(InvalidSessionMessage::HeartbeatEvery);
        }
        if term == 0 {
            return Err(InvalidSessionMessage::Missing("term"));
        }
        Ok(Self {
            protocol,
            coordinator_version: cut(&coordinator_version),
            incarnation: uuid("incarnation", &incarnation)?,
            term: Term(term),
            boot_nonce: uuid("boot_nonce", &boot_nonce)?,
            heartbeat_every: Duration::from_millis(heartbeat_every_ms),
        })
    }
}

pub(super) fn named(
    field: &'static str,
    name: &str,
) -> Result<ApplicationName, InvalidSessionMessage> {
    name.parse().map_err(|error| InvalidSessionMessage::Application(field, error))
}

pub(super) fn uuid(field: &'static str, text: &str) -> Result<Uuid, InvalidSessionMessage> {
    Uuid::try_parse(text).map_err(|_| InvalidSessionMessage::Uuid(field))
}

impl From<Welcome> for pb::Welcome {
    fn from(welcome: Welcome) -> Self {
        let Welcome {
            protocol,
            coordinator_version,
            incarnation,
            term,
            boot_nonce,
            heartbeat_every,
        } = welcome;
        Self {
            protocol,
            coordinator_version,
            incarnation: incarnation.to_string(),
            term: term.0,
            boot_nonce: boot_nonce.to_string(),
            heartbeat_every_ms: millis(heartbeat_every),
        }
    }
}

impl TryFrom<pb::Heartbeat> for Heartbeat {
    type Error = InvalidSessionMessage;

    fn try_from(message: pb::Heartbeat) -> Result<Self, InvalidSessionMessage> {
        let pb::Heartbeat { nonce, load, reports, counts, edge, vitals, checks } = message;
        bounded("reports", reports.len())?;
        bounded("counts", counts.len())?;
        bounded("vitals", vitals.len())?;
        bounded("checks", checks.len())?;
        Ok(Self {
            nonce: uuid("nonce", &nonce)?,
            load: load.ok_or(InvalidSessionMessage::Missing("load"))?.into(),
            counts: counts.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            vitals: vitals.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            reports: reports
                .into_iter()
                .map(|report| report.try_into().map_err(InvalidSessionMessage::Report))
                .collect::<Result<_, _>>()?,
            edge: edge.map(TryInto::try_into).transpose().map_err(InvalidSessionMessage::Edge)?,
            checks: checks.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
        })
    }
}

impl From<Heartbeat> for pb::Heartbeat {
    fn from(heartbeat: Heartbeat) -> Self {
        let Heartbeat { nonce, load, counts, vitals, reports, edge, checks } = heartbeat;
        Self {
            nonce: nonce.to_string(),
            load: Some(load.into()),
            counts: counts.into_iter().map(Into::into).collect(),
            vitals: vitals.into_iter().map(Into::into).collect(),
            reports: reports.into_iter().map(Into::into).collect(),
            edge: edge.map(Into::into),
            checks: checks.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<pb::Farewell> for Farewell {
    type Error = InvalidSessionMessage;

    fn try_from(message: pb::Farewell) -> Result<Self, InvalidSessionMessage> {
        let reason = match message.reason() {
            pb::farewell::Reason::Unspecified => return Err(InvalidSessionMessage::Reason),
            pb::farewell::Reason::ProtocolMismatch => FarewellReason::ProtocolMismatch,
            pb::farewell::Reason::AlreadyConnected => FarewellReason::AlreadyConnected,
            pb::farewell::Reason::Removed => FarewellReason::Removed,
            pb::farewell::Reason::ShuttingDown => FarewellReason::ShuttingDown,
            pb::farewell::Reason::BadMessage => FarewellReason::BadMessage,
        };
        let pb::Farewell { reason: _, text } = message;
        Ok(Self { reason, text: cut(&text) })
    }
}

impl From<Farewell> for pb::Farewell {
    fn from(farewell: Farewell) -> Self {
        let Farewell { reason, text } = farewell;
        let reason = match reason {
            FarewellReason::ProtocolMismatch => pb::farewell::Reason::ProtocolMismatch,
            FarewellReason::AlreadyConnected => pb::farewell::Reason::AlreadyConnected,
            FarewellReason::Removed => pb::farewell::Reason::Removed,
            FarewellReason::ShuttingDown => pb::farewell::Reason::ShuttingDown,
            FarewellReason::BadMessage => pb::farewell::Reason::BadMessage,
        };
        Self { reason: reason.into(), text }
    }
}
