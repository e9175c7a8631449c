//! Preparation: when to bring a release to disk, and when to try again.

use std::time::Duration;

use cutover_common::{Backoff, Generation, Jitter, Release, Sha256, Timestamp, Version};

use crate::{PrepareFailure, Retry};

/// How fast a failed preparation is tried again: fast enough for a lost connection, slow enough
/// that a fleet with full disks does not load its coordinator.
const BACKOFF: Backoff =
    Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(60) };

/// How often a preparation may fail in a row before it is reported as failed, which a rollout
/// takes as its host's failure. What fails a third time, after some seconds, is a full disk or the
/// like. It is tried again all the same. A lost connection does not count, however long it is lost
/// (promises.md A7): the coordinator sees by itself that it cannot reach this host.
const FAILURES_MAX: u32 = 3;

/// What is prepared: a content, for one release. Another config of the same content needs other
/// secrets.
pub(crate) type PreparedAs = (Sha256, Version);

pub(crate) fn prepared_as(release: &Release) -> PreparedAs {
    (release.digest, release.name.version.clone())
}

/// How the preparation of one release goes. Volatile: after a restart it is asked for again.
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
        let failures = match retry {
            Retry::Later | Retry::Never => failures.saturating_add(1),
            Retry::Connected => failures,
        };
        let next = match retry {
            // At least once: the first wait is short, and a coordinator that is back is asked soon.
            Retry::Later | Retry::Connected => {
                NextTry::At(now + BACKOFF.after(failures.max(1), jitter))
            }
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

    /// Returns whether it failed for good, or so often that somebody should know.
    pub(crate) fn is_hopeless(&self) -> bool {
        match self {
            Self::InFlight { .. } => false,
            Self::Failed { next: NextTry::After(_), .. } => true,
            Self::Failed { failures, .. } => *failures >= FAILURES_MAX,
        }
    }

    /// Returns how often it failed in a row.
    pub(crate) const fn failures(&self) -> u32 {
        match self {
            Self::InFlight { failures } | Self::Failed { failures, .. } => *failures,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(failures: u32, retry: Retry) -> Preparation {
        let failure = PrepareFailure { detail: "connection reset".to_owned(), retry };
        Preparation::failed(
            failure,
            failures - 1,
            Generation(1),
            Timestamp::from_unix_ms(0),
            Jitter::NONE,
        )
    }

    #[test]
    fn a_blip_is_tried_again_quietly_and_what_lasts_or_is_final_is_told() {
        assert!(!after(1, Retry::Later).is_hopeless());
        assert!(!after(2, Retry::Later).is_hopeless());
        assert!(after(3, Retry::Later).is_hopeless());
        assert!(after(1, Retry::Never).is_hopeless());
    }

    #[test]
    fn a_connection_that_stays_lost_is_no_failure_of_the_host() {
        let mut lost = after(3, Retry::Connected);
        assert!(!lost.is_hopeless());
        for _ in 0..100 {
            let failure =
                PrepareFailure { detail: "not connected".to_owned(), retry: Retry::Connected };
            let (failures, now) = (lost.failures(), Timestamp::from_unix_ms(0));
            lost = Preparation::failed(failure, failures, Generation(1), now, Jitter::NONE);
        }
        assert!(!lost.is_hopeless());
        assert!(lost.is_due(Timestamp::from_unix_ms(10_000), Generation(1)));
    }
}
