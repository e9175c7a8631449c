//! Torn, damaged, newer and foreign files.

use std::fs;

use cutover_common::{Sha256, Term};
use proptest::prelude::*;

use super::*;
use crate::{RealDisk, contract::event};

/// Returns a journal of three commits, as bytes, with where each begins.
fn three() -> (Vec<u8>, [usize; 3]) {
    let frames: Vec<Vec<u8>> =
        (1..=3).map(|number| frame::encode(number, &[event(number)]).unwrap()).collect();
    let starts = [0, frames[0].len(), frames[0].len() + frames[1].len()];
    (frames.concat(), starts)
}

type Opened = Result<(DiskJournal<RealDisk>, Vec<Event>), OpenJournal>;

fn open(bytes: &[u8]) -> (tempfile::TempDir, Opened) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(JOURNAL_FILE), bytes).unwrap();
    let opened = DiskJournal::open(RealDisk::new(dir.path()));
    (dir, opened)
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_off_and_appending_goes_on() {
    let (bytes, starts) = three();
    for length in starts[2]..bytes.len() {
        let (dir, opened) = open(&bytes[..length]);
        let (mut journal, events) = opened.unwrap();
        assert_eq!(events, [event(1), event(2)], "cut at {length}");
        journal.append(&[event(4)]).unwrap();
        assert_eq!(
            DiskJournal::peek(&mut RealDisk::new(dir.path())).unwrap(),
            [event(1), event(2), event(4)],
            "cut at {length}"
        );
    }
}

#[test]
fn a_bit_that_flipped_in_front_of_a_later_commit_is_damage() {
    let (bytes, starts) = three();
    for at in 0..starts[2] {
        for bit in 0..8 {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << bit;
            let (_dir, opened) = open(&bytes);
            let error = opened.expect_err("damage is noticed").to_string();
            assert!(error.starts_with("OBSERVE_ONLY"), "byte {at}, bit {bit}: {error}");
        }
    }
}

#[test]
fn a_bit_that_flipped_in_a_summary_is_damage_and_no_empty_journal() {
    let (bytes, _) = three();
    let (dir, opened) = open(&bytes);
    opened.unwrap().0.replace(&[event(9)]).unwrap();
    let summary = frame::encode(4, &[event(9)]).unwrap();
    let bytes = fs::read(dir.path().join(JOURNAL_FILE)).unwrap();
    assert!(bytes.starts_with(&summary));

    for at in 0..summary.len() {
        for bit in 0..8 {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << bit;
            let (_dir, opened) = open(&bytes);
            let error = opened.expect_err("damage is noticed").to_string();
            assert!(error.starts_with("OBSERVE_ONLY"), "byte {at}, bit {bit}: {error}");
        }
    }
}

#[test]
fn a_journal_without_a_whole_commit_is_damage_and_no_new_one() {
    let dir = tempfile::tempdir().unwrap();
    drop(DiskJournal::open(RealDisk::new(dir.path())).unwrap());
    let mut bytes = fs::read(dir.path().join(JOURNAL_FILE)).unwrap();
    bytes[20] ^= 1;

    for bytes in [bytes.as_slice(), &[]] {
        assert!(matches!(open(bytes).1, Err(OpenJournal::Damaged { at: 0, .. })), "{bytes:?}");
    }
}

#[test]
fn what_follows_a_summary_is_read_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = DiskJournal::open(RealDisk::new(dir.path())).unwrap();
    journal.append(&[event(1)]).unwrap();
    journal.replace(&[event(2)]).unwrap();
    journal.append(&[event(3)]).unwrap();
    drop(journal);

    let (mut journal, events) = DiskJournal::open(RealDisk::new(dir.path())).unwrap();
    assert_eq!(events, [event(2), event(3)]);
    journal.append(&[event(4)]).unwrap();

    let events = DiskJournal::peek(&mut RealDisk::new(dir.path())).unwrap();
    assert_eq!(events, [event(2), event(3), event(4)]);
}

#[test]
fn a_commit_that_is_missing_in_the_middle_is_damage() {
    let (bytes, starts) = three();
    let without = [&bytes[..starts[1]], &bytes[starts[2]..]].concat();

    assert!(matches!(open(&without).1, Err(OpenJournal::Damaged { .. })));
}

#[test]
fn a_newer_format_is_refused_and_the_file_left_alone() {
    let newer = {
        let payload_at = 20;
        let mut bytes = frame::encode(1, &[event(1)]).unwrap();
        bytes[payload_at] = VERSION + 1;
        let sum = Sha256::of(&[&bytes[..12], &bytes[payload_at..]].concat());
        bytes[12..20].copy_from_slice(&sum.as_bytes()[..8]);
        bytes
    };
    let (dir, opened) = open(&newer);

    assert!(opened.unwrap_err().to_string().starts_with("JOURNAL_TOO_NEW"));
    assert_eq!(fs::read(dir.path().join(JOURNAL_FILE)).unwrap(), newer);
}

#[test]
fn nothing_is_written_after_a_write_failed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = DiskJournal::open(RealDisk::new(dir.path())).unwrap();
    let file = dir.path().join(JOURNAL_FILE);
    // A device that is full takes the journal's place.
    fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink("/dev/full", &file).unwrap();
    *journal.disk_mut() = RealDisk::new(dir.path());

    let failed = journal.append(&[event(1)]).unwrap_err();
    assert!(failed.to_string().contains(file.to_str().unwrap()), "{failed}");
    fs::remove_file(&file).unwrap();
    *journal.disk_mut() = RealDisk::new(dir.path());

    assert!(matches!(journal.append(&[event(2)]), Err(WriteJournal::Poisoned)));
    assert!(matches!(journal.replace(&[event(2)]), Err(WriteJournal::Poisoned)));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

proptest! {
    #[test]
    fn any_bytes_are_refused_and_never_believed(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        let (_dir, opened) = open(&bytes);
        let is_refused = matches!(opened, Err(OpenJournal::Damaged { at: 0, .. }));
        prop_assert!(is_refused);
    }

    #[test]
    fn what_is_encoded_is_decoded(terms in prop::collection::vec(any::<u64>(), 0..20)) {
        let events: Vec<Event> =
            terms.into_iter().map(|term| Event::SplitBrainSeen { term: Term(term) }).collect();
        let (_dir, opened) = open(&frame::encode(7, &events).unwrap());
        prop_assert_eq!(opened.unwrap().1, events);
    }
}
