//! What happened in a simulation, in order: for determinism, for oracles, and for people.

use std::{
    fmt,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// One thing that happened. Has no random id in it, so that two runs can be compared.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Entry {
    /// Virtual time since the simulation began.
    pub at: Duration,
    pub host: String,
    pub what: String,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>10.3} {:<12} {}", self.at.as_secs_f64(), self.host, self.what)
    }
}

/// The entries so far. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Trace(Arc<Mutex<Vec<Entry>>>);

impl Trace {
    /// Notes what happened.
    pub fn add(&self, at: Duration, host: &str, what: impl Into<String>) {
        self.lock().push(Entry { at, host: host.to_owned(), what: what.into() });
    }

    /// Returns all entries.
    pub fn entries(&self) -> Vec<Entry> {
        self.lock().clone()
    }

    /// Returns when `host` did what begins with `what`, in order, from `since` on.
    pub fn moments(&self, host: &str, what: &str, since: Duration) -> Vec<Duration> {
        let entries = self.lock();
        let matching = entries.iter().filter(|entry| {
            entry.at >= since && entry.host == host && entry.what.starts_with(what)
        });
        matching.map(|entry| entry.at).collect()
    }

    /// Returns one number for the whole sequence.
    pub fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.lock().hash(&mut hasher);
        hasher.finish()
    }

    /// Returns the last entries, one a line.
    pub fn tail(&self, lines: usize) -> String {
        let entries = self.lock();
        let skipped = entries.len().saturating_sub(lines);
        entries.iter().skip(skipped).map(|entry| format!("{entry}\n")).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
