//! Notice: what clients notice of a deploy, as far as it can be said before.

use std::net::IpAddr;

use cutover_common::{AgentName, ApplicationName, Release};

use crate::{
    Coordinator,
    rollout::{NotPassedOn, Plan, Replacement, Spec},
};

/// What clients notice.
pub(super) struct Notice {
    pub(super) replacement: Replacement,
    pub(super) not_passed_on: Option<NotPassedOn>,
    /// For each wave, how many hosts stay healthy at its worst moment.
    pub(super) worst_healthy: Vec<u32>,
}

impl Coordinator {
    /// Returns what clients notice while `plan` takes its hosts from one release to the next, of
    /// which so many of `members` are `healthy` before.
    pub(super) fn notice(
        &self,
        (before, release): (Option<&Release>, &Release),
        members: &[AgentName],
        (plan, spec): (&Plan, &Spec),
        healthy: u32,
    ) -> Notice {
        let application = &release.name.application;
        let (replacement, why) = match spec.groups() {
            // The old release serves until edges lead to the new one.
            Some(_) if before.is_some() => (Replacement::Beside, None),
            Some(_) | None => self.replacement((before, release), members),
        };
        let worst_healthy: Vec<u32> = plan
            .waves
            .iter()
            .map(|wave| {
                let up = match replacement {
                    // The old instance serves until the new one has proved itself.
                    Replacement::Beside => 0,
                    Replacement::First | Replacement::PassedOn | Replacement::Outage { .. } => {
                        let up = self.healthy_of(&wave.agents, application);
                        up.min(wave.window.unwrap_or(u32::MAX))
                    }
                };
                // The executor takes out no more than the floor bears at one time.
                healthy.saturating_sub(up).max(spec.min_healthy.min(healthy))
            })
            .collect();
        let is_passed_on = replacement == Replacement::PassedOn;
        let untrusted = || self.untrusted(plan, &[before, Some(release)]);
        let nobody = || worst_healthy.contains(&0).then_some(NotPassedOn::NobodyElse);
        let not_passed_on =
            why.or_else(|| if is_passed_on { untrusted().or_else(nobody) } else { None });
        let replacement = if is_passed_on && not_passed_on.is_some() {
            self.outage(application, members)
        } else {
            replacement
        };
        Notice { replacement, not_passed_on, worst_healthy }
    }

    /// Returns how a host goes from one release to the next, if others take what it passes on, and why
    /// none could.
    pub(super) fn replacement(
        &self,
        (before, release): (Option<&Release>, &Release),
        members: &[AgentName],
    ) -> (Replacement, Option<NotPassedOn>) {
        let Some(before) = before else { return (Replacement::First, None) };
        if release.can_stand_beside(before) {
            return (Replacement::Beside, None);
        }
        let outage = || self.outage(&release.name.application, members);
        match (&before.service, &release.service) {
            (Some(old), Some(new)) if new.can_be_passed_on_to(old) => (Replacement::PassedOn, None),
            (Some(_), Some(_)) => (outage(), Some(NotPassedOn::ReachedOtherwise)),
            (None, _) | (_, None) => (outage(), None),
        }
    }

    /// Returns the hosts of `plan` whose word one that runs one of `releases` does not take: those
    /// that were replaced stand in for the others, and the others for them.
    fn untrusted(&self, plan: &Plan, releases: &[Option<&Release>]) -> Option<NotPassedOn> {
        let services = || releases.iter().flatten().filter_map(|release| release.service.as_ref());
        let is_trusted = |address| services().all(|service| service.takes_from(address));
        let untrusted: Vec<(AgentName, Option<IpAddr>)> = plan
            .waves
            .iter()
            .flat_map(|wave| &wave.agents)
            .map(|agent| (agent.clone(), self.address(agent)))
            .filter(|(_, address)| !is_trusted(*address))
            .collect();
        (!untrusted.is_empty()).then_some(NotPassedOn::Untrusted(untrusted))
    }

    fn outage(&self, application: &ApplicationName, members: &[AgentName]) -> Replacement {
        let measured = members
            .iter()
            .filter_map(|agent| self.fleet.seen(agent)?.reports.get(application)?.outage);
        Replacement::Outage { measured: measured.max() }
    }
}
