//! The agent's core: what to prepare, start, stop, probe and report, and when. Decides; does
//! nothing itself.
//!
//! [`Agent::handle`] takes what happened, the time and some luck, and returns events to store
//! and actions to perform once they are stored. What is remembered changes only in `apply`, live
//! and on replay; what is volatile (health, lease, session, retries) starts empty.
//!
//! What it promises is in [`invariants`], under the ids of the project's list of promises.

pub mod action;
pub mod agent;
mod apply;
mod checks;
pub mod edge;
mod event;
pub mod gate;
pub mod goal;
mod hold;
mod hooks;
pub mod input;
mod intake;
pub mod invariants;
pub mod lease;
pub mod prepare;
pub mod probe;
mod pursue;
pub mod remembered;
mod report;
pub mod session;
pub mod slots;
pub mod supervise;
mod traffic;
mod turn;
mod volatile;

pub use action::{Action, HookId, Place, Retained};
pub use agent::{Agent, Step};
pub use apply::IllegalEvent;
pub use event::Event;
pub use gate::{
    GateAllow, GateEdge, GateProgram, GateService, GateState, GateTrouble, GateUpstream,
};
pub use goal::AssignmentRefusal;
pub use input::{Finding, Input, PrepareFailure, ProbeAnswer, Retry, SessionId, Welcome};
pub use remembered::{
    Application, Aside, Binding, Ending, Hold, HookEnd, HookProgress, HookRun, Instance, Life,
    OnceRun, Remembered, SlotState, TrafficState,
};
pub use session::SessionRefusal;
