//! Latency: false alarms and delays.

use cutover_judge::{JudgeSpec, LimitSettings, Metric, math};

use super::{
    ALPHA, BESIDE_RUNS, DELAY_ALPHA, DELAY_RUNS, Delay, FalseAlarms, HOUR, HOURS, PEER_HOURS,
    PeerDelays, PeerRates, percent_of,
};
use crate::measure::{
    baselines::{PeerAlarms, latency_oracle_alarm, latency_peers},
    latencies::{LatencyTables, LatencyWatch, SIGMA, Slowness},
    run::{each_seed, latency_alarm, only, summary},
    streams::Canary,
};

/// What the two others are told to look at: each shift here shows most in one of them.
const PEER_QUANTILES: [f64; 2] = [0.5, 0.99];

/// The fleet whose latency is watched: 200 requests a second, 10 % to the canary, 1 s.
const LATENCY: LatencyWatch = LatencyWatch {
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

/// A shift, the quantile that it shows most in, by its place in [`PEER_QUANTILES`], and that
/// quantile of a standard normal law.
type Shift = (&'static str, Slowness, f64, usize, f64);

/// What the judge is held to, and the shifts that it is to find.
const SHIFTS: [(Option<f64>, [Shift; 2]); 2] = [
    (
        Some(1.05),
        [
            ("all answers", Slowness::All(1.1), 1.1, 0, 0.0),
            ("the slowest 5 %", Slowness::Tail(1.1), 1.1, 1, 2.326_347_87),
        ],
    ),
    (
        None,
        [
            ("all answers", Slowness::All(1.5), 1.5, 0, 0.0),
            ("the slowest 5 %", Slowness::Tail(1.5), 1.5, 1, 2.326_347_87),
        ],
    ),
];

pub fn latency_delays() -> Vec<Delay> {
    let same = LatencyWatch { canary_after: 120.0, ..LATENCY };
    let tables = LatencyTables::new(same, 1);
    let of_same = each_seed(BESIDE_RUNS, |seed| latency_peers(same, &tables, PEER_QUANTILES, seed));
    let rows = SHIFTS.into_iter().flat_map(|(limit, shifts)| {
        let limit = LimitSettings { ratio: limit, difference: Some(0.0), share: None };
        let spec = only(Metric::Latency, DELAY_ALPHA, limit);
        let false_alarms = percent_of(each_seed(BESIDE_RUNS, |seed| {
            latency_alarm(same, &tables, &spec, seed, HOUR).is_some()
        }));
        shifts.map(|shift| latency_delay(same, shift, &spec, false_alarms, &of_same))
    });
    rows.collect()
}

fn latency_delay(
    same: LatencyWatch,
    (name, slowness, ratio, place, z): Shift,
    spec: &JudgeSpec,
    false_alarms: f64,
    of_same: &[[PeerAlarms; PEER_QUANTILES.len()]],
) -> Delay {
    const RUNS: u64 = DELAY_RUNS / 2;
    let watch = LatencyWatch { slowness, ..same };
    let tables = LatencyTables::new(watch, 1);
    let mut delays = each_seed(RUNS, |seed| {
        let alarm = latency_alarm(watch, &tables, spec, seed, HOUR);
        alarm.map(|alarm| alarm - watch.canary_after)
    });
    let quantile = PEER_QUANTILES[place];
    let mut oracle = each_seed(RUNS, |seed| {
        Some(latency_oracle_alarm(watch, &tables, quantile, DELAY_ALPHA, seed))
    });
    let of_worse =
        each_seed(BESIDE_RUNS, |seed| latency_peers(watch, &tables, [quantile], seed)[0]);
    let of_same: Vec<_> = of_same.iter().map(|hours| hours[place]).collect();
    let (median, mean, missed) = summary(&mut delays);
    // Only the slowest 5 % take longer, so no more than these can be beyond.
    let after = 1.0 - math::normal_below(z - math::ln(ratio) / SIGMA);
    let after = if quantile > 0.95 { after.min(0.05) } else { after };
    Delay {
        name,
        worse: format!("{ratio}x"),
        bound: Some(quantile_bound(1.0 - quantile, after)),
        oracle: Some(summary(&mut oracle).0),
        median,
        mean,
        missed: 100.0 * missed as f64 / RUNS as f64,
        false_alarms,
        peers: PeerDelays::new(&of_worse, &of_same),
    }
}

/// Returns streams of latencies on which both versions are the same.
fn null_latencies() -> Vec<(&'static str, LatencyWatch)> {
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

/// Returns the alarms in [`HOURS`] hours of each stream of latencies.
pub fn latency_false_alarms() -> Vec<FalseAlarms> {
    let limit = LimitSettings { ratio: Some(1.05), difference: Some(0.0), share: None };
    let strict = only(Metric::Latency, ALPHA, limit);
    let default = JudgeSpec::default();
    let rows = null_latencies().into_iter().map(|(name, watch)| {
        // Sixteen fleets, so that no one draw of speeds decides.
        let tables: Vec<LatencyTables> =
            (0..16).map(|seed| LatencyTables::new(watch, seed)).collect();
        let tables = |seed: u64| &tables[usize::try_from(seed % 16).expect("below 16")];
        let is_alarm = |spec, seed| latency_alarm(watch, tables(seed), spec, seed, HOUR).is_some();
        let alarms = each_seed(HOURS, |seed| {
            let strict = is_alarm(&strict, seed);
            // It has a higher bar and a higher limit.
            (strict, strict && is_alarm(&default, seed))
        });
        let peers =
            each_seed(PEER_HOURS, |seed| latency_peers(watch, tables(seed), PEER_QUANTILES, seed));
        let of_quantile = |place: usize| {
            PeerRates::new(&peers.iter().map(|hours| hours[place]).collect::<Vec<_>>())
        };
        FalseAlarms {
            name,
            hours: HOURS,
            at_one_percent: alarms.iter().filter(|(strict, _)| *strict).count(),
            by_default: alarms.iter().filter(|(_, default)| *default).count(),
            peers: vec![of_quantile(0), of_quantile(1)],
        }
    });
    rows.collect()
}
