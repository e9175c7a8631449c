//! Operator service: parse, ask the engine, answer. Who calls was settled in front of it.

use std::{collections::BTreeMap, pin::Pin, sync::Arc};

use cutover_common::{
    AgentName, DeploySetting, EnvironmentName, FreezeWindow, InvalidWeekWindow, Timestamp,
    name::InvalidName, setting::UnknownSetting,
};
use cutover_coordinator_core::{
    Answer, DeployOrder, IfBusy, LeaveOut, ROLLOUT_HOSTS_MAX, Refusal, Request as Ask, Verb,
    WithConfig, rollout::Options, view::Part,
};
use cutover_proto::v1::{self as pb, operator_server::Operator};
use cutover_runtime::{dice, tls::render_ca_hash};
use futures::Stream;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use super::{
    authority::Caller,
    configure,
    enrollment::token_expiry,
    push::Pushes,
    reading, show,
    simulate::Simulator,
    status::{invalid, refused},
};
use crate::{
    engine::EngineHandle,
    identity::{
        Identity,
        token::{NewToken, TokenKind},
    },
    logs::LogDesk,
};

/// How many rollouts a list has at the most.
const LIST_MAX: usize = 1_000;

/// The service.
pub struct Operating {
    pub engine: EngineHandle,
    pub identity: Arc<Identity>,
    pub pushes: Pushes,
    /// Where agents reach us, for the join command: `https://HOST:PORT`.
    pub join_url: String,
    pub incarnation: Uuid,
    pub logs: LogDesk,
    pub simulator: Simulator,
}

pub(super) type Outgoing<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    let caller = request.extensions().get::<Caller>().cloned();
    caller.ok_or_else(|| Status::unauthenticated("the token is not valid"))
}

pub(super) fn agent_name(text: &str) -> Result<AgentName, Status> {
    text.parse().map_err(|error: InvalidName| invalid(error.to_string()))
}

/// Reads which part of a rollout is asked about, if one is.
fn part(agent: &str, batch: u32) -> Result<Option<Part>, Status> {
    match (agent, batch) {
        ("", 0) => Ok(None),
        ("", batch) => Ok(Some(Part::Batch(usize::try_from(batch).unwrap_or(usize::MAX)))),
        (agent, 0) => Ok(Some(Part::Host(agent_name(agent)?))),
        (_, _) => Err(invalid("a host and a batch are asked about at once: name one of them")),
    }
}

impl Operating {
    async fn ask(&self, by: &Caller, request: Ask) -> Result<Answer, Status> {
        self.engine.ask(&by.name, request).await?.map_err(|refusal| refused(&refusal))
    }

    async fn show_rollout(&self, text: String) -> Result<pb::Rollout, Status> {
        self.engine
            .look(move |core, now| {
                let found = core.find(&text).map_err(|refusal| refused(&refusal))?;
                Ok(show::found(core, found, now))
            })
            .await?
    }
}

#[tonic::async_trait]
impl Operator for Operating {
    type WatchRolloutStream = Outgoing<pb::WatchRolloutResponse>;
    type LogsStream = Outgoing<pb::LogsResponse>;

    async fn who_am_i(
        &self,
        request: Request<pb::WhoAmIRequest>,
    ) -> Result<Response<pb::WhoAmIResponse>, Status> {
        let caller = caller(&request)?;
        let term = self.engine.look(|core, _| core.term()).await?;
        Ok(Response::new(pb::WhoAmIResponse {
            name: caller.name,
            role: caller.role.word().to_owned(),
            coordinator_version: env!("CARGO_PKG_VERSION").to_owned(),
            incarnation: self.incarnation.to_string(),
            term: term.0,
        }))
    }

    async fn list_agents(
        &self,
        _request: Request<pb::ListAgentsRequest>,
    ) -> Result<Response<pb::ListAgentsResponse>, Status> {
        let agents = self
            .engine
            .look(|core, _| core.agents().map(|(name, it)| show::agent(core, name, it)).collect())
            .await?;
        Ok(Response::new(pb::ListAgentsResponse { agents }))
    }

    async fn create_join_token(
        &self,
        request: Request<pb::CreateJoinTokenRequest>,
    ) -> Result<Response<pb::CreateJoinTokenResponse>, Status> {
        let by = caller(&request)?;
        let pb::CreateJoinTokenRequest { name, labels } = request.into_inner();
        let name = if name.is_empty() { None } else { Some(agent_name(&name)?) };
        let token = NewToken::new(TokenKind::Join);
        let expires = self.engine.look(|_, now| token_expiry(now)).await?;
        let token_hash = token.hash();
        self.ask(&by, Ask::CreateJoinToken { token_hash, name, labels, expires }).await?;
        Ok(Response::new(pb::CreateJoinTokenResponse {
            token: token.reveal().to_owned(),
            ca_hash: render_ca_hash(&self.identity.ca.ca_hash()),
            expires_unix_ms: expires.unix_ms(),
            join_url: self.join_url.clone(),
        }))
    }

    async fn label_agent(
        &self,
        request: Request<pb::LabelAgentRequest>,
    ) -> Result<Response<pb::LabelAgentResponse>, Status> {
        let by = caller(&request)?;
        let pb::LabelAgentRequest { name, set, unset } = request.into_inner();
        let agent = agent_name(&name)?;
        self.ask(&by, Ask::LabelAgent { agent, set, unset }).await?;
        Ok(Response::new(pb::LabelAgentResponse {}))
    }

    async fn remove_agent(
        &self,
        request: Request<pb::RemoveAgentRequest>,
    ) -> Result<Response<pb::RemoveAgentResponse>, Status> {
        let by = caller(&request)?;
        let agent = agent_name(&request.into_inner().name)?;
        self.ask(&by, Ask::RemoveAgent { agent }).await?;
        Ok(Response::new(pb::RemoveAgentResponse {}))
    }

    async fn drain_agent(
        &self,
        request: Request<pb::DrainAgentRequest>,
    ) -> Result<Response<pb::DrainAgentResponse>, Status> {
        let by = caller(&request)?;
        let pb::DrainAgentRequest { name, reason: text, force } = request.into_inner();
        let (agent, reason) = (agent_name(&name)?, reason(text)?);
        self.ask(&by, Ask::DrainAgent { agent, reason, is_forced: force }).await?;
        Ok(Response::new(pb::DrainAgentResponse {}))
    }

    async fn undrain_agent(
        &self,
        request: Request<pb::UndrainAgentRequest>,
    ) -> Result<Response<pb::UndrainAgentResponse>, Status> {
        let by = caller(&request)?;
        let pb::UndrainAgentRequest { name, reason: text } = request.into_inner();
        let (agent, reason) = (agent_name(&name)?, reason(text)?);
        self.ask(&by, Ask::UndrainAgent { agent, reason }).await?;
        Ok(Response::new(pb::UndrainAgentResponse {}))
    }

    async fn create_environment(
        &self,
        request: Request<pb::CreateEnvironmentRequest>,
    ) -> Result<Response<pb::CreateEnvironmentResponse>, Status> {
        let by = caller(&request)?;
        let pb::CreateEnvironmentRequest { name, select } = request.into_inner();
        let name: EnvironmentName =
            name.parse().map_err(|error: InvalidName| invalid(error.to_string()))?;
        let agents = match self.ask(&by, Ask::CreateEnvironment { name, select }).await? {
            Answer::EnvironmentCreated { agents } => agents,
            Answer::Done
            | Answer::Configured { .. }
            | Answer::RolloutStarted { .. }
            | Answer::RolloutQueued { .. }
            | Answer::Controlled { .. } => 0,
        };
        let agents = u32::try_from(agents).unwrap_or(u32::MAX);
        Ok(Response::new(pb::CreateEnvironmentResponse { agents }))
    }

    async fn freeze_environment(
        &self,
        request: Request<pb::FreezeEnvironmentRequest>,
    ) -> Result<Response<pb::FreezeEnvironmentResponse>, Status> {
        let by = caller(&request)?;
        let pb::FreezeEnvironmentRequest { environment, window, reason: text } =
            request.into_inner();
        let environment =
            environment.parse().map_err(|error: InvalidName| invalid(error.to_string()))?;
        let window = window.ok_or_else(|| invalid("field `window` is missing"))?;
        let (window, reason) = (freeze_window(&window)?, reason(text)?);
        self.ask(&by, Ask::FreezeEnvironment { environment, window, reason }).await?;
        Ok(Response::new(pb::FreezeEnvironmentResponse {}))
    }

    async fn thaw_environment(
        &self,
        request: Request<pb::ThawEnvironmentRequest>,
    ) -> Result<Response<pb::ThawEnvironmentResponse>, Status> {
        let by = caller(&request)?;
        let environment = request.into_inner().environment;
        let environment =
            environment.parse().map_err(|error: InvalidName| invalid(error.to_string()))?;
        self.ask(&by, Ask::ThawEnvironment { environment }).await?;
        Ok(Response::new(pb::ThawEnvironmentResponse {}))
    }

    async fn configure_environment(
        &self,
        request: Request<pb::ConfigureEnvironmentRequest>,
    ) -> Result<Response<pb::ConfigureEnvironmentResponse>, Status> {
        let by = caller(&request)?;
        let order = configure::order(request.into_inner(), &self.identity.sealing)?;
        match self.ask(&by, Ask::ConfigureEnvironment(order)).await? {
            Answer::Configured { number, concerns } => {
                let concerns = concerns.iter().map(show::stable).collect();
                let number = number.unwrap_or_default();
                Ok(Response::new(pb::ConfigureEnvironmentResponse { number, concerns }))
            }
            Answer::Done
            | Answer::EnvironmentCreated { .. }
            | Answer::RolloutStarted { .. }
            | Answer::RolloutQueued { .. }
            | Answer::Controlled { .. } => {
                Err(Status::internal("the answer is for another question"))
            }
        }
    }

    async fn get_config(
        &self,
        request: Request<pb::GetConfigRequest>,
    ) -> Result<Response<pb::GetConfigResponse>, Status> {
        let environment: EnvironmentName = request
            .into_inner()
            .environment
            .parse()
            .map_err(|error: InvalidName| invalid(error.to_string()))?;
        let variables = self
            .engine
            .look(move |core, _| {
                core.known_environment(&environment)?;
                Ok(configure::variables(core, &environment))
            })
            .await?
            .map_err(|refusal| refused(&refusal))?;
        Ok(Response::new(pb::GetConfigResponse { variables }))
    }

    async fn list_environments(
        &self,
        _request: Request<pb::ListEnvironmentsRequest>,
    ) -> Result<Response<pb::ListEnvironmentsResponse>, Status> {
        let environments = self.engine.look(show::environments).await?;
        Ok(Response::new(pb::ListEnvironmentsResponse { environments }))
    }

    async fn begin_push(
        &self,
        request: Request<pb::BeginPushRequest>,
    ) -> Result<Response<pb::BeginPushResponse>, Status> {
        self.pushes.begin(&self.engine, request.into_inner()).await.map(Response::new)
    }

    async fn push(
        &self,
        request: Request<Streaming<pb::PushRequest>>,
    ) -> Result<Response<pb::PushResponse>, Status> {
        let by = caller(&request)?;
        self.pushes.receive(&self.engine, &by.name, request.into_inner()).await.map(Response::new)
    }

    async fn list_releases(
        &self,
        request: Request<pb::ListReleasesRequest>,
    ) -> Result<Response<pb::ListReleasesResponse>, Status> {
        let application = request.into_inner().application;
        let releases =
            self.engine.look(move |core, _| show::releases(core, given(&application))).await?;
        Ok(Response::new(pb::ListReleasesResponse { releases }))
    }

    async fn plan(
        &self,
        request: Request<pb::DeployRequest>,
    ) -> Result<Response<pb::PlanResponse>, Status> {
        let (_, order) = deploy_order(request.into_inner())?;
        let plan = self
            .engine
            .look(move |core, _| core.plan(&order).map(|planned| show::plan(&planned)))
            .await?
            .map_err(|refusal| refused(&refusal))?;
        Ok(Response::new(pb::PlanResponse { plan: Some(plan) }))
    }

    async fn simulate(
        &self,
        request: Request<pb::SimulateRequest>,
    ) -> Result<Response<pb::SimulateResponse>, Status> {
        let by = caller(&request)?;
        self.simulator
            .simulate(&self.engine, by.name, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn deploy(
        &self,
        request: Request<pb::DeployRequest>,
    ) -> Result<Response<pb::DeployResponse>, Status> {
        let by = caller(&request)?;
        let (request_id, order) = deploy_order(request.into_inner())?;
        let ask = Ask::Deploy { request_id, rollout: new_rollout_id(), order };
        match self.ask(&by, ask).await? {
            Answer::RolloutStarted { rollout, repeated } => Ok(Response::new(pb::DeployResponse {
                rollout: rollout.to_string(),
                repeated_request: repeated,
                ..pb::DeployResponse::default()
            })),
            Answer::RolloutQueued { rollout, repeated, waits_for, ahead } => {
                Ok(Response::new(pb::DeployResponse {
                    rollout: rollout.to_string(),
                    repeated_request: repeated,
                    queued: true,
                    waits_for: waits_for.map(|id| id.to_string()).unwrap_or_default(),
                    ahead: u32::try_from(ahead).unwrap_or(u32::MAX),
                }))
            }
            Answer::Done
            | Answer::EnvironmentCreated { .. }
            | Answer::Configured { .. }
            | Answer::Controlled { .. } => {
                Err(Status::internal("the answer is for another question"))
            }
        }
    }

    async fn control(
        &self,
        request: Request<pb::ControlRequest>,
    ) -> Result<Response<pb::ControlResponse>, Status> {
        let by = caller(&request)?;
        let request = request.into_inner();
        let verb = match request.verb() {
            pb::ControlVerb::Unspecified => return Err(invalid("field `verb` is missing")),
            pb::ControlVerb::Pause => Verb::Pause,
            pb::ControlVerb::Resume => Verb::Resume,
            pb::ControlVerb::Abort => Verb::Abort,
            pb::ControlVerb::Retry => Verb::Retry,
            pb::ControlVerb::Rollback => Verb::Rollback,
            pb::ControlVerb::Promote => Verb::Promote { full: false },
            pb::ControlVerb::PromoteFull => Verb::Promote { full: true },
        };
        let (reason, if_busy) = (reason(request.reason)?, if_busy(request.if_busy)?);
        let new_rollout = if request.request_id.is_empty() {
            new_rollout_id()
        } else {
            uuid(&request.request_id)?
        };
        let rollout = request.rollout;
        let ask = Ask::Control { rollout, verb, reason, new_rollout, if_busy };
        match self.ask(&by, ask).await? {
            Answer::Controlled { rollout, text } => {
                Ok(Response::new(pb::ControlResponse { rollout: rollout.to_string(), text }))
            }
            Answer::Done
            | Answer::EnvironmentCreated { .. }
            | Answer::Configured { .. }
            | Answer::RolloutStarted { .. }
            | Answer::RolloutQueued { .. } => {
                Err(Status::internal("the answer is for another question"))
            }
        }
    }

    async fn exclude(
        &self,
        request: Request<pb::ExcludeRequest>,
    ) -> Result<Response<pb::ExcludeResponse>, Status> {
        let by = caller(&request)?;
        let pb::ExcludeRequest { request_id, rollout, agents, reason: text, skip } =
            request.into_inner();
        let how = if skip { LeaveOut::Skip } else { LeaveOut::Exclude };
        if agents.len() > ROLLOUT_HOSTS_MAX {
            return Err(invalid(format!("more than {ROLLOUT_HOSTS_MAX} agents are named")));
        }
        let agents = agents.iter().map(|agent| agent_name(agent)).collect::<Result<_, _>>()?;
        let reason = reason(text)?;
        let call = if request_id.is_empty() { dice::uuid() } else { uuid(&request_id)? };
        match self.ask(&by, Ask::Exclude { rollout, agents, how, reason, call }).await? {
            Answer::Controlled { rollout, text } => {
                Ok(Response::new(pb::ExcludeResponse { rollout: rollout.to_string(), text }))
            }
            Answer::Done
            | Answer::EnvironmentCreated { .. }
            | Answer::Configured { .. }
            | Answer::RolloutStarted { .. }
            | Answer::RolloutQueued { .. } => {
                Err(Status::internal("the answer is for another question"))
            }
        }
    }

    async fn get_rollout(
        &self,
        request: Request<pb::GetRolloutRequest>,
    ) -> Result<Response<pb::GetRolloutResponse>, Status> {
        let pb::GetRolloutRequest { rollout, agent, batch } = request.into_inner();
        let part = part(&agent, batch)?;
        self.engine
            .look(move |core, now| {
                let found = core.find(&rollout)?;
                let said = part.map(|part| core.why_part(found, &part, now)).transpose()?;
                Ok((show::found(core, found, now), said.unwrap_or_default()))
            })
            .await?
            .map(|(rollout, part_why)| {
                Response::new(pb::GetRolloutResponse { rollout: Some(rollout), part_why })
            })
            .map_err(|refusal: Refusal| refused(&refusal))
    }

    async fn watch_rollout(
        &self,
        request: Request<pb::WatchRolloutRequest>,
    ) -> Result<Response<Self::WatchRolloutStream>, Status> {
        // Found once: later "the newest of web" may be another one.
        let first = self.show_rollout(request.into_inner().rollout).await?;
        // One message may wait: a viewer that lags misses states in between, never the last.
        let (sender, receiver) = mpsc::channel(1);
        let changes = self.engine.changes();
        tokio::spawn(watch_one(self.engine.clone(), changes, first, sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn list_rollouts(
        &self,
        request: Request<pb::ListRolloutsRequest>,
    ) -> Result<Response<pb::ListRolloutsResponse>, Status> {
        let pb::ListRolloutsRequest { application, environment, limit } = request.into_inner();
        let limit = match usize::try_from(limit).unwrap_or(LIST_MAX) {
            0 => LIST_MAX,
            limit => limit.min(LIST_MAX),
        };
        let rollouts = self
            .engine
            .look(move |core, now| {
                core.history(given(&application), given(&environment), limit)
                    .into_iter()
                    .map(|rollout| {
                        let mut shown = show::found(core, rollout, now);
                        // A list of long rollouts of large fleets stays below a message's limit.
                        shown.history.clear();
                        shown
                    })
                    .collect()
            })
            .await?;
        Ok(Response::new(pb::ListRolloutsResponse { rollouts }))
    }

    async fn status(
        &self,
        request: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusResponse>, Status> {
        let application = request.into_inner().application;
        let only = match application.as_str() {
            "" => None,
            name => Some(name.parse().map_err(|error: InvalidName| invalid(error.to_string()))?),
        };
        let applications = self
            .engine
            .look(move |core, now| {
                if let Some(only) = &only {
                    core.known_application(only).map_err(|refusal| refused(&refusal))?;
                }
                Ok::<_, Status>(core.status(only.as_ref(), now).iter().map(show::status).collect())
            })
            .await??;
        Ok(Response::new(pb::StatusResponse { applications }))
    }

    async fn logs(
        &self,
        request: Request<pb::LogsRequest>,
    ) -> Result<Response<Self::LogsStream>, Status> {
        reading::logs(&self.engine, &self.logs, request.into_inner()).await
    }
}

/// How long a watcher waits between two looks: quick for an eye, and a thousand heartbeats in
/// between cost one look.
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(100);

/// Sends a rollout on every change until it is over or held, or nobody watches.
async fn watch_one(
    engine: EngineHandle,
    mut changes: watch::Receiver<u64>,
    first: pb::Rollout,
    sender: mpsc::Sender<Result<pb::WatchRolloutResponse, Status>>,
) {
    let id = first.id.clone();
    let mut last = None;
    let mut next = Some(first);
    while let Some(rollout) = next.take() {
        let is_last = rollout.ended;
        if last.as_ref() != Some(&rollout) {
            last = Some(rollout.clone());
            let message = pb::WatchRolloutResponse { rollout: Some(rollout) };
            if sender.send(Ok(message)).await.is_err() {
                return;
            }
        }
        if is_last {
            return;
        }
        tokio::select! {
            () = sender.closed() => return,
            changed = changes.changed() => if changed.is_err() { return },
        }
        tokio::time::sleep(LOOK_EVERY).await;
        // What changed meanwhile is seen by this look, and needs none of its own.
        changes.mark_unchanged();
        let wanted = id.clone();
        let looked = engine.look(move |core, now| {
            let found = core.find(&wanted).ok()?;
            Some(show::found(core, found, now))
        });
        match looked.await {
            Ok(rollout) => next = rollout,
            Err(gone) => {
                // Whoever watches tries again; nothing else is to be told.
                drop(sender.send(Err(gone.into())).await);
                return;
            }
        }
    }
}

/// Sorts by time, so that lists and files of them read in order.
fn new_rollout_id() -> Uuid {
    Uuid::now_v7()
}

fn given(text: &str) -> Option<&str> {
    if text.is_empty() { None } else { Some(text) }
}

fn uuid(text: &str) -> Result<Uuid, Status> {
    Uuid::try_parse(text).map_err(|_| invalid("field `request_id` is no uuid"))
}

/// How long a reason may be, in characters: a sentence or two.
const REASON_MAX: usize = 500;

fn reason(text: String) -> Result<String, Status> {
    if text.chars().count() > REASON_MAX || text.chars().any(char::is_control) {
        return Err(invalid(format!("a reason is one line of at most {REASON_MAX} characters")));
    }
    Ok(text)
}

fn freeze_window(window: &pb::FreezeWindow) -> Result<FreezeWindow, Status> {
    let pb::FreezeWindow { from_unix_ms, until_unix_ms, weekly } = window;
    if weekly.is_empty() {
        let at = |ms: u64| Timestamp::from_unix_ms(ms);
        let until = Some(*until_unix_ms).filter(|ms| *ms > 0).map(at);
        return Ok(FreezeWindow::Once { from: at(*from_unix_ms), until });
    }
    if *from_unix_ms != 0 || *until_unix_ms != 0 {
        return Err(invalid("a freeze is weekly, or from one moment to another, and not both"));
    }
    let weekly = weekly.parse().map_err(|error: InvalidWeekWindow| invalid(error.to_string()))?;
    Ok(FreezeWindow::Weekly(weekly))
}

fn if_busy(value: i32) -> Result<IfBusy, Status> {
    match pb::IfBusy::try_from(value) {
        Ok(pb::IfBusy::Unspecified) => Ok(IfBusy::Refuse),
        Ok(pb::IfBusy::Supersede) => Ok(IfBusy::Supersede),
        Ok(pb::IfBusy::Queue) => Ok(IfBusy::Queue),
        Err(_) => Err(invalid("field `if_busy` has a value that is not known")),
    }
}

pub(super) fn deploy_order(request: pb::DeployRequest) -> Result<(Uuid, DeployOrder), Status> {
    let pb::DeployRequest {
        request_id,
        application,
        version,
        environment,
        settings,
        if_busy: busy,
        despite_freeze,
    } = request;
    let request_id = if request_id.is_empty() { dice::uuid() } else { uuid(&request_id)? };
    let named = |error: InvalidName| invalid(error.to_string());
    let order = DeployOrder {
        application: application.parse().map_err(named)?,
        version: version
            .parse()
            .map_err(|error: cutover_common::name::InvalidVersion| invalid(error.to_string()))?,
        environment: environment.parse().map_err(named)?,
        with: WithConfig::Newest,
        options: deploy_options(settings)?,
        if_busy: if_busy(busy)?,
        despite_freeze: reason(despite_freeze)?,
    };
    Ok((request_id, order))
}

/// How long what is said of one setting may be: of all of them together much less is left than an
/// event may have, as a queued rollout keeps what was typed.
const SETTING_BYTES_MAX: usize = 4_096;

/// Takes settings by their names; what each says is the core's to judge.
fn deploy_options(settings: BTreeMap<String, String>) -> Result<Options, Status> {
    settings
        .into_iter()
        .map(|(name, value)| {
            let setting: DeploySetting =
                name.parse().map_err(|error: UnknownSetting| invalid(error.to_string()))?;
            if value.len() > SETTING_BYTES_MAX {
                let bytes = value.len();
                return Err(invalid(format!(
                    "{setting}: {bytes} bytes are said, and {SETTING_BYTES_MAX} at most are read"
                )));
            }
            Ok((setting, value))
        })
        .collect()
}
