//! What others do with the same streams, and the least that anybody can do.

use cutover_judge::{Side, math};

use super::{
    latencies::{LatencyFlow, LatencyTables, LatencyWatch},
    streams::{Canary, Flow, Stream},
};

/// The normal quantile of 99 %: both tests have two sides of 98 %, of which one counts.
const Z_OF_ONE_PERCENT: f64 = 2.326_347_87;
/// What the canary must have had before the dashboard shows a number: requests, seconds, gauges.
const Z_EXPOSURE_MIN: f64 = 50.0;

/// What others say of an hour in which a canary runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct PeerAlarms {
    /// Kayenta's way: Mann and Whitney's test at 98 % on 60 one-minute points of each side, once,
    /// at the end.
    pub mann_whitney: bool,
    /// A dashboard with a threshold: a one-sided z-test at 1 % that is looked at after each
    /// round. The seconds from the canary's start to the first alarm.
    pub peeked_z: Option<f64>,
}

/// Shows the hour of `stream` after its canary began to both. A point is a minute's bad events by
/// exposure, and the z-test is that of two proportions, of all since the canary began. Exposure
/// is requests, or the seconds for which instances ran where events go by those.
pub fn count_peers(stream: Stream, seed: u64) -> PeerAlarms {
    let mut flow = Flow::new(stream, seed);
    let mut counts = Vec::new();
    let mut hour = Hour::new(stream.round_seconds);
    let (mut minute, mut all) = ([[0.0; 2]; 2], [[0.0; 2]; 2]);
    let mut now = 0.0;
    while hour.is_open() {
        flow.next_round(&mut counts);
        now += stream.round_seconds;
        if now <= stream.canary_after {
            continue;
        }
        for count in &counts {
            let side = usize::from(count.side == Side::Canary);
            let exposure =
                if stream.is_by_time { stream.round_seconds } else { count.requests as f64 };
            for sums in [&mut minute, &mut all] {
                sums[side][0] += count.errors as f64;
                sums[side][1] += exposure;
            }
        }
        hour.end_round(z_of_proportions(all));
        if hour.is_minute_full() {
            hour.end_minute(minute.map(|[bad, exposure]| bad / exposure.max(1.0)));
            minute = [[0.0; 2]; 2];
        }
    }
    hour.alarms()
}

/// Shows the hour of `watch` after its canary began to both, once for each quantile. A point is
/// the quantile of a minute's answers. The z-test is that of two proportions, namely of the
/// answers that are slower than the bucket in which the control's quantile lies, of all since the
/// canary began.
pub fn latency_peers<const N: usize>(
    watch: LatencyWatch,
    tables: &LatencyTables,
    quantiles: [f64; N],
    seed: u64,
) -> [PeerAlarms; N] {
    let mut flow = LatencyFlow::new(watch, tables, seed);
    let mut hours = quantiles.map(|_| Hour::new(watch.round_seconds));
    let none = || [0, 1].map(|_| vec![0.0; tables.scale.buckets()]);
    let (mut minute, mut all) = (none(), none());
    while hours[0].is_open() {
        let is_canary_there = flow.seconds() >= watch.canary_after;
        flow.next_round(|count, histogram| {
            let side = usize::from(count.side == Side::Canary);
            for sums in [&mut minute[side], &mut all[side]] {
                sums.iter_mut().zip(histogram).for_each(|(sum, more)| *sum += *more as f64);
            }
        });
        if !is_canary_there {
            minute.iter_mut().chain(&mut all).for_each(|counts| counts.fill(0.0));
            continue;
        }
        for (hour, quantile) in hours.iter_mut().zip(quantiles) {
            let edge = position_of(&all[0], quantile).floor();
            hour.end_round(z_of_proportions([0, 1].map(|side| slower_than(&all[side], edge))));
            if hour.is_minute_full() {
                hour.end_minute([0, 1].map(|side| position_of(&minute[side], quantile)));
            }
        }
        if hours[0].is_minute_full() {
            minute.iter_mut().for_each(|counts| counts.fill(0.0));
        }
    }
    hours.map(|hour| hour.alarms())
}

/// An hour as both see it.
pub struct Hour {
    round_seconds: f64,
    rounds: u32,
    points: [Vec<f64>; 2],
    peeked_z: Option<f64>,
}

impl Hour {
    pub fn new(round_seconds: f64) -> Self {
        Self { round_seconds, rounds: 0, points: [Vec::new(), Vec::new()], peeked_z: None }
    }

    pub fn is_open(&self) -> bool {
        self.points[0].len() < 60
    }

    /// Takes how many standard deviations the canary is above the control. None: too little was
    /// seen.
    pub fn end_round(&mut self, z: Option<f64>) {
        self.rounds += 1;
        if self.peeked_z.is_none() && z.is_some_and(|z| z > Z_OF_ONE_PERCENT) {
            self.peeked_z = Some(self.seconds());
        }
    }

    pub fn is_minute_full(&self) -> bool {
        self.seconds() % 60.0 == 0.0
    }

    /// Takes a minute's point of each side, control first.
    pub fn end_minute(&mut self, points: [f64; 2]) {
        self.points.iter_mut().zip(points).for_each(|(points, point)| points.push(point));
    }

    pub fn alarms(&self) -> PeerAlarms {
        let [control, canary] = &self.points;
        PeerAlarms {
            mann_whitney: mann_whitney_z(canary, control) > Z_OF_ONE_PERCENT,
            peeked_z: self.peeked_z,
        }
    }

    fn seconds(&self) -> f64 {
        f64::from(self.rounds) * self.round_seconds
    }
}

/// Returns how many standard deviations the sum of the ranks of `one` lies above its mean, with
/// the correction for ties and for whole numbers.
fn mann_whitney_z(one: &[f64], other: &[f64]) -> f64 {
    let mut all: Vec<(f64, bool)> = one.iter().map(|value| (*value, true)).collect();
    all.extend(other.iter().map(|value| (*value, false)));
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut rank_sum, mut ties, mut begin) = (0.0, 0.0, 0);
    while begin < all.len() {
        let same = all[begin..].iter().take_while(|(value, _)| *value == all[begin].0).count();
        let rank = begin as f64 + f64::midpoint(same as f64, 1.0);
        let ones = all[begin..begin + same].iter().filter(|(_, is_one)| *is_one).count();
        rank_sum += rank * ones as f64;
        let same = same as f64;
        ties += same * same * same - same;
        begin += all[begin..].iter().take_while(|(value, _)| *value == all[begin].0).count();
    }
    let (m, n) = (one.len() as f64, other.len() as f64);
    let above = rank_sum - m * (m + 1.0) / 2.0 - m * n / 2.0;
    let variance = m * n / 12.0 * (m + n + 1.0 - ties / ((m + n) * (m + n - 1.0)));
    if variance > 0.0 { (above - 0.5) / variance.sqrt() } else { 0.0 }
}

/// Compares two proportions, each bad events and exposure, control first.
fn z_of_proportions([[control, n], [canary, m]]: [[f64; 2]; 2]) -> Option<f64> {
    let pooled = (control + canary) / (n + m);
    let variance = pooled * (1.0 - pooled) * (1.0 / n + 1.0 / m);
    (m >= Z_EXPOSURE_MIN && variance > 0.0).then(|| (canary / m - control / n) / variance.sqrt())
}

/// Compares two means, each the number of values, their sum and that of their squares, control
/// first.
pub fn z_of_means(sides: [[f64; 3]; 2]) -> Option<f64> {
    let [[control, control_error], [canary, canary_error]] = sides.map(|[count, sum, squares]| {
        let mean = sum / count;
        [mean, (squares / count - mean * mean) / count]
    });
    let variance = control_error + canary_error;
    (sides[1][0] >= Z_EXPOSURE_MIN && variance > 0.0).then(|| (canary - control) / variance.sqrt())
}

/// Returns the bucket in which the quantile lies, and by a straight line where in it: a number
/// that rises with the latency.
fn position_of(counts: &[f64], quantile: f64) -> f64 {
    let wanted = counts.iter().sum::<f64>() * quantile;
    let mut below = 0.0;
    for (bucket, count) in counts.iter().enumerate() {
        if *count > 0.0 && below + count >= wanted {
            return bucket as f64 + (wanted - below) / count;
        }
        below += count;
    }
    0.0
}

/// Returns how many counts lie beyond the bucket, and how many there are.
fn slower_than(counts: &[f64], edge: f64) -> [f64; 2] {
    let beyond = counts.iter().enumerate().filter(|(bucket, _)| *bucket as f64 > edge);
    [beyond.map(|(_, count)| count).sum(), counts.iter().sum()]
}

/// Watches a stream with the sharpest test there is: it knows that the canary is worse by
/// `stream.ratio`, and nothing else (Wald 1945). Returns the seconds from the canary's start to
/// its alarm.
pub fn oracle_alarm(stream: Stream, alpha: f64, seed: u64) -> f64 {
    let share = match stream.canary {
        Canary::Weight(_) if stream.is_by_time => 0.5,
        Canary::Weight(part) => part,
        Canary::Hosts(hosts) => hosts as f64 / stream.hosts as f64,
    };
    let of_control = -math::ln(1.0 + (stream.ratio - 1.0) * share);
    let of_canary = of_control + math::ln(stream.ratio);
    let mut flow = Flow::new(stream, seed);
    let mut counts = Vec::new();
    let (mut now, mut evidence) = (0.0, 0.0);
    while evidence < -math::ln(alpha) {
        flow.next_round(&mut counts);
        now += stream.round_seconds;
        if now > stream.canary_after {
            for count in &counts {
                let gain = if count.side == Side::Canary { of_canary } else { of_control };
                evidence += gain * count.errors as f64;
            }
        }
    }
    now - stream.canary_after
}

/// The same for latency: it knows both laws, and counts the canary's answers beyond the edge
/// between buckets that is nearest to the control's `quantile`.
pub fn latency_oracle_alarm(
    watch: LatencyWatch,
    tables: &LatencyTables,
    quantile: f64,
    alpha: f64,
    seed: u64,
) -> f64 {
    let (edge, before, after) = tables.edge_near(quantile);
    let slow = math::ln(after / before);
    let fast = math::ln((1.0 - after) / (1.0 - before));
    let mut flow = LatencyFlow::new(watch, tables, seed);
    let mut evidence = 0.0;
    while evidence < -math::ln(alpha) {
        flow.next_round(|count, histogram| {
            if count.side == Side::Canary {
                let beyond: u64 = histogram[edge..].iter().sum();
                evidence += slow * beyond as f64 + fast * (count.requests - beyond) as f64;
            }
        });
    }
    flow.seconds() - watch.canary_after
}

/// Returns Wald's bound in seconds: no test with false alarms at most `alpha` is faster in the
/// mean at telling errors `ratio` times as frequent, of which the control and the canary together
/// have `errors_per_second` when the canary is no worse, and the canary `share`.
pub fn wald_seconds(alpha: f64, errors_per_second: f64, share: f64, ratio: f64) -> f64 {
    let rate = errors_per_second * (1.0 - share + ratio * share);
    let part = ratio * share / (1.0 - share + ratio * share);
    let information =
        part * math::ln(part / share) + (1.0 - part) * math::ln((1.0 - part) / (1.0 - share));
    -math::ln(alpha) / (information * rate)
}
