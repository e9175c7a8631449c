//! What holds on each host: fencing, effects, what keeps running.
//!
//! Every host has a book in which this oracle writes what it saw. Books survive what agents do
//! not: they are what a host's real history is.

mod disk;
mod edge_holds;
mod health;
mod holds;
mod hooks;
mod instances;
mod keeping;
mod lease;
mod memory;
mod obedience;
mod pauses;
mod traffic;

use cutover_agent_core::{Action, Agent, Input, SessionId, Step, invariants};
use cutover_common::{HookKind, Report};

use self::{
    disk::Shelves, edge_holds::EdgeHolds, health::Answered, holds::Holds, hooks::Hooks,
    instances::Instances, keeping::Keeping, lease::Permission, memory::Memory,
    obedience::Obedience, pauses::Pauses, traffic::Traffic,
};
use super::{Effect, Seen, Violation};
use crate::{
    moment::Moment,
    script::{Fault, Script},
    world::{Host, Up, World},
};

/// How many inputs may wait for an agent that runs: what one session can bring in a minute, many
/// times over.
const INBOX_MAX: usize = 4_096;

/// What is written down of one host.
#[derive(Debug, Default)]
struct Book {
    memory: Memory,
    obedience: Obedience,
    permission: Permission,
    instances: Instances,
    shelves: Shelves,
    answered: Answered,
    hooks: Hooks,
    keeping: Keeping,
    traffic: Traffic,
    holds: Holds,
    edge_holds: EdgeHolds,
    /// A changed bit made the agent forget something that it had acted on, which the journal
    /// cannot tell from a torn commit. What follows from that is not held against it.
    is_misled: bool,
}

/// See above.
#[derive(Debug, Default)]
pub(super) struct HostOracle {
    books: Vec<Book>,
    pauses: Pauses,
    /// When a host is to be looked at next.
    check_at: Option<Moment>,
}

impl HostOracle {
    pub(super) fn new(script: &Script) -> Self {
        let books = (0..script.hosts).map(|_| Book::default()).collect();
        Self { books, pauses: Pauses::default(), check_at: None }
    }

    pub(super) fn see(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), Violation> {
        self.note(world, seen)?;
        if self.check_at.is_some_and(|at| world.now >= at) {
            return self.look(world);
        }
        Ok(())
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each thing that can be seen")]
    fn note(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), Violation> {
        match *seen {
            Seen::AgentTakes { number, input } => {
                self.books[usize::from(number)].takes(world, world.host(number), input)
            }
            Seen::AgentStepped { number, step } => {
                let book = &mut self.books[usize::from(number)];
                book.stepped(world, world.host(number), step, &self.pauses)?;
                if !step.events.is_empty() {
                    self.wait_for(number);
                }
                Ok(())
            }
            Seen::AgentStoring { number, .. } => {
                self.books[usize::from(number)].keeping.storing(world.now);
                Ok(())
            }
            Seen::AgentStored { number } => {
                self.books[usize::from(number)].stored(number, world.now)
            }
            Seen::Says { number, session, up } => {
                self.books[usize::from(number)].says(world, world.host(number), session, up)
            }
            Seen::AgentStarted { number } => {
                self.books[usize::from(number)].started(world, number)?;
                self.wait_for(number);
                Ok(())
            }
            Seen::Effect { number, effect } => {
                self.books[usize::from(number)].effect(world, world.host(number), &effect)
            }
            Seen::Fetching { number, application, digest } => {
                let book = &mut self.books[usize::from(number)];
                if book.is_misled {
                    return Ok(());
                }
                book.shelves.fetches(world.host(number), application, digest)
            }
            Seen::Retains { number, retained } => {
                let (book, host) = (&self.books[usize::from(number)], world.host(number));
                if book.is_misled { Ok(()) } else { disk::keeps_what_runs(host, retained) }
            }
            Seen::Began { number, instance } => {
                let (book, host) = (&mut self.books[usize::from(number)], world.host(number));
                if let Some(process) = host.kernel.processes.get(&instance) {
                    book.shelves.began(&process.application, process.digest);
                }
                if book.is_misled {
                    return Ok(());
                }
                book.instances.began(world, host, instance)
            }
            Seen::Died { number, instance } => {
                let core = world.host(number).agent.as_ref().map(|agent| &agent.core);
                self.books[usize::from(number)].keeping.died(core, instance, world.now);
                self.wait_for(number);
                Ok(())
            }
            Seen::ObservesOnly { number } => self.books[usize::from(number)].memory.refused(number),
            Seen::Fault { fault } => {
                self.fault(fault, world.now);
                Ok(())
            }
            Seen::Asked { id } => {
                self.pauses.asked(world, id);
                Ok(())
            }
            Seen::Answered { call, .. } => {
                self.pauses.answered(world, call);
                Ok(())
            }
            Seen::Restored => {
                self.pauses.forget();
                Ok(())
            }
            Seen::SiteStored { events, .. } => {
                self.pauses.stored(events);
                Ok(())
            }
            Seen::SiteStarted { .. }
            | Seen::SiteTakes { .. }
            | Seen::SiteStepped { .. }
            | Seen::SiteEnded { .. }
            | Seen::Assigned { .. }
            | Seen::AgentEnds { .. }
            | Seen::GateFollows { .. }
            | Seen::Healed
            | Seen::End => Ok(()),
        }
    }

    fn fault(&mut self, fault: &Fault, now: Moment) {
        match *fault {
            Fault::FlipBit { host, .. } => self.books[usize::from(host)].memory.flipped(),
            Fault::PauseAgent { host, for_ms }
            | Fault::Suspend { host, for_ms }
            | Fault::FillDisk { host, for_ms }
            | Fault::SlowDisk { host, for_ms, .. }
            | Fault::RefuseProcesses { host, for_ms } => {
                self.books[usize::from(host)].keeping.disturb(now, for_ms);
            }
            Fault::Clone => self.pauses.forget(),
            _ => {}
        }
    }

    fn wait_for(&mut self, number: u16) {
        let at = self.books[usize::from(number)].keeping.check_at;
        self.check_at = self.check_at.into_iter().chain(at).min();
    }

    /// Looks at the hosts that are due.
    fn look(&mut self, world: &World) -> Result<(), Violation> {
        self.check_at = None;
        for (book, host) in self.books.iter_mut().zip(&world.hosts) {
            if book.keeping.check_at.is_some_and(|at| world.now >= at) {
                book.keeping.check(world, host)?;
            }
            self.check_at = self.check_at.into_iter().chain(book.keeping.check_at).min();
        }
        Ok(())
    }
}

impl Book {
    fn takes(&mut self, world: &World, host: &Host, input: &Input) -> Result<(), Violation> {
        let Some(agent) = &host.agent else { return Ok(()) };
        self.keeping.takes(host, input, world.now)?;
        self.hooks.takes(input);
        self.traffic.takes(input);
        self.edge_holds.takes(input);
        match input {
            Input::SessionOpened { session } => self.permission.opened(*session),
            Input::SessionEnded { session } => self.permission.ended(*session),
            Input::Echoed { session, nonce, compared: _ } => {
                self.permission.echoed(*session, *nonce);
            }
            Input::Welcomed { session, welcome } => self.obedience.welcomed(*session, welcome),
            Input::Assigned { session, assignment } => {
                self.obedience.offered(*session, assignment, &agent.core);
            }
            Input::Probed { instance, answer } => {
                self.answered.answered(&agent.core, *instance, answer.passed, world.now);
            }
            Input::Tick
            | Input::EdgeRouted { .. }
            | Input::PrepareEnded { .. }
            | Input::Started { .. }
            | Input::StartFailed { .. }
            | Input::Adopted { .. }
            | Input::Exited { .. }
            | Input::HookEnded { .. }
            | Input::Stopped { .. }
            | Input::StopFailed { .. }
            | Input::Checked { .. }
            | Input::GateAnswered { .. }
            | Input::GateSaid { .. }
            | Input::GateLost { .. } => {}
        }
        if agent.inbox.len() > INBOX_MAX {
            let what = format!("{} has {} inputs before it", host.name, agent.inbox.len());
            return Err(Violation::new("A9", what));
        }
        Ok(())
    }

    fn stepped(
        &mut self,
        world: &World,
        host: &Host,
        step: &Step,
        pauses: &Pauses,
    ) -> Result<(), Violation> {
        let Some(agent) = &host.agent else { return Ok(()) };
        let (core, now) = (&agent.core, world.now);
        let session = self.permission.session();
        self.obedience.stepped((host.number, now), step, core, session)?;
        let holds = self.holds.stepped(world, host, step, core, &self.answered)?;
        self.edge_holds.stepped(world, host, step)?;
        self.is_true(world, host, step, core)?;
        disk::keeps_what_is_wanted(host, core, step)?;
        if step.events.is_empty() {
            return Ok(());
        }
        self.memory.decided(&step.events);
        self.shelves.decided(&step.events);
        self.keeping.stepped(host, step, now)?;
        self.hooks.stepped(host, step, core)?;
        if let Some(promise) = invariants::broken(core.remembered()) {
            return Err(Violation::new(promise, format!("{} says so itself", host.name)));
        }
        // Judged as it is decided. What is decided is done when its flush has ended, which a slow
        // disk or a suspended host can make later than the permission lasts.
        let takes = self.traffic.stepped(world, host, step, core, &self.answered)?;
        if takes {
            for event in &step.events {
                if let cutover_agent_core::Event::Shifted { application, .. } = event {
                    self.obedience.stops(host.number, application, core)?;
                }
            }
        }
        let routes = |event: &cutover_agent_core::Event| {
            matches!(event, cutover_agent_core::Event::EdgeRouted(_))
        };
        // Of an edge's hosts any may get nothing more.
        let routes = step.events.iter().any(routes);
        if self.instances.stepped(world, host, step, core)? || takes || routes || holds {
            self.permission.judge(now).map_err(|why| {
                Violation::new("A5", format!("{} begins to disrupt, and {why}", host.name))
            })?;
        }
        pauses.stepped((host, core), step, &self.obedience, takes, now)
    }

    fn stored(&mut self, number: u16, now: Moment) -> Result<(), Violation> {
        self.hooks.stored();
        self.keeping.stored(now);
        self.memory.stored();
        self.instances.stored();
        self.obedience.stored(number)
    }

    fn started(&mut self, world: &World, number: u16) -> Result<(), Violation> {
        self.hooks.begins();
        let Some(agent) = &world.host(number).agent else { return Ok(()) };
        if self.memory.read_again(world, number)? {
            self.is_misled = true;
            self.obedience.forget();
        }
        self.permission = Permission::default();
        self.answered.started();
        self.instances.started(&agent.core);
        self.keeping.started(world.now);
        self.traffic.started(&agent.core);
        self.holds.started(&agent.core);
        self.edge_holds.started(&agent.core);
        self.obedience.started(number, &agent.core)
    }

    fn says(
        &mut self,
        world: &World,
        host: &Host,
        session: SessionId,
        up: &Up,
    ) -> Result<(), Violation> {
        match up {
            Up::Hello(hello) => {
                for (application, fence) in &hello.held {
                    self.obedience.tells(host.number, application, *fence)?;
                }
                Ok(())
            }
            Up::Heartbeat(beat) => {
                self.permission.sent(session, beat.nonce, world.now);
                beat.reports.iter().try_for_each(|report| self.tells(host, report))
            }
            Up::Report(report) => self.tells(host, report),
        }
    }

    fn tells(&mut self, host: &Host, report: &Report) -> Result<(), Violation> {
        self.obedience.tells(host.number, &report.application, report.fence)
    }

    /// A8, E4: what is about to be said is true at this moment.
    fn is_true(
        &self,
        world: &World,
        host: &Host,
        step: &Step,
        core: &Agent,
    ) -> Result<(), Violation> {
        for action in &step.actions {
            self.holds.does(host, action)?;
            let reports = match action {
                Action::SendHeartbeat { reports, .. } => reports.as_slice(),
                Action::SendReport { report, .. } => std::slice::from_ref(&**report),
                _ => continue,
            };
            for report in reports {
                for (_, slot) in report.slots.iter() {
                    if let Some(evidence) = &slot.instance {
                        instances::is_truth(host, evidence)?;
                    }
                }
                self.answered.tells(host, core, report, world.now)?;
                self.holds.tells(world, host, report)?;
                self.hooks.tells(host, core, report)?;
                self.traffic.tells(host, report)?;
            }
        }
        Ok(())
    }

    fn effect(&mut self, world: &World, host: &Host, effect: &Effect<'_>) -> Result<(), Violation> {
        if self.is_misled {
            return Ok(());
        }
        let (Effect::Start { place, .. } | Effect::Hook { place, .. } | Effect::Stop { place, .. }) =
            effect;
        self.obedience.acts(host.number, &place.application, place.fence)?;
        match *effect {
            Effect::Start { place, instance, release } => {
                self.hooks.starts(host, place, release)?;
                self.instances.start(world, host, (instance, place.slot), release)
            }
            Effect::Hook { place, hook, instance, release } => match (hook.kind, instance) {
                (HookKind::BeforeStop, Some(instance)) => {
                    let at = (&place.application, place.slot);
                    traffic::may_stop(world, host, at, instance, release)?;
                    self.instances.hook(host, (hook.kind, instance), release)
                }
                (HookKind::AfterStop, Some(instance)) => {
                    self.instances.hook(host, (hook.kind, instance), release)
                }
                _ => self.hooks.runs(host, place, hook, release),
            },
            Effect::Stop { place, instance, release } => {
                let at = (&place.application, place.slot);
                traffic::may_stop(world, host, at, instance, release)?;
                self.instances.stop(host, instance, release)
            }
        }
    }
}
