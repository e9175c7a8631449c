//! Inputs: what happened, as the daemon tells the core.

use cutover_common::{
    ApplicationName, Assignment, CommandCheck, Compared, EdgeRoutes, InstanceEvidence, InstanceId,
    Sha256, Term, Version,
    check::{Answer, CanaryId},
};
use uuid::Uuid;

use crate::{HookEnd, HookId, gate::GateState};

/// Counts the sessions that one daemon process opened. Input of an earlier one is ignored.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SessionId(pub u64);

/// Who a coordinator says it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Welcome {
    /// One per data directory, another after a restore.
    pub incarnation: Uuid,
    pub term: Term,
    /// One per coordinator process.
    pub boot_nonce: Uuid,
}

/// Something that happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Input {
    /// Time went by: what [`Agent::next_wake`](crate::Agent::next_wake) named is due.
    Tick,
    /// A connection to the coordinator is open and waits for the hello.
    SessionOpened {
        session: SessionId,
    },
    Welcomed {
        session: SessionId,
        welcome: Welcome,
    },
    Echoed {
        session: SessionId,
        nonce: Uuid,
        /// The canaries that are being compared on this host: all of them.
        compared: Vec<Compared>,
    },
    Assigned {
        session: SessionId,
        assignment: Box<Assignment>,
    },
    /// What this host's gate should do as an edge.
    EdgeRouted {
        session: SessionId,
        routes: Box<EdgeRoutes>,
    },
    SessionEnded {
        session: SessionId,
    },
    /// [`Action::Prepare`](crate::Action::Prepare) ended.
    PrepareEnded {
        application: ApplicationName,
        version: Version,
        digest: Sha256,
        result: Result<(), PrepareFailure>,
    },
    /// [`Action::Start`](crate::Action::Start) ended, and the instance is alive.
    Started {
        evidence: InstanceEvidence,
    },
    /// [`Action::Start`](crate::Action::Start) ended, and there is no process.
    StartFailed {
        instance: InstanceId,
        detail: String,
    },
    /// [`Action::Adopt`](crate::Action::Adopt) ended, or goes on without an answer so far.
    Adopted {
        instance: InstanceId,
        finding: Finding,
    },
    /// An instance that was seen alive ended by itself.
    Exited {
        instance: InstanceId,
        detail: String,
    },
    /// [`Action::RunHook`](crate::Action::RunHook) or
    /// [`Action::EndHook`](crate::Action::EndHook) ended.
    HookEnded {
        hook: HookId,
        end: HookEnd,
    },
    /// [`Action::Stop`](crate::Action::Stop) ended, and no process of the instance is left.
    Stopped {
        instance: InstanceId,
        detail: String,
    },
    /// [`Action::Stop`](crate::Action::Stop) ended, and it is not known that nothing is left. Of an
    /// instance that is being started: its start failed, and undoing it goes on.
    StopFailed {
        instance: InstanceId,
        detail: String,
    },
    /// [`Action::Probe`](crate::Action::Probe) ended.
    Probed {
        instance: InstanceId,
        answer: ProbeAnswer,
    },
    /// [`Action::RunCheck`](crate::Action::RunCheck) ended.
    Checked {
        application: ApplicationName,
        canary: CanaryId,
        check: CommandCheck,
        answer: Answer,
        /// For people: how it ended.
        detail: String,
    },
    /// [`Action::TellGate`](crate::Action::TellGate) ended.
    GateAnswered {
        revision: u64,
        result: Result<GateState, String>,
    },
    /// The gate's state is another one than it said last.
    GateSaid {
        state: GateState,
    },
    /// The gate cannot be reached.
    GateLost {
        detail: String,
    },
}

/// Why a release is not on disk.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PrepareFailure {
    pub detail: String,
    pub retry: Retry,
}

/// Whether trying the same again can help.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Retry {
    /// A full disk, a coordinator that answers with an error.
    Later,
    /// There was no connection to the coordinator, or it broke: that says nothing about this host.
    Connected,
    /// The content itself is wrong: only another goal helps.
    Never,
}

/// What became of an instance that the journal names, after the agent was away.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Finding {
    /// It is alive, and proven to be the one (A8).
    Running { evidence: InstanceEvidence },
    /// It ended while nobody looked.
    Exited { detail: String },
    /// It was never started.
    Never,
    /// It was there and left no trace: the host rebooted.
    Gone,
    /// It could not be found out, and is tried again. For people.
    Unclear { detail: String },
}

/// What a probe heard.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProbeAnswer {
    pub passed: bool,
    /// For people; the same text for the same answer, so that it makes no report of its own.
    pub text: String,
}
