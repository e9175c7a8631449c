//! Memory: is the canary's level at or above the limit more often than not?
//!
//! A gauge has no events to count, and its values hang together. So a minute gives one yes or no:
//! was the canary's mean at least the limit's multiple of the control's? Under no sustained
//! difference that is as likely no as yes at most, whatever the minutes before said; bets on yes
//! then win nothing in the mean. The assumption is that what makes a level noisy (a collector's
//! saw-tooth, a burst of requests) is over within a minute.
//!
//! A leak begins to be above the limit at some minute or another, and every no before it costs
//! what many yes win. So a part of the stakes waits, and some of it is put down in each minute.

use std::collections::VecDeque;

use crate::math::{exp, ln};

/// The chances of yes that are bet on: a level that wobbles around the limit, and one above it.
const BETS: [f64; 2] = [0.8, 0.97];
/// The part of the stakes that waits after the first minute.
const LATER_PART: f64 = 0.2;
/// After how many minutes half of that is put down: a leak that a canary is held long enough for.
const LATER_MINUTES: f64 = 15.0;
/// Minutes of which the recent level is the mean: about those that an alarm takes.
const RECENT_MINUTES: usize = 15;
/// Hosts' own differences that are put on top of the limit where different hosts are compared,
/// in standard deviations.
const SPREADS: f64 = 3.0;

#[derive(Clone, Debug)]
pub(crate) struct Memory {
    log_ratio: f64,
    difference_bytes: f64,
    spread_expected: f64,
    hosts: Vec<Levels>,
    bets: Bets,
    level_sums: [f64; 2],
    /// The levels of the last minutes, control first.
    recent: VecDeque<[f64; 2]>,
}

/// Sums of one host's gauges in the open minute, control first.
#[derive(Clone, Copy, Debug, Default)]
struct Levels {
    sums: [f64; 2],
    counts: [f64; 2],
}

/// What was won with bets on yes.
#[derive(Clone, Copy, Debug)]
struct Bets {
    minutes: f64,
    /// The logarithm of what all have who bet on a chance, whenever they began.
    won: [f64; BETS.len()],
}

/// What is known of memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MemoryFinding {
    pub(crate) log_evidence: f64,
    /// Minutes in which both sides were measured.
    pub(crate) minutes: f64,
    pub(crate) recent_minutes: f64,
    /// The mean level of each side in bytes, control first. None: never measured together.
    pub(crate) whole: Option<[f64; 2]>,
    pub(crate) recent: Option<[f64; 2]>,
}

impl Memory {
    pub(crate) fn new(ratio: f64, difference_bytes: f64, spread_expected: f64) -> Self {
        Self {
            log_ratio: ln(ratio),
            difference_bytes,
            spread_expected,
            hosts: Vec::new(),
            bets: Bets::none(),
            level_sums: [0.0; 2],
            recent: VecDeque::new(),
        }
    }

    /// Takes a gauge into the open minute.
    pub(crate) fn collect(&mut self, side: usize, host: usize, bytes: u64) {
        if self.hosts.len() <= host {
            self.hosts.resize(host + 1, Levels::default());
        }
        let levels = &mut self.hosts[host];
        levels.sums[side] += bytes as f64;
        levels.counts[side] += 1.0;
    }

    pub(crate) fn end_minute(&mut self) {
        let levels = self.levels();
        self.hosts.iter_mut().for_each(|host| *host = Levels::default());
        let Some(([control, canary], margin)) = levels else { return };
        let is_above = canary >= control * exp(self.log_ratio + margin)
            && canary - control >= self.difference_bytes;
        self.bets.end_minute(is_above);
        self.level_sums[0] += control;
        self.level_sums[1] += canary;
        if self.recent.len() == RECENT_MINUTES {
            self.recent.pop_front();
        }
        self.recent.push_back([control, canary]);
    }

    pub(crate) fn finding(&self) -> MemoryFinding {
        let minutes = self.bets.minutes;
        let recent_minutes = self.recent.len() as f64;
        let recent = [0, 1].map(|side| self.recent.iter().map(|levels| levels[side]).sum::<f64>());
        let mean =
            |sums: [f64; 2], minutes: f64| (minutes > 0.0).then(|| sums.map(|sum| sum / minutes));
        MemoryFinding {
            log_evidence: self.bets.log_evidence(),
            minutes,
            recent_minutes,
            whole: mean(self.level_sums, minutes),
            recent: mean(recent, recent_minutes),
        }
    }

    /// Returns the minute's mean of both sides, on hosts that run both where there are any, and
    /// what hosts' own differences add to the limit.
    fn levels(&self) -> Option<([f64; 2], f64)> {
        let means = |host: &Levels| [0, 1].map(|side| host.mean(side));
        let mut paired = [0.0; 2];
        let mut pairs = 0.0;
        for host in &self.hosts {
            if let [Some(control), Some(canary)] = means(host) {
                paired[0] += control;
                paired[1] += canary;
                pairs += 1.0;
            }
        }
        if pairs > 0.0 {
            return Some((paired.map(|sum| sum / pairs), 0.0));
        }
        let side = |side: usize| {
            let levels: Vec<f64> = self.hosts.iter().filter_map(|host| host.mean(side)).collect();
            (!levels.is_empty()).then(|| (mean(&levels), levels))
        };
        let (control, hosts) = side(0)?;
        let (canary, canaries) = side(1)?;
        let spread = spread(&hosts, self.spread_expected);
        let weight = (1.0 / hosts.len() as f64 + 1.0 / canaries.len() as f64).sqrt();
        Some(([control, canary], SPREADS * spread * weight))
    }
}

impl Levels {
    fn mean(&self, side: usize) -> Option<f64> {
        (self.counts[side] > 0.0).then(|| self.sums[side] / self.counts[side])
    }
}

impl Bets {
    fn none() -> Self {
        Self { minutes: 0.0, won: [f64::NEG_INFINITY; BETS.len()] }
    }

    fn end_minute(&mut self, is_above: bool) {
        let waited = self.waiting();
        self.minutes += 1.0;
        let begins = ln(waited - self.waiting());
        for (won, chance) in self.won.iter_mut().zip(BETS) {
            let odds = 2.0 * if is_above { chance } else { 1.0 - chance };
            *won = log_sum(*won, begins) + ln(odds);
        }
    }

    /// Returns the part of the stakes that nobody has bet yet.
    fn waiting(&self) -> f64 {
        if self.minutes == 0.0 {
            1.0
        } else {
            LATER_PART * LATER_MINUTES / (self.minutes - 1.0 + LATER_MINUTES)
        }
    }

    fn log_evidence(&self) -> f64 {
        let won = self.won.into_iter().fold(f64::NEG_INFINITY, log_sum);
        log_sum(ln(self.waiting()), won - ln(BETS.len() as f64))
    }
}

/// Returns the logarithm of the sum of two numbers that are given by their logarithms.
fn log_sum(one: f64, other: f64) -> f64 {
    let (larger, smaller) = (one.max(other), one.min(other));
    larger + ln(1.0 + exp(smaller - larger))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Returns how far hosts lie apart, relative to their mean: what is seen, and as much belief in
/// what was expected as four hosts are worth.
fn spread(levels: &[f64], expected: f64) -> f64 {
    const PRIOR_HOSTS: f64 = 4.0;
    let middle = mean(levels).max(1.0);
    let squares: f64 =
        levels.iter().map(|level| (level / middle - 1.0) * (level / middle - 1.0)).sum();
    let freedom = levels.len() as f64 - 1.0;
    ((PRIOR_HOSTS * expected * expected + squares) / (PRIOR_HOSTS + freedom)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bets_win_nothing_in_the_mean_where_yes_is_as_likely_as_no() {
        const MINUTES: u32 = 12;
        let mut mean = 0.0;
        for outcome in 0_u32..1 << MINUTES {
            let mut bets = Bets::none();
            (0..MINUTES).for_each(|minute| bets.end_minute(outcome >> minute & 1 == 1));
            mean += exp(bets.log_evidence()) / f64::from(1_u32 << MINUTES);
        }

        assert!((mean - 1.0).abs() < 1e-9, "{mean}");
    }

    #[test]
    fn an_hour_below_the_limit_costs_minutes_and_not_an_hour() {
        let minutes_to_alarm = |below: u32| {
            let mut bets = Bets::none();
            (0..below).for_each(|_| bets.end_minute(false));
            let mut minutes = 0;
            while bets.log_evidence() < ln(2_000.0) {
                bets.end_minute(true);
                minutes += 1;
            }
            minutes
        };

        assert_eq!([0, 15, 60, 1_440].map(minutes_to_alarm), [13, 20, 23, 32]);
    }
}
