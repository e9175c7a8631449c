//! What others do with the same streams.

use cutover_judge::{Side, math};

use super::streams::{Flow, Stream};

/// Kayenta's way: Mann and Whitney's test on 60 one-minute error rates of each side, once, one
/// side of 98 %. Returns the second of the alarm, which is the hour.
pub fn mann_whitney_alarm(stream: Stream, seed: u64) -> Option<f64> {
    let mut flow = Flow::new(stream, seed);
    let mut counts = Vec::new();
    let mut rates = [Vec::new(), Vec::new()];
    for _ in 0..60 {
        let mut sums = [[0.0; 2]; 2];
        let mut seconds = 0.0;
        while seconds < 60.0 {
            seconds += stream.round_seconds;
            flow.next_round(&mut counts);
            for count in &counts {
                let side = usize::from(count.side == Side::Canary);
                sums[side][0] += count.errors as f64;
                sums[side][1] += count.requests as f64;
            }
        }
        for (rates, [errors, requests]) in rates.iter_mut().zip(sums) {
            rates.push(errors / requests.max(1.0));
        }
    }
    (mann_whitney_z(&rates[1], &rates[0]) > 2.326_347_87).then_some(3_600.0)
}

/// Returns how many standard deviations the sum of the ranks of `one` lies above its mean, with
/// the correction for ties and for whole numbers.
pub fn mann_whitney_z(one: &[f64], other: &[f64]) -> f64 {
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

/// A dashboard with a threshold: a one-sided z-test of two proportions at 1 %, looked at after
/// each round from 50 requests of the canary on. Returns the second of the first alarm.
pub fn peeked_z_alarm(stream: Stream, seed: u64, seconds: f64) -> Option<f64> {
    let mut flow = Flow::new(stream, seed);
    let mut counts = Vec::new();
    let mut sums = [[0.0; 2]; 2];
    let mut now = 0.0;
    while now < seconds {
        flow.next_round(&mut counts);
        for count in &counts {
            let side = usize::from(count.side == Side::Canary);
            sums[side][0] += count.errors as f64;
            sums[side][1] += count.requests as f64;
        }
        now += stream.round_seconds;
        let [[control, n], [canary, m]] = sums;
        let pooled = (control + canary) / (n + m);
        let variance = pooled * (1.0 - pooled) * (1.0 / n + 1.0 / m);
        if m >= 50.0
            && variance > 0.0
            && (canary / m - control / n) / variance.sqrt() > 2.326_347_87
        {
            return Some(now);
        }
    }
    None
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
