//! Streams of events: what a fleet would count while a canary is watched.

use std::time::Duration;

use cutover_judge::{HostIndex, Metric, Sample, Side, Traffic, math};

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
    /// What a backend does to all hosts at once.
    pub backend_trouble: Option<Trouble>,
    /// What each host has by itself, with both versions.
    pub host_trouble: Option<Trouble>,
    /// Load goes from 0.2 to 1.8 and back within the hour, and the error rate with it.
    pub is_diurnal: bool,
    /// An instance has its events by the time that it runs, however few requests it gets: by as
    /// many as if it got all of its host's.
    pub is_by_time: bool,
    /// The standard deviation of the logarithm of a host's own error rate.
    pub skew: f64,
    /// What the canary multiplies the error rate by, and from which second on.
    pub ratio: f64,
    pub worse_after: f64,
    /// For so many seconds everything is the old version.
    pub canary_after: f64,
}

/// A time in which events are more, now and then.
#[derive(Clone, Copy, Debug)]
pub struct Trouble {
    /// How long it is from one beginning to the next, in the mean.
    pub every_seconds: f64,
    pub seconds: f64,
    /// How many times as many events there are.
    pub times: f64,
}

/// 500 requests a second on ten hosts, one error a second, heartbeats of 5 s.
pub const PLAIN: Stream = Stream {
    hosts: 10,
    round_seconds: 5.0,
    requests_per_second: 500.0,
    error_rate: 0.002,
    canary: Canary::Weight(0.1),
    burst: 1.0,
    backend_trouble: None,
    host_trouble: None,
    is_by_time: false,
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
        if let Some(trouble) = stream.backend_trouble {
            if self.dice.chance(stream.round_seconds / trouble.every_seconds) {
                self.backend_fails_until = self.seconds + trouble.seconds;
            }
            if self.seconds < self.backend_fails_until {
                error_rate *= trouble.times;
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
            if let Some(trouble) = stream.host_trouble {
                if self.dice.chance(stream.round_seconds / trouble.every_seconds) {
                    self.hosts_fail_until[host] = self.seconds + trouble.seconds;
                }
                if self.seconds < self.hosts_fail_until[host] {
                    own *= trouble.times;
                }
            }
            for (side, part, rate) in
                [(Side::Control, 1.0 - canary, own), (Side::Canary, canary, own * ratio)]
            {
                if part > 0.0 {
                    let requests = self.dice.poisson(load * part);
                    let causes = if stream.is_by_time { load } else { requests as f64 };
                    let errors = self.events(causes * rate.min(1.0));
                    let requests = requests.max(errors);
                    counts.push(Count { side, host, requests, errors });
                }
            }
        }
        self.seconds += stream.round_seconds;
    }

    /// Draws a number of events, of which there are `mean` in the mean.
    fn events(&mut self, mean: f64) -> u64 {
        // Clusters of geometric size with mean m have a variance of 2m - 1 times the mean.
        let size = f64::midpoint(self.stream.burst, 1.0);
        let clusters = self.dice.poisson(mean / size);
        if size > 1.0 { (0..clusters).map(|_| self.dice.geometric(size)).sum() } else { clusters }
    }
}

/// Returns the sample of a count, whose events are what `metric` counts.
pub fn sample_of(metric: Metric, count: &Count, round: Duration) -> Sample<'static> {
    let of = |counted: Metric| if metric == counted { count.errors } else { 0 };
    let errors = of(Metric::Errors);
    Sample {
        side: count.side,
        host: HostIndex::new(count.host).expect("fleets here are small"),
        watched: round,
        traffic: Some(Traffic { requests: count.requests, errors, latency: &[] }),
        restarts: u32::try_from(of(Metric::Restarts)).expect("hosts have few in a round"),
        memory_bytes: None,
        error_lines: Some(of(Metric::LogLines)),
    }
}
