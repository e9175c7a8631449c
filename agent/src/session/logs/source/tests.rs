//! That nothing is lost or sent twice, whatever became of the files between two looks.

use std::{fs::OpenOptions, io::Write as _, os::unix::fs::symlink};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;

use super::*;

struct Log {
    _dir: TempDir,
    path: PathBuf,
}

impl Log {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("blue.log");
        Self { _dir: dir, path }
    }

    fn append(&self, text: &str) {
        let file = OpenOptions::new().append(true).create(true).open(&self.path);
        file.unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// As the shim does it.
    fn rotate(&self) {
        let names: Vec<PathBuf> = with_old_files(&self.path).collect();
        for pair in names.windows(2).rev() {
            fs::rename(&pair[0], &pair[1]).ok();
        }
    }

    async fn last(&self, lines: Option<u32>) -> Source {
        Source::at_last(Slot::Blue, self.path.clone(), lines).await.unwrap()
    }

    async fn at_end(&self) -> Source {
        Source::at_end(Slot::Blue, self.path.clone()).await.unwrap()
    }
}

async fn rest(source: &mut Source) -> String {
    let (mut text, mut buffer) = (Vec::new(), [0; 7]);
    loop {
        match source.read(&mut buffer).await.unwrap() {
            0 => return String::from_utf8(text).unwrap(),
            length => text.extend_from_slice(&buffer[..length]),
        }
    }
}

#[tokio::test]
async fn what_was_appended_before_a_rotation_is_read_before_what_came_after() {
    let log = Log::new();
    log.append("1\n");
    let mut source = log.last(None).await;
    assert_eq!(rest(&mut source).await, "1\n");

    log.append("2\n");
    log.rotate();
    assert_eq!(rest(&mut source).await, "2\n", "and nothing is there to go on with");
    log.append("3\n");
    log.rotate();
    log.append("4\n");

    assert_eq!(rest(&mut source).await, "3\n4\n", "of the file between, too");
}

#[tokio::test]
async fn who_falls_behind_goes_on_with_the_oldest_that_is_left() {
    let log = Log::new();
    log.append("0\n");
    let mut source = log.last(None).await;
    for text in ["1\n", "2\n", "3\n"] {
        log.rotate();
        log.append(text);
    }

    assert_eq!(rest(&mut source).await, "0\n1\n2\n3\n");
}

#[tokio::test]
async fn lines_that_the_file_lacks_are_taken_from_the_ones_put_aside() {
    let log = Log::new();
    log.append("1\n2\n");
    log.rotate();
    log.append("3\n4\n");
    log.rotate();
    // In the middle of a rotation.
    assert_eq!(rest(&mut log.last(Some(3)).await).await, "2\n3\n4\n");
    log.append("5\n6");

    for (lines, expected) in [
        (0, ""),
        (1, "6"),
        (2, "5\n6"),
        (3, "4\n5\n6"),
        (5, "2\n3\n4\n5\n6"),
        (99, "1\n2\n3\n4\n5\n6"),
    ] {
        assert_eq!(rest(&mut log.last(Some(lines)).await).await, expected, "{lines}");
    }
}

#[tokio::test]
async fn of_lines_without_an_end_no_more_is_read_than_fits_into_memory() {
    let log = Log::new();
    let long = "x".repeat(usize::try_from(TAIL_BYTES_MAX).unwrap() + 10);
    log.append(&long);
    log.rotate();
    log.append("1\n");

    let mut source = log.last(Some(5)).await;
    let mut buffer = vec![0; 4096];
    let mut length = 0;
    while let read @ 1.. = source.read(&mut buffer).await.unwrap() {
        length += read as u64;
    }
    assert_eq!(length, TAIL_BYTES_MAX);
}

#[tokio::test]
async fn from_the_end_only_what_is_written_later_is_read() {
    let log = Log::new();
    let mut early = log.at_end().await;
    assert_eq!(rest(&mut early).await, "");
    log.append("1\n");
    let mut late = log.at_end().await;
    log.append("2\n");

    assert_eq!(rest(&mut early).await, "1\n2\n");
    assert_eq!(rest(&mut late).await, "2\n");
}

#[tokio::test]
async fn a_file_that_somebody_emptied_is_read_from_its_beginning() {
    let log = Log::new();
    log.append("long\n");
    let mut source = log.last(None).await;
    assert_eq!(rest(&mut source).await, "long\n");

    fs::write(&log.path, "1\n").unwrap();

    assert_eq!(rest(&mut source).await, "1\n");
}

#[tokio::test]
async fn a_link_is_not_followed_and_a_pipe_holds_nobody() {
    let log = Log::new();
    let secret = log.path.with_file_name("secret");
    fs::write(&secret, "secret\n").unwrap();
    symlink(&secret, &log.path).unwrap();
    for lines in [None, Some(3)] {
        let opened = Source::at_last(Slot::Blue, log.path.clone(), lines).await;
        assert!(opened.is_err());
    }

    fs::remove_file(&log.path).unwrap();
    mknodat(CWD, &log.path, FileType::Fifo, Mode::RWXU, 0).unwrap();
    let Err(error) = Source::at_last(Slot::Blue, log.path.clone(), None).await else { panic!() };
    assert!(error.to_string().ends_with("blue.log is no regular file"), "{error}");
}
