//! The one loop: inputs in, events on disk, actions out.
//!
//! It takes the inputs that are waiting, stores what they led to with one flush, and only then
//! performs (the group commit). Heartbeats and unchanged health never touch the disk.

use std::{sync::Arc, time::Duration};

use cutover_agent_core::{Action, Agent, Input, Step};
use cutover_common::AgentName;
use cutover_runtime::{clock::Clock, dice::Dice, shutdown::Shutdown};
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::{mpsc, watch},
    task::block_in_place,
};

use crate::{
    journal::{Journal, WriteJournal, commit},
    narrate,
    status::Snapshot,
};

/// How many inputs share one flush: enough for a burst of probe answers, few enough that none
/// waits long for its actions.
const BATCH_MAX: usize = 64;

/// Runs a core.
pub struct Engine<C> {
    name: AgentName,
    agent: Agent,
    journal: Box<dyn Journal>,
    clock: C,
    dice: Arc<dyn Dice>,
    inbox: mpsc::Receiver<Input>,
    snapshots: watch::Sender<Snapshot>,
}

/// Carries out what the core asks for. May be asked for anything twice.
pub trait Perform: Send {
    /// Begins to carry out one action. Does not wait for its end: that comes back as an input.
    fn perform(&mut self, action: Action);
}

impl<C: Clock> Engine<C> {
    /// Makes the engine of an agent that was replayed from `journal`.
    pub fn new(
        name: AgentName,
        agent: Agent,
        journal: Box<dyn Journal>,
        clock: C,
        dice: Arc<dyn Dice>,
        inbox: mpsc::Receiver<Input>,
    ) -> Self {
        let snapshots = watch::Sender::new(Snapshot::default());
        Self { name, agent, journal, clock, dice, inbox, snapshots }
    }

    /// Returns what follows how the agent is.
    pub fn snapshots(&self) -> watch::Receiver<Snapshot> {
        self.snapshots.subscribe()
    }

    /// Runs until `shutdown`, or until nobody can send inputs any more.
    ///
    /// # Errors
    ///
    /// When events could not be stored. Nothing that depends on them was performed (D4).
    pub async fn run(
        mut self,
        mut performer: impl Perform,
        shutdown: Shutdown,
    ) -> Result<(), WriteJournal> {
        let step = self.agent.start(self.clock.now(), self.dice.uuid());
        self.finish(step, &mut performer)?;
        loop {
            let wait = self.wait();
            let input = tokio::select! {
                () = shutdown.requested() => return Ok(()),
                received = self.inbox.recv() => match received {
                    Some(input) => input,
                    None => return Ok(()),
                },
                () = until(wait) => Input::Tick,
            };
            let step = self.take(input);
            self.finish(step, &mut performer)?;
        }
    }

    /// Returns how long the core can wait. None: until something happens.
    fn wait(&self) -> Option<Duration> {
        self.agent.next_wake().map(|at| at.since(self.clock.now()))
    }

    /// Hands the core this input and those that wait behind it.
    fn take(&mut self, first: Input) -> Step {
        let mut all = Step::default();
        let mut taken = 0;
        let mut next = Some(first);
        while let Some(input) = next {
            let step = self.agent.handle(self.clock.now(), self.dice.uuid(), input);
            all.events.extend(step.events);
            all.actions.extend(step.actions);
            taken += 1;
            next = if taken < BATCH_MAX { self.inbox.try_recv().ok() } else { None };
        }
        all
    }

    fn finish(&mut self, step: Step, performer: &mut impl Perform) -> Result<(), WriteJournal> {
        let Step { events, actions } = step;
        let durable = blocking(|| -> Result<_, WriteJournal> {
            let durable = commit(&mut *self.journal, &events, actions)?;
            if self.journal.is_long() {
                self.journal.replace(&self.agent.summary())?;
            }
            Ok(durable)
        })?;
        for event in &events {
            narrate::event(&self.name, event, self.agent.remembered());
        }
        for action in durable.into_actions() {
            performer.perform(action);
        }
        let snapshot =
            Snapshot { is_joined: self.agent.is_joined(), reports: self.agent.reports() };
        self.snapshots.send_if_modified(|last| {
            let is_other = *last != snapshot;
            *last = snapshot;
            is_other
        });
        Ok(())
    }
}

/// An fsync takes milliseconds, which the other tasks of this thread need not wait for, as long as
/// there is another thread to run them.
fn blocking<T>(work: impl FnOnce() -> T) -> T {
    if Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread {
        block_in_place(work)
    } else {
        work()
    }
}

async fn until(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
