//! How fast the coordinator decides: from a submitted deploy to the first agent, and from a host's
//! health to the next batch. Over real TLS and gRPC, on one clock.

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use cutover_common::Sha256;
use cutover_proto::v1::{self as pb, operator_client::OperatorClient};
use cutover_runtime::{
    dial,
    tls::{self, ALPN_H2},
};
use serde_json::Value;
use tokio::{runtime::Runtime, sync::mpsc, time::timeout};
use tonic::{
    Request,
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};
use uuid::Uuid;

use super::{
    disk::{Floor, Taken},
    figures::{Samples, Section, ms},
    proc, session,
    session::Arrival,
};
use crate::live::{Cluster, Sample};

/// How long one step of a deploy may take.
const STEP_WITHIN: Duration = Duration::from_secs(20);

/// Deploys before the first that counts: connections, caches and the store's file are warm then.
const WARM_UP: usize = 10;

/// Between two looks at a rollout that is about to end; it ends within a few commits.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// The figure with an aim.
const SUBMIT: &str = "submit to first agent";

const AGENTS: [&str; 2] = ["bench-1", "bench-2"];

/// What one deploy took.
struct Deploy {
    /// Until the first assignment was there.
    to_first_agent: Duration,
    /// Until the operator had the answer.
    to_answer: Duration,
    /// From the report of the first batch's health to the next batch's assignment.
    to_next_batch: Duration,
}

/// Measures `submits` deploys of two batches on a coordinator without agents of its own.
pub(super) fn measure(cluster: &Cluster, submits: usize, runtime: &Runtime) -> Result<Section> {
    cluster.cutover(&["env", "create", "test", "--select", "env=test"]).done();
    for version in ["1", "2"] {
        let dir = Sample::good(version).write(cluster.folder(), &cluster.programs().sample);
        cluster.push(&dir, version);
    }
    let identities = AGENTS.map(|name| session::join(cluster, name));
    let mut floor = Floor::new(cluster.folder())?;
    let coordinator = cluster.coordinator_pid().context("the coordinator runs")?;
    let (deploys, floors, cpu) = runtime.block_on(async {
        let (sender, mut arrivals) = mpsc::unbounded_channel();
        for identity in identities {
            session::open(&identity?, sender.clone()).await?;
        }
        let mut operator = Operator::connect(cluster).await?;
        let (mut deploys, mut floors) = (Vec::new(), Vec::new());
        let mut cpu = 0.0;
        for number in 0..WARM_UP + submits {
            if number == WARM_UP {
                cpu = proc::cpu_seconds(coordinator)?;
            }
            let version = if number.is_multiple_of(2) { "1" } else { "2" };
            let taken = floor.take()?;
            let deploy = operator.deploy(version, &mut arrivals).await?;
            if number >= WARM_UP {
                floors.push(taken);
                deploys.push(deploy);
            }
        }
        anyhow::Ok((deploys, floors, proc::cpu_seconds(coordinator)? - cpu))
    })?;
    Ok(section(&deploys, &floors, cpu))
}

fn section(deploys: &[Deploy], floors: &[Taken], cpu: f64) -> Section {
    let of =
        |part: fn(&Deploy) -> Duration| deploys.iter().map(|it| ms(part(it))).collect::<Samples>();
    let floor: Samples = floors.iter().map(|it| ms(it.fdatasync + it.round_trip)).collect();
    let syncs: Samples = floors.iter().map(|it| ms(it.fdatasync)).collect();
    let trips: Samples = floors.iter().map(|it| ms(it.round_trip)).collect();
    let title = format!("3 and 4. Latency of the coordinator over {} deploys", deploys.len());
    let mut section = Section::new(title);
    section.figure("fdatasync of a 200 B append, p50", syncs.median(), "ms", p99(&syncs));
    section.figure("loopback TCP round trip, p50", trips.median(), "ms", p99(&trips));
    section.figure("floor: both, p50", floor.median(), "ms", p99(&floor));
    for (name, samples) in [
        (SUBMIT, of(|it| it.to_first_agent)),
        ("submit to operator's answer", of(|it| it.to_answer)),
        ("health report to next batch", of(|it| it.to_next_batch)),
    ] {
        for (word, permille) in [("p50", 500), ("p99", 990)] {
            let times = samples.at(permille) / floor.at(permille);
            let aim = if name == SUBMIT { "; aim < 3" } else { "" };
            let remark = format!("{times:.2} x the floor's {word}{aim}");
            section.figure(format!("{name}, {word}"), samples.at(permille), "ms", remark);
        }
    }
    let each = cpu * 1e3 / deploys.len() as f64;
    section.figure("coordinator's cpu for one deploy", each, "ms", "two agents, two batches");
    section.note("two agents of the bench's own over TLS, which report health at once; one fdatasync and one round trip before each deploy");
    section
}

fn p99(samples: &Samples) -> String {
    format!("p99 {:.3}", samples.at(990))
}

/// An operator's connection.
struct Operator {
    client: OperatorClient<Channel>,
    token: MetadataValue<Ascii>,
    /// The highest generation that each agent has seen.
    newest: BTreeMap<String, u64>,
}

impl Operator {
    async fn connect(cluster: &Cluster) -> Result<Self> {
        let login = fs::read(cluster.folder().join("login.json"))?;
        let login: Value = serde_json::from_slice(&login)?;
        let of = |key: &str| login[key].as_str().context("the login file is three texts");
        let ca_hash: Sha256 = tls::parse_ca_hash(of("ca_hash")?)?;
        let config = tls::client::pinned(ca_hash)?;
        let channel = dial::channel(of("coordinator")?, config, ALPN_H2).await?;
        let token = format!("Bearer {}", of("token")?).parse()?;
        Ok(Self { client: OperatorClient::new(channel), token, newest: BTreeMap::new() })
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.token.clone());
        request
    }

    /// Submits a deploy, and follows it to its end.
    async fn deploy(
        &mut self,
        version: &str,
        arrivals: &mut mpsc::UnboundedReceiver<Arrival>,
    ) -> Result<Deploy> {
        let settings = [("batch", "1"), ("min_healthy", "0"), ("healthy_for", "0s")];
        let request = self.request(pb::DeployRequest {
            request_id: Uuid::new_v4().to_string(),
            application: "web".to_owned(),
            version: version.to_owned(),
            environment: "test".to_owned(),
            settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            if_busy: pb::IfBusy::Unspecified.into(),
            despite_freeze: String::new(),
        });
        let mut client = self.client.clone();
        let submitted = Instant::now();
        let answer = tokio::spawn(async move {
            let answer = client.deploy(request).await;
            (answer, Instant::now())
        });
        let first = self.next(arrivals, |_| true).await?;
        let (answer, answered) = timeout(STEP_WITHIN, answer).await??;
        let rollout = answer?.into_inner().rollout;
        let is_to_run = |arrival: &Arrival| arrival.running.as_deref() == Some(version);
        let before = self.next(arrivals, is_to_run).await?;
        let after = self.next(arrivals, is_to_run).await?;
        ensure!(before.agent != after.agent, "each batch is one agent");
        self.wait_for_end(&rollout).await?;
        Ok(Deploy {
            to_first_agent: first.at - submitted,
            to_answer: answered - submitted,
            to_next_batch: after.at - before.answered,
        })
    }

    /// Returns the next assignment that is later than those before and that `is_wanted`.
    async fn next(
        &mut self,
        arrivals: &mut mpsc::UnboundedReceiver<Arrival>,
        is_wanted: impl Fn(&Arrival) -> bool,
    ) -> Result<Arrival> {
        loop {
            let arrival = timeout(STEP_WITHIN, arrivals.recv()).await;
            let arrival = arrival.context("no assignment came")?.context("both sessions ended")?;
            let newest = self.newest.entry(arrival.agent.clone()).or_default();
            let is_later = arrival.generation > *newest;
            *newest = arrival.generation.max(*newest);
            if is_later && is_wanted(&arrival) {
                return Ok(arrival);
            }
        }
    }

    async fn wait_for_end(&mut self, rollout: &str) -> Result<()> {
        let deadline = Instant::now() + STEP_WITHIN;
        while Instant::now() < deadline {
            let message =
                pb::GetRolloutRequest { rollout: rollout.to_owned(), ..Default::default() };
            let request = self.request(message);
            let answer = self.client.get_rollout(request).await?.into_inner();
            let rollout = answer.rollout.context("an answer has a rollout")?;
            if rollout.ended {
                ensure!(rollout.state == "succeeded", "{}: {}", rollout.state, rollout.why);
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        bail!("rollout {rollout} did not end within {STEP_WITHIN:?}")
    }
}
