//! What is sent of a log: the last lines, all of it, and what is written while somebody reads.

use std::{fs, io::Write as _};

use cutover_common::HookKind;
use tempfile::TempDir;
use tokio::time::timeout;

use super::*;

/// Longer than anything here takes on a busy machine.
const LONG: Duration = Duration::from_secs(20);

fn query(lines: Option<u32>, follow: bool) -> LogQuery {
    LogQuery { application: "web".parse().unwrap(), slot: None, hook: None, lines, follow }
}

/// A host with these logs; the last one was written last.
fn host(logs: &[(&str, &str)]) -> (TempDir, LogFiles) {
    let data = tempfile::tempdir().unwrap();
    fs::create_dir_all(data.path().join("logs/web")).unwrap();
    for (number, (name, text)) in logs.iter().enumerate() {
        let path = data.path().join("logs/web").join(name);
        fs::write(&path, text).unwrap();
        let written = std::time::UNIX_EPOCH + Duration::from_secs(1_000 + number as u64);
        fs::File::options().write(true).open(&path).unwrap().set_modified(written).unwrap();
    }
    let files = LogFiles::in_data(data.path());
    (data, files)
}

fn reader() -> (Reader, mpsc::Receiver<pb::LogPiece>) {
    let (pieces, received) = mpsc::channel(64);
    (Reader { id: Uuid::nil(), pieces }, received)
}

async fn all(files: &LogFiles, query: LogQuery) -> (String, String, String) {
    let (reader, mut pieces) = reader();
    reader.read(files, query).await;
    drop(reader);
    let (mut slot, mut text, mut trouble) = (String::new(), Vec::new(), String::new());
    while let Some(piece) = pieces.recv().await {
        slot = piece.slot;
        text.extend(piece.data);
        trouble.push_str(&piece.trouble);
    }
    (slot, String::from_utf8(text).unwrap(), trouble)
}

#[tokio::test]
async fn the_last_lines_of_the_log_that_was_written_last_are_sent() {
    let (_data, files) = host(&[("green.log", "old\n"), ("blue.log", "1\n2\n3\n4")]);

    for (lines, expected) in
        [(None, "1\n2\n3\n4"), (Some(1), "4"), (Some(2), "3\n4"), (Some(99), "1\n2\n3\n4")]
    {
        let (slot, text, trouble) = all(&files, query(lines, false)).await;
        assert_eq!((slot.as_str(), text.as_str(), trouble.as_str()), ("blue", expected, ""));
    }
    let of_green = LogQuery { slot: Some(Slot::Green), ..query(None, false) };
    assert_eq!(all(&files, of_green).await.1, "old\n");
}

#[tokio::test]
async fn what_a_hook_said_is_sent_and_what_is_not_there_is_told() {
    let (_data, files) = host(&[("green.smoke.log", "said\n")]);
    let of = |hook| LogQuery { hook: Some(hook), ..query(None, false) };

    assert_eq!(all(&files, of(HookKind::Smoke)).await.1, "said\n");
    let (_, text, trouble) = all(&files, of(HookKind::Install)).await;
    assert_eq!((text.as_str(), trouble.as_str()), ("", "no output of install of web is kept"));
    assert_eq!(all(&files, query(None, false)).await.2, "no log of web is kept");
}

#[tokio::test]
async fn a_log_is_followed_across_its_rotation_until_nobody_reads() {
    let (data, files) = host(&[("blue.log", "1\n")]);
    let path = data.path().join("logs/web/blue.log");
    let (reader, mut pieces) = reader();
    let reading = tokio::spawn(async move { reader.read(&files, query(None, true)).await });
    let mut text = String::new();
    let mut until = async |end: &str| {
        while !text.ends_with(end) {
            let piece = pieces.recv().await.expect("the reader goes on");
            text.push_str(std::str::from_utf8(&piece.data).unwrap());
        }
    };
    until("1\n").await;
    writeln!(fs::File::options().append(true).open(&path).unwrap(), "2").unwrap();
    until("2\n").await;
    fs::rename(&path, path.with_extension("log.1")).unwrap();
    fs::write(&path, "3\n").unwrap();
    until("3\n").await;

    drop(pieces);
    reading.await.unwrap();
    assert_eq!(text, "1\n2\n3\n");
}

#[tokio::test]
async fn a_deploy_into_the_other_slot_is_followed_without_losing_the_end_of_the_one_before() {
    let (data, files) = host(&[("green.log", "of an earlier deploy\n"), ("blue.log", "1\n")]);
    let (reader, mut pieces) = reader();
    let reading = tokio::spawn(async move { reader.read(&files, query(None, true)).await });
    let mut said = Vec::new();
    let mut until = async |slot: &str, text: &str| {
        while !said.contains(&(slot.to_owned(), text.to_owned())) {
            let piece = timeout(LONG, pieces.recv()).await.expect("it is followed");
            let piece = piece.expect("the reader goes on");
            if !piece.data.is_empty() {
                said.push((piece.slot, String::from_utf8(piece.data).unwrap()));
            }
        }
    };
    let append = |name: &str, text: &str| {
        let path = data.path().join("logs/web").join(name);
        fs::File::options().append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    };
    until("blue", "1\n").await;
    append("green.log", "2\n");
    until("green", "2\n").await;
    append("blue.log", "3\n");
    until("blue", "3\n").await;

    drop(pieces);
    reading.await.unwrap();
    assert_eq!(said.len(), 3, "{said:?}");
}
