//! Where actions go: one arm each, and no policy.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use cutover_common::{
    AgentName, Assignment, SecretId, Sha256, SourceName,
    protocol::{HEARTBEAT_EVERY, PROTOCOL},
    wire::{Echo, Farewell, LogQuery, Secrets, Welcome},
};
use cutover_coordinator_core::{
    Action, Answer, Coordinator, EndReason, Input, Refusal, SessionId,
    enrolment::Operator,
    input::{QueryId, ReplyId},
};
use cutover_proto::v1::{self as pb, coordinator_message::Kind};
use cutover_runtime::{
    clock::wall,
    tls::{Enrolments, ca::IssuedCertificate},
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    engine::AnswerTo, identity::Identity, ledger::Durable, listen::LiveConnections,
    prometheus::Asker,
};

/// How many messages may wait for a slow agent. Beyond that its session ends, and the next one
/// shows it the newest goals: nobody is sent a history to catch up on.
pub const SESSION_QUEUE_MAX: usize = 2_048;

/// How long a removed agent's connection stays, so that the farewell reaches it.
const FAREWELL_WITHIN: Duration = Duration::from_secs(1);

/// The operators, for the check in front of every call.
pub type Operators = Arc<ArcSwap<BTreeMap<Sha256, Operator>>>;

/// One agent's stream, from this side.
pub struct SessionOutlet {
    pub messages: mpsc::Sender<Result<pb::CoordinatorMessage, tonic::Status>>,
    /// Ends the stream's reader.
    pub ended: CancellationToken,
}

/// Why no certificate was signed.
#[derive(Debug)]
pub enum SignRefused {
    Refused(Refusal),
    /// The request for a certificate is no good.
    BadRequest(String),
}

enum Waiter {
    Answer(oneshot::Sender<Result<Answer, Refusal>>),
    Certificate { csr_pem: String, answer: oneshot::Sender<Result<IssuedCertificate, SignRefused>> },
}

/// Everything outside that actions reach.
pub struct Outlets {
    pub identity: Arc<Identity>,
    pub incarnation: Uuid,
    pub enrolments: Arc<Enrolments>,
    pub live: LiveConnections,
    pub operators: Operators,
    pub changed: watch::Sender<u64>,
    /// The metrics servers that may be asked; none unless somebody names them.
    pub asker: Asker,
    pub(crate) answers: Option<AnswerTo>,
    waiters: BTreeMap<ReplyId, Waiter>,
    sessions: BTreeMap<SessionId, SessionOutlet>,
    admitted: BTreeSet<(AgentName, Uuid)>,
}

impl Outlets {
    /// Makes outlets with nobody connected.
    pub fn new(
        identity: Arc<Identity>,
        incarnation: Uuid,
        enrolments: Arc<Enrolments>,
        live: LiveConnections,
        operators: Operators,
        changed: watch::Sender<u64>,
    ) -> Self {
        Self {
            identity,
            incarnation,
            enrolments,
            live,
            operators,
            changed,
            asker: Asker::default(),
            answers: None,
            waiters: BTreeMap::new(),
            sessions: BTreeMap::new(),
            admitted: BTreeSet::new(),
        }
    }

    pub(crate) fn expect_answer(
        &mut self,
        reply: ReplyId,
        answer: oneshot::Sender<Result<Answer, Refusal>>,
    ) {
        self.waiters.insert(reply, Waiter::Answer(answer));
    }

    pub(crate) fn expect_certificate(
        &mut self,
        reply: ReplyId,
        csr_pem: String,
        answer: oneshot::Sender<Result<IssuedCertificate, SignRefused>>,
    ) {
        self.waiters.insert(reply, Waiter::Certificate { csr_pem, answer });
    }

    pub(crate) fn open_session(&mut self, session: SessionId, outlet: SessionOutlet) {
        self.sessions.insert(session, outlet);
    }

    pub(crate) fn close_session(&mut self, session: SessionId) {
        self.sessions.remove(&session);
    }

    /// Performs `durable`.
    pub(crate) fn perform(&mut self, durable: Durable, core: &Coordinator) {
        let mut has_changed = false;
        for action in durable.release() {
            match action {
                Action::Answer { reply, answer } => self.answer(reply, answer),
                Action::SignCertificate { reply, agent, enrolment } => {
                    self.sign(reply, &agent, enrolment);
                }
                Action::Welcome { session, term, boot_nonce } => {
                    let welcome = Welcome {
                        protocol: PROTOCOL,
                        coordinator_version: env!("CARGO_PKG_VERSION").to_owned(),
                        incarnation: self.incarnation,
                        term,
                        boot_nonce,
                        heartbeat_every: HEARTBEAT_EVERY,
                    };
                    self.send(session, Kind::Welcome(welcome.into()));
                }
                Action::Echo { session, nonce, compared } => {
                    self.send(session, Kind::Echo(Echo { nonce, compared }.into()));
                }
                Action::Assign { session, assignment } => {
                    if let Some(secrets) = self.secrets_of(&assignment, core) {
                        self.send(session, Kind::Secrets(secrets.into()));
                    }
                    self.send(session, Kind::Assignment((*assignment).into()));
                }
                Action::RouteEdge { session, routes } => {
                    self.send(session, Kind::EdgeRoutes((*routes).into()));
                }
                Action::Query { query, source, text, within } => {
                    self.ask(query, source, text, within);
                }
                Action::EndSession { session, reason } => self.end_session(session, reason),
                Action::Enrolments(valid) => self.admit(valid),
                Action::Changed => has_changed = true,
            }
        }
        if has_changed {
            self.operators.store(Arc::new(core.enrolments().operators.clone()));
            self.changed.send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    fn ask(&self, query: QueryId, source: SourceName, text: String, within: Duration) {
        let Some(answers) = self.answers.clone() else { return };
        let asked = self.asker.clone().ask(source, text, within);
        tokio::spawn(async move {
            let found = asked.await;
            answers.tell(Input::Queried { query, found }).await;
        });
    }

    /// Returns the values that an assignment names, if any. One that cannot be read is left out: the
    /// agent may have it already, and says so otherwise.
    fn secrets_of(&self, assignment: &Assignment, core: &Coordinator) -> Option<Secrets> {
        let named: BTreeSet<SecretId> = assignment.secrets().collect();
        if named.is_empty() {
            return None;
        }
        let opened = named.into_iter().filter_map(|id| {
            let sealed = core.sealed(id)?;
            let value = self.identity.sealing.open(id, sealed).inspect_err(|error| {
                let application = &assignment.application;
                tracing::error!(%application, secret = %id.0, "could not read a secret: {error}");
            });
            Some((id, value.ok()?))
        });
        Some(Secrets(opened.collect()))
    }

    fn answer(&mut self, reply: ReplyId, answer: Result<Answer, Refusal>) {
        // Sending fails only when the caller has gone away, which is its right.
        match self.waiters.remove(&reply) {
            Some(Waiter::Answer(waiter)) => drop(waiter.send(answer)),
            Some(Waiter::Certificate { answer: waiter, .. }) => {
                if let Err(refusal) = answer {
                    drop(waiter.send(Err(SignRefused::Refused(refusal))));
                }
            }
            None => {}
        }
    }

    fn sign(&mut self, reply: ReplyId, agent: &AgentName, enrolment: Uuid) {
        let Some(Waiter::Certificate { csr_pem, answer }) = self.waiters.remove(&reply) else {
            return;
        };
        // By the wall, as others judge it by theirs: the log's time may be ahead of it for ever
        // after a moment with a wrong clock, and behind it after a start with one.
        let signed = self.identity.ca.sign_agent(&csr_pem, agent, enrolment, wall());
        if let Ok(issued) = &signed {
            tracing::info!(%agent, serial = issued.serial, "signed a certificate");
            // A session that was opened with the earlier certificate goes on with this one's end.
            self.live.extend(agent.as_str(), enrolment, issued.not_after);
        }
        let signed = signed.map_err(|error| {
            SignRefused::BadRequest(cutover_common::ErrorChain(&error).to_string())
        });
        drop(answer.send(signed));
    }

    pub(crate) fn want_log(&mut self, session: SessionId, reading: Uuid, query: LogQuery) {
        self.send(session, Kind::LogWanted(query.into_wanted(reading)));
    }

    fn send(&mut self, session: SessionId, kind: Kind) {
        let Some(outlet) = self.sessions.get(&session) else { return };
        let message = pb::CoordinatorMessage { kind: Some(kind) };
        if outlet.messages.try_send(Ok(message)).is_err() {
            // Too slow, or gone: the reader ends and reports the session as closed.
            outlet.ended.cancel();
            self.sessions.remove(&session);
        }
    }

    fn end_session(&mut self, session: SessionId, reason: EndReason) {
        let EndReason { reason, text } = reason;
        tracing::info!(session = session.0, ?reason, text, "ended a session");
        self.send(session, Kind::Farewell(Farewell { reason, text }.into()));
        if let Some(outlet) = self.sessions.remove(&session) {
            outlet.ended.cancel();
        }
    }

    fn admit(&mut self, valid: BTreeSet<(AgentName, Uuid)>) {
        let names = valid.iter().map(|(agent, enrolment)| (agent.to_string(), *enrolment));
        self.enrolments.replace(names);
        for (agent, enrolment) in self.admitted.difference(&valid) {
            let (live, name, enrolment) = (self.live.clone(), agent.to_string(), *enrolment);
            tokio::spawn(async move {
                tokio::time::sleep(FAREWELL_WITHIN).await;
                live.kill(&name, enrolment);
            });
        }
        self.admitted = valid;
    }
}
