//! Probing: when to ask one instance, and what its answers so far make of it.
//!
//! A [`Watch`] is about one process. Another process, or the same after the agent was away,
//! begins with an empty one: health is never inherited (promise E4).

use std::time::Duration;

use cutover_common::{Health, InstanceId, ProbeSpec, Timers, Timestamp, planted};

use crate::ProbeAnswer;

/// What is known of the health of one live instance.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Watch {
    instance: InstanceId,
    began_at: Timestamp,
    next: NextProbe,
    verdict: Verdict,
    last_answer: String,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum NextProbe {
    At(Timestamp),
    /// Asked, not answered; and when it was asked.
    InFlight(Timestamp),
    /// The release has no probe.
    Never,
}

/// What the answers make of an instance.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verdict {
    /// Not enough answers.
    Unknown {
        passes: u32,
        first_pass_at: Option<Timestamp>,
        failures: u32,
        had_pass: bool,
    },
    /// Enough passes in a row. `since` is the first pass without a failure after it, and `longest`
    /// the longest run of passes before that, since it last was failing.
    Passing {
        since: Option<Timestamp>,
        longest: Duration,
        failures: u32,
    },
    Failing {
        passes: u32,
        first_pass_at: Option<Timestamp>,
    },
}

impl Watch {
    /// Begins to watch an instance that is alive at `now`.
    pub(crate) fn begin(instance: InstanceId, probe: Option<&ProbeSpec>, now: Timestamp) -> Self {
        let (next, verdict) = match probe {
            Some(_) => (NextProbe::At(now), Verdict::begin()),
            None => (NextProbe::Never, Verdict::passing(Some(now))),
        };
        Self { instance, began_at: now, next, verdict, last_answer: String::new() }
    }

    /// Returns which instance this is about.
    pub(crate) const fn instance(&self) -> InstanceId {
        self.instance
    }

    /// Returns what was answered last; empty before the first answer.
    pub(crate) fn last_answer(&self) -> &str {
        &self.last_answer
    }

    /// Returns when the instance is to be asked next.
    pub(crate) const fn next_at(&self) -> Option<Timestamp> {
        match self.next {
            NextProbe::At(at) => Some(at),
            NextProbe::InFlight(_) | NextProbe::Never => None,
        }
    }

    /// Notes that the instance is asked.
    pub(crate) const fn asked(&mut self, now: Timestamp) {
        self.next = NextProbe::InFlight(now);
    }

    /// Notes an answer. Returns whether anything is another thing than before.
    pub(crate) fn answered(
        &mut self,
        answer: ProbeAnswer,
        probe: &ProbeSpec,
        now: Timestamp,
    ) -> bool {
        let NextProbe::InFlight(asked_at) = self.next else { return false };
        // A slow answer does not shift the rhythm, and makes no burst either.
        self.next = NextProbe::At((asked_at + probe.every).max(now));
        let verdict = if answer.passed {
            self.verdict.pass(probe, now)
        } else {
            let is_starting = now.since(self.began_at) < probe.start_within;
            self.verdict.fail(probe, now, is_starting)
        };
        let is_new = verdict != self.verdict || answer.text != self.last_answer;
        (self.verdict, self.last_answer) = (verdict, answer.text);
        is_new
    }

    /// Returns the health at `now`.
    pub(crate) fn health(&self, timers: Timers, now: Timestamp) -> Health {
        match self.verdict {
            Verdict::Unknown { .. } => Health::Unknown,
            Verdict::Passing { since, longest, .. }
                if longest.max(run(since, now)) >= timers.healthy_for =>
            {
                Health::Settled
            }
            Verdict::Passing { .. } => Health::Passing,
            Verdict::Failing { .. } => Health::Failing,
        }
    }

    /// Returns whether it serves well at this moment. None: there are not enough answers.
    pub(crate) const fn passes(&self) -> Option<bool> {
        match self.verdict {
            Verdict::Unknown { .. } => None,
            Verdict::Passing { .. } => Some(true),
            Verdict::Failing { .. } => Some(false),
        }
    }

    /// Returns when it becomes settled if nothing fails until then.
    pub(crate) fn settles_at(&self, timers: Timers) -> Option<Timestamp> {
        match self.verdict {
            Verdict::Passing { since, .. } => since.map(|since| since + timers.healthy_for),
            Verdict::Unknown { .. } | Verdict::Failing { .. } => None,
        }
    }

    /// Returns since when it has been healthy.
    pub(crate) const fn healthy_since(&self) -> Option<Timestamp> {
        match self.verdict {
            Verdict::Passing { since, .. } => since,
            Verdict::Unknown { .. } | Verdict::Failing { .. } => None,
        }
    }
}

fn run(since: Option<Timestamp>, now: Timestamp) -> Duration {
    since.map_or(
        Duration::ZERO,
        |since| planted!(SettledAtFirstPass: Duration::MAX; now.since(since)),
    )
}

impl Verdict {
    const fn begin() -> Self {
        Self::Unknown { passes: 0, first_pass_at: None, failures: 0, had_pass: false }
    }

    const fn passing(since: Option<Timestamp>) -> Self {
        Self::Passing { since, longest: Duration::ZERO, failures: 0 }
    }

    fn pass(self, probe: &ProbeSpec, now: Timestamp) -> Self {
        let (passes, first_pass_at) = match self {
            Self::Passing { since, longest, .. } => {
                return Self::Passing { since: since.or(Some(now)), longest, failures: 0 };
            }
            Self::Unknown { passes, first_pass_at, .. }
            | Self::Failing { passes, first_pass_at } => {
                (passes.saturating_add(1), first_pass_at.or(Some(now)))
            }
        };
        if passes >= probe.passes {
            return Self::passing(first_pass_at);
        }
        match self {
            Self::Failing { .. } => Self::Failing { passes, first_pass_at },
            Self::Unknown { .. } | Self::Passing { .. } => {
                Self::Unknown { passes, first_pass_at, failures: 0, had_pass: true }
            }
        }
    }

    fn fail(self, probe: &ProbeSpec, now: Timestamp, is_starting: bool) -> Self {
        let failing = Self::Failing { passes: 0, first_pass_at: None };
        match self {
            // Any pass ends the start period; until then failures are expected and do not count.
            Self::Unknown { had_pass: false, .. } if is_starting => Self::begin(),
            Self::Unknown { failures, had_pass, .. } => {
                let failures = failures.saturating_add(1);
                if failures >= probe.failures {
                    return failing;
                }
                Self::Unknown { passes: 0, first_pass_at: None, failures, had_pass }
            }
            Self::Passing { since, longest, failures } => {
                let failures = failures.saturating_add(1);
                if failures >= probe.failures {
                    return failing;
                }
                // One failure breaks the run that is to become settled; what is settled stays
                // so until it is failing, or is to be settled for longer.
                let longest = longest.max(run(since, now));
                let since = since.filter(|_| planted!(FlapForgiven: true; false));
                Self::Passing { since, longest, failures }
            }
            Self::Failing { .. } => failing,
        }
    }
}

#[cfg(test)]
mod tests;
