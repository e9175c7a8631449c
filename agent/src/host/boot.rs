//! The kernel's boot id, and the time since: a pid means nothing outside the boot that gave it.

use std::{io, path::Path, time::Duration};

use crate::shim::files::read_capped;

/// A boot id is a UUID and a line feed, 37 bytes.
const BOOT_ID_BYTES_MAX: u64 = 64;

/// Two decimal numbers.
const UPTIME_BYTES_MAX: u64 = 128;

/// Returns the kernel's random id of this boot.
///
/// # Errors
///
/// When `/proc` is not mounted.
pub fn boot_id() -> io::Result<String> {
    let bytes = read_capped(Path::new("/proc/sys/kernel/random/boot_id"), BOOT_ID_BYTES_MAX)?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// Returns how long ago the kernel booted, the time it slept included, to a hundredth of a second.
/// Unlike the monotonic clock of one program it can be compared across programs.
///
/// # Errors
///
/// When `/proc` is not mounted.
pub fn since_boot() -> io::Result<Duration> {
    let bytes = read_capped(Path::new("/proc/uptime"), UPTIME_BYTES_MAX)?;
    parse_uptime(&String::from_utf8_lossy(&bytes))
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/uptime is not understood"))
}

fn parse_uptime(text: &str) -> Option<Duration> {
    let (seconds, hundredths) = text.split_ascii_whitespace().next()?.split_once('.')?;
    let hundredths: u64 = hundredths.parse().ok()?;
    Some(Duration::from_secs(seconds.parse().ok()?) + Duration::from_millis(hundredths * 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_since_boot_is_read_without_a_float_and_grows() {
        assert_eq!(parse_uptime("1234.56 99.0\n"), Some(Duration::from_millis(1_234_560)));
        assert_eq!(parse_uptime("x"), None);
        let first = since_boot().unwrap();
        assert!(first > Duration::ZERO && since_boot().unwrap() >= first);
    }

    #[test]
    fn the_boot_id_is_a_uuid_and_does_not_change() {
        let first = boot_id().unwrap();

        assert!(uuid::Uuid::try_parse(&first).is_ok(), "{first}");
        assert_eq!(first, boot_id().unwrap());
    }
}
