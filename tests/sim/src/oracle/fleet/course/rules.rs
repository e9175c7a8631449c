//! Which events of a rollout may follow which.

use std::time::Duration;

use cutover_common::Permille;
use cutover_coordinator_core::{
    event::Change,
    rollout::{Cause, CutoverPhase, Exclusion, Outcome, PlanStep},
};

use super::{Course, Member, Phase, Standing};
use crate::{
    moment::Moment,
    oracle::{Violation, fleet::ledger::host_of},
};

impl Course {
    /// Takes a change.
    #[expect(clippy::too_many_lines, reason = "one arm for each kind of change")]
    pub(in crate::oracle::fleet) fn take(
        &mut self,
        change: &Change,
        now: Moment,
    ) -> Result<(), Violation> {
        if self.outcome.is_some() {
            return self.broken("E5", change, "it is over");
        }
        match change {
            Change::StepStarted { wave, step } => {
                self.require(change, self.moves() && self.is_next(*wave, *step))?;
                self.leave_step(change, now)?;
                self.is_promoted = false;
                self.phase = Phase::Forward { wave: *wave, step: *step };
                self.since = Some(now);
            }
            Change::BakeStarted => {
                self.require(change, self.moves() && self.is_last_step())?;
                self.leave_step(change, now)?;
                self.phase = Phase::Bake;
                self.since = Some(now);
            }
            Change::HostsReleased { agents } => self.release(change, agents, now)?,
            Change::HostsStaged { agents } => self.stage(change, agents, now)?,
            Change::HostStaged { agent } => {
                let is_told = |standing: Standing| matches!(standing, Standing::Staging { .. });
                self.member(change, host_of(agent), is_told)?.standing = Standing::Staged;
            }
            Change::HostsShifted { agents, share } => {
                let is_step = matches!(self.step(), Some(PlanStep::Shift(_)));
                self.require(change, self.moves() && is_step)?;
                for agent in agents {
                    let is_staged = |standing: Standing| standing == Standing::Staged;
                    let member = self.member(change, host_of(agent), is_staged)?;
                    (member.share_before, member.share) = (member.share, *share);
                }
            }
            Change::CutoverMoved { phase } => self.move_cutover(change, *phase)?,
            Change::HostsFlipped { agents } => self.flip(change, agents, now)?,
            Change::HostsRetired { agents } => {
                let is_step = matches!(self.step(), Some(PlanStep::Retire));
                self.require(change, self.moves() && is_step)?;
                self.retire(change, agents)?;
            }
            Change::GroupSwitched { group } => self.switch(change, group)?,
            Change::HostsTold { .. } => self.require(change, self.moves())?,
            // Who was chosen, and how it ended, is judged by what hosts really do.
            Change::Once { .. } => {}
            Change::HostsReverted { agents } => self.revert(change, agents, now)?,
            Change::HostsWithdrawn { agents } => self.call_back(change, agents)?,
            Change::HostsExcluded { agents, cause } => {
                for agent in agents {
                    // Who is out for a while can be taken out for good.
                    let is_for_good = matches!(cause, Exclusion::Operator { .. });
                    let is_alone =
                        self.hosts.get(&host_of(agent)).is_some_and(|member| member.is_left_alone);
                    let can_be =
                        |standing: Standing| standing != Standing::Out || is_for_good && !is_alone;
                    let member = self.member(change, host_of(agent), can_be)?;
                    member.standing = Standing::Out;
                    member.is_left_alone = is_for_good;
                }
            }
            Change::HostUpdated { agent } => {
                self.require(change, !self.goes_back())?;
                // Where nothing ran, what was started beside it is all there is.
                let is_told = |standing: Standing| {
                    matches!(standing, Standing::Told { .. } | Standing::Staged)
                };
                self.member(change, host_of(agent), is_told)?.standing = Standing::Done;
            }
            Change::HostReverted { agent } => {
                let is_told = |standing: Standing| matches!(standing, Standing::ToldBack { .. });
                let member = self.member(change, host_of(agent), is_told)?;
                (member.standing, member.told, member.is_staged) = (Standing::Back, 0, false);
                (member.share_before, member.share) = (Permille::NONE, Permille::NONE);
            }
            Change::HostFailed { agent, .. } => {
                self.require(change, !self.goes_back())?;
                self.member(change, host_of(agent), can_fail)?.standing = Standing::Failed;
            }
            Change::HostUnreachable { agent, .. } => {
                self.require(change, !self.goes_back())?;
                self.member(change, host_of(agent), can_fail)?.standing = Standing::LeftOut;
                if self.count(Standing::LeftOut) > count(self.spec.max_unreachable) {
                    return self.broken("A4", change, "max_unreachable bears no more");
                }
            }
            Change::HostStuck { agent, .. } => {
                let is_told = |standing: Standing| matches!(standing, Standing::ToldBack { .. });
                self.member(change, host_of(agent), is_told)?.standing = Standing::Stuck;
            }
            Change::RollbackStarted { .. }
            | Change::RollbackWave { .. }
            | Change::Paused { .. }
            | Change::Resumed { .. }
            | Change::Held { .. }
            | Change::Retried { .. }
            | Change::Promoted { .. }
            | Change::Ended { .. } => self.turn(change, now)?,
        }
        Ok(())
    }

    /// Takes a change of the whole rollout.
    fn turn(&mut self, change: &Change, now: Moment) -> Result<(), Violation> {
        match change {
            Change::RollbackStarted { cause, waves } => {
                self.require(change, !self.goes_back() && self.has_way_back())?;
                if let Cause::Judged { .. } = cause {
                    let is_step =
                        matches!(self.step(), Some(PlanStep::Judge(_) | PlanStep::Approve));
                    self.require(change, self.moves() && is_step)?;
                }
                if let Cause::Failed { .. } = cause {
                    let is_over = self.count(Standing::Failed) > count(self.spec.max_failed);
                    self.require(change, self.moves() && self.spec.auto_rollback)?;
                    if !is_over {
                        return self.broken("A7", change, "no more hosts failed than are borne");
                    }
                }
                let waves = waves.iter().map(|wave| wave.iter().map(host_of).collect()).collect();
                self.phase = Phase::Back { waves, wave: 0 };
                (self.is_paused, self.is_held) = (false, false);
                self.since = Some(now);
            }
            Change::RollbackWave { wave } => self.next_back(change, *wave)?,
            Change::Paused { .. } => {
                self.require(change, self.moves())?;
                self.is_paused = true;
            }
            Change::Resumed { .. } => {
                self.require(change, self.is_paused)?;
                (self.is_paused, self.since) = (false, Some(now));
            }
            Change::Held { .. } => {
                self.require(change, self.moves())?;
                self.is_held = true;
            }
            Change::Retried { .. } => {
                self.require(change, self.is_held)?;
                (self.is_held, self.since) = (false, Some(now));
                (self.is_promoted, self.cutover) = (false, None);
                self.send_again();
            }
            Change::Promoted { full, .. } => {
                self.require(change, self.moves() && self.step().is_some())?;
                (self.is_promoted, self.is_promoted_in_full) =
                    (true, self.is_promoted_in_full || *full);
            }
            Change::Ended { outcome, .. } => self.end(change, *outcome, now)?,
            Change::HostsStaged { .. }
            | Change::HostStaged { .. }
            | Change::HostsShifted { .. }
            | Change::CutoverMoved { .. }
            | Change::HostsFlipped { .. }
            | Change::GroupSwitched { .. }
            | Change::HostsRetired { .. }
            | Change::HostsTold { .. }
            | Change::Once { .. }
            | Change::StepStarted { .. }
            | Change::HostsReleased { .. }
            | Change::HostUpdated { .. }
            | Change::HostFailed { .. }
            | Change::HostUnreachable { .. }
            | Change::BakeStarted
            | Change::HostsReverted { .. }
            | Change::HostReverted { .. }
            | Change::HostStuck { .. }
            | Change::HostsExcluded { .. }
            | Change::HostsWithdrawn { .. } => {}
        }
        Ok(())
    }

    fn end(&mut self, change: &Change, outcome: Outcome, now: Moment) -> Result<(), Violation> {
        match outcome {
            Outcome::Succeeded => {
                self.require(change, self.moves())?;
                match self.phase {
                    Phase::Forward { .. } => {
                        self.require(change, self.is_last_step() && self.spec.bake.is_zero())?;
                        self.leave_step(change, now)?;
                    }
                    Phase::Bake => self.watched_for(change, self.spec.bake, now)?,
                    Phase::Back { .. } => return self.broken("E5", change, "it goes back"),
                }
                if self.count(Standing::Done) == 0 {
                    return self.broken("E4", change, "no host was updated");
                }
            }
            Outcome::RolledBack => {
                self.require(change, self.moves() && self.goes_back())?;
                let goes_back =
                    |member: &Member| member.told > 0 && member.standing != Standing::Out;
                let left = self.hosts_that(goes_back).next();
                if let Some(host) = left {
                    return self.broken("E8", change, &format!("host-{host} has not come back"));
                }
            }
            Outcome::Aborted => {}
            Outcome::Staged => {
                self.require(change, self.moves() && self.is_last_step())?;
                self.leave_step(change, now)?;
                let staged =
                    if self.groups().is_some() { Standing::Done } else { Standing::Staged };
                if self.count(staged) == 0 {
                    return self.broken("E4", change, "no host was staged");
                }
            }
        }
        self.outcome = Some(outcome);
        Ok(())
    }

    fn release(
        &mut self,
        change: &Change,
        agents: &[cutover_common::AgentName],
        now: Moment,
    ) -> Result<(), Violation> {
        let is_start = matches!(self.step(), Some(PlanStep::Start));
        self.require(change, self.moves() && is_start)?;
        if self.count(Standing::Failed) > count(self.spec.max_failed) {
            return self.broken("A4", change, "more hosts failed than are borne");
        }
        let Phase::Forward { wave, .. } = self.phase else { return Ok(()) };
        for agent in agents {
            let waits = |standing: Standing| matches!(standing, Standing::Waits | Standing::Staged);
            let member = self.member(change, host_of(agent), waits)?;
            let is_ahead = member.wave != wave;
            member.standing = Standing::Told { at: now };
            member.told += 1;
            if is_ahead {
                return self.broken("A4", change, "it is a host of another wave");
            }
        }
        let window = self.plan.waves.get(wave).and_then(|wave| wave.window);
        let is_told = |member: &Member| {
            member.wave == wave && matches!(member.standing, Standing::Told { .. })
        };
        if window.is_some_and(|window| self.hosts_that(is_told).count() > count(window)) {
            return self.broken("A4", change, "its window holds no more");
        }
        Ok(())
    }

    fn stage(
        &mut self,
        change: &Change,
        agents: &[cutover_common::AgentName],
        now: Moment,
    ) -> Result<(), Violation> {
        let is_stage = matches!(self.step(), Some(PlanStep::Stage));
        self.require(change, self.moves() && is_stage)?;
        let Phase::Forward { wave, .. } = self.phase else { return Ok(()) };
        for agent in agents {
            let waits = |standing: Standing| standing == Standing::Waits;
            let member = self.member(change, host_of(agent), waits)?;
            member.standing = Standing::Staging { at: now };
            (member.told, member.is_staged) = (member.told + 1, true);
            member.share = Permille::NONE;
            if member.wave != wave {
                return self.broken("A4", change, "it is a host of another wave");
            }
        }
        Ok(())
    }

    /// Gates are held before they are armed, and all of them are armed before any is switched.
    fn move_cutover(&mut self, change: &Change, phase: CutoverPhase) -> Result<(), Violation> {
        let is_step = matches!(self.step(), Some(PlanStep::Cutover));
        let may_follow = match (self.cutover, phase) {
            (None | Some(CutoverPhase::Release), CutoverPhase::Hold)
            | (Some(CutoverPhase::Hold), CutoverPhase::Arm) => self.moves() && is_step,
            (Some(CutoverPhase::Hold | CutoverPhase::Arm), CutoverPhase::Release) => true,
            _ => false,
        };
        self.require(change, may_follow)?;
        self.cutover = Some(phase);
        Ok(())
    }

    fn flip(
        &mut self,
        change: &Change,
        agents: &[cutover_common::AgentName],
        now: Moment,
    ) -> Result<(), Violation> {
        let is_step = matches!(self.step(), Some(PlanStep::Cutover));
        let is_armed = self.cutover == Some(CutoverPhase::Arm);
        self.require(change, self.moves() && is_step && (!self.is_strict() || is_armed))?;
        self.cutover = None;
        for agent in agents {
            let is_staged = |standing: Standing| standing == Standing::Staged;
            let member = self.member(change, host_of(agent), is_staged)?;
            member.standing = Standing::Told { at: now };
            member.told += 1;
        }
        Ok(())
    }

    /// Edges are told where to lead: to the new group in the step of the cutover, and all of them
    /// are armed before if it is strict; to the old one on the way back.
    fn switch(&mut self, change: &Change, group: &str) -> Result<(), Violation> {
        let Some(groups) = self.groups() else { return self.broken("E5", change, "no groups") };
        let is_step = matches!(self.step(), Some(PlanStep::Cutover));
        let is_strict = groups.from.is_some() && self.is_strict();
        let is_armed = self.cutover == Some(CutoverPhase::Arm);
        let leads = group == groups.to;
        let may_follow = if leads {
            is_step && self.leads != Some(true) && (is_armed || !is_strict)
        } else {
            self.goes_back() && self.leads == Some(true) && groups.from.as_deref() == Some(group)
        };
        self.require(change, self.moves() && may_follow)?;
        (self.leads, self.cutover) = (Some(leads), None);
        Ok(())
    }

    /// What was replaced is stopped: on the hosts themselves, or in the group that they replace.
    fn retire(
        &mut self,
        change: &Change,
        agents: &[cutover_common::AgentName],
    ) -> Result<(), Violation> {
        if self.groups().is_none() {
            let is_done = |standing: Standing| standing == Standing::Done;
            for agent in agents {
                self.member(change, host_of(agent), is_done)?;
            }
            return Ok(());
        }
        let hosts = agents.iter().map(host_of);
        self.retired.extend(hosts.clone());
        let takes_part = hosts.clone().any(|host| self.hosts.contains_key(&host));
        self.require(change, self.leads == Some(true) && !takes_part)
    }

    fn call_back(
        &mut self,
        change: &Change,
        agents: &[cutover_common::AgentName],
    ) -> Result<(), Violation> {
        let is_strict = self.is_strict();
        for agent in agents {
            let member = self.hosts.get(&host_of(agent));
            if is_strict && member.is_some_and(|member| member.is_staged && member.told > 1) {
                return self.broken("E5", change, "the strict cutover was decided");
            }
            // Whoever was given up stays so, and is to do nothing.
            let given_up = |standing| matches!(standing, Standing::LeftOut | Standing::Failed);
            let is_told = |standing| {
                matches!(standing, Standing::Told { .. } | Standing::Staged) || given_up(standing)
            };
            let member = self.member(change, host_of(agent), is_told)?;
            let was_staged = member.is_staged;
            // What it gets beside what serves it keeps, where it is called back from the last switch.
            if member.standing == Standing::Staged {
                member.share = member.share_before;
            }
            if !given_up(member.standing) {
                member.standing = if was_staged { Standing::Staged } else { Standing::Waits };
            }
            member.told = u32::from(was_staged);
            member.is_withdrawn = true;
        }
        Ok(())
    }

    fn revert(
        &mut self,
        change: &Change,
        agents: &[cutover_common::AgentName],
        now: Moment,
    ) -> Result<(), Violation> {
        // Hosts go back that no edge is told to lead to, where there is anything to lead back to.
        let has_left = self.groups().is_some_and(|groups| groups.from.is_some());
        let is_led_to = has_left && self.leads == Some(true);
        self.require(change, self.moves() && self.goes_back() && !is_led_to)?;
        for agent in agents {
            let may = |standing: Standing| {
                !matches!(
                    standing,
                    Standing::ToldBack { .. } | Standing::Back | Standing::Stuck | Standing::Out
                )
            };
            self.member(change, host_of(agent), may)?.standing = Standing::ToldBack { at: now };
        }
        Ok(())
    }

    fn next_back(&mut self, change: &Change, next: usize) -> Result<(), Violation> {
        self.require(change, self.moves())?;
        let Phase::Back { waves, wave } = &mut self.phase else {
            return self.broken("E5", change, "it does not go back");
        };
        let is_next = next == *wave + 1 && next < waves.len();
        let done = waves.get(*wave).cloned().unwrap_or_default();
        *wave = next;
        self.require(change, is_next)?;
        let untold = |host: &&u16| {
            self.hosts.get(host).is_some_and(|member| {
                !matches!(
                    member.standing,
                    Standing::ToldBack { .. } | Standing::Back | Standing::Stuck | Standing::Out
                )
            })
        };
        match done.iter().find(untold) {
            None => Ok(()),
            Some(host) => {
                self.broken("E8", change, &format!("host-{host} was not told to go back"))
            }
        }
    }

    /// What was begun in a step is done before the next one begins.
    fn leave_step(&self, change: &Change, now: Moment) -> Result<(), Violation> {
        let Phase::Forward { wave, .. } = self.phase else { return Ok(()) };
        let of_wave = |wanted: fn(Standing) -> bool| {
            self.hosts_that(move |member| member.wave == wave && wanted(member.standing)).next()
        };
        let is_promoted = self.is_promoted || self.is_promoted_in_full;
        match self.step() {
            Some(PlanStep::Hold(_) | PlanStep::Judge(_) | PlanStep::Approve) if is_promoted => {
                Ok(())
            }
            Some(PlanStep::Approve) => self.broken("A4", change, "nobody has promoted it"),
            Some(PlanStep::Start) => {
                let is_open =
                    |standing| matches!(standing, Standing::Waits | Standing::Told { .. });
                match of_wave(is_open) {
                    None => Ok(()),
                    Some(host) => {
                        self.broken("A4", change, &format!("host-{host} of this wave is not done"))
                    }
                }
            }
            Some(PlanStep::Hold(duration)) => {
                let is_watched = of_wave(|standing| standing == Standing::Done).is_some();
                if is_watched { self.watched_for(change, duration, now) } else { Ok(()) }
            }
            Some(PlanStep::Stage) => {
                let is_open =
                    |standing| matches!(standing, Standing::Waits | Standing::Staging { .. });
                match of_wave(is_open) {
                    None => Ok(()),
                    Some(host) => self.broken("A4", change, &format!("host-{host} is not staged")),
                }
            }
            Some(PlanStep::Judge(duration)) => {
                let is_watched = |standing| matches!(standing, Standing::Done | Standing::Staged);
                if of_wave(is_watched).is_some() {
                    self.watched_for(change, duration, now)
                } else {
                    Ok(())
                }
            }
            Some(PlanStep::Cutover) if self.groups().is_some() => {
                self.require(change, self.leads == Some(true))
            }
            Some(PlanStep::Cutover) => match of_wave(|standing| standing == Standing::Staged) {
                None => Ok(()),
                Some(host) => self.broken("A4", change, &format!("host-{host} was not switched")),
            },
            Some(PlanStep::Prepare | PlanStep::Shift(_) | PlanStep::Retire) | None => Ok(()),
        }
    }

    fn watched_for(
        &self,
        change: &Change,
        duration: Duration,
        now: Moment,
    ) -> Result<(), Violation> {
        let Some(since) = self.since else { return Ok(()) };
        let watched = now.since(since);
        // The clock of a process counts whole milliseconds.
        if watched + Duration::from_millis(1) < duration {
            let text = format!("watched for {watched:?} and not for {duration:?}");
            return self.broken("A4", change, &text);
        }
        Ok(())
    }

    fn send_again(&mut self) {
        let goes_back = self.goes_back();
        for member in self.hosts.values_mut() {
            member.standing = match member.standing {
                Standing::Failed | Standing::LeftOut if !goes_back => Standing::Waits,
                Standing::Stuck | Standing::ToldBack { .. } if goes_back => Standing::Failed,
                other => other,
            };
        }
        if let Phase::Back { wave, .. } = &mut self.phase {
            *wave = 0;
            return;
        }
        let open = self
            .hosts
            .values()
            .filter(|member| !matches!(member.standing, Standing::Done | Standing::Out));
        let wave = open.map(|member| member.wave).min().unwrap_or(0);
        self.phase = Phase::Forward { wave, step: 0 };
    }

    fn is_next(&self, wave: usize, step: usize) -> bool {
        let Phase::Forward { wave: at_wave, step: at_step } = self.phase else { return false };
        let steps = self.plan.waves.get(at_wave).map_or(0, |wave| wave.steps.len());
        (wave, step) == (at_wave, at_step + 1)
            || (wave, step) == (at_wave + 1, 0) && at_step + 1 == steps
    }

    fn is_last_step(&self) -> bool {
        let Phase::Forward { wave, step } = self.phase else { return false };
        let steps = self.plan.waves.get(wave).map_or(0, |wave| wave.steps.len());
        wave + 1 >= self.plan.waves.len() && step + 1 >= steps
    }

    fn member(
        &mut self,
        change: &Change,
        host: u16,
        may: impl Fn(Standing) -> bool,
    ) -> Result<&mut Member, Violation> {
        let standing = self.hosts.get(&host).map(|member| member.standing);
        if !standing.is_some_and(may) {
            let text = format!("host-{host} stands at {standing:?}");
            return self.broken("E5", change, &text);
        }
        Ok(self.hosts.get_mut(&host).expect("it was found a moment ago"))
    }

    fn require(&self, change: &Change, holds: bool) -> Result<(), Violation> {
        if holds { Ok(()) } else { self.broken("E5", change, "it may not follow") }
    }

    fn broken<T>(&self, promise: &'static str, change: &Change, why: &str) -> Result<T, Violation> {
        Err(Violation::new(promise, format!("rollout {}: {change:?}: {why}", self.id)))
    }
}

const fn can_fail(standing: Standing) -> bool {
    matches!(
        standing,
        Standing::Waits
            | Standing::Staging { .. }
            | Standing::Staged
            | Standing::Told { .. }
            | Standing::Done
    )
}

fn count(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
