//! Stories: what happens, then what must follow. [`World`] answers what the core asks.

mod checks;
mod edges;
mod hooks;
mod once;
mod random;
mod routes;
mod routes_random;
mod stories;
mod swaps;
mod truth;
mod world;
