//! The gate: takes a host's traffic to the instances of its applications, and lets no request
//! fail while they are replaced.
//!
//! It stands alone: whoever holds it gives it the whole goal, never a step, and reads from its
//! [`State`] when an instance has nothing left to answer.

mod certificate;
mod closing;
pub mod control;
pub mod daemon;
mod dial;
mod duty;
mod gate;
mod handover;
mod http;
mod keep;
mod live;
mod metrics;
pub mod program;
mod proxied;
mod route;
mod shard;
mod state;
mod supervisor;
mod tcp;
mod websocket;

pub use gate::{Gate, Sockets, StartGate};
pub use program::Program;
pub use state::{Counts, ServiceState, State, UpstreamState};
