//! The fleet: who is there, what each should run, and what each says it runs.

mod goal;
mod view;
mod wanted;

pub use goal::{Goal, GoalSlot, Goals};
pub(crate) use view::SHOWN_EVERY;
pub use view::{Fleet, Fresh, Presence, Seen};
pub use wanted::Wanted;
