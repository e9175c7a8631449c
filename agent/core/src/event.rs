//! Events: what is remembered. Stored before anything is done about them.

use std::{sync::Arc, time::Duration};

use cutover_common::{
    ApplicationName, Assignment, EdgeRoutes, Generation, HoldLimits, HookKind, InstanceEvidence,
    InstanceId, Release, Sha256, Slot, Term, Timestamp,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Aside, Binding, HookEnd, Remembered};

/// One thing to remember. The stored form is a contract: fields are added, never changed.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub enum Event {
    /// Everything remembered so far, in place of the events that led to it.
    Summarised(Box<Remembered>),
    /// From here on, this coordinator process is the one of its term.
    CoordinatorBound(Binding),
    /// Two coordinator processes claim this term (F3).
    SplitBrainSeen {
        term: Term,
    },
    /// The agent left its coordinator: another one, with terms and generations of its own, may
    /// take over what runs here.
    CoordinatorForgotten,
    AssignmentAccepted(Box<Assignment>),
    /// The gate leads to these hosts from here on, in front of them.
    EdgeRouted(Box<EdgeRoutes>),
    /// What the edge holds of an application is held until other routes come.
    EdgeArmed {
        application: ApplicationName,
        number: u64,
    },
    /// The goal that is held was repeated in a later term.
    TermRaised {
        application: ApplicationName,
        term: Term,
    },
    /// The release is on disk and verified.
    Prepared {
        application: ApplicationName,
        slot: Slot,
        release: Arc<Release>,
    },
    Forgotten {
        application: ApplicationName,
        slot: Slot,
    },
    /// An instance is about to be started: of the release whose instance ended, or else of the
    /// slot's prepared one.
    StartStarted {
        application: ApplicationName,
        slot: Slot,
        instance: InstanceId,
        /// Where it is to listen, if it stands behind the gate.
        #[serde(default)]
        port: Option<u16>,
    },
    Started {
        application: ApplicationName,
        slot: Slot,
        evidence: InstanceEvidence,
    },
    StartFailed {
        application: ApplicationName,
        slot: Slot,
        instance: InstanceId,
        detail: String,
    },
    Exited {
        application: ApplicationName,
        slot: Slot,
        instance: InstanceId,
        detail: String,
    },
    /// The instance is about to be stopped, its `before_stop` hook first if it has one.
    StopStarted {
        application: ApplicationName,
        slot: Slot,
        instance: InstanceId,
    },
    /// A hook that brings a release into service is about to be run.
    HookBegun {
        application: ApplicationName,
        slot: Slot,
        id: Uuid,
        kind: HookKind,
        release: Sha256,
    },
    /// It ended, and nothing of it runs any more.
    HookOver {
        application: ApplicationName,
        slot: Slot,
        id: Uuid,
        end: HookEnd,
    },
    /// No process of the instance is left, and its `after_stop` hook is about to be run.
    AfterStopStarted {
        application: ApplicationName,
        slot: Slot,
        instance: InstanceId,
    },
    /// A hook around a stop ended or was interrupted; the text is for people and empty if all was
    /// well.
    HookEnded {
        application: ApplicationName,
        slot: Slot,
        instance: InstanceId,
        warning: String,
    },
    /// What is new goes to this slot from here on, or nowhere on this host. What was held goes there
    /// too.
    Shifted {
        application: ApplicationName,
        to: Option<Slot>,
        at: Timestamp,
        /// What the other slot gets.
        #[serde(default, skip_serializing_if = "Aside::is_nothing")]
        aside: Aside,
    },
    /// What is new is held from here on, for the goal of this generation.
    HoldBegun {
        application: ApplicationName,
        generation: Generation,
        limits: HoldLimits,
    },
    /// What is held stays so until another goal comes.
    HoldArmed {
        application: ApplicationName,
        generation: Generation,
        limits: HoldLimits,
    },
    /// A hold that was not armed ended by itself: all goes on as before it.
    HoldOver {
        application: ApplicationName,
    },
    /// The application was replaced in place, and nobody was served for so long.
    OutageMeasured {
        application: ApplicationName,
        lasted: Duration,
    },
    /// No process of the instance is left, and none is to be started in its place.
    StopDone {
        application: ApplicationName,
        slot: Slot,
        instance: InstanceId,
    },
}
