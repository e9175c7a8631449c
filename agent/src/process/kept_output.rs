//! Keeps the output of a hook in a file: all of it, or its beginning and its end.

use std::{
    collections::VecDeque,
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

/// How much of one output is kept, in bytes. What is more is left out of the middle: the beginning
/// says what was done, the end how it failed.
pub const KEPT_BYTES_MAX: usize = 1024 * 1024;

const HALF: usize = KEPT_BYTES_MAX / 2;

/// An output that is written down while it comes.
#[derive(Debug)]
pub struct KeptOutput {
    file: File,
    /// How much of the beginning is still to come.
    beginning_left: usize,
    end: VecDeque<u8>,
    left_out: u64,
}

impl KeptOutput {
    /// Begins the file anew.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub fn create(path: &Path) -> io::Result<Self> {
        // As the logs of instances are: read by whoever is in the agent's group.
        if let Some(folder) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o750).create(folder)?;
        }
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o640).open(path)?;
        Ok(Self { file, beginning_left: HALF, end: VecDeque::new(), left_out: 0 })
    }

    /// Takes what was said next.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn take(&mut self, said: &[u8]) -> io::Result<()> {
        let (beginning, rest) = said.split_at(said.len().min(self.beginning_left));
        self.file.write_all(beginning)?;
        self.beginning_left -= beginning.len();
        self.end.extend(rest);
        let surplus = self.end.len().saturating_sub(HALF);
        self.end.drain(..surplus);
        self.left_out += u64::try_from(surplus).unwrap_or(u64::MAX);
        Ok(())
    }

    /// Writes the end of what was said, and a mark where something is left out.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn finish(mut self) -> io::Result<()> {
        if self.left_out > 0 {
            writeln!(self.file, "\n[... {} bytes are left out here ...]", self.left_out)?;
        }
        let (first, second) = self.end.as_slices();
        self.file.write_all(first)?;
        self.file.write_all(second)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn kept(said: &[u8], chunk: usize) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("logs/web/green.smoke.log");
        let mut output = KeptOutput::create(&path).unwrap();
        for part in said.chunks(chunk) {
            output.take(part).unwrap();
        }
        output.finish().unwrap();
        fs::read(path).unwrap()
    }

    #[test]
    fn up_to_a_mebibyte_all_is_kept() {
        for length in [0, 1, HALF - 1, HALF, HALF + 1, KEPT_BYTES_MAX] {
            let said: Vec<u8> = (0..length).map(|n| u8::try_from(n % 251).unwrap()).collect();
            assert_eq!(kept(&said, 4096), said, "{length}");
        }
    }

    #[test]
    fn of_more_the_beginning_and_the_end_are_kept_with_a_mark_between() {
        let mut said = vec![b'x'; 3 * KEPT_BYTES_MAX];
        said[..5].copy_from_slice(b"first");
        let last = said.len() - 4;
        said[last..].copy_from_slice(b"last");

        let kept = kept(&said, 5000);

        assert!(kept.starts_with(b"first") && kept.ends_with(b"last"));
        let mark = format!("\n[... {} bytes are left out here ...]\n", 2 * KEPT_BYTES_MAX);
        assert_eq!(kept.len(), KEPT_BYTES_MAX + mark.len());
        assert_eq!(&kept[HALF..HALF + mark.len()], mark.as_bytes());
    }
}
