//! Waits for a level, with a deadline and a reason. Never for luck.

use std::time::{Duration, Instant};

/// How often a level is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Looks until `look` returns something.
///
/// # Panics
///
/// When `within` has passed; the message says what was awaited.
pub fn wait_for<T>(what: &str, within: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {within:?} in vain for: {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}
