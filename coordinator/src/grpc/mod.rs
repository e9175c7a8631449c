//! The gRPC borders: parse, ask the engine, answer. Only these files name generated types.

pub mod agent;
pub mod authority;
pub mod enrollment;
pub mod operator;
mod push;
pub use push::Pushes;
mod reading;
mod show;
mod status;

/// The largest message of an agent: its whole state, some kilobytes an application.
const AGENT_MESSAGE_MAX: usize = 1024 * 1024;
