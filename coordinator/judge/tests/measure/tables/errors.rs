//! Errors: false alarms, delays, small differences, broken assumptions.

use std::fmt::Write;

use cutover_judge::{JudgeSpec, LimitSettings, Metric};

use super::{
    ALPHA, BESIDE_RUNS, BROKEN_HOURS, DELAY_ALPHA, DELAY_RUNS, Delay, FalseAlarms, HOUR, HOURS,
    PEER_HOURS, PeerDelays, PeerRates, percent_of,
};
use crate::measure::{
    baselines::{count_peers, oracle_alarm, wald_seconds},
    run::{count_alarm, each_seed, only, summary},
    streams::{Canary, PLAIN, Stream, Trouble},
};

const BACKEND_TROUBLE: Option<Trouble> =
    Some(Trouble { every_seconds: 300.0, seconds: 30.0, times: 30.0 });

/// Returns the streams on which both versions are the same.
fn null_streams() -> Vec<(&'static str, Stream)> {
    let by_host = |stream: Stream| Stream { canary: Canary::Hosts(1), ..stream };
    let half = |stream: Stream| Stream { canary: Canary::Weight(0.5), ..stream };
    let skewed = Stream { skew: 0.3, ..PLAIN };
    let backend_trouble = BACKEND_TROUBLE;
    let all = Stream { burst: 3.0, is_diurnal: true, backend_trouble, ..skewed };
    vec![
        ("independent errors, 10 % of each host", PLAIN),
        ("independent errors, one host of ten", by_host(PLAIN)),
        ("bursts (variance 3x), 10 % of each host", Stream { burst: 3.0, ..PLAIN }),
        ("bursts (variance 10x), half of each host", half(Stream { burst: 10.0, ..PLAIN })),
        ("bursts (variance 3x), 10 % of a single host", Stream { hosts: 1, burst: 3.0, ..PLAIN }),
        ("a backend fails for 30 s, one host of ten", by_host(Stream { backend_trouble, ..PLAIN })),
        ("a day's load in an hour, 10 % of each host", Stream { is_diurnal: true, ..PLAIN }),
        ("hosts differ by 30 %, 10 % of each host", skewed),
        ("hosts differ by 30 %, one host of ten", by_host(skewed)),
        ("all of it, one host of ten", by_host(all)),
    ]
}

pub fn error_false_alarms() -> Vec<FalseAlarms> {
    let strict = only(Metric::Errors, ALPHA, LimitSettings::default());
    let default = JudgeSpec::default();
    let rows = null_streams().into_iter().map(|(name, stream)| {
        let is_alarm = |spec, seed| count_alarm(Metric::Errors, stream, spec, seed, HOUR).is_some();
        let alarms = each_seed(HOURS, |seed| {
            let strict = is_alarm(&strict, seed);
            // Its bar is higher, so it alarms on no hour on which the other does not.
            (strict, strict && is_alarm(&default, seed))
        });
        FalseAlarms {
            name,
            hours: HOURS,
            at_one_percent: alarms.iter().filter(|(strict, _)| *strict).count(),
            by_default: alarms.iter().filter(|(_, default)| *default).count(),
            peers: vec![PeerRates::new(&each_seed(PEER_HOURS, |seed| count_peers(stream, seed)))],
        }
    });
    rows.collect()
}

pub const NOT_WATCHED_BEFORE: &str = "the same, not watched before";
pub const ROUNDS_OF_5_S: &str = "5 % of each of 10 hosts, 5 s";
pub const ONE_HOST: &str = "one host of 20, 1 s";

/// The stream of limits.md §5, with the control watched for two minutes before: 1,000 requests a
/// second, one in a thousand fails, 5 % go to the canary.
fn delay_streams() -> Vec<(&'static str, Stream)> {
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
        (NOT_WATCHED_BEFORE, Stream { canary_after: 0.0, ..seconds }),
        (ROUNDS_OF_5_S, Stream { round_seconds: 5.0, ..seconds }),
        (ONE_HOST, Stream { hosts: 20, canary: Canary::Hosts(1), ..seconds }),
    ]
}

pub fn error_delays() -> Vec<Delay> {
    let spec = only(Metric::Errors, DELAY_ALPHA, LimitSettings::default());
    let mut rows = Vec::new();
    for (name, same) in delay_streams() {
        let alarm = |stream: Stream, seed| {
            let alarm = count_alarm(Metric::Errors, stream, &spec, seed, HOUR + same.canary_after);
            alarm.map(|alarm| alarm - same.canary_after)
        };
        let of_same = each_seed(BESIDE_RUNS, |seed| count_peers(same, seed));
        let false_alarms = percent_of(each_seed(BESIDE_RUNS, |seed| alarm(same, seed).is_some()));
        for ratio in [2.0, 3.0, 5.0, 10.0] {
            let stream = Stream { ratio, ..same };
            let mut delays = each_seed(DELAY_RUNS, |seed| alarm(stream, seed));
            let mut oracle =
                each_seed(DELAY_RUNS, |seed| Some(oracle_alarm(stream, DELAY_ALPHA, seed)));
            let of_worse = each_seed(BESIDE_RUNS, |seed| count_peers(stream, seed));
            let (median, mean, missed) = summary(&mut delays);
            rows.push(Delay {
                name,
                worse: format!("{ratio}x"),
                bound: Some(wald_seconds(DELAY_ALPHA, 1.0, 0.05, ratio)),
                oracle: Some(summary(&mut oracle).0),
                median,
                mean,
                missed: 100.0 * missed as f64 / DELAY_RUNS as f64,
                false_alarms,
                peers: PeerDelays::new(&of_worse, &of_same),
            });
        }
    }
    rows
}

/// Streams that break an assumption, with both versions the same, and what hosts are said to
/// differ by.
fn broken_streams() -> Vec<(&'static str, Stream, f64)> {
    let by_host = Stream { canary: Canary::Hosts(1), ..PLAIN };
    let three = Stream { hosts: 3, skew: 0.3, ..by_host };
    let host_trouble = Some(Trouble { every_seconds: 300.0, seconds: 30.0, times: 10.0 });
    let flaky = Stream { host_trouble, ..by_host };
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
        let alarms = each_seed(BROKEN_HOURS, |seed| {
            count_alarm(Metric::Errors, stream, &spec, seed, HOUR).is_some()
        });
        (name, alarms.into_iter().filter(|alarm| *alarm).count())
    });
    rows.collect()
}

/// Below and at the limit of 1.5: how often an hour ends in an alarm.
pub fn small_effects() -> Vec<(f64, usize)> {
    let spec = JudgeSpec::default();
    let rows = [1.1, 1.2, 1.3, 1.4, 1.5, 2.0].into_iter().map(|ratio| {
        let stream = Stream { ratio, ..PLAIN };
        let alarms = each_seed(PEER_HOURS, |seed| {
            count_alarm(Metric::Errors, stream, &spec, seed, HOUR).is_some()
        });
        (ratio, alarms.into_iter().filter(|alarm| *alarm).count())
    });
    rows.collect()
}

pub fn small_effect_table(rows: &[(f64, usize)]) -> String {
    let mut text = String::from("| true ratio of errors | failed within an hour |\n|---|---|\n");
    for (ratio, alarms) in rows {
        let percent = 100.0 * *alarms as f64 / PEER_HOURS as f64;
        writeln!(text, "| {ratio}x | {percent:.1} % |").expect("a string takes everything");
    }
    text
}
