//! One judge on one stream.

use std::time::Duration;

use cutover_judge::{
    Judge, JudgeSettings, JudgeSpec, LatencyScale, LimitSettings, Metric, Sample, Traffic, Verdict,
};

use super::{
    latencies::{LatencyFlow, LatencyTables, LatencyWatch},
    levels::{MemoryFlow, MemoryWatch, ROUND_SECONDS},
    streams::{Count, Flow, Stream, sample_of},
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

/// Watches errors, restarts or lines, as which it shows the stream's events, and returns the
/// second in which the judge failed the canary.
pub fn count_alarm(
    metric: Metric,
    stream: Stream,
    spec: &JudgeSpec,
    seed: u64,
    seconds: f64,
) -> Option<f64> {
    let mut judge = Judge::new(spec, LatencyScale::powers_of_two(2), 0);
    let mut flow = Flow::new(stream, seed);
    let mut counts = Vec::new();
    let round = Duration::from_secs_f64(stream.round_seconds);
    let mut now = 0.0;
    while now < seconds {
        flow.next_round(&mut counts);
        for count in &counts {
            judge.observe(&sample_of(metric, count, round));
        }
        judge.end_round(round);
        now += stream.round_seconds;
        if let Verdict::Fail(_) = judge.verdict() {
            return Some(now);
        }
    }
    None
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
    let mut flow = LatencyFlow::new(watch, tables, seed);
    let round = Duration::from_secs_f64(watch.round_seconds);
    while flow.seconds() < seconds {
        flow.next_round(|count, histogram| {
            let traffic = Traffic { requests: count.requests, errors: 0, latency: histogram };
            let sample = sample_of(Metric::Latency, count, round);
            judge.observe(&Sample { traffic: Some(traffic), ..sample });
        });
        judge.end_round(round);
        if let Verdict::Fail(_) = judge.verdict() {
            return Some(flow.seconds());
        }
    }
    None
}

/// Watches memory, and returns the second in which the judge failed the canary.
pub fn memory_alarm(watch: MemoryWatch, spec: &JudgeSpec, seed: u64, seconds: f64) -> Option<f64> {
    let mut judge = Judge::new(spec, LatencyScale::powers_of_two(2), 0);
    let mut flow = MemoryFlow::new(watch, seed);
    let round = Duration::from_secs_f64(ROUND_SECONDS);
    while flow.seconds() < seconds {
        flow.next_round(|side, host, bytes| {
            let count = Count { side, host, requests: 0, errors: 0 };
            let sample = sample_of(Metric::Memory, &count, round);
            judge.observe(&Sample { memory_bytes: Some(bytes), ..sample });
        });
        judge.end_round(round);
        if let Verdict::Fail(_) = judge.verdict() {
            return Some(flow.seconds());
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
