//! What the demo has shown, at its end.

use std::{fmt, time::Duration};

use super::traffic::Seen;
use crate::failure::{Failure, Kind};

/// One rollout.
#[derive(Clone, Debug)]
pub(super) struct Act {
    pub(super) name: &'static str,
    pub(super) how: &'static str,
    pub(super) took: Duration,
}

/// All of it.
#[derive(Clone, Debug)]
pub(super) struct Summary {
    pub(super) acts: Vec<Act>,
    pub(super) seen: Seen,
    pub(super) why: String,
}

impl Summary {
    /// Returns the summary, if it is what Cutover promises.
    pub(super) fn judged(self) -> Result<Self, Failure> {
        if self.seen.requests == 0 {
            return Err(Failure::new(Kind::OurBug, "the demo's clients did not ask once"));
        }
        if self.seen.failed > 0 {
            return Err(Failure::new(Kind::OurBug, format!("requests failed\n{self}")));
        }
        Ok(self)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nSummary")?;
        for Act { name, how, took } in &self.acts {
            writeln!(f, "  {name:<22} {how:<22} {:>5.1} s", took.as_secs_f64())?;
        }
        let Seen { requests, failed, elsewhere } = self.seen;
        writeln!(
            f,
            "  {requests} requests, {failed} failed ({elsewhere} were answered by another host \
             while theirs was replaced)"
        )?;
        writeln!(f, "  why: {}", self.why.trim().replace('\n', "\n       "))
    }
}
