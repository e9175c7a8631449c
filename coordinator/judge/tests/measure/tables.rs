//! The tables of docs/judge.md.

use std::fmt::Write;

use cutover_judge::{JudgeSpec, LimitSettings, Metric, math};

use super::{
    baselines::{mann_whitney_alarm, peeked_z_alarm, wald_seconds},
    run::{LatencyTables, LatencyWatch, each_seed, errors_alarm, latency_alarm, only, summary},
    streams::{Canary, PLAIN, Slowness, Stream},
};

const HOUR: f64 = 3_600.0;
/// Watched hours behind each false-alarm rate of the judge, and of the slower baselines.
pub const HOURS: u64 = 2_000;
const BASELINE_HOURS: u64 = 200;
pub const BROKEN_HOURS: u64 = 400;
/// The part of a rollout's false alarms that a metric is tested at here.
const ALPHA: f64 = 0.01;
/// The rate at which limits.md's delays were measured.
const DELAY_ALPHA: f64 = 0.001;
const DELAY_RUNS: u64 = 300;

/// One row of false alarms.
pub struct FalseAlarms {
    pub name: &'static str,
    /// Of the hours watched: at 1 % for errors alone, and with the defaults for all metrics.
    pub at_one_percent: usize,
    pub by_default: usize,
    pub mann_whitney_percent: f64,
    pub peeked_z_percent: f64,
}

/// Returns the streams on which both versions are the same.
pub fn null_streams() -> Vec<(&'static str, Stream)> {
    let by_host = |stream: Stream| Stream { canary: Canary::Hosts(1), ..stream };
    let half = |stream: Stream| Stream { canary: Canary::Weight(0.5), ..stream };
    let skewed = Stream { skew: 0.3, ..PLAIN };
    let all = Stream { burst: 3.0, is_diurnal: true, is_backend_flaky: true, ..skewed };
    vec![
        ("independent errors, 10 % of each host", PLAIN),
        ("independent errors, one host of ten", by_host(PLAIN)),
        ("bursts (variance 3x), 10 % of each host", Stream { burst: 3.0, ..PLAIN }),
        ("bursts (variance 10x), half of each host", half(Stream { burst: 10.0, ..PLAIN })),
        ("bursts (variance 3x), 10 % of a single host", Stream { hosts: 1, burst: 3.0, ..PLAIN }),
        (
            "a backend fails for 30 s, one host of ten",
            by_host(Stream { is_backend_flaky: true, ..PLAIN }),
        ),
        ("a day's load in an hour, 10 % of each host", Stream { is_diurnal: true, ..PLAIN }),
        ("hosts differ by 30 %, 10 % of each host", skewed),
        ("hosts differ by 30 %, one host of ten", by_host(skewed)),
        ("all of it, one host of ten", by_host(all)),
    ]
}

pub fn false_alarms() -> Vec<FalseAlarms> {
    let strict = only(Metric::Errors, ALPHA, LimitSettings::default());
    let default = JudgeSpec::default();
    let rows = null_streams().into_iter().map(|(name, stream)| {
        let alarms = each_seed(HOURS, |seed| {
            let strict = errors_alarm(stream, &strict, seed, HOUR).is_some();
            // Its bar is higher, so it alarms on no hour on which the other does not.
            (strict, strict && errors_alarm(stream, &default, seed, HOUR).is_some())
        });
        let percent = |alarms: Vec<bool>| {
            100.0 * alarms.iter().filter(|alarm| **alarm).count() as f64 / BASELINE_HOURS as f64
        };
        FalseAlarms {
            name,
            at_one_percent: alarms.iter().filter(|(strict, _)| *strict).count(),
            by_default: alarms.iter().filter(|(_, default)| *default).count(),
            mann_whitney_percent: percent(each_seed(BASELINE_HOURS, |seed| {
                mann_whitney_alarm(stream, seed).is_some()
            })),
            peeked_z_percent: percent(each_seed(BASELINE_HOURS, |seed| {
                peeked_z_alarm(stream, seed, HOUR).is_some()
            })),
        }
    });
    rows.collect()
}

pub fn false_alarm_table(rows: &[FalseAlarms]) -> String {
    let mut text = String::from(
        "| stream, both versions the same | judge at 1 % | judge, defaults | Mann-Whitney, 60 points | z-test, peeked |\n\
         |---|---|---|---|---|\n",
    );
    for row in rows {
        let percent = |alarms: usize| 100.0 * alarms as f64 / HOURS as f64;
        writeln!(
            text,
            "| {} | {:.2} % | {:.2} % | {:.1} % | {:.1} % |",
            row.name,
            percent(row.at_one_percent),
            percent(row.by_default),
            row.mann_whitney_percent,
            row.peeked_z_percent
        )
        .expect("a string takes everything");
    }
    text
}

/// One row of delays.
pub struct Delay {
    pub name: &'static str,
    pub ratio: f64,
    pub bound: f64,
    pub median: f64,
    pub mean: f64,
    pub missed: usize,
}

/// The stream of limits.md §5, with the control watched for two minutes before: 1,000 requests a
/// second, one in a thousand fails, 5 % go to the canary.
pub fn delay_streams() -> Vec<(&'static str, Stream)> {
    let seconds = Stream {
        round_seconds: 1.0,
        requests_per_second: 1_000.0,
        error_rate: 0.001,
        canary: Canary::Weight(0.05),
        canary_after: 120.0,
        ..PLAIN
    };
    vec![
        ("5 % of each of 10 hosts, 1 s", seconds),
        ("the same, not watched before", Stream { canary_after: 0.0, ..seconds }),
        ("5 % of each of 10 hosts, 5 s", Stream { round_seconds: 5.0, ..seconds }),
        ("one host of 20, 1 s", Stream { hosts: 20, canary: Canary::Hosts(1), ..seconds }),
    ]
}

pub fn error_delays() -> Vec<Delay> {
    let spec = only(Metric::Errors, DELAY_ALPHA, LimitSettings::default());
    let mut rows = Vec::new();
    for (name, stream) in delay_streams() {
        for ratio in [2.0, 3.0, 5.0, 10.0] {
            let stream = Stream { ratio, ..stream };
            let mut delays = each_seed(DELAY_RUNS, |seed| {
                let end = HOUR + stream.canary_after;
                errors_alarm(stream, &spec, seed, end).map(|alarm| alarm - stream.canary_after)
            });
            let (median, mean, missed) = summary(&mut delays);
            let bound = wald_seconds(DELAY_ALPHA, 1.0, 0.05, ratio);
            rows.push(Delay { name, ratio, bound, median, mean, missed });
        }
    }
    rows
}

pub fn delay_table(rows: &[Delay]) -> String {
    let mut text = String::from(
        "| stream | worse by | bound | median | mean | median / bound | missed in an hour |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for Delay { name, ratio, bound, median, mean, missed } in rows {
        let quotient = median / bound;
        writeln!(
            text,
            "| {name} | {ratio}x | {bound:.1} s | {median:.0} s | {mean:.0} s | {quotient:.2} | {:.1} % |",
            100.0 * *missed as f64 / DELAY_RUNS as f64
        )
        .expect("a string takes everything");
    }
    text
}

/// The fleet whose latency is watched: 200 requests a second, 10 % to the canary, 1 s.
pub const LATENCY: LatencyWatch = LatencyWatch {
    hosts: 2,
    requests_per_second: 200.0,
    canary: Canary::Weight(0.1),
    slowness: Slowness::None,
    skew: 0.0,
    is_busy: false,
    round_seconds: 1.0,
    canary_after: 0.0,
};

/// Returns the bound of a test that knows both laws of which the slow part is `before` and
/// `after`, looks at one quantile alone, and has the canary's requests.
fn quantile_bound(before: f64, after: f64) -> f64 {
    let information =
        after * math::ln(after / before) + (1.0 - after) * math::ln((1.0 - after) / (1.0 - before));
    -math::ln(DELAY_ALPHA) / (information * 20.0)
}

pub fn latency_delays() -> Vec<Delay> {
    let beyond = |quantile_z: f64, times: f64| {
        1.0 - math::normal_below(quantile_z - math::ln(times) / super::streams::SIGMA)
    };
    let cases = [
        ("all answers", Slowness::All(1.1), 1.1, 0.5, 0.0),
        ("all answers", Slowness::All(1.5), 1.5, 0.5, 0.0),
        ("the slowest 5 %", Slowness::Tail(1.1), 1.1, 0.01, 2.326_347_87),
        ("the slowest 5 %", Slowness::Tail(1.5), 1.5, 0.01, 2.326_347_87),
    ];
    let rows = cases.into_iter().map(|(name, slowness, ratio, before, z)| {
        let limit = if ratio < 1.2 { Some(1.05) } else { None };
        let limit = LimitSettings { ratio: limit, difference: Some(0.0), share: None };
        let spec = only(Metric::Latency, DELAY_ALPHA, limit);
        let watch = LatencyWatch { slowness, canary_after: 120.0, ..LATENCY };
        let tables = LatencyTables::new(watch, 1);
        let mut delays = each_seed(DELAY_RUNS / 2, |seed| {
            let alarm = latency_alarm(watch, &tables, &spec, seed, HOUR);
            alarm.map(|alarm| alarm - watch.canary_after)
        });
        let (median, mean, missed) = summary(&mut delays);
        // Only the slowest 5 % take longer, so no more than these can be beyond.
        let after = beyond(z, ratio);
        let after = if before < 0.05 { after.min(0.05) } else { after };
        Delay {
            name,
            ratio,
            bound: quantile_bound(before, after),
            median,
            mean,
            missed: 2 * missed,
        }
    });
    rows.collect()
}

/// Returns streams of latencies on which both versions are the same.
pub fn null_latencies() -> Vec<(&'static str, LatencyWatch)> {
    let watch = LatencyWatch { requests_per_second: 20.0, round_seconds: 20.0, ..LATENCY };
    let by_host = LatencyWatch { hosts: 5, canary: Canary::Hosts(1), ..watch };
    vec![
        ("latency, 10 % of each of two hosts", watch),
        (
            "latency, busy minutes, 10 % of each of two hosts",
            LatencyWatch { is_busy: true, ..watch },
        ),
        (
            "latency, hosts differ by 10 %, one host of five",
            LatencyWatch { skew: 0.1, is_busy: true, ..by_host },
        ),
    ]
}

/// Returns the alarms in [`HOURS`] hours of each stream of latencies, at 1 %.
pub fn latency_false_alarms() -> Vec<(&'static str, usize)> {
    let limit = LimitSettings { ratio: Some(1.05), difference: Some(0.0), share: None };
    let spec = only(Metric::Latency, ALPHA, limit);
    let rows = null_latencies().into_iter().map(|(name, watch)| {
        // Sixteen fleets, so that no one draw of speeds decides.
        let tables: Vec<LatencyTables> =
            (0..16).map(|seed| LatencyTables::new(watch, seed)).collect();
        let alarms = each_seed(HOURS, |seed| {
            let tables = &tables[usize::try_from(seed % 16).expect("below 16")];
            latency_alarm(watch, tables, &spec, seed, HOUR).is_some()
        });
        (name, alarms.into_iter().filter(|alarm| *alarm).count())
    });
    rows.collect()
}

pub fn alarm_table(rows: &[(&'static str, usize)], hours: u64) -> String {
    let mut text = String::from("| stream, both versions the same | judge at 1 % |\n|---|---|\n");
    for (name, alarms) in rows {
        let percent = 100.0 * *alarms as f64 / hours as f64;
        writeln!(text, "| {name} | {percent:.2} % |").expect("a string takes everything");
    }
    text
}

/// Streams that break an assumption, with both versions the same, and what hosts are said to
/// differ by.
pub fn broken_streams() -> Vec<(&'static str, Stream, f64)> {
    let by_host = Stream { canary: Canary::Hosts(1), ..PLAIN };
    let three = Stream { hosts: 3, skew: 0.3, ..by_host };
    let flaky = Stream { is_host_flaky: true, ..by_host };
    vec![
        ("three hosts differ by 30 %, one of them", three, 0.1),
        ("the same, and `host_spread` says so", three, 0.3),
        ("hosts fail by themselves for 30 s, one host of ten", flaky, 0.1),
        ("the same, watched for five minutes before", Stream { canary_after: 300.0, ..flaky }, 0.1),
        ("the same, 10 % of each host", Stream { canary: PLAIN.canary, ..flaky }, 0.1),
    ]
}

/// Returns the alarms in [`BROKEN_HOURS`] hours of each, at 1 % for errors alone.
pub fn broken_false_alarms() -> Vec<(&'static str, usize)> {
    let spec = only(Metric::Errors, ALPHA, LimitSettings::default());
    let rows = broken_streams().into_iter().map(|(name, stream, host_spread)| {
        let mut settings = spec.settings().clone();
        settings.host_spread = Some(host_spread);
        let spec = JudgeSpec::new(settings).expect("the settings of a measurement are valid");
        let alarms =
            each_seed(BROKEN_HOURS, |seed| errors_alarm(stream, &spec, seed, HOUR).is_some());
        (name, alarms.into_iter().filter(|alarm| *alarm).count())
    });
    rows.collect()
}

/// Below and at the limit of 1.5: how often an hour ends in an alarm.
pub fn small_effects() -> Vec<(f64, usize)> {
    let spec = JudgeSpec::default();
    let rows = [1.1, 1.2, 1.3, 1.4, 1.5, 2.0].into_iter().map(|ratio| {
        let stream = Stream { ratio, ..PLAIN };
        let alarms =
            each_seed(BASELINE_HOURS, |seed| errors_alarm(stream, &spec, seed, HOUR).is_some());
        (ratio, alarms.into_iter().filter(|alarm| *alarm).count())
    });
    rows.collect()
}

pub fn small_effect_table(rows: &[(f64, usize)]) -> String {
    let mut text = String::from("| true ratio of errors | failed within an hour |\n|---|---|\n");
    for (ratio, alarms) in rows {
        let percent = 100.0 * *alarms as f64 / BASELINE_HOURS as f64;
        writeln!(text, "| {ratio}x | {percent:.1} % |").expect("a string takes everything");
    }
    text
}
