//! The border: the only place in the domain that names generated types.
//!
//! Fallible on the way in, total on the way out. Every message is taken apart by name, so that a
//! new field stops the build until somebody decides what it means.

mod assignment;
mod check;
mod edge;
mod log;
mod measured;
mod release;
mod report;
mod route;
mod secrets;
mod service;
mod session;

pub use assignment::InvalidAssignment;
pub use edge::InvalidEdge;
pub use log::{InvalidLogQuery, LogPiece, LogQuery};
pub use measured::InvalidLatency;
pub use release::{InvalidRelease, hook_kind, hook_kind_out};
pub use report::InvalidReport;
pub use route::InvalidRouteMessage;
pub use secrets::{InvalidSecrets, Secrets};
pub use session::{
    Echo, Farewell, FarewellReason, Heartbeat, Hello, InvalidSessionMessage, Welcome,
};

use std::time::Duration;

use cutover_proto::v1 as pb;

use crate::{Fence, Generation, Term};

/// The longest text that a report may carry for people, in characters; the rest is cut off.
pub const DETAIL_MAX: usize = 1_000;

/// How many things of one kind a message may repeat: arguments, variables, reports, labels.
pub const REPEATED_MAX: usize = 1_000;

/// A message repeats something more often than is allowed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("field `{0}` has more than {REPEATED_MAX} entries")]
pub struct TooMany(&'static str);

fn bounded(field: &'static str, count: usize) -> Result<(), TooMany> {
    if count > REPEATED_MAX { Err(TooMany(field)) } else { Ok(()) }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn cut(text: &str) -> String {
    text.chars().take(DETAIL_MAX).collect()
}

impl From<Fence> for pb::Fence {
    fn from(fence: Fence) -> Self {
        Self { term: fence.term.0, generation: fence.generation.0 }
    }
}

impl From<pb::Fence> for Fence {
    fn from(message: pb::Fence) -> Self {
        let pb::Fence { term, generation } = message;
        Self { term: Term(term), generation: Generation(generation) }
    }
}

#[cfg(test)]
mod tests;
