//! Sticky: what keeps a client at one instance while two get traffic.

use serde::{Deserialize, Serialize};

/// What keeps a client at one instance.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Sticky {
    /// The value of the cookie of this name. A client without it is given one by the gate.
    Cookie(String),
    /// The value of the header of this name. Requests without it go anywhere.
    Header(String),
}

/// Why a name cannot keep a client.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidSticky {
    #[error("{0:?} is no name of 1 to {NAME_MAX} letters, digits, hyphens, underscores")]
    Form(String),
    #[error("header {0:?} belongs to the connection or to the gate")]
    Reserved(String),
}

/// The longest name of a header or cookie.
const NAME_MAX: usize = 64;

/// Headers that cannot keep a client or let it through: they are taken off on the way.
const RESERVED: [&str; 10] = [
    "connection",
    "content-length",
    "cutover-gate-hop",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

impl Sticky {
    /// Judges the name.
    ///
    /// # Errors
    ///
    /// Refuses what is no name, and headers that do not reach an instance.
    pub fn check(&self) -> Result<(), InvalidSticky> {
        match self {
            Self::Cookie(name) => check_token(name),
            Self::Header(name) => check_header(name),
        }
    }
}

/// Judges the name of a header that the gate is to look at.
///
/// # Errors
///
/// Refuses what is no name, and headers that do not reach an instance.
pub fn check_header(name: &str) -> Result<(), InvalidSticky> {
    check_token(name)?;
    if RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(name)) {
        return Err(InvalidSticky::Reserved(name.to_owned()));
    }
    Ok(())
}

fn check_token(name: &str) -> Result<(), InvalidSticky> {
    let is_inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if !name.is_empty() && name.len() <= NAME_MAX && name.bytes().all(is_inner) {
        return Ok(());
    }
    Err(InvalidSticky::Form(name.chars().take(NAME_MAX).collect()))
}
