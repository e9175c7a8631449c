//! Latencies: how long answers took, counted in buckets.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Into how many parts of one width each doubling is cut. A bucket is 6 to 12 % wide then, which is
/// what the judge needs to measure a shift of 10 % (docs/judge.md).
pub const LATENCY_PARTS: u32 = 8;

/// How many times a microsecond is doubled. What takes 2^25 of them, 34 seconds, or more is in one
/// bucket: whoever waits that long has given up, and how long it was is no news.
pub const LATENCY_DOUBLINGS: u32 = 25;

/// One for less than a microsecond, one for what is beyond the last doubling.
pub const LATENCY_BUCKETS: usize = 2 + (LATENCY_DOUBLINGS * LATENCY_PARTS) as usize;

const LAST: u8 = 201;
const _: () = assert!(LAST as usize == LATENCY_BUCKETS - 1, "the last bucket is the last");

/// One of the [`LATENCY_BUCKETS`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Deserialize, Serialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct LatencyBucket(u8);

/// A number that no bucket has.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("there is no bucket {0} of latency, only 0 to {LAST}")]
pub struct NoSuchBucket(pub u32);

impl LatencyBucket {
    /// Returns the bucket of what took so many microseconds.
    pub fn of_us(micros: u64) -> Self {
        let Some(doublings) = micros.checked_ilog2() else { return Self(0) };
        if doublings >= LATENCY_DOUBLINGS {
            return Self(LAST);
        }
        let beyond = micros - (1 << doublings);
        let part = (beyond * u64::from(LATENCY_PARTS)) >> doublings;
        let place = 1 + u64::from(doublings * LATENCY_PARTS) + part;
        Self(u8::try_from(place).unwrap_or(LAST))
    }

    /// Returns all of them, from the quickest to the slowest.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..=LAST).map(Self)
    }

    /// Returns which one it is.
    pub fn place(self) -> usize {
        usize::from(self.0)
    }

    /// Returns the number of whole microseconds that all in it are below. None: it has no end.
    pub fn end_us(self) -> Option<u64> {
        if self.0 == LAST {
            return None;
        }
        let Some(place) = u32::from(self.0).checked_sub(1) else { return Some(1) };
        let begin = 1_u64 << (place / LATENCY_PARTS);
        let parts = u64::from(place % LATENCY_PARTS) + 1;
        Some(begin + (begin * parts).div_ceil(u64::from(LATENCY_PARTS)))
    }
}

impl TryFrom<u32> for LatencyBucket {
    type Error = NoSuchBucket;

    fn try_from(place: u32) -> Result<Self, NoSuchBucket> {
        let known = u8::try_from(place).ok().filter(|place| *place <= LAST);
        known.map(Self).ok_or(NoSuchBucket(place))
    }
}

impl TryFrom<u8> for LatencyBucket {
    type Error = NoSuchBucket;

    fn try_from(place: u8) -> Result<Self, NoSuchBucket> {
        u32::from(place).try_into()
    }
}

impl From<LatencyBucket> for u8 {
    fn from(bucket: LatencyBucket) -> Self {
        bucket.0
    }
}

/// How many answers there were in each bucket. Only ever grows, and holds no bucket without any:
/// of all that there are, a service fills some thirty.
#[derive(Clone, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Latencies(BTreeMap<LatencyBucket, u64>);

impl Latencies {
    /// Adds answers to a bucket.
    pub fn add(&mut self, bucket: LatencyBucket, answers: u64) {
        if answers > 0 {
            let all = self.0.entry(bucket).or_default();
            *all = all.saturating_add(answers);
        }
    }

    /// Adds what somebody else has counted.
    pub fn add_all(&mut self, other: &Self) {
        other.iter().for_each(|(bucket, answers)| self.add(bucket, answers));
    }

    /// Returns the buckets that hold something, from the quickest to the slowest.
    pub fn iter(&self) -> impl Iterator<Item = (LatencyBucket, u64)> {
        self.0.iter().map(|(bucket, answers)| (*bucket, *answers))
    }

    /// Returns how many answers there were.
    pub fn answers(&self) -> u64 {
        self.iter().fold(0, |all, (_, answers)| all.saturating_add(answers))
    }

    /// Returns how many are in buckets that end at so many microseconds or before.
    pub fn below_us(&self, micros: u64) -> u64 {
        let ended = |bucket: LatencyBucket| bucket.end_us().is_some_and(|end| end <= micros);
        let below = self.iter().filter(|(bucket, _)| ended(*bucket));
        below.fold(0, |all, (_, answers)| all.saturating_add(answers))
    }

    /// Returns what came since `before`, bucket by bucket.
    pub fn since(&self, before: &Self) -> [u64; LATENCY_BUCKETS] {
        let mut grown = [0; LATENCY_BUCKETS];
        for (bucket, answers) in self.iter() {
            let known = before.0.get(&bucket).copied().unwrap_or_default();
            grown[bucket.place()] = answers.saturating_sub(known);
        }
        grown
    }

    /// Returns an upper bound, in microseconds, of the latency that `permille` of the answers did
    /// not exceed: at most an eighth above it. None: nothing was answered, or too slowly to tell.
    pub fn us_at(&self, permille: u64) -> Option<u64> {
        let all: u128 = self.iter().map(|(_, answers)| u128::from(answers)).sum();
        let wanted = (all * u128::from(permille)).div_ceil(1000).max(1);
        let mut seen = 0;
        let (bucket, _) = self.iter().find(|(_, answers)| {
            seen += u128::from(*answers);
            seen >= wanted
        })?;
        bucket.end_us()
    }
}

impl FromIterator<(LatencyBucket, u64)> for Latencies {
    fn from_iter<I: IntoIterator<Item = (LatencyBucket, u64)>>(counts: I) -> Self {
        let mut all = Self::default();
        counts.into_iter().for_each(|(bucket, answers)| all.add(bucket, answers));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_is_in_the_first_bucket_that_ends_above_it() {
        for place in 0..u32::from(LAST) {
            let bucket = LatencyBucket::try_from(place).unwrap();
            let end = bucket.end_us().unwrap();

            assert!(LatencyBucket::of_us(end) > bucket, "{end} is beyond {place}");
            assert!(LatencyBucket::of_us(end - 1) <= bucket, "{end} ends {place}");
        }
        let ends = [0, 1, 2, 9, 1_000, 50_000]
            .map(|micros| LatencyBucket::of_us(micros).end_us().unwrap());
        assert_eq!(ends, [1, 2, 3, 10, 1_024, 53_248]);
    }

    #[test]
    fn what_takes_half_a_minute_or_more_is_in_the_last_bucket() {
        assert!(LatencyBucket::of_us((1 << 25) - 1).end_us().is_some());
        for micros in [1 << 25, u64::MAX] {
            assert_eq!(LatencyBucket::of_us(micros).place(), LATENCY_BUCKETS - 1);
            assert_eq!(LatencyBucket::of_us(micros).end_us(), None);
        }
        assert_eq!(LatencyBucket::try_from(202_u32), Err(NoSuchBucket(202)));
    }

    #[test]
    fn a_quantile_is_the_upper_bound_of_its_bucket() {
        let counts = [(1_000, 98), (3_000, 1), (40_000_000, 1)];
        let latencies: Latencies = counts
            .into_iter()
            .map(|(micros, answers)| (LatencyBucket::of_us(micros), answers))
            .collect();

        assert_eq!(latencies.us_at(500), Some(1_024));
        assert_eq!(latencies.us_at(990), Some(3_072));
        assert_eq!(latencies.us_at(1_000), None);
        assert_eq!([999, 1_024, 1 << 20].map(|end| latencies.below_us(end)), [0, 98, 99]);
        assert_eq!(latencies.answers(), 100);
        assert_eq!(Latencies::default().us_at(500), None);
    }

    #[test]
    fn what_came_since_is_told_by_bucket_and_another_count_takes_nothing_away() {
        let bucket = LatencyBucket::of_us(1_000);
        let before = Latencies::from_iter([(bucket, 5)]);
        let mut after = before.clone();
        after.add_all(&Latencies::from_iter([(bucket, 3), (LatencyBucket::of_us(7), 0)]));

        assert_eq!(after.since(&before)[bucket.place()], 3);
        assert_eq!(after.since(&before).iter().sum::<u64>(), 3);
        assert_eq!(before.since(&after).iter().sum::<u64>(), 0);
        assert_eq!(after.iter().count(), 1, "an empty bucket is not kept");
    }
}
