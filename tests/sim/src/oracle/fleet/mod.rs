//! What holds of the coordinators and the fleet: locks, floors, budgets, evidence.

mod course;
mod delays;
mod evidence;
mod floor;
mod held;
mod ledger;
mod orders;
mod sessions;
mod truth;
mod wake;

use cutover_coordinator_core::{Event, Step};

use self::{ledger::Ledger, orders::Orders, truth::Truth, wake::Wake};
use super::{Seen, Violation};
use crate::{
    script::{Fault, Script},
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
        }
    }

    pub(super) fn see(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), Violation> {
        match seen {
            Seen::SiteStepped { number, step, is_timed } => {
                self.stepped(world, *number, step, *is_timed)
            }
            Seen::SiteStored { number, events } => self.stored(world, *number, events),
            Seen::SiteStarted { number } => {
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
                if matches!(fault, Fault::Backup) {
                    self.backup = Some(self.books[0].stored.clone());
                }
                Ok(())
            }
            Seen::Effect { number, effect } => {
                let stored = [&self.books[0].stored, &self.books[1].stored];
                evidence::effect(world, stored, *number, effect)
            }
            Seen::AgentStoring { .. }
            | Seen::AgentStarted { .. }
            | Seen::AgentEnds { .. }
            | Seen::Died { .. } => {
                self.truth.see(world, &self.books[0].stored, seen);
                Ok(())
            }
            Seen::End => self.end(world),
            Seen::SiteTakes { .. }
            | Seen::AgentTakes { .. }
            | Seen::AgentStepped { .. }
            | Seen::AgentStored { .. }
            | Seen::Says { .. }
            | Seen::ObservesOnly { .. }
            | Seen::Fetching { .. }
            | Seen::Retains { .. }
            | Seen::Began { .. }
            | Seen::Healed => Ok(()),
        }
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
            let scene =
                evidence::Scene { world, number, ledger: &books.decided, truth: &self.truth };
            scene.judge(event)?;
            self.orders.judge(number, &books.decided, event)?;
            books.decided.take(event, world.now)?;
        }
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

    fn end(&self, world: &World) -> Result<(), Violation> {
        for site in &world.sites {
            if let Some(process) = &site.process {
                self.books[usize::from(site.number)].decided.is_held_by(&process.core)?;
            }
        }
        Ok(())
    }
}
