//! Domain types that the coordinator and the agents share.
//!
//! No I/O, no clock, no async, no luck: whatever is here can run inside the simulator. A thing
//! enters this crate when two crates need it, not before.

pub mod allow;
pub mod assignment;
pub mod backoff;
pub mod check;
pub mod config;
pub mod counts;
pub mod digest;
pub mod duration_text;
pub mod edge;
pub mod error_chain;
pub mod fence;
pub mod freeze;
pub mod host;
pub mod latency;
pub mod manifest;
pub mod name;
pub mod nearest;
pub mod network;
pub mod once;
pub mod pace;
pub mod planted;
pub mod protocol;
pub mod release;
pub mod report;
pub mod route;
pub mod service;
pub mod setting;
pub mod size_text;
pub mod time;
pub mod vitals;
pub mod wire;

pub use allow::{Allow, AllowCookie, AllowHeader};
pub use assignment::{Assignment, Slot, SlotGoal, Slots, Timers};
pub use backoff::{Backoff, Jitter};
pub use check::{Check, CheckReport, CommandCheck, Compared};
pub use config::{Config, SecretId, SecretValue, VariableName};
pub use counts::SlotCounts;
pub use digest::Sha256;
pub use edge::{
    EdgeCounts, EdgeCutover, EdgeCutoverReport, EdgeHold, EdgeHost, EdgeHostReport, EdgeLead,
    EdgeReport, EdgeRevision, EdgeRoute, EdgeRoutes,
};
pub use error_chain::ErrorChain;
pub use fence::{Acceptance, Fence, Generation, Term};
pub use freeze::{FreezeWindow, InvalidWeekWindow, WeekWindow};
pub use host::{HostLoad, Inventory, Labels};
pub use latency::{LATENCY_BUCKETS, Latencies, LatencyBucket};
pub use name::{AgentName, ApplicationName, CheckName, EnvironmentName, SourceName, Version};
pub use network::Network;
pub use once::{OnceDuty, OncePart, OnceReport, OnceStand};
pub use pace::{
    Amount, AmountSetting, Batches, CanaryHosts, CanaryStep, CanarySteps, InvalidSetting,
    JudgeSetting, JudgedLimit, JudgedMetric, MaxLoad, Pauses,
};
pub use release::{
    Hook, HookKind, ProbePort, ProbeSpec, ProbeTarget, Release, ReleaseRef, RunSpec, StopSignal,
};
pub use report::{
    Health, HoldState, InstanceEvidence, InstanceId, Phase, Report, SlotReport, Traffic,
};
pub use route::{HoldLimits, Permille, Route, RouteMode};
pub use service::{Limits, Protocol, Service, Sticky, Swap, TlsFiles};
pub use setting::DeploySetting;
pub use time::Timestamp;
pub use vitals::InstanceVitals;
