//! The one loop: inputs → core → disk → actions. Decides nothing.
//!
//! It drains the inputs that are waiting, commits their events with one flush, then performs:
//! that is the group commit. Whoever only looks is served between two batches, so that nobody
//! sees what is not durable.

use std::{sync::Arc, time::Duration};

use cutover_common::{
    AgentName, Timestamp,
    wire::{Hello, LogQuery},
};
use cutover_coordinator_core::{
    Answer, Coordinator, Input, Refusal, Request, SessionId, input::ReplyId,
};
use cutover_runtime::{clock::Clock, tls::ca::IssuedCertificate};
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

use crate::{
    ledger::Ledger,
    outlets::{Outlets, SessionOutlet, SignRefused},
    store::AppendError,
};

/// How many messages may wait. A thousand agents' heartbeats in one burst fit; beyond that the
/// senders wait, which slows their streams down and nothing else (A9).
const INBOX_MAX: usize = 4_096;

/// How many inputs one flush covers at the most, so that the first of them is not kept waiting
/// by the last.
const BATCH_MAX: usize = 512;

/// The longest sleep without a look, although the core says when it wants one: a safety net for
/// a wake-up that was computed wrongly (A6), at a cost that no profile shows.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What reaches the loop.
enum Message {
    Input(Box<Input>),
    Ask {
        by: String,
        request: Box<Request>,
        answer: oneshot::Sender<Result<Answer, Refusal>>,
    },
    Sign {
        request: Box<Request>,
        csr_pem: String,
        answer: oneshot::Sender<Result<IssuedCertificate, SignRefused>>,
    },
    OpenSession {
        agent: AgentName,
        enrolment: Uuid,
        hello: Box<Hello>,
        outlet: SessionOutlet,
        answer: oneshot::Sender<SessionId>,
    },
    /// Somebody wants to read a log: no decision of the core's.
    WantLog {
        session: SessionId,
        reading: Uuid,
        query: LogQuery,
    },
    Look(Look),
}

type Look = Box<dyn FnOnce(&Coordinator, Timestamp) + Send>;

/// The coordinator is ending, or has failed: nobody answers any more.
#[derive(Debug, thiserror::Error)]
#[error("the coordinator is shutting down")]
pub struct EngineGone;

/// Speaks to the loop, from any task.
#[derive(Clone)]
pub struct EngineHandle {
    inbox: mpsc::Sender<Message>,
    changes: watch::Receiver<u64>,
}

impl EngineHandle {
    /// Asks for something; answers when it is durable.
    ///
    /// # Errors
    ///
    /// When the coordinator is shutting down.
    pub async fn ask(
        &self,
        by: &str,
        request: Request,
    ) -> Result<Result<Answer, Refusal>, EngineGone> {
        let (answer, answered) = oneshot::channel();
        let message = Message::Ask { by: by.to_owned(), request: Box::new(request), answer };
        self.send(message).await?;
        answered.await.map_err(|_| EngineGone)
    }

    /// Asks for a certificate: `request` is a join or a renewal.
    ///
    /// # Errors
    ///
    /// When the coordinator is shutting down.
    pub async fn sign(
        &self,
        request: Request,
        csr_pem: String,
    ) -> Result<Result<IssuedCertificate, SignRefused>, EngineGone> {
        let (answer, answered) = oneshot::channel();
        self.send(Message::Sign { request: Box::new(request), csr_pem, answer }).await?;
        answered.await.map_err(|_| EngineGone)
    }

    /// Opens a session whose messages go to `outlet`.
    ///
    /// # Errors
    ///
    /// When the coordinator is shutting down.
    pub async fn open_session(
        &self,
        agent: AgentName,
        enrolment: Uuid,
        hello: Hello,
        outlet: SessionOutlet,
    ) -> Result<SessionId, EngineGone> {
        let (answer, answered) = oneshot::channel();
        let hello = Box::new(hello);
        self.send(Message::OpenSession { agent, enrolment, hello, outlet, answer }).await?;
        answered.await.map_err(|_| EngineGone)
    }

    /// Tells what happened.
    ///
    /// # Errors
    ///
    /// When the coordinator is shutting down.
    pub async fn tell(&self, input: Input) -> Result<(), EngineGone> {
        self.send(Message::Input(Box::new(input))).await
    }

    /// Asks the agent of a session for a log. One that is gone does not hear it.
    ///
    /// # Errors
    ///
    /// When the coordinator is shutting down.
    pub async fn want_log(
        &self,
        session: SessionId,
        reading: Uuid,
        query: LogQuery,
    ) -> Result<(), EngineGone> {
        self.send(Message::WantLog { session, reading, query }).await
    }

    /// Looks at the coordinator's memory, in which everything is durable.
    ///
    /// # Errors
    ///
    /// When the coordinator is shutting down.
    pub async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Coordinator, Timestamp) -> T + Send + 'static,
    ) -> Result<T, EngineGone> {
        let (answer, answered) = oneshot::channel();
        let look: Look = Box::new(move |core, now| {
            // Fails only when whoever looked has gone away.
            drop(answer.send(look(core, now)));
        });
        self.send(Message::Look(look)).await?;
        answered.await.map_err(|_| EngineGone)
    }

    /// Returns a counter that moves whenever something that viewers show may have changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    async fn send(&self, message: Message) -> Result<(), EngineGone> {
        self.inbox.send(message).await.map_err(|_| EngineGone)
    }
}

/// Brings what became of an action back to the loop, and keeps no loop alive.
#[derive(Clone)]
pub(crate) struct AnswerTo(mpsc::WeakSender<Message>);

impl AnswerTo {
    /// Tells what happened. Nobody hears it when the coordinator is shutting down.
    pub(crate) async fn tell(self, input: Input) {
        if let Some(inbox) = self.0.upgrade() {
            drop(inbox.send(Message::Input(Box::new(input))).await);
        }
    }
}

/// The loop's own things.
pub struct Engine {
    core: Coordinator,
    ledger: Ledger,
    clock: Arc<dyn Clock>,
    inbox: mpsc::Receiver<Message>,
    outlets: Outlets,
    next_reply: u64,
    next_session: u64,
}

impl Engine {
    /// Makes the loop around a core that has replayed its log.
    pub fn new(
        core: Coordinator,
        ledger: Ledger,
        clock: Arc<dyn Clock>,
        make_outlets: impl FnOnce(watch::Sender<u64>) -> Outlets,
    ) -> (Self, EngineHandle) {
        let (sender, inbox) = mpsc::channel(INBOX_MAX);
        let (changed, changes) = watch::channel(0);
        let mut outlets = make_outlets(changed);
        outlets.answers = Some(AnswerTo(sender.downgrade()));
        let engine = Self { core, ledger, clock, inbox, outlets, next_reply: 0, next_session: 0 };
        (engine, EngineHandle { inbox: sender, changes })
    }

    /// Runs until every handle is gone.
    ///
    /// # Errors
    ///
    /// When an event could not be made durable. Memory is then ahead of the disk, so the process
    /// must end and read its log again; nothing that depends on the event was done (D4).
    pub async fn run(mut self) -> Result<(), AppendError> {
        let mut looks: Vec<Look> = Vec::new();
        let boot_nonce = cutover_runtime::dice::uuid();
        let started = self.core.handle(self.clock.now(), Input::Started { boot_nonce });
        let sources = self.outlets.asker.names();
        let named = self.core.handle(self.clock.now(), Input::SourcesNamed { sources });
        self.finish(vec![started, named], &mut looks).await?;
        loop {
            let mut steps = Vec::new();
            let wake = self.sleep();
            tokio::select! {
                message = self.inbox.recv() => match message {
                    Some(message) => self.take(message, &mut steps, &mut looks),
                    None => return Ok(()),
                },
                () = wake => steps.push(self.core.handle(self.clock.now(), Input::Tick)),
            }
            while steps.len() + looks.len() < BATCH_MAX
                && let Ok(message) = self.inbox.try_recv()
            {
                self.take(message, &mut steps, &mut looks);
            }
            self.finish(steps, &mut looks).await?;
        }
    }

    fn sleep(&self) -> impl Future<Output = ()> + use<> {
        let now = self.clock.now();
        let wait = self.core.next_wake().map_or(LOOK_EVERY, |at| at.since(now).min(LOOK_EVERY));
        // Rounded up, so that the moment has come when the core looks.
        tokio::time::sleep(wait + Duration::from_millis(1))
    }

    async fn finish(
        &mut self,
        steps: Vec<cutover_coordinator_core::Step>,
        looks: &mut Vec<Look>,
    ) -> Result<(), AppendError> {
        let durable = self.ledger.commit(steps).await?;
        self.outlets.perform(durable, &self.core);
        let now = self.clock.now();
        for look in looks.drain(..) {
            look(&self.core, now);
        }
        Ok(())
    }

    fn take(
        &mut self,
        message: Message,
        steps: &mut Vec<cutover_coordinator_core::Step>,
        looks: &mut Vec<Look>,
    ) {
        let input = match message {
            Message::Input(input) => *input,
            Message::Look(look) => {
                looks.push(look);
                return;
            }
            Message::WantLog { session, reading, query } => {
                self.outlets.want_log(session, reading, query);
                return;
            }
            Message::Ask { by, request, answer } => {
                let reply = self.reply();
                self.outlets.expect_answer(reply, answer);
                Input::Asked { reply, by, request: *request }
            }
            Message::Sign { request, csr_pem, answer } => {
                let reply = self.reply();
                self.outlets.expect_certificate(reply, csr_pem, answer);
                Input::Asked { reply, by: "an agent".to_owned(), request: *request }
            }
            Message::OpenSession { agent, enrolment, hello, outlet, answer } => {
                self.next_session += 1;
                let session = SessionId(self.next_session);
                self.outlets.open_session(session, outlet);
                if answer.send(session).is_err() {
                    // The connection ended before it began.
                    self.outlets.close_session(session);
                    return;
                }
                Input::SessionOpened { session, agent, enrolment, hello: *hello }
            }
        };
        if let Input::SessionClosed { session } = &input {
            self.outlets.close_session(*session);
        }
        steps.push(self.core.handle(self.clock.now(), input));
    }

    const fn reply(&mut self) -> ReplyId {
        self.next_reply += 1;
        ReplyId(self.next_reply)
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
