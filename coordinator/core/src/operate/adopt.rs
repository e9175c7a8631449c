//! Adoption: taking over hosts that follow goals that this coordinator has not set, as after a
//! restore from a backup. What they run is what is built on; the stored goals are not (F7).

use std::collections::BTreeSet;

use cutover_common::{
    AgentName, ApplicationName, Health, Phase, ReleaseRef, Slot, SlotReport, Traffic, Version,
};

use super::deploy::refuse;
use crate::{
    action::Refusal,
    coordinator::Coordinator,
    fleet::{Goal, GoalSlot, Wanted},
    input::DeployOrder,
};

impl Coordinator {
    /// Refuses to deploy where what runs cannot be named: a goal that cannot say "leave this
    /// running" would stop it.
    pub(super) fn adoptable(
        &self,
        members: &[AgentName],
        application: &ApplicationName,
    ) -> Result<(), Refusal> {
        let ahead = members.iter().filter(|agent| self.is_ahead(agent, application));
        for agent in ahead {
            let held = self.fleet.seen(agent).and_then(|seen| seen.held.get(application));
            if let Some(held) = held.filter(|held| held.term > self.term) {
                return Err(refuse(
                    format!(
                        "agent {agent} has obeyed a coordinator of term {}, and this one is of \
                         term {}, so it would obey nothing",
                        held.term.0, self.term.0
                    ),
                    "stop the other coordinator, and restore this one from its newest backup",
                ));
            }
            let Some(report) = self.fleet.fresh_report(agent, application) else {
                return Err(refuse(
                    format!(
                        "agent {agent} follows a goal that this coordinator has not set, and \
                         has not said yet what it runs"
                    ),
                    "wait for its next heartbeat, and try again",
                ));
            };
            for (_, slot) in report.slots.iter() {
                let Some((version, _)) = slot.release.as_ref().filter(|_| runs(slot.phase)) else {
                    continue;
                };
                if self.known_content(application, slot).is_none() {
                    return Err(refuse(
                        format!(
                            "agent {agent} runs a {application}@{version} that this coordinator \
                             does not know"
                        ),
                        if version.config().is_some() && !self.knows_config_of(version) {
                            "its config came after the backup: restore a newer one; or remove the \
                             agent, and let its host leave and join again"
                        } else {
                            "push that release again (`cutover release push`), then deploy"
                        },
                    ));
                }
            }
        }
        Ok(())
    }

    /// Returns the goal that a deploy adds to: the stored one, or for a host that is ahead what
    /// it says that it runs.
    pub(super) fn wanted_to_build_on(
        &self,
        agent: &AgentName,
        application: &ApplicationName,
    ) -> Wanted {
        if !self.is_ahead(agent, application) {
            let goal = self.goals.last(agent, application);
            return goal.map(|goal| goal.wanted.clone()).unwrap_or_default();
        }
        let Some(report) = self.fleet.fresh_report(agent, application) else {
            return Wanted::default();
        };
        let runs_one = report.slots.iter().any(|(_, slot)| runs(slot.phase));
        let led = |slot: &SlotReport| runs(slot.phase) && slot.traffic != Traffic::Away;
        let leads: Vec<Slot> =
            report.slots.iter().filter(|(_, slot)| led(slot)).map(|it| it.0).collect();
        // Of two that get traffic the stored goal knows the one that was there before.
        let before = self.goals.last(agent, application).and_then(Goal::running);
        let is_before = |place: &Slot| {
            let held = report.slots.of(*place).release.as_ref();
            held.map(|(version, _)| version) == before
        };
        let stays = leads.iter().copied().find(is_before).or(leads.first().copied());
        let slots = report.slots.map(|place, slot| match self.known_content(application, slot) {
            // Of two that run, as in the middle of a canary, the one that clients get stays.
            Some(version)
                if stays == Some(place)
                    || (runs(slot.phase) && stays.is_none())
                    || (!runs_one && is_tried(slot)) =>
            {
                GoalSlot::Running(version.clone())
            }
            Some(version) => GoalSlot::Prepared(version.clone()),
            None => GoalSlot::Absent,
        });
        Wanted { slots, route: None }
    }

    /// Returns what a failed deploy goes back to: what the environment last succeeded with, but
    /// what hosts that are ahead run, as the environment's record is older than they are.
    pub(super) fn from(&self, order: &DeployOrder, members: &[AgentName]) -> Option<Version> {
        let application = &order.application;
        let adopted: BTreeSet<&Version> = members
            .iter()
            .filter(|agent| self.is_ahead(agent, application))
            .filter_map(|agent| self.fleet.fresh_report(agent, application))
            .flat_map(|report| report.slots.iter().map(|(_, slot)| slot))
            .filter(|slot| runs(slot.phase))
            .filter_map(|slot| slot.release.as_ref().map(|(version, _)| version))
            .collect();
        match (adopted.first(), adopted.len()) {
            (Some(version), 1) => Some((*version).clone()),
            // Each host then goes back to its own.
            (Some(_), _) => None,
            (None, _) => {
                self.environments.get(&order.environment)?.stable.get(application).cloned()
            }
        }
    }

    /// Returns whether the log has the change of a config that `version` names.
    fn knows_config_of(&self, version: &Version) -> bool {
        let Some((environment, number)) = version.config() else { return false };
        let mut known = self.environments.iter().filter(|(name, _)| name.as_str() == environment);
        known.any(|(_, environment)| environment.configs.has(number))
    }

    fn known_content<'a>(
        &self,
        application: &ApplicationName,
        slot: &'a SlotReport,
    ) -> Option<&'a Version> {
        let (version, digest) = slot.release.as_ref()?;
        let name = ReleaseRef { application: application.clone(), version: version.clone() };
        // It may have been deployed first after the backup, with a config of before.
        let configured = || self.configured(&name).map(|stored| stored.release.digest);
        let known =
            self.releases.get(&name).map(|stored| stored.release.digest).or_else(configured);
        (known? == *digest).then_some(version)
    }
}

/// Returns whether the slot is to run, and no instance could be started.
fn is_tried(slot: &SlotReport) -> bool {
    slot.phase == Phase::Failed && slot.health == Health::Failing
}

const fn runs(phase: Phase) -> bool {
    matches!(phase, Phase::Starting | Phase::Running)
}
