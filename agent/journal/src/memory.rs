//! A journal in memory, for tests and for what need not outlive the process.

use cutover_agent_core::Event;

use crate::{Journal, WriteJournal};

/// Keeps events in memory.
#[derive(Debug, Default)]
pub struct MemoryJournal {
    events: Vec<Event>,
    is_broken: bool,
}

impl MemoryJournal {
    /// Makes one that refuses every write, like a disk that is gone.
    pub const fn broken() -> Self {
        Self { events: Vec::new(), is_broken: true }
    }

    /// Returns what was appended.
    pub fn events(&self) -> &[Event] {
        &self.events
    }
}

impl Journal for MemoryJournal {
    fn append(&mut self, events: &[Event]) -> Result<(), WriteJournal> {
        if self.is_broken {
            return Err(WriteJournal::Poisoned);
        }
        self.events.extend_from_slice(events);
        Ok(())
    }

    fn is_long(&self) -> bool {
        self.events.len() > 1000
    }

    fn replace(&mut self, events: &[Event]) -> Result<(), WriteJournal> {
        self.events.clear();
        self.append(events)
    }
}
