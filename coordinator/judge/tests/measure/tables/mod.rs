//! The tables of docs/judge.md: what is watched in them, and how they are written.

use std::fmt::Write;

use super::baselines::PeerAlarms;

mod errors;
mod instances;
mod latency;

pub use errors::{
    NOT_WATCHED_BEFORE, ONE_HOST, ROUNDS_OF_5_S, broken_false_alarms, error_delays,
    error_false_alarms, small_effect_table, small_effects,
};
pub use instances::{instance_broken_false_alarms, instance_delays, instance_false_alarms};
pub use latency::{latency_delays, latency_false_alarms};

const HOUR: f64 = 3_600.0;
/// Watched hours behind each false-alarm rate of the judge.
pub const HOURS: u64 = 2_000;
/// The same for what agents count.
pub const INSTANCE_HOURS: u64 = 1_000;
pub const BROKEN_HOURS: u64 = 400;
/// Watched hours behind each false-alarm rate of the two others.
const PEER_HOURS: u64 = 200;
/// The part of a rollout's false alarms that a metric is tested at here.
const ALPHA: f64 = 0.01;
/// The rate at which limits.md's delays were measured.
const DELAY_ALPHA: f64 = 0.001;
const DELAY_RUNS: u64 = 300;
/// Runs of the two others and hours without a difference, beside each delay.
const BESIDE_RUNS: u64 = 100;

/// One row of false alarms.
pub struct FalseAlarms {
    pub name: &'static str,
    pub hours: u64,
    /// Of the hours watched: at 1 % for one metric alone, and with the defaults for all metrics.
    pub at_one_percent: usize,
    pub by_default: usize,
    /// One entry, or one for each quantile that they were told to look at.
    pub peers: Vec<PeerRates>,
}

/// How many hours in a hundred the two others alarm in.
#[derive(Clone, Copy, Debug)]
pub struct PeerRates {
    pub mann_whitney: f64,
    pub peeked_z: f64,
}

impl PeerRates {
    fn new(hours: &[PeerAlarms]) -> Self {
        let percent = |alarms: usize| 100.0 * alarms as f64 / hours.len() as f64;
        Self {
            mann_whitney: percent(hours.iter().filter(|hour| hour.mann_whitney).count()),
            peeked_z: percent(hours.iter().filter(|hour| hour.peeked_z.is_some()).count()),
        }
    }
}

pub fn false_alarm_table(rows: &[FalseAlarms]) -> String {
    let mut text = String::from(
        "| stream, both versions the same | judge at 1 % | judge, defaults | Mann-Whitney, 60 points | z-test, peeked |\n\
         |---|---|---|---|---|\n",
    );
    for row in rows {
        let percent = |alarms: usize| 100.0 * alarms as f64 / row.hours as f64;
        let peers = |rate: fn(&PeerRates) -> f64| {
            let rates = row.peers.iter().map(|rates| format!("{:.1} %", rate(rates)));
            rates.collect::<Vec<_>>().join(", ")
        };
        writeln!(
            text,
            "| {} | {:.2} % | {:.2} % | {} | {} |",
            row.name,
            percent(row.at_one_percent),
            percent(row.by_default),
            peers(|rates| rates.mann_whitney),
            peers(|rates| rates.peeked_z),
        )
        .expect("a string takes everything");
    }
    text
}

/// One row of delays.
pub struct Delay {
    pub name: &'static str,
    /// What is worse, and by how much.
    pub worse: String,
    /// Wald's bound, where there is one.
    pub bound: Option<f64>,
    /// The median of the test that knows what to look for, and is looked at as often.
    pub oracle: Option<f64>,
    pub median: f64,
    pub mean: f64,
    /// In percent: runs without an alarm, and alarms of the judge where there is no difference.
    pub missed: f64,
    pub false_alarms: f64,
    pub peers: PeerDelays,
}

/// What the two others make of a difference, and of none in the same stream.
pub struct PeerDelays {
    found: PeerRates,
    pub falsely: PeerRates,
    /// The z-test's median. Infinite: most runs have no alarm.
    z_median: f64,
}

impl PeerDelays {
    fn new(worse: &[PeerAlarms], same: &[PeerAlarms]) -> Self {
        let mut delays: Vec<_> = worse.iter().map(|hour| hour.peeked_z).collect();
        Self {
            found: PeerRates::new(worse),
            falsely: PeerRates::new(same),
            z_median: super::run::summary(&mut delays).0,
        }
    }
}

pub fn delay_table(rows: &[Delay]) -> String {
    let mut text = String::from(
        "| stream | worse by | bound | oracle | median | mean | median / bound | missed in an hour | Mann-Whitney finds | z-test, median | falsely: judge, Mann-Whitney, z-test |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let or_none = |value: Option<f64>, unit: &str, places: usize| {
            value.map_or("–".to_owned(), |value| format!("{value:.places$}{unit}"))
        };
        let PeerDelays { found, falsely, z_median } = &row.peers;
        let z_median = z_median.is_finite().then_some(*z_median);
        writeln!(
            text,
            "| {} | {} | {} | {} | {:.0} s | {:.0} s | {} | {:.1} % | {:.0} % | {} | {:.0} %, {:.0} %, {:.0} % |",
            row.name,
            row.worse,
            or_none(row.bound, " s", 1),
            or_none(row.oracle, " s", 0),
            row.median,
            row.mean,
            or_none(row.bound.map(|bound| row.median / bound), "", 2),
            row.missed,
            found.mann_whitney,
            or_none(z_median, " s", 0),
            row.false_alarms,
            falsely.mann_whitney,
            falsely.peeked_z,
        )
        .expect("a string takes everything");
    }
    text
}

pub fn alarm_table(rows: &[(&'static str, usize)], hours: u64) -> String {
    let mut text = String::from("| stream, both versions the same | judge at 1 % |\n|---|---|\n");
    for (name, alarms) in rows {
        let percent = 100.0 * *alarms as f64 / hours as f64;
        writeln!(text, "| {name} | {percent:.2} % |").expect("a string takes everything");
    }
    text
}

fn percent_of(alarms: impl IntoIterator<Item = bool>) -> f64 {
    let (mut all, mut found) = (0_u32, 0_u32);
    for alarm in alarms {
        all += 1;
        found += u32::from(alarm);
    }
    100.0 * f64::from(found) / f64::from(all.max(1))
}
