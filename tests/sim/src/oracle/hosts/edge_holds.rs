//! What becomes of holds at an edge: G4, one ends in time and with the agent's process unless it was
//! armed while it was in force, then it ends by other routes alone; the gate is told the same; and an
//! edge is told of as drained only where its gate holds with nothing under way.

use std::{collections::BTreeMap, time::Duration};

use cutover_agent_core::{Action, Agent, Event, Input, Step};
use cutover_common::{ApplicationName, EdgeHold, EdgeReport, EdgeRoutes, HoldState};

use super::super::Violation;
use crate::{
    moment::Moment,
    world::{Host, World},
};

/// The agents' clocks count whole milliseconds.
const ROUNDING: Duration = Duration::from_millis(1);

/// The holds of one edge.
#[derive(Debug, Default)]
pub(super) struct EdgeHolds {
    /// What its routes say.
    told: BTreeMap<ApplicationName, EdgeHold>,
    /// Of what was begun by this process the number, and until when it lasts unless it is armed.
    held: BTreeMap<ApplicationName, (u64, Moment)>,
    armed: BTreeMap<ApplicationName, u64>,
    /// What the gate was told to hold last, by this process.
    at_gate: BTreeMap<ApplicationName, EdgeHold>,
    /// Whether the gate has said that it follows that.
    is_followed: bool,
}

fn wrong(host: &Host, what: &str) -> Violation {
    Violation::new("G4", format!("{}: {what}", host.name))
}

impl EdgeHolds {
    /// Another process of the agent: what is not armed is over.
    pub(super) fn started(&mut self, core: &Agent) {
        let remembered = core.remembered();
        let told = remembered.edge.iter().flat_map(EdgeRoutes::holds).collect();
        *self = Self { told, armed: remembered.edge_armed.clone(), ..Self::default() };
    }

    /// Notes what the gate answers.
    pub(super) fn takes(&mut self, input: &Input) {
        match input {
            Input::GateAnswered { result: Ok(_), .. } => self.is_followed = true,
            Input::GateAnswered { .. } | Input::GateLost { .. } => self.is_followed = false,
            _ => {}
        }
    }

    /// Judges what was decided.
    pub(super) fn stepped(
        &mut self,
        world: &World,
        host: &Host,
        step: &Step,
    ) -> Result<(), Violation> {
        for event in &step.events {
            match event {
                Event::EdgeRouted(routes) => self.follow(routes, world.now),
                Event::EdgeArmed { application, number } => {
                    let held = self.held.get(application);
                    let is_held = held.is_some_and(|(held, until)| {
                        held == number && world.now < *until + ROUNDING
                    });
                    if !is_held {
                        let what = format!("{application} is armed, and was not held any more");
                        return Err(wrong(host, &what));
                    }
                    self.armed.insert(application.clone(), *number);
                }
                _ => {}
            }
        }
        for action in &step.actions {
            match action {
                Action::TellGate { program, .. } => {
                    let names = program.edges.iter().filter(|(_, edge)| edge.hold.is_some());
                    let names: Vec<&ApplicationName> = names.map(|(name, _)| name).collect();
                    for name in program.edges.keys() {
                        self.tells_gate(host, name, names.contains(&name), world.now)?;
                    }
                    let told = |name: &&ApplicationName| {
                        Some(((*name).clone(), self.told.get(*name).copied()?))
                    };
                    self.at_gate = names.iter().filter_map(told).collect();
                    self.is_followed = false;
                }
                Action::SendHeartbeat { edge: Some(edge), .. } => says(world, host, edge)?,
                _ => {}
            }
        }
        self.is_in_time(world, host)
    }

    fn follow(&mut self, routes: &EdgeRoutes, now: Moment) {
        self.told = routes.holds().collect();
        let Self { told, held, armed, .. } = self;
        held.retain(|name, _| told.contains_key(name));
        armed.retain(|name, number| {
            told.get(name).is_some_and(|hold| hold.is_armed && hold.number == *number)
        });
        for (name, hold) in told.iter().filter(|(_, hold)| !hold.is_armed) {
            if held.get(name).is_none_or(|(number, _)| *number != hold.number) {
                held.insert(name.clone(), (hold.number, now + hold.limits.lasts()));
            }
        }
    }

    /// Returns whether what is new may be held, and until when if it has to end.
    fn in_force(&self, name: &ApplicationName) -> Option<Option<Moment>> {
        let hold = self.told.get(name)?;
        if hold.is_armed {
            return (self.armed.get(name) == Some(&hold.number)).then_some(None);
        }
        let (number, until) = self.held.get(name)?;
        (*number == hold.number).then_some(Some(*until))
    }

    fn tells_gate(
        &self,
        host: &Host,
        name: &ApplicationName,
        holds: bool,
        now: Moment,
    ) -> Result<(), Violation> {
        let (may, must) = match self.in_force(name) {
            None => (false, false),
            Some(None) => (true, true),
            Some(Some(until)) => (now < until + ROUNDING, now + ROUNDING < until),
        };
        if holds && !may || !holds && must {
            let what = format!("its gate is told to hold {name}, or to go on, and nothing says so");
            return Err(wrong(host, &what));
        }
        Ok(())
    }

    /// What is not armed is let go when its time is over, unless the gate has not answered.
    fn is_in_time(&self, world: &World, host: &Host) -> Result<(), Violation> {
        let is_late = |(name, hold): &(&ApplicationName, &EdgeHold)| {
            let until = self.held.get(*name).map(|(_, until)| *until);
            !hold.is_armed
                && self.in_force(name) != Some(None)
                && until.is_none_or(|until| until + ROUNDING < world.now)
        };
        match self.at_gate.iter().find(is_late) {
            Some((name, _)) if self.is_followed => {
                let what = format!("{name} is held for longer than it may be, and nobody armed it");
                Err(wrong(host, &what))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// Judges what is told: drained is what the gate holds with nothing under way.
fn says(world: &World, host: &Host, edge: &EdgeReport) -> Result<(), Violation> {
    if !host.gate.is_up {
        return Ok(());
    }
    for cutover in edge.cutovers.iter().filter(|it| it.state == HoldState::Drained) {
        let name = &cutover.application;
        if !host.gate.holds_behind(name) || host.gate.is_busy_at_all(name, world.now) {
            let what = format!("tells that {name} is drained at its edge, and it is not");
            return Err(wrong(host, &what));
        }
    }
    Ok(())
}
