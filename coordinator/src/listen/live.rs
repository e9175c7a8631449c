//! The agents' live connections, so that a removed agent's end at once and not at the next
//! handshake (promise S6).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use cutover_common::Timestamp;
use cutover_runtime::{clock::wall, shutdown::Shutdown, tls::PeerIdentity};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How often ended certificates are looked for. Promise S6 allows a minute.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// All live connections of agents. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct LiveConnections(Arc<Mutex<Entries>>);

#[derive(Debug, Default)]
struct Entries {
    next: u64,
    live: HashMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    identity: PeerIdentity,
    not_after: Timestamp,
    kill: CancellationToken,
}

/// Keeps one connection in the list; gone when dropped.
#[derive(Debug)]
pub(super) struct Registration {
    id: u64,
    list: LiveConnections,
}

impl LiveConnections {
    /// Ends every connection of one enrolment of an agent; returns how many.
    ///
    /// The enrolment must have been removed from the admitted ones before: a connection is
    /// registered first and looked up there after, so in this order none is missed.
    pub fn kill(&self, name: &str, enrolment: Uuid) -> usize {
        self.kill_those(|entry| {
            entry.identity.name == name && entry.identity.enrolment == enrolment
        })
    }

    /// Ends every connection whose certificate has ended; returns how many.
    pub fn kill_expired(&self, now: Timestamp) -> usize {
        self.kill_those(|entry| entry.not_after <= now)
    }

    /// Lets the live connections of an enrolment go on until `not_after`, because the agent got a
    /// new certificate over one of them. Never shortens.
    pub fn extend(&self, name: &str, enrolment: Uuid, not_after: Timestamp) {
        for entry in self.entries().live.values_mut() {
            if entry.identity.name == name && entry.identity.enrolment == enrolment {
                entry.not_after = entry.not_after.max(not_after);
            }
        }
    }

    /// Returns how many connections of agents are open.
    pub fn count(&self) -> usize {
        self.entries().live.len()
    }

    /// Looks for ended certificates until the program ends. By the wall, as they were signed.
    pub async fn watch_ends(self, shutdown: Shutdown) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        let ended = shutdown.token();
        while ended.run_until_cancelled(look.tick()).await.is_some() {
            let killed = self.kill_expired(wall());
            if killed > 0 {
                tracing::info!(killed, "ended connections whose certificate has ended");
            }
        }
    }

    pub(super) fn register(
        &self,
        identity: PeerIdentity,
        not_after: Timestamp,
        kill: CancellationToken,
    ) -> Registration {
        let mut entries = self.entries();
        let id = entries.next;
        entries.next += 1;
        entries.live.insert(id, Entry { identity, not_after, kill });
        Registration { id, list: self.clone() }
    }

    fn kill_those(&self, is_doomed: impl Fn(&Entry) -> bool) -> usize {
        // Collected first: a waker that runs on cancel must find the list unlocked.
        let doomed: Vec<CancellationToken> = self
            .entries()
            .live
            .values()
            .filter(|entry| is_doomed(entry) && !entry.kill.is_cancelled())
            .map(|entry| entry.kill.clone())
            .collect();
        doomed.iter().for_each(CancellationToken::cancel);
        doomed.len()
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.list.entries().live.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Uuid = Uuid::from_u128(1);
    const SECOND: Uuid = Uuid::from_u128(2);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_unix_ms(seconds * 1000)
    }

    fn register(
        live: &LiveConnections,
        name: &str,
        enrolment: Uuid,
    ) -> (Registration, CancellationToken) {
        let kill = CancellationToken::new();
        let identity = PeerIdentity::agent(&name.parse().unwrap(), enrolment);
        (live.register(identity, at(100), kill.clone()), kill)
    }

    #[test]
    fn only_the_removed_enrolment_is_ended() {
        let live = LiveConnections::default();
        let (_a, web) = register(&live, "web", FIRST);
        let (_b, web_too) = register(&live, "web", FIRST);
        let (_c, web_anew) = register(&live, "web", SECOND);
        let (_d, other) = register(&live, "web-1", FIRST);

        assert_eq!(live.kill("web", FIRST), 2);

        assert!(web.is_cancelled() && web_too.is_cancelled());
        assert!(!web_anew.is_cancelled() && !other.is_cancelled());
        assert_eq!(live.kill("web", FIRST), 0);
    }

    #[test]
    fn a_connection_ends_with_its_certificate_unless_that_was_renewed() {
        let live = LiveConnections::default();
        let (_a, web) = register(&live, "web", FIRST);
        let (_b, other) = register(&live, "other", FIRST);
        live.extend("web", FIRST, at(200));
        live.extend("web", FIRST, at(150));

        assert_eq!(live.kill_expired(at(99)), 0);
        assert_eq!(live.kill_expired(at(100)), 1);
        assert!(other.is_cancelled() && !web.is_cancelled());
        assert_eq!(live.kill_expired(at(199)), 0);
        assert_eq!(live.kill_expired(at(200)), 1);
        assert!(web.is_cancelled());
    }

    #[test]
    fn a_closed_connection_leaves_the_list() {
        let live = LiveConnections::default();
        let (registration, _) = register(&live, "web", FIRST);
        assert_eq!(live.count(), 1);

        drop(registration);

        assert_eq!(live.count(), 0);
    }
}
