//! Where what instances and hooks say is kept.

use std::path::PathBuf;

use cutover_common::{ApplicationName, HookKind, Slot};

/// The folder of logs in an agent's data directory.
#[derive(Clone, Debug)]
pub struct LogFiles(PathBuf);

impl LogFiles {
    /// Names the folder in `data_dir`.
    pub fn in_data(data_dir: &std::path::Path) -> Self {
        Self(data_dir.join("logs"))
    }

    /// Returns where the instances of a slot write. They follow each other in it.
    pub fn instance(&self, application: &ApplicationName, slot: Slot) -> PathBuf {
        self.0.join(application.as_str()).join(format!("{slot}.log"))
    }

    /// Returns where the output of the latest run of a hook is kept.
    pub fn hook(&self, application: &ApplicationName, slot: Slot, kind: HookKind) -> PathBuf {
        self.0.join(application.as_str()).join(format!("{slot}.{kind}.log"))
    }
}
