//! On disk first, as a type: actions can be performed only when their reasons are durable.

use cutover_coordinator_core::{Action, Step};

use crate::{
    codec,
    narrate::narrate,
    store::{AppendError, BATCH_BYTES_MAX, StoreHandle, batch_bytes},
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

    /// Stores the events of `steps` and releases their actions: with one flush, or with some
    /// where they are more than one append takes.
    ///
    /// # Errors
    ///
    /// On an error no action is released.
    pub async fn commit(&self, steps: Vec<Step>) -> Result<Durable, AppendError> {
        for batch in batches(&steps) {
            self.store.append(batch).await?;
        }
        let mut actions = Vec::new();
        for step in steps {
            step.events.iter().for_each(narrate);
            actions.extend(step.actions);
        }
        Ok(Durable(actions))
    }
}

/// Divides the events of `steps` into what one append takes each. A step stays whole where it
/// fits: after a crash between two appends the log then ends as if the later inputs never came.
fn batches(steps: &[Step]) -> Vec<Vec<Vec<u8>>> {
    let mut batches = Vec::new();
    let mut batch = Vec::new();
    let mut size_bytes = 0;
    for step in steps {
        let events: Vec<Vec<u8>> = step.events.iter().map(codec::encode).collect();
        if size_bytes + batch_bytes(&events) > BATCH_BYTES_MAX {
            batches.push(std::mem::take(&mut batch));
            size_bytes = 0;
        }
        for event in events {
            let event_bytes = batch_bytes(std::slice::from_ref(&event));
            if size_bytes + event_bytes > BATCH_BYTES_MAX {
                batches.push(std::mem::take(&mut batch));
                size_bytes = 0;
            }
            size_bytes += event_bytes;
            batch.push(event);
        }
    }
    batches.push(batch);
    batches.retain(|batch| !batch.is_empty());
    batches
}

#[cfg(test)]
mod tests {
    use cutover_common::{Sha256, Timestamp};
    use cutover_coordinator_core::{Event, EventKind, enrolment::Role};

    use super::*;
    use crate::store::{MemoryStore, StoreThread};

    /// Three fifths of what one append takes.
    fn large() -> Event {
        let name = "n".repeat(BATCH_BYTES_MAX / 5 * 3);
        let token_hash = Sha256::of(b"token");
        Event {
            at: Timestamp::from_unix_ms(1),
            kind: EventKind::OperatorCreated { name, role: Role::Viewer, token_hash },
        }
    }

    fn step(events: usize) -> Step {
        Step { events: vec![large(); events], actions: vec![Action::Changed] }
    }

    #[tokio::test]
    async fn inputs_that_are_too_much_for_one_append_are_stored_with_several() {
        let (thread, store) =
            StoreThread::start(Box::new(MemoryStore::new(uuid::Uuid::from_u128(7)))).unwrap();
        let ledger = Ledger::new(store.clone());

        // A burst of inputs, and one that leads to more than an append takes: as when a rollout
        // to thousands of hosts begins.
        let durable = ledger.commit(vec![step(1), step(1), step(3)]).await.unwrap();

        assert_eq!(durable.release().len(), 3);
        assert_eq!(store.last().0, 5);
        thread.stop().await;
    }

    #[test]
    fn a_step_that_fits_is_never_divided() {
        let small = Step { events: vec![large(); 1], ..Step::default() };
        let mut pair = small.clone();
        pair.events.push(Event {
            at: Timestamp::from_unix_ms(1),
            kind: EventKind::Restored { term: cutover_common::Term(1) },
        });

        let sizes: Vec<usize> =
            batches(&[small, pair, Step::default()]).iter().map(Vec::len).collect();

        assert_eq!(sizes, [1, 2]);
    }
}
