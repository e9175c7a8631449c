//! What `init` decided and `run` needs: the addresses and the names, in `coordinator.json`.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use cutover_runtime::tls::files::{self, Access, ReadFile, WriteFile};
use serde::{Deserialize, Serialize};

const FILE: &str = "coordinator.json";

/// The settings of one data directory.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub listen_agents: SocketAddr,
    pub listen_operators: SocketAddr,
    pub listen_web: SocketAddr,
    /// The name that stands in printed commands.
    pub advertise: String,
}

/// Why settings could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadSettings {
    #[error(
        "{data} holds no coordinator; make one with: cutover-coordinator init --data {data}",
        data = .0.display()
    )]
    Missing(PathBuf),
    #[error("could not read the settings")]
    Read(#[from] ReadFile),
    #[error("the settings in {} are broken; restore the file from a backup", path.display())]
    Broken { path: PathBuf, source: serde_json::Error },
}

impl Settings {
    /// Writes them into `data`.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn write(&self, data: &Path) -> Result<(), WriteFile> {
        files::write(&data.join(FILE), self.to_json().as_bytes(), Access::Everybody)
    }

    fn to_json(&self) -> String {
        let json = serde_json::to_string_pretty(self);
        format!("{}\n", json.expect("settings have string keys only, and memory takes every write"))
    }

    /// Reads those of `data`.
    ///
    /// # Errors
    ///
    /// When there are none, or they are broken.
    pub fn read(data: &Path) -> Result<Self, ReadSettings> {
        let path = data.join(FILE);
        if !path.exists() {
            return Err(ReadSettings::Missing(data.to_owned()));
        }
        let json = files::read_public(&path)?;
        serde_json::from_str(&json).map_err(|source| ReadSettings::Broken { path, source })
    }
}
