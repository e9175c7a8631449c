//! One log, read from where somebody wants to begin and on across its rotations, without a gap.

use std::{
    fs,
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use cutover_common::Slot;
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncSeekExt as _},
};

use crate::process::{KEPT_BYTES_MAX, blocking, open_log, with_old_files};

/// How far back the last lines are looked for, in bytes: what is kept of one hook, with its marks.
const TAIL_BYTES_MAX: u64 = KEPT_BYTES_MAX as u64 + 1024;

/// The log of one slot.
pub(super) struct Source {
    pub(super) slot: Slot,
    path: PathBuf,
    /// None: there was no file so far.
    open: Option<Open>,
}

struct Open {
    file: File,
    at: u64,
}

impl Source {
    /// Begins with the last `lines` lines, or with all that the log's file holds.
    pub(super) async fn at_last(slot: Slot, path: PathBuf, lines: Option<u32>) -> io::Result<Self> {
        let wanted = path.clone();
        let found = blocking(move || match lines {
            Some(lines) => open_at_last(&wanted, lines),
            None => with_old_files(&wanted).find_map(opened).transpose(),
        });
        let file = found.await?.ok_or(io::ErrorKind::NotFound)?;
        Ok(Self { slot, path, open: Some(Open::of(file).await?) })
    }

    /// Begins with what is written from here on.
    pub(super) async fn at_end(slot: Slot, path: PathBuf) -> io::Result<Self> {
        let wanted = path.clone();
        let file = blocking(move || {
            let Some(mut file) = opened(wanted).transpose()? else { return Ok(None) };
            file.seek(SeekFrom::End(0))?;
            io::Result::Ok(Some(file))
        });
        let open = match file.await? {
            Some(file) => Some(Open::of(file).await?),
            None => None,
        };
        Ok(Self { slot, path, open })
    }

    /// Reads what comes next. Zero: that is all so far.
    pub(super) async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(open) = &mut self.open else {
                let path = self.path.clone();
                let Some(file) = blocking(move || opened(path)).await.transpose()? else {
                    return Ok(0);
                };
                self.open = Some(Open::of(file).await?);
                continue;
            };
            let length = open.read(buffer).await?;
            if length > 0 {
                return Ok(length);
            }
            let metadata = open.file.metadata().await?;
            if metadata.len() < open.at {
                // Somebody emptied it.
                open.at = open.file.seek(SeekFrom::Start(0)).await?;
                continue;
            }
            let path = self.path.clone();
            let Some(next) = blocking(move || successor(&path, &metadata)).await? else {
                return Ok(0);
            };
            // What was appended before it was put aside comes first.
            let length = open.read(buffer).await?;
            if length > 0 {
                return Ok(length);
            }
            self.open = Some(Open::of(next).await?);
        }
    }
}

impl Open {
    async fn of(file: fs::File) -> io::Result<Self> {
        let mut file = File::from_std(file);
        let at = file.stream_position().await?;
        Ok(Self { file, at })
    }

    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read(buffer).await?;
        self.at += length as u64;
        Ok(length)
    }
}

/// Opens a log's file, if there is one.
fn opened(path: PathBuf) -> Option<io::Result<fs::File>> {
    match open_log(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        result => Some(result),
    }
}

/// Returns the file that was begun after the one that was read, or none if there is no later one.
/// If that one was removed meanwhile, the oldest that is left comes next.
fn successor(path: &Path, read: &fs::Metadata) -> io::Result<Option<fs::File>> {
    let mut newer = None;
    for file in with_old_files(path).filter_map(opened) {
        let file = file?;
        let metadata = file.metadata()?;
        if (metadata.dev(), metadata.ino()) == (read.dev(), read.ino()) {
            return Ok(newer);
        }
        newer = Some(file);
    }
    Ok(newer)
}

/// Opens the file in which the last `lines` lines begin, and goes there. What is read on from
/// there comes to all that was written since.
fn open_at_last(path: &Path, lines: u32) -> io::Result<Option<fs::File>> {
    let mut missing = usize::try_from(lines).unwrap_or(usize::MAX);
    let mut left = TAIL_BYTES_MAX;
    let mut found = None;
    for file in with_old_files(path).filter_map(opened) {
        let mut file = file?;
        let length = file.metadata()?.len();
        let (start, lines) = start_of_last(&mut file, length, missing, left)?;
        file.seek(SeekFrom::Start(start))?;
        found = Some(file);
        missing -= lines;
        left = left.saturating_sub(length);
        if missing == 0 || left == 0 {
            break;
        }
    }
    Ok(found)
}

/// Returns where the last `wanted` lines begin of a file that is `length` long, or as many as
/// there are in its last `within` bytes, and how many.
fn start_of_last(
    file: &mut fs::File,
    length: u64,
    wanted: usize,
    within: u64,
) -> io::Result<(u64, usize)> {
    let from = length.saturating_sub(within);
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    file.take(length - from).read_to_end(&mut tail)?;
    let whole = tail.strip_suffix(b"\n").unwrap_or(&tail);
    let breaks = whole.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
    let starts = breaks.map(|(at, _)| at + 1).chain((!tail.is_empty()).then_some(0));
    let (lines, start) =
        starts.take(wanted).fold((0, tail.len()), |(count, _), at| (count + 1, at));
    Ok((from + start as u64, lines))
}

#[cfg(test)]
mod tests;
