//! Which bug, if any, is planted in the cores of a command's runs.

#[cfg(feature = "planted-bugs")]
use cutover_common::planted::{Bug, plant};

/// The bug that is planted. Without the feature there is none.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(super) struct Planted {
    /// Plant this bug in the cores first
    #[cfg(feature = "planted-bugs")]
    #[arg(long, value_name = "NAME")]
    bug: Option<Bug>,
}

impl Planted {
    #[cfg(feature = "planted-bugs")]
    pub(super) const fn with(bug: Bug) -> Self {
        Self { bug: Some(bug) }
    }

    /// Returns whether there is one.
    pub(super) const fn is_any(self) -> bool {
        #[cfg(feature = "planted-bugs")]
        return self.bug.is_some();
        #[cfg(not(feature = "planted-bugs"))]
        false
    }

    /// Plants it on this thread, for all runs from here on.
    pub(super) fn plant(self) {
        #[cfg(feature = "planted-bugs")]
        plant(self.bug);
    }

    /// Returns the command that runs `what` again.
    pub(super) fn command(self, what: &str) -> String {
        #[cfg(feature = "planted-bugs")]
        if let Some(bug) = self.bug {
            return format!(
                "cargo run -p cutover-sim --features planted-bugs -- {what} --bug {bug}"
            );
        }
        format!("cargo run -p cutover-sim -- {what}")
    }
}
