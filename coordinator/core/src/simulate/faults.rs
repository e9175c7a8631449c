//! Faults: which hosts go wrong in a simulation, and how.

use std::collections::BTreeSet;

use cutover_common::{AgentName, EnvironmentName};

use crate::{
    Coordinator,
    action::{Refusal, RefusalKind},
    rollout::Planned,
};

/// What is to go wrong, as it was typed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Faults {
    /// Agents on whose hosts the new release never becomes healthy.
    pub fail: Vec<String>,
    /// Agents that are cut off when their hosts are told to switch. Of a zone all are, with the
    /// first of them.
    pub lose: Vec<String>,
}

/// The same, with every name known.
#[derive(Clone, Debug, Default)]
pub(super) struct KnownFaults {
    pub(super) fail: BTreeSet<AgentName>,
    /// Each is lost as a whole.
    pub(super) lose: Vec<BTreeSet<AgentName>>,
}

impl KnownFaults {
    /// Finds out whom `faults` means among the hosts of `environment`.
    pub(super) fn of(
        core: &Coordinator,
        environment: &EnvironmentName,
        planned: &Planned,
        faults: &Faults,
    ) -> Result<Self, Refusal> {
        let fleet = Fleet { core, environment, planned, members: core.members(environment) };
        let mut known = Self::default();
        for name in &faults.fail {
            let agent = fleet.agent(name).ok_or_else(|| fleet.unknown_agent(name))?;
            known.fail.extend(fleet.taking_part(name, BTreeSet::from([agent]))?);
        }
        for name in &faults.lose {
            let one = fleet.agent(name).map(|agent| BTreeSet::from([agent]));
            let lost = one.or_else(|| fleet.zone(name)).ok_or_else(|| fleet.unknown_zone(name))?;
            known.lose.push(fleet.taking_part(name, lost)?);
        }
        Ok(known)
    }
}

/// Whom a name can mean.
struct Fleet<'a> {
    core: &'a Coordinator,
    environment: &'a EnvironmentName,
    planned: &'a Planned,
    members: Vec<AgentName>,
}

impl Fleet<'_> {
    fn agent(&self, name: &str) -> Option<AgentName> {
        let place = self.members.binary_search_by(|agent| agent.as_str().cmp(name)).ok()?;
        self.members.get(place).cloned()
    }

    /// Returns the hosts of the zone `name`: by the label that says in which zone a host is, or
    /// where the rollout has none by any label.
    fn zone(&self, name: &str) -> Option<BTreeSet<AgentName>> {
        let is_in = |agent: &&AgentName| self.zones_of(agent).any(|zone| zone == name);
        let agents: BTreeSet<AgentName> = self.members.iter().filter(is_in).cloned().collect();
        (!agents.is_empty()).then_some(agents)
    }

    fn zones_of(&self, agent: &AgentName) -> impl Iterator<Item = &str> {
        let label = self.planned.spec.zone.as_deref();
        let labels = self.core.enrolments.agents.get(agent).map(|enrolled| &enrolled.labels);
        labels
            .into_iter()
            .flatten()
            .filter(move |(key, _)| label.is_none_or(|label| label == key.as_str()))
            .map(|(_, value)| value.as_str())
    }

    fn unknown_agent(&self, name: &str) -> Refusal {
        let known = self.members.iter().map(AgentName::as_str);
        let what = format!("agent of {}", self.environment);
        Refusal::unknown(&what, name, known, "cutover agents list")
    }

    fn unknown_zone(&self, name: &str) -> Refusal {
        let zones: BTreeSet<&str> =
            self.members.iter().flat_map(|agent| self.zones_of(agent)).collect();
        let known = self.members.iter().map(AgentName::as_str).chain(zones);
        let what = format!("agent or zone of {}", self.environment);
        Refusal::unknown(&what, name, known, "cutover agents list")
    }

    /// Refuses a fault that could not show: of hosts that are never told anything.
    fn taking_part(
        &self,
        name: &str,
        agents: BTreeSet<AgentName>,
    ) -> Result<BTreeSet<AgentName>, Refusal> {
        let takes_part = |agent: &AgentName| {
            self.planned.plan.waves.iter().any(|wave| wave.agents.contains(agent))
        };
        if agents.iter().any(takes_part) {
            return Ok(agents);
        }
        let is_drained = agents.iter().all(|agent| self.planned.drained.contains(agent));
        let why = if is_drained {
            "drained".to_owned()
        } else {
            format!("on {} already, or drained", self.planned.to)
        };
        Err(Refusal::new(
            RefusalKind::Invalid,
            format!("{name} takes no part in this rollout, as it is {why}"),
            "name a host that the plan has (cutover deploy --plan)",
        ))
    }
}
