//! The judge of a canary: is the new version worse than the old one that serves beside it?
//!
//! ```text
//! samples (host, side, interval) → Judge::observe … end_round → verdict: Pass, Fail, NotEnough
//! ```
//!
//! It needs no metrics stack, only what agents and gates count anyway. Each metric has a test that
//! may be looked at after every round: a bet whose winnings (the e-value) a version without a
//! difference multiplies by 1/α with a chance of at most α, ever (Ville 1939; Ramdas, Grünwald,
//! Vovk and Shafer, arXiv 2210.01948). `docs/judge.md` argues the method and has its measurements.
//!
//! No I/O, no clock, no luck; memory is bounded by the number of hosts, time by that of samples.

mod account;
mod comparison;
mod dispersion;
mod judge;
mod latency;
pub mod math;
mod memory;
mod sample;
mod scale;
mod spec;
mod verdict;

pub use judge::Judge;
pub use sample::{HOSTS_MAX, HostIndex, Sample, Side, Traffic};
pub use scale::{InvalidScale, LatencyScale};
pub use spec::{InvalidJudgeSpec, JudgeSettings, JudgeSpec, LimitSettings};
pub use verdict::{Evidence, Metric, Missing, Verdict};
