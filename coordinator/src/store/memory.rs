//! The event store in memory: for tests and for simulations.

use std::sync::Arc;

use uuid::Uuid;

use super::{AppendError, EventStore, Events, Sequence, event_store::refuse_too_large};

/// An event store that lives as long as its process.
#[derive(Debug)]
pub struct MemoryStore {
    incarnation: Uuid,
    events: Vec<Arc<[u8]>>,
}

impl MemoryStore {
    /// An empty store of the given incarnation: a simulation wants to choose it.
    pub fn new(incarnation: Uuid) -> Self {
        Self { incarnation, events: Vec::new() }
    }
}

impl EventStore for MemoryStore {
    fn incarnation(&self) -> Uuid {
        self.incarnation
    }

    fn last(&self) -> Sequence {
        Sequence::ZERO.plus(self.events.len())
    }

    fn append(
        &mut self,
        expected_last: Sequence,
        events: &[Vec<u8>],
    ) -> Result<Sequence, AppendError> {
        let actual = self.last();
        if expected_last != actual {
            return Err(AppendError::NotLast { expected: expected_last, actual });
        }
        refuse_too_large(events)?;
        self.events.extend(events.iter().map(|event| Arc::from(event.as_slice())));
        Ok(self.last())
    }

    fn read_after(&self, after: Sequence) -> Events {
        let skipped = usize::try_from(after.0).unwrap_or(usize::MAX);
        let rest: Vec<Arc<[u8]>> = self.events.iter().skip(skipped).cloned().collect();
        let mut sequence = after;
        Box::new(rest.into_iter().map(move |event| {
            sequence = sequence.next();
            Ok((sequence, event.to_vec()))
        }))
    }

    fn settle(&mut self) -> Result<(), AppendError> {
        Ok(())
    }
}
