//! The state of a rollout: what is true in it, and what may follow what.

use std::collections::BTreeMap;

use cutover_common::{AgentName, ApplicationName, EnvironmentName, Timestamp, Version};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Plan, PlanStep, Spec, story};
use crate::event::{Change, RolloutStarted};

/// How many lines of history a rollout keeps in memory: a flapping host must not grow it for
/// ever. The log has them all.
const HISTORY_MAX: usize = 2_000;

/// One rollout.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rollout {
    pub id: Uuid,
    pub request_id: Uuid,
    pub application: ApplicationName,
    pub environment: EnvironmentName,
    pub from: Option<Version>,
    pub to: Version,
    pub spec: Spec,
    pub plan: Plan,
    pub by: String,
    pub started: Timestamp,
    pub state: State,
    pub hosts: BTreeMap<AgentName, Host>,
    pub history: Vec<(Timestamp, String)>,
    /// When something last went forward; the standstill clock runs from here.
    pub progressed: Timestamp,
}

/// One host of a rollout.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Host {
    pub wave: usize,
    pub state: HostState,
}

/// Where a host stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HostState {
    /// Not told anything but to prepare.
    Pending,
    /// Was told to switch. Holds a disruption token.
    Updating { since: Timestamp },
    /// Runs the new release; was in settled health.
    Updated,
    /// The new release does not work here. `touched`: it was told to switch.
    Failed { why: String, touched: bool },
    /// Left out, as nothing is known of it. `touched`: it was told to switch.
    Unreachable { why: String, touched: bool },
    /// Was told to go back. Holds a disruption token.
    Reverting { since: Timestamp },
    /// Runs what it ran before.
    Reverted,
    /// Could not be brought back.
    Stuck { why: String },
}

impl HostState {
    /// Returns whether the host may run something else than before the rollout.
    pub const fn is_touched(&self) -> bool {
        match self {
            Self::Pending | Self::Reverted => false,
            Self::Updating { .. } | Self::Updated | Self::Reverting { .. } | Self::Stuck { .. } => {
                true
            }
            Self::Failed { touched, .. } | Self::Unreachable { touched, .. } => *touched,
        }
    }

    /// Returns whether the host counts as being disrupted by us (A1).
    pub const fn holds_token(&self) -> bool {
        matches!(self, Self::Updating { .. } | Self::Reverting { .. })
    }
}

/// Where a rollout stands. Each state holds just the facts that are true in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum State {
    /// A step of a wave is under way.
    Advancing { wave: usize, step: usize, since: Timestamp },
    /// Every wave is done; all are watched.
    Baking { since: Timestamp },
    /// Touched hosts go back, wave by wave.
    RollingBack { cause: Cause, waves: Vec<Vec<AgentName>>, wave: usize, since: Timestamp },
    /// An operator stopped it for a while.
    Paused { was: Box<State>, by: String, reason: String },
    /// It stopped itself and needs a person.
    Held { was: Box<State>, why: String },
    Ended { outcome: Outcome, why: String, at: Timestamp },
}

/// Why a rollout goes back.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub enum Cause {
    /// More hosts failed than the budget bears.
    Failed { agent: AgentName, why: String, failed: u32, max_failed: u32 },
    Operator { by: String, reason: String },
}

/// How a rollout ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub enum Outcome {
    Succeeded,
    RolledBack,
    /// Stopped by an operator; hosts stay as they are.
    Aborted,
}

/// Which way a rollout is going.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    Forward,
    Back,
}

/// A change that does not fit the state. On replay it means a damaged or foreign log.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("rollout {id}: {change} cannot follow {state}")]
pub struct IllegalChange {
    id: Uuid,
    change: String,
    state: String,
}

impl Rollout {
    /// Makes the rollout that `started` describes.
    pub fn new(started: RolloutStarted, at: Timestamp) -> Self {
        let RolloutStarted {
            id,
            request_id,
            application,
            environment,
            from,
            to,
            spec,
            plan,
            by,
        } = started;
        let hosts = plan
            .waves
            .iter()
            .enumerate()
            .flat_map(|(wave, planned)| {
                let host = Host { wave, state: HostState::Pending };
                planned.agents.iter().map(move |agent| (agent.clone(), host.clone()))
            })
            .collect();
        let mut rollout = Self {
            id,
            request_id,
            application,
            environment,
            from,
            to,
            spec,
            plan,
            by,
            started: at,
            state: State::Advancing { wave: 0, step: 0, since: at },
            hosts,
            history: Vec::new(),
            progressed: at,
        };
        rollout.history.push((at, story::begun(&rollout)));
        rollout
    }

    /// Returns whether it is over. What is over does not change (E5).
    pub const fn is_over(&self) -> bool {
        matches!(self.state, State::Ended { .. })
    }

    /// Returns the step that is under way, if one is.
    pub fn step(&self) -> Option<(usize, PlanStep)> {
        match &self.state {
            State::Advancing { wave, step, .. } => {
                self.plan.waves.get(*wave)?.steps.get(*step).map(|step_now| (*wave, *step_now))
            }
            State::Baking { .. }
            | State::RollingBack { .. }
            | State::Paused { .. }
            | State::Held { .. }
            | State::Ended { .. } => None,
        }
    }

    /// Returns which way it goes, looking through pauses and holds.
    pub const fn direction(&self) -> Direction {
        let mut state = &self.state;
        loop {
            match state {
                State::Paused { was, .. } | State::Held { was, .. } => state = was,
                State::RollingBack { .. } => return Direction::Back,
                State::Advancing { .. } | State::Baking { .. } | State::Ended { .. } => {
                    return Direction::Forward;
                }
            }
        }
    }

    /// Returns the hosts in a state that `wanted` says yes to.
    pub fn hosts_where(&self, wanted: impl Fn(&Host) -> bool) -> Vec<AgentName> {
        self.hosts.iter().filter(|(_, host)| wanted(host)).map(|(agent, _)| agent.clone()).collect()
    }

    /// Applies a change. The only writer of a rollout's state, live and on replay.
    ///
    /// # Errors
    ///
    /// Refuses what does not fit, so that a corrupt log stops us instead of being half believed.
    pub fn apply(&mut self, change: &Change, at: Timestamp) -> Result<(), IllegalChange> {
        let told = story::of(self, change);
        self.transition(change, at)?;
        if self.history.len() < HISTORY_MAX {
            self.history.push((at, told));
        }
        Ok(())
    }

    /// A new process has begun: what was being watched is watched from the start again, and no
    /// deadline is shorter for our absence (A4, promises.md §3 row 25).
    pub fn restart_clocks(&mut self, at: Timestamp) {
        self.progressed = at;
        let mut state = &mut self.state;
        loop {
            match state {
                State::Paused { was, .. } | State::Held { was, .. } => state = was,
                State::Advancing { since, .. }
                | State::Baking { since }
                | State::RollingBack { since, .. } => {
                    *since = at;
                    break;
                }
                State::Ended { .. } => return,
            }
        }
        for host in self.hosts.values_mut() {
            match &mut host.state {
                HostState::Updating { since } | HostState::Reverting { since } => *since = at,
                HostState::Pending
                | HostState::Updated
                | HostState::Failed { .. }
                | HostState::Unreachable { .. }
                | HostState::Reverted
                | HostState::Stuck { .. } => {}
            }
        }
    }

    fn transition(&mut self, change: &Change, at: Timestamp) -> Result<(), IllegalChange> {
        match change {
            Change::StepStarted { .. }
            | Change::BakeStarted
            | Change::RollbackStarted { .. }
            | Change::RollbackWave { .. }
            | Change::Paused { .. }
            | Change::Resumed { .. }
            | Change::Held { .. }
            | Change::Retried { .. }
            | Change::Ended { .. } => {
                let next = self.next_state(change, at).ok_or_else(|| self.illegal(change))?;
                self.state = next;
                if let Change::Retried { .. } = change {
                    self.send_again();
                }
                if !matches!(change, Change::Paused { .. } | Change::Held { .. }) {
                    self.progressed = at;
                }
                Ok(())
            }
            Change::HostsReleased { agents } => {
                self.move_hosts(change, agents, &HostState::Updating { since: at })?;
                self.progressed = at;
                Ok(())
            }
            Change::HostsReverted { agents } => {
                self.move_hosts(change, agents, &HostState::Reverting { since: at })?;
                self.progressed = at;
                Ok(())
            }
            Change::HostsWithdrawn { agents } => {
                self.move_hosts(change, agents, &HostState::Pending)
            }
            Change::HostUpdated { agent } => {
                self.progressed = at;
                self.move_host(change, agent, HostState::Updated)
            }
            Change::HostReverted { agent } => {
                self.progressed = at;
                self.move_host(change, agent, HostState::Reverted)
            }
            Change::HostFailed { agent, why } => {
                let touched = self.touched(agent);
                self.move_host(change, agent, HostState::Failed { why: why.clone(), touched })
            }
            Change::HostUnreachable { agent, why } => {
                let touched = self.touched(agent);
                let state = HostState::Unreachable { why: why.clone(), touched };
                self.move_host(change, agent, state)
            }
            Change::HostStuck { agent, why } => {
                self.move_host(change, agent, HostState::Stuck { why: why.clone() })
            }
        }
    }

    /// Returns the state that follows when `change` happens; none where it may not.
    fn next_state(&self, change: &Change, at: Timestamp) -> Option<State> {
        Some(match (&self.state, change) {
            (State::Advancing { .. }, Change::StepStarted { wave, step }) => {
                let exists = self.plan.waves.get(*wave)?.steps.len() > *step;
                exists.then_some(State::Advancing { wave: *wave, step: *step, since: at })?
            }
            (State::Advancing { .. }, Change::BakeStarted) => State::Baking { since: at },
            (
                State::Advancing { .. }
                | State::Baking { .. }
                | State::Paused { .. }
                | State::Held { .. },
                Change::RollbackStarted { cause, waves },
            ) if self.direction() == Direction::Forward => {
                State::RollingBack { cause: cause.clone(), waves: waves.clone(), wave: 0, since: at }
            }
            (State::RollingBack { cause, waves, wave, .. }, Change::RollbackWave { wave: next })
                if *next == wave + 1 && *next < waves.len() =>
            {
                State::RollingBack {
                    cause: cause.clone(),
                    waves: waves.clone(),
                    wave: *next,
                    since: at,
                }
            }
            (
                was @ (State::Advancing { .. } | State::Baking { .. } | State::RollingBack { .. }),
                Change::Paused { by, reason },
            ) => State::Paused {
                was: Box::new(was.clone()),
                by: by.clone(),
                reason: reason.clone(),
            },
            (State::Paused { was, .. }, Change::Resumed { .. }) => resumed(was, at)?,
            (
                was @ (State::Advancing { .. } | State::Baking { .. } | State::RollingBack { .. }),
                Change::Held { why },
            ) => State::Held { was: Box::new(was.clone()), why: why.clone() },
            (State::Held { was, .. }, Change::Retried { .. }) => self.retried(was, at)?,
            (
                State::Advancing { .. }
                | State::Baking { .. }
                | State::RollingBack { .. }
                | State::Paused { .. }
                | State::Held { .. },
                Change::Ended { outcome, why },
            ) => State::Ended { outcome: *outcome, why: why.clone(), at },
            (_, _) => return None,
        })
    }

    /// Returns where a held rollout goes on: at the first wave that has hosts left to do.
    fn retried(&self, was: &State, at: Timestamp) -> Option<State> {
        Some(match was {
            State::RollingBack { cause, waves, .. } => {
                State::RollingBack { cause: cause.clone(), waves: waves.clone(), wave: 0, since: at }
            }
            State::Advancing { .. } | State::Baking { .. } => {
                let wave = self
                    .hosts
                    .values()
                    .filter(|host| !matches!(host.state, HostState::Updated))
                    .map(|host| host.wave)
                    .min()
                    .unwrap_or(0);
                State::Advancing { wave, step: 0, since: at }
            }
            State::Paused { .. } | State::Held { .. } | State::Ended { .. } => return None,
        })
    }

    /// Failed, unreachable and stuck hosts begin again.
    fn send_again(&mut self) {
        let back = self.direction() == Direction::Back;
        for host in self.hosts.values_mut() {
            match &host.state {
                HostState::Failed { .. } | HostState::Unreachable { .. } if !back => {
                    host.state = HostState::Pending;
                }
                HostState::Stuck { .. } | HostState::Reverting { .. } if back => {
                    host.state =
                        HostState::Failed { why: "going back again".to_owned(), touched: true };
                }
                HostState::Failed { .. }
                | HostState::Unreachable { .. }
                | HostState::Stuck { .. }
                | HostState::Pending
                | HostState::Updating { .. }
                | HostState::Updated
                | HostState::Reverting { .. }
                | HostState::Reverted => {}
            }
        }
    }

    fn touched(&self, agent: &AgentName) -> bool {
        self.hosts.get(agent).is_some_and(|host| host.state.is_touched())
    }

    fn move_hosts(
        &mut self,
        change: &Change,
        agents: &[AgentName],
        to: &HostState,
    ) -> Result<(), IllegalChange> {
        agents.iter().try_for_each(|agent| self.move_host(change, agent, to.clone()))
    }

    fn move_host(
        &mut self,
        change: &Change,
        agent: &AgentName,
        to: HostState,
    ) -> Result<(), IllegalChange> {
        let is_over = self.is_over();
        let illegal = self.illegal(change);
        match self.hosts.get_mut(agent) {
            Some(host) if !is_over && may_move(&host.state, &to) => {
                host.state = to;
                Ok(())
            }
            Some(_) | None => Err(illegal),
        }
    }

    fn illegal(&self, change: &Change) -> IllegalChange {
        IllegalChange {
            id: self.id,
            change: format!("{change:?}"),
            state: format!("{:?}", self.state),
        }
    }
}

fn resumed(was: &State, at: Timestamp) -> Option<State> {
    Some(match was.clone() {
        // What was watched before the pause is watched anew: nobody acted on it meanwhile.
        State::Advancing { wave, step, .. } => State::Advancing { wave, step, since: at },
        State::Baking { .. } => State::Baking { since: at },
        State::RollingBack { cause, waves, wave, .. } => {
            State::RollingBack { cause, waves, wave, since: at }
        }
        State::Paused { .. } | State::Held { .. } | State::Ended { .. } => return None,
    })
}

/// Returns whether a host may go from the one state to the other.
const fn may_move(from: &HostState, to: &HostState) -> bool {
    match (from, to) {
        (
            HostState::Pending,
            HostState::Updating { .. } | HostState::Failed { .. } | HostState::Unreachable { .. },
        )
        | (
            HostState::Updating { .. },
            HostState::Updated
            | HostState::Failed { .. }
            | HostState::Unreachable { .. }
            | HostState::Reverting { .. }
            | HostState::Pending,
        )
        | (HostState::Updated, HostState::Failed { .. } | HostState::Reverting { .. })
        | (HostState::Failed { touched: true, .. }, HostState::Reverting { .. })
        | (HostState::Unreachable { touched: true, .. }, HostState::Reverting { .. })
        | (HostState::Reverting { .. }, HostState::Reverted | HostState::Stuck { .. }) => true,
        (
            HostState::Pending
            | HostState::Updating { .. }
            | HostState::Updated
            | HostState::Failed { .. }
            | HostState::Unreachable { .. }
            | HostState::Reverting { .. }
            | HostState::Reverted
            | HostState::Stuck { .. },
            _,
        ) => false,
    }
}
