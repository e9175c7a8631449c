//! `cutover.toml`: text in, a checked manifest or all its mistakes out.
//!
//! The text is parsed with spans and walked by hand, as a derived deserializer stops at the first
//! mistake. `words` lists every key once: the walk, the nearest valid name and the reference
//! in docs/cutover-toml.md all follow it.

mod canary;
mod checks;
mod clients;
mod compatibility;
mod deploy;
mod document;
mod health;
mod hooks;
mod mistake;
mod problem;
mod reader;
mod run;
mod service;
mod strategy;
mod syntax;
mod words;

pub use canary::CanarySpec;
pub use compatibility::VersionRange;
pub use deploy::{DeploySpec, Timing};
pub use document::Manifest;
pub use mistake::{ManifestMistakes, Mistake};
pub use strategy::{CutoverMode, Promotion, Strategy, Unreachable, Unsure};

#[cfg(test)]
mod checks_tests;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod reference_tests;
#[cfg(test)]
mod refusal_tests;
#[cfg(test)]
mod tests;
