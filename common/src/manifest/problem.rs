//! What is wrong with one value: half of a mistake, before anybody knows where it is.

use std::{ops::RangeInclusive, time::Duration};

use crate::{InvalidSetting, duration_text, pace::echo, size_text};

/// What is wrong, and what to write instead.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) problem: String,
    pub(super) instead: String,
}

impl Problem {
    pub(super) fn new(problem: impl Into<String>, instead: impl Into<String>) -> Self {
        Self { problem: problem.into(), instead: instead.into() }
    }
}

impl From<InvalidSetting> for Problem {
    fn from(error: InvalidSetting) -> Self {
        Self::new(error.problem(), error.instead())
    }
}

/// Parses a duration that must lie in `range`.
pub(super) fn duration_in(
    text: &str,
    range: &RangeInclusive<Duration>,
) -> Result<Duration, Problem> {
    let (shortest, longest) =
        (duration_text::print(*range.start()), duration_text::print(*range.end()));
    let instead = format!("write a duration from \"{shortest}\" to \"{longest}\"");
    match duration_text::parse(text) {
        Ok(duration) if range.contains(&duration) => Ok(duration),
        Ok(duration) if duration < *range.start() => {
            Err(Problem::new(format!("{} is too short", echo(text)), instead))
        }
        Ok(_) | Err(duration_text::InvalidDuration::TooLong(_)) => {
            Err(Problem::new(format!("{} is too long", echo(text)), instead))
        }
        Err(duration_text::InvalidDuration::Form(_)) => Err(Problem::new(
            format!("{} is no duration", echo(text)),
            "write a whole number with a unit, such as \"500ms\", \"30s\", \"5m\" or \"2h\"",
        )),
    }
}

/// Parses a size that must lie in `range`.
pub(super) fn size_in(text: &str, range: &RangeInclusive<u64>) -> Result<u64, Problem> {
    let (smallest, largest) = (size_text::print(*range.start()), size_text::print(*range.end()));
    let instead = format!("write a size from \"{smallest}\" to \"{largest}\"");
    match size_text::parse(text) {
        Ok(size) if range.contains(&size) => Ok(size),
        Ok(size) if size < *range.start() => {
            Err(Problem::new(format!("{} is too small", echo(text)), instead))
        }
        Ok(_) | Err(size_text::InvalidSize::TooLarge(_)) => {
            Err(Problem::new(format!("{} is too large", echo(text)), instead))
        }
        Err(size_text::InvalidSize::Form(_)) => Err(Problem::new(
            format!("{} is no size", echo(text)),
            "write a whole number with a unit, such as \"32KiB\", \"10MiB\" or \"1GiB\"",
        )),
    }
}
