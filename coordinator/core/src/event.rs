//! Everything that a coordinator remembers. Stored, so append-only: a variant or a field is
//! added with a default, never changed or removed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use cutover_common::{
    AgentName, ApplicationName, EnvironmentName, FreezeWindow, Generation, Labels, Permille,
    Release, ReleaseRef, Route, SecretId, Sha256, Slots, Term, Timers, Timestamp, VariableName,
    Version,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    config::Setting,
    enrolment::Role,
    fleet::GoalSlot,
    input::{Deed, LeaveOut, Verb, WithConfig},
    once::{OnceGoal, OnceStep},
    rollout::{Cause, CutoverPhase, Exclusion, Outcome, Plan, Spec},
};

/// Something that happened, and when, by the coordinator's clock.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct Event {
    pub at: Timestamp,
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub enum EventKind {
    /// A process began a term.
    Started {
        term: Term,
        boot_nonce: Uuid,
    },
    /// The store was made from a backup. Its terms go on far above any that an agent has seen
    /// (F7; etcd does the same with its revisions).
    Restored {
        term: Term,
    },
    OperatorCreated {
        name: String,
        role: Role,
        token_hash: Sha256,
    },
    JoinTokenCreated {
        token_hash: Sha256,
        name: Option<AgentName>,
        labels: Labels,
        expires: Timestamp,
        by: String,
    },
    AgentJoined {
        agent: AgentName,
        enrolment: Uuid,
        labels: Labels,
        token_hash: Sha256,
        key_hash: Sha256,
    },
    AgentLabelled {
        agent: AgentName,
        labels: Labels,
        by: String,
    },
    AgentRemoved {
        agent: AgentName,
        by: String,
    },
    EnvironmentCreated {
        name: EnvironmentName,
        select: Labels,
        by: String,
    },
    ReleaseRegistered {
        release: Arc<Release>,
        manifest: String,
        by: String,
    },
    /// The goal of one application on one agent.
    GoalSet {
        agent: AgentName,
        application: ApplicationName,
        generation: Generation,
        slots: Slots<GoalSlot>,
        /// Where the gate leads, if both slots are to run.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        route: Option<Route>,
        timers: Timers,
        rollout: Uuid,
        /// What the agent had told that it holds. None: it had told nothing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        held: Option<Generation>,
        /// What the host has to do with once hooks that have not passed.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        once: Vec<OnceGoal>,
    },
    RolloutStarted(Box<RolloutStarted>),
    Rollout {
        id: Uuid,
        change: Change,
        /// The operator's call that asked for it, so that the same call, made again because its
        /// answer was lost, is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        call: Option<Uuid>,
    },
    /// The host was taken out for maintenance: it counts as down, and no rollout begins on it.
    AgentDrained {
        agent: AgentName,
        by: String,
        reason: String,
    },
    AgentUndrained {
        agent: AgentName,
        by: String,
        reason: String,
    },
    /// Nothing new is deployed to the environment for a while.
    EnvironmentFrozen {
        environment: EnvironmentName,
        window: FreezeWindow,
        by: String,
        reason: String,
    },
    /// All freezes of the environment were lifted.
    EnvironmentThawed {
        environment: EnvironmentName,
        by: String,
    },
    /// What the environment adds to releases that are deployed to it from here on: of all
    /// applications, or of one.
    EnvironmentConfigured {
        environment: EnvironmentName,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        application: Option<ApplicationName>,
        set: BTreeMap<VariableName, Setting>,
        unset: BTreeSet<VariableName>,
        by: String,
    },
    /// A release is deployed with the config that its version names; from here on it is one of its
    /// own.
    ReleaseConfigured {
        name: ReleaseRef,
    },
    /// Nobody can read the values of these any more: the key is lost that they were sealed with.
    SecretsLost {
        secrets: BTreeSet<SecretId>,
    },
    /// It begins when what is before it is over, with [`RolloutStarted`] of the same id.
    RolloutQueued(Box<RolloutQueued>),
    /// It was in the queue, and will not begin.
    RolloutDequeued {
        id: Uuid,
        how: Dequeued,
        /// The operator's call that asked for it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        call: Option<Uuid>,
    },
}

/// A rollout that waits for its turn, as it was asked for: it is planned when it begins.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct RolloutQueued {
    pub id: Uuid,
    pub request_id: Uuid,
    pub application: ApplicationName,
    pub environment: EnvironmentName,
    pub to: Version,
    #[serde(default, skip_serializing_if = "WithConfig::is_newest")]
    pub with: WithConfig,
    /// What was typed, by the names of settings.
    pub settings: BTreeMap<String, String>,
    pub by: String,
    /// Why it comes even where the environment is frozen; empty: it does not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub despite_freeze: String,
}

/// Why a rollout that waited for its turn will not begin.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub enum Dequeued {
    /// Its turn came, and it was not possible then.
    Refused { why: String },
    /// Somebody took it out.
    Aborted { by: String, reason: String },
    /// This one has taken the place of everything that was there before it.
    Superseded { by: String, rollout: Uuid },
}

/// A rollout, as it was accepted. Its plan never changes (F6).
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct RolloutStarted {
    pub id: Uuid,
    pub request_id: Uuid,
    pub application: ApplicationName,
    pub environment: EnvironmentName,
    pub from: Option<Version>,
    pub to: Version,
    pub spec: Spec,
    pub plan: Plan,
    pub by: String,
    /// Whether it brings hosts that missed it to what the environment runs already.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub converges: bool,
    /// Why it began although the environment was frozen; empty if it was not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub despite_freeze: String,
}

/// A decision about a rollout, with its reason.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub enum Change {
    /// The next step of a wave begins.
    StepStarted {
        wave: usize,
        step: usize,
    },
    /// These hosts were told to switch; each holds a disruption token from here on (A1).
    HostsReleased {
        agents: Vec<AgentName>,
    },
    /// The host runs the new release in settled health.
    HostUpdated {
        agent: AgentName,
    },
    HostFailed {
        agent: AgentName,
        why: String,
    },
    HostUnreachable {
        agent: AgentName,
        why: String,
    },
    BakeStarted,
    RollbackStarted {
        cause: Cause,
        waves: Vec<Vec<AgentName>>,
    },
    /// The next wave of the way back begins.
    RollbackWave {
        wave: usize,
    },
    /// These hosts were told to go back.
    HostsReverted {
        agents: Vec<AgentName>,
    },
    /// The host runs what it ran before, in settled health.
    HostReverted {
        agent: AgentName,
    },
    HostStuck {
        agent: AgentName,
        why: String,
    },
    /// Hosts that had been told to switch and had not begun were told to stay (A5).
    HostsWithdrawn {
        agents: Vec<AgentName>,
    },
    Paused {
        by: String,
        reason: String,
    },
    Resumed {
        by: String,
    },
    Held {
        why: String,
    },
    /// A person sends failed and unreachable hosts through the plan again.
    Retried {
        by: String,
    },
    Ended {
        outcome: Outcome,
        why: String,
    },
    /// These hosts were told to start the new release beside what serves.
    HostsStaged {
        agents: Vec<AgentName>,
    },
    /// The host runs the new release beside what serves, in settled health.
    HostStaged {
        agent: AgentName,
    },
    /// These hosts were told to give the new release another share of the traffic.
    HostsShifted {
        agents: Vec<AgentName>,
        share: Permille,
    },
    /// All gates that take part in a strict cutover were told to hold, to arm, or to let go.
    CutoverMoved {
        phase: CutoverPhase,
    },
    /// These hosts were told to lead clients to the new release, all at one time. Each holds a
    /// disruption token from here on.
    HostsFlipped {
        agents: Vec<AgentName>,
    },
    /// Edges lead clients to the hosts of this group from here on.
    GroupSwitched {
        group: String,
    },
    /// These hosts were told once more what they are to do: what they had been told was lost, or
    /// overtaken.
    HostsTold {
        agents: Vec<AgentName>,
    },
    /// These hosts were told to stop the old release.
    HostsRetired {
        agents: Vec<AgentName>,
    },
    /// A person says that the step which is under way is done; in full: also everything that is
    /// still to be watched or approved.
    Promoted {
        by: String,
        reason: String,
        full: bool,
    },
    /// These hosts were taken out of the rollout, which keeps its hands off them from here on (A5).
    HostsExcluded {
        agents: Vec<AgentName>,
        cause: Exclusion,
    },
    /// What became of the once hook of its release, which this host runs for all.
    Once {
        agent: AgentName,
        step: OnceStep,
    },
}

impl Change {
    /// Returns what an operator did with it, if one did.
    pub const fn deed(&self) -> Option<Deed> {
        match self {
            Self::Paused { .. } => Some(Deed::Control(Verb::Pause)),
            Self::Resumed { .. } => Some(Deed::Control(Verb::Resume)),
            Self::Promoted { full, .. } => Some(Deed::Control(Verb::Promote { full: *full })),
            Self::Retried { .. } => Some(Deed::Control(Verb::Retry)),
            Self::RollbackStarted { cause: Cause::Operator { .. }, .. } => {
                Some(Deed::Control(Verb::Rollback))
            }
            Self::Ended { outcome: Outcome::Aborted, .. } => Some(Deed::Control(Verb::Abort)),
            Self::HostsExcluded { cause: Exclusion::Operator { .. }, .. } => {
                Some(Deed::LeaveOut(LeaveOut::Exclude))
            }
            Self::HostsExcluded { cause: Exclusion::Skipped { .. }, .. } => {
                Some(Deed::LeaveOut(LeaveOut::Skip))
            }
            Self::StepStarted { .. }
            | Self::HostsReleased { .. }
            | Self::HostUpdated { .. }
            | Self::HostFailed { .. }
            | Self::HostUnreachable { .. }
            | Self::BakeStarted
            | Self::HostsStaged { .. }
            | Self::HostStaged { .. }
            | Self::HostsShifted { .. }
            | Self::CutoverMoved { .. }
            | Self::HostsFlipped { .. }
            | Self::GroupSwitched { .. }
            | Self::HostsRetired { .. }
            | Self::HostsTold { .. }
            | Self::RollbackStarted {
                cause: Cause::Failed { .. } | Cause::Judged { .. }, ..
            }
            | Self::RollbackWave { .. }
            | Self::HostsReverted { .. }
            | Self::HostReverted { .. }
            | Self::HostStuck { .. }
            | Self::HostsWithdrawn { .. }
            | Self::Once { .. }
            | Self::Held { .. }
            | Self::HostsExcluded { cause: Exclusion::Drained { .. }, .. }
            | Self::Ended {
                outcome: Outcome::Succeeded | Outcome::RolledBack | Outcome::Staged,
                ..
            } => None,
        }
    }
}

#[cfg(test)]
mod tests;
