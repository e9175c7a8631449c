//! Keeps the output of a hook in a file: all of it, or its beginning and its end.

use std::{
    collections::VecDeque,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Seek as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _},
    path::Path,
};

/// How much of one output is kept at most, in bytes. What is more is left out of the middle: the
/// beginning says what was done, the end how it failed.
pub const KEPT_BYTES_MAX: usize = BEGINNING + END;

/// How much is written while it comes, so that an agent that dies takes none of it along.
const BEGINNING: usize = 1024 * 1024;

/// How much of what is beyond is held in memory until the end.
const END: usize = 512 * 1024;

/// Stands behind the beginning for as long as nobody knows what the end will be.
const MORE: &str = "\n[... more than this: its end is written when the command has ended ...]\n";

const INTERRUPTED: &str = "\n[... it was interrupted here ...]\n";

/// Says it where no room is left on the disk, in place of the last of what was written.
const CUT: &str = "\n[... what follows could not be written ...]\n";

/// An output that is written down while it comes. The file only grows, so that it can be followed.
/// One that is dropped before it is finished was interrupted, and says so.
#[derive(Debug)]
pub struct KeptOutput {
    file: File,
    /// How much of what was said is in the file, from its beginning on.
    written: u64,
    said: u64,
    /// The last of what was said.
    end: VecDeque<u8>,
    /// Whether the rest is only written at the end.
    is_deferred: bool,
    is_finished: bool,
}

impl KeptOutput {
    /// Begins the file anew. Blocks.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub fn create(path: &Path) -> io::Result<Self> {
        // As the logs of instances are: read by whoever is in the agent's group.
        if let Some(folder) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o750).create(folder)?;
        }
        // Another file, and not the old one emptied: whoever reads that sees it to its end, and
        // what a link or a pipe of this name leads to is not written to.
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o640).open(path)?;
        Ok(Self {
            file,
            written: 0,
            said: 0,
            end: VecDeque::new(),
            is_deferred: false,
            is_finished: false,
        })
    }

    /// Takes what was said next.
    ///
    /// # Errors
    ///
    /// Once, when it cannot be written. What was said last is then tried again at the end.
    pub fn take(&mut self, said: &[u8]) -> io::Result<()> {
        self.said += said.len() as u64;
        self.end.extend(said);
        let surplus = self.end.len().saturating_sub(END);
        self.end.drain(..surplus);
        if self.is_deferred {
            return Ok(());
        }
        let room = usize::try_from(BEGINNING as u64 - self.written).unwrap_or(usize::MAX);
        let fits = &said[..said.len().min(room)];
        self.is_deferred = fits.len() < said.len();
        let written = self.write(fits);
        self.is_deferred |= written.is_err();
        written?;
        if self.is_deferred { self.file.write_all(MORE.as_bytes()) } else { Ok(()) }
    }

    /// Writes the end of what was said, and a mark where something is left out. Blocks.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn finish(mut self) -> io::Result<()> {
        self.write_end("")
    }

    /// Counts what a full disk still took.
    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.file.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(length) => {
                    self.written += length as u64;
                    bytes = &bytes[length..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn write_end(&mut self, last_word: &str) -> io::Result<()> {
        self.is_finished = true;
        let held_from = self.said - self.end.len() as u64;
        let known = usize::try_from(self.written.saturating_sub(held_from)).unwrap_or(usize::MAX);
        self.end.drain(..known.min(self.end.len()));
        let left_out = held_from.saturating_sub(self.written);
        let mut rest = Vec::new();
        if left_out > 0 {
            writeln!(rest, "\n[... {left_out} bytes are left out here ...]")?;
        }
        rest.extend(&self.end);
        rest.extend(last_word.as_bytes());
        let all = self.file.write_all(&rest);
        if all.is_err() {
            let at = self.file.stream_position()?.saturating_sub(CUT.len() as u64);
            self.file.write_all_at(CUT.as_bytes(), at)?;
        }
        all
    }
}

impl Drop for KeptOutput {
    fn drop(&mut self) {
        // At most half a mebibyte, into the page cache: a drop cannot wait for another thread.
        if !self.is_finished
            && let Err(error) = self.write_end(INTERRUPTED)
        {
            tracing::warn!(%error, "the end of an interrupted command's output is not kept");
        }
    }
}

#[cfg(test)]
mod tests;
