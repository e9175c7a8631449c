//! A rollout and what an operator does to it.

use serde::{Serialize, Serializer};

use crate::text::Text;

/// One rollout, as it stands.
#[derive(Clone, Debug, Serialize)]
pub struct Rollout {
    pub id: Text,
    pub application: Text,
    pub environment: Text,
    /// Null on a first deploy.
    pub from_version: Option<Text>,
    pub to_version: Text,
    pub strategy: Text,
    pub state: RolloutState,
    pub ended: bool,
    /// What it waits for, or how it ended, in two sentences.
    pub why: Text,
    /// What can be typed next.
    pub next: Vec<Text>,
    pub wave: u32,
    pub waves: u32,
    pub hosts: Vec<RolloutHost>,
    pub history: Vec<HistoryEntry>,
    /// Of one that has not begun: since when it is queued.
    pub started_unix_ms: u64,
    pub ended_unix_ms: Option<u64>,
    pub started_by: Text,
    /// While it is queued: the rollout right before it.
    pub waits_for: Option<Text>,
    /// How many in the queue are before it.
    pub ahead: u32,
}

/// Where a rollout stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RolloutState {
    /// Waits for its turn.
    Queued,
    Advancing,
    Baking,
    RollingBack,
    Paused,
    Held,
    Succeeded,
    RolledBack,
    Aborted,
    /// Ended before clients noticed, as asked.
    Staged,
    /// It was queued, and could not begin when its turn came.
    Refused,
    /// A state that a newer coordinator knows.
    Other(Text),
}

/// One host of a rollout.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct RolloutHost {
    pub agent: Text,
    pub wave: u32,
    /// pending, preparing, updating, updated, failed, unreachable, reverting, reverted,
    /// prepared, stuck or excluded
    pub state: Text,
    pub detail: Option<Text>,
    pub running_version: Option<Text>,
}

/// How one host of a rollout stands, or one batch.
#[derive(Clone, Debug, Serialize)]
pub struct RolloutPart {
    pub rollout: Text,
    pub agent: Option<Text>,
    pub batch: Option<u32>,
    pub why: Text,
    /// Commands to type, about the whole rollout.
    pub next: Vec<Text>,
}

/// Something that happened.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct HistoryEntry {
    pub unix_ms: u64,
    pub text: Text,
}

/// A rollout that was accepted.
#[derive(Clone, Debug, Serialize)]
pub struct Accepted {
    pub rollout: Text,
    /// The same request had started it before.
    pub repeated_request: bool,
    /// Whether it waits for its turn.
    pub queued: bool,
    /// The rollout right before it.
    pub waits_for: Option<Text>,
    /// How many in the queue are before it.
    pub ahead: u32,
}

/// What became of an operator's word on a rollout.
#[derive(Clone, Debug, Serialize)]
pub struct Controlled {
    /// The rollout that goes on from here.
    pub rollout: Text,
    pub text: Text,
}

/// How many characters of an id are shown: the first two groups of a uuid.
///
/// The coordinator takes 8 (promises.md §4 row 71), but the ids of rollouts that begin within a
/// minute of each other may share those when an id begins with its time; 13 hold the millisecond.
const SHORT_ID: usize = 13;

/// Returns the beginning of an id that is enough to name it; a text that is shorter stays.
pub fn short(id: &Text) -> &str {
    id.as_str().get(..SHORT_ID).unwrap_or(id.as_str())
}

impl Rollout {
    /// Returns whether nothing goes on without a person.
    pub fn is_over(&self) -> bool {
        self.ended || self.state == RolloutState::Held
    }

    /// Returns what it does, as `web 1.3.0 → 1.4.0 to production`.
    pub fn title(&self) -> String {
        let Self { application, environment, to_version, from_version, .. } = self;
        match from_version {
            Some(from) => format!("{application} {from} → {to_version} to {environment}"),
            None => format!("{application} {to_version} to {environment}"),
        }
    }
}

impl RolloutState {
    /// Returns the state's name on the wire and in JSON.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Queued => "queued",
            Self::Advancing => "advancing",
            Self::Baking => "baking",
            Self::RollingBack => "rolling_back",
            Self::Paused => "paused",
            Self::Held => "held",
            Self::Succeeded => "succeeded",
            Self::RolledBack => "rolled_back",
            Self::Aborted => "aborted",
            Self::Staged => "staged",
            Self::Refused => "refused",
            Self::Other(name) => name.as_str(),
        }
    }

    /// Returns the state as people read it.
    pub fn words(&self) -> String {
        self.as_str().replace('_', " ")
    }
}

impl From<&str> for RolloutState {
    fn from(name: &str) -> Self {
        match name {
            "queued" => Self::Queued,
            "advancing" => Self::Advancing,
            "baking" => Self::Baking,
            "rolling_back" => Self::RollingBack,
            "paused" => Self::Paused,
            "held" => Self::Held,
            "succeeded" => Self::Succeeded,
            "rolled_back" => Self::RolledBack,
            "aborted" => Self::Aborted,
            "staged" => Self::Staged,
            "refused" => Self::Refused,
            other => Self::Other(Text::new(other)),
        }
    }
}

impl Serialize for RolloutState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
