//! The anchor: a preallocated ring of records beside sled. `mod.rs` tells what it is for.
//!
//! A record begins at a multiple of [`ALIGN`]. It holds the events of one append and the chain's
//! head before and after them, or no events: then it confirms that the append before it has returned.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
    path::Path,
};

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{
    BATCH_BYTES_MAX, Head, OpenError, Sequence,
    directory::{create_file, sync_directory},
};

/// Where records may begin, in bytes: a disk's sector, so that writing one record can only tear itself.
const ALIGN: usize = 512;

/// The ring begins behind one page that holds the file's own header.
const RING_START: usize = 4096;

/// The size of the ring, in bytes.
///
/// At least three of the largest records: one that is being written, the space left in front of the
/// ring's end because it did not fit, and the newest one, which is not touched.
const RING_BYTES: usize = 4 * 1024 * 1024;

/// How much of the ring may be filled before sled has to be synced, in bytes.
///
/// Half: the other half is still there for a log that comes back shorter than it was synced.
const UNSETTLED_BYTES_MAX: usize = RING_BYTES / 2;

const FILE_MAGIC: &[u8; 16] = b"cutover anchor 1";
const RECORD_MAGIC: &[u8; 8] = b"cutover\x01";

/// Magic, length of the events, number of events, place before, head before, head after.
const RECORD_HEADER_BYTES: usize = 8 + 4 + 4 + 8 + 2 * Head::BYTES;
const DIGEST_BYTES: usize = 32;

const _: () =
    assert!(3 * (RECORD_HEADER_BYTES + BATCH_BYTES_MAX + DIGEST_BYTES + ALIGN) < RING_BYTES);

/// What a record proves: that the log went from one place to another, through these events.
#[derive(Debug)]
pub(super) struct Witness {
    pub(super) after: Sequence,
    pub(super) head_before: Head,
    pub(super) events: Vec<Vec<u8>>,
    pub(super) head: Head,
}

impl Witness {
    /// The place of its last event.
    pub(super) fn last(&self) -> Sequence {
        self.after.plus(self.events.len())
    }
}

/// The open anchor of one store.
#[derive(Debug)]
pub(super) struct Anchor {
    file: File,
    /// Keys the digests, so that no event can contain what looks like a record of this file.
    salt: Uuid,
    /// Where the next record goes, counted from the ring's start.
    position: usize,
    /// What has been used since sled was last synced.
    unsettled_bytes: usize,
}

impl Anchor {
    /// Makes the file `path`, which must not exist, filled with zeros to its full length.
    ///
    /// Written and not only reserved: else each first use of a block is a change of the file
    /// system's own records, and a sync twice as dear.
    pub(super) fn create(path: &Path, incarnation: Uuid) -> Result<Self, OpenError> {
        let file = create_file(path)?;
        let salt = Uuid::new_v4();
        let mut bytes = vec![0; RING_START + RING_BYTES];
        let header = file_header(incarnation, salt);
        bytes[..header.len()].copy_from_slice(&header);
        file.write_all_at(&bytes, 0)
            .and_then(|()| file.sync_all())
            .map_err(OpenError::io("write", path))?;
        sync_directory(super::directory::parent(path))?;
        Ok(Self { file, salt, position: 0, unsettled_bytes: 0 })
    }

    /// Opens the file `path` of the store in `dir`, and reads all records that are whole, oldest first.
    pub(super) fn open(
        dir: &Path,
        path: &Path,
        incarnation: Uuid,
    ) -> Result<(Self, Vec<Witness>), OpenError> {
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(OpenError::damaged(dir, "the file `anchor` is missing"));
            }
            Err(error) => return Err(OpenError::io("open", path)(error)),
        };
        let length = file.metadata().map_err(OpenError::io("look at", path))?.len();
        if usize::try_from(length).ok() != Some(RING_START + RING_BYTES) {
            return Err(OpenError::damaged(
                dir,
                format!("the file `anchor` is {length} bytes long"),
            ));
        }
        let mut bytes = vec![0; RING_START + RING_BYTES];
        file.read_exact_at(&mut bytes, 0).map_err(OpenError::io("read", path))?;
        let (header, ring) = bytes.split_at(RING_START);
        let salt = parse_file_header(header, incarnation).ok_or_else(|| {
            OpenError::damaged(dir, "the header of the file `anchor` is not this store's")
        })?;
        let (witnesses, position) = scan(ring, salt);
        Ok((Self { file, salt, position, unsettled_bytes: 0 }, witnesses))
    }

    /// Whether sled has to be synced, and [`Self::settled`] called, before `events` can be written.
    pub(super) fn is_full_for(&self, events: &[Vec<u8>]) -> bool {
        let length = record_bytes(events);
        self.unsettled_bytes > 0
            && self.unsettled_bytes + self.skipped_for(length) + length > UNSETTLED_BYTES_MAX
    }

    /// Whether something was written since sled was last synced.
    pub(super) fn is_unsettled(&self) -> bool {
        self.unsettled_bytes > 0
    }

    /// Takes note that sled has been synced, with everything that was written here.
    pub(super) fn settled(&mut self) {
        self.unsettled_bytes = 0;
    }

    /// Writes a record and syncs it.
    pub(super) fn write(&mut self, witness: &Record<'_>) -> io::Result<()> {
        let record = encode(self.salt, witness);
        let skipped = self.skipped_for(record.len());
        if self.wraps_for(record.len()) {
            self.position = 0;
        }
        self.file.write_all_at(&record, self.offset())?;
        self.file.sync_data()?;
        self.position += record.len();
        self.unsettled_bytes += skipped + record.len();
        Ok(())
    }

    /// Writes, behind the newest record, that its append has returned. Not synced.
    ///
    /// It survives `kill -9`, and the next append's sync takes its place. With it, damage to the newest
    /// record cannot pass for a write that was never finished.
    pub(super) fn confirm(&mut self, last: Sequence, head: Head) -> io::Result<()> {
        let record =
            encode(self.salt, &Record { after: last, head_before: head, events: &[], head });
        if self.wraps_for(record.len()) {
            self.position = 0;
        }
        self.file.write_all_at(&record, self.offset())
    }

    fn wraps_for(&self, length: usize) -> bool {
        self.position + length > RING_BYTES
    }

    /// How much stays unused at the ring's end when `length` bytes do not fit there.
    fn skipped_for(&self, length: usize) -> usize {
        if self.wraps_for(length) { RING_BYTES - self.position } else { 0 }
    }

    fn offset(&self) -> u64 {
        // The file is a few MiB long.
        (RING_START + self.position) as u64
    }
}

/// What a record is made of.
#[derive(Debug)]
pub(super) struct Record<'a> {
    pub(super) after: Sequence,
    pub(super) head_before: Head,
    pub(super) events: &'a [Vec<u8>],
    pub(super) head: Head,
}

fn file_header(incarnation: Uuid, salt: Uuid) -> Vec<u8> {
    let header = [FILE_MAGIC.as_slice(), incarnation.as_bytes(), salt.as_bytes()].concat();
    let digest = Sha256::digest(&header);
    [header.as_slice(), digest.as_slice()].concat()
}

fn parse_file_header(header: &[u8], incarnation: Uuid) -> Option<Uuid> {
    let salt = header.get(FILE_MAGIC.len() + 16..)?.first_chunk::<16>()?;
    let salt = Uuid::from_bytes(*salt);
    header.starts_with(&file_header(incarnation, salt)).then_some(salt)
}

fn record_bytes(events: &[Vec<u8>]) -> usize {
    (RECORD_HEADER_BYTES + super::batch_bytes(events) + DIGEST_BYTES).next_multiple_of(ALIGN)
}

fn encode(salt: Uuid, witness: &Record<'_>) -> Vec<u8> {
    let events_bytes = super::batch_bytes(witness.events);
    let mut record = Vec::with_capacity(record_bytes(witness.events));
    record.extend_from_slice(RECORD_MAGIC);
    // Both fit: `append` has refused what is larger than BATCH_BYTES_MAX.
    record.extend_from_slice(&u32::try_from(events_bytes).unwrap_or(u32::MAX).to_be_bytes());
    record
        .extend_from_slice(&u32::try_from(witness.events.len()).unwrap_or(u32::MAX).to_be_bytes());
    record.extend_from_slice(&witness.after.0.to_be_bytes());
    record.extend_from_slice(witness.head_before.as_bytes());
    record.extend_from_slice(witness.head.as_bytes());
    for event in witness.events {
        record.extend_from_slice(&u32::try_from(event.len()).unwrap_or(u32::MAX).to_be_bytes());
        record.extend_from_slice(event);
    }
    let digest = digest(salt, &record);
    record.extend_from_slice(&digest);
    record.resize(record.len().next_multiple_of(ALIGN), 0);
    record
}

fn digest(salt: Uuid, record: &[u8]) -> [u8; DIGEST_BYTES] {
    Sha256::new().chain_update(salt.as_bytes()).chain_update(record).finalize().into()
}

/// Reads every whole record, and finds the place behind the newest.
fn scan(ring: &[u8], salt: Uuid) -> (Vec<Witness>, usize) {
    let mut witnesses = Vec::new();
    let mut newest = (Sequence::ZERO, 0);
    let mut position = 0;
    while position < ring.len() {
        let Some((witness, length)) = decode(&ring[position..], salt) else {
            position += ALIGN;
            continue;
        };
        position += length;
        newest = newest.max((witness.last(), position));
        witnesses.push(witness);
    }
    witnesses.sort_by_key(|witness| (witness.after, witness.last()));
    (witnesses, newest.1)
}

/// Reads the record at the start of `bytes`, and its length with the filling behind it.
fn decode(bytes: &[u8], salt: Uuid) -> Option<(Witness, usize)> {
    let rest = bytes.strip_prefix(RECORD_MAGIC)?;
    let (events_bytes, rest) = rest.split_first_chunk::<4>()?;
    let (count, rest) = rest.split_first_chunk::<4>()?;
    let (after, rest) = rest.split_first_chunk::<8>()?;
    let (head_before, rest) = rest.split_first_chunk::<{ Head::BYTES }>()?;
    let (head, rest) = rest.split_first_chunk::<{ Head::BYTES }>()?;
    let events_bytes = usize::try_from(u32::from_be_bytes(*events_bytes)).ok()?;
    if events_bytes > BATCH_BYTES_MAX {
        return None;
    }
    let (mut encoded, rest) = rest.split_at_checked(events_bytes)?;
    let body_bytes = RECORD_HEADER_BYTES + events_bytes;
    if *rest.first_chunk::<DIGEST_BYTES>()? != digest(salt, &bytes[..body_bytes]) {
        return None;
    }
    let mut events = Vec::new();
    for _ in 0..u32::from_be_bytes(*count) {
        let (length, rest) = encoded.split_first_chunk::<4>()?;
        let (event, rest) =
            rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        events.push(event.to_vec());
        encoded = rest;
    }
    let witness = Witness {
        after: Sequence(u64::from_be_bytes(*after)),
        head_before: Head::from_bytes(*head_before),
        events,
        head: Head::from_bytes(*head),
    };
    Some((witness, (body_bytes + DIGEST_BYTES).next_multiple_of(ALIGN)))
}
