//! What the judge is shown: one host, one version, one interval.

use std::time::Duration;

/// The most hosts that one judge tells apart: as many as a rollout may have.
pub const HOSTS_MAX: usize = 5_000;

/// Which version was watched.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Side {
    /// The old version, on any host of the same run.
    Control,
    /// The new one.
    Canary,
}

impl Side {
    pub(crate) fn index(self) -> usize {
        match self {
            Self::Control => 0,
            Self::Canary => 1,
        }
    }
}

/// Which host was watched: its place in the rollout's list of hosts.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct HostIndex(u16);

impl HostIndex {
    /// Returns the index of the `place`th host. None: no rollout has that many ([`HOSTS_MAX`]).
    pub fn new(place: usize) -> Option<Self> {
        let index = u16::try_from(place).ok()?;
        (place < HOSTS_MAX).then_some(Self(index))
    }

    pub(crate) fn get(self) -> usize {
        usize::from(self.0)
    }
}

/// What one version did on one host during one interval.
///
/// What is unknown is `None` and counts neither for the version nor against it.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    pub side: Side,
    pub host: HostIndex,
    /// How long an instance of this version was running and watched.
    pub watched: Duration,
    /// None: nothing counts requests there.
    pub traffic: Option<Traffic<'a>>,
    /// How often an instance ended unasked and was started again.
    pub restarts: u32,
    /// Resident memory of the instance at the end of the interval.
    pub memory_bytes: Option<u64>,
    /// Lines of its output that say error. None: nobody counts them.
    pub error_lines: Option<u64>,
}

/// What a gate counted during one interval.
#[derive(Clone, Copy, Debug)]
pub struct Traffic<'a> {
    pub requests: u64,
    /// Answers of 500 and above, refused connections, and connections that broke in an answer.
    pub errors: u64,
    /// Answers by latency, one number for each bucket of the judge's
    /// [`LatencyScale`](crate::LatencyScale). Fewer numbers: the rest are zero. More: the rest
    /// count in the last bucket.
    pub latency: &'a [u64],
}
