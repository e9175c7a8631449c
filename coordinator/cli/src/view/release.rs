//! Releases.

use serde::Serialize;

use crate::text::Text;

/// One release that the coordinator holds.
#[derive(Clone, Debug, Serialize)]
pub struct Release {
    pub application: Text,
    pub version: Text,
    pub digest: Text,
    pub size_bytes: u64,
    pub archive_size_bytes: u64,
    pub pushed_unix_ms: u64,
    pub pushed_by: Text,
}

/// A release that was pushed.
#[derive(Clone, Debug, Serialize)]
pub struct Pushed {
    pub application: Text,
    pub version: Text,
    pub digest: Text,
    pub size_bytes: u64,
    pub archive_size_bytes: u64,
    /// The same content was there already under this version.
    pub already_there: bool,
}
