//! Actions: what the core asks of the world. Each may be performed twice with the result of once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use cutover_common::{
    ApplicationName, CheckReport, CommandCheck, EdgeReport, Fence, Generation, HookKind,
    InstanceId, ProbeSpec, Release, Report, SecretId, Sha256, Slot, check::CanaryId,
};
use uuid::Uuid;

use crate::{AssignmentRefusal, SessionId, SessionRefusal, gate::GateProgram};

/// Which run of a hook.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct HookId {
    /// Drawn for the run; around a stop the instance's own id.
    pub run: Uuid,
    pub kind: HookKind,
}

/// What an action is about, for logs and paths.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    pub application: ApplicationName,
    pub slot: Slot,
    pub fence: Fence,
    pub rollout: String,
}

/// What must stay on disk, for every application that was ever known.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Retained {
    pub releases: BTreeMap<ApplicationName, BTreeSet<Sha256>>,
    /// Records of processes that run or are looked for.
    pub instances: BTreeSet<(ApplicationName, InstanceId)>,
    /// Values of secrets that what is wanted or runs needs.
    pub secrets: BTreeSet<SecretId>,
    /// The goals that were looked at for this: of a later one it says nothing.
    pub goals: BTreeMap<ApplicationName, Generation>,
}

/// Something to do, once the events that led to it are on disk.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Action {
    /// Introduce this agent on a session that was opened.
    SendHello {
        session: SessionId,
        held: Vec<(ApplicationName, Fence)>,
    },
    SendHeartbeat {
        session: SessionId,
        nonce: Uuid,
        reports: Vec<Report>,
        /// What was counted is for the shell to fill in.
        edge: Option<EdgeReport>,
        /// How the checks of canaries stand.
        checks: Vec<CheckReport>,
    },
    SendReport {
        session: SessionId,
        report: Box<Report>,
    },
    /// End a session that this agent may not obey.
    EndSession {
        session: SessionId,
        refusal: SessionRefusal,
    },
    /// Log that an assignment was refused; the report that follows tells the coordinator.
    NoteRefusal {
        application: ApplicationName,
        offered: Fence,
        refusal: AssignmentRefusal,
    },
    /// Bring a release to disk, verified. Answered by `PrepareEnded`.
    Prepare {
        place: Place,
        release: Arc<Release>,
    },
    /// Start an instance. Answered by `Started` or `StartFailed`, and once by `Exited` later.
    Start {
        place: Place,
        instance: InstanceId,
        release: Arc<Release>,
        /// Where it is to listen, if it stands behind the gate.
        port: Option<u16>,
    },
    /// Find an instance again. Answered by `Adopted`, and once by `Exited` if it is running.
    Adopt {
        place: Place,
        instance: InstanceId,
        release: Arc<Release>,
    },
    /// Run a hook. Answered by `HookEnded`. Never asked twice for one id (E3).
    RunHook {
        place: Place,
        hook: HookId,
        /// The one that it is run for; none before there is one.
        instance: Option<InstanceId>,
        release: Arc<Release>,
        port: Option<u16>,
    },
    /// End a hook that runs, or that was running when an earlier agent process died. Answered by
    /// `HookEnded` once nothing of it runs.
    EndHook {
        place: Place,
        hook: HookId,
    },
    /// Stop an instance for good. Answered by `Stopped` or `StopFailed`.
    Stop {
        place: Place,
        instance: InstanceId,
        release: Arc<Release>,
    },
    /// Ask an instance how it is. Answered by `Probed`.
    Probe {
        place: Place,
        instance: InstanceId,
        release: Arc<Release>,
        port: Option<u16>,
        probe: ProbeSpec,
    },
    /// Run a check of a canary's release. It changes nothing, and may be run at any time, again and
    /// again. Answered by `Checked`.
    RunCheck {
        place: Place,
        canary: CanaryId,
        instance: InstanceId,
        release: Arc<Release>,
        port: Option<u16>,
        check: CommandCheck,
    },
    /// Have the gate follow a program. Answered by `GateAnswered`; from then on `GateSaid` tells
    /// of each change of its state, and `GateLost` when it is gone.
    TellGate {
        revision: u64,
        program: Box<GateProgram>,
    },
    /// Remove from disk what is not named here (E7). The latest one counts, at once: what it
    /// names may be asked for next.
    Retain(Retained),
}
