//! Luck that can be repeated: from a seed that a failing test prints.

use std::io::Write as _;

/// Random numbers from a seed (xorshift64).
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// Takes the seed from `CUTOVER_TEST_SEED`, or a fresh one, and says which on stderr.
    pub fn from_environment() -> Self {
        let given = std::env::var("CUTOVER_TEST_SEED").ok().and_then(|it| it.parse().ok());
        // Never zero, from which xorshift does not move.
        let seed = given.unwrap_or_else(|| u64::from(uuid::Uuid::new_v4().as_fields().0)).max(1);
        // Shown when the test fails.
        drop(writeln!(std::io::stderr(), "CUTOVER_TEST_SEED={seed} repeats these moments"));
        Self(seed)
    }

    /// Returns a number below `limit`, which is not 0.
    pub const fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}
