//! The fleet: who is there, what each should run, and what each says it runs.

mod goal;
mod view;

pub use goal::{Goal, GoalSlot, Goals};
pub(crate) use goal::{with_prepared, with_running, without};
pub use view::{Fleet, Presence, Seen, UNREACHABLE_AFTER};
