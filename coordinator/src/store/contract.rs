//! The tests that each event store must pass, run against all of them.

use tempfile::TempDir;
use uuid::Uuid;

use super::{
    AppendError, BATCH_BYTES_MAX, EVENT_BYTES_MAX, EventStore, MemoryStore, Sequence, SledStore,
    luck::Luck,
};

/// An empty store, and where it lives.
struct Fixture {
    store: Box<dyn EventStore>,
    _dir: Option<TempDir>,
}

fn memory() -> Fixture {
    Fixture { store: Box::new(MemoryStore::new(Uuid::from_u128(7))), _dir: None }
}

fn sled() -> Fixture {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = SledStore::create(&dir.path().join("store")).expect("a new store");
    Fixture { store: Box::new(store), _dir: Some(dir) }
}

/// Runs each test against each engine.
macro_rules! contract {
    ($($test:ident),* $(,)?) => {
        mod memory { $(#[test] fn $test() { super::$test(&mut *super::memory().store); })* }
        mod sled { $(#[test] fn $test() { super::$test(&mut *super::sled().store); })* }
    };
}

contract![
    an_empty_log_ends_before_the_first_event,
    events_are_numbered_from_one_and_read_back_in_order,
    an_append_at_the_wrong_place_changes_nothing,
    an_append_without_events_only_compares,
    the_largest_event_is_stored_and_a_larger_one_changes_nothing,
    a_batch_that_is_too_large_changes_nothing,
    reading_starts_behind_the_given_place_and_ends_at_the_end,
    reading_goes_up_to_what_was_the_newest_when_it_began,
    settling_changes_nothing_that_can_be_seen,
    batches_of_all_sizes_give_the_log_that_a_plain_list_gives,
];

fn read(store: &dyn EventStore, after: u64) -> Vec<(u64, Vec<u8>)> {
    store
        .read_after(Sequence(after))
        .map(|event| event.map(|(sequence, event)| (sequence.0, event)).expect("readable"))
        .collect()
}

fn events(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn append(store: &mut dyn EventStore, texts: &[&str]) {
    store.append(store.last(), &events(texts)).expect("appended");
}

fn an_empty_log_ends_before_the_first_event(store: &mut dyn EventStore) {
    assert_eq!(store.last(), Sequence::ZERO);
    assert_eq!(read(store, 0), []);
}

fn events_are_numbered_from_one_and_read_back_in_order(store: &mut dyn EventStore) {
    assert_eq!(store.append(Sequence(0), &events(&["a", "b"])).expect("appended"), Sequence(2));
    assert_eq!(store.append(Sequence(2), &events(&[""])).expect("appended"), Sequence(3));

    assert_eq!(store.last(), Sequence(3));
    assert_eq!(read(store, 0), [(1, b"a".to_vec()), (2, b"b".to_vec()), (3, b"".to_vec())]);
}

fn an_append_at_the_wrong_place_changes_nothing(store: &mut dyn EventStore) {
    append(store, &["a", "b"]);

    for wrong in [0, 1, 3, u64::MAX] {
        let refused = store.append(Sequence(wrong), &events(&["c"])).expect_err("refused");
        assert!(
            matches!(refused, AppendError::NotLast { expected, actual: Sequence(2) } if expected.0 == wrong),
            "{refused:?}"
        );
        assert!(!refused.is_fatal());
    }
    assert_eq!(read(store, 0).len(), 2);
    append(store, &["c"]);
    assert_eq!(read(store, 2), [(3, b"c".to_vec())]);
}

fn an_append_without_events_only_compares(store: &mut dyn EventStore) {
    append(store, &["a"]);

    assert_eq!(store.append(Sequence(1), &[]).expect("nothing appended"), Sequence(1));
    assert!(matches!(store.append(Sequence(0), &[]), Err(AppendError::NotLast { .. })));
    assert_eq!(read(store, 0).len(), 1);
}

fn the_largest_event_is_stored_and_a_larger_one_changes_nothing(store: &mut dyn EventStore) {
    let largest: Vec<u8> = (0..=250).cycle().take(EVENT_BYTES_MAX).collect();
    store.append(Sequence(0), &[b"small".to_vec(), largest.clone()]).expect("appended");

    let refused = store.append(Sequence(2), &[b"small".to_vec(), vec![0; EVENT_BYTES_MAX + 1]]);
    assert!(matches!(refused, Err(AppendError::TooLarge { .. })), "{refused:?}");
    assert_eq!(read(store, 1), [(2, largest)]);
    append(store, &["after"]);
    assert_eq!(read(store, 2), [(3, b"after".to_vec())]);
}

fn a_batch_that_is_too_large_changes_nothing(store: &mut dyn EventStore) {
    let half = vec![1; BATCH_BYTES_MAX / 2];

    let refused = store.append(Sequence(0), &[half.clone(), half.clone()]);
    assert!(matches!(refused, Err(AppendError::TooLarge { .. })), "{refused:?}");
    assert_eq!(read(store, 0), []);
    store.append(Sequence(0), &[half]).expect("one of them fits");
}

fn reading_starts_behind_the_given_place_and_ends_at_the_end(store: &mut dyn EventStore) {
    append(store, &["a", "b", "c"]);

    assert_eq!(read(store, 1), [(2, b"b".to_vec()), (3, b"c".to_vec())]);
    assert_eq!(read(store, 3), []);
    assert_eq!(read(store, 4), []);
    assert_eq!(read(store, u64::MAX), []);
}

fn reading_goes_up_to_what_was_the_newest_when_it_began(store: &mut dyn EventStore) {
    append(store, &["a", "b"]);
    let mut reading = store.read_after(Sequence::ZERO);
    assert_eq!(reading.next().expect("an event").expect("readable").1, b"a");

    append(store, &["c"]);
    let rest: Vec<u64> = reading.map(|event| event.expect("readable").0.0).collect();
    assert_eq!(rest, [2]);
}

fn settling_changes_nothing_that_can_be_seen(store: &mut dyn EventStore) {
    let incarnation = store.incarnation();
    store.settle().expect("settled when empty");
    append(store, &["a"]);
    store.settle().expect("settled");
    store.settle().expect("settled again");
    append(store, &["b"]);

    assert_eq!(store.incarnation(), incarnation);
    assert_eq!(read(store, 0), [(1, b"a".to_vec()), (2, b"b".to_vec())]);
}

fn batches_of_all_sizes_give_the_log_that_a_plain_list_gives(store: &mut dyn EventStore) {
    let mut luck = Luck::from_environment();
    let mut model: Vec<Vec<u8>> = Vec::new();
    for _ in 0..60 {
        let batch: Vec<Vec<u8>> = (0..luck.within(0..5))
            .map(|_| {
                let length = match luck.within(0..4) {
                    0 => luck.within(0..300),
                    1 => luck.within(8_100..8_300),
                    2 => luck.within(16_300..16_500),
                    _large => luck.within(0..100_000),
                };
                luck.bytes(length)
            })
            .collect();
        let last = Sequence::ZERO.plus(model.len());
        model.extend(batch.iter().cloned());
        let appended = store.append(last, &batch).expect("appended");
        assert_eq!(appended, Sequence::ZERO.plus(model.len()));
        if luck.within(0..10) == 0 {
            store.settle().expect("settled");
        }
    }

    let log: Vec<Vec<u8>> = read(store, 0).into_iter().map(|(_, event)| event).collect();
    assert!(log == model, "the logs differ");
    let from = luck.within(0..model.len());
    let rest: Vec<Vec<u8>> = read(store, from as u64).into_iter().map(|(_, event)| event).collect();
    assert!(rest == model[from..], "the logs differ behind {from}");
}
