//! Simulations: how a rollout would go on the fleet of this moment, decided by the real core.
//!
//! [`Coordinator::simulation`](crate::Coordinator::simulation) takes a copy of what matters to one
//! rollout, which is quick. [`Simulation::run`] then starts the rollout in the copy, with
//! pretended hosts that do what they are told, on a clock that jumps from one moment at which
//! something happens to the next. That takes its time, and is to be done beside the loop that owns
//! the real one: nothing of it reaches that, no event and no goal.
//!
//! Hosts are as they are at this moment: who is away stays away, who is ill stays ill until it is
//! told to run something else. What goes wrong beyond that is said with the order ([`Faults`]).
//! What no setting says is assumed, and the result says what that is.

mod begin;
mod faults;
mod host;
mod run;
mod story;

use std::time::Duration;

use cutover_common::{AgentName, Version};

pub use self::{begin::Simulation, faults::Faults};
use crate::input::DeployOrder;

/// What `cutover simulate` asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SimulateOrder {
    pub order: DeployOrder,
    pub faults: Faults,
    /// Whether whoever is waited for says at once that it is good enough.
    pub promotes: bool,
    /// How long it is assumed to take from the start of an instance to the first probe that passes.
    pub starts_in: Duration,
}

/// How a rollout would go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Simulated {
    pub from: Option<Version>,
    pub to: Version,
    pub strategy: String,
    pub batches: usize,
    pub ending: Ending,
    /// Two sentences at the most.
    pub why: String,
    pub lasts: Duration,
    pub story: Vec<StoryLine>,
    /// How many hosts the environment has.
    pub members: u32,
    pub lowest: Lowest,
    pub hosts: Vec<SimulatedHost>,
    /// What no setting says.
    pub assumed: String,
}

/// Something that would happen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoryLine {
    pub after: Duration,
    pub text: String,
}

/// The first moment at which the fewest hosts are known to be healthy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Lowest {
    pub healthy: u32,
    pub after: Duration,
}

/// A host of the rollout, at its end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SimulatedHost {
    pub agent: AgentName,
    /// Counted from 1.
    pub batch: usize,
    pub state: &'static str,
    pub detail: String,
    /// None: nothing, or it is not known.
    pub runs: Option<Version>,
}

/// How a simulation ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ending {
    Succeeded,
    /// It would stop where it was asked to, before clients notice.
    Staged,
    RolledBack,
    Aborted,
    Held,
    /// It would wait for a person to promote it.
    Waits,
    /// It was not over within what one simulation may take.
    Unfinished,
}

impl Ending {
    /// Returns the word that is shown.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Staged => "staged",
            Self::RolledBack => "rolled_back",
            Self::Aborted => "aborted",
            Self::Held => "held",
            Self::Waits => "waits",
            Self::Unfinished => "unfinished",
        }
    }

    /// Returns whether the rollout would do what it was asked to.
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Succeeded | Self::Staged)
    }
}

#[cfg(test)]
mod tests;
