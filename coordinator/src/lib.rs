//! The coordinator as a library: what the daemon is made of, for its own tests and benchmarks.

pub mod identity;
pub mod listen;
pub mod store;
