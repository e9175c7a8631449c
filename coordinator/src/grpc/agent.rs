//! AgentLink service: sessions, archives and renewals of enrolled agents. Who an agent is comes
//! from its certificate alone (S2).

use std::{pin::Pin, sync::Arc, time::Duration};

use cutover_common::{
    AgentName, ErrorChain, ReleaseRef, Sha256,
    protocol::{PROTOCOL, SILENCE_MAX},
    wire::{Farewell, FarewellReason, Hello, LogPiece},
};
use cutover_coordinator_core::{Input, Request as Ask, SessionId};
use cutover_proto::v1::{
    self as pb,
    agent_link_server::{AgentLink, AgentLinkServer},
    agent_message, coordinator_message,
};
use futures::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use super::{
    AGENT_MESSAGE_MAX,
    status::{invalid, refused},
};
use crate::{
    artifacts::ArchiveStore,
    engine::EngineHandle,
    listen::Peer,
    logs::LogDesk,
    outlets::{SESSION_QUEUE_MAX, SessionOutlet, SignRefused},
};

/// How long a new session may take to say hello.
const HELLO_WITHIN: Duration = Duration::from_secs(10);

/// The service.
pub struct Link {
    pub engine: EngineHandle,
    pub archives: Arc<ArchiveStore>,
    pub logs: LogDesk,
}

impl Link {
    /// Makes the service as it is served, with its limits.
    pub fn into_server(self) -> AgentLinkServer<Self> {
        AgentLinkServer::new(self).max_decoding_message_size(AGENT_MESSAGE_MAX)
    }
}

type Outgoing<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Returns who calls, from the certificate.
fn caller<T>(request: &Request<T>) -> Result<(AgentName, Uuid), Status> {
    let identity = request.extensions().get::<Peer>().and_then(|peer| peer.identity.clone());
    // The listener hands over only verified agents; this is the second lock on the same door.
    let identity = identity.ok_or_else(|| Status::unauthenticated("no agent's certificate"))?;
    let name = identity
        .name
        .parse()
        .map_err(|_| Status::unauthenticated("the certificate names no agent"))?;
    Ok((name, identity.enrolment))
}

#[tonic::async_trait]
impl AgentLink for Link {
    type SessionStream = Outgoing<pb::CoordinatorMessage>;
    type FetchReleaseStream = Outgoing<pb::Chunk>;

    async fn session(
        &self,
        request: Request<Streaming<pb::AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (agent, enrolment) = caller(&request)?;
        let mut incoming = request.into_inner();
        let hello = first_message(&mut incoming).await?;
        if hello.protocol != PROTOCOL {
            return Ok(Response::new(mismatch(&agent, hello.protocol)));
        }
        let hello =
            Hello::try_from(hello).map_err(|error| invalid(ErrorChain(&error).to_string()))?;
        let (messages, outgoing) = mpsc::channel(SESSION_QUEUE_MAX);
        let ended = CancellationToken::new();
        let outlet = SessionOutlet { messages, ended: ended.clone() };
        let session = self.engine.open_session(agent.clone(), enrolment, hello, outlet).await?;
        tracing::info!(%agent, session = session.0, "session opened");
        tokio::spawn(read(self.engine.clone(), agent, session, incoming, ended));
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }

    async fn fetch_release(
        &self,
        request: Request<pb::FetchReleaseRequest>,
    ) -> Result<Response<Self::FetchReleaseStream>, Status> {
        let (agent, enrolment) = caller(&request)?;
        let pb::FetchReleaseRequest { application, version, archive_digest, offset } =
            request.into_inner();
        let name = ReleaseRef {
            application: application.parse().map_err(|_| invalid("field `application`"))?,
            version: version.parse().map_err(|_| invalid("field `version`"))?,
        };
        let digest: Sha256 =
            archive_digest.parse().map_err(|_| invalid("field `archive_digest`"))?;
        let is_allowed = self
            .engine
            .look(move |core, _| {
                // A removed agent's connection ends a moment later; its name may be another's now.
                core.is_enrolled(&agent, enrolment)
                    && core.may_fetch(&agent, &name)
                    && core
                        .release(&name)
                        .is_some_and(|stored| stored.release.archive_digest == digest)
            })
            .await?;
        if !is_allowed {
            return Err(Status::permission_denied("this release is not assigned to this agent"));
        }
        let chunks = self.archives.open(digest, offset).await.map_err(|error| {
            let text = ErrorChain(&error).to_string();
            tracing::error!(%digest, text, "could not open an archive");
            Status::unavailable(text)
        })?;
        let chunks = chunks.map(|chunk| match chunk {
            Ok(data) => Ok(pb::Chunk { data: data.to_vec() }),
            Err(error) => Err(Status::unavailable(ErrorChain(&error).to_string())),
        });
        Ok(Response::new(Box::pin(chunks)))
    }

    async fn renew(
        &self,
        request: Request<pb::RenewRequest>,
    ) -> Result<Response<pb::RenewResponse>, Status> {
        let (agent, enrolment) = caller(&request)?;
        let pb::RenewRequest { csr_pem } = request.into_inner();
        let signed = self.engine.sign(Ask::Renew { agent, enrolment }, csr_pem).await?;
        let issued = signed.map_err(|error| match error {
            SignRefused::Refused(refusal) => refused(&refusal),
            SignRefused::BadRequest(text) => invalid(text),
        })?;
        Ok(Response::new(pb::RenewResponse { certificate_pem: issued.pem }))
    }

    async fn send_log(
        &self,
        request: Request<Streaming<pb::LogPiece>>,
    ) -> Result<Response<pb::SendLogResponse>, Status> {
        let (agent, _) = caller(&request)?;
        let mut incoming = request.into_inner();
        let first = tokio::time::timeout(HELLO_WITHIN, incoming.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no piece of a log"))??
            .ok_or_else(|| invalid("a log begins with a piece"))?;
        let reader = Uuid::try_parse(&first.id).ok().and_then(|id| self.logs.answer(id, &agent));
        let reader = reader.ok_or_else(|| Status::not_found("nobody reads this log"))?;
        let mut next = Some(first);
        while let Some(piece) = next.take() {
            // Waits for a slow reader, and so does the agent.
            if reader.send(LogPiece::from_message(piece)).await.is_err() {
                break;
            }
            next = tokio::select! {
                () = reader.closed() => None,
                piece = incoming.message() => piece?,
            };
        }
        Ok(Response::new(pb::SendLogResponse {}))
    }
}

async fn first_message(incoming: &mut Streaming<pb::AgentMessage>) -> Result<pb::Hello, Status> {
    let first = tokio::time::timeout(HELLO_WITHIN, incoming.message())
        .await
        .map_err(|_| Status::deadline_exceeded("no hello"))??;
    match first.and_then(|message| message.kind) {
        Some(agent_message::Kind::Hello(hello)) => Ok(hello),
        Some(agent_message::Kind::Heartbeat(_) | agent_message::Kind::Report(_)) | None => {
            Err(invalid("a session begins with a hello"))
        }
    }
}

/// Says goodbye to an agent of another protocol. It keeps its applications running.
fn mismatch(agent: &AgentName, theirs: u32) -> Outgoing<pb::CoordinatorMessage> {
    let text = format!(
        "the agent speaks protocol {theirs} and the coordinator {PROTOCOL}; install the {} of the \
         same version",
        if theirs < PROTOCOL { "agent" } else { "coordinator" }
    );
    tracing::warn!(%agent, text, "refused a session");
    let farewell = Farewell { reason: FarewellReason::ProtocolMismatch, text };
    let message =
        pb::CoordinatorMessage { kind: Some(coordinator_message::Kind::Farewell(farewell.into())) };
    Box::pin(futures::stream::iter([Ok(message)]))
}

/// How many messages an agent may send at once, and how many more each second: a host with a
/// hundred applications that all change fits. Beyond that the session is read more slowly, which
/// costs nobody else anything (promises.md §4 row 68).
const BURST: u32 = 200;
const EVERY: Duration = Duration::from_millis(20);

/// Slows down whoever sends too much.
struct Pace {
    /// When a session that never waited would have used up what it may send.
    used_up: tokio::time::Instant,
}

impl Pace {
    fn new() -> Self {
        Self { used_up: tokio::time::Instant::now() }
    }

    /// Takes the place of one message, and returns when it may be dealt with.
    fn next(&mut self, now: tokio::time::Instant) -> tokio::time::Instant {
        self.used_up = self.used_up.max(now) + EVERY;
        self.used_up.checked_sub(EVERY * BURST).map_or(now, |at| at.max(now))
    }
}

/// Reads one session until it ends, whoever ends it.
async fn read(
    engine: EngineHandle,
    agent: AgentName,
    session: SessionId,
    mut incoming: Streaming<pb::AgentMessage>,
    ended: CancellationToken,
) {
    let mut pace = Pace::new();
    let why = loop {
        let message = tokio::select! {
            () = ended.cancelled() => break "ended here".to_owned(),
            message = tokio::time::timeout(SILENCE_MAX, incoming.message()) => message,
        };
        let message = match message {
            Err(_) => break "silent for too long".to_owned(),
            Ok(Err(status)) => break status.message().to_owned(),
            Ok(Ok(None)) => break "ended by the agent".to_owned(),
            Ok(Ok(Some(message))) => message,
        };
        tokio::time::sleep_until(pace.next(tokio::time::Instant::now())).await;
        match parse(session, message) {
            Ok(input) => {
                if engine.tell(input).await.is_err() {
                    break "the coordinator is shutting down".to_owned();
                }
            }
            // A bad peer: its session ends, and nothing of the message is believed.
            Err(why) => break why,
        }
    };
    tracing::info!(%agent, session = session.0, why, "session closed");
    // Fails only when the engine has ended, and then nobody has to know.
    drop(engine.tell(Input::SessionClosed { session }).await);
}

fn parse(session: SessionId, message: pb::AgentMessage) -> Result<Input, String> {
    match message.kind {
        Some(agent_message::Kind::Heartbeat(heartbeat)) => heartbeat
            .try_into()
            .map(|heartbeat| Input::Beat { session, heartbeat })
            .map_err(|error: cutover_common::wire::InvalidSessionMessage| {
                format!("bad heartbeat: {}", ErrorChain(&error))
            }),
        Some(agent_message::Kind::Report(report)) => report
            .try_into()
            .map(|report| Input::Reported { session, report })
            .map_err(|error: cutover_common::wire::InvalidReport| {
                format!("bad report: {}", ErrorChain(&error))
            }),
        Some(agent_message::Kind::Hello(_)) => Err("a second hello".to_owned()),
        None => Err("an empty message, or one of a newer protocol".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_a_flood_is_slowed_to_its_rate() {
        let now = tokio::time::Instant::now();
        let mut pace = Pace { used_up: now };

        let burst = (0..BURST).map(|_| pace.next(now)).max();
        let flood = (0..100).map(|_| pace.next(now)).max();
        let later = pace.next(now + EVERY * (BURST + 100));

        assert_eq!(burst, Some(now));
        assert_eq!(flood, Some(now + EVERY * 100));
        assert_eq!(later, now + EVERY * (BURST + 100));
    }
}
