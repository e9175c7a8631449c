//! Everything that can happen to a coordinator.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use cutover_common::{
    AgentName, ApplicationName, EnvironmentName, FreezeWindow, Labels, Release, Report, Sha256,
    SourceName, Timestamp, VariableName, Version,
    wire::{Heartbeat, Hello},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{config::Setting, enrolment::Role, rollout::Options};

/// Names one session of one agent, within one process of the coordinator.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct SessionId(pub u64);

/// Names a call that waits for an answer, within one process of the coordinator.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ReplyId(pub u64);

/// Names a question to a metrics server, within one process of the coordinator.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct QueryId(pub u64);

/// What a metrics server answered.
#[derive(Clone, Debug, PartialEq)]
pub enum MetricAnswer {
    Number(f64),
    /// It knows nothing of what was asked.
    Nothing,
    /// It gave no answer, or one that is no number. For people.
    Failed(String),
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// The process has replayed its log and begins a term. First input of a process.
    Started { boot_nonce: Uuid },
    /// A moment that [`crate::Coordinator::next_wake`] asked for.
    Tick,
    /// A person or a program asks for something.
    Asked { reply: ReplyId, by: String, request: Request },
    /// An agent opened a session; its certificate named it.
    SessionOpened { session: SessionId, agent: AgentName, enrolment: Uuid, hello: Hello },
    /// A session's connection is gone.
    SessionClosed { session: SessionId },
    /// An agent's sign of life.
    Beat { session: SessionId, heartbeat: Heartbeat },
    /// These metrics servers may be asked, and no others.
    SourcesNamed { sources: BTreeSet<SourceName> },
    /// [`Action::Query`](crate::Action::Query) ended.
    Queried { query: QueryId, found: MetricAnswer },
    /// An agent's report of one application.
    Reported { session: SessionId, report: Report },
}

/// What can be asked for. Random ids are drawn by whoever asks.
#[derive(Clone, Debug)]
pub enum Request {
    CreateOperator {
        name: String,
        role: Role,
        token_hash: Sha256,
    },
    CreateJoinToken {
        token_hash: Sha256,
        name: Option<AgentName>,
        labels: Labels,
        expires: Timestamp,
    },
    /// An agent shows a token and a key.
    Join {
        token_hash: Sha256,
        name: AgentName,
        labels: Labels,
        enrolment: Uuid,
        key_hash: Sha256,
    },
    /// An agent with a valid certificate wants the next one.
    Renew {
        agent: AgentName,
        enrolment: Uuid,
    },
    LabelAgent {
        agent: AgentName,
        set: Labels,
        unset: Vec<String>,
    },
    RemoveAgent {
        agent: AgentName,
    },
    CreateEnvironment {
        name: EnvironmentName,
        select: Labels,
    },
    /// An archive has arrived and was verified.
    RegisterRelease {
        release: Arc<Release>,
        manifest: String,
    },
    Deploy {
        request_id: Uuid,
        rollout: Uuid,
        order: DeployOrder,
    },
    Control {
        rollout: String,
        verb: Verb,
        reason: String,
        new_rollout: Uuid,
        /// What becomes of a rollout that it starts while another is under way.
        if_busy: IfBusy,
    },
    /// Hosts are to be taken out of a rollout that is not over.
    Exclude {
        rollout: String,
        agents: Vec<AgentName>,
        how: LeaveOut,
        reason: String,
        /// Names the call.
        call: Uuid,
    },
    /// A host is to be taken out for maintenance.
    DrainAgent {
        agent: AgentName,
        reason: String,
        /// Whether also below the floor of what runs there; never below that of a rollout which is
        /// under way.
        is_forced: bool,
    },
    /// Nothing new is to be deployed to an environment for a while.
    FreezeEnvironment {
        environment: EnvironmentName,
        window: FreezeWindow,
        reason: String,
    },
    /// All freezes of an environment are lifted.
    ThawEnvironment {
        environment: EnvironmentName,
    },
    /// What an environment adds to releases is to change.
    ConfigureEnvironment(ConfigOrder),
    /// A host that was taken out for maintenance takes part again.
    UndrainAgent {
        agent: AgentName,
        reason: String,
    },
}

/// What is to be set in an environment's config, and what not to be set any more.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConfigOrder {
    pub environment: EnvironmentName,
    /// None: for all applications that say nothing else.
    pub application: Option<ApplicationName>,
    pub set: BTreeMap<VariableName, Setting>,
    pub unset: BTreeSet<VariableName>,
}

/// What `cutover deploy` asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DeployOrder {
    pub application: ApplicationName,
    pub version: Version,
    pub environment: EnvironmentName,
    pub with: WithConfig,
    pub options: Options,
    pub if_busy: IfBusy,
    /// Why it comes even where the environment is frozen; empty: it does not.
    pub despite_freeze: String,
}

/// With which config a release is deployed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
pub enum WithConfig {
    /// With what its environment has at this moment, unless the version names another.
    #[default]
    Newest,
    /// With the one that the version names, or none: as it ran before.
    Own,
}

impl WithConfig {
    /// Returns whether it is what a deploy means that says nothing else.
    pub fn is_newest(&self) -> bool {
        *self == Self::Newest
    }
}

/// What becomes of a deploy while another rollout of the application is under way there.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum IfBusy {
    #[default]
    Refuse,
    /// The other one is stopped, and hosts go on from where it left them. What is queued there
    /// leaves the queue.
    Supersede,
    /// It begins when the other one is over, and whatever was queued before it.
    Queue,
}

/// What an operator's call did to a rollout, by which the same call is known again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Deed {
    Control(Verb),
    LeaveOut(LeaveOut),
}

/// For how long a rollout leaves hosts as they are that an operator takes out of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LeaveOut {
    /// `exclude`: for good. What the environment runs does not come to them by itself.
    Exclude,
    /// `skip`: until it has succeeded. Then they get what the environment runs, as hosts do that
    /// were away.
    Skip,
}

impl LeaveOut {
    /// Returns the word that is typed.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Exclude => "exclude",
            Self::Skip => "skip",
        }
    }

    /// Returns the word for what was done.
    pub(crate) const fn participle(self) -> &'static str {
        match self {
            Self::Exclude => "excluded",
            Self::Skip => "skipped",
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
    /// The step that is under way is done; in full: also everything that is still to be watched or
    /// approved.
    Promote {
        full: bool,
    },
}

impl Verb {
    /// Returns the word that is typed.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Abort => "abort",
            Self::Retry => "retry",
            Self::Rollback => "rollback",
            Self::Promote { full: false } => "promote",
            Self::Promote { full: true } => "promote --full",
        }
    }
}
