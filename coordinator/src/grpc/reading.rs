//! Reading logs: which hosts are asked, and how what they send reaches the operator.

use std::time::Duration;

use cutover_common::{
    AgentName, ApplicationName, ErrorChain,
    wire::{LogPiece, LogQuery},
};
use cutover_coordinator_core::{Coordinator, SessionId};
use cutover_proto::v1 as pb;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Response, Status};

use super::{
    operator::Outgoing,
    status::{invalid, refused, with_hint},
};
use crate::{
    engine::EngineHandle,
    logs::{LogDesk, Reading},
};

/// How many hosts are read at once; whoever has more of them names one.
const HOSTS_MAX: usize = 64;

/// How many messages may wait for an operator, of all hosts together.
const WAITING_MAX: usize = 16;

/// How long an agent may take to begin: it opens a file and a call.
const BEGINS_WITHIN: Duration = Duration::from_secs(10);

/// A host to read, and its session, if it is connected.
type Source = (AgentName, Option<SessionId>);

/// Reads the logs of one host, or of all that run an application.
pub(super) async fn logs(
    engine: &EngineHandle,
    desk: &LogDesk,
    request: pb::LogsRequest,
) -> Result<Response<Outgoing<pb::LogsResponse>>, Status> {
    let hook = request.hook();
    let pb::LogsRequest { application, agent, slot, hook: _, lines, follow } = request;
    let query = LogQuery::parse(&application, &slot, hook, lines, follow)
        .map_err(|error| invalid(ErrorChain(&error).to_string()))?;
    let only = match agent.as_str() {
        "" => None,
        name => Some(super::operator::agent_name(name)?),
    };
    let application = query.application.clone();
    let sources = engine.look(move |core, _| sources(core, &application, only.as_ref())).await??;
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    for (agent, session) in sources {
        let host = Host { agent, sender: sender.clone() };
        match session {
            None => drop(tokio::spawn(async move { host.trouble("it is not connected").await })),
            Some(session) => {
                let reading = desk
                    .begin(&host.agent)
                    .map_err(|error| Status::resource_exhausted(error.to_string()))?;
                engine.want_log(session, reading.id(), query.clone()).await?;
                tokio::spawn(host.pass_on(reading));
            }
        }
    }
    Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
}

fn sources(
    core: &Coordinator,
    application: &ApplicationName,
    only: Option<&AgentName>,
) -> Result<Vec<Source>, Status> {
    core.known_application(application).map_err(|refusal| refused(&refusal))?;
    let source = |agent: &AgentName| (agent.clone(), core.fleet().session(agent));
    if let Some(agent) = only {
        core.known_agent(agent).map_err(|refusal| refused(&refusal))?;
        return Ok(vec![source(agent)]);
    }
    let runs = |agent: &&AgentName| core.goals().of(agent, application).is_some();
    let agents: Vec<&AgentName> = core.agents().map(|(name, _)| name).filter(runs).collect();
    match agents.len() {
        0 => Err(with_hint(
            Code::FailedPrecondition,
            &format!("no host runs {application}"),
            &format!("deploy it: cutover deploy {application}@VERSION --to ENV"),
        )),
        count if count > HOSTS_MAX => Err(with_hint(
            Code::FailedPrecondition,
            &format!("{count} hosts run {application}, and at most {HOSTS_MAX} are read at once"),
            &format!("name one: cutover logs {application} --agent {}", agents[0]),
        )),
        _ => Ok(agents.into_iter().map(source).collect()),
    }
}

/// One host that is read.
struct Host {
    agent: AgentName,
    sender: mpsc::Sender<Result<pb::LogsResponse, Status>>,
}

impl Host {
    /// Passes on what the agent sends, until either side is gone.
    async fn pass_on(self, mut reading: Reading) {
        match timeout(BEGINS_WITHIN, reading.next()).await {
            Err(_) => return self.trouble("it did not answer within 10 s").await,
            Ok(None) => return,
            Ok(Some(first)) => {
                if self.pass(first).await.is_err() {
                    return;
                }
            }
        }
        loop {
            let piece = tokio::select! {
                () = self.sender.closed() => return,
                piece = reading.next() => piece,
            };
            let Some(piece) = piece else { return };
            if self.pass(piece).await.is_err() {
                return;
            }
        }
    }

    async fn pass(&self, piece: LogPiece) -> Result<(), Gone> {
        let LogPiece { slot, data, trouble } = piece;
        let slot = slot.map(|slot| slot.to_string()).unwrap_or_default();
        let message = pb::LogsResponse { agent: self.agent.to_string(), slot, data, trouble };
        self.sender.send(Ok(message)).await.map_err(|_| Gone)
    }

    async fn trouble(&self, text: &str) {
        let piece = LogPiece { trouble: text.to_owned(), ..LogPiece::default() };
        drop(self.pass(piece).await);
    }
}

/// Nobody reads any more.
struct Gone;
