//! The places of handshakes that are not complete. When all are taken, the peer that has been
//! silent longest makes room: silence costs an attacker nothing, so it must not cost others.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// How many handshakes may be under way at one port.
pub(super) const PENDING_MAX: usize = 256;

/// The handshakes under way at one port.
#[derive(Debug)]
pub(super) struct Pending {
    places: Arc<Semaphore>,
    silent: Arc<Mutex<Silent>>,
}

/// Those that have not said anything, oldest first.
#[derive(Debug, Default)]
struct Silent {
    next: u64,
    peers: BTreeMap<u64, CancellationToken>,
}

/// One handshake's place; free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    id: u64,
    evicted: CancellationToken,
    silent: Arc<Mutex<Silent>>,
    _permit: OwnedSemaphorePermit,
}

impl Default for Pending {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(PENDING_MAX)), silent: Arc::default() }
    }
}

impl Pending {
    /// Takes a place. If all are taken, the longest silent peer loses its own; if none is silent,
    /// waits for the first handshake to end, which takes 5 s at most.
    pub(super) async fn place(&self) -> Place {
        let permit = match self.places.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                let longest_silent = lock(&self.silent).peers.pop_first();
                if let Some((_, evicted)) = longest_silent {
                    evicted.cancel();
                }
                let freed = self.places.clone().acquire_owned().await;
                freed.expect("nobody closes this semaphore")
            }
        };
        let evicted = CancellationToken::new();
        let mut silent = lock(&self.silent);
        let id = silent.next;
        silent.next += 1;
        silent.peers.insert(id, evicted.clone());
        drop(silent);
        Place { id, evicted, silent: self.silent.clone(), _permit: permit }
    }
}

impl Place {
    /// Waits for the peer's first word; none if the place was lost meanwhile.
    pub(super) async fn while_silent<F: Future>(&self, first_word: F) -> Option<F::Output> {
        let spoken = self.evicted.run_until_cancelled(first_word).await;
        lock(&self.silent).peers.remove(&self.id);
        spoken
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.silent).peers.remove(&self.id);
    }
}

fn lock(silent: &Mutex<Silent>) -> MutexGuard<'_, Silent> {
    silent.lock().unwrap_or_else(PoisonError::into_inner)
}
