//! The name of an upstream: checked text, as it stands in counters and logs.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Names an upstream: a slot ("blue"), or another host. Unique in a service.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct UpstreamName(String);

/// Why a text names no upstream.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "upstream name {0:?} must be 1 to 128 lower-case letters, digits, dots or hyphens, \
     and begin and end with a letter or digit"
)]
pub struct InvalidUpstreamName(String);

/// The longest name: an agent's name (63), a dot, and a slot's.
const LENGTH_MAX: usize = 128;

/// How much of a refused text an error repeats, in characters.
const ECHO_MAX: usize = 80;

impl UpstreamName {
    /// Returns the checked text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UpstreamName {
    type Err = InvalidUpstreamName;

    fn from_str(text: &str) -> Result<Self, InvalidUpstreamName> {
        let is_edge = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let bytes = text.as_bytes();
        let is_name = bytes.len() <= LENGTH_MAX
            && bytes.iter().all(|b| is_edge(*b) || b"-.".contains(b))
            && bytes.first().is_some_and(|b| is_edge(*b))
            && bytes.last().is_some_and(|b| is_edge(*b));
        if is_name {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidUpstreamName(text.chars().take(ECHO_MAX).collect()))
    }
}

impl TryFrom<String> for UpstreamName {
    type Error = InvalidUpstreamName;

    fn try_from(text: String) -> Result<Self, InvalidUpstreamName> {
        text.parse()
    }
}

impl From<UpstreamName> for String {
    fn from(name: UpstreamName) -> Self {
        name.0
    }
}

impl fmt::Display for UpstreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
