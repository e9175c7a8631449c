//! Assign: goals as agents are told them, with the releases that they name.

use std::{net::IpAddr, sync::Arc};

use cutover_common::{
    AgentName, ApplicationName, Assignment, Fence, OnceDuty, Release, ReleaseRef, SlotGoal, Slots,
    Swap, Timestamp, Version, assignment::PEERS_MAX, planted,
};

use crate::{
    Coordinator, Step,
    action::Action,
    fleet::{Goal, GoalSlot},
    rollout::decide::floor::is_up,
};

impl Coordinator {
    /// Sends the goal of `application` to `agent` if it is there.
    pub(crate) fn show(
        &mut self,
        agent: &AgentName,
        application: &ApplicationName,
        now: Timestamp,
        step: &mut Step,
    ) {
        let Some(session) = self.fleet.session(agent) else { return };
        let Some(goal) = self.goals.of(agent, application) else { return };
        if self.is_ahead(agent, application) {
            // The agent holds a goal that we know nothing of: this store is older than the fleet,
            // or there are two. Nothing is sent until an operator deploys anew (F7).
            return;
        }
        if let Some(assignment) = self.assignment(agent, application, goal) {
            step.actions.push(Action::Assign { session, assignment: Box::new(assignment) });
            self.fleet.note_shown(agent, application, now);
        }
    }

    pub(crate) fn assignment(
        &self,
        agent: &AgentName,
        application: &ApplicationName,
        goal: &Goal,
    ) -> Option<Assignment> {
        let release = |version: &Version| {
            let name = ReleaseRef { application: application.clone(), version: version.clone() };
            planted!(
                ConfigGoesOnChanging: version
                    .config()
                    .and_then(|(environment, _)| {
                        let environment = environment.parse().expect("a version names one");
                        let configs = &self.environments.get(&environment)?.configs;
                        let version = version.with_config(&environment, configs.newest(application)?);
                        let newest = self.configured(&ReleaseRef { version, ..name.clone() })?;
                        Some(Arc::new(Release { name: name.clone(), ..(*newest.release).clone() }))
                    })
                    .or_else(|| self.releases.get(&name).map(|stored| stored.release.clone()));
                self.releases.get(&name).map(|stored| stored.release.clone())
            )
        };
        let of = |slot: &GoalSlot| {
            Some(match slot {
                GoalSlot::Absent => SlotGoal::Absent,
                GoalSlot::Prepared(version) => SlotGoal::Prepared(release(version)?),
                GoalSlot::Running(version) => SlotGoal::Running(release(version)?),
            })
        };
        let wanted = &goal.wanted.slots;
        let slots = Slots { blue: of(&wanted.blue)?, green: of(&wanted.green)? };
        let is_in_place = |release: &Arc<Release>| {
            release.service.as_ref().is_some_and(|service| service.swap == Swap::InPlace)
        };
        let goes_out = slots.iter().filter_map(|(_, slot)| slot.release()).any(is_in_place);
        Some(Assignment {
            application: application.clone(),
            fence: Fence { term: self.term, generation: goal.generation },
            slots,
            timers: goal.timers,
            rollout: goal.rollout.to_string(),
            peers: if goes_out { self.peers(agent, application, goal) } else { Vec::new() },
            route: goal.wanted.route.clone(),
            once: goal
                .once
                .iter()
                .map(|once| {
                    let release = release(&once.version)?.digest;
                    Some(OnceDuty { release, part: once.part })
                })
                .collect::<Option<_>>()?,
        })
    }

    /// Returns where requests for `agent` can be passed on to while it is out: hosts of its
    /// environment that are freshly known to serve, that nobody is disrupting, and whose gates take
    /// them.
    fn peers(&self, agent: &AgentName, application: &ApplicationName, goal: &Goal) -> Vec<IpAddr> {
        let Some(rollout) = self.rollouts.get(&goal.rollout) else { return Vec::new() };
        let version = goal
            .running()
            .or_else(|| goal.wanted.slots.iter().find_map(|(_, slot)| slot.version()));
        let own = version.and_then(|version| self.held(application, version)?.service.as_ref());
        let Some(own) = own else { return Vec::new() };
        let from = self.address(agent);
        let takes = |member: &AgentName| {
            let goal = self.goals.of(member, application);
            let service = goal.and_then(|goal| self.service_of(member, application, goal));
            service.is_some_and(|it| own.can_be_passed_on_to(&it) && it.takes_from(from))
        };
        let members = self.members(&rollout.environment);
        let scene = self.scene(self.last_looked(), &members);
        members
            .iter()
            .filter(|member| *member != agent && is_up(rollout, scene, member) && takes(member))
            .filter_map(|member| self.address(member))
            .take(PEERS_MAX)
            .collect()
    }
}
