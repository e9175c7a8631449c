//! Latency: how many answers are slower than the control's own quantiles.

use crate::{
    LatencyScale,
    account::Pairing,
    comparison::{Comparison, Finding, HostPair, Law},
    math::{exp, ln},
};

/// The quantiles that are watched.
pub(crate) const QUANTILES: [f64; 3] = [0.5, 0.9, 0.99];
/// The control's answers that must lie beyond a quantile before it is believed.
const BEYOND_MIN: f64 = 5.0;
/// The smallest ratio of odds that is bet on: where a log-normal latency with σ = 1 lies at its
/// median when it is shifted by 6 %.
const SMALLEST: f64 = 0.1;

/// How much further hosts lie apart in the odds of a slow answer than in their speed: a host that
/// is slower by 10 % has 30 % more answers beyond its median where σ = 0.5.
const ODDS_SPREAD: f64 = 3.0;

/// What one side has answered on one host in the open round.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SlowCounts {
    pub(crate) answers: u64,
    /// How many of them were beyond each quantile of the control.
    slow: [u64; 3],
}

#[derive(Clone, Debug)]
pub(crate) struct Latency {
    scale: LatencyScale,
    tests: [Comparison; 3],
    /// The first bucket beyond each quantile, and the control's part of answers there. Chosen
    /// from what came before the open round, never from the round itself.
    edges: [Option<Edge>; 3],
    control: Vec<f64>,
    round: [Vec<f64>; 2],
    whole: Histograms,
    recent: Histograms,
}

#[derive(Clone, Copy, Debug)]
struct Edge {
    bucket: usize,
    part: f64,
}

/// The canary's answers, and what they would have been at the control's latency of the same
/// rounds.
#[derive(Clone, Debug)]
struct Histograms {
    canary: Vec<f64>,
    control: Vec<f64>,
}

/// A quantile of both sides, in milliseconds. None: too few answers, or slower than the buckets
/// can tell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct QuantilePair {
    pub(crate) quantile: f64,
    pub(crate) canary_ms: Option<f64>,
    pub(crate) control_ms: Option<f64>,
}

/// What is known of latency, with the quantile that says most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LatencyFinding {
    pub(crate) log_evidence: f64,
    pub(crate) answers: [f64; 2],
    pub(crate) whole: QuantilePair,
    pub(crate) recent: QuantilePair,
}

impl Latency {
    pub(crate) fn new(scale: LatencyScale, spread_expected: f64) -> Self {
        let empty = vec![0.0; scale.buckets()];
        let histograms = Histograms { canary: empty.clone(), control: empty.clone() };
        Self {
            scale,
            tests: QUANTILES.map(|_| Comparison::new(SMALLEST, ODDS_SPREAD * spread_expected)),
            edges: [None; 3],
            control: empty.clone(),
            round: [empty.clone(), empty],
            whole: histograms.clone(),
            recent: histograms,
        }
    }

    /// Takes answers of one host and side into the open round.
    pub(crate) fn collect(&mut self, side: usize, histogram: &[u64], host: &mut SlowCounts) {
        let last = self.scale.buckets() - 1;
        for (bucket, &count) in histogram.iter().enumerate().filter(|(_, count)| **count > 0) {
            let bucket = bucket.min(last);
            self.round[side][bucket] += count as f64;
            host.answers = host.answers.saturating_add(count);
            for (slow, edge) in host.slow.iter_mut().zip(&self.edges) {
                if edge.is_some_and(|edge| bucket >= edge.bucket) {
                    *slow = slow.saturating_add(count);
                }
            }
        }
    }

    /// Ends the round. `hosts` has the counts of both sides of each host that answered.
    pub(crate) fn end_round(&mut self, hosts: &[(usize, Pairing, [SlowCounts; 2])]) {
        for (which, test) in self.tests.iter_mut().enumerate() {
            let Some(edge) = self.edges[which] else { continue };
            let pairs: Vec<HostPair> = hosts
                .iter()
                .map(|(host, pairing, sides)| HostPair {
                    host: *host,
                    pairing: *pairing,
                    bad: [0, 1].map(|side| sides[side].slow[which] as f64),
                    exposure: [0, 1].map(|side| sides[side].answers as f64),
                    other_exposure: [0.0; 2],
                })
                .collect();
            test.observe(&pairs, Law::Part(edge.part));
        }
        let answers: [f64; 2] = [0, 1].map(|side| self.round[side].iter().sum());
        if answers.iter().all(|answers| *answers > 0.0) {
            for histograms in [&mut self.whole, &mut self.recent] {
                histograms.add(&self.round, answers[1] / answers[0]);
            }
        }
        self.control.iter_mut().zip(&self.round[0]).for_each(|(all, count)| *all += count);
        self.round.iter_mut().for_each(|round| round.fill(0.0));
        if answers[0] > 0.0 {
            self.edges = QUANTILES.map(|quantile| choose_edge(&self.control, quantile));
        }
    }

    pub(crate) fn end_minute(&mut self) {
        self.tests.iter_mut().for_each(Comparison::end_minute);
    }

    /// Begins the recent evidence anew.
    pub(crate) fn restart(&mut self) {
        self.tests.iter_mut().for_each(Comparison::restart);
        self.recent.canary.fill(0.0);
        self.recent.control.fill(0.0);
    }

    /// Returns the evidence of all quantiles together: the mean of their e-values is one.
    pub(crate) fn finding(&self) -> LatencyFinding {
        let findings: [Finding; 3] = [0, 1, 2].map(|which| self.tests[which].finding());
        let evidence = findings.map(|finding| finding.log_evidence);
        let largest = evidence.into_iter().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = evidence.iter().map(|evidence| exp(evidence - largest)).sum();
        let first = evidence.iter().position(|evidence| *evidence == largest).unwrap_or(0);
        LatencyFinding {
            log_evidence: largest + ln(sum / QUANTILES.len() as f64),
            answers: [self.whole.control.iter().sum(), self.whole.canary.iter().sum()],
            whole: self.whole.quantile(&self.scale, QUANTILES[first]),
            recent: self.recent.quantile(&self.scale, QUANTILES[first]),
        }
    }
}

impl Histograms {
    fn add(&mut self, round: &[Vec<f64>; 2], weight: f64) {
        self.control.iter_mut().zip(&round[0]).for_each(|(all, count)| *all += count * weight);
        self.canary.iter_mut().zip(&round[1]).for_each(|(all, count)| *all += count);
    }

    fn quantile(&self, scale: &LatencyScale, quantile: f64) -> QuantilePair {
        QuantilePair {
            quantile,
            canary_ms: scale.quantile_ms(&self.canary, quantile),
            control_ms: scale.quantile_ms(&self.control, quantile),
        }
    }
}

/// Returns the edge between buckets beyond which the part of `counts` is nearest to what lies
/// beyond `quantile`, by their odds. None: too few lie there, or all of them.
fn choose_edge(counts: &[f64], quantile: f64) -> Option<Edge> {
    let all: f64 = counts.iter().sum();
    let wanted = (1.0 - quantile) / quantile;
    let mut beyond = 0.0;
    let mut best: Option<(f64, Edge)> = None;
    for (bucket, count) in counts.iter().enumerate().skip(1).rev() {
        beyond += count;
        // An edge above an empty bucket is the same as the one below it.
        if *count == 0.0 || beyond < BEYOND_MIN || all - beyond < BEYOND_MIN {
            continue;
        }
        let odds = beyond / (all - beyond);
        let far = (odds / wanted).max(wanted / odds);
        if best.is_none_or(|(least, _)| far < least) {
            best = Some((far, Edge { bucket, part: beyond / all }));
        }
    }
    best.map(|(_, edge)| edge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_is_the_nearest_to_its_quantile() {
        let counts = [0.0, 500.0, 400.0, 90.0, 10.0];

        let edges = QUANTILES.map(|quantile| choose_edge(&counts, quantile).unwrap());

        assert_eq!(edges.map(|edge| edge.bucket), [2, 3, 4]);
        assert_eq!(edges.map(|edge| edge.part), [0.5, 0.1, 0.01]);
    }

    #[test]
    fn too_little_beyond_an_edge_is_no_edge() {
        assert!(choose_edge(&[100.0, 0.0, 4.0], 0.99).is_none());
        assert!(choose_edge(&[0.0, 1000.0], 0.5).is_none());
        assert!(choose_edge(&[0.0, 0.0], 0.5).is_none());
    }
}
