//! The simulator: the real cores, on a simulated world, from a seed.
//!
//! A [`script::Script`] decides a run; [`swarm`] draws one from a seed; [`world::World`] runs it;
//! [`oracle`] says which promise it broke. The same script makes the same run, to the last bit.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "who watches a run looks at some of many kinds of things, and at no others"
)]

pub mod command;
pub mod coverage;
pub mod dice;
pub mod disk;
pub mod moment;
pub mod oracle;
mod queue;
pub mod run;
pub mod script;
pub mod shrink;
mod story;
pub mod swarm;
pub mod trace;
pub mod world;
