//! Groups: which hosts a rollout between two groups takes from which to which.

use std::collections::{BTreeMap, BTreeSet};

use cutover_common::{AgentName, edge::EDGE_LABEL};

use super::deploy::refuse;
use crate::{
    action::Refusal,
    coordinator::Coordinator,
    input::DeployOrder,
    rollout::{
        Spec,
        spec::{Grouped, Groups},
        story::listed,
    },
};

impl Coordinator {
    /// Returns the groups of the hosts that `order` is for, by `label`.
    ///
    /// # Errors
    ///
    /// If there are not two, or clients get the application from both.
    pub(super) fn grouped(&self, order: &DeployOrder, label: &str) -> Result<Grouped, String> {
        let mut hosts: BTreeMap<String, Vec<AgentName>> = BTreeMap::new();
        for agent in self.members(&order.environment) {
            hosts.entry(self.label_of(&agent, label)).or_default().push(agent);
        }
        if let Some(without) = hosts.get("") {
            return Err(format!(
                "{} has no label {label}; give it one with `cutover agents label`",
                without.first().map_or("", AgentName::as_str)
            ));
        }
        let names: Vec<&String> = hosts.keys().collect();
        let [first, second] = names[..] else {
            let values = listed(hosts.keys().map(String::as_str));
            return Err(format!(
                "hosts are in two groups, and the label {label} of {} has {} ({values}); label them \
                 so that there are two",
                order.environment,
                if hosts.len() == 1 {
                    "one value".to_owned()
                } else {
                    format!("{} values", hosts.len())
                },
            ));
        };
        let from = self.group_led_to(order, label)?;
        let to = if from.as_ref() == Some(first) { second } else { first }.clone();
        let taken = hosts.get(&to).map_or(&[][..], Vec::as_slice);
        let count = |agents: usize| u32::try_from(agents).unwrap_or(u32::MAX);
        let drained = taken.iter().filter(|agent| self.enrolments.drain(agent).is_some()).count();
        Ok(Grouped {
            total: count(taken.len()),
            drained: count(drained),
            groups: Groups { label: label.to_owned(), from, to },
        })
    }

    /// Returns the group that clients get the application from. None: it runs nowhere.
    fn group_led_to(&self, order: &DeployOrder, label: &str) -> Result<Option<String>, String> {
        let application = &order.application;
        let runs = |agent: &AgentName| {
            self.goals.of(agent, application).is_some_and(|goal| goal.running().is_some())
        };
        let environment = self.environments.get(&order.environment);
        let led = environment.and_then(|it| it.led.get(application));
        let is_led = led.is_some_and(|led| led.group.is_some());
        // Where edges lead to is known even if all of it has been stopped by hand.
        let hosts = self.led_to(&order.environment, application).into_iter();
        let hosts = hosts.filter(|agent| is_led || runs(agent));
        let groups: BTreeSet<String> = hosts.map(|agent| self.label_of(&agent, label)).collect();
        match groups.len() {
            0 | 1 => Ok(groups.into_iter().next()),
            _ => Err(format!(
                "clients get {application} from {}, so that neither is free for another release; \
                 label the hosts that run it alike, and give the other label to hosts that do not",
                listed(
                    groups
                        .iter()
                        .map(|group| format!("{label}={group}"))
                        .collect::<Vec<_>>()
                        .iter()
                        .map(String::as_str)
                ),
            )),
        }
    }

    /// Returns those of `agents` that get the new release.
    pub(super) fn of_group(&self, agents: &[AgentName], groups: &Groups) -> Vec<AgentName> {
        let is_of = |agent: &&AgentName| self.label_of(agent, &groups.label) == groups.to;
        agents.iter().filter(is_of).cloned().collect()
    }

    /// Refuses groups that nobody leads clients to.
    pub(super) fn has_edge(&self, spec: &Spec, order: &DeployOrder) -> Result<(), Refusal> {
        let environment = order.environment.as_str();
        if spec.groups().is_none() || !self.edges_of(&order.environment).is_empty() {
            return Ok(());
        }
        Err(refuse(
            format!("no agent is an edge of {environment}, which would lead clients to a group"),
            format!("give one the label: cutover agents label NAME {EDGE_LABEL}={environment}"),
        ))
    }
}
