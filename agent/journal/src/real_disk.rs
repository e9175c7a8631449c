//! The disk of the machine: a folder, through the system's calls.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use crate::Disk;

/// Only the agent reads its files.
const MODE: u32 = 0o600;

/// A folder that exists.
#[derive(Debug)]
pub struct RealDisk {
    folder: PathBuf,
    /// The file that was written last, with its name. Errors of writing reach those handles that
    /// were open at the time, so that a file is synced through the one it was written with.
    open: Option<(String, File)>,
}

impl RealDisk {
    /// Uses the folder at `folder`. Nothing is opened yet.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), open: None }
    }

    /// Returns the handle of a file: the one that is open, or a new one.
    fn handle(&mut self, name: &str, options: &OpenOptions) -> io::Result<&File> {
        let file = match self.open.take() {
            Some((open, file)) if open == name => file,
            Some(_) | None => options.open(self.path(name))?,
        };
        Ok(&self.open.insert((name.to_owned(), file)).1)
    }
}

/// Returns how a file is opened that is there. Not with `O_APPEND`, which would let Linux ignore
/// where something is to be written.
fn writing() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(MODE);
    options
}

impl Disk for RealDisk {
    fn read(&mut self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.path(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let file = self.handle(name, writing().create(true))?;
        file.write_all_at(bytes, file.metadata()?.len())
    }

    fn write_new(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.open = None;
        self.handle(name, writing().create(true).truncate(true))?.write_all_at(bytes, 0)
    }

    fn overwrite(&mut self, name: &str, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.handle(name, &writing())?.write_all_at(bytes, at)
    }

    fn set_length(&mut self, name: &str, length: u64) -> io::Result<()> {
        self.handle(name, &writing())?.set_len(length)
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        self.handle(name, &writing())?.sync_data()
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        // The handle of a name leads to what had the name when it was opened.
        self.open = None;
        fs::rename(self.path(from), self.path(to))
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}
