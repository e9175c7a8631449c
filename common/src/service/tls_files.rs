//! TLS files: where on each host a service's certificate and key are.

use serde::{Deserialize, Serialize};

/// Where a certificate chain and its private key are, in PEM, on each host. Only their paths are
/// part of a release: a key never travels.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct TlsFiles {
    /// The chain, the server's own certificate first.
    pub certificate: String,
    /// The private key.
    pub key: String,
}

/// Why a text is no path of a file on a host.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidHostPath {
    #[error("no absolute path of a file")]
    NotAbsolute,
    #[error("{0} bytes long; paths have at most {BYTES_MAX}")]
    TooLong(usize),
    #[error("a path with control characters")]
    Characters,
}

/// Linux' own bound (`PATH_MAX`), with its last NUL.
const BYTES_MAX: usize = 4095;

impl TlsFiles {
    /// Judges one path.
    ///
    /// # Errors
    ///
    /// Refuses what is no absolute path of a file.
    pub fn check_path(path: &str) -> Result<(), InvalidHostPath> {
        if !path.starts_with('/') || path.ends_with('/') {
            return Err(InvalidHostPath::NotAbsolute);
        }
        if path.len() > BYTES_MAX {
            return Err(InvalidHostPath::TooLong(path.len()));
        }
        if path.chars().any(char::is_control) {
            return Err(InvalidHostPath::Characters);
        }
        Ok(())
    }
}
