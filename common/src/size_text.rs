//! Sizes as people write them: a number with a unit.

/// Why a text is no size.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidSize {
    #[error(
        "size {0:?} must be a whole number with a unit, such as \"512B\", \"32KiB\", \"10MiB\" or \"1GiB\""
    )]
    Form(String),
    #[error("size {0:?} is more than 64 bits hold")]
    TooLarge(String),
}

/// The units, the largest first.
const UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Parses "512B", "32KiB", "10MiB" or "1GiB" to bytes.
///
/// # Errors
///
/// Refuses a number without a unit, units of a thousand, and what does not fit.
pub fn parse(text: &str) -> Result<u64, InvalidSize> {
    let begin = || text.chars().take(40).collect();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = UNITS.into_iter().find(|(name, _)| *name == unit);
    let Some((_, bytes)) = unit.filter(|_| !number.is_empty()) else {
        return Err(InvalidSize::Form(begin()));
    };
    let number: Option<u64> = number.parse().ok();
    number.and_then(|it| it.checked_mul(bytes)).ok_or_else(|| InvalidSize::TooLarge(begin()))
}

/// Prints a size as [`parse`] reads it, in the largest unit that is exact.
pub fn print(bytes: u64) -> String {
    let exact = |(_, unit): &(&str, u64)| bytes > 0 && bytes.is_multiple_of(*unit);
    let (name, unit) = UNITS.into_iter().find(exact).unwrap_or(("B", 1));
    format!("{}{name}", bytes / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_what_it_parses() {
        for text in ["0B", "1B", "1000B", "8KiB", "1025KiB", "10MiB", "1024GiB"] {
            assert_eq!(print(parse(text).unwrap()), text);
        }
    }

    #[test]
    fn refuses_what_is_ambiguous_or_endless() {
        for bad in
            ["", "5", "B", "-1B", "1.5KiB", "1 KiB", "1KB", "1kb", "1K", "1MiB ", "99999999999GiB"]
        {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
