//! The file `format`: which version a store has, and its incarnation.
//!
//! Text, so that an operator can read it; with a checksum, as the incarnation starts the hash chain.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    path::Path,
};

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{
    OpenError,
    directory::{create_file, sync_directory},
};

/// The version of everything in a store's directory, as this build reads and writes it.
const FORMAT: u32 = 1;

/// The first line of the file `format`.
const FORMAT_MAGIC: &str = "cutover event store";

/// A marker is five short lines; whatever is longer is none.
const FORMAT_BYTES_MAX: u64 = 4096;

/// Writes the file `format` in `dir`. From then on the directory is a store.
pub(super) fn write(dir: &Path, incarnation: Uuid) -> Result<(), OpenError> {
    let path = dir.join("format");
    let text = format!("{FORMAT_MAGIC}\nformat = {FORMAT}\nincarnation = {incarnation}\n");
    let text = format!("{text}checksum = {}\n", checksum(&text));
    let mut file = create_file(&path)?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(OpenError::io("write", &path))?;
    sync_directory(dir)
}

/// Reads the file `format` in `dir` and returns the incarnation.
pub(super) fn read(dir: &Path) -> Result<Uuid, OpenError> {
    let path = dir.join("format");
    let mut text = String::new();
    let opened = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(OpenError::damaged(dir, "the file `format` is missing"));
        }
        Err(error) => return Err(OpenError::io("open", &path)(error)),
    };
    if let Err(error) = opened.take(FORMAT_BYTES_MAX).read_to_string(&mut text) {
        if error.kind() == io::ErrorKind::InvalidData {
            return Err(OpenError::damaged(dir, "the file `format` is not text"));
        }
        return Err(OpenError::io("read", &path)(error));
    }
    match parse_format(&text) {
        Ok(incarnation) => Ok(incarnation),
        Err(InvalidFormat::Newer { found }) => {
            Err(OpenError::Newer { dir: dir.to_owned(), found, supported: FORMAT })
        }
        Err(InvalidFormat::Unreadable { what }) => Err(OpenError::damaged(dir, what)),
    }
}

pub(super) fn checksum(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Why a text is no format marker of ours.
#[derive(Debug, Eq, PartialEq)]
enum InvalidFormat {
    Newer { found: u32 },
    Unreadable { what: String },
}

fn parse_format(text: &str) -> Result<Uuid, InvalidFormat> {
    let unreadable =
        |what: &str| InvalidFormat::Unreadable { what: format!("the file `format` {what}") };
    let mut lines = text.lines();
    if lines.next() != Some(FORMAT_MAGIC) {
        return Err(unreadable("is none of an event store"));
    }
    let found: u32 = lines
        .next()
        .and_then(|line| line.strip_prefix("format = "))
        .and_then(|version| version.parse().ok())
        .ok_or_else(|| unreadable("names no version"))?;
    let (body, sum) =
        text.rsplit_once("checksum = ").ok_or_else(|| unreadable("has no checksum"))?;
    if sum.trim_end() != checksum(body) {
        return Err(unreadable("does not match its checksum"));
    }
    // Only a line that passed its checksum is believed: a flipped bit is no newer version.
    if found > FORMAT {
        return Err(InvalidFormat::Newer { found });
    }
    lines
        .next()
        .and_then(|line| line.strip_prefix("incarnation = "))
        .and_then(|incarnation| incarnation.parse().ok())
        .ok_or_else(|| unreadable("names no incarnation"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_format_with_any_byte_changed_is_refused_and_never_read_as_newer() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let incarnation = Uuid::from_u128(7);
        write(dir.path(), incarnation).expect("written");
        assert_eq!(read(dir.path()).expect("read"), incarnation);

        let text = fs::read_to_string(dir.path().join("format")).expect("a text");
        for place in 0..text.trim_end().len() {
            let mut bytes = text.clone().into_bytes();
            bytes[place] ^= 1;
            let flipped = String::from_utf8(bytes).expect("still ASCII");
            let refused = parse_format(&flipped).expect_err("refused");
            assert!(matches!(refused, InvalidFormat::Unreadable { .. }), "{place}: {refused:?}");
        }
    }
}
