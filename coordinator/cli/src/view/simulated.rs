//! A simulation: how a deploy would go.

use serde::{Serialize, Serializer};

use crate::text::Text;

/// How a deploy would go.
#[derive(Clone, Debug, Serialize)]
pub struct Simulated {
    /// Null on a first deploy.
    pub from_version: Option<Text>,
    pub to_version: Text,
    pub strategy: Text,
    pub batches: u32,
    pub ending: Ending,
    /// How it ended, or what it waits for, in two sentences.
    pub why: Text,
    pub lasts_ms: u64,
    /// How many hosts the environment has.
    pub hosts: u32,
    /// The fewest that are known to be healthy at any moment.
    pub lowest_healthy: u32,
    /// The first such moment.
    pub lowest_after_ms: u64,
    pub story: Vec<StoryLine>,
    /// The hosts of the rollout, at its end.
    pub host_ends: Vec<HostEnd>,
    /// What no setting says.
    pub assumed: Text,
}

/// Something that would happen.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct StoryLine {
    pub after_ms: u64,
    pub text: Text,
}

/// A host at the end.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct HostEnd {
    pub agent: Text,
    /// Counted from 1.
    pub batch: u32,
    /// As of a host of a rollout.
    pub state: Text,
    pub detail: Option<Text>,
    /// Null if nothing runs, or it is not known.
    pub running_version: Option<Text>,
}

/// How a simulation ends: succeeded, staged, rolled_back, aborted, held, waits (for a person to
/// promote it) or unfinished (as it was not followed to its end).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ending(Text);

impl Ending {
    /// Returns the word of the contract.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Returns whether the rollout would do what it was asked to.
    pub fn is_success(&self) -> bool {
        matches!(self.as_str(), "succeeded" | "staged")
    }
}

impl From<String> for Ending {
    fn from(word: String) -> Self {
        Self(word.into())
    }
}

impl Serialize for Ending {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}
