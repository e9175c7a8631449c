//! What may follow what: legal pairs are listed, all others refused.

mod beside;

use cutover_common::{AgentName, Permille, Timestamp, planted};

use super::{Direction, Exclusion, HostState, IllegalChange, Outcome, Rollout, State};
use crate::{event::Change, once::OnceStep};

impl Rollout {
    /// Makes `change` of the state and of the hosts, or of neither.
    pub(super) fn transition(
        &mut self,
        change: &Change,
        at: Timestamp,
    ) -> Result<(), IllegalChange> {
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
                self.state = self.next_state(change, at).ok_or_else(|| self.illegal(change))?;
                if let Change::Retried { .. } = change {
                    (self.promoted, self.cutover) = (None, None);
                    self.begun_anew = self.begun_anew.saturating_add(1);
                    self.send_again();
                }
                // Nobody acted meanwhile on what was watched.
                if let Change::Retried { .. } | Change::Resumed { .. } = change {
                    self.watch_anew(at);
                }
            }
            Change::HostsReleased { agents } => {
                self.move_hosts(change, agents, &HostState::Updating { since: at })?;
            }
            Change::HostsStaged { .. }
            | Change::HostStaged { .. }
            | Change::HostsShifted { .. }
            | Change::CutoverMoved { .. }
            | Change::HostsFlipped { .. }
            | Change::GroupSwitched { .. }
            | Change::HostsRetired { .. }
            | Change::HostsTold { .. } => self.move_beside(change, at)?,
            Change::HostsReverted { agents } => {
                self.move_hosts(change, agents, &HostState::Reverting { since: at })?;
            }
            Change::Once { .. } if self.is_over() => return Err(self.illegal(change)),
            Change::Once { .. } => {}
            Change::HostsWithdrawn { agents } => self.withdraw_hosts(change, agents)?,
            Change::Promoted { full, .. } => self.promote(change, *full)?,
            Change::HostsExcluded { agents, cause } => {
                self.exclude_hosts(change, agents, cause)?;
            }
            Change::HostUpdated { agent } => {
                self.move_host(change, agent, HostState::Updated)?;
                if let Some(host) = self.hosts.get_mut(agent) {
                    host.watched = Some(at);
                }
            }
            Change::HostReverted { agent } => {
                self.move_host(change, agent, HostState::Reverted)?;
            }
            Change::HostFailed { agent, why } => {
                let touched = self.touched(agent);
                self.move_host(change, agent, HostState::Failed { why: why.clone(), touched })?;
            }
            Change::HostUnreachable { agent, why } => {
                let touched = self.touched(agent);
                let state = HostState::Unreachable { why: why.clone(), touched };
                self.move_host(change, agent, state)?;
            }
            Change::HostStuck { agent, why } => {
                self.move_host(change, agent, HostState::Stuck { why: why.clone() })?;
            }
        }
        if goes_on(change) {
            self.progressed = at;
        }
        Ok(())
    }

    /// Returns the state that follows when `change` happens; none where it may not.
    fn next_state(&self, change: &Change, at: Timestamp) -> Option<State> {
        Some(match (&self.state, change) {
            (
                State::Advancing { wave, step, .. },
                Change::StepStarted { wave: next_wave, step: next_step },
            ) if self.is_next(*wave, *step, *next_wave, *next_step) => {
                State::Advancing { wave: *next_wave, step: *next_step, since: at }
            }
            (State::Advancing { .. }, Change::BakeStarted) => State::Baking { since: at },
            (
                State::Advancing { .. }
                | State::Baking { .. }
                | State::Paused { .. }
                | State::Held { .. },
                Change::RollbackStarted { cause, waves },
            ) if self.direction() == Direction::Forward => State::RollingBack {
                cause: cause.clone(),
                waves: waves.clone(),
                wave: 0,
                since: at,
            },
            (
                State::RollingBack { cause, waves, wave, .. },
                Change::RollbackWave { wave: next },
            ) if *next == wave + 1 && *next < waves.len() => State::RollingBack {
                cause: cause.clone(),
                waves: waves.clone(),
                wave: *next,
                since: at,
            },
            (
                was @ (State::Advancing { .. } | State::Baking { .. } | State::RollingBack { .. }),
                Change::Paused { by, reason },
            ) => {
                let (was, by, reason) = (Box::new(was.clone()), by.clone(), reason.clone());
                State::Paused { was, by, reason, since: at }
            }
            (State::Paused { was, .. }, Change::Resumed { .. }) => resumed(was, at)?,
            (
                was @ (State::Advancing { .. } | State::Baking { .. } | State::RollingBack { .. }),
                Change::Held { why },
            ) => State::Held { was: Box::new(was.clone()), why: why.clone(), since: at },
            (State::Held { was, .. }, Change::Retried { .. }) => self.retried(was, at)?,
            (state, Change::Ended { outcome, why }) if may_end(state, *outcome) => {
                State::Ended { outcome: *outcome, why: why.clone(), at }
            }
            (_, _) => return None,
        })
    }

    /// Returns whether a step follows another: the next of its wave, or the first of the next.
    fn is_next(&self, wave: usize, step: usize, next_wave: usize, next_step: usize) -> bool {
        let steps = |wave: usize| self.plan.waves.get(wave).map_or(0, |wave| wave.steps.len());
        let is_successor = (next_wave, next_step) == (wave, step + 1)
            || (next_wave, next_step) == (wave + 1, 0) && step + 1 == steps(wave);
        is_successor && next_step < steps(next_wave)
    }

    /// Returns where a held rollout goes on: at the first wave that has hosts left to do.
    fn retried(&self, was: &State, at: Timestamp) -> Option<State> {
        Some(match was {
            State::RollingBack { cause, waves, .. } => State::RollingBack {
                cause: cause.clone(),
                waves: waves.clone(),
                wave: 0,
                since: at,
            },
            State::Advancing { .. } | State::Baking { .. } => {
                let wave = self
                    .hosts
                    .values()
                    .filter(|host| {
                        !matches!(host.state, HostState::Updated | HostState::Excluded { .. })
                    })
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
                | HostState::Staging { .. }
                | HostState::Staged
                | HostState::Updating { .. }
                | HostState::Updated
                | HostState::Reverting { .. }
                | HostState::Reverted => {}
                HostState::Excluded { .. } => {
                    let stays = host.state.clone();
                    host.state = planted!(ExclusionForgotten: HostState::Pending; stays);
                }
            }
        }
    }

    fn touched(&self, agent: &AgentName) -> bool {
        self.hosts.get(agent).is_some_and(super::Host::is_touched)
    }

    fn move_hosts(
        &mut self,
        change: &Change,
        agents: &[AgentName],
        to: &HostState,
    ) -> Result<(), IllegalChange> {
        if !agents.iter().all(|agent| self.can_move(change, agent, to)) {
            return Err(self.illegal(change));
        }
        agents.iter().try_for_each(|agent| self.move_host(change, agent, to.clone()))
    }

    /// What was called back was never told. One that was out of reach stays left out, and counts
    /// as such.
    fn withdraw_hosts(
        &mut self,
        change: &Change,
        agents: &[AgentName],
    ) -> Result<(), IllegalChange> {
        let was_told = |agent: &AgentName| {
            self.hosts.get(agent).is_some_and(|host| match host.state {
                HostState::Staged => host.share != host.share_before,
                HostState::Updating { .. }
                | HostState::Failed { touched: true, .. }
                | HostState::Unreachable { touched: true, .. } => true,
                HostState::Pending
                | HostState::Staging { .. }
                | HostState::Updated
                | HostState::Failed { .. }
                | HostState::Unreachable { .. }
                | HostState::Reverting { .. }
                | HostState::Reverted
                | HostState::Stuck { .. }
                | HostState::Excluded { .. } => false,
            })
        };
        if !fits(&self.state, self.direction(), change) || !agents.iter().all(was_told) {
            return Err(self.illegal(change));
        }
        for agent in agents {
            let Some(host) = self.hosts.get_mut(agent) else { continue };
            // What was staged before stays so.
            host.tries = u32::from(host.is_staged);
            host.share = host.share_if_called_back();
            host.state = match &host.state {
                HostState::Updating { .. } | HostState::Staged if host.is_staged => {
                    HostState::Staged
                }
                HostState::Unreachable { why, .. } => {
                    HostState::Unreachable { why: why.clone(), touched: false }
                }
                HostState::Failed { why, .. } => {
                    HostState::Failed { why: why.clone(), touched: false }
                }
                HostState::Pending
                | HostState::Staging { .. }
                | HostState::Staged
                | HostState::Updating { .. }
                | HostState::Updated
                | HostState::Reverting { .. }
                | HostState::Reverted
                | HostState::Stuck { .. }
                | HostState::Excluded { .. } => HostState::Pending,
            };
        }
        Ok(())
    }

    /// Takes hosts out for good: whoever wants one back deploys anew.
    fn exclude_hosts(
        &mut self,
        change: &Change,
        agents: &[AgentName],
        cause: &Exclusion,
    ) -> Result<(), IllegalChange> {
        let is_for_good = matches!(cause, Exclusion::Operator { .. });
        let is_in = |agent: &AgentName| {
            let host = self.hosts.get(agent);
            host.is_some_and(|host| host.state.can_be_left_out(is_for_good))
        };
        if !fits(&self.state, self.direction(), change) || !agents.iter().all(is_in) {
            return Err(self.illegal(change));
        }
        for agent in agents {
            let Some(host) = self.hosts.get_mut(agent) else { continue };
            host.state = HostState::Excluded { cause: cause.clone(), touched: host.is_touched() };
        }
        Ok(())
    }

    fn can_move(&self, change: &Change, agent: &AgentName, to: &HostState) -> bool {
        fits(&self.state, self.direction(), change)
            && self.hosts.get(agent).is_some_and(|host| may_move(&host.state, to))
    }

    fn move_host(
        &mut self,
        change: &Change,
        agent: &AgentName,
        to: HostState,
    ) -> Result<(), IllegalChange> {
        let can_move = self.can_move(change, agent, &to);
        match self.hosts.get_mut(agent) {
            Some(host) if can_move => {
                host.tries = match to {
                    HostState::Updating { .. } | HostState::Staging { .. } => {
                        host.tries.saturating_add(1)
                    }
                    HostState::Reverted => 0,
                    HostState::Pending
                    | HostState::Staged
                    | HostState::Updated
                    | HostState::Failed { .. }
                    | HostState::Unreachable { .. }
                    | HostState::Reverting { .. }
                    | HostState::Stuck { .. }
                    | HostState::Excluded { .. } => host.tries,
                };
                if to == HostState::Reverted {
                    (host.is_staged, host.share, host.share_before) =
                        (false, Permille::NONE, Permille::NONE);
                }
                host.state = to;
                Ok(())
            }
            Some(_) | None => Err(self.illegal(change)),
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

/// Returns whether `change` is a step forward, from which a standstill is counted.
const fn goes_on(change: &Change) -> bool {
    match change {
        Change::StepStarted { .. }
        | Change::BakeStarted
        | Change::RollbackStarted { .. }
        | Change::RollbackWave { .. }
        | Change::Resumed { .. }
        | Change::Retried { .. }
        | Change::Promoted { .. }
        | Change::Ended { .. }
        | Change::HostsStaged { .. }
        | Change::HostStaged { .. }
        | Change::HostsShifted { .. }
        | Change::HostsFlipped { .. }
        | Change::GroupSwitched { .. }
        | Change::HostsRetired { .. }
        | Change::HostsReleased { .. }
        | Change::HostsReverted { .. }
        | Change::HostsExcluded { .. }
        | Change::HostUpdated { .. }
        | Change::Once { step: OnceStep::Given | OnceStep::Passed | OnceStep::Freed { .. }, .. }
        | Change::HostReverted { .. } => true,
        Change::Paused { .. }
        | Change::Held { .. }
        // Attempts that fail are no progress.
        | Change::HostsTold { .. }
        | Change::CutoverMoved { .. }
        | Change::HostsWithdrawn { .. }
        | Change::HostFailed { .. }
        | Change::HostUnreachable { .. }
        | Change::Once {
            step:
                OnceStep::Failed
                | OnceStep::Interrupted
                | OnceStep::Lost
                | OnceStep::Forgotten,
            ..
        }
        | Change::HostStuck { .. } => false,
    }
}

/// Returns whether `change`, which is one of hosts, may happen in `state`. Nothing is begun while
/// a rollout is paused or held; what is found out about hosts is noted until it is over (E5).
const fn fits(state: &State, direction: Direction, change: &Change) -> bool {
    let is_forward = matches!(direction, Direction::Forward);
    match change {
        Change::HostsReleased { .. } | Change::HostsStaged { .. } | Change::HostsFlipped { .. } => {
            matches!(state, State::Advancing { .. })
        }
        Change::HostsReverted { .. } => matches!(state, State::RollingBack { .. }),
        Change::HostsWithdrawn { .. } | Change::HostsExcluded { .. } => {
            !matches!(state, State::Ended { .. })
        }
        Change::HostUpdated { .. }
        | Change::HostStaged { .. }
        | Change::HostFailed { .. }
        | Change::HostUnreachable { .. } => is_forward && !matches!(state, State::Ended { .. }),
        Change::HostReverted { .. } | Change::HostStuck { .. } => !is_forward,
        Change::StepStarted { .. }
        | Change::HostsShifted { .. }
        | Change::CutoverMoved { .. }
        | Change::GroupSwitched { .. }
        | Change::HostsRetired { .. }
        | Change::HostsTold { .. }
        | Change::BakeStarted
        | Change::RollbackStarted { .. }
        | Change::RollbackWave { .. }
        | Change::Paused { .. }
        | Change::Resumed { .. }
        | Change::Held { .. }
        | Change::Retried { .. }
        | Change::Promoted { .. }
        | Change::Once { .. }
        | Change::Ended { .. } => false,
    }
}

const fn may_end(state: &State, outcome: Outcome) -> bool {
    match outcome {
        Outcome::Succeeded | Outcome::Staged => {
            matches!(state, State::Advancing { .. } | State::Baking { .. })
        }
        Outcome::RolledBack => matches!(state, State::RollingBack { .. }),
        Outcome::Aborted => !matches!(state, State::Ended { .. }),
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
            HostState::Staging { .. }
            | HostState::Updating { .. }
            | HostState::Failed { .. }
            | HostState::Unreachable { .. },
        )
        | (
            HostState::Staging { .. },
            HostState::Staged
            | HostState::Failed { .. }
            | HostState::Unreachable { .. }
            | HostState::Reverting { .. },
        )
        | (
            HostState::Staged,
            HostState::Updating { .. }
            | HostState::Updated
            | HostState::Failed { .. }
            | HostState::Unreachable { .. }
            | HostState::Reverting { .. },
        )
        | (
            HostState::Updating { .. },
            HostState::Updated
            | HostState::Failed { .. }
            | HostState::Unreachable { .. }
            | HostState::Reverting { .. },
        )
        | (
            HostState::Updated,
            HostState::Failed { .. } | HostState::Unreachable { .. } | HostState::Reverting { .. },
        )
        // One that failed before it was sent again is pending, and must go back all the same; so
        // must one that was to go back and was called back meanwhile.
        | (
            HostState::Pending | HostState::Failed { .. } | HostState::Unreachable { .. },
            HostState::Reverting { .. },
        )
        | (HostState::Reverting { .. }, HostState::Reverted | HostState::Stuck { .. }) => true,
        (
            HostState::Pending
            | HostState::Staging { .. }
            | HostState::Staged
            | HostState::Updating { .. }
            | HostState::Updated
            | HostState::Failed { .. }
            | HostState::Unreachable { .. }
            | HostState::Reverting { .. }
            | HostState::Reverted
            | HostState::Stuck { .. }
            | HostState::Excluded { .. },
            _,
        ) => false,
    }
}

#[cfg(test)]
mod tests;
