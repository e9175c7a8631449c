//! What an agent remembers: all that it acted on, and nothing else (D1, D3, D4, F2).
//!
//! Every commit is kept here in memory that never fails. After a restart the agent must remember
//! exactly what it had made durable, or that and the one commit that was under way.

use cutover_agent_core::{Agent, Event, Remembered};

use super::super::Violation;
use crate::world::World;

/// How many commits are kept one by one before the oldest are taken together.
const COMMITS_MAX: usize = 64;

/// What one agent should remember.
#[derive(Debug, Default)]
pub(super) struct Memory {
    base: Remembered,
    /// Durable, in order.
    commits: Vec<Vec<Event>>,
    /// Decided since, and not known to be durable. Nothing of it was acted on.
    pending: Vec<Event>,
    /// How many bits of the journal have changed since it was last read.
    flips: usize,
    /// How many ever did.
    flips_ever: usize,
}

impl Memory {
    /// Notes what was decided.
    pub(super) fn decided(&mut self, events: &[Event]) {
        self.pending.extend_from_slice(events);
    }

    /// Notes that everything decided is durable.
    pub(super) fn stored(&mut self) {
        if !self.pending.is_empty() {
            self.commits.push(std::mem::take(&mut self.pending));
        }
    }

    /// Notes that a bit of the journal has changed.
    pub(super) const fn flipped(&mut self) {
        self.flips += 1;
        self.flips_ever += 1;
    }

    /// D1, D3: what is remembered after a restart is what was durable, with or without the commit
    /// that was under way. A changed bit in the last commit cannot be told from a torn one: one
    /// commit more may be gone for each. Returns whether that happened.
    pub(super) fn read_again(&mut self, world: &World, number: u16) -> Result<bool, Violation> {
        let Some(agent) = &world.host(number).agent else { return Ok(false) };
        let found = agent.core.remembered();
        let durable = self.commits.len();
        let under_way = std::mem::take(&mut self.pending);
        if !under_way.is_empty() {
            self.commits.push(under_way);
        }
        let fewest = durable.saturating_sub(self.flips);
        self.flips = 0;
        // Mostly it is the last one, or the one before it.
        let held = (fewest..=self.commits.len()).rev().find(|count| self.is(*count, found));
        let Some(held) = held else {
            return Err(Violation::new(
                "D3",
                format!(
                    "host-{number} was started again and remembers neither what it had stored nor \
                     that and what it was storing: {}",
                    self.difference(found)
                ),
            ));
        };
        self.commits.truncate(held);
        if self.commits.len() > COMMITS_MAX {
            let last = self.commits.pop();
            let earlier = self.replay(self.commits.len());
            self.base = earlier.map_or_else(Remembered::default, |it| it.remembered().clone());
            self.commits = last.into_iter().collect();
        }
        Ok(held < durable)
    }

    /// D3: a journal is refused only because somebody damaged it.
    pub(super) fn refused(&self, number: u16) -> Result<(), Violation> {
        if self.flips_ever > 0 {
            return Ok(());
        }
        let what = format!("host-{number} refuses a journal that nobody but its agent has changed");
        Err(Violation::new("D3", what))
    }

    fn is(&self, count: usize, found: &Remembered) -> bool {
        self.replay(count).is_some_and(|it| it.remembered() == found)
    }

    fn replay(&self, count: usize) -> Option<Agent> {
        let base = Event::Summarised(Box::new(self.base.clone()));
        let events = self.commits[..count].iter().flatten();
        Agent::replay(std::iter::once(&base).chain(events)).ok()
    }

    fn difference(&self, found: &Remembered) -> String {
        let Some(agent) = self.replay(self.commits.len()) else {
            return "what it stored does not fit together".to_owned();
        };
        let stored = agent.remembered();
        let fences = |remembered: &Remembered| {
            let all = remembered.applications.values();
            all.map(|it| format!("{} {}", it.assignment.application, it.fence()))
                .collect::<Vec<_>>()
        };
        format!(
            "stored {:?} {:?}, remembers {:?} {:?}",
            stored.binding.map(|it| it.term),
            fences(stored),
            found.binding.map(|it| it.term),
            fences(found)
        )
    }
}
