//! What may follow what where a release runs beside the one that serves, and what a person may say
//! is good enough.

use cutover_common::{AgentName, Permille, Timestamp};

use super::super::{Cutover, CutoverPhase, HostState, IllegalChange, PlanStep, Rollout, State};
use crate::event::Change;

impl Rollout {
    /// Makes a change of hosts on which the new release runs beside the old one.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the caller has chosen among all of them")]
    pub(super) fn move_beside(
        &mut self,
        change: &Change,
        at: Timestamp,
    ) -> Result<(), IllegalChange> {
        match change {
            Change::HostsStaged { agents } => {
                self.move_hosts(change, agents, &HostState::Staging { since: at })?;
                for agent in agents {
                    let Some(host) = self.hosts.get_mut(agent) else { continue };
                    (host.is_staged, host.share) = (true, Permille::NONE);
                }
                Ok(())
            }
            Change::HostStaged { agent } => self.move_host(change, agent, HostState::Staged),
            Change::HostsShifted { agents, share } => self.shift_hosts(change, agents, *share),
            Change::CutoverMoved { phase } => self.move_cutover(change, *phase, at),
            Change::HostsFlipped { agents } => {
                self.move_hosts(change, agents, &HostState::Updating { since: at })?;
                self.cutover = None;
                Ok(())
            }
            Change::GroupSwitched { group } => self.switch_group(change, group),
            Change::HostsRetired { agents } => self.retire_hosts(change, agents),
            Change::HostsTold { .. } if matches!(self.state, State::Advancing { .. }) => Ok(()),
            _ => Err(self.illegal(change)),
        }
    }

    /// A person says that the step which is under way is done.
    pub(super) fn promote(&mut self, change: &Change, full: bool) -> Result<(), IllegalChange> {
        let promoted = self.promotable().filter(|_| self.can_be_promoted(full));
        self.promoted = Some(promoted.ok_or_else(|| self.illegal(change))?);
        self.is_promoted_in_full |= full;
        Ok(())
    }

    fn has_all(&self, agents: &[AgentName], state: &HostState) -> bool {
        let stands = |agent| self.hosts.get(agent).is_some_and(|host| host.state == *state);
        agents.iter().all(stands)
    }

    fn shift_hosts(
        &mut self,
        change: &Change,
        agents: &[AgentName],
        share: Permille,
    ) -> Result<(), IllegalChange> {
        let is_step = matches!(self.step(), Some((_, PlanStep::Shift(_))));
        if !is_step || !self.has_all(agents, &HostState::Staged) {
            return Err(self.illegal(change));
        }
        for agent in agents {
            let Some(host) = self.hosts.get_mut(agent) else { continue };
            (host.share_before, host.share) = (host.share, share);
        }
        Ok(())
    }

    /// Gates are told to hold and to arm in the step of the cutover only, and to let go whenever they
    /// may be holding.
    fn move_cutover(
        &mut self,
        change: &Change,
        phase: CutoverPhase,
        at: Timestamp,
    ) -> Result<(), IllegalChange> {
        let is_step = matches!(self.step(), Some((_, PlanStep::Cutover)));
        let before = self.cutover.map(|cutover| cutover.phase);
        let may_follow = match (before, phase) {
            (None | Some(CutoverPhase::Release), CutoverPhase::Hold)
            | (Some(CutoverPhase::Hold), CutoverPhase::Arm) => is_step,
            (Some(CutoverPhase::Hold | CutoverPhase::Arm), CutoverPhase::Release) => {
                !self.is_over()
            }
            (_, _) => false,
        };
        if !may_follow {
            return Err(self.illegal(change));
        }
        let attempts = self.cutover.map_or(0, |cutover| cutover.attempt);
        let attempt = attempts + u32::from(phase == CutoverPhase::Hold);
        let held_since = self.cutover.map(|cutover| cutover.since);
        let since = if phase == CutoverPhase::Arm { held_since.unwrap_or(at) } else { at };
        self.cutover = Some(Cutover { phase, since, attempt });
        Ok(())
    }

    /// Edges lead to the new group in the step of the cutover, and back on the way back.
    fn switch_group(&mut self, change: &Change, group: &str) -> Result<(), IllegalChange> {
        let is_step = matches!(self.step(), Some((_, PlanStep::Cutover)));
        let goes_back = matches!(self.state, State::RollingBack { .. });
        let leads = match self.groups() {
            Some(groups) if groups.to == group && is_step && self.leads != Some(true) => true,
            Some(groups)
                if groups.from.as_deref() == Some(group)
                    && goes_back
                    && self.leads == Some(true) =>
            {
                false
            }
            Some(_) | None => return Err(self.illegal(change)),
        };
        (self.leads, self.cutover) = (Some(leads), None);
        Ok(())
    }

    fn retire_hosts(&mut self, change: &Change, agents: &[AgentName]) -> Result<(), IllegalChange> {
        let is_step = matches!(self.step(), Some((_, PlanStep::Retire)));
        // What was replaced ran in the other group, which takes no other part.
        let can_retire = match self.groups() {
            Some(_) => !agents.iter().any(|agent| self.hosts.contains_key(agent)),
            None => self.has_all(agents, &HostState::Updated),
        };
        if !is_step || !can_retire {
            return Err(self.illegal(change));
        }
        for agent in agents {
            let Some(host) = self.hosts.get_mut(agent) else { continue };
            host.is_staged = false;
        }
        Ok(())
    }

    /// Returns the step that a person could say is done, or which is done without a person's word.
    fn promotable(&self) -> Option<(usize, usize)> {
        match &self.state {
            State::Advancing { wave, step, .. } => Some((*wave, *step)),
            State::Baking { .. }
            | State::RollingBack { .. }
            | State::Paused { .. }
            | State::Held { .. }
            | State::Ended { .. } => None,
        }
    }

    /// Returns whether there is a step that waits for a person or for time; in full: any.
    pub(crate) fn can_be_promoted(&self, full: bool) -> bool {
        match self.step() {
            Some((wave, PlanStep::Start)) => full || self.is_window_watched(wave),
            Some((_, PlanStep::Hold(_) | PlanStep::Judge(_) | PlanStep::Approve)) => true,
            Some((
                _,
                PlanStep::Prepare
                | PlanStep::Stage
                | PlanStep::Shift(_)
                | PlanStep::Cutover
                | PlanStep::Retire,
            )) => full,
            None => false,
        }
    }

    /// Returns whether hosts of the wave are watched each for itself.
    fn is_window_watched(&self, wave: usize) -> bool {
        let has_window = self.plan.waves.get(wave).is_some_and(|wave| wave.window.is_some());
        has_window && !self.spec.soak.is_zero()
    }
}
