//! On disk first, as a type: actions can be performed only when their reasons are durable.

use cutover_coordinator_core::{Action, Step};

use crate::{
    codec,
    narrate::narrate,
    store::{AppendError, StoreHandle},
};

/// Actions whose reasons are on disk. Only [`Ledger::commit`] makes one.
#[derive(Debug)]
#[must_use]
pub struct Durable(Vec<Action>);

impl Durable {
    /// Releases the actions to be performed.
    pub fn release(self) -> Vec<Action> {
        self.0
    }
}

/// The log, as the engine writes it.
#[derive(Debug)]
pub struct Ledger {
    store: StoreHandle,
}

impl Ledger {
    /// Writes to `store`.
    pub const fn new(store: StoreHandle) -> Self {
        Self { store }
    }

    /// Stores the events of `steps` with one flush and releases their actions.
    ///
    /// # Errors
    ///
    /// On an error no action is released.
    pub async fn commit(&self, steps: Vec<Step>) -> Result<Durable, AppendError> {
        let mut events = Vec::new();
        let mut actions = Vec::new();
        for step in steps {
            events.extend(step.events);
            actions.extend(step.actions);
        }
        if !events.is_empty() {
            self.store.append(events.iter().map(codec::encode).collect()).await?;
            events.iter().for_each(narrate);
        }
        Ok(Durable(actions))
    }
}
