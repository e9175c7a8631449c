//! Once: a hook that one host of an environment runs for all, such as a migration of their database:
//! what hosts are told of it, and what they say.

use serde::{Deserialize, Serialize};

use crate::{Generation, Sha256};

/// What a host is told of the `once` hook of a release that it is to run, and which has not passed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct OnceDuty {
    pub release: Sha256,
    pub part: OncePart,
}

/// The part of one host.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub enum OncePart {
    /// Another host runs it, and has not said that it passed: nothing of the release is started
    /// here.
    Awaited,
    /// This host runs it, at most once for all goals with this permit: the generation of the first
    /// of them.
    Run { permit: Generation },
}

impl OnceDuty {
    /// Returns the part of a host in the `once` hook of `release`. None: it has passed, or it is the
    /// hook of what ran before, and is not run.
    pub fn part_in(duties: &[Self], release: Sha256) -> Option<OncePart> {
        duties.iter().find(|duty| duty.release == release).map(|duty| duty.part)
    }
}

/// What a host says of the `once` hook of a release that it was told to run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OnceReport {
    pub release: Sha256,
    /// The permit that it was run with.
    pub permit: Generation,
    pub stand: OnceStand,
}

/// How far it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OnceStand {
    /// It was begun.
    Running,
    Passed,
    /// How is in the report of its slot.
    Failed,
    /// Its agent ended it, or was gone while it ran: nobody knows what it has done.
    Interrupted,
}
