//! Each guard of the store on sled, and what becomes of damage.

use std::{
    collections::BTreeMap,
    os::unix::fs::{PermissionsExt as _, symlink},
};

use tempfile::TempDir;

use super::*;
use crate::store::{BATCH_BYTES_MAX, EVENT_BYTES_MAX, chain::FRAME_BYTES_MAX, luck::Luck};

/// A store's directory in a temporary one.
struct Place {
    _dir: TempDir,
    dir: PathBuf,
}

impl Place {
    fn new() -> Self {
        let parent = tempfile::tempdir().expect("a temporary directory");
        let dir = parent.path().join("store");
        Self { _dir: parent, dir }
    }

    /// A store of `count` events that was closed in order.
    fn closed(count: usize) -> Self {
        let place = Self::new();
        fill(&mut place.create(), count);
        place
    }

    /// A closed store of `count` events, of which the anchor's ring has only the newest.
    fn long(count: u64) -> Self {
        let place = Self::new();
        let mut store = place.create();
        while store.last().0 < count {
            let first = store.last().0 + 1;
            let events: Vec<Vec<u8>> = (first..first + 100).map(event).collect();
            store.append(store.last(), &events).expect("appended");
        }
        drop(store);
        place
    }

    /// What `kill -9` leaves of a store of `count` events: the files as they are while it is open.
    fn killed(count: usize) -> Self {
        let place = Self::new();
        let mut store = place.create();
        fill(&mut store, count);
        place.copy()
    }

    fn create(&self) -> SledStore {
        SledStore::create(&self.dir).expect("a new store")
    }

    fn open(&self) -> Result<SledStore, OpenError> {
        SledStore::open(&self.dir)
    }

    fn copy(&self) -> Self {
        let copy = Self::new();
        copy_directory(&self.dir, &copy.dir).expect("copied");
        copy
    }

    fn refused(&self, code: &str) -> String {
        let refused = self.open().expect_err("refused");
        assert_eq!(refused.code(), code, "{refused}");
        refused.to_string()
    }
}

/// The event at a place: recognisable, and of many sizes.
fn event(sequence: u64) -> Vec<u8> {
    let length = usize::try_from(sequence * 37 % 700).expect("small");
    let mut event = format!("event {sequence} ").into_bytes();
    event.resize(event.len() + length, b'.');
    event
}

fn fill(store: &mut SledStore, count: usize) {
    for _ in 0..count {
        let next = store.last().next();
        store.append(store.last(), &[event(next.0)]).expect("appended");
    }
}

fn assert_holds(store: &SledStore, count: u64) {
    assert_eq!(store.last(), Sequence(count));
    let mut expected = 0;
    for item in store.read_after(Sequence::ZERO) {
        let (sequence, bytes) = item.expect("readable");
        expected += 1;
        assert_eq!(sequence, Sequence(expected));
        assert!(bytes == event(expected), "event {expected} differs");
    }
    assert_eq!(expected, count);
}

#[test]
fn a_store_that_was_closed_opens_with_everything_under_the_same_incarnation_and_head() {
    let place = Place::new();
    let (incarnation, head) = {
        let mut store = place.create();
        fill(&mut store, 300);
        (store.incarnation(), store.head())
    };

    let mut store = place.open().expect("opened");
    assert_holds(&store, 300);
    assert_eq!((store.incarnation(), store.head()), (incarnation, head));
    fill(&mut store, 5);
    drop(store);
    assert_holds(&place.open().expect("opened again"), 305);
}

#[test]
fn what_only_the_anchor_has_is_added_on_opening() {
    let place = Place::killed(300);

    let report = check(&place.dir).expect("whole");
    assert!(report.completed_events > 0, "sled had everything: {report:?}");
    assert_holds(&place.open().expect("opened"), 300);
    assert_eq!(check(&place.dir).expect("whole").completed_events, 0);
}

#[test]
fn the_ring_goes_round_many_times_and_every_kill_on_the_way_loses_nothing() {
    let place = Place::new();
    let mut store = place.create();
    let mut luck = Luck::from_environment();
    let mut model: Vec<Vec<u8>> = Vec::new();
    // 30 MB through a ring of 4 MiB.
    for round in 0..60 {
        let length =
            if luck.within(0..4) == 0 { EVENT_BYTES_MAX } else { luck.within(0..BATCH_BYTES_MAX) };
        let event = luck.bytes(length.min(EVENT_BYTES_MAX));
        store.append(store.last(), std::slice::from_ref(&event)).expect("appended");
        model.push(event);
        if round % 6 == 0 {
            let killed = place.copy();
            let reopened = killed.open().expect("opened");
            let log: Vec<Vec<u8>> = reopened
                .read_after(Sequence::ZERO)
                .map(|event| event.expect("readable").1)
                .collect();
            assert!(log == model, "the log differs after {round} events");
        }
    }
}

#[test]
fn no_value_in_sled_is_larger_than_a_frame_and_none_becomes_a_blob() {
    let place = Place::new();
    let mut store = place.create();
    store.append(Sequence::ZERO, &[vec![7; EVENT_BYTES_MAX]]).expect("appended");
    store.settle().expect("settled");

    let values: Vec<usize> =
        store.log.db.iter().values().map(|value| value.expect("readable").len()).collect();
    assert!(values.len() > EVENT_BYTES_MAX / FRAME_BYTES_MAX, "{} values", values.len());
    assert!(values.iter().all(|length| *length <= FRAME_BYTES_MAX), "{values:?}");
    assert!(!holds_anything(&place.dir.join("sled/blobs")).expect("readable"));
}

#[test]
fn a_snapshot_that_sled_was_killed_in_is_removed_and_the_store_opens() {
    let place = Place::closed(20);
    let unfinished = place.dir.join("sled/snap.00000000FFFFFFFF.generating");
    fs::write(&unfinished, "").expect("written");

    assert_holds(&place.open().expect("opened"), 20);
    assert!(!unfinished.exists());
}

#[test]
fn a_second_coordinator_is_told_who_has_the_store_until_that_one_is_gone() {
    let place = Place::new();
    let store = place.create();

    let told = place.refused("STORE_LOCKED");
    let pid = format!("locked by another coordinator (pid {})", std::process::id());
    assert!(told.contains(&pid), "{told}");
    assert_eq!(check(&place.dir).expect_err("refused").code(), "STORE_LOCKED");
    drop(store);
    place.open().expect("opened");
}

#[test]
fn reading_keeps_the_store_locked() {
    let place = Place::new();
    let mut store = place.create();
    fill(&mut store, 3);
    let reading = store.read_after(Sequence::ZERO);
    drop(store);

    place.refused("STORE_LOCKED");
    assert_eq!(reading.filter(Result::is_ok).count(), 3);
    place.open().expect("opened");
}

#[test]
fn a_newer_format_is_refused_with_both_versions() {
    let place = Place::closed(1);
    let path = place.dir.join("format");
    let text = fs::read_to_string(&path).expect("a text").replace("format = 1", "format = 2");
    let (body, _sum) = text.split_once("checksum").expect("a checksum");
    fs::write(&path, format!("{body}checksum = {}\n", directory::checksum(body))).expect("written");

    let told = place.refused("STORE_NEWER");
    assert!(told.contains("has format 2 and this coordinator reads formats up to 1"), "{told}");
}

#[test]
fn a_directory_that_is_open_to_others_or_a_link_or_no_directory_is_refused() {
    let place = Place::closed(1);
    let other = Place::new();
    symlink(&place.dir, &other.dir).expect("linked");
    assert!(other.refused("STORE_PERMISSIONS").contains("symbolic link"));
    fs::remove_file(&other.dir).expect("removed");
    fs::write(&other.dir, "").expect("written");
    assert!(other.refused("STORE_PERMISSIONS").contains("is no directory"));

    fs::set_permissions(&place.dir, fs::Permissions::from_mode(0o750)).expect("changed");
    assert!(place.refused("STORE_PERMISSIONS").contains("chmod 700"));
    fs::set_permissions(&place.dir, fs::Permissions::from_mode(0o700)).expect("changed");
    assert_holds(&place.open().expect("opened"), 1);
}

#[test]
fn everything_that_is_created_is_private() {
    let place = Place::closed(1);
    let mode = |name: &str| {
        fs::metadata(place.dir.join(name)).expect("there").permissions().mode() & 0o777
    };

    assert_eq!(mode(""), 0o700);
    assert_eq!([mode("lock"), mode("format"), mode("anchor")], [0o600; 3]);
}

#[test]
fn a_store_is_not_created_over_anything_and_not_opened_where_there_is_none() {
    let place = Place::new();
    assert!(place.refused("STORE_MISSING").contains("cutover-coordinator init"));
    fs::create_dir(&place.dir).expect("created");
    fs::set_permissions(&place.dir, fs::Permissions::from_mode(0o700)).expect("changed");
    place.refused("STORE_MISSING");
    assert!(!holds_anything(&place.dir).expect("readable"), "opening left something behind");

    drop(place.create());
    let refused = SledStore::create(&place.dir).expect_err("refused");
    assert_eq!(refused.code(), "STORE_OCCUPIED");
    place.open().expect("opened");
}

#[test]
fn nothing_stays_beside_a_new_store() {
    let place = Place::closed(1);
    let names: Vec<_> = fs::read_dir(place.dir.parent().expect("a parent"))
        .expect("readable")
        .map(|entry| entry.expect("readable").file_name())
        .collect();

    assert_eq!(names, ["store"]);
}

#[test]
fn a_blob_is_refused_on_opening_and_stops_a_store_in_use_for_good() {
    let place = Place::new();
    let mut store = place.create();
    fill(&mut store, 3);
    let blob = place.dir.join("sled/blobs/1234");
    fs::write(&blob, "").expect("written");

    let failed = store.settle().expect_err("failed");
    assert!(matches!(failed, AppendError::Poisoned { .. }) && failed.is_fatal(), "{failed:?}");
    fs::remove_file(&blob).expect("removed");
    let refused = store.append(Sequence(3), &[event(4)]).expect_err("refused");
    assert!(matches!(refused, AppendError::Poisoned { .. }), "{refused:?}");
    assert!(matches!(store.settle(), Err(AppendError::Poisoned { .. })));
    drop(store);
    fs::write(&blob, "").expect("written");
    assert!(place.refused("STORE_DAMAGED").contains("blobs"));
    fs::remove_file(&blob).expect("removed");
    let mut store = place.open().expect("opened");
    fill(&mut store, 1);
    assert_holds(&store, 4);
}

#[test]
fn a_store_without_one_of_its_files_is_refused_or_whole() {
    for name in ["format", "anchor"] {
        let place = Place::closed(20);
        fs::remove_file(place.dir.join(name)).expect("removed");
        assert!(place.refused("STORE_DAMAGED").contains("cutover-coordinator restore"));
    }
    let place = Place::closed(20);
    fs::remove_dir_all(place.dir.join("sled")).expect("removed");
    assert_holds(&place.open().expect("the anchor had everything"), 20);
}

#[test]
fn a_log_that_is_shorter_than_its_anchor_can_fill_is_refused() {
    let place = Place::new();
    let mut store = place.create();
    fill(&mut store, 20);
    store.settle().expect("settled");
    let old = place.copy();
    // More than the ring holds.
    for _ in 0..6 {
        store.append(store.last(), &[vec![0; EVENT_BYTES_MAX]]).expect("appended");
    }
    drop(store);
    fs::remove_dir_all(place.dir.join("sled")).expect("removed");
    copy_directory(&old.dir.join("sled"), &place.dir.join("sled")).expect("copied");

    let told = place.refused("STORE_DAMAGED");
    assert!(told.contains("ends at event 20 and had reached"), "{told}");
    assert_eq!(check(&place.dir).expect_err("refused").code(), "STORE_DAMAGED");
}

#[test]
fn the_anchor_or_the_log_of_another_store_is_refused() {
    for part in ["anchor", "format"] {
        let (place, other) = (Place::closed(20), Place::closed(20));
        fs::copy(other.dir.join(part), place.dir.join(part)).expect("copied");
        place.refused("STORE_DAMAGED");
    }
    let (place, other) = (Place::closed(20), Place::closed(20));
    fs::remove_dir_all(place.dir.join("sled")).expect("removed");
    copy_directory(&other.dir.join("sled"), &place.dir.join("sled")).expect("copied");
    assert!(place.refused("STORE_DAMAGED").contains("event 1 does not match its hash"));
}

#[test]
fn an_event_changed_or_taken_out_within_sled_is_refused() {
    let change = |place: &Place, change: &dyn Fn(&Db)| {
        let db = Config::new().path(place.dir.join("sled")).open().expect("sled");
        change(&db);
        db.flush().expect("flushed");
    };
    let place = Place::closed(20);
    change(&place, &|db| {
        let mut value = db.get(key(Sequence(7), 0)).expect("read").expect("there").to_vec();
        *value.last_mut().expect("a byte") ^= 1;
        db.insert(key(Sequence(7), 0), value).expect("written");
    });
    assert!(place.refused("STORE_DAMAGED").contains("event 7 does not match its hash"));

    let place = Place::closed(20);
    change(&place, &|db| drop(db.remove(key(Sequence(7), 0)).expect("removed")));
    assert!(place.refused("STORE_DAMAGED").contains("event 7 is missing"));
}

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

/// How often damage to a file had which outcome.
type Tally = BTreeMap<(PathBuf, &'static str), usize>;

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
            let file = File::options().write(true).open(copy.dir.join(name)).expect("opened");
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

#[test]
fn checking_reports_what_is_there_and_changes_nothing() {
    let place = Place::killed(300);
    let files = |place: &Place| {
        let mut files = files_of(&place.dir).expect("files");
        files.extend(files_of(&place.dir.join("sled")).expect("files"));
        files.sort();
        files
            .into_iter()
            .filter(|file| !file.ends_with("lock"))
            .map(|file| (fs::read(&file).expect("readable"), file))
            .collect::<Vec<_>>()
    };
    let before = files(&place);

    let report = check(&place.dir).expect("whole");
    assert!(files(&place) == before, "checking has changed the store");
    let store = place.open().expect("opened");
    assert_eq!(
        (report.events, report.incarnation, report.head),
        (300, store.incarnation(), store.head())
    );
    let event_bytes: usize = (1..=300).map(|sequence| event(sequence).len()).sum();
    assert_eq!(report.event_bytes, event_bytes as u64);
    assert!(report.disk_bytes > report.event_bytes);
}
