//! A coordinator for tests that does as it is told: it refuses, breaks off and comes back.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
};

use cutover_proto::v1::{
    self as pb,
    operator_server::{Operator, OperatorServer},
};
use futures::Stream;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_stream::{StreamExt as _, wrappers::TcpListenerStream};
use tonic::{Request, Response, Status, Streaming, transport::Endpoint};

use super::client::{Coordinator, Credentials};

/// What the fake was told, and what it heard.
#[derive(Default)]
pub(crate) struct Script {
    /// How many calls to Deploy and Control are answered with "unavailable" first.
    pub(crate) unanswered: u32,
    pub(crate) request_ids: Vec<String>,
    /// The messages of each call to `WatchRollout`; a call without any is "unavailable".
    pub(crate) watches: VecDeque<Vec<pb::Rollout>>,
    /// Whether streams stay open after their last message.
    pub(crate) is_patient: bool,
    /// After how many bytes each push breaks off; those after the last are taken whole.
    pub(crate) breaks: VecDeque<usize>,
    pub(crate) offsets: Vec<u64>,
    pub(crate) received: Vec<u8>,
    /// What is answered to Simulate, once.
    pub(crate) simulated: Option<pb::SimulateResponse>,
    pub(crate) simulations: Vec<pb::SimulateRequest>,
    /// How many bytes are expected.
    pub(crate) wanted: usize,
}

/// The fake, and the way to it. Ends when it is dropped.
pub(crate) struct Fake {
    script: Arc<Mutex<Script>>,
    serving: JoinHandle<()>,
    pub(crate) coordinator: Coordinator,
}

impl Fake {
    pub(crate) async fn start(script: Script) -> Self {
        let script = Arc::new(Mutex::new(script));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let service = OperatorServer::new(Service(script.clone()));
        let server = tonic::transport::Server::builder().add_service(service);
        let serving = tokio::spawn(async move {
            server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
        let channel = Endpoint::from_shared(url).unwrap().connect().await.unwrap();
        let credentials = Credentials::new(&"token".parse().unwrap()).unwrap();
        Self { script, serving, coordinator: Coordinator::over(channel, credentials) }
    }

    pub(crate) fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

struct Service(Arc<Mutex<Script>>);

impl Service {
    fn script(&self) -> MutexGuard<'_, Script> {
        self.0.lock().unwrap()
    }

    /// Notes a request id, and answers or not.
    fn hear(&self, request_id: String) -> Result<(), Status> {
        let mut script = self.script();
        script.request_ids.push(request_id);
        if script.unanswered == 0 {
            return Ok(());
        }
        script.unanswered -= 1;
        Err(away())
    }
}

fn away() -> Status {
    Status::unavailable("the coordinator restarts")
}

type Answer<T> = Result<Response<T>, Status>;

fn not_told<T>() -> Answer<T> {
    Err(Status::unimplemented("the fake was not told"))
}

#[tonic::async_trait]
impl Operator for Service {
    type WatchRolloutStream =
        Pin<Box<dyn Stream<Item = Result<pb::WatchRolloutResponse, Status>> + Send>>;

    async fn begin_push(&self, _: Request<pb::BeginPushRequest>) -> Answer<pb::BeginPushResponse> {
        let script = self.script();
        let complete = script.received.len() == script.wanted;
        let offset = if complete { 0 } else { script.received.len() as u64 };
        Ok(Response::new(pb::BeginPushResponse { complete, offset, upload: "u".to_owned() }))
    }

    async fn push(&self, request: Request<Streaming<pb::PushRequest>>) -> Answer<pb::PushResponse> {
        let mut incoming = request.into_inner();
        let break_after = self.script().breaks.pop_front();
        let mut left = break_after.unwrap_or(usize::MAX);
        while let Some(message) = incoming.next().await {
            let mut script = self.script();
            match message?.kind {
                Some(pb::push_request::Kind::Start(start)) => script.offsets.push(start.offset),
                Some(pb::push_request::Kind::Data(data)) => {
                    let kept = left.min(data.len());
                    script.received.extend_from_slice(&data[..kept]);
                    left -= kept;
                }
                None => return Err(Status::invalid_argument("an empty message")),
            }
            if left == 0 {
                return Err(away());
            }
        }
        Ok(Response::new(pb::PushResponse::default()))
    }

    async fn deploy(&self, request: Request<pb::DeployRequest>) -> Answer<pb::DeployResponse> {
        self.hear(request.into_inner().request_id)?;
        let rollout = "0193ab12-3456-7abc-8def-0123456789ab".to_owned();
        Ok(Response::new(pb::DeployResponse { rollout, ..pb::DeployResponse::default() }))
    }

    async fn watch_rollout(
        &self,
        _: Request<pb::WatchRolloutRequest>,
    ) -> Answer<Self::WatchRolloutStream> {
        let mut script = self.script();
        let rollouts = script.watches.pop_front().filter(|told| !told.is_empty());
        let rollouts = rollouts.ok_or_else(away)?;
        let told = tokio_stream::iter(rollouts)
            .map(|rollout| Ok(pb::WatchRolloutResponse { rollout: Some(rollout) }));
        if script.is_patient {
            return Ok(Response::new(Box::pin(told.chain(tokio_stream::pending()))));
        }
        Ok(Response::new(Box::pin(told)))
    }

    type LogsStream = Pin<Box<dyn Stream<Item = Result<pb::LogsResponse, Status>> + Send>>;

    async fn logs(&self, _: Request<pb::LogsRequest>) -> Answer<Self::LogsStream> {
        not_told()
    }

    async fn control(&self, _: Request<pb::ControlRequest>) -> Answer<pb::ControlResponse> {
        not_told()
    }

    async fn who_am_i(&self, _: Request<pb::WhoAmIRequest>) -> Answer<pb::WhoAmIResponse> {
        not_told()
    }

    async fn list_agents(
        &self,
        _: Request<pb::ListAgentsRequest>,
    ) -> Answer<pb::ListAgentsResponse> {
        not_told()
    }

    async fn create_join_token(
        &self,
        _: Request<pb::CreateJoinTokenRequest>,
    ) -> Answer<pb::CreateJoinTokenResponse> {
        not_told()
    }

    async fn label_agent(
        &self,
        _: Request<pb::LabelAgentRequest>,
    ) -> Answer<pb::LabelAgentResponse> {
        not_told()
    }

    async fn remove_agent(
        &self,
        _: Request<pb::RemoveAgentRequest>,
    ) -> Answer<pb::RemoveAgentResponse> {
        not_told()
    }

    async fn drain_agent(
        &self,
        _: Request<pb::DrainAgentRequest>,
    ) -> Answer<pb::DrainAgentResponse> {
        not_told()
    }

    async fn undrain_agent(
        &self,
        _: Request<pb::UndrainAgentRequest>,
    ) -> Answer<pb::UndrainAgentResponse> {
        not_told()
    }

    async fn exclude(&self, request: Request<pb::ExcludeRequest>) -> Answer<pb::ExcludeResponse> {
        let pb::ExcludeRequest { request_id, rollout, agents, reason, skip } = request.into_inner();
        self.hear(request_id)?;
        let what = if skip { "skipped" } else { "excluded" };
        let text = format!("{what}: {} ({reason})", agents.join(", "));
        Ok(Response::new(pb::ExcludeResponse { rollout, text }))
    }

    async fn create_environment(
        &self,
        _: Request<pb::CreateEnvironmentRequest>,
    ) -> Answer<pb::CreateEnvironmentResponse> {
        not_told()
    }

    async fn freeze_environment(
        &self,
        _: Request<pb::FreezeEnvironmentRequest>,
    ) -> Answer<pb::FreezeEnvironmentResponse> {
        not_told()
    }

    async fn thaw_environment(
        &self,
        _: Request<pb::ThawEnvironmentRequest>,
    ) -> Answer<pb::ThawEnvironmentResponse> {
        not_told()
    }

    async fn configure_environment(
        &self,
        _: Request<pb::ConfigureEnvironmentRequest>,
    ) -> Answer<pb::ConfigureEnvironmentResponse> {
        not_told()
    }

    async fn get_config(&self, _: Request<pb::GetConfigRequest>) -> Answer<pb::GetConfigResponse> {
        not_told()
    }

    async fn list_environments(
        &self,
        _: Request<pb::ListEnvironmentsRequest>,
    ) -> Answer<pb::ListEnvironmentsResponse> {
        not_told()
    }

    async fn list_releases(
        &self,
        _: Request<pb::ListReleasesRequest>,
    ) -> Answer<pb::ListReleasesResponse> {
        not_told()
    }

    async fn plan(&self, _: Request<pb::DeployRequest>) -> Answer<pb::PlanResponse> {
        not_told()
    }

    async fn simulate(
        &self,
        request: Request<pb::SimulateRequest>,
    ) -> Answer<pb::SimulateResponse> {
        let message = request.into_inner();
        let answer = self.script().simulated.take();
        self.script().simulations.push(message);
        answer.map_or_else(not_told, |answer| Ok(Response::new(answer)))
    }

    async fn get_rollout(
        &self,
        _: Request<pb::GetRolloutRequest>,
    ) -> Answer<pb::GetRolloutResponse> {
        not_told()
    }

    async fn list_rollouts(
        &self,
        _: Request<pb::ListRolloutsRequest>,
    ) -> Answer<pb::ListRolloutsResponse> {
        not_told()
    }

    async fn status(&self, _: Request<pb::StatusRequest>) -> Answer<pb::StatusResponse> {
        not_told()
    }
}

/// Makes a rollout in a state.
pub(crate) fn rollout_in(state: &str) -> pb::Rollout {
    pb::Rollout {
        id: "0193ab12-3456-7abc-8def-0123456789ab".to_owned(),
        state: state.to_owned(),
        ended: matches!(state, "succeeded" | "rolled_back" | "aborted" | "refused"),
        ..pb::Rollout::default()
    }
}
