//! Memory: is the canary's level at or above the limit more often than not?
//!
//! A gauge has no events to count, and its values hang together. So a minute gives one yes or no:
//! was the canary's mean at least the limit's multiple of the control's? Under no sustained
//! difference that is as likely no as yes at most, whatever the minutes before said; bets on yes
//! then win nothing in the mean. The assumption is that what makes a level noisy (a collector's
//! saw-tooth, a burst of requests) is over within a minute.

use crate::{
    comparison::Restarts,
    math::{exp, ln},
};

/// The chances of yes that are bet on: a level that wobbles around the limit, and one above it.
const BETS: [f64; 2] = [0.8, 0.97];
/// Hosts' own differences that are put on top of the limit where different hosts are compared,
/// in standard deviations.
const SPREADS: f64 = 3.0;

#[derive(Clone, Debug)]
pub(crate) struct Memory {
    log_ratio: f64,
    difference_bytes: f64,
    spread_expected: f64,
    hosts: Vec<Levels>,
    whole: Bets,
    recent: Bets,
    restarts: Restarts,
}

/// Sums of one host's gauges in the open minute, control first.
#[derive(Clone, Copy, Debug, Default)]
struct Levels {
    sums: [f64; 2],
    counts: [f64; 2],
}

#[derive(Clone, Copy, Debug, Default)]
struct Bets {
    gains: [f64; BETS.len()],
    minutes: f64,
    minutes_above: f64,
    level_sums: [f64; 2],
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
            whole: Bets::default(),
            recent: Bets::default(),
            restarts: Restarts::none(),
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
        for bets in [&mut self.whole, &mut self.recent] {
            bets.minutes += 1.0;
            bets.minutes_above += f64::from(u8::from(is_above));
            bets.level_sums[0] += control;
            bets.level_sums[1] += canary;
            for (gain, chance) in bets.gains.iter_mut().zip(BETS) {
                *gain += ln(2.0 * if is_above { chance } else { 1.0 - chance });
            }
        }
    }

    /// Begins the recent evidence anew.
    pub(crate) fn restart(&mut self) {
        self.restarts.count();
        self.recent = Bets::default();
    }

    pub(crate) fn finding(&self) -> MemoryFinding {
        MemoryFinding {
            log_evidence: self.restarts.total(self.whole.total(), self.recent.total()),
            minutes: self.whole.minutes,
            recent_minutes: self.recent.minutes,
            whole: self.whole.levels(),
            recent: self.recent.levels(),
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
    fn total(&self) -> f64 {
        let larger = self.gains.into_iter().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = self.gains.iter().map(|gain| exp(gain - larger)).sum();
        larger + ln(sum / BETS.len() as f64)
    }

    fn levels(&self) -> Option<[f64; 2]> {
        (self.minutes > 0.0).then(|| self.level_sums.map(|sum| sum / self.minutes))
    }
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
