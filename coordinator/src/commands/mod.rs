//! What the daemon's commands do and print.

mod init;
mod secrets;
mod upkeep;

pub use init::init;
pub use secrets::forget_secrets;
pub use upkeep::{backup, check, restore};

use std::io::Write;

/// Why a command ended badly: its message, and the exit status.
#[derive(Debug)]
pub struct Failure {
    pub text: String,
    pub status: u8,
}

impl Failure {
    pub(crate) fn of(error: &dyn std::error::Error) -> Self {
        Self { text: cutover_common::ErrorChain(error).to_string(), status: 1 }
    }
}

/// Prints a result for the person, or the script, that asked.
pub(crate) fn say(text: &str) {
    // Whoever closed our output does not want to read it.
    drop(writeln!(std::io::stdout(), "{text}"));
}
