//! Preparation: when to bring a release to disk, and when to try again.

use std::time::Duration;

use cutover_common::{Backoff, Generation, Jitter, Timestamp};

use crate::{PrepareFailure, Retry};

/// How fast a failed preparation is tried again: fast enough for a lost connection, slow enough
/// that a fleet with full disks does not load its coordinator.
const BACKOFF: Backoff =
    Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(60) };

/// How the preparation of one content goes. Volatile: after a restart it is asked for again.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Preparation {
    InFlight { failures: u32 },
    Failed { detail: String, failures: u32, next: NextTry },
}

/// When a failed preparation is tried again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NextTry {
    At(Timestamp),
    /// Not before the application has a goal of a later generation than this.
    After(Generation),
}

impl Preparation {
    /// Returns the preparation that failed, `failures` times before.
    pub(crate) fn failed(
        failure: PrepareFailure,
        failures: u32,
        generation: Generation,
        now: Timestamp,
        jitter: Jitter,
    ) -> Self {
        let PrepareFailure { detail, retry } = failure;
        let failures = failures.saturating_add(1);
        let next = match retry {
            Retry::Later => NextTry::At(now + BACKOFF.after(failures, jitter)),
            Retry::Never => NextTry::After(generation),
        };
        Self::Failed { detail, failures, next }
    }

    /// Returns whether it is to be asked for at `now`, the goal being of this generation.
    pub(crate) fn is_due(&self, now: Timestamp, generation: Generation) -> bool {
        match self {
            Self::InFlight { .. } => false,
            Self::Failed { next: NextTry::At(at), .. } => now >= *at,
            Self::Failed { next: NextTry::After(failed), .. } => generation > *failed,
        }
    }

    /// Returns how often it failed in a row.
    pub(crate) const fn failures(&self) -> u32 {
        match self {
            Self::InFlight { failures } | Self::Failed { failures, .. } => *failures,
        }
    }
}
