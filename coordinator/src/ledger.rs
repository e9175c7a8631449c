//! On disk first, as a type: actions can be performed only when their reasons are durable.

use cutover_coordinator_core::{Action, Step, codec};

use crate::{
    narrate::narrate,
    store::{AppendError, BATCH_BYTES_MAX, StoreHandle},
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
        for batch in codec::appends(&steps, BATCH_BYTES_MAX) {
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
    fn the_plan_of_the_largest_rollout_fits_into_one_event() {
        use cutover_common::check::{CHECKS_BYTES_MAX, CHECKS_MAX};
        use cutover_coordinator_core::{
            ROLLOUT_HOSTS_MAX, ZONES_MAX,
            rollout::{Plan, PlanStep, Wave},
        };
        let hold = PlanStep::Hold(std::time::Duration::new(123_456, 999_000_000));
        let wave = Wave {
            agents: vec!["a".repeat(63).parse().unwrap()],
            steps: vec![PlanStep::Prepare, PlanStep::Start, hold],
            zone: Some(u16::MAX),
            window: Some(1_000),
        };
        let zones = vec!["z".repeat(63); ZONES_MAX];
        let plan = Plan { waves: vec![wave; ROLLOUT_HOSTS_MAX], zones };

        let size_bytes = serde_json::to_vec(&plan).unwrap().len();

        // The rest of the event is names, ids and settings, and the checks of a canary: of these a
        // letter may take two, and each has its numbers.
        let checks = 2 * CHECKS_BYTES_MAX + CHECKS_MAX * 256;
        let rest = 16 * 1024 + checks;
        assert!(size_bytes + rest < crate::store::EVENT_BYTES_MAX, "{size_bytes} bytes");
    }
}
