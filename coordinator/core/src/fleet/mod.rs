//! The fleet: who is there, what each should run, and what each says it runs.

mod goal;
mod view;

pub use goal::{Goal, GoalSlot, Goals};
pub(crate) use goal::{running, running_in, slot_of, with_prepared, with_running, without};
pub(crate) use view::SHOWN_EVERY;
pub use view::{Fleet, Fresh, Presence, Seen, UNREACHABLE_AFTER};
