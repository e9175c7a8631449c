//! What a test has to say beside its verdict: why it was skipped, a seed, how long something took.

use std::io::Write as _;

/// Says `line` where the test's output is: shown when it fails, or when somebody asks for it.
pub fn say(line: &str) {
    // Nobody is left to tell when it is closed.
    drop(writeln!(std::io::stderr(), "{line}"));
}
