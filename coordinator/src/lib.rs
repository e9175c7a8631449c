//! The coordinator as a library: what the daemon is made of, for its own tests and benchmarks.

pub mod app;
pub mod args;
pub mod artifacts;
pub mod commands;
pub mod engine;
pub mod grpc;
pub mod identity;
pub mod ledger;
pub mod listen;
pub mod logs;
pub mod metrics;
mod narrate;
pub mod outlets;
pub mod prometheus;
pub mod replay;
pub mod settings;
pub mod store;
pub mod web;
