//! Luck from a seed.

use std::{
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use cutover_runtime::dice::Dice;

/// The increment of SplitMix64 (Steele, Lea and Flood 2014).
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// A host's dice: the same for the same seed, host and number of the draw.
#[derive(Debug)]
pub(crate) struct SeededDice(AtomicU64);

impl SeededDice {
    pub(crate) fn new(seed: u64, host: u64) -> Self {
        Self(AtomicU64::new(mix(seed ^ mix(host.wrapping_add(GAMMA)))))
    }

    pub(crate) fn next(&self) -> u64 {
        mix(self.0.fetch_add(GAMMA, Ordering::Relaxed).wrapping_add(GAMMA))
    }

    /// Draws a time of `range`, in whole milliseconds.
    pub(crate) fn between(&self, range: Range<Duration>) -> Duration {
        let width = (range.end - range.start).as_millis().max(1);
        let part = u128::from(self.next()) % width;
        range.start + Duration::from_millis(u64::try_from(part).unwrap_or(0))
    }
}

impl Dice for SeededDice {
    fn draw(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.next().to_le_bytes());
        bytes[8..].copy_from_slice(&self.next().to_le_bytes());
        bytes
    }
}

const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
