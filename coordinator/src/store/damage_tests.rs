//! What becomes of damage: a store opens whole or is refused, and never opens with less (D2).

use std::{collections::BTreeMap, fs, path::PathBuf};

use super::{
    EventStore as _, OpenError, Sequence,
    directory::files_of,
    luck::Luck,
    place::{Place, assert_holds},
};

/// How often damage to a file had which outcome.
type Tally = BTreeMap<(PathBuf, &'static str), usize>;

/// What became of a damaged copy: whole, or refused. Anything else fails the test.
fn outcome(place: &Place, count: u64, damage: &str) -> &'static str {
    match place.open() {
        Ok(store) => {
            assert_eq!(store.last(), Sequence(count), "events were lost silently: {damage}");
            assert_holds(&store, count);
            "whole"
        }
        Err(OpenError::Damaged { .. }) => "refused",
        Err(other) => panic!("{damage}: {other:?}"),
    }
}

/// Damages copies of `place` in `rounds` seeded places of all its files.
fn damage(place: &Place, count: u64, rounds: usize, spoil: fn(&mut Luck, &mut [u8])) -> Tally {
    let mut files = files_of(&place.dir).expect("files");
    files.extend(files_of(&place.dir.join("sled")).expect("files"));
    files.retain(|file| !file.ends_with("lock"));
    files.sort();
    damage_files(place, count, rounds, &files, spoil)
}

fn damage_files(
    place: &Place,
    count: u64,
    rounds: usize,
    files: &[PathBuf],
    spoil: fn(&mut Luck, &mut [u8]),
) -> Tally {
    let mut luck = Luck::from_environment();
    let mut tally = Tally::new();
    for round in 0..rounds {
        let copy = place.copy();
        let file = files[round % files.len()].strip_prefix(&place.dir).expect("a file in it");
        let mut bytes = fs::read(copy.dir.join(file)).expect("readable");
        // The files begin with what is in use; zeros follow, where damage has no effect.
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1);
        let at = luck.within(0..used);
        spoil(&mut luck, &mut bytes[at..]);
        fs::write(copy.dir.join(file), &bytes).expect("written");
        let outcome = outcome(&copy, count, &format!("{} at {at}", file.display()));
        *tally.entry((file.to_owned(), outcome)).or_insert(0) += 1;
    }
    println!("{tally:?}");
    tally
}

fn flip(luck: &mut Luck, bytes: &mut [u8]) {
    bytes[0] ^= 1 << luck.within(0..8);
}

fn zero_a_block(_luck: &mut Luck, bytes: &mut [u8]) {
    let length = bytes.len().min(4096);
    bytes[..length].fill(0);
}

#[test]
fn a_flipped_bit_in_a_closed_store_is_refused_or_has_no_effect() {
    damage(&Place::closed(300), 300, 100, flip);
}

#[test]
fn a_flipped_bit_in_a_killed_store_is_refused_or_has_no_effect() {
    damage(&Place::killed(300), 300, 100, flip);
}

#[test]
fn damage_to_events_that_the_anchor_has_no_more_is_refused() {
    let place = Place::long(20_000);
    let log = [place.dir.join("sled/db")];
    for spoil in [flip as fn(&mut Luck, &mut [u8]), zero_a_block] {
        let tally = damage_files(&place, 20_000, 25, &log, spoil);
        assert!(tally.contains_key(&(PathBuf::from("sled/db"), "refused")), "{tally:?}");
    }
}

#[test]
fn a_zeroed_block_in_a_closed_store_is_refused_or_has_no_effect() {
    damage(&Place::closed(300), 300, 60, zero_a_block);
}

#[test]
fn a_file_cut_short_is_refused_or_filled_from_the_anchor() {
    let whole = Place::closed(300);
    let mut luck = Luck::from_environment();
    for name in ["sled/db", "sled/conf", "anchor", "format"] {
        let length = fs::metadata(whole.dir.join(name)).expect("there").len();
        for _ in 0..8 {
            let copy = whole.copy();
            let kept = luck.number() % length;
            let file = fs::File::options().write(true).open(copy.dir.join(name)).expect("opened");
            file.set_len(kept).expect("cut");
            outcome(&copy, 300, &format!("{name} cut to {kept} bytes"));
        }
    }
}

#[test]
fn damage_to_the_newest_record_of_a_killed_store_does_not_pass_for_an_unfinished_write() {
    let place = Place::killed(3);
    let path = place.dir.join("anchor");
    let mut bytes = fs::read(&path).expect("readable");
    let newest = bytes.windows(8).position(|window| window == b"event 3 ").expect("the event");
    bytes[newest] ^= 1;
    fs::write(&path, bytes).expect("written");

    assert!(place.refused("STORE_DAMAGED").contains("ends at event 2 and had reached 3"));
}
