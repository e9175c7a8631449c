//! A fleet on this machine, of real programs as separate processes.
//!
//! Each cluster has a folder and loopback addresses of its own, so that tests run beside each
//! other, and ends every process that it caused when it is dropped.

mod application;
mod asking;
mod client;
mod cluster;
mod daemon;
mod dice;
mod fleet;
mod links;
mod netns;
mod opening;
mod programs;
mod prometheus;
mod ran;
mod say;
mod served;
mod wait;
mod wire;

pub use application::{Sample, release_dir};
pub use asking::{Answer, Clients, Failed, Heard, PAGES};
pub use client::{Failure, ask_aside, ask_once};
pub use cluster::{AgentHandle, Cluster, HeldSlot, Instance, Which};
pub use dice::Dice;
pub use fleet::{Fleet, HeldRequest, Told};
pub use netns::can_make_namespaces;
pub use opening::{Opening, PROXY_HEADER, Trust};
pub use programs::{Programs, program_on_path};
pub use ran::{Ran, run};
pub use say::say;
pub use served::{Overlap, Served};
pub use wait::wait_for;
