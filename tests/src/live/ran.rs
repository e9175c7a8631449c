//! Programs that are run to their end.

use std::process::{Command, Stdio};

/// What a command did.
#[derive(Clone, Debug)]
pub struct Ran {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Returns what was printed.
    ///
    /// # Panics
    ///
    /// When the command failed.
    #[track_caller]
    pub fn done(self) -> String {
        assert!(self.status == 0, "exit status {}: {}{}", self.status, self.stderr, self.stdout);
        self.stdout
    }

    /// Returns what was said on stderr.
    ///
    /// # Panics
    ///
    /// When the command ended with another status.
    #[track_caller]
    pub fn failed_with(self, status: i32) -> String {
        assert!(
            self.status == status,
            "exit status {}: {}{}",
            self.status,
            self.stderr,
            self.stdout
        );
        self.stderr
    }
}

/// Runs `command` to its end.
///
/// # Panics
///
/// When it cannot be started.
pub fn run(command: &mut Command) -> Ran {
    let output = command.stdin(Stdio::null()).output().expect("the program can be started");
    Ran {
        status: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
