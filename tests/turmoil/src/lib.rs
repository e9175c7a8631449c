//! The real session code of both sides over a simulated network, in one thread and virtual time.
//!
//! What is real: dialing, TLS, HTTP/2 and its pings, gRPC, both engines and both cores, the
//! listener, joining. What is simulated: the network ([turmoil]), the clock, jitter and ids, the
//! disks (memory) and the processes of applications. What stays real and must not matter: keys and
//! certificates, whose times are the machine's.

mod agent;
mod clock;
mod coordinator;
mod fleet;
mod luck;
mod machine;
mod network;
mod trace;
mod world;

pub use self::{
    fleet::{AgentSeen, CoordinatorSeen},
    trace::{Entry, Trace},
    world::{Cut, World, WorldSettings, agent_name, each_seed},
};
