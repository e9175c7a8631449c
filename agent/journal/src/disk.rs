//! What the journal needs of a disk: one directory of small files, one call of the system each.
//!
//! A simulator implements it too, and can then fail, tear, lose or delay each call by itself.

use std::{io, path::PathBuf};

/// One directory of small files. Nobody else writes to it.
///
/// What was written may be read again at once, also by another process, and is gone after a power
/// cut all the same until [`sync`](Self::sync) has returned; a name until
/// [`sync_directory`](Self::sync_directory) has. A file's `name` has no folder in it.
///
/// After an error of a call that changes something nobody knows what has happened: none of it, a
/// part, or all. No caller tries again (D4).
pub trait Disk: Send {
    /// Reads a whole file; None where there is none. That something can be read says nothing
    /// about whether it is durable.
    ///
    /// # Errors
    ///
    /// When the disk cannot tell.
    fn read(&mut self, name: &str) -> io::Result<Option<Vec<u8>>>;

    /// Writes `bytes` behind the end of a file. A file that is missing is made, readable by its
    /// owner only, also where there are no bytes to write. Nothing of it is durable: a power cut
    /// may leave any part of the bytes, or others in their place.
    ///
    /// # Errors
    ///
    /// A part of the bytes may have been written.
    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// Writes a file anew, readable by its owner only. What it held before is gone, at once and
    /// without any durability: this is for files that nobody relies on yet.
    ///
    /// # Errors
    ///
    /// The old content is gone, and a part of the bytes may have been written.
    fn write_new(&mut self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// Writes `bytes` over others of a file, from byte `at` on. They end where the file ends, or
    /// before. Durable once synced, also where an earlier sync failed and the file holds the same
    /// bytes already.
    ///
    /// # Errors
    ///
    /// When the file is missing; or a part of the bytes may have been written.
    fn overwrite(&mut self, name: &str, at: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts a file off behind its first `length` bytes. Not durable until it is synced.
    ///
    /// # Errors
    ///
    /// When the file is missing, or the disk does not take it.
    fn set_length(&mut self, name: &str, length: u64) -> io::Result<()>;

    /// Makes the content and the length of a file durable, through the handle that it was written
    /// with. Its name in the directory is not made durable.
    ///
    /// # Errors
    ///
    /// What was written since the last sync may be lost, although it can be read, and although
    /// another sync would return well: the system forgets that it still has to write it.
    fn sync(&mut self, name: &str) -> io::Result<()>;

    /// Gives a file another name, in place of the file that had it. Whoever looks finds the one or
    /// the other; after a power cut too, but which of them is not certain before the directory
    /// is synced.
    ///
    /// # Errors
    ///
    /// The name may have been changed nevertheless.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;

    /// Makes the names of files durable: those that were made and those that were changed. Not
    /// what is in the files.
    ///
    /// # Errors
    ///
    /// Names may be lost. Another call that returns well makes up for it, as names are in the
    /// file system's own log, which takes nothing more after a write to it failed.
    fn sync_directory(&mut self) -> io::Result<()>;

    /// Returns how an operator finds a file: for messages.
    fn path(&self, name: &str) -> PathBuf;
}

/// A disk that is lent: it outlives the journal on it, as a real one does a crash.
impl<D: Disk> Disk for &mut D {
    fn read(&mut self, name: &str) -> io::Result<Option<Vec<u8>>> {
        (**self).read(name)
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        (**self).append(name, bytes)
    }

    fn write_new(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        (**self).write_new(name, bytes)
    }

    fn overwrite(&mut self, name: &str, at: u64, bytes: &[u8]) -> io::Result<()> {
        (**self).overwrite(name, at, bytes)
    }

    fn set_length(&mut self, name: &str, length: u64) -> io::Result<()> {
        (**self).set_length(name, length)
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        (**self).sync(name)
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        (**self).rename(from, to)
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        (**self).sync_directory()
    }

    fn path(&self, name: &str) -> PathBuf {
        (**self).path(name)
    }
}
