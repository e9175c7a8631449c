//! The outlet: where the performer puts messages for the session that is open.

use std::sync::{Arc, Mutex, PoisonError};

use cutover_agent_core::{SessionId, SessionRefusal};
use cutover_proto::v1 as pb;
use tokio::sync::{mpsc, oneshot};

/// How many messages may wait for the network. What does not fit is dropped: the next heartbeat
/// carries every report, and its echo is what the lease needs.
const WAITING_MAX: usize = 64;

/// Shared by the performer and the session. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Outlet(Arc<Mutex<Option<Open>>>);

#[derive(Debug)]
struct Open {
    session: SessionId,
    messages: mpsc::Sender<pb::AgentMessage>,
    refused: Option<oneshot::Sender<SessionRefusal>>,
}

/// The other end of an outlet, for one session.
#[derive(Debug)]
pub(super) struct Inlet {
    pub(super) messages: mpsc::Receiver<pb::AgentMessage>,
    pub(super) refused: oneshot::Receiver<SessionRefusal>,
}

impl Outlet {
    /// Opens the outlet for a session, in place of an earlier one.
    pub(super) fn open(&self, session: SessionId) -> Inlet {
        let (messages, received) = mpsc::channel(WAITING_MAX);
        let (refused, refusal) = oneshot::channel();
        self.set(Some(Open { session, messages, refused: Some(refused) }));
        Inlet { messages: received, refused: refusal }
    }

    /// Closes the outlet: messages go nowhere.
    pub(super) fn close(&self) {
        self.set(None);
    }

    fn set(&self, open: Option<Open>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = open;
    }

    /// Sends a message on `session`, if that is the one that is open.
    pub fn send(&self, session: SessionId, kind: pb::agent_message::Kind) {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(open) = open.as_ref().filter(|open| open.session == session) else { return };
        if open.messages.try_send(pb::AgentMessage { kind: Some(kind) }).is_err() {
            tracing::debug!(session = session.0, "the session takes no message at this moment");
        }
    }

    /// Ends `session`, because the core may not obey it.
    pub fn refuse(&self, session: SessionId, refusal: SessionRefusal) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(open) = open.as_mut().filter(|open| open.session == session) else { return };
        if let Some(refused) = open.refused.take() {
            // Not received: the session ended by itself.
            drop(refused.send(refusal));
        }
    }
}
