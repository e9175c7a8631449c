//! The pure core of the coordinator: it decides, and asks others to do.
//!
//! ```text
//! input → Coordinator::handle(now, input) → { events, actions } → events on disk → actions performed
//! ```
//!
//! No I/O, no clock, no luck: time and random ids come in with the input, everything that is
//! remembered goes out as an [`Event`], and [`Coordinator::apply`] is the only writer of what is
//! remembered, live and on replay. The numbered promises that this crate keeps are predicates in
//! [`invariants`].

pub mod action;
mod apply;
mod assign;
mod checking;
pub mod codec;
pub mod config;
pub mod coordinator;
mod edge;
pub mod enrolment;
pub mod event;
pub mod fleet;
pub mod input;
pub mod invariants;
mod judging;
pub mod once;
mod operate;
pub mod queue;
pub mod rollout;
pub mod simulate;
#[cfg(test)]
mod testing;
pub mod view;

pub use action::{Action, Answer, EndReason, Refusal, RefusalKind};
pub use config::{Sealed, Setting};
pub use coordinator::{Coordinator, Step};
pub use event::{Event, EventKind};
pub use input::{
    ConfigOrder, Deed, DeployOrder, IfBusy, Input, LeaveOut, Request, SessionId, Verb, WithConfig,
};
pub use operate::{Ahead, Found, ROLLOUT_HOSTS_MAX, ZONES_MAX};
