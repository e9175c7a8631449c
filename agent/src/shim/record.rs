//! The files through which an agent and a shim know of each other, all in one instance's folder.
//!
//! A shim may be older than the agent that reads its files, or younger: fields are added, never
//! renamed or removed.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use cutover_common::{Timestamp, VariableName};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use uuid::Uuid;

use super::files::{read_capped, write_durably};
use crate::process::identity::ProcessMark;

/// What is to be started. Written by the agent before it starts the shim.
pub const SPEC_FILE: &str = "spec.json";
/// Which process the shim is. Written by it before it starts the application.
pub const SHIM_FILE: &str = "shim.json";
/// Which process the application is. Written by the shim after it started it.
pub const STATE_FILE: &str = "state.json";
/// How the application ended. Written by the shim.
pub const EXIT_FILE: &str = "exit.json";
/// Held by the shim for as long as it lives: there is never a second one.
pub const LOCK_FILE: &str = "lock";
/// What the shim itself has to complain about.
pub const SHIM_LOG_FILE: &str = "shim.log";

/// Set in the environment of the application and so of all that it starts: a further proof of
/// whose they are, and the only one that outlives the shim.
pub const INSTANCE_VARIABLE: &str = "CUTOVER_INSTANCE";

/// A spec holds an argv and an environment, which the kernel limits to 2 MiB together (execve(2));
/// JSON may escape a part of it.
const RECORD_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What a shim is to start, and where its output goes.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct Spec {
    pub instance: Uuid,
    /// argv. Its first element is relative to `directory` if it holds a slash, and looked up in
    /// [`super::program::PATH`] otherwise.
    pub command: Vec<String>,
    /// The whole environment; nothing is inherited.
    pub env: BTreeMap<String, String>,
    /// What is in the environment besides, by the files that hold the values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<VariableName, PathBuf>,
    pub directory: PathBuf,
    pub log: LogSpec,
}

/// How many old files a log has: of 30 MiB at most, two and the one that is written.
pub const OLD_FILES_MAX: u32 = 2;

/// Where an application's output goes, and how much of it is kept.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct LogSpec {
    /// Old ones are kept beside it as `PATH.1`, `PATH.2` and so on.
    pub path: PathBuf,
    pub file_size_bytes_max: u64,
    pub old_files_max: u32,
}

impl LogSpec {
    /// Makes a log of 30 MiB at most: three files of 10 MiB, the cap that promises.md §3 row 97
    /// sets for one file.
    pub const fn at(path: PathBuf) -> Self {
        Self { path, file_size_bytes_max: 10 * 1024 * 1024, old_files_max: OLD_FILES_MAX }
    }
}

/// Which process the application is, and which its shim.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct StateRecord {
    pub instance: Uuid,
    pub application: ProcessMark,
    pub shim: ProcessMark,
}

/// How an instance ended.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct ExitRecord {
    pub cause: ExitCause,
    /// By the host's wall clock.
    pub at: Timestamp,
}

/// Why an instance runs no more.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitCause {
    /// It exited with this status.
    Exited(i32),
    /// This signal ended it.
    Signalled(i32),
    /// It was never started; the text says why.
    SpawnError(String),
}

impl std::fmt::Display for ExitCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "exited with status {status}"),
            Self::Signalled(9) => f.write_str("was killed (signal 9)"),
            Self::Signalled(signal) => write!(f, "was ended by signal {signal}"),
            Self::SpawnError(text) => f.write_str(text),
        }
    }
}

/// Reads a record, or None when it is not there.
///
/// # Errors
///
/// When it cannot be read or is not what it should be.
pub fn read_record<T: DeserializeOwned>(dir: &Path, file: &str) -> io::Result<Option<T>> {
    match read_capped(&dir.join(file), RECORD_BYTES_MAX) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a record so that it is on disk, whole, once this returned.
///
/// # Errors
///
/// When the disk refuses.
pub fn write_record<T: Serialize>(dir: &Path, file: &str, record: &T) -> io::Result<()> {
    write_durably(&dir.join(file), &serde_json::to_vec(record)?)
}
