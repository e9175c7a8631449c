//! The Operator client: our TLS, the operator's token, and a deadline on every call.

use std::{collections::BTreeMap, future::Future, time::Duration};

use cutover_common::{
    AgentName, ApplicationName, EnvironmentName, Labels, Sha256,
    wire::{LogQuery, hook_kind_out},
};
use cutover_proto::v1::{self as pb, operator_client::OperatorClient};
use cutover_runtime::{
    dial,
    tls::{self, ALPN_H2},
};
use tonic::{
    Request, Response, Status, Streaming,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

use super::{
    convert, orders,
    status::{failure, undialed},
};
use crate::{
    args::values::Secret,
    failure::{Failure, Kind},
    text::Text,
    view,
};

/// How long a call with one answer may take: far above what a busy coordinator needs, and short
/// enough for somebody who waits in front of a terminal.
const CALL_MAX: Duration = Duration::from_secs(10);

/// How long a simulation may take: the coordinator ends one after half of that, with the moment
/// that is under way.
const SIMULATION_MAX: Duration = Duration::from_secs(60);

/// The largest answer, in bytes: a list of 1,000 agents with their reports is about 2 MiB.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// A coordinator that this program is connected to. Clones share the connection.
#[derive(Clone, Debug)]
pub struct Coordinator {
    pub(super) client: OperatorClient<InterceptedService<Channel, Credentials>>,
}

/// Who the coordinator takes us for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Identity {
    pub name: Text,
    pub role: Text,
    pub coordinator_version: Text,
}

impl Coordinator {
    /// Connects to the coordinator at `url` whose CA has the hash `ca_hash`.
    ///
    /// # Errors
    ///
    /// If it cannot be reached, or is another one.
    pub async fn connect(url: &str, ca_hash: Sha256, token: &Secret) -> Result<Self, Failure> {
        let config =
            tls::client::pinned(ca_hash).map_err(|error| Failure::of(Kind::OurBug, &error))?;
        let credentials = Credentials::new(token)?;
        let channel =
            dial::channel(url, config, ALPN_H2).await.map_err(|error| undialed(&error))?;
        Ok(Self::over(channel, credentials))
    }

    /// Speaks over a channel that is there.
    pub(super) fn over(channel: Channel, credentials: Credentials) -> Self {
        let client = OperatorClient::with_interceptor(channel, credentials)
            .max_decoding_message_size(ANSWER_BYTES_MAX);
        Self { client }
    }

    /// Asks who we are.
    ///
    /// # Errors
    ///
    /// If the token is not known.
    pub async fn who_am_i(&self) -> Result<Identity, Failure> {
        let mut client = self.client.clone();
        let answer = unary(client.who_am_i(request(pb::WhoAmIRequest {}))).await?;
        let pb::WhoAmIResponse { name, role, coordinator_version, incarnation: _, term: _ } =
            answer;
        Ok(Identity {
            name: name.into(),
            role: role.into(),
            coordinator_version: coordinator_version.into(),
        })
    }

    /// Lists the agents.
    pub async fn agents(&self) -> Result<Vec<view::Agent>, Failure> {
        let mut client = self.client.clone();
        let answer = unary(client.list_agents(request(pb::ListAgentsRequest {}))).await?;
        Ok(answer.agents.into_iter().map(convert::agent).collect())
    }

    /// Makes a one-time token for an agent of this name, or of any that is free.
    pub async fn create_join_token(
        &self,
        name: Option<&AgentName>,
        labels: Labels,
    ) -> Result<view::JoinToken, Failure> {
        let mut client = self.client.clone();
        let message = pb::CreateJoinTokenRequest { name: optional(name), labels };
        let answer = unary(client.create_join_token(request(message))).await?;
        Ok(convert::join_token(answer, name))
    }

    /// Sets and takes away labels of an agent.
    pub async fn label_agent(
        &self,
        agent: &AgentName,
        set: BTreeMap<String, String>,
        unset: Vec<String>,
    ) -> Result<(), Failure> {
        let mut client = self.client.clone();
        let message = pb::LabelAgentRequest { name: agent.to_string(), set, unset };
        let pb::LabelAgentResponse {} = unary(client.label_agent(request(message))).await?;
        Ok(())
    }

    /// Removes an agent from the fleet.
    pub async fn remove_agent(&self, agent: &AgentName) -> Result<(), Failure> {
        let mut client = self.client.clone();
        let message = pb::RemoveAgentRequest { name: agent.to_string() };
        let pb::RemoveAgentResponse {} = unary(client.remove_agent(request(message))).await?;
        Ok(())
    }

    /// Takes an agent's host out for maintenance; with `force` also below the floor of what runs
    /// there.
    pub async fn drain_agent(
        &self,
        agent: &AgentName,
        reason: &str,
        force: bool,
    ) -> Result<(), Failure> {
        let mut client = self.client.clone();
        let (name, reason) = (agent.to_string(), reason.to_owned());
        let message = pb::DrainAgentRequest { name, reason, force };
        let pb::DrainAgentResponse {} = unary(client.drain_agent(request(message))).await?;
        Ok(())
    }

    /// Lets an agent's host take part again.
    pub async fn undrain_agent(&self, agent: &AgentName, reason: &str) -> Result<(), Failure> {
        let mut client = self.client.clone();
        let message =
            pb::UndrainAgentRequest { name: agent.to_string(), reason: reason.to_owned() };
        let pb::UndrainAgentResponse {} = unary(client.undrain_agent(request(message))).await?;
        Ok(())
    }

    /// Creates an environment, and says how many agents it selects.
    pub async fn create_environment(
        &self,
        name: &EnvironmentName,
        select: Labels,
    ) -> Result<view::Created, Failure> {
        let mut client = self.client.clone();
        let message = pb::CreateEnvironmentRequest { name: name.to_string(), select };
        let pb::CreateEnvironmentResponse { agents } =
            unary(client.create_environment(request(message))).await?;
        Ok(view::Created { name: name.as_str().into(), agents })
    }

    /// Keeps anything new from an environment for a while.
    pub async fn freeze(&self, freeze: &orders::Freeze) -> Result<(), Failure> {
        let mut client = self.client.clone();
        let answer = unary(client.freeze_environment(request(freeze.to_pb()))).await?;
        let pb::FreezeEnvironmentResponse {} = answer;
        Ok(())
    }

    /// Lifts all freezes of an environment.
    pub async fn thaw(&self, environment: &EnvironmentName) -> Result<(), Failure> {
        let mut client = self.client.clone();
        let message = pb::ThawEnvironmentRequest { environment: environment.to_string() };
        let pb::ThawEnvironmentResponse {} =
            unary(client.thaw_environment(request(message))).await?;
        Ok(())
    }

    /// Changes what an environment adds to releases.
    pub async fn configure(
        &self,
        change: &orders::ConfigChange,
    ) -> Result<view::Configured, Failure> {
        let mut client = self.client.clone();
        let answer = unary(client.configure_environment(request(change.to_pb()))).await?;
        Ok(convert::configured(change.environment.as_str(), answer))
    }

    /// Returns what an environment adds to releases.
    pub async fn config(
        &self,
        environment: &EnvironmentName,
    ) -> Result<Vec<view::ConfigVariable>, Failure> {
        let mut client = self.client.clone();
        let message = pb::GetConfigRequest { environment: environment.to_string() };
        let answer = unary(client.get_config(request(message))).await?;
        Ok(answer.variables.into_iter().map(convert::config_variable).collect())
    }

    /// Lists the environments.
    pub async fn environments(&self) -> Result<Vec<view::Environment>, Failure> {
        let mut client = self.client.clone();
        let message = pb::ListEnvironmentsRequest {};
        let answer = unary(client.list_environments(request(message))).await?;
        Ok(answer.environments.into_iter().map(convert::environment).collect())
    }

    /// Lists releases, of one application or of all.
    pub async fn releases(
        &self,
        application: Option<&ApplicationName>,
    ) -> Result<Vec<view::Release>, Failure> {
        let mut client = self.client.clone();
        let message = pb::ListReleasesRequest { application: optional(application) };
        let answer = unary(client.list_releases(request(message))).await?;
        Ok(answer.releases.into_iter().map(convert::release).collect())
    }

    /// Says what an order would do, and does nothing.
    pub async fn plan(&self, order: &orders::Order) -> Result<view::Plan, Failure> {
        let mut client = self.client.clone();
        let answer = unary(client.plan(request(order.to_pb(None)))).await?;
        answer.plan.map(convert::plan).ok_or_else(|| missing("plan"))
    }

    /// Says how an order would go, and does nothing.
    pub async fn simulate(
        &self,
        asked: &orders::SimulateOrder,
    ) -> Result<view::Simulated, Failure> {
        let mut client = self.client.clone();
        let mut message = Request::new(asked.to_pb());
        message.set_timeout(SIMULATION_MAX);
        unary_within(SIMULATION_MAX, client.simulate(message)).await.map(convert::simulated)
    }

    /// Starts a rollout. The same request id again is the same rollout.
    pub async fn deploy(&self, deploy: &orders::DeployOrder) -> Result<view::Accepted, Failure> {
        let mut client = self.client.clone();
        let message = deploy.order.to_pb(Some(deploy.request_id));
        unary(client.deploy(request(message))).await.map(convert::accepted)
    }

    /// Does something to a rollout. The same request id again is the same word.
    pub async fn control(&self, control: &orders::Control) -> Result<view::Controlled, Failure> {
        let mut client = self.client.clone();
        let pb::ControlResponse { rollout, text } =
            unary(client.control(request(control.to_pb()))).await?;
        Ok(view::Controlled { rollout: rollout.into(), text: text.into() })
    }

    /// Takes hosts out of a rollout. The same request id again is the same word.
    pub async fn exclude(&self, exclude: &orders::Exclude) -> Result<view::Controlled, Failure> {
        let mut client = self.client.clone();
        let pb::ExcludeResponse { rollout, text } =
            unary(client.exclude(request(exclude.to_pb()))).await?;
        Ok(view::Controlled { rollout: rollout.into(), text: text.into() })
    }

    /// Returns the rollout of this id, beginning of an id, or application.
    pub async fn rollout(&self, rollout: &str) -> Result<view::Rollout, Failure> {
        let mut client = self.client.clone();
        let message = pb::GetRolloutRequest {
            rollout: rollout.to_owned(),
            ..pb::GetRolloutRequest::default()
        };
        let answer = unary(client.get_rollout(request(message))).await?;
        answer.rollout.map(convert::rollout).ok_or_else(|| missing("rollout"))
    }

    /// Returns how one host of a rollout stands, or one batch.
    pub async fn part(
        &self,
        rollout: &str,
        agent: Option<&AgentName>,
        batch: Option<u32>,
    ) -> Result<view::RolloutPart, Failure> {
        let mut client = self.client.clone();
        let message = pb::GetRolloutRequest {
            rollout: rollout.to_owned(),
            agent: optional(agent),
            batch: batch.unwrap_or_default(),
        };
        let answer = unary(client.get_rollout(request(message))).await?;
        let rollout = answer.rollout.map(convert::rollout).ok_or_else(|| missing("rollout"))?;
        Ok(view::RolloutPart {
            rollout: rollout.id,
            agent: agent.map(|agent| agent.as_str().into()),
            batch,
            why: answer.part_why.into(),
            next: rollout.next,
        })
    }

    /// Follows the rollout of this id. The stream itself has no deadline; that it is dead is
    /// noticed by the pings beneath.
    pub async fn watch(&self, id: &str) -> Result<RolloutUpdates, Failure> {
        let mut client = self.client.clone();
        let message = Request::new(pb::WatchRolloutRequest { rollout: id.to_owned() });
        unary(client.watch_rollout(message)).await.map(RolloutUpdates)
    }

    /// Lists rollouts, the newest first.
    pub async fn rollouts(
        &self,
        application: Option<&ApplicationName>,
        environment: Option<&EnvironmentName>,
        limit: u32,
    ) -> Result<Vec<view::Rollout>, Failure> {
        let mut client = self.client.clone();
        let message = pb::ListRolloutsRequest {
            application: optional(application),
            environment: optional(environment),
            limit,
        };
        let answer = unary(client.list_rollouts(request(message))).await?;
        Ok(answer.rollouts.into_iter().map(convert::rollout).collect())
    }

    /// Says what runs where, of one application or of all.
    pub async fn status(
        &self,
        application: Option<&ApplicationName>,
    ) -> Result<Vec<view::ApplicationStatus>, Failure> {
        let mut client = self.client.clone();
        let message = pb::StatusRequest { application: optional(application) };
        let answer = unary(client.status(request(message))).await?;
        Ok(answer.applications.into_iter().map(convert::status).collect())
    }
}

impl Coordinator {
    /// Reads the logs of one host, or of all that run an application. The stream itself has no
    /// deadline; that it is dead is noticed by the pings beneath.
    pub async fn logs(
        &self,
        query: &LogQuery,
        agent: Option<&AgentName>,
    ) -> Result<LogPieces, Failure> {
        let mut client = self.client.clone();
        let LogQuery { application, slot, hook, lines, follow } = query;
        let message = Request::new(pb::LogsRequest {
            application: application.to_string(),
            agent: optional(agent),
            slot: slot.map(|slot| slot.to_string()).unwrap_or_default(),
            hook: hook_kind_out(*hook).into(),
            lines: lines.unwrap_or_default(),
            follow: *follow,
        });
        unary(client.logs(message)).await.map(LogPieces)
    }
}

/// What hosts send of their logs.
#[derive(Debug)]
pub struct LogPieces(Streaming<pb::LogsResponse>);

/// Some bytes of one host's log, or why there are none.
#[derive(Clone, Debug)]
pub struct LogPiece {
    pub agent: Text,
    pub slot: Text,
    pub data: Vec<u8>,
    /// Empty if all is well.
    pub trouble: Text,
}

impl LogPieces {
    /// Returns the next piece; None when all hosts have sent all.
    ///
    /// # Errors
    ///
    /// If the connection broke, or the coordinator failed.
    pub async fn next(&mut self) -> Result<Option<LogPiece>, Failure> {
        let message = self.0.message().await.map_err(|status| failure(&status))?;
        Ok(message.map(|pb::LogsResponse { agent, slot, data, trouble }| LogPiece {
            agent: agent.into(),
            slot: slot.into(),
            data,
            trouble: trouble.into(),
        }))
    }
}

/// A rollout, again on every change.
#[derive(Debug)]
pub struct RolloutUpdates(Streaming<pb::WatchRolloutResponse>);

impl RolloutUpdates {
    /// Returns the rollout when it has changed; None when the coordinator ended the stream.
    ///
    /// # Errors
    ///
    /// If the connection broke, or the coordinator failed.
    pub async fn next(&mut self) -> Result<Option<view::Rollout>, Failure> {
        match self.0.message().await.map_err(|status| failure(&status))? {
            Some(answer) => {
                let rollout = answer.rollout.ok_or_else(|| missing("rollout"))?;
                Ok(Some(convert::rollout(rollout)))
            }
            None => Ok(None),
        }
    }
}

/// Shows the operator's token with every call.
#[derive(Clone)]
pub(super) struct Credentials(MetadataValue<Ascii>);

impl Credentials {
    pub(super) fn new(token: &Secret) -> Result<Self, Failure> {
        let mut header: MetadataValue<Ascii> = format!("Bearer {}", token.reveal())
            .parse()
            .map_err(|_| Failure::wrong_use("a token is letters, digits and punctuation"))?;
        // Keeps it out of every log, and out of the compression table of HTTP/2.
        header.set_sensitive(true);
        Ok(Self(header))
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(…)")
    }
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// Makes a request that the coordinator gives up on when we do.
pub(super) fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_MAX);
    request
}

/// Waits for the answer to a call, not for ever.
pub(super) async fn unary<T>(
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Failure> {
    unary_within(CALL_MAX, call).await
}

async fn unary_within<T>(
    within: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(within, call).await {
        Ok(answer) => answer.map(Response::into_inner).map_err(|status| failure(&status)),
        Err(_) => Err(Failure::new(
            Kind::NotReachable,
            format!("the coordinator did not answer within {} s", within.as_secs()),
        )),
    }
}

fn optional(name: Option<&impl ToString>) -> String {
    name.map(ToString::to_string).unwrap_or_default()
}

fn missing(field: &str) -> Failure {
    Failure::new(Kind::OurBug, format!("the coordinator's answer has no {field}"))
}
