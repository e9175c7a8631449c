//! Metered: a reader or writer that hashes and counts what passes, and stops at a limit.

use std::io::{self, Read, Write};

use cutover_common::Sha256;
use sha2::Digest as _;

/// Passes bytes on, hashing and counting them.
pub(super) struct Metered<T> {
    inner: T,
    hash: sha2::Sha256,
    seen: u64,
    max: u64,
    has_overrun: bool,
}

impl<T> Metered<T> {
    /// Lets `max` bytes pass; one more is an error.
    pub(super) fn new(inner: T, max: u64) -> Self {
        Self { inner, hash: sha2::Sha256::new(), seen: 0, max, has_overrun: false }
    }

    pub(super) const fn seen(&self) -> u64 {
        self.seen
    }

    /// Tells whether more bytes came than may pass.
    pub(super) const fn has_overrun(&self) -> bool {
        self.has_overrun
    }

    pub(super) const fn inner(&self) -> &T {
        &self.inner
    }

    /// Returns the digest of all bytes and what they passed through.
    pub(super) fn finish(self) -> (Sha256, T) {
        (Sha256::from_bytes(self.hash.finalize().into()), self.inner)
    }

    fn count(&mut self, bytes: &[u8]) -> io::Result<()> {
        let seen = self.seen.saturating_add(bytes.len() as u64);
        if seen > self.max {
            self.has_overrun = true;
            return Err(io::Error::new(io::ErrorKind::InvalidData, "more bytes than declared"));
        }
        self.seen = seen;
        self.hash.update(bytes);
        Ok(())
    }
}

impl<T: Read> Read for Metered<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count(&buffer[..count])?;
        Ok(count)
    }
}

impl<T: Write> Write for Metered<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.count(&bytes[..count])?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
