//! One session's stream: messages of the coordinator in, this agent's out.

use cutover_agent_core::{Input, SessionId, Welcome};
use cutover_common::{
    Assignment, EdgeRoutes, ErrorChain,
    protocol::{PROTOCOL, SILENCE_MAX},
    wire::{self, LogQuery},
};
use cutover_proto::v1::{
    self as pb, agent_link_client::AgentLinkClient, coordinator_message::Kind,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};
use uuid::Uuid;

use super::{SessionEnd, logs::Readings, outlet::Inlet};
use crate::{process::LogFiles, secrets::Secrets};

/// The largest message of a coordinator (promises.md §4 row 4).
const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What a session is served with.
pub(super) struct Serving<'a> {
    pub(super) inbox: &'a mpsc::Sender<Input>,
    pub(super) session: SessionId,
    pub(super) logs: LogFiles,
    pub(super) secrets: Secrets,
}

/// Something that the coordinator wants.
enum Received {
    Input(Input),
    /// To read a log, under this name.
    Log(Uuid, LogQuery),
    /// To keep the values of secrets.
    Secrets(wire::Secrets),
}

/// Serves a session until it ends. Ok: the engine is gone.
pub(super) async fn serve(
    channel: Channel,
    inlet: Inlet,
    serving: Serving<'_>,
    was_welcomed: &mut bool,
) -> Result<(), SessionEnd> {
    let Serving { inbox, session, logs, secrets } = serving;
    let Inlet { messages, mut refused } = inlet;
    let mut link = AgentLinkClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let mut readings = Readings::new(logs, link.clone());
    // Values that came, and whose goal comes next.
    let mut values = wire::Secrets(Vec::new());
    let opened = timeout(SILENCE_MAX, link.session(ReceiverStream::new(messages))).await;
    let mut incoming = opened
        .map_err(|_| SessionEnd::Silent)?
        .map_err(|status| SessionEnd::Open(Box::new(status)))?
        .into_inner();
    loop {
        let received = tokio::select! {
            refusal = &mut refused => return Err(match refusal {
                Ok(refusal) => refusal.into(),
                Err(_) => SessionEnd::Closed,
            }),
            received = receive(&mut incoming, session) => received?,
        };
        let input = match received {
            Received::Input(input) => input,
            // Whoever was not welcomed is no coordinator of ours.
            Received::Log(..) | Received::Secrets(_) if !*was_welcomed => continue,
            Received::Secrets(sent) => {
                values = sent;
                continue;
            }
            Received::Log(id, query) => {
                readings.begin(id, query);
                continue;
            }
        };
        *was_welcomed |= matches!(input, Input::Welcomed { .. });
        if let Input::Assigned { assignment, .. } = &input {
            let sent = std::mem::replace(&mut values, wire::Secrets(Vec::new()));
            keep(&secrets, sent, assignment).await;
        }
        if inbox.send(input).await.is_err() {
            return Ok(());
        }
    }
}

/// Keeps values, durably, before the goal behind them is looked at.
async fn keep(secrets: &Secrets, sent: wire::Secrets, assignment: &Assignment) {
    if sent.0.is_empty() {
        return;
    }
    let (application, generation) = (assignment.application.clone(), assignment.fence.generation);
    let secrets = secrets.clone();
    let kept = tokio::task::spawn_blocking(move || secrets.keep(&sent, &application, generation));
    if kept.await.is_err() {
        tracing::error!("keeping secrets was cut short");
    }
}

async fn receive(
    incoming: &mut Streaming<pb::CoordinatorMessage>,
    session: SessionId,
) -> Result<Received, SessionEnd> {
    let message = timeout(SILENCE_MAX, incoming.message())
        .await
        .map_err(|_| SessionEnd::Silent)?
        .map_err(|status| SessionEnd::Broken(Box::new(status)))?
        .ok_or(SessionEnd::Closed)?;
    parse(message, session)
}

/// A coordinator that sends what this agent does not understand is no peer to go on with.
fn parse(message: pb::CoordinatorMessage, session: SessionId) -> Result<Received, SessionEnd> {
    let bad = |error: &dyn std::error::Error| SessionEnd::BadMessage(ErrorChain(error).to_string());
    match message.kind {
        None => {
            Err(SessionEnd::BadMessage("an empty message, or one of a later version".to_owned()))
        }
        Some(Kind::Welcome(welcome)) => {
            // Before the rest: a later version may have changed it.
            if welcome.protocol != PROTOCOL {
                return Err(SessionEnd::OtherProtocol { theirs: welcome.protocol });
            }
            let wire::Welcome { incarnation, term, boot_nonce, .. } =
                welcome.try_into().map_err(|error| bad(&error))?;
            let welcome = Welcome { incarnation, term, boot_nonce };
            Ok(Received::Input(Input::Welcomed { session, welcome }))
        }
        Some(Kind::Echo(echo)) => {
            let wire::Echo { nonce, compared } = echo.try_into().map_err(|error| bad(&error))?;
            Ok(Received::Input(Input::Echoed { session, nonce, compared }))
        }
        Some(Kind::Assignment(assignment)) => {
            let assignment: Assignment = assignment.try_into().map_err(|error| bad(&error))?;
            let assignment = Box::new(assignment);
            Ok(Received::Input(Input::Assigned { session, assignment }))
        }
        Some(Kind::LogWanted(wanted)) => {
            let (id, query) = LogQuery::from_wanted(wanted).map_err(|error| bad(&error))?;
            Ok(Received::Log(id, query))
        }
        Some(Kind::Secrets(secrets)) => {
            Ok(Received::Secrets(secrets.try_into().map_err(|error| bad(&error))?))
        }
        Some(Kind::EdgeRoutes(routes)) => {
            let routes: EdgeRoutes = routes.try_into().map_err(|error| bad(&error))?;
            Ok(Received::Input(Input::EdgeRouted { session, routes: Box::new(routes) }))
        }
        Some(Kind::Farewell(farewell)) => {
            let wire::Farewell { reason, text } =
                farewell.try_into().map_err(|error| bad(&error))?;
            Err(SessionEnd::Farewell { reason, text })
        }
    }
}
