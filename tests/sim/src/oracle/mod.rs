//! Oracles: they watch a run and say which promise it broke. They trust neither core: what they
//! compare with is the truth of the simulated machines, and models of their own.

mod checks;
mod edges;
mod end;
mod fleet;
mod hosts;
mod model;
mod once;
mod rest;

use cutover_agent_core::{
    HookId, Input as AgentInput, Place, Retained, SessionId as AgentSession, Step as AgentStep,
};
use cutover_common::{ApplicationName, Assignment, InstanceId, Release, Sha256};
use cutover_coordinator_core::{Event, Input as SiteInput, SessionId, Step as CoordinatorStep};

pub use self::rest::bound_ms;
use crate::{
    coverage::{Coverage, Watch},
    script::{Fault, Script},
    world::{CallId, OperatorCall, Up, World},
};

/// A promise that was broken.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{promise}: {what}")]
pub struct Violation {
    /// Its id in the list of promises.
    pub promise: &'static str,
    pub what: String,
}

impl Violation {
    /// Says what was broken.
    pub fn new(promise: &'static str, what: impl Into<String>) -> Self {
        Self { promise, what: what.into() }
    }

    /// Returns whether another run broke the same promise; if a core panicked, at the same place.
    pub fn is_like(&self, other: &Self) -> bool {
        let place = |violation: &Self| {
            violation.what.rfind("(at ").map(|at| violation.what[at..].to_owned())
        };
        self.promise == other.promise && (self.promise != "panic" || place(self) == place(other))
    }
}

/// Something that an agent does to its host. Its reasons are durable.
#[derive(Clone, Copy, Debug)]
pub enum Effect<'a> {
    Start { place: &'a Place, instance: InstanceId, release: &'a Release },
    Hook { place: &'a Place, hook: HookId, instance: Option<InstanceId>, release: &'a Release },
    Stop { place: &'a Place, instance: InstanceId, release: &'a Release },
}

/// Something that the oracles are shown, right before it takes effect in the world, or right
/// after it did.
#[derive(Clone, Copy, Debug)]
pub enum Seen<'a> {
    /// A coordinator's process has replayed its log; nothing was decided yet.
    SiteStarted {
        number: u16,
    },
    /// Its core is about to take one input.
    SiteTakes {
        number: u16,
        input: &'a SiteInput,
    },
    /// Its core took one input; nothing of it is stored yet.
    SiteStepped {
        number: u16,
        step: &'a CoordinatorStep,
        is_timed: bool,
    },
    /// Events are durable.
    SiteStored {
        number: u16,
        events: &'a [Event],
    },
    SiteEnded {
        number: u16,
    },
    /// A goal leaves for an agent.
    Assigned {
        number: u16,
        session: SessionId,
        assignment: &'a Assignment,
    },
    /// The store was made anew from a backup; the process has not started.
    Restored,
    /// A call reaches a coordinator.
    Asked {
        id: CallId,
    },
    /// An answer reaches an operator.
    Answered {
        id: CallId,
        call: &'a OperatorCall,
    },
    /// An agent's process has replayed its journal; nothing was decided yet.
    AgentStarted {
        number: u16,
    },
    /// Its core is about to take one input.
    AgentTakes {
        number: u16,
        input: &'a AgentInput,
    },
    /// Its core took one input, or began; nothing of it is stored yet.
    AgentStepped {
        number: u16,
        step: &'a AgentStep,
    },
    /// Events are written, and durable once their flush has ended.
    AgentStoring {
        number: u16,
        events: &'a [cutover_agent_core::Event],
    },
    /// The flush has ended: what was written is durable, and is acted on next.
    AgentStored {
        number: u16,
    },
    /// An agent says something, whether it is heard or not.
    Says {
        number: u16,
        session: AgentSession,
        up: &'a Up,
    },
    /// An agent's process is about to be gone.
    AgentEnds {
        number: u16,
    },
    /// An agent refuses its journal.
    ObservesOnly {
        number: u16,
    },
    Effect {
        number: u16,
        effect: Effect<'a>,
    },
    /// An agent begins to fetch what is not on its disk.
    Fetching {
        number: u16,
        application: &'a ApplicationName,
        digest: Sha256,
    },
    /// An agent is about to remove what is not named.
    Retains {
        number: u16,
        retained: &'a Retained,
    },
    /// A gate follows another program, or its last one again.
    GateFollows {
        number: u16,
    },
    /// A process has begun.
    Began {
        number: u16,
        instance: InstanceId,
    },
    /// A process has ended, however.
    Died {
        number: u16,
        instance: InstanceId,
    },
    /// A fault is about to happen.
    Fault {
        fault: &'a Fault,
    },
    /// The faults of the core of a liveness run are over.
    Healed,
    /// The run is over.
    End,
}

/// All oracles of a run, in the order in which they look.
#[derive(Debug, Default)]
pub struct Oracles {
    rows: Watch,
    hosts: hosts::HostOracle,
    fleet: fleet::FleetOracle,
    edges: edges::EdgeOracle,
    model: model::Model,
    once: once::OnceOracle,
    checks: checks::CheckOracle,
    end: end::EndOracle,
    rest: rest::RestOracle,
}

impl Oracles {
    /// Makes the oracles of a run.
    pub fn new(script: &Script) -> Self {
        Self {
            rows: Watch::new(script),
            hosts: hosts::HostOracle::new(script),
            fleet: fleet::FleetOracle::new(script),
            edges: edges::EdgeOracle::new(script),
            model: model::Model::new(script),
            once: once::OnceOracle::default(),
            checks: checks::CheckOracle::default(),
            end: end::EndOracle::new(script),
            rest: rest::RestOracle::default(),
        }
    }

    /// Returns which rows of the list of faults were reached.
    pub const fn coverage(&self) -> &Coverage {
        self.rows.coverage()
    }

    /// Returns what is not at rest, of all that is to be well for ever.
    pub(crate) fn restless(&self, world: &World) -> Option<String> {
        rest::restless(world, &self.fleet)
    }

    /// Looks at something.
    ///
    /// # Errors
    ///
    /// When it breaks a promise.
    pub fn see(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), Violation> {
        self.rows.see(world, seen);
        self.hosts.see(world, seen)?;
        self.fleet.see(world, seen)?;
        self.edges.see(world, seen)?;
        self.model.see(world, seen)?;
        self.once.see(world, seen)?;
        self.checks.see(seen)?;
        self.end.see(world, seen)?;
        self.rest.see(world, seen, &self.fleet)
    }
}
