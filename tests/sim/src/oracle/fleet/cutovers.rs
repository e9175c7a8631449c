//! G8: a strict cutover of the hosts' own gates is made when every one of them holds until it is told, with
//! nothing under way; and from then on none gives clients the old release, until it is told to.
//!
//! What gates do is what they really follow. What is not promised: a host whose journal had a changed
//! bit, and two coordinators of one store.

use std::collections::{BTreeMap, BTreeSet};

use cutover_agent_core::{Event as AgentEvent, Step as AgentStep, remembered::Hold};
use cutover_common::{AgentName, ApplicationName, Slot, Version};
use cutover_coordinator_core::{Event, EventKind, event::Change, fleet::GoalSlot};

use super::{
    course::Course,
    ledger::{Ledger, host_of},
};
use crate::{
    oracle::Violation,
    script::{Fault, Script, What},
    world::World,
};

/// See above.
#[derive(Debug, Default)]
pub(super) struct Cutovers {
    /// Two coordinators of one store command the same gates.
    is_cloned: bool,
    /// What agents have decided to hold until they are told.
    armed: BTreeSet<(u16, ApplicationName)>,
    /// A changed bit may have made it forget.
    flipped_bits: BTreeSet<u16>,
    /// The release that clients were led away from and where it is, by host and application.
    left: BTreeMap<(u16, u16), (Slot, Version)>,
}

impl Cutovers {
    pub(super) fn new(script: &Script) -> Self {
        let is_clone = |what: &What| matches!(what, What::Fault(Fault::Clone));
        let is_cloned = script.entries.iter().any(|entry| is_clone(&entry.what));
        Self { is_cloned, ..Self::default() }
    }

    pub(super) fn fault(&mut self, fault: &Fault) {
        if let Fault::FlipBit { host, .. } = fault {
            self.flipped_bits.insert(*host);
        }
    }

    /// A store made from a backup knows of no cutover that was made since.
    pub(super) fn restored(&mut self) {
        self.left.clear();
    }

    /// Judges an event by what was known before it.
    pub(super) fn judge(
        &mut self,
        world: &World,
        ledger: &Ledger,
        event: &Event,
    ) -> Result<(), Violation> {
        if self.is_cloned {
            return Ok(());
        }
        match &event.kind {
            EventKind::Rollout { id, change: Change::HostsFlipped { agents }, .. } => {
                let Some(course) = ledger.courses.get(id).filter(|course| course.is_strict())
                else {
                    return Ok(());
                };
                agents.iter().try_for_each(|agent| self.flips(world, ledger, course, agent))
            }
            EventKind::GoalSet { agent, application, slots, route, .. } => {
                // Led to the new release it stays in force, until another one is in the old place.
                let key = (host_of(agent), ledger.number_of(application.as_str()));
                let goes_on = |(old, left): &(Slot, Version)| {
                    let held = slots.of(*old).version();
                    let leads = route.as_ref().map_or_else(
                        || Slot::ALL.into_iter().find(|it| runs(slots.of(*it))),
                        |route| Some(route.to),
                    );
                    leads == Some(old.other()) && held.is_none_or(|held| held == left)
                };
                if self.left.get(&key).is_some_and(|left| !goes_on(left)) {
                    self.left.remove(&key);
                }
                Ok(())
            }
            EventKind::AgentRemoved { agent, .. } => {
                self.left.retain(|(host, _), _| *host != host_of(agent));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A gate that leads clients over holds until it is told, with nothing under way.
    fn flips(
        &mut self,
        world: &World,
        ledger: &Ledger,
        course: &Course,
        agent: &AgentName,
    ) -> Result<(), Violation> {
        let host = host_of(agent);
        let key = (host, course.application);
        let led = ledger
            .goals
            .get(&key)
            .and_then(|goal| Slot::ALL.into_iter().find(|slot| goal.leads_to(*slot)));
        let runs_new = |slot: Slot| {
            let goal = ledger.goals.get(&key);
            goal.is_some_and(|goal| goal.slots.of(slot).version() == Some(&course.to))
        };
        // One on which nothing served has nothing to be led away from.
        let left = led.and_then(|old| {
            let goal = ledger.goals.get(&key)?;
            Some((old, goal.slots.of(old).version()?.clone()))
        });
        let (Some((old, left)), Some(name)) = (left, name_of(world, course.application)) else {
            return Ok(());
        };
        if !runs_new(old.other()) || self.flipped_bits.contains(&host) {
            return Ok(());
        }
        let wrong = |what: &str| {
            let text = format!("rollout {} cuts over, and {agent} {what}", course.id);
            Err(Violation::new("G8", text))
        };
        if !self.armed.contains(&(host, name.clone())) {
            return wrong("is not armed");
        }
        let gate = &world.host(host).gate;
        if Slot::ALL.into_iter().any(|slot| gate.is_busy(&name, slot, world.now)) {
            return wrong("has requests under way");
        }
        self.left.insert(key, (old, left));
        Ok(())
    }

    /// Takes what an agent has decided.
    pub(super) fn agent_stepped(&mut self, number: u16, step: &AgentStep) {
        for event in &step.events {
            match event {
                AgentEvent::HoldArmed { application, .. } => {
                    self.armed.insert((number, application.clone()));
                }
                AgentEvent::HoldBegun { application, .. }
                | AgentEvent::HoldOver { application }
                | AgentEvent::Shifted { application, .. } => {
                    self.armed.remove(&(number, application.clone()));
                }
                _ => {}
            }
        }
    }

    /// Another process of an agent, which remembers what is durable.
    pub(super) fn agent_started(&mut self, world: &World, number: u16) {
        let Some(agent) = &world.host(number).agent else { return };
        self.armed.retain(|(host, _)| *host != number);
        for (name, known) in &agent.core.remembered().applications {
            if matches!(known.traffic.hold, Hold::Armed { .. }) {
                self.armed.insert((number, name.clone()));
            }
        }
    }

    /// Judges what gates really do: nobody gets the old release after the cutover.
    pub(super) fn stays_over(&self, world: &World) -> Result<(), Violation> {
        for ((host, application), (old, _)) in &self.left {
            let Some(name) = name_of(world, *application) else { continue };
            let is_busy = world.host(*host).gate.is_busy(&name, *old, world.now);
            if is_busy && !self.flipped_bits.contains(host) {
                let text = format!("host-{host} gives clients the old {name} after a cutover");
                return Err(Violation::new("G8", text));
            }
        }
        Ok(())
    }
}

const fn runs(slot: &GoalSlot) -> bool {
    matches!(slot, GoalSlot::Running(_))
}

fn name_of(world: &World, application: u16) -> Option<ApplicationName> {
    world.script.applications.get(usize::from(application))?.name.parse().ok()
}
