//! Random numbers for tests, from a seed that is printed, so that a failure can be repeated.

use std::ops::Range;

/// Draws numbers. The algorithm is splitmix64.
#[derive(Debug)]
pub(super) struct Luck(u64);

impl Luck {
    /// Starts from the seed in `CUTOVER_SEED`, or from a random one, and prints it.
    pub(super) fn from_environment() -> Self {
        let seed = match std::env::var("CUTOVER_SEED") {
            Ok(seed) => seed.parse().expect("CUTOVER_SEED is a number"),
            Err(_unset) => u64::from(uuid::Uuid::new_v4().as_fields().0),
        };
        println!("to repeat this: CUTOVER_SEED={seed}");
        Self(seed)
    }

    pub(super) fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn within(&mut self, range: Range<usize>) -> usize {
        let width = u64::try_from(range.len()).expect("a length");
        range.start + usize::try_from(self.number() % width).expect("below a length")
    }

    pub(super) fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.number().to_le_bytes()[0]).collect()
    }
}
