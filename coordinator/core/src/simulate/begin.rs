//! Begin: what a simulation is of, taken from the real core without holding it up.

use std::collections::{BTreeMap, BTreeSet};

use cutover_common::{AgentName, ReleaseRef, Timestamp, Version};

use super::{SimulateOrder, faults::KnownFaults};
use crate::{
    action::{Refusal, RefusalKind},
    checking::Checkings,
    coordinator::{Coordinator, Environment, Releases},
    enrolment::Enrolments,
    input::{DeployOrder, IfBusy},
};

/// A rollout that is about to begin, in a world of its own.
#[derive(Clone, Debug)]
pub struct Simulation {
    pub(super) core: Coordinator,
    pub(super) members: Vec<AgentName>,
    pub(super) asked: SimulateOrder,
    pub(super) faults: KnownFaults,
    /// Who asks, as the story says it.
    pub(super) by: String,
    pub(super) now: Timestamp,
}

impl Coordinator {
    /// Returns the simulation that `by` asks for. This looks, and changes nothing.
    ///
    /// # Errors
    ///
    /// Refuses what [`Self::plan`] refuses, and faults of hosts that are not there or take no part.
    pub fn simulation(
        &self,
        by: &str,
        asked: SimulateOrder,
        now: Timestamp,
    ) -> Result<Simulation, Refusal> {
        let order = &asked.order;
        if order.if_busy == IfBusy::Queue {
            return Err(Refusal::new(
                RefusalKind::Invalid,
                "what is queued is planned on the fleet of its moment, which nobody knows yet",
                "simulate it without --if-busy queue, when what is under way is over",
            ));
        }
        let planned = self.plan(order)?;
        let faults = KnownFaults::of(self, &order.environment, &planned, &asked.faults)?;
        let members = self.members(&order.environment);
        let edges = self.edges_of(&order.environment);
        let known: Vec<AgentName> = members.iter().chain(&edges).cloned().collect();
        let core = self.part(order, &known);
        Ok(Simulation { core, members, asked, faults, by: by.to_owned(), now })
    }

    /// Returns a coordinator that knows what matters to a rollout of `order`, and nothing else.
    fn part(&self, order: &DeployOrder, members: &[AgentName]) -> Self {
        let application = &order.application;
        let fleet = self.fleet.part(members, application);
        let goals = self.goals.part(members, application);
        let environment = self.environments.get(&order.environment).map(|all| Environment {
            select: all.select.clone(),
            stable: only(&all.stable, application),
            settled: only(&all.settled, application),
            led: only(&all.led, application),
            // As with a plan: what is deployed when it is over is looked at before.
            freezes: Vec::new(),
            configs: all.configs.clone(),
        });
        let agents = members
            .iter()
            .filter_map(|agent| Some((agent.clone(), self.enrolments.agents.get(agent)?.clone())));
        let drains = members
            .iter()
            .filter_map(|agent| Some((agent.clone(), self.enrolments.drain(agent)?.clone())));
        let rollouts: BTreeMap<_, _> =
            self.lockers(order).map(|rollout| (rollout.id, rollout.clone())).collect();
        let part = Self {
            term: self.term,
            enrolments: Enrolments {
                agents: agents.collect(),
                drains: drains.collect(),
                ..Enrolments::default()
            },
            environments: environment
                .map(|environment| (order.environment.clone(), environment))
                .into_iter()
                .collect(),
            goals,
            rollouts,
            begun: self.begun,
            checks: Checkings::pretended(),
            sources: self.sources.clone(),
            onces: self.onces.part(&order.environment, application),
            last_event: self.last_event,
            boot_nonce: self.boot_nonce,
            fleet,
            ..Self::default()
        };
        Self { releases: self.named_in(&part, order), ..part }
    }

    /// Returns the releases that `part` and `order` name.
    fn named_in(&self, part: &Self, order: &DeployOrder) -> Releases {
        let application = &order.application;
        let mut versions: BTreeSet<&Version> = BTreeSet::from([&order.version]);
        for agent in part.enrolments.agents.keys() {
            let goal = part.goals.of(agent, application);
            let slots = goal.into_iter().flat_map(|goal| goal.wanted.slots.iter());
            versions.extend(slots.filter_map(|(_, slot)| slot.version()));
            let report = part.fleet.seen(agent).and_then(|seen| seen.reports.get(application));
            let slots = report.into_iter().flat_map(|report| report.slots.iter());
            versions.extend(slots.filter_map(|(_, slot)| Some(&slot.release.as_ref()?.0)));
        }
        versions.extend(part.environments.values().filter_map(|it| it.stable.get(application)));
        for rollout in part.rollouts.values() {
            versions.extend(rollout.from.iter().chain([&rollout.to]));
        }
        let named = versions.into_iter().filter_map(|version| {
            let (application, version) = (application.clone(), version.clone());
            let name = ReleaseRef { application, version };
            let stored = self.releases.get(&name)?.clone();
            Some((name, stored))
        });
        named.collect()
    }
}

fn only<K: Ord + Clone, V: Clone>(all: &BTreeMap<K, V>, key: &K) -> BTreeMap<K, V> {
    all.get(key).map(|value| (key.clone(), value.clone())).into_iter().collect()
}
