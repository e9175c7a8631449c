//! What counts as evidence: a fresh report, of the newest goal, of the very content that was
//! asked for. Everything else says nothing.

use cutover_common::{
    AgentName, ApplicationName, Fence, Phase, ReleaseRef, Report, SlotReport, Version, planted,
};

use super::Scene;
use crate::{
    fleet::{Fresh, Goal},
    rollout::Rollout,
};

/// Whether an application serves on a host.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Serving {
    /// What the newest goal wants to run is freshly known to serve well.
    Up,
    /// Nothing is freshly known to serve, nor may it.
    Down,
    /// Not known. Counts as down where hosts are counted, and as up where it would be taken out.
    Unknown,
}

impl<'a> Scene<'a> {
    /// Returns whether `agent` holds a goal that this coordinator knows nothing of, a later one or
    /// another of the same number: its store is older than the fleet, or somebody else commanded
    /// it (F7).
    pub fn is_ahead(&self, agent: &AgentName, application: &ApplicationName) -> bool {
        let Some(seen) = self.fleet.seen(agent) else { return false };
        let goal = self.goals.of(agent, application);
        let is_later = seen.held.get(application).is_some_and(|held| {
            let known = self.goals.known(goal, held.term);
            held.generation > planted!(AheadIgnored: held.generation; known)
                || held.term > self.term
        });
        // It has refused the very goal that it should have.
        let is_refused = || {
            let refused = seen.reports.get(application).and_then(|report| report.refused);
            refused.zip(goal).is_some_and(|(refused, goal)| {
                refused == Fence { term: self.term, generation: goal.generation }
            })
        };
        is_later || is_refused()
    }

    /// Returns whether `application` serves on `agent`.
    ///
    /// A host that has not acknowledged a goal which changes what runs is not known to serve: it
    /// may be about to stop what it says that it runs, or be in the middle of that (A1,
    /// promises.md §3 row 23).
    pub fn serving(&self, agent: &AgentName, application: &ApplicationName) -> Serving {
        let report = match self.fleet.fresh(agent, application) {
            Fresh::Unknown => return Serving::Unknown,
            Fresh::Nothing => return Serving::Down,
            Fresh::Report(report) => report,
        };
        let goal = self.goals.of(agent, application);
        let is_up = goal.is_some_and(|goal| {
            (goal.steady_since..=goal.generation).contains(&report.fence.generation)
                && goal
                    .running()
                    .and_then(|version| self.slot_in(report, Some(goal), version))
                    .is_some_and(SlotReport::serves)
        });
        // Where only the gate is away, it may be back before we are heard.
        let may_serve = |slot: &SlotReport| {
            let is_unknown = slot.health == cutover_common::Health::Unknown;
            slot.phase == Phase::Running && (slot.health.is_passing() || is_unknown)
        };
        if is_up {
            Serving::Up
        } else if report.slots.iter().any(|(_, slot)| may_serve(slot)) {
            Serving::Unknown
        } else {
            Serving::Down
        }
    }

    /// Returns the slot of `report` that holds `version`, with the content that this coordinator
    /// knows by that name: after a restore the same version may have been pushed anew.
    /// Of two that hold it, as after a restart, the one that should run it.
    fn slot_in<'r>(
        &self,
        report: &'r Report,
        goal: Option<&Goal>,
        version: &Version,
    ) -> Option<&'r SlotReport> {
        let application = report.application.clone();
        let name = ReleaseRef { application, version: version.clone() };
        let digest = self.releases.get(&name)?.release.digest;
        let holds = |slot: &SlotReport| {
            slot.release.as_ref().is_some_and(|(held, content)| {
                planted!(
                    HealthByPortAlone: slot.serves();
                    held == version && *content == digest
                )
            })
        };
        let wanted = goal.and_then(|goal| goal.wanted.slot_of(version));
        let wanted = wanted.map(|slot| report.slots.of(slot)).filter(|slot| holds(slot));
        wanted.or_else(|| report.slots.iter().map(|(_, slot)| slot).find(|slot| holds(slot)))
    }

    /// Returns the report of `rollout`'s application on `agent` if it is fresh and speaks of the
    /// newest goal.
    pub(super) fn report_of_goal(
        &self,
        rollout: &Rollout,
        agent: &AgentName,
    ) -> Option<&'a Report> {
        let goal = self.goals.of(agent, &rollout.application)?;
        let report = self.fleet.fresh_report(agent, &rollout.application)?;
        planted!(OlderReportCounts: true; report.fence.generation == goal.generation)
            .then_some(report)
    }

    /// Returns the slot of `agent` that holds `version`, if the report of it is fresh and speaks
    /// of the newest goal.
    pub(super) fn slot_of_goal(
        &self,
        rollout: &Rollout,
        agent: &AgentName,
        version: &Version,
    ) -> Option<&'a SlotReport> {
        let goal = self.goals.of(agent, &rollout.application);
        self.slot_in(self.report_of_goal(rollout, agent)?, goal, version)
    }
}
