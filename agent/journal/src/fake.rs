//! A disk in memory whose calls fail one by one and whose power can be cut, for tests.

use std::{collections::BTreeMap, io, ops::Range, path::PathBuf};

use crate::Disk;

/// When in its work a call fails.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    Before,
    Halfway,
    /// As where the process dies before it hears that the call returned.
    After,
}

/// What a power cut leaves of what was not synced.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cut {
    Nothing,
    Content,
    Names,
    Everything,
}

#[derive(Clone, Debug, Default)]
struct FakeFile {
    content: Vec<u8>,
    durable: Vec<u8>,
    /// What the system knows that it still has to write.
    dirty: Vec<Range<usize>>,
}

/// Fails the call that it is told to, and all after it.
#[derive(Clone, Debug, Default)]
pub(crate) struct FakeDisk {
    files: Vec<FakeFile>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    calls: usize,
    fault: Option<(usize, Fault)>,
}

impl FakeDisk {
    /// Counts calls from here on, and fails the one with this number, counted from 0.
    pub(crate) const fn fail_at(&mut self, call: usize, fault: Fault) {
        self.calls = 0;
        self.fault = Some((call, fault));
    }

    /// Works again. Returns whether a call failed.
    pub(crate) fn mend(&mut self) -> bool {
        self.fault.take().is_some_and(|(call, _)| self.calls > call)
    }

    pub(crate) fn cut_power(&mut self, leaves: Cut) {
        if matches!(leaves, Cut::Nothing | Cut::Content) {
            self.names.clone_from(&self.durable_names);
        }
        self.durable_names.clone_from(&self.names);
        for file in &mut self.files {
            if matches!(leaves, Cut::Nothing | Cut::Names) {
                file.content.clone_from(&file.durable);
            }
            file.durable.clone_from(&file.content);
            file.dirty.clear();
        }
    }

    /// Returns how much of a call is to be done, of `all`, and what it returns.
    fn next(&mut self, all: usize) -> (usize, io::Result<()>) {
        let call = self.calls;
        self.calls += 1;
        let failed = || Err(io::Error::other("the disk failed"));
        match self.fault {
            Some((at, _)) if call > at => (0, failed()),
            Some((at, Fault::Before)) if call == at => (0, failed()),
            Some((at, Fault::Halfway)) if call == at => (all / 2, failed()),
            Some((at, Fault::After)) if call == at => (all, failed()),
            Some(_) | None => (all, Ok(())),
        }
    }

    fn found(&mut self, name: &str) -> io::Result<&mut FakeFile> {
        let at = *self.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(&mut self.files[at])
    }

    fn found_or_made(&mut self, name: &str) -> &mut FakeFile {
        let next = self.files.len();
        let at = *self.names.entry(name.to_owned()).or_insert(next);
        if at == next {
            self.files.push(FakeFile::default());
        }
        &mut self.files[at]
    }
}

impl FakeFile {
    fn write(&mut self, at: usize, bytes: &[u8]) {
        let end = at + bytes.len();
        self.content.resize(self.content.len().max(end), 0);
        self.content[at..end].copy_from_slice(bytes);
        self.dirty.push(at..end);
    }
}

fn in_memory(at: u64) -> io::Result<usize> {
    usize::try_from(at).map_err(io::Error::other)
}

impl Disk for FakeDisk {
    fn read(&mut self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.next(0).1?;
        Ok(self.found(name).ok().map(|file| file.content.clone()))
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let (done, result) = self.next(bytes.len());
        let file = self.found_or_made(name);
        file.write(file.content.len(), &bytes[..done]);
        result
    }

    fn write_new(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let (done, result) = self.next(bytes.len());
        let file = self.found_or_made(name);
        file.content.clear();
        file.dirty.clear();
        file.write(0, &bytes[..done]);
        result
    }

    fn overwrite(&mut self, name: &str, at: u64, bytes: &[u8]) -> io::Result<()> {
        let (done, result) = self.next(bytes.len());
        self.found(name)?.write(in_memory(at)?, &bytes[..done]);
        result
    }

    fn set_length(&mut self, name: &str, length: u64) -> io::Result<()> {
        let (done, result) = self.next(2);
        if done == 2 {
            let length = in_memory(length)?;
            let file = self.found(name)?;
            file.content.resize(length, 0);
            file.dirty.iter_mut().for_each(|range| {
                *range = range.start.min(length)..range.end.min(length);
            });
        }
        result
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        let (done, result) = self.next(2);
        let file = self.found(name)?;
        // After a failure, the system believes that everything is written (Rebello et al., "Can
        // applications recover from fsync failures?", 2020).
        let dirty = std::mem::take(&mut file.dirty);
        if done > 0 {
            file.durable.resize(file.content.len(), 0);
        }
        for range in dirty {
            let end = range.start + range.len() * done / 2;
            let written = range.start..end.min(file.durable.len());
            file.durable[written.clone()].copy_from_slice(&file.content[written]);
        }
        result
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let (done, result) = self.next(2);
        if done == 2 {
            let at = self.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
            self.names.insert(to.to_owned(), at);
        }
        result
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        let (done, result) = self.next(2);
        if done == 2 {
            self.durable_names.clone_from(&self.names);
        }
        result
    }

    fn path(&self, name: &str) -> PathBuf {
        name.into()
    }
}
