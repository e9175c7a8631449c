//! One judge on one stream.

use std::time::Duration;

use cutover_judge::{
    Judge, JudgeSettings, JudgeSpec, LatencyScale, LimitSettings, Metric, Sample, Side, Traffic,
    Verdict,
};

use super::{
    dice::Dice,
    streams::{Canary, Count, Flow, Latencies, Slowness, Stream, sample_of},
};

/// Returns the spec whose first attempt gives all of `alpha` to one metric.
pub fn only(metric: Metric, alpha: f64, limit: LimitSettings) -> JudgeSpec {
    let none = LimitSettings { share: Some(0.0), ..LimitSettings::default() };
    let mut settings = JudgeSettings {
        false_alarms: Some(2.0 * alpha),
        errors: none,
        latency: none,
        restarts: none,
        memory: none,
        log_lines: none,
        ..JudgeSettings::default()
    };
    match metric {
        Metric::Errors => settings.errors = limit,
        Metric::Latency => settings.latency = limit,
        Metric::Restarts => settings.restarts = limit,
        Metric::Memory => settings.memory = limit,
        Metric::LogLines => settings.log_lines = limit,
    }
    JudgeSpec::new(settings).expect("the settings of a measurement are valid")
}

/// Watches errors, and returns the second in which the judge failed the canary.
pub fn errors_alarm(stream: Stream, spec: &JudgeSpec, seed: u64, seconds: f64) -> Option<f64> {
    let mut judge = Judge::new(spec, LatencyScale::powers_of_two(2), 0);
    let mut flow = Flow::new(stream, seed);
    let mut counts = Vec::new();
    let round = Duration::from_secs_f64(stream.round_seconds);
    let mut now = 0.0;
    while now < seconds {
        flow.next_round(&mut counts);
        for count in &counts {
            judge.observe(&sample_of(count, round));
        }
        judge.end_round(round);
        now += stream.round_seconds;
        if let Verdict::Fail(_) = judge.verdict() {
            return Some(now);
        }
    }
    None
}

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
            let own = cutover_judge::math::exp(watch.skew * dice.normal());
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
}

/// Watches latency, and returns the second in which the judge failed the canary.
pub fn latency_alarm(
    watch: LatencyWatch,
    tables: &LatencyTables,
    spec: &JudgeSpec,
    seed: u64,
    seconds: f64,
) -> Option<f64> {
    let mut judge = Judge::new(spec, tables.scale.clone(), 0);
    let mut dice = Dice::new(seed);
    let round = Duration::from_secs_f64(watch.round_seconds);
    let load = watch.requests_per_second * watch.round_seconds / watch.hosts as f64;
    let mut histogram = vec![0; tables.scale.buckets()];
    let (mut now, mut is_busy) = (0.0, false);
    // Which hosts are the canary's is drawn, as their speeds are fixed.
    let first = usize::try_from(dice.bits()).expect("a word") % watch.hosts;
    while now < seconds {
        if watch.is_busy && dice.chance(watch.round_seconds / 60.0) {
            is_busy = !is_busy;
        }
        for place in 0..watch.hosts {
            let host = (place + first) % watch.hosts;
            let part = match watch.canary {
                _ if now < watch.canary_after => 0.0,
                Canary::Weight(part) => part,
                Canary::Hosts(hosts) => f64::from(u8::from(place < hosts)),
            };
            for (side, part) in [(Side::Control, 1.0 - part), (Side::Canary, part)] {
                if part <= 0.0 {
                    continue;
                }
                let requests = dice.poisson(load * part);
                histogram.fill(0);
                let which = usize::from(side == Side::Canary);
                tables.tables[host][usize::from(is_busy)][which].fill(
                    &mut dice,
                    requests,
                    &mut histogram,
                );
                let count = Count { side, host, requests, errors: 0 };
                let traffic = Traffic { requests, errors: 0, latency: &histogram };
                judge.observe(&Sample { traffic: Some(traffic), ..sample_of(&count, round) });
            }
        }
        judge.end_round(round);
        now += watch.round_seconds;
        if let Verdict::Fail(_) = judge.verdict() {
            return Some(now);
        }
    }
    None
}

/// Returns the median and the mean of delays, in seconds, and how many there are none of.
pub fn summary(delays: &mut [Option<f64>]) -> (f64, f64, usize) {
    let missed = delays.iter().filter(|delay| delay.is_none()).count();
    let key = |delay: &Option<f64>| delay.unwrap_or(f64::INFINITY);
    delays.sort_by(|a, b| key(a).total_cmp(&key(b)));
    let median = key(&delays[delays.len() / 2]);
    let seen: Vec<f64> = delays.iter().flatten().copied().collect();
    (median, seen.iter().sum::<f64>() / seen.len().max(1) as f64, missed)
}

/// Runs `count` seeds on as many threads as there are processors, and returns what each gave, in
/// the order of seeds.
pub fn each_seed<T: Send>(count: u64, run: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    let mut found: Vec<(u64, T)> = std::thread::scope(|scope| {
        let run = &run;
        let handles: Vec<_> = (0..threads)
            .map(|first| {
                scope.spawn(move || {
                    (first..count)
                        .step_by(usize::try_from(threads).unwrap_or(1))
                        .map(|seed| (seed, run(seed)))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        handles
            .into_iter()
            .flat_map(|handle| handle.join().expect("a run does not panic"))
            .collect()
    });
    found.sort_by_key(|(seed, _)| *seed);
    found.into_iter().map(|(_, value)| value).collect()
}
