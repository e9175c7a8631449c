//! The request log: when each request was begun and ended, by the clock that all processes of a
//! machine share (`CLOCK_MONOTONIC`), so that the logs of several can be compared.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::time::{ClockId, clock_gettime};

/// A file that gets two lines for each request: `VERSION NUMBER begun NANOSECONDS` before anything
/// is done for it, and `ended` when its answer is made and not yet sent.
#[derive(Debug)]
pub(crate) struct RequestLog {
    version: String,
    file: File,
    last: AtomicU64,
}

impl RequestLog {
    /// Opens the log at `path`, which may be there already.
    ///
    /// # Errors
    ///
    /// Returns what the system refused.
    pub(crate) fn open(path: &Path, version: &str) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self { version: version.to_owned(), file, last: AtomicU64::new(0) })
    }

    /// Notes that a request is begun, and returns its number.
    ///
    /// # Errors
    ///
    /// Returns what the disk refused.
    pub(crate) fn begin(&self) -> io::Result<u64> {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        self.note(number, "begun")?;
        Ok(number)
    }

    /// Notes that the answer to request `number` is made.
    ///
    /// # Errors
    ///
    /// Returns what the disk refused.
    pub(crate) fn end(&self, number: u64) -> io::Result<()> {
        self.note(number, "ended")
    }

    /// One write, so that lines of several threads do not mix.
    fn note(&self, number: u64, what: &str) -> io::Result<()> {
        let now = clock_gettime(ClockId::Monotonic);
        let line = format!("{} {number} {what} {}{:09}\n", self.version, now.tv_sec, now.tv_nsec);
        (&self.file).write_all(line.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_request_has_two_lines_in_the_order_of_the_clock() {
        let path = std::env::temp_dir().join(format!("cutover-request-log-{}", std::process::id()));
        let log = RequestLog::open(&path, "1.10").unwrap();

        let first = log.begin().unwrap();
        let second = log.begin().unwrap();
        log.end(second).unwrap();
        log.end(first).unwrap();

        let text = fs::read_to_string(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(' ').collect()).collect();
        let heads: Vec<String> = lines.iter().map(|words| words[..3].join(" ")).collect();
        assert_eq!(heads, ["1.10 1 begun", "1.10 2 begun", "1.10 2 ended", "1.10 1 ended"]);
        let times: Vec<u64> = lines.iter().map(|words| words[3].parse().unwrap()).collect();
        assert!(times.is_sorted(), "{times:?}");
    }
}
