//! Which enrolments are valid at this moment; the verifier of the agents' port asks it.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use uuid::Uuid;

use super::{PeerIdentity, Role};

/// The valid enrolment of each agent; at most one for a name. Empty admits nobody.
#[derive(Debug, Default)]
pub struct Enrolments(RwLock<HashMap<String, Uuid>>);

impl Enrolments {
    /// Makes the set that holds these agents and no others.
    pub fn new(admitted: impl IntoIterator<Item = (String, Uuid)>) -> Self {
        Self(RwLock::new(admitted.into_iter().collect()))
    }

    /// Admits one enrolment. An earlier one of the same name is not admitted any more.
    pub fn admit(&self, name: impl Into<String>, enrolment: Uuid) {
        let mut admitted = self.0.write().unwrap_or_else(PoisonError::into_inner);
        admitted.insert(name.into(), enrolment);
    }

    /// Admits this agent no more; returns the enrolment that it had.
    ///
    /// Whoever removes an agent must afterwards end its live connections: in this order nobody
    /// slips through (a connection is registered first and looked up here after).
    pub fn remove(&self, name: &str) -> Option<Uuid> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(name)
    }

    /// Replaces the whole set, as read from the log at start.
    pub fn replace(&self, admitted: impl IntoIterator<Item = (String, Uuid)>) {
        let admitted = admitted.into_iter().collect();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = admitted;
    }

    /// Returns whether this is an agent whose enrolment is valid.
    pub fn is_admitted(&self, identity: &PeerIdentity) -> bool {
        let admitted = self.0.read().unwrap_or_else(PoisonError::into_inner);
        identity.role == Role::Agent && admitted.get(&identity.name) == Some(&identity.enrolment)
    }
}
