//! The judge: takes samples, closes rounds, gives verdicts.

use std::time::Duration;

use crate::{
    Evidence, JudgeSpec, LatencyScale, Metric, Missing, Sample, Verdict,
    account::{Pairing, Totals},
    comparison::{Comparison, Finding, HostPair, Law, log_bar},
    latency::{Latency, LatencyFinding, QuantilePair, SlowCounts},
    math::{exp, ln},
    memory::{Memory, MemoryFinding},
    sample::HOSTS_MAX,
    spec::Limit,
    verdict::e_value,
};

/// How often the recent part of the evidence begins anew: long beside the minutes that a bad
/// canary needs to show, short beside the hours in which one turns bad.
const RECENT: Duration = Duration::from_secs(900);
const MINUTE: Duration = Duration::from_secs(60);
/// Bad events that the canary must have had before it fails by their number. Two are an accident
/// to everybody who reads them, whatever their likelihood.
const EVENTS_MIN: f64 = 3.0;
/// What part of the requests a canary must fail more than the control to be gross. A release that fails one
/// in twenty is noticed by everybody; below it a step that is too short to tell is the operator's choice.
const GROSS: f64 = 0.05;
/// How sure it must be that a ratio is past the middle between none and the limit: one in twenty.
/// Without it a canary that is somewhat worse would fail as soon as it is measured at the limit
/// by accident. It asks no more than the other bar does of what is twice as bad.
const EFFECT_BAR: f64 = 20.0;
const BYTES_IN_MIB: f64 = 1_048_576.0;

/// Compares a canary with the old version beside it.
///
/// Samples are given as they come; [`end_round`](Self::end_round) closes what came since the last
/// one, and is what evidence is gathered from. Within a round the order of samples is of no
/// consequence. All of it is arithmetic on what it was given: the same calls give the same
/// verdicts on every machine.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cutover_judge::{HostIndex, Judge, JudgeSpec, LatencyScale, Sample, Side, Traffic, Verdict};
///
/// let mut judge = Judge::new(&JudgeSpec::default(), LatencyScale::powers_of_two(27), 0);
/// let round = Duration::from_secs(5);
/// for _ in 0..24 {
///     for (side, requests, errors) in [(Side::Control, 95, 0), (Side::Canary, 5, 1)] {
///         judge.observe(&Sample {
///             side,
///             host: HostIndex::new(0).unwrap(),
///             watched: round,
///             traffic: Some(Traffic { requests, errors, latency: &[] }),
///             restarts: 0,
///             memory_bytes: None,
///             error_lines: None,
///         });
///     }
///     judge.end_round(round);
/// }
/// assert!(matches!(judge.verdict(), Verdict::Fail(_)));
/// ```
#[derive(Clone, Debug)]
pub struct Judge {
    spec: JudgeSpec,
    /// What all metrics of this attempt may raise false alarms.
    false_alarms: f64,
    round: Vec<Tally>,
    touched: Vec<usize>,
    errors: Comparison,
    restarts: Comparison,
    log_lines: Comparison,
    latency: Latency,
    memory: Memory,
    requests: [u64; 2],
    /// Those of rounds in which there were some of both sides.
    beside: [u64; 2],
    watched: [Duration; 2],
    has_traffic: bool,
    elapsed: Duration,
    minutes_ended: u64,
    restarts_done: u64,
    failed: Option<Evidence>,
    /// What looks bad and is not proved.
    doubted: Option<Metric>,
}

/// What one host did in the open round, control first.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    is_touched: bool,
    watched: [Duration; 2],
    requests: [u64; 2],
    errors: [u64; 2],
    restarts: [u64; 2],
    /// Lines, and the seconds in which they were counted.
    lines: [u64; 2],
    lines_watched: [Duration; 2],
    latency: [SlowCounts; 2],
}

impl Judge {
    /// Makes the judge of one attempt at a rollout.
    ///
    /// `attempt` counts from zero: how often the evidence began anew, because whoever kept it
    /// was restarted. The attempt takes 1/2, 1/4, 1/8 … of the false alarms that are allowed, so
    /// that all together keep to them.
    pub fn new(spec: &JudgeSpec, scale: LatencyScale, attempt: u32) -> Self {
        let halvings = i32::try_from(attempt.min(60)).unwrap_or(60) + 1;
        let comparison = |metric| Comparison::new(ln(spec.limit(metric).ratio), spec.host_spread);
        let memory = spec.limit(Metric::Memory);
        Self {
            false_alarms: spec.false_alarms * 0.5_f64.powi(halvings),
            round: Vec::new(),
            touched: Vec::new(),
            errors: comparison(Metric::Errors),
            restarts: comparison(Metric::Restarts),
            log_lines: comparison(Metric::LogLines),
            latency: Latency::new(scale, spec.host_spread),
            memory: Memory::new(memory.ratio, memory.difference * BYTES_IN_MIB, spec.host_spread),
            requests: [0; 2],
            beside: [0; 2],
            watched: [Duration::ZERO; 2],
            has_traffic: false,
            elapsed: Duration::ZERO,
            minutes_ended: 0,
            restarts_done: 0,
            failed: None,
            doubted: None,
            spec: spec.clone(),
        }
    }

    /// Takes a sample into the open round.
    pub fn observe(&mut self, sample: &Sample<'_>) {
        let (side, host) = (sample.side.index(), sample.host.get());
        debug_assert!(host < HOSTS_MAX, "HostIndex bounds it");
        if self.round.len() <= host {
            self.round.resize(host + 1, Tally::default());
        }
        let tally = &mut self.round[host];
        if !tally.is_touched {
            tally.is_touched = true;
            self.touched.push(host);
        }
        // Sums saturate: a number that an agent made up is no reason to stop.
        add_time(&mut tally.watched[side], sample.watched);
        add(&mut tally.restarts[side], u64::from(sample.restarts));
        if let Some(traffic) = sample.traffic {
            self.has_traffic = true;
            // A connection that was refused may be no request to whoever counts.
            let requests = traffic.requests.max(traffic.errors);
            add(&mut tally.requests[side], requests);
            add(&mut tally.errors[side], traffic.errors);
            add(&mut self.requests[side], requests);
            self.latency.collect(side, traffic.latency, &mut tally.latency[side]);
        }
        if let Some(lines) = sample.error_lines {
            add(&mut tally.lines[side], lines);
            add_time(&mut tally.lines_watched[side], sample.watched);
        }
        if let Some(bytes) = sample.memory_bytes {
            self.memory.collect(side, host, bytes);
        }
        add_time(&mut self.watched[side], sample.watched);
    }

    /// Closes the round, which took `length`: a heartbeat's interval, or whatever the samples
    /// cover.
    pub fn end_round(&mut self, length: Duration) {
        self.touched.sort_unstable();
        self.compare();
        self.count_requests();
        for host in self.touched.drain(..) {
            self.round[host] = Tally::default();
        }
        add_time(&mut self.elapsed, length);
        let minutes = self.elapsed.as_secs() / MINUTE.as_secs();
        if minutes > self.minutes_ended {
            self.minutes_ended = minutes;
            self.errors.end_minute();
            self.restarts.end_minute();
            self.log_lines.end_minute();
            self.latency.end_minute();
            self.memory.end_minute();
        }
        if self.failed.is_none() {
            let evidence = self.evidence();
            let doubted = evidence.iter().find(|it| looks_bad(self.spec.limit(it.metric), it));
            self.doubted = doubted.map(|evidence| evidence.metric);
            self.failed = evidence
                .into_iter()
                .find(|evidence| evidence.is_beyond_limit && evidence.e_value >= evidence.bar);
        }
        self.forget();
    }

    /// Says what there is to say after the rounds so far.
    pub fn verdict(&self) -> Verdict {
        if let Some(evidence) = &self.failed {
            return Verdict::Fail(evidence.clone());
        }
        let mut missing = self.missing();
        missing.extend(self.doubted.map(|metric| Missing::Certainty { metric }));
        if missing.is_empty() { Verdict::Pass } else { Verdict::NotEnough(missing) }
    }

    /// Returns what is known of each metric that is judged, in the order of [`Metric::ALL`].
    pub fn evidence(&self) -> Vec<Evidence> {
        let judged = Metric::ALL.into_iter().filter(|metric| self.spec.limit(*metric).share > 0.0);
        judged.map(|metric| self.evidence_of(metric)).collect()
    }

    fn compare(&mut self) {
        let is_judged = |metric| self.spec.limit(metric).share > 0.0;
        let pairs = |pair: &dyn Fn(&Tally) -> HostPair| -> Vec<HostPair> {
            let hosts = self.touched.iter();
            hosts.map(|&host| HostPair { host, ..pair(&self.round[host]) }).collect()
        };
        if is_judged(Metric::Errors) {
            let errors = pairs(&|tally| tally.pair(tally.errors, tally.requests(), [0.0; 2]));
            self.errors.observe(&errors, Law::Rare);
        }
        if is_judged(Metric::Restarts) {
            let restarts = pairs(&|tally| {
                tally.pair(tally.restarts, seconds(tally.watched), tally.requests())
            });
            self.restarts.observe(&restarts, Law::Rare);
        }
        if is_judged(Metric::LogLines) {
            let lines = pairs(&|tally| {
                tally.pair(tally.lines, seconds(tally.lines_watched), tally.requests())
            });
            self.log_lines.observe(&lines, Law::Rare);
        }
        if is_judged(Metric::Latency) {
            let hosts = self.touched.iter().map(|&host| (host, &self.round[host]));
            let answering =
                hosts.filter(|(_, tally)| tally.latency.iter().any(|counts| counts.answers > 0));
            let hosts: Vec<_> =
                answering.map(|(host, tally)| (host, tally.pairing(), tally.latency)).collect();
            self.latency.end_round(&hosts);
        }
    }

    /// Begins the recent evidence anew where it is old enough.
    fn forget(&mut self) {
        let recent = self.elapsed.as_secs() / RECENT.as_secs();
        if recent > self.restarts_done {
            self.restarts_done = recent;
            self.errors.restart();
            self.restarts.restart();
            self.log_lines.restart();
            self.latency.restart();
        }
    }

    /// Requests are evidence where there were some of the other side at the same time: those of
    /// before say nothing of what comes after.
    fn count_requests(&mut self) {
        let mut both = [0; 2];
        for &host in &self.touched {
            let requests = self.round[host].requests;
            both.iter_mut().zip(requests).for_each(|(sum, more)| add(sum, more));
        }
        if both.iter().all(|requests| *requests > 0) {
            self.beside.iter_mut().zip(both).for_each(|(sum, more)| add(sum, more));
        }
    }

    fn missing(&self) -> Vec<Missing> {
        let mut missing = Vec::new();
        let wanted = self.spec.watched_seconds_min;
        let [control, canary] = self.watched.map(|watched| watched.as_secs());
        if canary < wanted {
            missing.push(Missing::CanarySeconds { seen: canary, wanted });
        }
        if control < wanted {
            missing.push(Missing::ControlSeconds { seen: control, wanted });
        }
        // Where requests are counted, hours without any prove nothing.
        let wanted = if self.has_traffic { self.spec.requests_min } else { 0 };
        let has_enough = self.requests.iter().all(|requests| *requests >= wanted);
        let [control, canary] = if has_enough { self.beside } else { self.requests };
        if canary < wanted {
            missing.push(Missing::CanaryRequests { seen: canary, wanted });
        }
        if control < wanted {
            missing.push(Missing::ControlRequests { seen: control, wanted });
        }
        missing
    }

    fn evidence_of(&self, metric: Metric) -> Evidence {
        let limit = self.spec.limit(metric);
        let bar = exp(log_bar(self.false_alarms * limit.share));
        match metric {
            Metric::Errors => counted(metric, limit, bar, &self.errors.finding(), 1.0),
            Metric::Restarts => counted(metric, limit, bar, &self.restarts.finding(), 3_600.0),
            Metric::LogLines => counted(metric, limit, bar, &self.log_lines.finding(), 60.0),
            Metric::Latency => slow(limit, bar, &self.latency.finding()),
            Metric::Memory => large(limit, bar, &self.memory.finding()),
        }
    }
}

impl Tally {
    fn pairing(&self) -> Pairing {
        let has_both = self.watched.iter().all(|watched| !watched.is_zero());
        if has_both { Pairing::Paired } else { Pairing::Pooled }
    }

    fn requests(&self) -> [f64; 2] {
        self.requests.map(|requests| requests as f64)
    }

    fn pair(&self, bad: [u64; 2], exposure: [f64; 2], other_exposure: [f64; 2]) -> HostPair {
        let bad = bad.map(|bad| bad as f64);
        HostPair { host: 0, pairing: self.pairing(), bad, exposure, other_exposure }
    }
}

fn add(sum: &mut u64, more: u64) {
    *sum = sum.saturating_add(more);
}

fn add_time(sum: &mut Duration, more: Duration) {
    *sum = sum.saturating_add(more);
}

fn seconds(durations: [Duration; 2]) -> [f64; 2] {
    durations.map(|duration| duration.as_secs_f64())
}

/// Returns whether a canary looks so bad that more must be seen before it passes.
///
/// Evidence grows with rounds and not with requests, as one round may be one burst. So a canary that fails
/// everything can be through a short step before that is proved, and it must not be called good.
fn looks_bad(limit: Limit, evidence: &Evidence) -> bool {
    if evidence.is_beyond_limit && evidence.e_value >= EFFECT_BAR {
        return true;
    }
    let (Metric::Errors, Some(canary), Some(control)) =
        (evidence.metric, evidence.canary, evidence.control)
    else {
        return false;
    };
    (canary * evidence.canary_exposure).round() >= EVENTS_MIN
        && canary >= control * limit.ratio
        && canary - control >= limit.difference.max(GROSS)
}

/// Returns the evidence of a count; its unit is so many exposures.
fn counted(metric: Metric, limit: Limit, bar: f64, finding: &Finding, per: f64) -> Evidence {
    let is_beyond = |totals: &Totals| {
        totals.ratio().is_some_and(|ratio| ratio >= limit.ratio)
            && totals.difference() * per >= limit.difference
            && totals.bad[1] >= EVENTS_MIN
            && exp(finding.log_effect) >= EFFECT_BAR
    };
    let is_recent = is_beyond(&finding.recent) && !is_beyond(&finding.whole);
    let totals = if is_recent { finding.recent } else { finding.whole };
    let has_both = totals.exposure.iter().all(|exposure| *exposure > 0.0);
    Evidence {
        metric,
        quantile: None,
        canary: has_both.then(|| totals.rate(1) * per),
        control: has_both.then(|| totals.rate(0) * per),
        ratio: totals.ratio().filter(|ratio| ratio.is_finite()),
        canary_exposure: totals.exposure[1],
        control_exposure: totals.exposure[0],
        e_value: e_value(finding.log_evidence),
        bar,
        is_beyond_limit: is_beyond(&totals),
    }
}

fn slow(limit: Limit, bar: f64, finding: &LatencyFinding) -> Evidence {
    let ratio = |pair: &QuantilePair| Some(pair.canary_ms? / pair.control_ms?);
    let is_beyond = |pair: &QuantilePair| match (pair.canary_ms, pair.control_ms) {
        (Some(canary), Some(control)) => {
            canary >= control * limit.ratio && canary - control >= limit.difference
        }
        // Slower than the buckets can tell, and the control is not.
        (None, Some(_)) => true,
        (_, None) => false,
    };
    let is_recent = is_beyond(&finding.recent) && !is_beyond(&finding.whole);
    let pair = if is_recent { finding.recent } else { finding.whole };
    Evidence {
        metric: Metric::Latency,
        quantile: Some(pair.quantile),
        canary: pair.canary_ms,
        control: pair.control_ms,
        ratio: ratio(&pair),
        canary_exposure: finding.answers[1],
        control_exposure: finding.answers[0],
        e_value: e_value(finding.log_evidence),
        bar,
        is_beyond_limit: is_beyond(&pair),
    }
}

fn large(limit: Limit, bar: f64, finding: &MemoryFinding) -> Evidence {
    let is_beyond = |[control, canary]: [f64; 2]| {
        canary >= control * limit.ratio && canary - control >= limit.difference * BYTES_IN_MIB
    };
    let is_recent = finding.recent.is_some_and(is_beyond) && !finding.whole.is_some_and(is_beyond);
    let (levels, minutes) = if is_recent {
        (finding.recent, finding.recent_minutes)
    } else {
        (finding.whole, finding.minutes)
    };
    Evidence {
        metric: Metric::Memory,
        quantile: None,
        canary: levels.map(|levels| levels[1] / BYTES_IN_MIB),
        control: levels.map(|levels| levels[0] / BYTES_IN_MIB),
        ratio: levels.map(|levels| levels[1] / levels[0]).filter(|ratio| ratio.is_finite()),
        canary_exposure: minutes,
        control_exposure: minutes,
        e_value: e_value(finding.log_evidence),
        bar,
        is_beyond_limit: levels.is_some_and(is_beyond),
    }
}

#[cfg(test)]
mod tests;
