//! What holds of the coordinators and the fleet: locks, floors, budgets, evidence.

mod checks;
mod configs;
mod course;
mod cutovers;
mod delays;
mod everywhere;
mod evidence;
mod floor;
mod groups;
mod held;
mod ledger;
mod orders;
mod queue;
mod sessions;
mod truth;
mod verdicts;
mod wake;

use cutover_coordinator_core::{Event, Input, Request, Step};

use self::{
    checks::Answers, cutovers::Cutovers, groups::Groups, ledger::Ledger, orders::Orders,
    truth::Truth, verdicts::Verdicts, wake::Wake,
};
use super::{Seen, Violation};
use crate::{
    script::{Fault, Mode, Script},
    world::World,
};

/// How many sites a run has at the most: a coordinator and its clone.
const SITES: usize = 2;

/// See above.
#[derive(Debug, Default)]
pub(super) struct FleetOracle {
    books: [Books; SITES],
    /// Of the first site, as of the last backup.
    backup: Option<Ledger>,
    truth: Truth,
    orders: Orders,
    wake: Wake,
    answers: Answers,
    verdicts: Verdicts,
    groups: Groups,
    cutovers: Cutovers,
    is_healed: bool,
    /// Whether what a coordinator takes is a drain that somebody insists on.
    is_forced: bool,
}

/// What is known of one site.
#[derive(Debug, Default)]
struct Books {
    /// By what is durable.
    stored: Ledger,
    /// By what its process has decided; some of it may never become durable.
    decided: Ledger,
}

impl FleetOracle {
    pub(super) fn new(script: &Script) -> Self {
        let books = || Books { stored: Ledger::new(script), decided: Ledger::new(script) };
        Self {
            books: [books(), books()],
            backup: None,
            truth: Truth::new(script),
            orders: Orders::default(),
            wake: Wake::default(),
            answers: Answers::default(),
            verdicts: Verdicts::new(script),
            groups: Groups::new(script),
            cutovers: Cutovers::new(script),
            is_healed: false,
            is_forced: false,
        }
    }

    pub(super) fn see(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), Violation> {
        match seen {
            Seen::SiteStepped { number, step, is_timed } => {
                self.stepped(world, *number, step, *is_timed)
            }
            Seen::SiteStored { number, events } => self.stored(world, *number, events),
            Seen::SiteTakes { number, input } => {
                self.answers.takes(*number, input);
                self.is_forced = is_forced(input);
                let decided = &self.books[usize::from(*number)].decided;
                self.verdicts.takes(world, *number, decided, input);
                Ok(())
            }
            Seen::SiteStarted { number } => {
                self.answers.begin(*number);
                self.verdicts.begin(*number);
                self.truth.see(world, &self.books[0].stored, seen);
                self.started(world, *number)
            }
            Seen::SiteEnded { .. } => {
                self.truth.see(world, &self.books[0].stored, seen);
                Ok(())
            }
            Seen::Assigned { number, session, assignment } => sessions::assigned(
                world,
                &self.truth,
                &self.books[usize::from(*number)].stored,
                (*number, *session),
                assignment,
            ),
            Seen::Restored => self.restored(world),
            Seen::Asked { id } => {
                self.orders.asked(world, *id);
                Ok(())
            }
            Seen::Answered { id, call } => self.orders.answered(*id, call, &self.books[0].stored),
            Seen::Fault { fault } => {
                self.truth.see(world, &self.books[0].stored, seen);
                self.groups.fault(fault);
                self.cutovers.fault(fault);
                if matches!(fault, Fault::Backup) {
                    self.backup = Some(self.books[0].stored.clone());
                }
                Ok(())
            }
            Seen::Effect { number, effect } => {
                let stored = [&self.books[0].stored, &self.books[1].stored];
                evidence::effect(world, stored, *number, effect)
            }
            Seen::AgentStarted { .. }
            | Seen::AgentStepped { .. }
            | Seen::GateFollows { .. }
            | Seen::AgentStoring { .. }
            | Seen::AgentEnds { .. }
            | Seen::Died { .. } => self.host_moved(world, seen),
            Seen::End => self.end(world),
            Seen::Says { number, up, .. } => {
                self.verdicts.says(world, *number, up);
                Ok(())
            }
            Seen::AgentTakes { .. }
            | Seen::AgentStored { .. }
            | Seen::ObservesOnly { .. }
            | Seen::Fetching { .. }
            | Seen::Retains { .. }
            | Seen::Began { .. } => Ok(()),
            Seen::Healed => {
                self.is_healed = true;
                Ok(())
            }
        }
    }

    /// Takes what happened on a host.
    fn host_moved(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), Violation> {
        match seen {
            Seen::AgentStepped { number, step } => {
                self.cutovers.agent_stepped(*number, step);
                return self.groups.agent_stepped(*number, step);
            }
            Seen::GateFollows { .. } => {
                self.cutovers.stays_over(world)?;
                return self.groups.stays_left(world, &self.books[0].decided);
            }
            Seen::AgentStarted { number } => {
                self.groups.agent_started(world, *number);
                self.cutovers.agent_started(world, *number);
            }
            Seen::Died { number, instance } => self.verdicts.died(world, *number, *instance),
            _ => {}
        }
        self.truth.see(world, &self.books[0].stored, seen);
        Ok(())
    }

    fn stepped(
        &mut self,
        world: &World,
        number: u16,
        step: &Step,
        is_timed: bool,
    ) -> Result<(), Violation> {
        sessions::stepped(world, &self.books[usize::from(number)].decided, number, step)?;
        let books = &mut self.books[usize::from(number)];
        for event in &step.events {
            let scene = evidence::Scene {
                world,
                number,
                ledger: &books.decided,
                truth: &self.truth,
                is_forced: self.is_forced,
            };
            scene.judge(event)?;
            self.groups.judge(world, &books.decided, event)?;
            self.cutovers.judge(world, &books.decided, event)?;
            self.orders.judge(number, &books.decided, event)?;
            self.answers.judge(world, number, &books.decided, event)?;
            self.verdicts.judge(world, number, &books.decided, event)?;
            books.decided.take(event, world.now)?;
        }
        self.answers.stepped(number, step);
        self.groups.stepped(world, &books.decided, step)?;
        self.wake.stepped(world, number, step, is_timed)
    }

    fn stored(&mut self, world: &World, number: u16, events: &[Event]) -> Result<(), Violation> {
        let books = &mut self.books[usize::from(number)];
        for event in events {
            books.stored.take(event, world.now)?;
        }
        books.stored.forget_times();
        Ok(())
    }

    fn started(&mut self, world: &World, number: u16) -> Result<(), Violation> {
        if number > 0 {
            // It has the first one's disk.
            self.books[usize::from(number)].stored = if world.site(number).epoch == 1 {
                self.books[0].stored.clone()
            } else {
                self.books[usize::from(number)].stored.clone()
            };
        }
        let books = &mut self.books[usize::from(number)];
        books.decided = books.stored.clone();
        let Some(process) = &world.site(number).process else { return Ok(()) };
        books.stored.is_held_by(&process.core)
    }

    fn restored(&mut self, world: &World) -> Result<(), Violation> {
        let Some(backup) = &self.backup else { return Ok(()) };
        self.cutovers.restored();
        let site = world.site(0);
        self.books[0].stored = backup.clone();
        // The last record is the one that the restore has written.
        let Some(last) = site.store.records.last() else { return Ok(()) };
        let event = cutover_coordinator_core::codec::decode(last)
            .map_err(|error| Violation::new("D1", error.to_string()))?;
        self.books[0].stored.take(&event, world.now)?;
        self.orders.restored(world.now);
        Ok(())
    }

    /// Returns who lacks what its environment runs and can be brought along, in words.
    pub(super) fn is_behind(&self, world: &World) -> Option<String> {
        self.books[0].decided.is_behind(world, &self.serving(world))
    }

    /// Returns whether a host, of those that are connected and stay so, surely serves what it is to run.
    fn serving<'a>(&'a self, world: &'a World) -> impl Fn(u16, u16) -> bool + 'a {
        let broken: &[u16] = match &world.script.mode {
            Mode::Liveness { broken, .. } => broken,
            Mode::Safety => &[],
        };
        move |host, application| {
            let agent = world.host(host).agent.as_ref();
            !broken.contains(&host)
                && agent.is_some_and(|agent| agent.core.is_joined())
                && self.truth.surely_up(world, host, application).is_some()
        }
    }

    fn end(&self, world: &World) -> Result<(), Violation> {
        for site in &world.sites {
            if let Some(process) = &site.process {
                let decided = &self.books[usize::from(site.number)].decided;
                decided.is_held_by(&process.core)?;
                if self.is_healed && site.number == 0 {
                    decided.nothing_is_forgotten()?;
                    let serves = self.serving(world);
                    self.groups.is_led_at_rest(world, decided, &serves)?;
                }
            }
        }
        Ok(())
    }
}

/// Returns whether a host is to be drained whatever the floor says.
fn is_forced(input: &Input) -> bool {
    matches!(input, Input::Asked { request: Request::DrainAgent { is_forced: true, .. }, .. })
}
