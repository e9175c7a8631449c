//! A backup comes back whole or not at all.

use tempfile::TempDir;

use super::*;
use crate::store::MemoryStore;

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    fn backup(&self) -> PathBuf {
        self.0.path().join("backup")
    }

    fn target(&self) -> PathBuf {
        self.0.path().join("store")
    }

    /// The names of all there is, sorted.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.0.path())
            .expect("readable")
            .map(|entry| entry.expect("readable").file_name().display().to_string())
            .collect();
        names.sort();
        names
    }

    fn restore(&self) -> Result<Restored, RestoreError> {
        restore(&self.backup(), &self.target())
    }
}

fn filled(texts: &[&str]) -> MemoryStore {
    let mut store = MemoryStore::new(Uuid::from_u128(7));
    let events: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    store.append(Sequence::ZERO, &events).expect("appended");
    store
}

fn read(store: &dyn EventStore) -> Vec<Vec<u8>> {
    store.read_after(Sequence::ZERO).map(|event| event.expect("readable").1).collect()
}

#[test]
fn a_restored_store_has_the_same_events_and_an_incarnation_of_its_own() {
    let place = Place::new();
    let mut original = SledStore::create(&place.0.path().join("original")).expect("a new store");
    for size in [10, 100, 10_000, EVENT_BYTES_MAX, 0, 600_000, 600_000] {
        original.append(original.last(), &[vec![7; size]]).expect("appended");
    }
    let summary = export(&original, &place.backup()).expect("exported");
    assert_eq!((summary.events, summary.head), (7, original.head()));
    assert_eq!(summary.file_bytes, fs::metadata(place.backup()).expect("there").len());

    let restored = place.restore().expect("restored");
    assert_eq!(restored.backup, summary);
    let store = SledStore::open(&place.target()).expect("opened");
    assert_eq!((restored.last, restored.incarnation), (store.last(), store.incarnation()));
    assert_ne!(store.incarnation(), original.incarnation());
    assert!(read(&store) == read(&original), "the logs differ");
    assert_eq!(place.names(), ["backup", "original", "store"]);
}

#[test]
fn an_empty_log_can_be_backed_up_and_restored() {
    let place = Place::new();
    export(&filled(&[]), &place.backup()).expect("exported");

    assert_eq!(place.restore().expect("restored").last, Sequence::ZERO);
    assert_eq!(SledStore::open(&place.target()).expect("opened").last(), Sequence::ZERO);
}

#[test]
fn a_store_can_be_exported_while_it_is_appended_to() {
    let place = Place::new();
    let mut store = filled(&["a", "b"]);
    let (last, events) = (store.last(), store.read_after(Sequence::ZERO));
    store.append(last, &[b"c".to_vec()]).expect("appended");
    export_events(store.incarnation(), last, events, &place.backup()).expect("exported");

    place.restore().expect("restored");
    let store = SledStore::open(&place.target()).expect("opened");
    assert_eq!(read(&store), [b"a", b"b"]);
}

#[test]
fn a_backup_cut_anywhere_is_refused_and_leaves_nothing() {
    let place = Place::new();
    export(&filled(&["first", "second"]), &place.backup()).expect("exported");
    let whole = fs::read(place.backup()).expect("readable");

    for length in 0..whole.len() {
        fs::write(place.backup(), &whole[..length]).expect("written");
        let refused = place.restore().expect_err("refused");
        assert_eq!(refused.code(), "BACKUP_INVALID", "cut to {length}: {refused}");
    }
    assert_eq!(place.names(), ["backup"]);
}

#[test]
fn a_backup_with_any_bit_flipped_or_anything_added_is_refused_and_leaves_nothing() {
    let place = Place::new();
    export(&filled(&["first", "second"]), &place.backup()).expect("exported");
    let whole = fs::read(place.backup()).expect("readable");

    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        fs::write(place.backup(), &flipped).expect("written");
        let refused = place.restore().expect_err("refused");
        assert_eq!(refused.code(), "BACKUP_INVALID", "flipped at {at}: {refused}");
    }
    fs::write(place.backup(), [whole.as_slice(), b"x"].concat()).expect("written");
    assert_eq!(place.restore().expect_err("refused").code(), "BACKUP_INVALID");
    assert_eq!(place.names(), ["backup"]);
}

#[test]
fn a_newer_backup_is_refused_with_both_versions() {
    let place = Place::new();
    export(&filled(&["first"]), &place.backup()).expect("exported");
    let mut bytes = fs::read(place.backup()).expect("readable");
    bytes[MAGIC.len() + 3] = 2;
    fs::write(place.backup(), bytes).expect("written");

    let refused = place.restore().expect_err("refused");
    assert!(matches!(refused, RestoreError::Newer { found: 2, supported: 1, .. }), "{refused:?}");
    assert_eq!(place.names(), ["backup"]);
}

#[test]
fn a_target_with_anything_in_it_is_refused_and_left_alone() {
    let place = Place::new();
    export(&filled(&["first"]), &place.backup()).expect("exported");
    fs::create_dir(place.target()).expect("created");
    fs::write(place.target().join("mine"), "precious").expect("written");

    assert_eq!(place.restore().expect_err("refused").code(), "STORE_OCCUPIED");
    assert_eq!(fs::read_to_string(place.target().join("mine")).expect("there"), "precious");
    fs::remove_file(place.target().join("mine")).expect("removed");
    place.restore().expect("restored into the empty directory");
}

#[test]
fn an_export_that_fails_leaves_the_backup_before_it() {
    let place = Place::new();
    export(&filled(&["first"]), &place.backup()).expect("exported");
    let before = fs::read(place.backup()).expect("readable");
    let store = filled(&["first", "second"]);

    let broken = store.read_after(Sequence::ZERO).take(1);
    let incomplete =
        export_events(store.incarnation(), store.last(), Box::new(broken), &place.backup());
    assert!(matches!(incomplete, Err(ExportError::Incomplete { found: 1, expected: 2 })));
    let unreadable = std::iter::once(Err(ReadError::new(Sequence(1), "is missing")));
    let unread =
        export_events(store.incarnation(), store.last(), Box::new(unreadable), &place.backup());
    assert!(matches!(unread, Err(ExportError::Read(_))));
    assert!(fs::read(place.backup()).expect("readable") == before);
    assert_eq!(place.names(), ["backup"]);
}
