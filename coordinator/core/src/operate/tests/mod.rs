//! Stories of what people and joining agents ask for.

mod configure;
mod control;
mod converge;
mod deploy;
mod drain;
mod exclude;
mod freeze;
mod identity;
mod queue;
mod restored;
mod sessions;
