//! A store in a temporary directory, for tests: filled, closed, killed, copied.

use std::path::PathBuf;

use tempfile::TempDir;

use super::{EventStore as _, OpenError, Sequence, SledStore, directory::copy_directory};

/// A store's directory in a temporary one.
pub(super) struct Place {
    _dir: TempDir,
    pub(super) dir: PathBuf,
}

impl Place {
    pub(super) fn new() -> Self {
        let parent = tempfile::tempdir().expect("a temporary directory");
        let dir = parent.path().join("store");
        Self { _dir: parent, dir }
    }

    /// A store of `count` events that was closed in order.
    pub(super) fn closed(count: usize) -> Self {
        let place = Self::new();
        fill(&mut place.create(), count);
        place
    }

    /// A closed store of `count` events, of which the anchor's ring has only the newest.
    pub(super) fn long(count: u64) -> Self {
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
    pub(super) fn killed(count: usize) -> Self {
        let place = Self::new();
        let mut store = place.create();
        fill(&mut store, count);
        place.copy()
    }

    pub(super) fn create(&self) -> SledStore {
        SledStore::create(&self.dir).expect("a new store")
    }

    pub(super) fn open(&self) -> Result<SledStore, OpenError> {
        SledStore::open(&self.dir)
    }

    pub(super) fn copy(&self) -> Self {
        let copy = Self::new();
        copy_directory(&self.dir, &copy.dir).expect("copied");
        copy
    }

    pub(super) fn refused(&self, code: &str) -> String {
        let refused = self.open().expect_err("refused");
        assert_eq!(refused.code(), code, "{refused}");
        refused.to_string()
    }
}

/// The event at a place: recognisable, and of many sizes.
pub(super) fn event(sequence: u64) -> Vec<u8> {
    let length = usize::try_from(sequence * 37 % 700).expect("small");
    let mut event = format!("event {sequence} ").into_bytes();
    event.resize(event.len() + length, b'.');
    event
}

pub(super) fn fill(store: &mut SledStore, count: usize) {
    for _ in 0..count {
        let next = store.last().next();
        store.append(store.last(), &[event(next.0)]).expect("appended");
    }
}

pub(super) fn assert_holds(store: &SledStore, count: u64) {
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
