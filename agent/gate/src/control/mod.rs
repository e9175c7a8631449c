//! How a gate is told what to do: one JSON document for each line, over a socket that only its
//! owner reaches.

mod client;
mod server;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use self::client::{AskGate, Client};
pub(crate) use self::server::{Server, listen};
use crate::{program::Program, state::State};

/// The longest line: a program of as many services and upstreams as may be.
pub(crate) const LINE_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// What is asked of a gate.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Asked {
    Apply(Box<Program>),
    State,
    /// Another process wants to be this gate. What follows is no conversation any more.
    TakeOver,
}

/// What a gate answers.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Said {
    Applied(Applied),
    State(State),
    /// Nothing was done, and why.
    Refused(String),
}

/// A program is followed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct Applied {
    /// Which process follows it.
    pub gate: Uuid,
    pub revision: u64,
    /// Whether it is on disk too, and so is followed again after a crash.
    pub is_kept: bool,
}
