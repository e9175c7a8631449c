//! Stories of what people and joining agents ask for.

mod control;
mod deploy;
mod identity;
mod restored;
mod sessions;
