//! One metric's test: is the canary worse than the control beside it?
//!
//! Each round gives strata: a host that runs both versions is one by itself, and all other hosts
//! together are one. Within a stratum both sides have met the same minute, so under no difference
//! the canary's part of the bad events is its part of the exposure. The gain of a bet on a ratio
//! is the logarithm of how much better that ratio explains the canary's part; gains add up over
//! strata and rounds.

use crate::{
    account::{Account, Grid, POINTS, Pairing, Totals},
    dispersion::{Dispersion, HostCount, Spread},
    math::{exp, ln},
};

/// What is bad on one host, on either side: control first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostPair {
    pub(crate) host: usize,
    /// Whether the host runs both versions.
    pub(crate) pairing: Pairing,
    pub(crate) bad: [f64; 2],
    /// Requests, or seconds.
    pub(crate) exposure: [f64; 2],
    /// Another exposure that may be what causes the events. The one that gives the canary the
    /// larger part is believed, as no mix of both gives it more.
    pub(crate) other_exposure: [f64; 2],
}

/// How events come about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Law {
    /// Rare, or without a number of trials: given all events, the canary's are binomial. For
    /// errors among requests they are hypergeometric, which is narrower: the test errs towards
    /// silence (Hoeffding 1963, theorem 4).
    Rare,
    /// A part of the requests, of which the control has had this one so far. The gain is that of
    /// Turner, Ly and Grünwald (arXiv 2106.02693), and for small parts the same as `Rare`.
    Part(f64),
}

/// How likely it may be, at one look or another, that a metric alarms without a difference.
pub(crate) fn log_bar(false_alarms: f64) -> f64 {
    -ln(false_alarms)
}

/// The largest ratio that is bet on: beyond it a few events are enough anyway.
const RATIO_MAX: f64 = 60.0;
/// How many events one round may count for before the control was seen to have any. A burst is
/// one event, however many errors it has, and only the control's own bursts tell how long they
/// are; so a fresh judge does not believe one round alone.
const ROUND_EVENTS: f64 = 1.0;
/// The part of the evidence that begins anew from time to time, so that an hour of health does
/// not have to be unlearned before a late regression is seen.
const RECENT_PART: f64 = 0.2;

#[derive(Clone, Debug)]
pub(crate) struct Comparison {
    grid: Grid,
    whole: Account,
    recent: Account,
    restarts: Restarts,
    dispersion: Dispersion,
    rounds_with_events: f64,
    /// One less the part of bad exposures; one where events are rare.
    rest: f64,
    spread_expected: f64,
    /// Exposure of each host on each side in rounds in which it was not compared with itself.
    apart: Vec<[f64; 2]>,
}

/// How often the recent evidence began, and what it may still win.
///
/// The `n`th beginning owns 1/(n(n+1)) of what is set aside, which adds up to all of it; what an
/// earlier one had won or lost is forgotten. So all of it together is still a bet that nobody
/// wins without luck.
#[derive(Clone, Copy, Debug)]
struct Restarts(f64);

impl Restarts {
    fn none() -> Self {
        Self(1.0)
    }

    fn count(&mut self) {
        self.0 += 1.0;
    }

    /// Returns the logarithm of the value of both accounts together.
    fn total(self, whole: f64, recent: f64) -> f64 {
        let whole = ln(1.0 - RECENT_PART) + whole;
        let recent = ln(RECENT_PART / (self.0 * (self.0 + 1.0))) + recent;
        let larger = whole.max(recent);
        larger + ln(exp(whole - larger) + exp(recent - larger))
    }
}

/// What a comparison has come to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Finding {
    /// The logarithm of the e-value.
    pub(crate) log_evidence: f64,
    /// The same against ratios of up to half the limit, by logarithms.
    pub(crate) log_effect: f64,
    pub(crate) whole: Totals,
    /// Since the last restart.
    pub(crate) recent: Totals,
}

impl Comparison {
    /// Makes the test that bets on ratios of at least e^`smallest`.
    pub(crate) fn new(smallest: f64, spread_expected: f64) -> Self {
        Self {
            grid: Grid::new(smallest, ln(RATIO_MAX).max(2.0 * smallest)),
            whole: Account::default(),
            recent: Account::default(),
            restarts: Restarts::none(),
            dispersion: Dispersion::default(),
            rounds_with_events: 0.0,
            rest: 1.0,
            spread_expected,
            apart: Vec::new(),
        }
    }

    /// Takes one round, in the order of hosts.
    pub(crate) fn observe(&mut self, round: &[HostPair], law: Law) {
        self.rest = match law {
            Law::Rare => 1.0,
            Law::Part(part) => 1.0 - part,
        };
        self.compare(round, law);
        let control: Vec<HostCount> = round
            .iter()
            .filter(|pair| pair.exposure[0] > 0.0)
            .map(|pair| HostCount { host: pair.host, bad: pair.bad[0], exposure: pair.exposure[0] })
            .collect();
        self.rounds_with_events += f64::from(u8::from(control.iter().any(|count| count.bad > 0.0)));
        self.dispersion.observe(&control, self.rest);
    }

    pub(crate) fn end_minute(&mut self) {
        self.dispersion.end_block();
    }

    /// Begins the recent evidence anew.
    pub(crate) fn restart(&mut self) {
        self.restarts.count();
        self.recent = Account::default();
    }

    pub(crate) fn finding(&self) -> Finding {
        let inflation = self.dispersion.inflation();
        let masses =
            if self.whole.is_pooled() { self.grid.masses(self.spread()) } else { [0.0; POINTS] };
        let whole = self.whole.log_evidence(inflation, &masses);
        let recent = self.recent.log_evidence(inflation, &masses);
        Finding {
            log_evidence: self.restarts.total(whole, recent),
            log_effect: self
                .restarts
                .total(self.whole.log_effect(inflation), self.recent.log_effect(inflation)),
            whole: self.whole.totals,
            recent: self.recent.totals,
        }
    }

    fn compare(&mut self, round: &[HostPair], law: Law) {
        let mut apart = HostPair::nothing();
        let mut events = 0.0;
        for pair in round {
            events += pair.bad[0] + pair.bad[1];
            if pair.pairing == Pairing::Pooled {
                apart.add(pair);
            }
        }
        let counted =
            (ROUND_EVENTS + self.rounds_with_events / 2.0) / (events * self.rest).max(1e-9);
        let table = Table::new(&self.grid, law);
        let mut gains = [[0.0; POINTS]; 2];
        for pair in round.iter().filter(|pair| pair.pairing == Pairing::Paired) {
            table.gain(pair, &mut gains[0]);
        }
        table.gain(&apart, &mut gains[1]);
        for pair in round.iter().filter(|pair| pair.pairing == Pairing::Paired && pair.has_both()) {
            self.count(pair);
        }
        if apart.has_both() {
            self.count(&apart);
            self.note_apart(round);
        }
        for (pairing, gains) in [Pairing::Paired, Pairing::Pooled].into_iter().zip(&mut gains) {
            if gains.iter().any(|gain| *gain != 0.0) {
                gains.iter_mut().for_each(|gain| *gain *= counted.min(1.0));
                self.whole.add(pairing, gains);
                self.recent.add(pairing, gains);
            }
        }
    }

    fn count(&mut self, pair: &HostPair) {
        let share = pair.share();
        for totals in [&mut self.whole.totals, &mut self.recent.totals] {
            for side in 0..2 {
                totals.bad[side] += pair.bad[side];
                totals.exposure[side] += pair.exposure[side];
            }
            totals.ratio_over += pair.bad[1] * (1.0 - share);
            totals.ratio_under += pair.bad[0] * share;
        }
    }

    fn note_apart(&mut self, round: &[HostPair]) {
        for pair in round.iter().filter(|pair| pair.pairing == Pairing::Pooled) {
            if self.apart.len() <= pair.host {
                self.apart.resize(pair.host + 1, [0.0; 2]);
            }
            for side in 0..2 {
                self.apart[pair.host][side] += pair.exposure[side];
            }
        }
    }

    /// Returns how far canary and control may lie apart because their hosts do: the fewer hosts
    /// a side has, the further.
    fn spread(&self) -> Spread {
        let mut sums = [[0.0; 2]; 2];
        for host in &self.apart {
            for side in 0..2 {
                sums[side][0] += host[side];
                sums[side][1] += host[side] * host[side];
            }
        }
        if sums.iter().any(|sum| sum[0] <= 0.0) {
            return Spread { deviation: 0.0, freedom: 1.0 };
        }
        let hosts: f64 = sums.iter().map(|[sum, squares]| squares / (sum * sum)).sum();
        let spread = self.dispersion.spread(self.spread_expected, self.rest);
        Spread { deviation: spread.deviation * hosts.sqrt(), ..spread }
    }
}

impl Totals {
    /// Returns how many times as often the canary has what is bad. Infinite: the control has
    /// none. None: neither has.
    pub(crate) fn ratio(&self) -> Option<f64> {
        if self.ratio_under > 0.0 {
            Some(self.ratio_over / self.ratio_under)
        } else {
            (self.ratio_over > 0.0).then_some(f64::INFINITY)
        }
    }

    /// Returns the bad events for each exposure, on a side.
    pub(crate) fn rate(&self, side: usize) -> f64 {
        if self.exposure[side] > 0.0 { self.bad[side] / self.exposure[side] } else { 0.0 }
    }

    /// Returns how much more often the canary has what is bad, the hosts and hours being equal.
    pub(crate) fn difference(&self) -> f64 {
        self.ratio().map_or(0.0, |ratio| self.rate(1) * (1.0 - 1.0 / ratio))
    }
}

impl HostPair {
    fn nothing() -> Self {
        Self {
            host: 0,
            pairing: Pairing::Pooled,
            bad: [0.0; 2],
            exposure: [0.0; 2],
            other_exposure: [0.0; 2],
        }
    }

    fn has_both(&self) -> bool {
        self.exposure.iter().all(|exposure| *exposure > 0.0)
    }

    fn add(&mut self, other: &Self) {
        for side in 0..2 {
            self.bad[side] += other.bad[side];
            self.exposure[side] += other.exposure[side];
            self.other_exposure[side] += other.other_exposure[side];
        }
    }

    /// Returns the canary's part of the exposure.
    fn share(&self) -> f64 {
        let part = |[control, canary]: [f64; 2]| {
            if canary > 0.0 { canary / (control + canary) } else { 0.0 }
        };
        part(self.exposure).max(part(self.other_exposure))
    }
}

/// What a round's law makes of each bet, worked out once for all strata.
enum Table<'a> {
    Rare(&'a Grid),
    Part { part: f64, bets: Vec<PartBet> },
}

#[derive(Clone, Copy, Default)]
struct PartBet {
    part: f64,
    log_bad: f64,
    log_good: f64,
}

impl<'a> Table<'a> {
    fn new(grid: &'a Grid, law: Law) -> Self {
        match law {
            Law::Rare => Self::Rare(grid),
            Law::Part(part) => {
                let odds = part / (1.0 - part);
                let bets = grid.ratios.iter().map(|ratio| {
                    let good = 1.0 / (1.0 + odds * ratio);
                    PartBet { part: 1.0 - good, log_bad: ln(1.0 - good), log_good: ln(good) }
                });
                Self::Part { part, bets: bets.collect() }
            }
        }
    }

    /// Adds the gain of each bet in one stratum. That on no difference gains nothing.
    fn gain(&self, pair: &HostPair, gains: &mut [f64; POINTS]) {
        if !pair.has_both() {
            return;
        }
        let [control, canary] = pair.bad;
        let share = pair.share();
        match self {
            Self::Rare(grid) => {
                let all = control + canary;
                if all > 0.0 {
                    let bets = grid.log_ratios.iter().zip(&grid.ratios).skip(1);
                    for (gain, (log_ratio, ratio)) in gains.iter_mut().skip(1).zip(bets) {
                        *gain += canary * log_ratio - all * ln(1.0 + (ratio - 1.0) * share);
                    }
                }
            }
            Self::Part { part, bets } => {
                let good = [pair.exposure[0] - control, pair.exposure[1] - canary];
                let as_control = control * bets[0].log_bad + good[0] * bets[0].log_good;
                for (gain, bet) in gains.iter_mut().zip(bets).skip(1) {
                    let mean = share * bet.part + (1.0 - share) * part;
                    let as_bet = canary * bet.log_bad + good[1] * bet.log_good;
                    let as_one =
                        (control + canary) * ln(mean) + (good[0] + good[1]) * ln(1.0 - mean);
                    *gain += as_control + as_bet - as_one;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
