//! What the test sees of both sides, as they publish it themselves.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use cutover_coordinator_core::{
    Coordinator, SessionId, invariants,
    rollout::{Outcome, State},
};

/// A coordinator, as its core knows the fleet.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CoordinatorSeen {
    /// How often it was started.
    pub starts: u64,
    pub term: u64,
    /// The session of each agent that has one.
    pub sessions: BTreeMap<String, u64>,
    /// How many connections of agents are open.
    pub connections: usize,
    /// The state of the newest rollout, as a word, and why.
    pub rollout: Option<(&'static str, String)>,
}

/// An agent, as its engine knows itself.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AgentSeen {
    pub is_joined: bool,
    /// The term of the latest welcome.
    pub term: u64,
    /// When the latest heartbeat that was echoed had been sent: by the host's own clock, since the
    /// simulation began.
    pub permitted_at: Option<Duration>,
    /// How many starts, stops and hooks were performed.
    pub effects: Vec<String>,
}

/// Both sides. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen(Arc<Mutex<Everything>>);

#[derive(Debug, Default)]
struct Everything {
    coordinator: CoordinatorSeen,
    agents: BTreeMap<String, AgentSeen>,
}

impl Seen {
    pub(crate) fn coordinator(&self) -> CoordinatorSeen {
        self.lock().coordinator.clone()
    }

    pub(crate) fn agent(&self, name: &str) -> AgentSeen {
        self.lock().agents.get(name).cloned().unwrap_or_default()
    }

    pub(crate) fn change_coordinator(&self, change: impl FnOnce(&mut CoordinatorSeen)) {
        change(&mut self.lock().coordinator);
    }

    pub(crate) fn change_agent(&self, name: &str, change: impl FnOnce(&mut AgentSeen)) {
        change(self.lock().agents.entry(name.to_owned()).or_default());
    }

    fn lock(&self) -> MutexGuard<'_, Everything> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many session numbers beyond the highest seen are looked at: more than can open at once.
const SESSIONS_AHEAD: u64 = 128;

/// Returns the session of each agent.
///
/// # Panics
///
/// If a promise of the core is broken, or an agent has two sessions.
pub(crate) fn sessions_of(core: &Coordinator, highest: &mut u64) -> BTreeMap<String, u64> {
    assert!(invariants::f1_one_rollout(core), "F1: two rollouts on one host");
    assert!(core.active().all(invariants::a4_budget_is_kept), "A4: the failure budget is spent");
    let mut sessions = BTreeMap::new();
    for number in 1..=*highest + SESSIONS_AHEAD {
        let Some(agent) = core.fleet().agent(SessionId(number)) else { continue };
        *highest = number.max(*highest);
        let earlier = sessions.insert(agent.to_string(), number);
        assert_eq!(earlier, None, "agent {agent} has two sessions, the later is {number}");
        assert_eq!(core.fleet().session(agent), Some(SessionId(number)), "of agent {agent}");
    }
    sessions
}

/// Returns how the newest rollout stands.
pub(crate) fn rollout_of(core: &Coordinator, id: uuid::Uuid) -> Option<(&'static str, String)> {
    let rollout = core.rollout(id)?;
    let (word, why) = match &rollout.state {
        State::Advancing { .. } => ("advancing", String::new()),
        State::Baking { .. } => ("baking", String::new()),
        State::RollingBack { .. } => ("rolling_back", String::new()),
        State::Paused { .. } => ("paused", String::new()),
        State::Held { why, .. } => ("held", why.clone()),
        State::Ended { outcome: Outcome::Succeeded, why, .. } => ("succeeded", why.clone()),
        State::Ended { outcome: Outcome::RolledBack, why, .. } => ("rolled_back", why.clone()),
        State::Ended { outcome: Outcome::Aborted, why, .. } => ("aborted", why.clone()),
        State::Ended { outcome: Outcome::Staged, why, .. } => ("staged", why.clone()),
    };
    Some((word, why))
}
