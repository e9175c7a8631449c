//! The one source of randomness: the kernel's.

use cutover_common::Jitter;
use uuid::Uuid;

/// Returns `N` random bytes, good enough for keys and tokens.
///
/// # Panics
///
/// If the kernel has no randomness: nothing that Cutover promises could be kept then.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .expect("the kernel gives random bytes: getrandom(2) exists since 3.17");
    bytes
}

/// Draws what a core is handed with its inputs: ids, nonces and jitter. A simulation brings its
/// own; keys and tokens are never drawn from it.
pub trait Dice: Send + Sync + 'static {
    /// Returns 16 random bytes.
    fn draw(&self) -> [u8; 16];

    /// Returns a random (version 4) UUID.
    fn uuid(&self) -> Uuid {
        uuid::Builder::from_random_bytes(self.draw()).into_uuid()
    }

    /// Returns the luck for one wait.
    fn jitter(&self) -> Jitter {
        let [a, b, c, d, ..] = self.draw();
        Jitter::from_bits(u32::from_le_bytes([a, b, c, d]))
    }
}

/// The kernel's randomness.
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelDice;

impl Dice for KernelDice {
    fn draw(&self) -> [u8; 16] {
        bytes()
    }
}

/// Returns a random (version 4) UUID.
pub fn uuid() -> Uuid {
    KernelDice.uuid()
}

/// Returns the luck for one wait.
pub fn jitter() -> Jitter {
    KernelDice.jitter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_random_and_of_version_four() {
        assert_eq!(uuid().get_version_num(), 4);
        assert_ne!(uuid(), uuid());
    }

    #[test]
    fn no_two_draws_are_equal() {
        assert_ne!(bytes::<32>(), bytes::<32>());
    }
}
