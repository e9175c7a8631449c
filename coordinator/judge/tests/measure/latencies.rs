//! Streams of latencies: how fast a fleet would answer while a canary is watched.

use std::sync::LazyLock;

use cutover_judge::{LatencyScale, Side, math};

use super::{
    dice::Dice,
    streams::{Canary, Count},
};

/// A fleet whose latency is watched.
#[derive(Clone, Copy, Debug)]
pub struct LatencyWatch {
    pub hosts: usize,
    pub requests_per_second: f64,
    pub canary: Canary,
    pub slowness: Slowness,
    /// How many times as long hosts' own requests take, as a standard deviation of the logarithm.
    pub skew: f64,
    /// Minutes in which all requests are slow, on both sides, come and go.
    pub is_busy: bool,
    pub round_seconds: f64,
    /// For so many seconds everything is the old version.
    pub canary_after: f64,
}

/// The latencies that hosts of a watch may have, worked out once.
pub struct LatencyTables {
    pub scale: LatencyScale,
    /// By host, by whether it is a busy minute; control first.
    tables: Vec<[[Latencies; 2]; 2]>,
}

impl LatencyTables {
    /// Works out the latencies of `watch`; hosts' own speeds are drawn from `seed`.
    pub fn new(watch: LatencyWatch, seed: u64) -> Self {
        let scale = LatencyScale::log_linear(25, 8);
        let mut dice = Dice::new(seed);
        let tables = (0..watch.hosts).map(|_| {
            let own = math::exp(watch.skew * dice.normal());
            [1.0, 2.0].map(|busy| {
                let canary = match watch.slowness {
                    Slowness::None => Slowness::All(own * busy),
                    Slowness::All(times) => Slowness::All(times * own * busy),
                    Slowness::Tail(times) => Slowness::Tail(times),
                };
                [Latencies::new(&scale, Slowness::All(own * busy)), Latencies::new(&scale, canary)]
            })
        });
        let tables = tables.collect();
        Self { scale, tables }
    }

    /// Returns the first bucket beyond the edge that is nearest to the control's `quantile` by
    /// the odds, and what part of each side's answers lies there, control first, on a host of
    /// usual speed.
    pub fn edge_near(&self, quantile: f64) -> (usize, f64, f64) {
        let [control, canary] = &self.tables[0][0];
        let wanted = (1.0 - quantile) / quantile;
        let far = |edge: &(usize, f64, f64)| {
            let odds = edge.1 / (1.0 - edge.1) / wanted;
            odds.max(1.0 / odds)
        };
        (1..self.scale.buckets())
            .map(|bucket| (bucket, control.part_from(bucket), canary.part_from(bucket)))
            .filter(|(_, part, _)| *part > 0.0 && *part < 1.0)
            .min_by(|one, other| far(one).total_cmp(&far(other)))
            .expect("latencies fill several buckets")
    }
}

/// A watch under way.
pub struct LatencyFlow<'a> {
    watch: LatencyWatch,
    tables: &'a LatencyTables,
    dice: Dice,
    histogram: Vec<u64>,
    /// Which hosts are the canary's is drawn, as their speeds are fixed.
    first: usize,
    is_busy: bool,
    seconds: f64,
}

impl<'a> LatencyFlow<'a> {
    pub fn new(watch: LatencyWatch, tables: &'a LatencyTables, seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let first = usize::try_from(dice.bits()).expect("a word") % watch.hosts;
        let histogram = vec![0; tables.scale.buckets()];
        Self { watch, tables, dice, histogram, first, is_busy: false, seconds: 0.0 }
    }

    pub fn seconds(&self) -> f64 {
        self.seconds
    }

    /// Gives `take` each side of each host in the next round, with its answers by bucket.
    pub fn next_round(&mut self, mut take: impl FnMut(&Count, &[u64])) {
        let watch = self.watch;
        let load = watch.requests_per_second * watch.round_seconds / watch.hosts as f64;
        if watch.is_busy && self.dice.chance(watch.round_seconds / 60.0) {
            self.is_busy = !self.is_busy;
        }
        for place in 0..watch.hosts {
            let host = (place + self.first) % watch.hosts;
            let part = match watch.canary {
                _ if self.seconds < watch.canary_after => 0.0,
                Canary::Weight(part) => part,
                Canary::Hosts(hosts) => f64::from(u8::from(place < hosts)),
            };
            for (side, part) in [(Side::Control, 1.0 - part), (Side::Canary, part)] {
                if part <= 0.0 {
                    continue;
                }
                let requests = self.dice.poisson(load * part);
                self.histogram.fill(0);
                let which = usize::from(side == Side::Canary);
                self.tables.tables[host][usize::from(self.is_busy)][which].fill(
                    &mut self.dice,
                    requests,
                    &mut self.histogram,
                );
                take(&Count { side, host, requests, errors: 0 }, &self.histogram);
            }
        }
        self.seconds += watch.round_seconds;
    }
}

/// Latencies of one version, log-normal with a median of 50 ms: 65,536 equally likely buckets.
struct Latencies(Vec<u16>);

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
    fn new(scale: &LatencyScale, slowness: Slowness) -> Self {
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

    /// Returns the part of answers in this bucket and those after it.
    fn part_from(&self, bucket: usize) -> f64 {
        let slow = self.0.iter().filter(|found| usize::from(**found) >= bucket).count();
        slow as f64 / self.0.len() as f64
    }

    /// Adds `answers` answers to `histogram`.
    fn fill(&self, dice: &mut Dice, answers: u64, histogram: &mut [u64]) {
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
