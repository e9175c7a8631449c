//! Who may speak: operators, join tokens, enrolled agents.

use std::collections::BTreeMap;

use cutover_common::{AgentName, EnvironmentName, Labels, Sha256, Timestamp, edge::EDGE_LABEL};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How long a join token works (SPIRE's default; promise S4).
pub const JOIN_TOKEN_TTL: std::time::Duration = std::time::Duration::from_secs(600);

/// What an operator may do. Each role may do what the ones before it may.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Deserialize, Serialize)]
pub enum Role {
    Viewer,
    Deployer,
    Approver,
    Admin,
}

impl Role {
    /// Returns the word that is typed and shown.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Deployer => "deployer",
            Self::Approver => "approver",
            Self::Admin => "admin",
        }
    }
}

/// A person or program with a token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Operator {
    pub name: String,
    pub role: Role,
}

/// A token that lets one agent join.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JoinToken {
    pub name: Option<AgentName>,
    pub labels: Labels,
    pub expires: Timestamp,
    /// The agent and the key that used it.
    pub used: Option<Used>,
}

/// By whom a token was used. The same key may ask again, as its answer may have been lost.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Used {
    pub agent: AgentName,
    pub enrolment: Uuid,
    pub key_hash: Sha256,
}

/// An agent that has joined.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Enrolled {
    pub enrolment: Uuid,
    pub labels: Labels,
    pub joined: Timestamp,
}

impl Enrolled {
    /// Returns whether all of `select` fits.
    pub(crate) fn is_selected(&self, select: &Labels) -> bool {
        select.iter().all(|(key, value)| self.labels.get(key) == Some(value))
    }
}

/// That a host is taken out for maintenance.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Drain {
    pub by: String,
    pub reason: String,
    pub since: Timestamp,
}

/// All of them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Enrolments {
    pub operators: BTreeMap<Sha256, Operator>,
    pub tokens: BTreeMap<Sha256, JoinToken>,
    pub agents: BTreeMap<AgentName, Enrolled>,
    /// Of agents whose hosts are taken out for maintenance. A drain survives restarts, and ends with
    /// the enrolment.
    pub(crate) drains: BTreeMap<AgentName, Drain>,
}

impl Enrolments {
    /// Returns the operator whose token has this hash. Looking up a hash of 32 random bytes
    /// tells a guesser nothing by its timing.
    pub fn operator(&self, token_hash: &Sha256) -> Option<&Operator> {
        self.operators.get(token_hash)
    }

    /// Returns why `agent` is taken out for maintenance, if it is.
    pub fn drain(&self, agent: &AgentName) -> Option<&Drain> {
        self.drains.get(agent)
    }

    /// Returns the agents that all of `select` fits.
    pub fn selected<'a>(&'a self, select: &'a Labels) -> impl Iterator<Item = &'a AgentName> {
        self.agents.iter().filter(|(_, agent)| agent.is_selected(select)).map(|(name, _)| name)
    }

    /// Returns the agents whose gates stand in front of `environment`.
    pub fn edges_of<'a>(
        &'a self,
        environment: &'a EnvironmentName,
    ) -> impl Iterator<Item = &'a AgentName> {
        let is_its = |agent: &Enrolled| {
            agent.labels.get(EDGE_LABEL).is_some_and(|of| of == environment.as_str())
        };
        self.agents.iter().filter(move |(_, agent)| is_its(agent)).map(|(name, _)| name)
    }
}
