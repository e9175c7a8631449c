//! Converge: a host that joins an environment, or comes back to it, gets what the environment runs.

use std::collections::BTreeSet;

use cutover_common::{
    AgentName, ApplicationName, DeploySetting, EnvironmentName, Sha256, Timestamp, Version, planted,
};
use uuid::{Builder, Uuid};

use crate::{
    coordinator::{Arrival, Coordinator, Environment, Step},
    fleet::Presence,
    input::{DeployOrder, IfBusy},
    operate::plan::Meant,
    rollout::Options,
};

/// Who asks for it, as `cutover history` shows it.
const BY: &str = "cutover";

impl Coordinator {
    /// Begins rollouts of what environments run on the hosts that lack it. Returns whether any
    /// began.
    pub(crate) fn converge(&mut self, now: Timestamp, comes: &Arrival, step: &mut Step) -> bool {
        if *comes == Arrival::Nobody {
            return false;
        }
        let due: Vec<(DeployOrder, BTreeSet<AgentName>)> = self
            .environments
            .iter()
            .filter(|(_, environment)| self.is_of(environment, comes))
            .flat_map(|(name, environment)| self.behind(name, environment))
            .collect();
        let mut has_begun = false;
        for (order, agents) in due {
            // One that shares hosts with it may have begun a moment ago.
            if planted!(ConvergesBesideAnother: false; self.lockers(&order).next().is_some()) {
                continue;
            }
            // What cannot be done now is looked at again when somebody comes or asks.
            let Ok(planned) = self.plan_for(&order, Meant::Those(&agents)) else { continue };
            if planned.plan.waves.is_empty() {
                continue;
            }
            let ids = (self.id_of(&order, "request"), self.id_of(&order, "rollout"));
            self.start(now, BY, ids, &order, planned, step);
            has_begun = true;
        }
        has_begun
    }

    fn is_of(&self, environment: &Environment, comes: &Arrival) -> bool {
        match comes {
            Arrival::Nobody => false,
            Arrival::Anybody => true,
            Arrival::Agent(agent) => {
                let enrolled = self.enrolments.agents.get(agent);
                enrolled.is_some_and(|enrolled| enrolled.is_selected(&environment.select))
            }
        }
    }

    /// Returns the hosts of an environment that lack what it runs, by application, with what brings
    /// it to them.
    fn behind(
        &self,
        name: &EnvironmentName,
        environment: &Environment,
    ) -> Vec<(DeployOrder, BTreeSet<AgentName>)> {
        let members = self.members(name);
        let lacks = |application: &ApplicationName, version: &Version| -> BTreeSet<AgentName> {
            let settled = environment.settled.get(application);
            let is_due = |agent: &&AgentName| {
                settled.is_some_and(|settled| !settled.contains(*agent))
                    && self.fleet.presence(agent) == Presence::Live
                    && self.enrolments.drain(agent).is_none()
                    && !self.is_ahead(agent, application)
                    && self.goals.of(agent, application).and_then(|goal| goal.running())
                        != Some(version)
            };
            members.iter().filter(is_due).cloned().collect()
        };
        environment
            .stable
            .iter()
            .map(|(application, stable)| {
                let version = planted!(
                    ConvergesToTheNewest: self.rollouts.values().filter(|it| it.application == *application).max_by_key(|it| it.number).map_or(stable, |it| &it.to);
                    stable
                );
                // Hosts that have just come are nobody's canary.
                let mut options = Options::default();
                options.set(DeploySetting::Strategy, "rolling");
                let order = DeployOrder {
                    application: application.clone(),
                    version: version.clone(),
                    environment: name.clone(),
                    options,
                    if_busy: IfBusy::Refuse,
                    despite_freeze: String::new(),
                };
                (order, lacks(application, version))
            })
            .filter(|(_, agents)| !agents.is_empty())
            .collect()
    }

    /// Returns an id that no other rollout has, the same for the same history.
    fn id_of(&self, order: &DeployOrder, what: &str) -> Uuid {
        let DeployOrder { application, version, environment, .. } = order;
        let (term, begun) = (self.term.0, self.begun);
        let nonce = self.boot_nonce;
        let text =
            format!("{what} {begun} of {term} {nonce}: {application}@{version} {environment}");
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&Sha256::of(text.as_bytes()).as_bytes()[..16]);
        Builder::from_random_bytes(bytes).into_uuid()
    }
}
