//! The agent: what the program `cutover-agent` is made of.

pub mod app;
pub mod args;
pub mod artifact;
pub mod commands;
pub mod engine;
pub mod gate;
pub mod host;
pub mod join;
pub mod journal;
pub mod narrate;
pub mod perform;
pub mod probe;
pub mod process;
pub mod secrets;
pub mod session;
pub mod shim;
pub mod status;
