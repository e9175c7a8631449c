//! `--output json`: the same facts, with stable names.

use serde::Serialize;

use crate::failure::{Failure, Kind};

/// Prints a result as JSON, with a line break at its end.
///
/// # Errors
///
/// Only for a bug: everything that we print can be written as JSON.
pub fn json<T: Serialize>(result: &T) -> Result<String, Failure> {
    let mut text =
        serde_json::to_string_pretty(result).map_err(|error| Failure::of(Kind::OurBug, &error))?;
    text.push('\n');
    Ok(text)
}

/// Prints one of many results as JSON on one line: what is read while it comes.
///
/// # Errors
///
/// As [`json`].
pub fn json_line<T: Serialize>(result: &T) -> Result<String, Failure> {
    let text = serde_json::to_string(result).map_err(|error| Failure::of(Kind::OurBug, &error))?;
    Ok(format!("{text}\n"))
}
