//! Fence: which of two commands is newer, and what becomes of the older (promises F2, F5).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::planted;

/// Counts the starts of coordinators on one store. A later one is higher.
#[derive(
    Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Deserialize, Serialize,
)]
pub struct Term(pub u64);

/// Counts the goals of one application on one agent. A later one is higher; zero is none.
#[derive(
    Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Deserialize, Serialize,
)]
pub struct Generation(pub u64);

impl Generation {
    /// Returns the generation of the next goal.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// Orders the commands for one application on one agent.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Deserialize, Serialize)]
pub struct Fence {
    pub term: Term,
    pub generation: Generation,
}

/// What becomes of a command that reached an agent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum Acceptance {
    /// It is newer than what the agent holds, and is to become its goal.
    Adopted,
    /// The agent holds this generation already: a retry, or the same goal from a later term.
    AlreadyHeld,
    /// The agent holds a newer one. Whoever sent this is behind.
    Stale { held: Fence },
}

impl Fence {
    /// Judges a command with the fence `offered` against the one held.
    ///
    /// Both numbers must not decrease: a restored coordinator has a higher term and lower
    /// generations, and must not take the fleet back with it (F7).
    pub fn judge(self, offered: Self) -> Acceptance {
        let is_older =
            planted!(LowerGenerationAccepted: false; offered.generation < self.generation);
        if offered.term < self.term || is_older {
            return Acceptance::Stale { held: self };
        }
        if offered.generation == self.generation {
            return Acceptance::AlreadyHeld;
        }
        Acceptance::Adopted
    }
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.term.0, self.generation.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fence(term: u64, generation: u64) -> Fence {
        Fence { term: Term(term), generation: Generation(generation) }
    }

    #[test]
    fn neither_number_may_decrease() {
        let held = fence(3, 7);

        assert_eq!(held.judge(fence(3, 8)), Acceptance::Adopted);
        assert_eq!(held.judge(fence(4, 8)), Acceptance::Adopted);
        assert_eq!(held.judge(fence(3, 7)), Acceptance::AlreadyHeld);
        assert_eq!(held.judge(fence(4, 7)), Acceptance::AlreadyHeld);
        assert_eq!(held.judge(fence(4, 6)), Acceptance::Stale { held });
        assert_eq!(held.judge(fence(2, 9)), Acceptance::Stale { held });
    }
}
