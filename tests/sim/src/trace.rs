//! Trace: what a run did, as a hash that two runs of one script share, and as lines for people.

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
};

use crate::moment::Moment;

/// Whom a line is about.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Who {
    World,
    Operator,
    Coordinator(u16),
    Host(u16),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::World => f.pad("world"),
            Self::Operator => f.pad("operator"),
            Self::Coordinator(0) => f.pad("coordinator"),
            Self::Coordinator(number) => f.pad(&format!("coordinator-{number}")),
            Self::Host(number) => f.pad(&format!("host-{number}")),
        }
    }
}

/// One line of a run's story.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Line {
    pub at: Moment,
    pub who: Who,
    pub text: String,
}

/// What a run did.
#[derive(Debug, Default)]
pub struct Trace {
    hasher: DefaultHasher,
    lines: Option<Vec<Line>>,
}

impl Trace {
    /// Begins a trace; with `is_told` it keeps lines for people.
    pub fn new(is_told: bool) -> Self {
        Self { hasher: DefaultHasher::new(), lines: is_told.then(Vec::new) }
    }

    /// Adds something that two runs of one script must share.
    pub(crate) fn mark(&mut self, at: Moment, who: Who, what: impl Hash) {
        (at, who, what).hash(&mut self.hasher);
    }

    /// Returns whether lines are kept.
    pub(crate) const fn is_told(&self) -> bool {
        self.lines.is_some()
    }

    /// Adds a line, if lines are kept.
    pub(crate) fn tell(&mut self, at: Moment, who: Who, text: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            lines.push(Line { at, who, text: text() });
        }
    }

    /// Returns the hash of everything so far.
    pub fn hash(&self) -> u64 {
        self.hasher.clone().finish()
    }

    /// Returns the lines for good.
    pub fn into_lines(self) -> Vec<Line> {
        self.lines.unwrap_or_default()
    }

    /// Returns the lines.
    pub fn lines(&self) -> &[Line] {
        self.lines.as_deref().unwrap_or_default()
    }
}
