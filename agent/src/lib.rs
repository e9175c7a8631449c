//! The agent: what the program `cutover-agent` is made of.

pub mod artifact;
pub mod host;
pub mod join;
pub mod probe;
pub mod process;
pub mod shim;
