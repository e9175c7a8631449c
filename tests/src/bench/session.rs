//! A load generator: an enrolled agent's session that answers every assignment at once, as a host
//! whose application starts in no time, and keeps the moments.

use std::{
    collections::BTreeMap,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use cutover_agent::join::AgentIdentity;
use cutover_common::protocol::{HEARTBEAT_EVERY, PROTOCOL};
use cutover_proto::v1::{
    self as pb, agent_link_client::AgentLinkClient, agent_message, coordinator_message, slot_goal,
    slot_report,
};
use cutover_runtime::{dial, tls::ALPN_H2};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use uuid::Uuid;

use crate::live::{Cluster, run};

/// How many messages may wait for the network: more than one deploy makes.
const WAITING_MAX: usize = 64;

/// How long the coordinator may take to welcome.
const WELCOME_WITHIN: Duration = Duration::from_secs(10);

/// An assignment that has arrived.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    pub(super) agent: String,
    pub(super) at: Instant,
    pub(super) generation: u64,
    /// The version that is to run.
    pub(super) running: Option<String>,
    /// When its report, of everything done, was handed over to be sent.
    pub(super) answered: Instant,
}

struct Session {
    agent: String,
    outgoing: mpsc::Sender<pb::AgentMessage>,
    arrivals: mpsc::UnboundedSender<Arrival>,
    reports: BTreeMap<String, pb::Report>,
}

/// Lets an agent `name` join as any other does.
pub(super) fn join(cluster: &Cluster, name: &str) -> Result<AgentIdentity> {
    let token = cluster
        .json(&["agents", "token", "--name", name, "--label", "env=test", "--output", "json"]);
    let of = |key: &str| token[key].as_str().map(str::to_owned).context("a token is three texts");
    let data = cluster.folder().join(name);
    run(Command::new(&cluster.programs().agent)
        .args(["join", &of("join_url")?, "--token", &of("token")?])
        .args(["--ca-hash", &of("ca_hash")?, "--name", name, "--data"])
        .arg(&data))
    .done();
    load(&data)
}

fn load(data: &Path) -> Result<AgentIdentity> {
    AgentIdentity::load(data).context("what the agent joined with can be loaded")
}

/// Opens the session of `identity`, and answers until the connection ends.
pub(super) async fn open(
    identity: &AgentIdentity,
    arrivals: mpsc::UnboundedSender<Arrival>,
) -> Result<()> {
    let channel = dial::channel(&identity.url, identity.client_config()?, ALPN_H2).await?;
    let (outgoing, messages) = mpsc::channel(WAITING_MAX);
    let hello = pb::Hello {
        protocol: PROTOCOL,
        agent_version: "bench".to_owned(),
        inventory: Some(pb::Inventory { hostname: "bench".to_owned(), ..Default::default() }),
        held: Vec::new(),
        boot_id: "bench".to_owned(),
    };
    let mut session =
        Session { agent: identity.name.to_string(), outgoing, arrivals, reports: BTreeMap::new() };
    session.send(agent_message::Kind::Hello(hello)).await?;
    let mut link = AgentLinkClient::new(channel);
    let opened = link.session(ReceiverStream::new(messages)).await?;
    let mut incoming = opened.into_inner();
    let welcome = tokio::time::timeout(WELCOME_WITHIN, incoming.message()).await??;
    let Some(coordinator_message::Kind::Welcome(_)) = welcome.and_then(|message| message.kind)
    else {
        bail!("the coordinator does not welcome {}", session.agent);
    };
    session.beat().await?;
    tokio::spawn(async move {
        // An end of the connection shows as an arrival that never comes.
        drop(session.serve(&mut incoming).await);
    });
    Ok(())
}

impl Session {
    async fn serve(&mut self, incoming: &mut Streaming<pb::CoordinatorMessage>) -> Result<()> {
        let mut beat = tokio::time::interval(HEARTBEAT_EVERY);
        loop {
            let message = tokio::select! {
                message = incoming.message() => message?.context("the session was ended")?,
                _ = beat.tick() => {
                    self.beat().await?;
                    continue;
                }
            };
            match message.kind.context("an empty message")? {
                coordinator_message::Kind::Assignment(assignment) => self.obey(assignment).await?,
                coordinator_message::Kind::Farewell(farewell) => {
                    bail!("farewell: {}", farewell.text)
                }
                coordinator_message::Kind::Welcome(_)
                | coordinator_message::Kind::Echo(_)
                | coordinator_message::Kind::LogWanted(_)
                | coordinator_message::Kind::EdgeRoutes(_)
                | coordinator_message::Kind::Secrets(_) => {}
            }
        }
    }

    async fn obey(&mut self, assignment: pb::Assignment) -> Result<()> {
        let at = Instant::now();
        let generation = assignment.fence.map_or(0, |fence| fence.generation);
        let slots = [slot(assignment.blue), slot(assignment.green)];
        let running = slots.iter().find(|slot| slot.phase() == slot_report::Phase::Running);
        let running = running.map(|slot| slot.version.clone());
        let [blue, green] = slots.map(Some);
        let application = assignment.application;
        let fence = assignment.fence;
        let report = pb::Report {
            application: application.clone(),
            fence,
            blue,
            green,
            refused: None,
            outage_ms: 0,
            hold: 0,
            once: Vec::new(),
        };
        self.reports.insert(application, report.clone());
        let answered = Instant::now();
        self.send(agent_message::Kind::Report(report)).await?;
        let agent = self.agent.clone();
        // Fails only when nobody measures any more.
        drop(self.arrivals.send(Arrival { agent, at, generation, running, answered }));
        Ok(())
    }

    async fn beat(&self) -> Result<()> {
        let heartbeat = pb::Heartbeat {
            counts: Vec::new(),
            vitals: Vec::new(),
            nonce: Uuid::new_v4().to_string(),
            load: Some(pb::HostLoad::default()),
            reports: self.reports.values().cloned().collect(),
            edge: None,
            checks: Vec::new(),
        };
        self.send(agent_message::Kind::Heartbeat(heartbeat)).await
    }

    async fn send(&self, kind: agent_message::Kind) -> Result<()> {
        let message = pb::AgentMessage { kind: Some(kind) };
        self.outgoing.send(message).await.map_err(|_| anyhow::anyhow!("the session has ended"))
    }
}

/// Returns what a host says whose slot is as its goal wants it.
fn slot(goal: Option<pb::SlotGoal>) -> pb::SlotReport {
    let level = goal.as_ref().map_or(slot_goal::Level::Absent, pb::SlotGoal::level);
    let release = goal.and_then(|goal| goal.release).unwrap_or_default();
    let (phase, health) = match level {
        slot_goal::Level::Unspecified | slot_goal::Level::Absent => {
            (slot_report::Phase::Empty, slot_report::Health::Unknown)
        }
        slot_goal::Level::Prepared => (slot_report::Phase::Prepared, slot_report::Health::Unknown),
        slot_goal::Level::Running => (slot_report::Phase::Running, slot_report::Health::Settled),
    };
    let instance = (phase == slot_report::Phase::Running).then(|| pb::InstanceEvidence {
        instance: Uuid::new_v4().to_string(),
        boot_id: "bench".to_owned(),
        pid: 1,
        start_ticks: 1,
    });
    pb::SlotReport {
        phase: phase.into(),
        version: release.version,
        digest: release.digest,
        health: health.into(),
        instance,
        traffic: 0,
        ..Default::default()
    }
}
