//! Lease: the fresh permission that disruption needs (design §3, promise A5).
//!
//! It lives and dies with its session: another coordinator's echo is another permission.

use std::collections::VecDeque;

use cutover_common::{
    Timestamp, planted,
    protocol::{HEARTBEAT_EVERY, LEASE},
};
use uuid::Uuid;

/// Whether this moment permits disruption. Says why not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Permission {
    Fresh,
    /// No session, or no echo of a nonce sent at most [`LEASE`] ago.
    NoLease,
    /// Two coordinators claim the term (F3).
    SplitBrain,
}

/// The nonces that were sent, and the latest that came back.
#[derive(Debug)]
pub(crate) struct Lease {
    /// Sent at most [`LEASE`] ago and not echoed.
    sent: VecDeque<(Uuid, Timestamp)>,
    /// When the latest echoed nonce was sent.
    echoed: Option<Timestamp>,
    beat_at: Timestamp,
}

impl Lease {
    /// Makes a lease that permits nothing, with a heartbeat due at once.
    pub(crate) const fn new(now: Timestamp) -> Self {
        Self { sent: VecDeque::new(), echoed: None, beat_at: now }
    }

    /// Returns when the next heartbeat is due.
    pub(crate) const fn beat_at(&self) -> Timestamp {
        self.beat_at
    }

    /// Notes that a heartbeat with this nonce is sent.
    pub(crate) fn beat(&mut self, now: Timestamp, nonce: Uuid) {
        self.sent.retain(|(_, sent_at)| now.since(*sent_at) <= LEASE);
        self.sent.push_back((nonce, now));
        self.beat_at = now + HEARTBEAT_EVERY;
    }

    /// Notes that the coordinator echoed this nonce. A foreign or old one permits nothing.
    pub(crate) fn echo(&mut self, nonce: Uuid) {
        let is_it = |(sent, _): &(Uuid, Timestamp)| planted!(AnyNonceCounts: true; *sent == nonce);
        let Some(at) = self.sent.iter().position(is_it) else { return };
        // The earlier ones are spent: they permit less than this one.
        let echoed = self.sent.drain(..=at).next_back().map(|(_, sent_at)| sent_at);
        self.echoed = echoed;
    }

    /// Returns whether disruption is permitted at `now`.
    pub(crate) fn is_fresh(&self, now: Timestamp) -> bool {
        self.echoed
            .is_some_and(|sent_at| planted!(LeaseNeverExpires: true; now.since(sent_at) <= LEASE))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(s: u64) -> Timestamp {
        Timestamp::from_unix_ms(s * 1000)
    }

    #[test]
    fn lasts_ten_seconds_from_the_sending_not_from_the_echo() {
        let mut lease = Lease::new(at(0));
        lease.beat(at(0), Uuid::from_u128(1));

        lease.echo(Uuid::from_u128(1));

        assert!(lease.is_fresh(at(10)));
        assert!(!lease.is_fresh(at(10) + Duration::from_millis(1)));
    }

    #[test]
    fn an_unknown_or_repeated_nonce_permits_nothing() {
        let mut lease = Lease::new(at(0));
        lease.beat(at(0), Uuid::from_u128(1));
        lease.echo(Uuid::from_u128(9));
        assert!(!lease.is_fresh(at(0)));

        lease.echo(Uuid::from_u128(1));
        lease.beat(at(20), Uuid::from_u128(2));
        lease.echo(Uuid::from_u128(1));

        assert!(!lease.is_fresh(at(20)));
    }

    #[test]
    fn a_late_echo_of_an_early_nonce_does_not_shorten_the_lease() {
        let mut lease = Lease::new(at(0));
        lease.beat(at(0), Uuid::from_u128(1));
        lease.beat(at(5), Uuid::from_u128(2));
        lease.echo(Uuid::from_u128(2));
        lease.echo(Uuid::from_u128(1));

        assert!(lease.is_fresh(at(15)));
    }
}
