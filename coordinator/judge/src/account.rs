//! One gambler's books: log-likelihood ratios over a grid of effects, and their mixture.

use crate::{
    dispersion::Spread,
    math::{exp, ln, student_below},
};

/// Effects that are bet on. Each stands 20 to 35 % beyond the one before, about the width within
/// which the data tell effects apart by the time of an alarm.
const BETS: usize = 14;
/// The stake on each effect, in parts of a mean one. With a limit of 1.5 what is 2.3 to 11 times as
/// much has more than the mean, as that is what canaries are turned back for. What is near the
/// limit takes longer for it, and what is 60 times as much loses half an event.
const STAKES: [f64; BETS] = [0.4, 0.6, 0.8, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.5, 1.0, 0.4, 0.2];
/// Effects below the smallest bet, which only hosts' own differences reach.
const SMALL: usize = 4;
pub(crate) const POINTS: usize = BETS + SMALL;

/// The effects, as logarithms of the ratio of the canary's odds to the control's.
#[derive(Clone, Debug)]
pub(crate) struct Grid {
    pub(crate) log_ratios: [f64; POINTS],
    pub(crate) ratios: [f64; POINTS],
}

impl Grid {
    /// Makes the grid that bets on ratios from e^`smallest` to e^`largest`.
    pub(crate) fn new(smallest: f64, largest: f64) -> Self {
        let step = ln(largest / smallest) / (BETS - 1) as f64;
        let mut log_ratios = [0.0; POINTS];
        for (point, log_ratio) in log_ratios.iter_mut().enumerate() {
            *log_ratio = if point < SMALL {
                smallest * point as f64 / SMALL as f64
            } else {
                smallest * exp(step * (point - SMALL) as f64)
            };
        }
        Self { log_ratios, ratios: log_ratios.map(exp) }
    }

    /// Returns the chance of each point when hosts of one version differ by `spread`, by Student's
    /// law, as the spread is itself only known from some hosts. What is below zero counts as
    /// zero: that only weakens the evidence against the canary.
    pub(crate) fn masses(&self, spread: Spread) -> [f64; POINTS] {
        let mut masses = [0.0; POINTS];
        if spread.deviation <= 0.0 {
            masses[0] = 1.0;
            return masses;
        }
        let mut below = 0.0;
        for (point, mass) in masses.iter_mut().enumerate() {
            let next = self.log_ratios.get(point + 1);
            let up_to = next.map_or(1.0, |next| {
                student_below(
                    (self.log_ratios[point] + next) / 2.0 / spread.deviation,
                    spread.freedom,
                )
            });
            *mass = up_to - below;
            below = up_to;
        }
        masses
    }
}

/// What was gained at each point of a grid since a moment, and what was counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Account {
    /// Where one host runs both versions: what hosts are like cancels out.
    paired: [f64; POINTS],
    /// Where hosts with the one are compared with hosts with the other.
    pooled: [f64; POINTS],
    is_pooled: bool,
    pub(crate) totals: Totals,
}

/// Plain numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Totals {
    pub(crate) bad: [f64; 2],
    pub(crate) exposure: [f64; 2],
    /// Mantel and Haenszel's sums: their quotient is the ratio, whatever the mix of hosts and
    /// hours was on either side.
    pub(crate) ratio_over: f64,
    pub(crate) ratio_under: f64,
}

/// Whether a comparison was made within one host.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Pairing {
    Paired,
    Pooled,
}

impl Account {
    pub(crate) fn is_pooled(&self) -> bool {
        self.is_pooled
    }

    pub(crate) fn add(&mut self, pairing: Pairing, gains: &[f64; POINTS]) {
        let sums = match pairing {
            Pairing::Paired => &mut self.paired,
            Pairing::Pooled => {
                self.is_pooled = true;
                &mut self.pooled
            }
        };
        sums.iter_mut().zip(gains).for_each(|(sum, gain)| *sum += gain);
    }

    /// Returns the logarithm of the e-value: the likelihood of the data under the mixture of all
    /// bets, over that under no difference but the hosts' own, of which each point of the grid
    /// has its chance in `masses`. Both are raised to the power 1/`dispersion`.
    pub(crate) fn log_evidence(&self, dispersion: f64, masses: &[f64; POINTS]) -> f64 {
        let gain = |point: usize| (self.paired[point] + self.pooled[point]) / dispersion;
        let for_it = log_mixture(gain);
        if !self.is_pooled {
            return for_it;
        }
        let without = masses
            .iter()
            .zip(&self.pooled)
            .filter(|(mass, _)| **mass > 0.0)
            .map(|(mass, gain)| ln(*mass) + gain / dispersion);
        for_it - log_sum_exp(without)
    }

    /// Returns the logarithm of the e-value against every ratio up to the middle between none and
    /// the limit, by logarithms. Hosts' own differences are not in it.
    pub(crate) fn log_effect(&self, dispersion: f64) -> f64 {
        let gain = |point: usize| (self.paired[point] + self.pooled[point]) / dispersion;
        log_mixture(gain) - gain(SMALL / 2)
    }
}

/// Returns the logarithm of what all bets have together, of which each point has `gain`.
fn log_mixture(gain: impl Fn(usize) -> f64) -> f64 {
    const LOG_STAKES: [f64; BETS] = {
        let (mut logs, mut all, mut bet) = ([0.0; BETS], 0.0, 0);
        while bet < BETS {
            all += STAKES[bet];
            bet += 1;
        }
        while bet > 0 {
            bet -= 1;
            logs[bet] = ln(STAKES[bet] / all);
        }
        logs
    };
    log_sum_exp(LOG_STAKES.iter().zip(SMALL..).map(|(stake, point)| stake + gain(point)))
}

fn log_sum_exp(terms: impl Iterator<Item = f64> + Clone) -> f64 {
    /// What is smaller by e^40 is lost in the sum anyway.
    const LOST: f64 = -40.0;
    let largest = terms.clone().fold(f64::NEG_INFINITY, f64::max);
    let differences = terms.map(|term| term - largest).filter(|difference| *difference > LOST);
    largest + ln(differences.map(exp).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(deviation: f64) -> Spread {
        Spread { deviation, freedom: 1e3 }
    }

    #[test]
    fn the_grid_begins_at_the_limit_and_ends_where_it_was_told() {
        let grid = Grid::new(ln(1.5), ln(100.0));

        assert_eq!(grid.ratios[0], 1.0);
        assert!((grid.ratios[SMALL] - 1.5).abs() < 1e-12);
        assert!((grid.ratios[POINTS - 1] - 100.0).abs() < 1e-9);
        for deviation in [0.0, 0.01, 0.3, 5.0] {
            assert!((grid.masses(known(deviation)).iter().sum::<f64>() - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn nothing_gained_is_no_evidence() {
        let grid = Grid::new(ln(1.5), ln(100.0));
        let mut account = Account::default();
        assert!(account.log_evidence(1.0, &grid.masses(known(0.1))).abs() < 1e-12);

        account.add(Pairing::Pooled, &[0.0; POINTS]);
        assert!(account.log_evidence(1.0, &grid.masses(known(0.1))).abs() < 1e-12);
    }

    #[test]
    fn what_hosts_may_differ_by_is_no_evidence_between_hosts_and_is_within_one() {
        let grid = Grid::new(ln(1.5), ln(100.0));
        // A mountain of data that says 1.5.
        let gains = grid.log_ratios.map(|x| 1e4 * (grid.log_ratios[SMALL] * x - x * x / 2.0));
        let mut within = Account::default();
        within.add(Pairing::Paired, &gains);
        let mut between = Account::default();
        between.add(Pairing::Pooled, &gains);

        assert!(within.log_evidence(1.0, &grid.masses(known(0.5))) > 100.0);
        assert!(between.log_evidence(1.0, &grid.masses(known(0.5))) < 2.0);
        assert!(between.log_evidence(1.0, &grid.masses(known(0.05))) > 10.0);
    }
}
