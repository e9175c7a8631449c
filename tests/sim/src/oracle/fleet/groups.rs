//! G7: in a strict cutover between two groups of hosts no edge leads to the old one after another
//! leads to the new one; nothing is changed on a host that an edge may still lead to; and edges are
//! told to lead to the group that the log says, and to no other.
//!
//! What edges do is what their gates really follow. What is not promised: an edge that was not one
//! all the time, or whose journal had a changed bit; what was lost with the end of a log (F7); and
//! the way back, which holds nobody.

use std::collections::{BTreeMap, BTreeSet};

use cutover_agent_core::{Event as AgentEvent, Step as AgentStep};
use cutover_common::{AgentName, ApplicationName, EdgeRevision, EdgeRoutes};
use cutover_coordinator_core::{Action, Event, EventKind, Step, event::Change};

use super::{
    course::Course,
    ledger::{Ledger, host_of, running},
};
use crate::{
    oracle::Violation,
    script::{Call, Entry, Fault, Script, What},
    world::{Host, World},
};

/// See above.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// Without a label there is nothing to see.
    has_groups: bool,
    edges: BTreeMap<u16, Edge>,
    /// Whom edges were told to lead to, or to go on with.
    told: BTreeMap<EdgeRevision, BTreeSet<(ApplicationName, AgentName)>>,
}

/// What is known of one edge.
#[derive(Debug, Default)]
struct Edge {
    /// The holds that it was told last, by application, with whether they are armed.
    holds: BTreeMap<ApplicationName, (u64, bool)>,
    /// What its agent has decided to hold until it is told.
    armed: BTreeMap<ApplicationName, u64>,
    /// A changed bit may have made it forget.
    is_flipped: bool,
}

impl Groups {
    pub(super) fn new(script: &Script) -> Self {
        let is_label = |entry: &Entry| matches!(entry.what, What::Call(Call::Group { .. }));
        Self { has_groups: script.entries.iter().any(is_label), ..Self::default() }
    }

    pub(super) fn fault(&mut self, fault: &Fault) {
        if let Fault::FlipBit { host, .. } = fault {
            self.edges.entry(*host).or_default().is_flipped = true;
        }
    }

    /// Judges an event by what was known before it.
    pub(super) fn judge(
        &self,
        world: &World,
        ledger: &Ledger,
        event: &Event,
    ) -> Result<(), Violation> {
        match &event.kind {
            _ if !self.has_groups => Ok(()),
            EventKind::GoalSet { agent, application, slots, route, rollout, .. } => {
                let Some(course) = ledger.courses.get(rollout) else { return Ok(()) };
                let key = (host_of(agent), course.application);
                let before = ledger.goals.get(&key).and_then(|goal| goal.running());
                // Before a first deploy there is nothing to lead back to.
                let has_left = course.groups().is_some_and(|groups| groups.from.is_some());
                if !has_left || before.is_none() || before == running(slots, route.as_ref()) {
                    return Ok(());
                }
                self.is_left(world, ledger, course, (application, agent))
            }
            EventKind::Rollout { id, change: Change::GroupSwitched { group }, .. } => {
                let Some(course) = ledger.courses.get(id) else { return Ok(()) };
                self.switches(world, ledger, course, group)
            }
            _ => Ok(()),
        }
    }

    /// What clients may get is replaced, or stopped, where no edge leads.
    fn is_left(
        &self,
        world: &World,
        ledger: &Ledger,
        course: &Course,
        (application, agent): (&ApplicationName, &AgentName),
    ) -> Result<(), Violation> {
        for host in ledger.edges(course.application) {
            let edge = world.host(host);
            if !self.is_flipped(host) && edge.gate.leads_behind(application, agent) {
                let text = format!(
                    "rollout {} changes what runs on {agent}, and {} leads there",
                    course.id, edge.name
                );
                return Err(Violation::new("G7", text));
            }
        }
        Ok(())
    }

    /// A strict cutover is made when every edge holds until it is told, with nothing under way.
    fn switches(
        &self,
        world: &World,
        ledger: &Ledger,
        course: &Course,
        group: &str,
    ) -> Result<(), Violation> {
        let Some(groups) = course.groups() else { return Ok(()) };
        let is_way_back = group != groups.to;
        if is_way_back || groups.from.is_none() || !course.is_strict() {
            return Ok(());
        }
        let Some(application) = name_of(world, course.application) else { return Ok(()) };
        let number = ledger.led.get(&course.application).map(|led| led.holds);
        for host in ledger.edges(course.application) {
            if self.is_flipped(host) {
                continue;
            }
            let armed = self.edges.get(&host).and_then(|edge| edge.armed.get(&application));
            if armed.copied() != number {
                let text = format!("rollout {} cuts over, and host-{host} is not armed", course.id);
                return Err(Violation::new("G7", text));
            }
            let gate = &world.host(host).gate;
            if gate.is_busy_at_all(&application, world.now) {
                let text = format!(
                    "rollout {} cuts over, and host-{host} has requests under way",
                    course.id
                );
                return Err(Violation::new("G7", text));
            }
        }
        Ok(())
    }

    /// Judges what edges are told.
    pub(super) fn stepped(
        &mut self,
        world: &World,
        ledger: &Ledger,
        step: &Step,
    ) -> Result<(), Violation> {
        if !self.has_groups {
            return Ok(());
        }
        for action in &step.actions {
            let Action::RouteEdge { routes, .. } = action else { continue };
            let told = led_by(routes, true);
            for (application, agent) in &told {
                let number = ledger.number_of(application.as_str());
                let Some(led) = ledger.led.get(&number) else { continue };
                let hosts = ledger.led_to(number);
                if led.group.is_none() || !hosts.contains(&host_of(agent)) {
                    let text = format!(
                        "an edge is to lead to {agent} for {application}, and {:?} is led to",
                        led.group
                    );
                    return Err(Violation::new("G7", text));
                }
            }
            self.told.insert(routes.revision, told);
        }
        self.stays_left(world, ledger)
    }

    /// Takes what an edge has decided.
    pub(super) fn agent_stepped(&mut self, number: u16, step: &AgentStep) -> Result<(), Violation> {
        if !self.has_groups {
            return Ok(());
        }
        let edge = self.edges.entry(number).or_default();
        for event in &step.events {
            match event {
                AgentEvent::EdgeRouted(routes) => {
                    edge.follows(routes);
                    let Some(told) = self.told.get(&routes.revision) else { continue };
                    if let Some((application, agent)) =
                        led_by(routes, false).into_iter().find(|led| !told.contains(led))
                    {
                        let text = format!(
                            "host-{number} leads to {agent} for {application}, and was not told to"
                        );
                        return Err(Violation::new("G7", text));
                    }
                }
                AgentEvent::EdgeArmed { application, number } => {
                    edge.armed.insert(application.clone(), *number);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Another process of an agent, which remembers what is durable.
    pub(super) fn agent_started(&mut self, world: &World, number: u16) {
        let Some(agent) = world.host(number).agent.as_ref().filter(|_| self.has_groups) else {
            return;
        };
        let remembered = agent.core.remembered();
        let edge = self.edges.entry(number).or_default();
        edge.armed.clone_from(&remembered.edge_armed);
        if let Some(routes) = &remembered.edge {
            edge.follows(routes);
        }
    }

    /// Judges what gates really do: an edge that was switched does not go back by itself.
    pub(super) fn stays_left(&self, world: &World, ledger: &Ledger) -> Result<(), Violation> {
        if !self.has_groups {
            return Ok(());
        }
        let is_over = |course: &Course| {
            course.outcome.is_some() || course.goes_back() || course.leads != Some(true)
        };
        for course in ledger.courses.values().filter(|course| !is_over(course)) {
            let Some(groups) = course.groups().filter(|_| course.is_strict()) else { continue };
            let (Some(from), Some(application)) =
                (&groups.from, name_of(world, course.application))
            else {
                continue;
            };
            let old: Vec<u16> = ledger.of_group(course.application, &groups.label, from).collect();
            for host in course.edges.iter().filter(|host| !self.is_flipped(**host)) {
                let gate = &world.host(*host).gate;
                let leads = |old: &&u16| {
                    gate.is_busy_behind(&application, &world.host(**old).name, world.now)
                };
                if let Some(old) = old.iter().find(leads) {
                    let text = format!(
                        "host-{host} leads {application} to host-{old} after rollout {} cut over",
                        course.id
                    );
                    return Err(Violation::new("G7", text));
                }
            }
        }
        Ok(())
    }

    /// Judges, at rest, that edges lead to those that serve, and hold nothing.
    pub(super) fn is_led_at_rest(
        &self,
        world: &World,
        ledger: &Ledger,
        serves: &dyn Fn(u16, u16) -> bool,
    ) -> Result<(), Violation> {
        if !self.has_groups {
            return Ok(());
        }
        for (number, led) in &ledger.led {
            let Some(application) = name_of(world, *number) else { continue };
            let hosts = ledger.led_to(*number);
            for edge in ledger.edges(*number).map(|edge| world.host(edge)) {
                if self.is_flipped(edge.number) || !follows_its_coordinator(world, edge) {
                    continue;
                }
                if edge.gate.holds_behind(&application) {
                    let text = format!("{} holds {application} at rest", edge.name);
                    return Err(Violation::new("A6", text));
                }
                // One that joined again goes on, and nobody has asked it to.
                let is_asked = |host: u16| {
                    ledger.goals.get(&(host, *number)).is_some_and(|it| it.running().is_some())
                };
                // Of one that joined again the coordinator knows too little to tell edges anything.
                if ledger.members(*number).any(|it| !ledger.goals.contains_key(&(it, *number))) {
                    continue;
                }
                let left = hosts.iter().find(|host| {
                    let agent = &world.host(**host).name;
                    led.group.is_some()
                        && is_asked(**host)
                        && serves(**host, *number)
                        && !ledger.is_drained(**host)
                        && !edge.gate.leads_behind(&application, agent)
                });
                if let Some(host) = left {
                    let text = format!("{} does not lead to host-{host}, which serves", edge.name);
                    return Err(Violation::new("A6", text));
                }
            }
        }
        Ok(())
    }

    fn is_flipped(&self, host: u16) -> bool {
        self.edges.get(&host).is_some_and(|edge| edge.is_flipped)
    }
}

impl Edge {
    fn follows(&mut self, routes: &EdgeRoutes) {
        self.holds =
            routes.holds().map(|(name, hold)| (name, (hold.number, hold.is_armed))).collect();
        let Self { holds, armed, .. } = self;
        armed.retain(|name, number| holds.get(name) == Some(&(*number, true)));
    }
}

/// Returns whom these routes lead to, and those that an edge is to go on with, if `goes_on`.
fn led_by(routes: &EdgeRoutes, goes_on: bool) -> BTreeSet<(ApplicationName, AgentName)> {
    let routes = routes.routes.iter().filter(|route| route.cutover.is_some());
    let hosts = routes.flat_map(|route| {
        let gets = route
            .hosts
            .iter()
            .filter(move |host| host.lead.map_or(goes_on, |lead| lead.weight > 0));
        gets.map(|host| (route.application.clone(), host.agent.clone()))
    });
    hosts.collect()
}

/// Returns whether an edge is one that a coordinator can command, and follows what it was told.
fn follows_its_coordinator(world: &World, edge: &Host) -> bool {
    let Some(process) = &world.site(0).process else { return false };
    let Some(agent) = &edge.agent else { return false };
    let held = agent.core.remembered().edge.as_ref().map(|held| held.revision);
    agent.core.is_joined() && held.is_some() && process.core.edge_told(&edge.name) == held
}

fn name_of(world: &World, application: u16) -> Option<ApplicationName> {
    world.script.applications.get(usize::from(application))?.name.parse().ok()
}
