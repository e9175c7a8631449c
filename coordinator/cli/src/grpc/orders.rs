//! What commands ask of the coordinator, on the way out.

use std::{collections::BTreeMap, time::Duration};

use cutover_common::{
    AgentName, ApplicationName, EnvironmentName, ReleaseRef, SecretValue, Sha256, Timestamp,
    VariableName, Version, WeekWindow,
};
use cutover_proto::v1 as pb;
use uuid::Uuid;

use crate::args::deploy::{IfBusy, SettingArgs};

/// A change of an environment's config. Has no printable form: it may hold secrets.
pub struct ConfigChange {
    pub environment: EnvironmentName,
    pub application: Option<ApplicationName>,
    pub set: BTreeMap<VariableName, String>,
    pub secrets: BTreeMap<VariableName, SecretValue>,
    pub unset: Vec<VariableName>,
}

impl ConfigChange {
    /// Returns a change of nothing.
    pub const fn none(environment: EnvironmentName, application: Option<ApplicationName>) -> Self {
        Self {
            environment,
            application,
            set: BTreeMap::new(),
            secrets: BTreeMap::new(),
            unset: Vec::new(),
        }
    }

    pub(super) fn to_pb(&self) -> pb::ConfigureEnvironmentRequest {
        let Self { environment, application, set, secrets, unset } = self;
        pb::ConfigureEnvironmentRequest {
            environment: environment.to_string(),
            application: application.as_ref().map(ToString::to_string).unwrap_or_default(),
            set: set.iter().map(|(name, value)| (name.to_string(), value.clone())).collect(),
            secrets: secrets
                .iter()
                .map(|(name, value)| (name.to_string(), value.reveal().to_vec()))
                .collect(),
            unset: unset.iter().map(ToString::to_string).collect(),
        }
    }
}

/// What to deploy where, and how.
#[derive(Clone, Debug)]
pub struct Order {
    pub release: ReleaseRef,
    pub environment: EnvironmentName,
    pub settings: SettingArgs,
    pub if_busy: IfBusy,
    /// Why it comes even where the environment is frozen; empty: it does not.
    pub despite_freeze: String,
}

/// An order that is carried out, once however often it is sent.
#[derive(Clone, Debug)]
pub struct DeployOrder {
    pub request_id: Uuid,
    pub order: Order,
}

impl Order {
    pub(super) fn to_pb(&self, request_id: Option<Uuid>) -> pb::DeployRequest {
        pb::DeployRequest {
            request_id: request_id.map(|id| id.to_string()).unwrap_or_default(),
            application: self.release.application.to_string(),
            version: self.release.version.to_string(),
            environment: self.environment.to_string(),
            settings: self
                .settings
                .named()
                .into_iter()
                .map(|(setting, value)| (setting.to_string(), value))
                .collect(),
            if_busy: busy(self.if_busy).into(),
            despite_freeze: self.despite_freeze.clone(),
        }
    }
}

const fn busy(if_busy: IfBusy) -> pb::IfBusy {
    match if_busy {
        IfBusy::Refuse => pb::IfBusy::Unspecified,
        IfBusy::Supersede => pb::IfBusy::Supersede,
        IfBusy::Queue => pb::IfBusy::Queue,
    }
}

/// An order that is not carried out, and what goes wrong meanwhile.
#[derive(Clone, Debug)]
pub struct SimulateOrder {
    pub order: Order,
    pub fail: Vec<AgentName>,
    /// Agents or zones.
    pub lose: Vec<String>,
    pub promote: bool,
    pub starts_in: Duration,
}

impl SimulateOrder {
    pub(super) fn to_pb(&self) -> pb::SimulateRequest {
        pb::SimulateRequest {
            deploy: Some(self.order.to_pb(None)),
            fail: self.fail.iter().map(ToString::to_string).collect(),
            lose: self.lose.clone(),
            promote: self.promote,
            starts_in_ms: u64::try_from(self.starts_in.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// What an operator does to a rollout.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verb {
    Pause,
    Resume,
    Abort,
    Retry,
    Rollback,
    Promote { full: bool },
}

/// An operator's word on a rollout.
#[derive(Clone, Debug)]
pub struct Control {
    pub request_id: Uuid,
    pub rollout: String,
    pub verb: Verb,
    pub reason: String,
    /// What becomes of a rollout that it starts.
    pub if_busy: IfBusy,
}

impl Control {
    pub(super) fn to_pb(&self) -> pb::ControlRequest {
        let verb = match self.verb {
            Verb::Pause => pb::ControlVerb::Pause,
            Verb::Resume => pb::ControlVerb::Resume,
            Verb::Abort => pb::ControlVerb::Abort,
            Verb::Retry => pb::ControlVerb::Retry,
            Verb::Rollback => pb::ControlVerb::Rollback,
            Verb::Promote { full: false } => pb::ControlVerb::Promote,
            Verb::Promote { full: true } => pb::ControlVerb::PromoteFull,
        };
        pb::ControlRequest {
            request_id: self.request_id.to_string(),
            rollout: self.rollout.clone(),
            verb: verb.into(),
            reason: self.reason.clone(),
            if_busy: busy(self.if_busy).into(),
        }
    }
}

/// Hosts that an operator takes out of a rollout.
#[derive(Clone, Debug)]
pub struct Exclude {
    pub request_id: Uuid,
    pub rollout: String,
    pub agents: Vec<AgentName>,
    /// Whether they get the release later by themselves.
    pub skip: bool,
    pub reason: String,
}

impl Exclude {
    pub(super) fn to_pb(&self) -> pb::ExcludeRequest {
        pb::ExcludeRequest {
            request_id: self.request_id.to_string(),
            rollout: self.rollout.clone(),
            agents: self.agents.iter().map(ToString::to_string).collect(),
            reason: self.reason.clone(),
            skip: self.skip,
        }
    }
}

/// A freeze of an environment.
#[derive(Clone, Debug)]
pub struct Freeze {
    pub environment: EnvironmentName,
    /// None: from now on.
    pub from: Option<Timestamp>,
    /// None: until it is lifted.
    pub until: Option<Timestamp>,
    /// In place of both, a part of every week.
    pub weekly: Option<WeekWindow>,
    pub reason: String,
}

impl Freeze {
    pub(super) fn to_pb(&self) -> pb::FreezeEnvironmentRequest {
        let window = pb::FreezeWindow {
            from_unix_ms: self.from.map_or(0, Timestamp::unix_ms),
            until_unix_ms: self.until.map_or(0, Timestamp::unix_ms),
            weekly: self.weekly.map(|weekly| weekly.to_string()).unwrap_or_default(),
        };
        pb::FreezeEnvironmentRequest {
            environment: self.environment.to_string(),
            window: Some(window),
            reason: self.reason.clone(),
        }
    }
}

/// A packed release, before the coordinator has it.
#[derive(Clone, Debug)]
pub struct ReleaseOffer {
    pub version: Version,
    /// The text of cutover.toml.
    pub manifest: String,
    /// Of the content, before compression.
    pub digest: Sha256,
    pub size_bytes: u64,
    /// Of the compressed archive, as it is sent.
    pub archive_digest: Sha256,
    pub archive_size_bytes: u64,
}

impl ReleaseOffer {
    pub(super) fn to_pb(&self) -> pb::BeginPushRequest {
        pb::BeginPushRequest {
            version: self.version.to_string(),
            manifest: self.manifest.clone(),
            digest: self.digest.to_string(),
            size_bytes: self.size_bytes,
            archive_digest: self.archive_digest.to_string(),
            archive_size_bytes: self.archive_size_bytes,
        }
    }
}
