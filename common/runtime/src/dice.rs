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

/// Returns a random (version 4) UUID.
pub fn uuid() -> Uuid {
    uuid::Builder::from_random_bytes(bytes()).into_uuid()
}

/// Returns the luck for one wait.
pub fn jitter() -> Jitter {
    Jitter::from_bits(u32::from_le_bytes(bytes()))
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
