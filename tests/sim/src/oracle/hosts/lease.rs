//! A5: what is disrupted, is disrupted with a permission that the coordinator gave just now.

use std::{collections::VecDeque, time::Duration};

use cutover_agent_core::SessionId;
use uuid::Uuid;

use crate::moment::Moment;

/// How old a permission may be, as the promise has it.
const LEASE: Duration = Duration::from_secs(10);
/// The agents' clocks count whole milliseconds.
const ROUNDING: Duration = Duration::from_millis(1);
/// How many heartbeats can wait for their echoes at once: many more than a lease is long.
const SENT_MAX: usize = 32;

/// The heartbeats of one session that really left, and the newest that came back.
#[derive(Debug, Default)]
pub(super) struct Permission {
    session: Option<SessionId>,
    sent: VecDeque<(Uuid, Moment)>,
    echoed: Option<Moment>,
}

impl Permission {
    pub(super) fn opened(&mut self, session: SessionId) {
        *self = Self { session: Some(session), ..Self::default() };
    }

    pub(super) fn ended(&mut self, session: SessionId) {
        if self.session == Some(session) {
            *self = Self::default();
        }
    }

    pub(super) fn sent(&mut self, session: SessionId, nonce: Uuid, now: Moment) {
        if self.session != Some(session) {
            return;
        }
        if self.sent.len() == SENT_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back((nonce, now));
    }

    pub(super) fn echoed(&mut self, session: SessionId, nonce: Uuid) {
        if self.session != Some(session) {
            return;
        }
        let sent = self.sent.iter().find(|(sent, _)| *sent == nonce).map(|(_, at)| *at);
        self.echoed = self.echoed.max(sent);
    }

    /// Returns when the heartbeat was sent that permits something at `now`, or how late it is.
    pub(super) fn judge(&self, now: Moment) -> Result<(), String> {
        match self.echoed {
            None => Err("no heartbeat of this session was echoed".to_owned()),
            Some(sent) if now.since(sent) > LEASE + ROUNDING => {
                Err(format!("the last heartbeat that was echoed left {:?} ago", now.since(sent)))
            }
            Some(_) => Ok(()),
        }
    }

    /// Returns the session that is open.
    pub(super) const fn session(&self) -> Option<SessionId> {
        self.session
    }
}
