//! Durations as people write them: a number with a unit.

use std::time::Duration;

/// Why a text is no duration.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidDuration {
    #[error(
        "duration {0:?} must be a whole number with a unit, such as \"500ms\", \"30s\", \"5m\" or \"2h\""
    )]
    Form(String),
    #[error("duration {0:?} is longer than 24h")]
    TooLong(String),
}

/// The longest duration that any setting takes (promises.md §4 row 13).
pub const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Parses "500ms", "30s", "5m", "2h" or "0s".
///
/// # Errors
///
/// Refuses a number without a unit, and anything longer than [`LONGEST`].
pub fn parse(text: &str) -> Result<Duration, InvalidDuration> {
    let form = || InvalidDuration::Form(text.chars().take(40).collect());
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(form()),
    };
    if number.is_empty() {
        return Err(form());
    }
    let too_long = || InvalidDuration::TooLong(text.chars().take(40).collect());
    let number: u64 = number.parse().map_err(|_| too_long())?;
    let duration = Duration::from_millis(number.checked_mul(unit_ms).ok_or_else(too_long)?);
    if duration > LONGEST { Err(too_long()) } else { Ok(duration) }
}

/// Prints a duration as [`parse`] reads it, in the largest unit that is exact.
pub fn print(duration: Duration) -> String {
    let ms = duration.as_millis();
    match ms {
        0 => "0s".to_owned(),
        _ if ms.is_multiple_of(3_600_000) => format!("{}h", ms / 3_600_000),
        _ if ms.is_multiple_of(60_000) => format!("{}m", ms / 60_000),
        _ if ms.is_multiple_of(1_000) => format!("{}s", ms / 1_000),
        _ => format!("{ms}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_what_it_parses() {
        for text in ["0s", "500ms", "30s", "90s", "5m", "2h", "24h"] {
            assert_eq!(print(parse(text).unwrap()), text);
        }
    }

    #[test]
    fn refuses_what_is_ambiguous_or_endless() {
        for bad in ["", "5", "s", "-1s", "1.5s", "1 s", "1d", "1s ", "99999999999999999999s", "25h"]
        {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
