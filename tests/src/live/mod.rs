//! A fleet on this machine, of real programs as separate processes.
//!
//! Each cluster has a folder and loopback addresses of its own, so that tests run beside each
//! other, and ends every process that it caused when it is dropped.

mod application;
mod asking;
mod cluster;
mod daemon;
mod dice;
mod programs;
mod wait;

pub use application::{Sample, release_dir};
pub use asking::{Heard, while_asked};
pub use cluster::{AgentHandle, Cluster, Instance, Ran, Which, run};
pub use dice::Dice;
pub use programs::{Programs, program_on_path};
pub use wait::wait_for;
