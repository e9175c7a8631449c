//! Dice: luck from a seed, in streams that do not disturb each other.

use std::hash::{DefaultHasher, Hash, Hasher};

use uuid::Uuid;

/// One stream of luck. Two streams of the same seed and name are the same.
#[derive(Clone, Debug)]
pub struct Dice(fastrand::Rng);

impl Dice {
    /// Makes the stream `name` of `seed`. What one stream is asked for changes no other: that is
    /// what lets a schedule be shrunk without everything behind the cut changing.
    pub fn new(seed: u64, name: impl Hash) -> Self {
        // Its keys are fixed, and the toolchain is pinned.
        let mut hasher = DefaultHasher::new();
        (seed, name).hash(&mut hasher);
        Self(fastrand::Rng::with_seed(hasher.finish()))
    }

    /// Returns a number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        self.0.u64(low..=high.max(low))
    }

    /// Returns an index below `count`, which is not zero.
    pub fn below(&mut self, count: usize) -> usize {
        self.0.usize(0..count.max(1))
    }

    /// Returns true `permille` times in a thousand.
    pub fn chance(&mut self, permille: u32) -> bool {
        permille > 0 && self.0.u32(0..1_000) < permille
    }

    /// Returns how many of `count` are true, `permille` times in a thousand each.
    pub fn hits(&mut self, count: u64, permille: u32) -> u64 {
        match permille {
            0 => 0,
            1_000.. => count,
            1..1_000 => (0..count).map(|_| u64::from(self.chance(permille))).sum(),
        }
    }

    /// Returns one of `choices`.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }

    /// Returns 128 bits.
    pub fn uuid(&mut self) -> Uuid {
        Uuid::from_u128(self.0.u128(..))
    }

    /// Returns 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0.u64(..)
    }

    /// Returns the underlying 32 bits for a jitter.
    pub fn jitter(&mut self) -> cutover_common::Jitter {
        cutover_common::Jitter::from_bits(self.0.u32(..))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_repeatable_and_apart() {
        let draw = |name: &str| {
            let mut dice = Dice::new(7, name);
            (0..8).map(|_| dice.bits()).collect::<Vec<_>>()
        };

        assert_eq!(draw("net"), draw("net"));
        assert_ne!(draw("net"), draw("disk"));
    }
}
