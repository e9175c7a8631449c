//! The buckets of a latency histogram.

/// Where the buckets of a latency histogram end.
#[derive(Clone, Debug, PartialEq)]
pub struct LatencyScale {
    /// Upper bounds in microseconds, rising; the last bucket has none.
    bounds_us: Vec<f64>,
}

/// Why bounds are no [`LatencyScale`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the bounds of latency buckets must be positive and rise; bound {place} does not")]
pub struct InvalidScale {
    place: usize,
}

impl LatencyScale {
    /// Makes a scale of one bucket more than there are bounds: the last is for all that is slower.
    ///
    /// # Errors
    ///
    /// Refuses bounds that do not rise from above zero, and says which.
    pub fn new(bounds_us: &[u64]) -> Result<Self, InvalidScale> {
        let mut before = 0;
        for (place, &bound) in bounds_us.iter().enumerate() {
            if bound <= before {
                return Err(InvalidScale { place });
            }
            before = bound;
        }
        Ok(Self { bounds_us: bounds_us.iter().map(|&bound| bound as f64).collect() })
    }

    /// Makes the scale of `buckets` buckets of which the `n`th ends at 2^n microseconds.
    pub fn powers_of_two(buckets: usize) -> Self {
        Self::log_linear(buckets.saturating_sub(2), 1)
    }

    /// Makes the scale of so many doublings from one microsecond, each cut into `parts` of equal
    /// width, with a bucket below and one beyond. With 8 parts a bucket is 6 to 12 % wide, fine enough for a shift of 10 %.
    pub fn log_linear(doublings: usize, parts: u32) -> Self {
        let mut bounds_us = vec![1.0];
        let mut begin = 1.0;
        for _ in 0..doublings {
            for part in 1..=parts {
                bounds_us.push(begin * (1.0 + f64::from(part) / f64::from(parts)));
            }
            begin *= 2.0;
        }
        Self { bounds_us }
    }

    /// Returns how many buckets there are.
    pub fn buckets(&self) -> usize {
        self.bounds_us.len() + 1
    }

    /// Returns the bucket that a latency in microseconds falls into.
    pub fn bucket_of(&self, latency_us: f64) -> usize {
        self.bounds_us.partition_point(|&bound| bound <= latency_us)
    }

    /// Returns the latency in milliseconds below which `share` of `counts` are, by a straight
    /// line within a bucket. None: there are no counts, or it is in the last bucket.
    pub(crate) fn quantile_ms(&self, counts: &[f64], share: f64) -> Option<f64> {
        let all: f64 = counts.iter().sum();
        let wanted = all * share;
        let mut below = 0.0;
        for (bucket, &count) in counts.iter().enumerate() {
            if count > 0.0 && below + count >= wanted {
                let high = self.bounds_us.get(bucket)?;
                let low = bucket.checked_sub(1).map_or(0.0, |before| self.bounds_us[before]);
                return Some((low + (high - low) * (wanted - below) / count) / 1_000.0);
            }
            below += count;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_end_where_the_gate_says() {
        let scale = LatencyScale::powers_of_two(27);

        assert_eq!(scale.buckets(), 27);
        assert_eq!(scale.bucket_of(0.0), 0);
        assert_eq!(scale.bucket_of(1.0), 1);
        assert_eq!(scale.bucket_of(1_023.0), 10);
        assert_eq!(scale.bucket_of(1_024.0), 11);
        assert_eq!(scale.bucket_of(67_108_864.0), 26);
        assert_eq!(LatencyScale::log_linear(25, 8).buckets(), 25 * 8 + 2);
    }

    #[test]
    fn a_quantile_lies_within_its_bucket() {
        let scale = LatencyScale::new(&[1_000, 2_000]).unwrap();

        assert_eq!(scale.quantile_ms(&[50.0, 50.0, 0.0], 0.5), Some(1.0));
        assert_eq!(scale.quantile_ms(&[50.0, 50.0, 0.0], 0.75), Some(1.5));
        assert_eq!(scale.quantile_ms(&[50.0, 0.0, 50.0], 0.75), None);
        assert_eq!(scale.quantile_ms(&[0.0, 0.0, 0.0], 0.5), None);
    }

    #[test]
    fn bounds_that_do_not_rise_are_refused() {
        assert_eq!(LatencyScale::new(&[0]), Err(InvalidScale { place: 0 }));
        assert_eq!(LatencyScale::new(&[5, 5]), Err(InvalidScale { place: 1 }));
    }
}
