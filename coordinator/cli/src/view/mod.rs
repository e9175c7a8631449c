//! What the commands show: plain facts with stable field names, which are also the JSON output.
//!
//! Every text that came from the coordinator is a [`Text`](crate::text::Text), so nothing here
//! can steer a terminal. Field names are a contract: they are added to, never renamed. An absent
//! fact is `null`, never an empty text or zero.

mod fleet;
mod plan;
mod release;
mod rollout;
mod simulated;
mod status;

pub use fleet::{
    Agent, AgentApplication, AgentSlot, ConfigVariable, Configured, Created, Drain, Edge, EdgeHost,
    Environment, Freeze, Host, JoinToken, Load, ShownEnvironment, SlotTraffic, StableRelease,
};
pub use plan::{Plan, PlannedWave, Setting};
pub use release::{Pushed, Release};
pub use rollout::{
    Accepted, Controlled, HistoryEntry, Rollout, RolloutHost, RolloutPart, RolloutState, short,
};
pub use simulated::{Ending, HostEnd, Simulated, StoryLine};
pub use status::{ApplicationStatus, HostStatus, QueuedRollout};
