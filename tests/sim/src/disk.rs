//! A disk that keeps apart what was written from what is durable, and fails as disks do.
//!
//! An fsync makes a file's bytes durable, a directory's fsync makes its names durable. When the
//! power is cut, of everything else some is there and some is not: writes as a torn prefix, names
//! in the order in which they were changed. An fsync that failed has lost the bytes for good,
//! although they can still be read (the kernel drops them from its cache only later).

use std::{collections::BTreeMap, io, ops::Range};

use crate::dice::Dice;

/// One directory on one disk.
#[derive(Debug)]
pub struct SimDisk {
    files: Vec<File>,
    /// What the running system sees.
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    /// Changes of names since the directory's last fsync.
    renames: Vec<Rename>,
    /// fsyncs that have begun and that the power could still be cut under.
    syncing: Vec<Syncing>,
    luck: Dice,
    faults: Faults,
    operations: u64,
}

#[derive(Clone, Debug, Default)]
struct File {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    /// What a failed fsync has lost: it reads as zeros after the next power cut.
    lost: Vec<Range<usize>>,
}

/// A name that was given to another file, or to none.
#[derive(Clone, Debug)]
struct Rename {
    name: String,
    file: Option<usize>,
    /// How many of the fsyncs that are under way were asked for before: whoever waits for one of
    /// them has not come to this yet.
    after: usize,
}

#[derive(Clone, Debug)]
enum Syncing {
    File { file: usize, bytes: Vec<u8> },
    Names(BTreeMap<String, usize>),
}

#[derive(Debug, Default)]
struct Faults {
    is_full: bool,
    /// The operation after so many fails once.
    fails_in: Option<u32>,
    /// The process is killed at the operation after so many.
    kills_in: Option<u32>,
    is_killed: bool,
}

/// Whether an operation changes bytes, or makes them durable.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Kind {
    Write,
    Sync,
}

impl SimDisk {
    /// Makes an empty disk.
    pub fn new(luck: Dice) -> Self {
        Self {
            files: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            renames: Vec::new(),
            syncing: Vec::new(),
            luck,
            faults: Faults::default(),
            operations: 0,
        }
    }

    /// Makes every write fail for want of room, or ends that.
    pub const fn set_full(&mut self, is_full: bool) {
        self.faults.is_full = is_full;
    }

    /// Returns whether there is no room.
    pub const fn is_full(&self) -> bool {
        self.faults.is_full
    }

    /// Makes the operation after `operations` fail once, with an input/output error.
    pub const fn fail_in(&mut self, operations: u32) {
        self.faults.fails_in = Some(operations);
    }

    /// Kills the process at the operation after `operations`.
    pub const fn kill_in(&mut self, operations: u32) {
        self.faults.kills_in = Some(operations);
    }

    /// Ends every fault that is still to come.
    pub fn end_faults(&mut self) {
        self.faults = Faults::default();
    }

    /// Returns whether the process was killed by an operation, and forgets it.
    pub const fn take_kill(&mut self) -> bool {
        let was_killed = self.faults.is_killed;
        self.faults.is_killed = false;
        if was_killed {
            self.faults.kills_in = None;
        }
        was_killed
    }

    /// Returns how many operations it did.
    pub const fn operations(&self) -> u64 {
        self.operations
    }

    /// The fsyncs that had begun have ended: what they were asked for is durable.
    pub fn settle(&mut self) {
        self.end_syncs(self.syncing.len());
        for rename in &mut self.renames {
            rename.after = 0;
        }
    }

    /// The first `count` fsyncs have ended.
    fn end_syncs(&mut self, count: usize) {
        let syncing = std::mem::take(&mut self.syncing);
        for (index, syncing) in syncing.into_iter().take(count).enumerate() {
            match syncing {
                Syncing::File { file, bytes } => self.files[file].durable = bytes,
                Syncing::Names(names) => {
                    self.durable_names = names;
                    self.renames.retain(|rename| rename.after > index);
                }
            }
        }
    }

    /// Cuts the power: afterwards the disk holds what was durable and some of the rest.
    pub fn cut_power(&mut self) {
        let ended = self.luck.below(self.syncing.len() + 1);
        self.end_syncs(ended);
        self.renames.retain(|rename| rename.after <= ended);
        for Rename { name, file, .. } in self.lucky_renames() {
            match file {
                Some(file) => self.durable_names.insert(name, file),
                None => self.durable_names.remove(&name),
            };
        }
        for index in 0..self.files.len() {
            let torn = torn(&self.files[index], &mut self.luck);
            let file = &mut self.files[index];
            file.bytes.clone_from(&torn);
            file.durable = torn;
            file.lost.clear();
        }
        self.names = self.durable_names.clone();
        let kept = self.faults.is_full;
        self.faults = Faults { is_full: kept, ..Faults::default() };
    }

    fn lucky_renames(&mut self) -> Vec<Rename> {
        let mut renames = std::mem::take(&mut self.renames);
        let kept = self.luck.below(renames.len() + 1);
        renames.truncate(kept);
        renames
    }

    /// Changes one bit of `name`, durably. False: there is none.
    pub fn flip_bit(&mut self, name: &str, at_permille: u32) -> bool {
        let Some(index) = self.names.get(name).copied() else { return false };
        let length = self.files[index].bytes.len();
        if length == 0 {
            return false;
        }
        let at = (length * usize::try_from(at_permille).unwrap_or(0) / 1_000).min(length - 1);
        let bit = 1 << self.luck.below(8);
        let file = &mut self.files[index];
        file.bytes[at] ^= bit;
        if let Some(byte) = file.durable.get_mut(at) {
            *byte ^= bit;
        }
        true
    }

    /// Returns what `name` holds, as the running system sees it.
    pub fn contents(&self, name: &str) -> Option<&[u8]> {
        self.names.get(name).map(|index| self.files[*index].bytes.as_slice())
    }

    fn begin(&mut self, kind: Kind) -> io::Result<()> {
        self.operations += 1;
        if self.faults.is_killed || count_down(&mut self.faults.kills_in) {
            self.faults.is_killed = true;
            return Err(io::Error::new(io::ErrorKind::Interrupted, "the process was killed"));
        }
        if count_down(&mut self.faults.fails_in) {
            self.faults.fails_in = None;
            return Err(io::Error::other("input/output error"));
        }
        if self.faults.is_full && kind == Kind::Write {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "no space left on device"));
        }
        Ok(())
    }

    fn open(&mut self, name: &str) -> usize {
        if let Some(index) = self.names.get(name) {
            return *index;
        }
        self.files.push(File::default());
        let index = self.files.len() - 1;
        self.set_name(name, Some(index));
        index
    }

    fn set_name(&mut self, name: &str, file: Option<usize>) {
        match file {
            Some(file) => self.names.insert(name.to_owned(), file),
            None => self.names.remove(name),
        };
        let after = self.syncing.len();
        self.renames.push(Rename { name: name.to_owned(), file, after });
    }
}

/// What a process may ask of the disk.
impl SimDisk {
    pub(crate) fn read(&self, name: &str) -> Option<Vec<u8>> {
        self.contents(name).map(<[u8]>::to_vec)
    }

    pub(crate) fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let before = self.contents(name).map_or(0, <[u8]>::len);
        let begun = self.begin(Kind::Write);
        let index = self.open(name);
        // A write that fails or is interrupted may have written a part.
        let written = if begun.is_ok() { bytes.len() } else { self.luck.below(bytes.len() + 1) };
        self.files[index].bytes.truncate(before);
        self.files[index].bytes.extend_from_slice(&bytes[..written]);
        begun
    }

    pub(crate) fn create(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let begun = self.begin(Kind::Write);
        let index = self.open(name);
        let written = if begun.is_ok() { bytes.len() } else { self.luck.below(bytes.len() + 1) };
        bytes[..written].clone_into(&mut self.files[index].bytes);
        // Every page of it is new.
        self.files[index].lost.clear();
        begun
    }

    pub(crate) fn overwrite(&mut self, name: &str, at: usize, bytes: &[u8]) -> io::Result<()> {
        let begun = self.begin(Kind::Write);
        let index = self.open(name);
        let written = if begun.is_ok() { bytes.len() } else { self.luck.below(bytes.len() + 1) };
        let file = &mut self.files[index].bytes;
        let end = at.saturating_add(written);
        if file.len() < end {
            file.resize(end, 0);
        }
        file[at..end].copy_from_slice(&bytes[..written]);
        // Its pages are dirty again, so that the next fsync takes them with it.
        let lost = std::mem::take(&mut self.files[index].lost);
        let rest =
            |range: Range<usize>| [range.start..range.end.min(at), range.start.max(end)..range.end];
        self.files[index].lost =
            lost.into_iter().flat_map(rest).filter(|range| !range.is_empty()).collect();
        begun
    }

    pub(crate) fn truncate(&mut self, name: &str, length: usize) -> io::Result<()> {
        self.begin(Kind::Write)?;
        let index = self.open(name);
        let file = &mut self.files[index];
        file.bytes.truncate(length);
        file.lost.retain(|range| range.start < length);
        for range in &mut file.lost {
            range.end = range.end.min(length);
        }
        Ok(())
    }

    pub(crate) fn sync(&mut self, name: &str) -> io::Result<()> {
        let begun = self.begin(Kind::Sync);
        let is_killed = self.faults.is_killed;
        let index = self.open(name);
        let file = &mut self.files[index];
        let unsynced = common_prefix(&file.bytes, &file.durable)..file.bytes.len();
        if begun.is_err() && !is_killed {
            // The pages are clean now, and their bytes are nowhere.
            file.lost.push(unsynced);
        } else if begun.is_ok() {
            let mut bytes = file.bytes.clone();
            zero(&mut bytes, &file.lost);
            self.syncing.push(Syncing::File { file: index, bytes });
        }
        begun
    }

    pub(crate) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.begin(Kind::Write)?;
        let Some(index) = self.names.get(from).copied() else {
            return Err(io::Error::new(io::ErrorKind::NotFound, "no such file"));
        };
        self.set_name(to, Some(index));
        self.set_name(from, None);
        Ok(())
    }

    pub(crate) fn sync_names(&mut self) -> io::Result<()> {
        self.begin(Kind::Sync)?;
        self.syncing.push(Syncing::Names(self.names.clone()));
        Ok(())
    }
}

fn count_down(counter: &mut Option<u32>) -> bool {
    match counter {
        Some(0) => true,
        Some(left) => {
            *left -= 1;
            false
        }
        None => false,
    }
}

fn common_prefix(one: &[u8], other: &[u8]) -> usize {
    if one.starts_with(other) {
        return other.len();
    }
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}

fn zero(bytes: &mut [u8], ranges: &[Range<usize>]) {
    let length = bytes.len();
    for range in ranges {
        bytes[range.start.min(length)..range.end.min(length)].fill(0);
    }
}

/// What a power cut leaves of a file: what is durable, and a prefix of what was written behind
/// it, of which the last block may be zeros.
fn torn(file: &File, luck: &mut Dice) -> Vec<u8> {
    let kept = common_prefix(&file.bytes, &file.durable);
    if kept < file.durable.len() {
        // It was cut short or written over, and that is not durable: either of them.
        return if luck.chance(500) { file.durable.clone() } else { file.bytes.clone() };
    }
    let mut bytes = file.bytes.clone();
    zero(&mut bytes, &file.lost);
    let end = kept + luck.below(bytes.len() - kept + 1);
    bytes.truncate(end);
    if end > kept && luck.chance(300) {
        let from = kept + luck.below(end - kept);
        bytes[from..].fill(0);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> SimDisk {
        SimDisk::new(Dice::new(1, "disk"))
    }

    #[test]
    fn what_was_synced_survives_a_power_cut_and_the_rest_is_torn() {
        for seed in 0..64 {
            let mut disk = SimDisk::new(Dice::new(seed, "disk"));
            disk.append("log", b"first").unwrap();
            disk.sync("log").unwrap();
            disk.sync_names().unwrap();
            disk.settle();
            disk.append("log", b"second").unwrap();

            disk.cut_power();

            let after = disk.contents("log").unwrap();
            assert!(after.starts_with(b"first") && after.len() <= 11, "{after:?}");
        }
    }

    #[test]
    fn a_name_is_there_after_its_directory_was_synced_only() {
        let mut lost = 0;
        for seed in 0..64 {
            let mut disk = SimDisk::new(Dice::new(seed, "disk"));
            disk.create("new", b"all").unwrap();
            disk.sync("new").unwrap();
            disk.settle();
            disk.cut_power();
            lost += u32::from(disk.contents("new").is_none());
        }
        assert!((1..64).contains(&lost), "{lost}");
    }

    #[test]
    fn what_a_failed_fsync_lost_does_not_come_back_with_the_next() {
        let mut disk = disk();
        disk.append("log", b"one").unwrap();
        disk.sync("log").unwrap();
        disk.sync_names().unwrap();
        disk.settle();
        disk.fail_in(1);
        disk.append("log", b"two").unwrap();
        disk.sync("log").unwrap_err();
        disk.sync("log").unwrap();
        disk.settle();
        assert_eq!(disk.contents("log").unwrap(), b"onetwo");

        disk.cut_power();

        assert_eq!(disk.contents("log").unwrap(), b"one\0\0\0");
    }

    #[test]
    fn a_name_is_not_given_before_the_sync_that_was_waited_for() {
        for seed in 0..64 {
            let mut disk = SimDisk::new(Dice::new(seed, "disk"));
            disk.create("log", b"old").unwrap();
            disk.sync("log").unwrap();
            disk.sync_names().unwrap();
            disk.settle();
            disk.create("new", b"new").unwrap();
            disk.sync("new").unwrap();
            disk.rename("new", "log").unwrap();
            disk.sync_names().unwrap();

            disk.cut_power();

            let after = disk.contents("log").unwrap();
            assert!(after == b"old" || after == b"new", "{after:?}");
        }
    }

    #[test]
    fn a_file_that_is_written_anew_has_lost_nothing() {
        let mut disk = disk();
        disk.create("new", b"one").unwrap();
        disk.fail_in(0);
        disk.sync("new").unwrap_err();
        disk.create("new", b"two").unwrap();
        disk.sync("new").unwrap();
        disk.sync_names().unwrap();
        disk.settle();

        disk.cut_power();

        assert_eq!(disk.contents("new").unwrap(), b"two");
    }

    #[test]
    fn a_full_disk_takes_no_bytes_and_a_killed_process_does_nothing_more() {
        let mut disk = disk();
        disk.set_full(true);
        assert_eq!(disk.append("log", b"x").unwrap_err().kind(), io::ErrorKind::StorageFull);
        disk.set_full(false);
        disk.kill_in(0);
        disk.append("log", b"x").unwrap_err();
        disk.sync("log").unwrap_err();
        assert!(disk.take_kill());
        disk.append("log", b"x").unwrap();
    }
}
