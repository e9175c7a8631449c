//! What agents count: restarts, lines that say error, memory.

use cutover_judge::{JudgeSpec, LimitSettings, Metric};

use super::{
    ALPHA, BESIDE_RUNS, BROKEN_HOURS, DELAY_RUNS, Delay, FalseAlarms, HOUR, INSTANCE_HOURS,
    PEER_HOURS, PeerDelays, PeerRates, percent_of,
};
use crate::measure::{
    baselines::{PeerAlarms, count_peers, oracle_alarm, wald_seconds},
    levels::{LEVEL, MemoryWatch, memory_peers},
    run::{count_alarm, each_seed, memory_alarm, only, summary},
    streams::{Canary, PLAIN, Stream, Trouble},
};

/// Which part of a rollout's 1 % the first attempt gives to each of these metrics by default.
const DEFAULT_ALPHA: f64 = 0.01 / 2.0 * 0.1;
/// Requests that each host gets in a second.
const REQUESTS: f64 = 5.0;

/// What is watched of the instances.
#[derive(Clone, Copy, Debug)]
enum Watch {
    Counts(Metric, Stream),
    Memory(MemoryWatch),
}

impl Watch {
    fn metric(self) -> Metric {
        match self {
            Self::Counts(metric, _) => metric,
            Self::Memory(_) => Metric::Memory,
        }
    }

    fn alarm(self, spec: &JudgeSpec, seed: u64) -> Option<f64> {
        match self {
            Self::Counts(metric, stream) => {
                let alarm = count_alarm(metric, stream, spec, seed, HOUR + stream.canary_after);
                alarm.map(|alarm| alarm - stream.canary_after)
            }
            Self::Memory(watch) => memory_alarm(watch, spec, seed, HOUR),
        }
    }

    fn peers(self, seed: u64) -> PeerAlarms {
        match self {
            Self::Counts(_, stream) => count_peers(stream, seed),
            Self::Memory(watch) => memory_peers(watch, seed),
        }
    }
}

/// So many events an hour on each instance of ten hosts, which all run both versions.
const fn by_time(per_hour: f64) -> Stream {
    Stream {
        requests_per_second: 10.0 * REQUESTS,
        error_rate: per_hour / 3_600.0 / REQUESTS,
        is_by_time: true,
        ..PLAIN
    }
}

const fn one_of_ten(stream: Stream) -> Stream {
    Stream { canary: Canary::Hosts(1), ..stream }
}

/// An instance ends twice an hour.
const RESTARTS: Stream = by_time(2.0);
/// It writes two lines a minute that say error.
const LINES: Stream = by_time(120.0);
/// On each host all instances end each 20 s for five minutes, once in two hours.
const CRASH_LOOP: Option<Trouble> =
    Some(Trouble { every_seconds: 7_200.0, seconds: 300.0, times: 90.0 });
/// Without a backend all instances end each 30 s for two minutes, twice an hour.
const BACKEND_AWAY: Option<Trouble> =
    Some(Trouble { every_seconds: 1_800.0, seconds: 120.0, times: 60.0 });
const BACKEND_FAILS: Option<Trouble> =
    Some(Trouble { every_seconds: 300.0, seconds: 30.0, times: 30.0 });

/// Returns what is watched where both versions are the same.
fn null_watches() -> Vec<(&'static str, Watch)> {
    let restarts = |stream| Watch::Counts(Metric::Restarts, stream);
    let lines = |stream| Watch::Counts(Metric::LogLines, stream);
    let memory = |watch| Watch::Memory(watch);
    let one_host = MemoryWatch { canary: Canary::Hosts(1), ..LEVEL };
    let bursts = Stream { burst: 10.0, ..LINES };
    let all =
        Stream { skew: 0.3, burst: 3.0, is_diurnal: true, backend_trouble: BACKEND_FAILS, ..LINES };
    vec![
        ("restarts, each host runs both", restarts(RESTARTS)),
        ("restarts, one host of ten", restarts(one_of_ten(RESTARTS))),
        (
            "restarts, hosts have crash loops, each runs both",
            restarts(Stream { host_trouble: CRASH_LOOP, ..RESTARTS }),
        ),
        (
            "restarts, a backend is away for 2 min, one host of ten",
            restarts(one_of_ten(Stream { backend_trouble: BACKEND_AWAY, ..RESTARTS })),
        ),
        (
            "restarts, hosts differ by 30 %, one host of ten",
            restarts(one_of_ten(Stream { skew: 0.3, ..RESTARTS })),
        ),
        ("lines, each host runs both", lines(LINES)),
        (
            "lines that requests cause, 10 % of each host",
            lines(Stream { is_by_time: false, ..LINES }),
        ),
        ("lines in bursts (variance 10x), each host runs both", lines(bursts)),
        ("lines in bursts (variance 10x), one host of ten", lines(one_of_ten(bursts))),
        (
            "lines, hosts differ by 30 %, one host of ten",
            lines(one_of_ten(Stream { skew: 0.3, ..LINES })),
        ),
        ("lines, all that errors have, one host of ten", lines(one_of_ten(all))),
        ("memory, each host runs both", memory(LEVEL)),
        (
            "memory, hosts differ by 30 %, one host of ten",
            memory(MemoryWatch { skew: 0.3, ..one_host }),
        ),
        (
            "memory, saw-tooth of 3 min, one host of ten",
            memory(MemoryWatch { saw_tooth_seconds: Some(180.0), ..one_host }),
        ),
        (
            "memory, saw-tooth of 3 min, a single host runs both",
            memory(MemoryWatch { hosts: 1, saw_tooth_seconds: Some(180.0), ..LEVEL }),
        ),
        (
            "memory, both grow by 10 MiB a minute, one host of ten",
            memory(MemoryWatch { growth_mib_per_minute: 10.0, ..one_host }),
        ),
    ]
}

pub fn instance_false_alarms() -> Vec<FalseAlarms> {
    let default = JudgeSpec::default();
    let rows = null_watches().into_iter().map(|(name, watch)| {
        let strict = only(watch.metric(), ALPHA, LimitSettings::default());
        let alarms = each_seed(INSTANCE_HOURS, |seed| {
            let strict = watch.alarm(&strict, seed).is_some();
            // Its bar is higher, so it alarms on no hour on which the other does not.
            (strict, strict && watch.alarm(&default, seed).is_some())
        });
        FalseAlarms {
            name,
            hours: INSTANCE_HOURS,
            at_one_percent: alarms.iter().filter(|(strict, _)| *strict).count(),
            by_default: alarms.iter().filter(|(_, default)| *default).count(),
            peers: vec![PeerRates::new(&each_seed(PEER_HOURS, |seed| watch.peers(seed)))],
        }
    });
    rows.collect()
}

/// Returns what breaks an assumption, with both versions the same.
fn broken_watches() -> Vec<(&'static str, Watch)> {
    let crash_loops = Stream { host_trouble: CRASH_LOOP, ..one_of_ten(RESTARTS) };
    let memory = |watch| Watch::Memory(watch);
    let slow_tooth = MemoryWatch { saw_tooth_seconds: Some(7_200.0), ..LEVEL };
    let three = MemoryWatch { hosts: 3, canary: Canary::Hosts(1), skew: 0.3, ..LEVEL };
    vec![
        (
            "restarts, hosts have crash loops, one host of ten",
            Watch::Counts(Metric::Restarts, crash_loops),
        ),
        (
            "the same, watched for two hours before",
            Watch::Counts(Metric::Restarts, Stream { canary_after: 7_200.0, ..crash_loops }),
        ),
        ("memory, three hosts differ by 30 %, one of them", memory(three)),
        (
            "memory, saw-tooth of 2 h, a single host runs both",
            memory(MemoryWatch { hosts: 1, ..slow_tooth }),
        ),
        ("memory, saw-tooth of 2 h, each of ten hosts runs both", memory(slow_tooth)),
    ]
}

/// Returns the alarms in [`BROKEN_HOURS`] hours of each, at 1 % for the metric alone.
pub fn instance_broken_false_alarms() -> Vec<(&'static str, usize)> {
    let rows = broken_watches().into_iter().map(|(name, watch)| {
        let spec = only(watch.metric(), ALPHA, LimitSettings::default());
        let alarms = each_seed(BROKEN_HOURS, |seed| watch.alarm(&spec, seed).is_some());
        (name, alarms.into_iter().filter(|alarm| *alarm).count())
    });
    rows.collect()
}

/// Returns a canary that is worse, in words by how much, and the same watch without that.
fn worse_watches() -> Vec<(&'static str, String, Watch, Watch)> {
    let counts = |name, metric, same: Stream, ratio: f64, words: &str| {
        let same = Stream { canary_after: 120.0, ..same };
        let worse = Stream { ratio, ..same };
        (name, words.to_owned(), Watch::Counts(metric, worse), Watch::Counts(metric, same))
    };
    let memory = |name, worse: MemoryWatch, words: &str| {
        let same = MemoryWatch { ratio: 1.0, leak_mib_per_minute: 0.0, ..worse };
        (name, words.to_owned(), Watch::Memory(worse), Watch::Memory(same))
    };
    let one_host = MemoryWatch { canary: Canary::Hosts(1), ..LEVEL };
    let (both, alone) = ("each host runs both", "one host of ten");
    let minute = "restarts each minute";
    vec![
        counts(both, Metric::Restarts, RESTARTS, 30.0, minute),
        counts(alone, Metric::Restarts, one_of_ten(RESTARTS), 30.0, minute),
        counts(both, Metric::LogLines, LINES, 5.0, "5x the lines"),
        counts(alone, Metric::LogLines, one_of_ten(LINES), 5.0, "5x the lines"),
        memory(both, MemoryWatch { ratio: 2.0, ..LEVEL }, "2x the memory"),
        memory(both, MemoryWatch { leak_mib_per_minute: 10.0, ..LEVEL }, "leaks 10 MiB/min"),
        memory(alone, MemoryWatch { leak_mib_per_minute: 10.0, ..one_host }, "leaks 10 MiB/min"),
    ]
}

/// Returns how soon the judge sees them with its defaults.
pub fn instance_delays() -> Vec<Delay> {
    const RUNS: u64 = DELAY_RUNS / 3;
    let spec = JudgeSpec::default();
    let rows = worse_watches().into_iter().map(|(name, worse, watch, same)| {
        let mut delays = each_seed(RUNS, |seed| watch.alarm(&spec, seed));
        let (median, mean, missed) = summary(&mut delays);
        let stream = match watch {
            Watch::Counts(_, stream) => Some(stream),
            Watch::Memory(_) => None,
        };
        let bound = stream.map(|stream| {
            let (instances, share) =
                if stream.canary == Canary::Hosts(1) { (10.0, 0.1) } else { (20.0, 0.5) };
            let events = instances * REQUESTS * stream.error_rate;
            wald_seconds(DEFAULT_ALPHA, events, share, stream.ratio)
        });
        let oracle = stream.map(|stream| {
            let mut alarms =
                each_seed(RUNS, |seed| Some(oracle_alarm(stream, DEFAULT_ALPHA, seed)));
            summary(&mut alarms).0
        });
        Delay {
            name,
            worse,
            bound,
            oracle,
            median,
            mean,
            missed: 100.0 * missed as f64 / RUNS as f64,
            false_alarms: percent_of(each_seed(BESIDE_RUNS, |seed| {
                same.alarm(&spec, seed).is_some()
            })),
            peers: PeerDelays::new(
                &each_seed(BESIDE_RUNS, |seed| watch.peers(seed)),
                &each_seed(BESIDE_RUNS, |seed| same.peers(seed)),
            ),
        }
    });
    rows.collect()
}
