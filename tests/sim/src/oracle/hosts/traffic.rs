//! What becomes of traffic: G1, nothing is stopped under its clients; G2, traffic leaves what
//! serves only for what has proved itself; A5 and F3, it leaves only when it may.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use cutover_agent_core::{Agent, Event, Input, Step};
use cutover_common::{
    ApplicationName, InstanceId, Release, Report, Slot, SlotGoal, Swap, Traffic as Told,
};

use super::{super::Violation, health::Answered};
use crate::world::{Host, World};

/// The traffic of one host's applications.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    /// Where it was to go last.
    to: BTreeMap<ApplicationName, Option<Slot>>,
    /// The applications of which the gate has said that it does not serve them as it was told.
    unserved: BTreeSet<ApplicationName>,
}

fn wrong(promise: &'static str, host: &Host, what: &str) -> Violation {
    Violation::new(promise, format!("{}: {what}", host.name))
}

impl Traffic {
    /// What was decided and not stored was not decided.
    pub(super) fn started(&mut self, core: &Agent) {
        let known = core.remembered().applications.iter();
        self.unserved.clear();
        self.to = known.map(|(name, known)| (name.clone(), known.traffic.to)).collect();
    }

    /// Notes what the gate says.
    pub(super) fn takes(&mut self, input: &Input) {
        let (Input::GateSaid { state } | Input::GateAnswered { result: Ok(state), .. }) = input
        else {
            return;
        };
        let unserved = state.troubles.iter().filter(|(_, trouble)| !trouble.is_served);
        self.unserved = unserved.map(|(name, _)| name.clone()).collect();
    }

    /// Judges what is told of it: what the gate does not serve gets nothing.
    pub(super) fn tells(&self, host: &Host, report: &Report) -> Result<(), Violation> {
        let is_here = report.slots.iter().any(|(_, slot)| slot.traffic == Told::Here);
        if !is_here || !self.unserved.contains(&report.application) {
            return Ok(());
        }
        let what = format!("tells of traffic for {}, which it cannot serve", report.application);
        Err(wrong("G2", host, &what))
    }

    /// Judges where traffic is to go. Returns whether it is taken from somebody.
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
                Event::Shifted { application, to, .. } => {
                    let from = self.to.insert(application.clone(), *to).flatten();
                    let Some(from) = from.filter(|from| Some(*from) != *to) else { continue };
                    disrupts = true;
                    leaves(world, host, core, application, (from, *to), answered)?;
                }
                // What has ended is given up with its traffic.
                Event::StopDone { application, slot, .. } => {
                    if let Some(to) = self.to.get_mut(application)
                        && *to == Some(*slot)
                    {
                        *to = None;
                    }
                }
                Event::Summarised(_)
                | Event::CoordinatorBound(_)
                | Event::SplitBrainSeen { .. }
                | Event::CoordinatorForgotten
                | Event::AssignmentAccepted(_)
                | Event::EdgeRouted(_)
                | Event::EdgeArmed { .. }
                | Event::TermRaised { .. }
                | Event::Prepared { .. }
                | Event::Forgotten { .. }
                | Event::StartStarted { .. }
                | Event::Started { .. }
                | Event::StartFailed { .. }
                | Event::Exited { .. }
                | Event::StopStarted { .. }
                | Event::HoldBegun { .. }
                | Event::HoldArmed { .. }
                | Event::HoldOver { .. }
                | Event::OutageMeasured { .. }
                | Event::HookBegun { .. }
                | Event::HookOver { .. }
                | Event::AfterStopStarted { .. }
                | Event::HookEnded { .. } => {}
            }
        }
        Ok(disrupts)
    }
}

/// G2: what serves well is left only for what has proved itself, or for nobody where both cannot
/// be there.
fn leaves(
    world: &World,
    host: &Host,
    core: &Agent,
    name: &ApplicationName,
    (from, to): (Slot, Option<Slot>),
    answered: &Answered,
) -> Result<(), Violation> {
    let Some(known) = core.remembered().applications.get(name) else { return Ok(()) };
    // One step can know the old one ended.
    let Some(old) = known.slots.of(from).instance.as_ref() else { return Ok(()) };
    let process = host.kernel.processes.get(&old.id);
    // By what its agent has heard: it cannot know that what failed its probes is well again.
    let is_well = |it: &crate::world::Process| it.is_well(world.now) && it.failures == 0;
    let serves = process.is_some_and(is_well) && host.gate.leads_to(name, from);
    if !serves {
        return Ok(());
    }
    match to {
        Some(to) => {
            let new = known.slots.of(to).instance.as_ref();
            let is_proved = new.is_some_and(|new| answered.has_settled(core, new.id, world.now));
            if is_proved {
                return Ok(());
            }
            let what =
                format!("{name} leaves {from}, which serves, for {to}, which is not settled");
            Err(wrong("G2", host, &what))
        }
        None => {
            let wanted = Slot::ALL.into_iter().find_map(|slot| match known.goal(slot) {
                SlotGoal::Running(release) => Some((slot, release)),
                SlotGoal::Absent | SlotGoal::Prepared(_) => None,
            });
            let fits = |(slot, release): (Slot, &Arc<Release>)| {
                slot != from && is_beside(release) && is_beside(&old.release)
            };
            if !wanted.is_some_and(fits) {
                return Ok(());
            }
            let what = format!("{name} leaves {from}, which serves, for nobody");
            Err(wrong("G2", host, &what))
        }
    }
}

pub(super) fn is_beside(release: &Release) -> bool {
    release.service.as_ref().is_some_and(|service| service.swap == Swap::Beside)
}

/// G1: the gate sends nothing to an instance that is about to be stopped, and nothing is under
/// way there.
pub(super) fn may_stop(
    world: &World,
    host: &Host,
    (application, slot): (&ApplicationName, Slot),
    instance: InstanceId,
    release: &Release,
) -> Result<(), Violation> {
    let is_alive =
        host.kernel.processes.get(&instance).is_some_and(crate::world::Process::is_alive);
    if release.service.is_none() || !is_alive {
        return Ok(());
    }
    if host.gate.leads_to(application, slot) {
        let what = format!("{} is stopped in {slot}, where the gate leads", release.name);
        return Err(wrong("G1", host, &what));
    }
    if host.gate.is_busy(application, slot, world.now) {
        let what = format!("{} is stopped in {slot} with requests under way", release.name);
        return Err(wrong("G1", host, &what));
    }
    Ok(())
}
