//! Lines of an application's output that say error, counted while they are copied to its log.
//!
//! A line says error if a level such as `ERROR` or `FATAL` stands in its first 512 bytes as a word
//! of its own: in capitals (`2026-08-01 12:00:00 ERROR pool is empty`), or in any letters where it
//! cannot be anything but a level (`[error]`, `level=error`, `"level": "error"`). The lines of a
//! trace that follow it are no more errors. Whoever writes no levels has none.
//!
//! How many there were is in a file of the instance's folder, which agents read. It is never
//! synced: it counts for as long as the instance runs, which ends with the host.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

use super::files::read_capped;

/// How many lines said error. Written by the shim.
const ERROR_LINES_FILE: &str = "error-lines";

/// What a line is called that somebody should look at: by syslog's grandchildren, by Java, by
/// Postgres and by Go.
const LEVELS: [&[u8]; 5] = [b"ERROR", b"FATAL", b"CRITICAL", b"SEVERE", b"PANIC"];

/// What a level is the value of.
const KEYS: [&[u8]; 3] = [b"level", b"severity", b"lvl"];

/// How much of a line is looked at. A level stands behind a time and a name, or among the first
/// fields of an object; looking further would find it in what the line is about.
const HEAD_BYTES: usize = 512;

/// Twice twenty digits, a space and a line feed.
const FILE_BYTES_MAX: u64 = 42;

const ESCAPE: u8 = 0x1b;

/// Counts the lines that say error.
#[derive(Debug)]
pub(super) struct ErrorLines {
    /// The beginning of the line that has not ended yet.
    head: Vec<u8>,
    lines: u64,
    /// None: the disk refused, and nobody will know.
    file: Option<File>,
}

impl ErrorLines {
    /// Begins with none. Says so in `dir`, or leaves it unknown.
    pub(super) fn begin(dir: &Path) -> Self {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(dir.join(ERROR_LINES_FILE));
        let mut lines = Self { head: Vec::with_capacity(HEAD_BYTES), lines: 0, file: file.ok() };
        lines.tell();
        lines
    }

    /// Takes what the application said next.
    pub(super) fn take(&mut self, said: &[u8]) {
        let before = self.lines;
        for part in said.split_inclusive(|byte| *byte == b'\n') {
            let line = part.strip_suffix(b"\n");
            if let Some(line) = line.filter(|_| self.head.is_empty()) {
                self.count(&line[..line.len().min(HEAD_BYTES)]);
                continue;
            }
            let room = HEAD_BYTES - self.head.len();
            self.head.extend(&part[..part.len().min(room)]);
            if line.is_some() {
                self.end_line();
            }
        }
        if self.lines != before {
            self.tell();
        }
    }

    /// Counts a last line that has no end.
    pub(super) fn finish(mut self) {
        self.end_line();
        self.tell();
    }

    fn end_line(&mut self) {
        let head = std::mem::take(&mut self.head);
        self.count(&head);
        self.head = head;
        self.head.clear();
    }

    fn count(&mut self, head: &[u8]) {
        self.lines += u64::from(says_error(head));
    }

    /// Writes the number twice: who reads while it is written may find a part of each number, and
    /// then sees that they differ.
    fn tell(&mut self) {
        let text = format!("{0:020} {0:020}\n", self.lines);
        if self.file.as_ref().is_some_and(|file| file.write_all_at(text.as_bytes(), 0).is_err()) {
            // A number that is not true any more is none.
            self.file = self.file.take().filter(|file| file.set_len(0).is_ok());
        }
    }
}

/// Returns how many lines of an instance said error so far. None: that is not known.
///
/// # Errors
///
/// When the file cannot be read.
pub fn read_error_lines(dir: &Path) -> io::Result<Option<u64>> {
    let bytes = match read_capped(&dir.join(ERROR_LINES_FILE), FILE_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let text = str::from_utf8(&bytes).unwrap_or_default();
    let numbers = text.trim_end().split_once(' ').filter(|(one, other)| one == other);
    Ok(numbers.and_then(|(number, _)| number.parse().ok()))
}

fn says_error(head: &[u8]) -> bool {
    let mut at = 0;
    while let Some(byte) = head.get(at) {
        if *byte == ESCAPE {
            at = after_escape(head, at);
            continue;
        }
        let length = head[at..].iter().take_while(|byte| is_of_word(**byte)).count();
        let (before, rest) = head.split_at(at);
        let (word, after) = rest.split_at(length);
        if is_level(word) && (is_capitals(word) || is_a_value(before, after)) {
            return true;
        }
        at += length.max(1);
    }
    false
}

fn is_level(word: &[u8]) -> bool {
    LEVELS.iter().any(|level| word.eq_ignore_ascii_case(level))
}

fn is_capitals(word: &[u8]) -> bool {
    word.iter().all(u8::is_ascii_uppercase)
}

/// Returns whether a word between `before` and `after` can only be a line's level.
fn is_a_value(before: &[u8], after: &[u8]) -> bool {
    if before.ends_with(b"[") && after.starts_with(b"]") {
        return true;
    }
    let is_quote = |byte: &u8| matches!(byte, b'"' | b'\'' | b' ');
    let end = |text: &[u8]| text.len() - text.iter().rev().take_while(|it| is_quote(it)).count();
    let before = &before[..end(before)];
    let Some(before) = before.strip_suffix(b"=").or_else(|| before.strip_suffix(b":")) else {
        return false;
    };
    let key = &before[..end(before)];
    KEYS.iter().any(|it| {
        let from = key.len().checked_sub(it.len());
        from.is_some_and(|from| key[from..].eq_ignore_ascii_case(it))
    })
}

/// Bytes beyond ASCII are letters of some language.
fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

/// Colours are no part of a word: `ESC [`, parameters, and a byte that ends them (ECMA-48).
fn after_escape(head: &[u8], at: usize) -> usize {
    let Some(parameters) = head.get(at + 1).filter(|byte| **byte == b'[').map(|_| at + 2) else {
        return at + 1;
    };
    let length = head[parameters..].iter().take_while(|byte| !(0x40..=0x7e).contains(*byte));
    parameters + length.count() + 1
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_line_says_error_by_its_level() {
        for line in [
            "ERROR pool is empty",
            "2026-08-01 12:00:00,123 ERROR [main] c.e.Shop - pool is empty",
            "CRITICAL:root:pool is empty",
            "2026-08-01 12:00:00 UTC [71] FATAL:  the database system is starting up",
            "Aug 01, 2026 SEVERE: pool is empty",
            "2026/08/01 12:00:00 [error] 31#31: *1 connect() failed",
            r#"{"level":"error","msg":"pool is empty"}"#,
            r#"{"time":"12:00","severity": "fatal"}"#,
            r#"{"log.level":"error"}"#,
            "time=12:00 level=error msg=x",
            "level=ERROR msg=x",
            "\u{1b}[2m2026-08-01\u{1b}[0m \u{1b}[31mERROR\u{1b}[0m shop: pool is empty",
            "PANIC: could not write",
        ] {
            assert!(says_error(line.as_bytes()), "{line}");
        }
    }

    #[test]
    fn what_a_line_is_about_is_no_level() {
        for line in [
            "",
            "INFO no errors",
            "INFO 0 errors, and no error at all",
            r#"{"level":"info","error":null}"#,
            r#"{"level":"info","msg":"error"}"#,
            "GET /error 200",
            "level=info error=none",
            "ERRORS=0 NO_ERROR ERROR_CODE LAST_ERROR",
            "TERROR ERROREN \u{c4}ERROR",
            "    at java.lang.Error.<init>(Error.java)",
            "\u{1b}[31",
            "\u{1b}",
            "=error",
            "level",
        ] {
            assert!(!says_error(line.as_bytes()), "{line}");
        }
    }

    #[test]
    fn lines_are_counted_however_they_come() {
        let text = "ERROR a\ninfo\n\nERROR b\nlevel=error c\nERROR without an end";
        for size in [1, 2, 3, 7, 100] {
            let dir = tempfile::tempdir().unwrap();
            let mut lines = ErrorLines::begin(dir.path());
            assert_eq!(read_error_lines(dir.path()).unwrap(), Some(0));

            for part in text.as_bytes().chunks(size) {
                lines.take(part);
            }

            assert_eq!(read_error_lines(dir.path()).unwrap(), Some(3), "by {size}");
            lines.finish();
            assert_eq!(read_error_lines(dir.path()).unwrap(), Some(4), "by {size}");
        }
    }

    #[test]
    fn a_line_without_end_is_looked_at_no_further_than_its_head() {
        let dir = tempfile::tempdir().unwrap();
        let mut lines = ErrorLines::begin(dir.path());

        for _ in 0..1_000 {
            lines.take(&[b' '; 1_000]);
        }
        lines.take(b" ERROR\n");
        assert_eq!((lines.lines, lines.head.capacity()), (0, HEAD_BYTES));
        lines.take(&[[b' '; 600].as_slice(), b" ERROR\n ERROR\n"].concat());

        assert_eq!(lines.lines, 1);
    }

    #[test]
    fn a_number_that_is_being_written_is_not_known() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_error_lines(dir.path()).unwrap(), None);
        let path = dir.path().join(ERROR_LINES_FILE);
        for text in ["", "100 099\n", "x x\n", "5"] {
            fs::write(&path, text).unwrap();
            assert_eq!(read_error_lines(dir.path()).unwrap(), None, "{text}");
        }
        fs::write(&path, "x".repeat(100)).unwrap();
        assert!(read_error_lines(dir.path()).is_err());
    }

    #[test]
    fn where_the_disk_refuses_nobody_knows_and_nothing_stops() {
        let dir = tempfile::tempdir().unwrap();
        let mut lines = ErrorLines::begin(&dir.path().join("none"));

        lines.take(b"ERROR\n");

        lines.finish();
        assert_eq!(read_error_lines(&dir.path().join("none")).unwrap(), None);
    }
}
