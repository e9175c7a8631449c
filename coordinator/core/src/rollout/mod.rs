//! Rollouts: bringing a release to an environment.
//!
//! All strategies compile to one plan language ([`plan`]) and run on one executor. [`state`] says
//! what may follow what; [`decide`] says when, and why, and answers with either a change to
//! record or what is being waited for.

pub mod decide;
pub mod plan;
pub mod spec;
pub mod state;
pub(crate) mod story;
pub mod strategy;
mod transition;
pub mod waiting;

pub use plan::{NotPassedOn, Plan, PlanStep, Planned, PlannedOnce, Replacement, Wave};
pub use spec::{Options, Setting, SettingSource, Spec, Strategy};
pub use state::{
    Cause, Cutover, CutoverPhase, Direction, Exclusion, Host, HostState, IllegalChange, Outcome,
    Rollout, State,
};
pub use waiting::Waiting;
