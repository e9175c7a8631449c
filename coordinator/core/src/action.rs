//! Everything that a coordinator can ask of the world.

use std::{collections::BTreeSet, time::Duration};

use cutover_common::{
    AgentName, Assignment, Compared, EdgeRoutes, ReleaseRef, SourceName, Term, wire::FarewellReason,
};
use uuid::Uuid;

use crate::input::{QueryId, ReplyId, SessionId};

/// Something to be done. Each may be done twice with the result of once.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Action {
    Answer {
        reply: ReplyId,
        answer: Result<Answer, Refusal>,
    },
    Welcome {
        session: SessionId,
        term: Term,
        boot_nonce: Uuid,
    },
    /// Makes the lease that disruption needs.
    Echo {
        session: SessionId,
        nonce: Uuid,
        /// The canaries that are compared on its host.
        compared: Vec<Compared>,
    },
    Assign {
        session: SessionId,
        assignment: Box<Assignment>,
    },
    /// Tell an edge where its gate leads to.
    RouteEdge {
        session: SessionId,
        routes: Box<EdgeRoutes>,
    },
    /// Ask a metrics server. Answered by `Queried`.
    Query {
        query: QueryId,
        source: SourceName,
        text: String,
        within: Duration,
    },
    EndSession {
        session: SessionId,
        reason: EndReason,
    },
    /// Sign a certificate for the key that the call `reply` brought, then answer it.
    SignCertificate {
        reply: ReplyId,
        agent: AgentName,
        enrolment: Uuid,
    },
    /// Exactly these enrolments are valid from here on.
    Enrolments(BTreeSet<(AgentName, Uuid)>),
    /// Something that viewers show has changed.
    Changed,
}

/// Why a session is ended by the coordinator.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EndReason {
    pub reason: FarewellReason,
    pub text: String,
}

/// What was asked for has been done, durably.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Answer {
    Done,
    EnvironmentCreated {
        agents: usize,
    },
    /// The environment's config has this number from now on; none: it was like this before.
    Configured {
        number: Option<u32>,
        /// What it will come to with a deploy: releases as they were pushed.
        concerns: Vec<ReleaseRef>,
    },
    RolloutStarted {
        rollout: Uuid,
        repeated: bool,
    },
    /// It begins when `waits_for` is over; so many in the queue are before it.
    RolloutQueued {
        rollout: Uuid,
        repeated: bool,
        waits_for: Option<Uuid>,
        ahead: usize,
    },
    Controlled {
        rollout: Uuid,
        text: String,
    },
}

/// What was asked for is not done, and nothing has changed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    pub kind: RefusalKind,
    /// What is wrong.
    pub text: String,
    /// What to do next; empty when the text says it.
    pub hint: String,
}

/// How a refusal is told apart by a program.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RefusalKind {
    /// Wrong use: it can never work.
    Invalid,
    /// A name that does not exist.
    NotFound,
    /// It exists already, with another content.
    Exists,
    /// Not in this state.
    State,
    /// The token, the key or the role does not allow it.
    Denied,
}

impl Refusal {
    /// Makes a refusal.
    pub fn new(kind: RefusalKind, text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { kind, text: text.into(), hint: hint.into() }
    }

    /// Refuses an unknown name, with the nearest known one.
    pub fn unknown<'a>(
        what: &str,
        name: &str,
        known: impl IntoIterator<Item = &'a str>,
        list_with: &str,
    ) -> Self {
        let hint = match cutover_common::nearest::nearest(name, known) {
            Some(near) => format!("did you mean {near:?}? `{list_with}` lists all"),
            None => format!("`{list_with}` lists all"),
        };
        Self::new(RefusalKind::NotFound, format!("there is no {what} {name:?}"), hint)
    }
}
