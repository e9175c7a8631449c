//! What becomes of holds and shares: G4, what is held is released in time, unless it was armed
//! while it was held, and is told of as drained only where the gate is; G5, the slot that is not
//! led to gets the share that its goal says, when it has settled.

use std::{collections::BTreeMap, time::Duration};

use cutover_agent_core::{Action, Agent, Aside, Event, GateService, Hold, Step};
use cutover_common::{ApplicationName, HoldState, InstanceId, Permille, Report, Slot};

use super::{super::Violation, health::Answered};
use crate::{
    moment::Moment,
    world::{Host, World},
};

/// The agents' clocks count whole milliseconds.
const ROUNDING: Duration = Duration::from_millis(1);

/// The holds and shares of one host's applications.
#[derive(Debug, Default)]
pub(super) struct Holds {
    held: BTreeMap<ApplicationName, Held>,
    /// What the slot that is not led to gets, and which instance there has settled for it.
    asides: BTreeMap<ApplicationName, (Slot, Aside, Option<InstanceId>)>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Held {
    /// Until then. None: until the agent that has just begun decides anything.
    Until(Option<Moment>),
    Armed,
}

fn wrong(promise: &'static str, host: &Host, what: &str) -> Violation {
    Violation::new(promise, format!("{}: {what}", host.name))
}

impl Holds {
    /// Another process of the agent: what is not armed is over.
    pub(super) fn started(&mut self, core: &Agent) {
        (self.held, self.asides) = (BTreeMap::new(), BTreeMap::new());
        for (name, known) in &core.remembered().applications {
            let held = match known.traffic.hold {
                Hold::Begun { .. } => Some(Held::Until(None)),
                Hold::Armed { .. } => Some(Held::Armed),
                Hold::None | Hold::Over { .. } => None,
            };
            self.held.extend(held.map(|held| (name.clone(), held)));
            if let Some(to) = known.traffic.to.filter(|_| !known.traffic.aside.is_nothing()) {
                let other = to.other();
                let aside = (other, known.traffic.aside.clone(), instance_in(core, name, other));
                self.asides.insert(name.clone(), aside);
            }
        }
    }

    /// Judges what was decided. Returns whether anything is held that went on.
    pub(super) fn stepped(
        &mut self,
        world: &World,
        host: &Host,
        step: &Step,
        core: &Agent,
        answered: &Answered,
    ) -> Result<bool, Violation> {
        let mut disrupts = false;
        for event in &step.events {
            match event {
                Event::HoldBegun { application, limits, .. } => {
                    disrupts = true;
                    let until = world.now + limits.within;
                    self.held.insert(application.clone(), Held::Until(Some(until)));
                }
                Event::HoldArmed { application, .. } => {
                    disrupts = true;
                    let held = self.held.insert(application.clone(), Held::Armed);
                    if !held.is_some_and(|held| held.lasts(world.now)) {
                        let what = format!("{application} is armed, and was not held any more");
                        return Err(wrong("G4", host, &what));
                    }
                }
                Event::HoldOver { application } => {
                    let held = self.held.remove(application);
                    if !matches!(held, Some(Held::Until(_))) {
                        let what = format!("{application} is released, and was not held, or armed");
                        return Err(wrong("G4", host, &what));
                    }
                }
                Event::Shifted { application, to, aside, .. } => {
                    self.held.remove(application);
                    self.shares(world, host, core, (application, *to, aside), answered)?;
                }
                Event::StopDone { application, slot, .. } => {
                    self.ended(application, *slot);
                    let known = core.remembered().applications.get(application);
                    if known.is_none_or(|known| known.traffic.to.is_none()) {
                        self.held.remove(application);
                    }
                }
                Event::Exited { application, slot, .. }
                | Event::StartFailed { application, slot, .. } => self.ended(application, *slot),
                _ => {}
            }
        }
        let is_late = |(name, held): (&ApplicationName, &Held)| {
            (!held.lasts(world.now)).then(|| name.clone())
        };
        if let Some(name) = self.held.iter().find_map(is_late) {
            let what = format!("{name} is held for longer than it may be, and nobody armed it");
            return Err(wrong("G4", host, &what));
        }
        Ok(disrupts)
    }

    /// What was in that slot has ended: another one has to settle first.
    fn ended(&mut self, name: &ApplicationName, slot: Slot) {
        self.asides.retain(|of, (at, ..)| of != name || *at != slot);
    }

    fn shares(
        &mut self,
        world: &World,
        host: &Host,
        core: &Agent,
        (name, to, aside): (&ApplicationName, Option<Slot>, &Aside),
        answered: &Answered,
    ) -> Result<(), Violation> {
        let before = self.asides.remove(name);
        let Some(to) = to.filter(|_| !aside.is_nothing()) else { return Ok(()) };
        let other = to.other();
        let known = core.remembered().applications.get(name);
        let route = known.and_then(|known| known.assignment.route.as_ref());
        if route.is_none_or(|it| (it.to, it.share, &it.allow) != (to, aside.share, &aside.allow)) {
            let what = format!("{other} of {name} gets another share than its goal says");
            return Err(wrong("G5", host, &what));
        }
        let instance = instance_in(core, name, other);
        let has_settled = before.is_some_and(|(at, _, it)| at == other && it == instance)
            || instance.is_some_and(|it| answered.has_settled(core, it, world.now));
        if !has_settled {
            let what = format!("{other} of {name} gets a share, and is not settled");
            return Err(wrong("G5", host, &what));
        }
        self.asides.insert(name.clone(), (other, aside.clone(), instance));
        Ok(())
    }

    /// Judges what the gate is told.
    pub(super) fn does(&self, host: &Host, action: &Action) -> Result<(), Violation> {
        let Action::TellGate { program, .. } = action else { return Ok(()) };
        for (name, service) in &program.services {
            if service.hold.is_some() != self.held.contains_key(name) {
                let what =
                    format!("the gate is told to hold {name}, or to go on, and nothing says so");
                return Err(wrong("G4", host, &what));
            }
            if service.hold.is_some() && Slot::ALL.iter().any(|slot| service.gives_to(*slot)) {
                let what = format!("the gate is told to hold {name}, and where to lead it");
                return Err(wrong("G4", host, &what));
            }
            let share = self.asides.get(name).map_or(Permille::NONE, |(_, aside, _)| aside.share);
            if service.hold.is_none() && !is_shared(service, share) {
                let what = format!("the gate is told another share of {name} than {share:?}");
                return Err(wrong("G5", host, &what));
            }
        }
        Ok(())
    }

    /// Judges what is told: drained is what the gate holds with nothing under way.
    pub(super) fn tells(
        &self,
        world: &World,
        host: &Host,
        report: &Report,
    ) -> Result<(), Violation> {
        let name = &report.application;
        if report.hold != HoldState::Drained || !host.gate.is_up {
            return Ok(());
        }
        let is_busy = |slot: &Slot| host.gate.is_busy(name, *slot, world.now);
        if !host.gate.holds(name) || Slot::ALL.iter().any(is_busy) {
            let what = format!("tells that {name} is drained, and its gate is not");
            return Err(wrong("G4", host, &what));
        }
        Ok(())
    }
}

impl Held {
    fn lasts(self, now: Moment) -> bool {
        match self {
            Self::Armed => true,
            Self::Until(until) => until.is_some_and(|until| now < until + ROUNDING),
        }
    }
}

/// Returns whether two that are healthy share as told.
fn is_shared(service: &GateService, share: Permille) -> bool {
    let Some(to) = service.to else { return true };
    let weight = |slot: Slot| service.upstreams.of(slot).filter(|it| it.is_healthy);
    let Some((one, other)) = weight(to).zip(weight(to.other())) else { return true };
    (one.weight, other.weight) == (share.rest().get(), share.get())
}

fn instance_in(core: &Agent, name: &ApplicationName, slot: Slot) -> Option<InstanceId> {
    let known = core.remembered().applications.get(name)?;
    known.slots.of(slot).instance.as_ref().map(|instance| instance.id)
}
