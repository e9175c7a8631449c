//! Evidence: what a coordinator decides of a host is so, or was a moment ago.

use std::time::Duration;

use cutover_common::{AgentName, Timestamp, Version, manifest::Unreachable};
use cutover_coordinator_core::{
    Event, EventKind,
    event::Change,
    fleet::Presence,
    rollout::{Outcome, PlanStep},
};

use super::{
    course::{Course, Phase, Standing},
    floor::Floor,
    ledger::{Ledger, host_of, running},
    truth::Truth,
};
use crate::{
    oracle::{Effect, Violation},
    world::{Process, World},
};

/// How long a coordinator waits for word beyond `healthy_within`; less is too early.
const WORD_WITHIN: Duration = Duration::from_secs(15);

/// What a decision is judged by: what was known before it.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) world: &'a World,
    pub(super) number: u16,
    pub(super) ledger: &'a Ledger,
    pub(super) truth: &'a Truth,
    /// Whether who asks for a drain insists on it.
    pub(super) is_forced: bool,
}

impl<'a> Scene<'a> {
    /// Judges one decision.
    pub(super) fn judge(self, event: &Event) -> Result<(), Violation> {
        let (id, change) = match &event.kind {
            EventKind::Rollout { id, change, .. } => (id, change),
            EventKind::GoalSet { agent, application, slots, route, rollout, .. } => {
                let key = (host_of(agent), self.ledger.number_of(application.as_str()));
                return self.has_token(key, running(slots, route.as_ref()), *rollout);
            }
            EventKind::AgentDrained { agent, .. } => return self.bears_drain(agent),
            _ => return Ok(()),
        };
        let Some(course) = self.ledger.courses.get(id) else { return Ok(()) };
        match change {
            Change::HostsReleased { agents } | Change::HostsReverted { agents } => {
                let hosts: Vec<u16> = agents.iter().map(host_of).collect();
                let Self { world, ledger, truth, .. } = self;
                let floor = Floor { world, ledger, truth, course };
                floor.judge(&hosts)?;
                floor.judge_load(&hosts, |host| self.was_here(course, host))?;
                self.still_good(course, change)
            }
            Change::GroupSwitched { group } => {
                let Self { world, ledger, truth, .. } = self;
                Floor { world, ledger, truth, course }.judge_switch(group)?;
                self.still_good(course, change)
            }
            Change::HostUpdated { agent } => self.done(course, agent, change),
            Change::HostReverted { agent } => self.reverted(course, agent, change),
            Change::HostFailed { agent, .. } if self.fails_by_absence(course, agent, event.at) => {
                Ok(())
            }
            Change::HostFailed { agent, .. } | Change::HostStuck { agent, .. } => {
                self.failed(course, agent, change)
            }
            Change::StepStarted { .. } | Change::BakeStarted => {
                self.still_good(course, change)?;
                self.watched(course, change)
            }
            Change::Ended { outcome: Outcome::Succeeded, .. } => {
                self.still_good(course, change)?;
                self.watched(course, change)
            }
            Change::Ended { .. }
            | Change::HostUnreachable { .. }
            | Change::RollbackStarted { .. }
            | Change::RollbackWave { .. }
            | Change::HostsWithdrawn { .. }
            | Change::HostsExcluded { .. }
            | Change::Paused { .. }
            | Change::Resumed { .. }
            | Change::Held { .. }
            | Change::Retried { .. }
            | Change::HostsStaged { .. }
            | Change::HostStaged { .. }
            | Change::HostsShifted { .. }
            | Change::CutoverMoved { .. }
            | Change::HostsFlipped { .. }
            | Change::HostsRetired { .. }
            | Change::HostsTold { .. }
            | Change::Once { .. }
            | Change::Promoted { .. } => Ok(()),
        }
    }

    /// A1: a host that serves is drained only where every rollout's floor bears it, and unless
    /// somebody insists, the floor with which what runs has come.
    fn bears_drain(self, agent: &AgentName) -> Result<(), Violation> {
        let host = host_of(agent);
        let Some(process) = &self.world.site(self.number).process else { return Ok(()) };
        let at_rest = self.ledger.brought().filter(|_| !self.is_forced);
        for course in self.ledger.active().chain(at_rest) {
            let Self { world, ledger, truth, .. } = self;
            let name = world.script.applications.get(usize::from(course.application));
            let name = name.and_then(|spec| spec.name.parse().ok());
            let seen = process.core.fleet().seen(agent);
            let told = name.and_then(|name| seen?.reports.get(&name));
            let Some(told) = told.filter(|_| self.was_here(course, host)) else { continue };
            let floor = Floor { world, ledger, truth, course };
            floor.judge_drain(host, told.fence.generation.0)?;
        }
        Ok(())
    }

    /// A1: what should run changes only on a host that holds a token, which was taken before, or
    /// that was just called back. A deploy after a restore builds on what runs.
    fn has_token(
        self,
        key: (u16, u16),
        version: Option<&Version>,
        rollout: uuid::Uuid,
    ) -> Result<(), Violation> {
        let before = self.ledger.last(&key).and_then(|goal| goal.running());
        if before == version {
            return Ok(());
        }
        let accepted = self.truth.accepted(key.0, key.1);
        let runs = accepted.and_then(|accepted| accepted.running.as_ref());
        let course = self.ledger.courses.get(&rollout);
        if course.is_some_and(|course| version.is_none() && course.retired.contains(&key.0)) {
            return Ok(());
        }
        let member = course.and_then(|it| it.hosts.get(&key.0));
        let has_token = member.is_some_and(|member| {
            // Where nothing is to run there is nothing that it could be taken from.
            let begins = before.is_none() && matches!(member.standing, Standing::Staging { .. });
            member.holds_token() || member.is_withdrawn || begins
        });
        if has_token || runs == version {
            return Ok(());
        }
        // After a restore a deploy takes over what hosts say that they run; where nothing could
        // be started that is nothing.
        let serves = || self.truth.surely_up(self.world, key.0, key.1).is_some();
        if self.ledger.was_restored && !serves() {
            return Ok(());
        }
        let text = format!(
            "host-{} is to run {version:?} in place of {before:?}, and holds no token",
            key.0
        );
        Err(Violation::new("A1", text))
    }

    /// E6: nothing is found out about a host that is not there.
    fn is_here(self, agent: &AgentName, change: &Change) -> Result<(), Violation> {
        let Some(process) = &self.world.site(self.number).process else { return Ok(()) };
        if process.core.fleet().presence(agent) == Presence::Live {
            return Ok(());
        }
        Err(Violation::new("E6", format!("{change:?}, and it is not connected")))
    }

    fn settled(self, course: &Course, host: u16, version: &Version) -> Result<(), &'static str> {
        let application = course.application;
        let content = self.ledger.contents.get(&(application, version.clone())).copied();
        let Some(content) = content else { return Err("its release is not known") };
        let healthy_for = course.spec.healthy_for;
        self.truth.is_settled(self.world, (host, application), (version, content), healthy_for)
    }

    /// E4: the very release that was asked for was in settled health, by the newest goal.
    fn done(self, course: &Course, agent: &AgentName, change: &Change) -> Result<(), Violation> {
        self.is_here(agent, change)?;
        let host = host_of(agent);
        self.follows(course, host, change)?;
        self.settled(course, host, &course.to)
            .map_err(|why| Violation::new("E4", format!("{change:?}: {why}")))
    }

    fn reverted(
        self,
        course: &Course,
        agent: &AgentName,
        change: &Change,
    ) -> Result<(), Violation> {
        self.is_here(agent, change)?;
        let host = host_of(agent);
        self.follows(course, host, change)?;
        let Some(version) = course.back_to(host) else {
            let mut there = self.truth.processes(self.world, host, course.application);
            return if there.any(|process| process.is_alive() && process.version == course.to) {
                Err(Violation::new("E4", format!("{change:?}, and {} runs", course.to)))
            } else {
                Ok(())
            };
        };
        self.settled(course, host, version)
            .map_err(|why| Violation::new("E4", format!("{change:?}: {why}")))
    }

    /// The agent has accepted the goal by which it is judged.
    fn follows(self, course: &Course, host: u16, change: &Change) -> Result<(), Violation> {
        let key = (host, course.application);
        let wanted = self.ledger.goals.get(&key).map_or(0, |goal| goal.generation);
        let accepted = self.truth.accepted(host, course.application);
        let accepted = accepted.map_or(0, |accepted| accepted.generation);
        if accepted >= wanted {
            return Ok(());
        }
        let text = format!("{change:?} of goal {wanted}, and its agent has accepted {accepted}");
        Err(Violation::new("E4", text))
    }

    /// A7, E6: a host fails by what is known of it, never by silence.
    fn failed(self, course: &Course, agent: &AgentName, change: &Change) -> Result<(), Violation> {
        self.is_here(agent, change)?;
        let host = host_of(agent);
        let Some(member) = course.hosts.get(&host) else { return Ok(()) };
        let (version, since) = match member.standing {
            Standing::Told { at } => (Some(&course.to), Some(at)),
            Standing::ToldBack { at } => (course.back_to(host), Some(at)),
            Standing::Done => (Some(&course.to), None),
            // Both are up, and only one of them is judged.
            Standing::Staging { .. }
            | Standing::Staged
            | Standing::Waits
            | Standing::Failed
            | Standing::LeftOut
            | Standing::Back
            | Standing::Stuck
            | Standing::Out => return Ok(()),
        };
        let application = course.application;
        let window = self.truth.delays.of(host, application);
        let Some(version) = version else { return Ok(()) };
        let Some(process) = self.truth.surely_up(self.world, host, application) else {
            return Ok(());
        };
        let goal = self.ledger.goals.get(&(host, application));
        let was_good = process.version == *version
            && goal.is_some_and(|goal| goal.leads_to(process.slot))
            && process.failures == 0
            && process
                .passing_since
                .is_some_and(|from| self.world.now.since(from) > window + course.spec.healthy_for);
        let is_late = since.is_some_and(|since| {
            self.world.now.since(since) >= course.spec.healthy_within + WORD_WITHIN
        });
        // However well it answers: what its hooks say counts too.
        let is_kept_back = self.truth.is_kept_back(self.world, host, application);
        // One that is late may have been judged before the word of its health came.
        let is_reached = self.is_reached(host, process, window);
        if was_good && !is_late && !is_kept_back && is_reached {
            let text = format!("{change:?}, and it has been well for long");
            return Err(Violation::new("A7", text));
        }
        Ok(())
    }

    /// Returns whether a host fails by being away, as it was said that it should: for long, and more
    /// than are borne.
    fn fails_by_absence(self, course: &Course, agent: &AgentName, at: Timestamp) -> bool {
        let Some(process) = &self.world.site(self.number).process else { return false };
        course.spec.unreachable == Unreachable::Fail
            && course.count(Standing::LeftOut)
                >= usize::try_from(course.spec.max_unreachable).unwrap_or(usize::MAX)
            && process.core.fleet().unreachable_since(agent, at).is_some()
    }

    /// Returns whether clients have reached the process for so long, or need no gate to.
    fn is_reached(self, host: u16, process: &Process, window: Duration) -> bool {
        let host = self.world.host(host);
        let applications = host.agent.as_ref().map(|it| &it.core.remembered().applications);
        let Some(application) = applications.and_then(|it| it.get(&process.application)) else {
            return false;
        };
        let slot = application.slot_of(process.instance);
        let since = slot.and_then(|slot| host.gate.led_since(&process.application, slot));
        application.service().is_none()
            || since.is_some_and(|since| self.world.now.since(since) > window)
    }

    /// A4: nothing goes forward past a host that was updated and is known to have turned bad.
    fn still_good(self, course: &Course, change: &Change) -> Result<(), Violation> {
        if course.goes_back() {
            return Ok(());
        }
        let done = course.hosts_that(|member| member.standing == Standing::Done);
        for host in done {
            let is_here = self.was_here(course, host);
            if is_here && self.truth.is_bad(self.world, host, course.application, &course.to) {
                let text = format!("{change:?}, and host-{host} has long turned bad");
                return Err(Violation::new("A4", text));
            }
        }
        Ok(())
    }

    /// Returns whether the coordinator has been in contact for longer than its word may be old.
    fn was_here(self, course: &Course, host: u16) -> bool {
        let Some(process) = &self.world.site(self.number).process else { return false };
        let name = &self.world.host(host).name;
        let window = self.truth.delays.of(host, course.application) * 2;
        let now = process.clock.at(self.world.now);
        process.core.fleet().presence(name) == Presence::Live
            && process
                .core
                .fleet()
                .seen(name)
                .is_some_and(|seen| now.since(seen.connected) > window)
    }

    /// A4: at the end of a watch every host that was watched is there and well: no data is not
    /// health.
    fn watched(self, course: &Course, change: &Change) -> Result<(), Violation> {
        let watched: Vec<u16> = match (&course.phase, course.step()) {
            // A person has said that it is good enough.
            (Phase::Forward { .. }, _) if course.is_promoted || course.is_promoted_in_full => {
                return Ok(());
            }
            (Phase::Forward { wave, .. }, Some(PlanStep::Hold(_))) => course
                .hosts_that(|member| member.wave == *wave && member.standing == Standing::Done)
                .collect(),
            (Phase::Bake, _) => {
                course.hosts_that(|member| member.standing == Standing::Done).collect()
            }
            (Phase::Forward { .. } | Phase::Back { .. }, _) => return Ok(()),
        };
        for host in watched {
            self.is_here(&self.world.host(host).name, change)
                .map_err(|broken| Violation::new("A4", broken.what))?;
            self.settled(course, host, &course.to)
                .map_err(|why| Violation::new("A4", format!("{change:?}: host-{host}: {why}")))?;
        }
        Ok(())
    }
}

/// A1: an instance that is well is stopped only for a goal that is durable. What changes with a
/// goal is judged where it is set.
pub(super) fn effect(
    world: &World,
    stored: [&Ledger; 2],
    number: u16,
    effect: &Effect<'_>,
) -> Result<(), Violation> {
    let Effect::Stop { place, instance, .. } = effect else { return Ok(()) };
    let Some(process) = world.host(number).kernel.processes.get(instance) else { return Ok(()) };
    if !process.is_well(world.now) || process.told_to_stop.is_some() {
        return Ok(());
    }
    let application = stored[0].number_of(place.application.as_str());
    let is_stored = |ledger: &&Ledger| {
        let goal = ledger.goals.get(&(number, application));
        // A removed agent follows its last goal until it hears of that; a store that was made
        // from a backup is older than the goal.
        goal.is_none_or(|goal| goal.generation >= place.fence.generation.0) || ledger.was_restored
    };
    if stored.iter().any(is_stored) {
        return Ok(());
    }
    let text = format!(
        "host-{number} stops {} {}, which is well, for goal {}, which is not stored",
        process.application, process.version, place.fence
    );
    Err(Violation::new("A1", text))
}
