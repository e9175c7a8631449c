//! Streams of samples: what a fleet would report while a canary is watched.

use std::{sync::LazyLock, time::Duration};

use cutover_judge::{HostIndex, LatencyScale, Sample, Side, Traffic, math};

use super::dice::Dice;

/// Who runs the new version.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Canary {
    /// Every host, for this part of its requests.
    Weight(f64),
    /// So many hosts, for all of theirs.
    Hosts(usize),
}

/// A fleet and its troubles. Rates are those of the old version.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    pub hosts: usize,
    pub round_seconds: f64,
    pub requests_per_second: f64,
    pub error_rate: f64,
    pub canary: Canary,
    /// The variance of a host's errors over their mean; one is no bursts.
    pub burst: f64,
    /// Now and then a backend fails for half a minute, and all errors are 30 times as many.
    pub is_backend_flaky: bool,
    /// Each host has half a minute of ten times as many errors now and then, by itself.
    pub is_host_flaky: bool,
    /// Load goes from 0.2 to 1.8 and back within the hour, and the error rate with it.
    pub is_diurnal: bool,
    /// The standard deviation of the logarithm of a host's own error rate.
    pub skew: f64,
    /// What the canary multiplies the error rate by, and from which second on.
    pub ratio: f64,
    pub worse_after: f64,
    /// For so many seconds everything is the old version.
    pub canary_after: f64,
}

/// 500 requests a second on ten hosts, one error a second, heartbeats of 5 s.
pub const PLAIN: Stream = Stream {
    hosts: 10,
    round_seconds: 5.0,
    requests_per_second: 500.0,
    error_rate: 0.002,
    canary: Canary::Weight(0.1),
    burst: 1.0,
    is_backend_flaky: false,
    is_host_flaky: false,
    is_diurnal: false,
    skew: 0.0,
    ratio: 1.0,
    worse_after: 0.0,
    canary_after: 0.0,
};

/// A stream under way.
pub struct Flow {
    stream: Stream,
    dice: Dice,
    own_rates: Vec<f64>,
    seconds: f64,
    backend_fails_until: f64,
    hosts_fail_until: Vec<f64>,
}

/// Requests and errors of one side of one host.
#[derive(Clone, Copy, Debug)]
pub struct Count {
    pub side: Side,
    pub host: usize,
    pub requests: u64,
    pub errors: u64,
}

impl Flow {
    pub fn new(stream: Stream, seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let own_rates = (0..stream.hosts)
            .map(|_| if stream.skew > 0.0 { math::exp(stream.skew * dice.normal()) } else { 1.0 })
            .collect();
        Self {
            stream,
            dice,
            own_rates,
            seconds: 0.0,
            backend_fails_until: 0.0,
            hosts_fail_until: vec![0.0; stream.hosts],
        }
    }

    /// Replaces `counts` by those of the next round.
    pub fn next_round(&mut self, counts: &mut Vec<Count>) {
        let stream = self.stream;
        counts.clear();
        let mut load = stream.requests_per_second * stream.round_seconds / stream.hosts as f64;
        let mut error_rate = stream.error_rate;
        if stream.is_diurnal {
            // A triangle instead of a sine: the same on every machine.
            let part = self.seconds / 3_600.0;
            let height = 0.2 + 1.6 * (1.0 - (2.0 * part - 1.0).abs());
            load *= height;
            error_rate *= height;
        }
        if stream.is_backend_flaky {
            if self.dice.chance(stream.round_seconds / 300.0) {
                self.backend_fails_until = self.seconds + 30.0;
            }
            if self.seconds < self.backend_fails_until {
                error_rate *= 30.0;
            }
        }
        let ratio = if self.seconds >= stream.worse_after { stream.ratio } else { 1.0 };
        for host in 0..stream.hosts {
            let canary = match stream.canary {
                _ if self.seconds < stream.canary_after => 0.0,
                Canary::Weight(part) => part,
                Canary::Hosts(hosts) => f64::from(u8::from(host < hosts)),
            };
            let mut own = error_rate * self.own_rates[host];
            if stream.is_host_flaky {
                if self.dice.chance(stream.round_seconds / 300.0) {
                    self.hosts_fail_until[host] = self.seconds + 30.0;
                }
                if self.seconds < self.hosts_fail_until[host] {
                    own *= 10.0;
                }
            }
            self.side(counts, host, Side::Control, load * (1.0 - canary), own);
            self.side(counts, host, Side::Canary, load * canary, own * ratio);
        }
        self.seconds += stream.round_seconds;
    }

    fn side(&mut self, counts: &mut Vec<Count>, host: usize, side: Side, load: f64, rate: f64) {
        if load <= 0.0 {
            return;
        }
        let requests = self.dice.poisson(load);
        // Clusters of geometric size with mean m have a variance of 2m - 1 times the mean.
        let size = f64::midpoint(self.stream.burst, 1.0);
        let mut errors = self.dice.poisson(requests as f64 * rate.min(1.0) / size);
        if size > 1.0 {
            errors = (0..errors).map(|_| self.dice.geometric(size)).sum();
        }
        counts.push(Count { side, host, requests: requests.max(errors), errors });
    }
}

/// Returns the sample of a count without anything else.
pub fn sample_of(count: &Count, round: Duration) -> Sample<'static> {
    Sample {
        side: count.side,
        host: HostIndex::new(count.host).expect("fleets here are small"),
        watched: round,
        traffic: Some(Traffic { requests: count.requests, errors: count.errors, latency: &[] }),
        restarts: 0,
        memory_bytes: None,
        error_lines: None,
    }
}

/// Latencies of one version, log-normal with a median of 50 ms: 65,536 equally likely buckets.
pub struct Latencies(Vec<u16>);

/// What a version does to latencies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Slowness {
    None,
    /// All requests take so many times as long.
    All(f64),
    /// The slowest 5 % do.
    Tail(f64),
}

/// The logarithm's standard deviation of the latencies here.
pub const SIGMA: f64 = 0.5;
const MEDIAN_US: f64 = 50_000.0;

impl Latencies {
    pub fn new(scale: &LatencyScale, slowness: Slowness) -> Self {
        let buckets = PLAIN_LATENCIES.iter().enumerate().map(|(place, plain)| {
            let is_slowest = place >= PLAIN_LATENCIES.len() / 20 * 19;
            let latency = match slowness {
                Slowness::None => *plain,
                Slowness::All(times) => plain * times,
                Slowness::Tail(times) => plain * if is_slowest { times } else { 1.0 },
            };
            u16::try_from(scale.bucket_of(latency)).expect("a scale has few buckets")
        });
        Self(buckets.collect())
    }

    /// Adds `answers` answers to `histogram`.
    pub fn fill(&self, dice: &mut Dice, answers: u64, histogram: &mut [u64]) {
        for _ in 0..answers {
            let place = usize::try_from(dice.bits() >> 16).expect("16 bits");
            histogram[usize::from(self.0[place])] += 1;
        }
    }
}

/// Latencies of the old version in microseconds, rising, all equally likely.
static PLAIN_LATENCIES: LazyLock<Vec<f64>> = LazyLock::new(|| {
    let part = |place: i32| (f64::from(place) + 0.5) / 65_536.0;
    (0..65_536)
        .map(|place| MEDIAN_US * math::exp(SIGMA * quantile_of_normal(part(place))))
        .collect()
});

/// Finds by halving what part of a normal law is below.
fn quantile_of_normal(part: f64) -> f64 {
    let (mut low, mut high) = (-6.0, 6.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if math::normal_below(middle) < part {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}
