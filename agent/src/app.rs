//! Wires the daemon's tasks together; decides nothing.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::Arc,
};

use cutover_agent_core::{Agent, IllegalEvent};
use cutover_common::Timestamp;
use cutover_runtime::{
    clock::SystemClock,
    dial::Tcp,
    dice::{Dice, KernelDice},
    shutdown::Shutdown,
};
use tokio::sync::{mpsc, watch};

use crate::{
    artifact::{ReleaseDirError, ReleaseDirs},
    engine::Engine,
    gate::{self, GateSettings, Keeper},
    host::{InventoryError, LoadSampler, SampleError, boot_id, take_inventory},
    join::{AgentIdentity, LoadIdentity},
    journal::{DataLock, FileJournal, LockError, OpenJournal, RealDisk, WriteJournal},
    perform::{Host, Performer},
    process::ProcessRuntime,
    secrets::Secrets,
    session::{self, Outlet, SessionSettings},
    status,
};

/// How many inputs may wait for the engine. A task that finds it full waits, and nothing is lost.
const INBOX_MAX: usize = 1024;

/// Applications listen on every address of a host that was given none.
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// What the operator chose for a run.
#[derive(Clone, Debug)]
pub struct RunSettings {
    pub data: PathBuf,
    /// The address that applications listen on, in place of the one given at the join.
    pub address: Option<IpAddr>,
    /// Who starts the gate.
    pub gate: Keeper,
}

/// Why the daemon could not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Identity(#[from] LoadIdentity),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Open(#[from] OpenJournal),
    #[error(
        "OBSERVE_ONLY: the journal is not what an agent writes; restore it from a backup. Nothing on this host is started or stopped"
    )]
    Replay(#[from] IllegalEvent),
    #[error(transparent)]
    Write(#[from] WriteJournal),
    #[error("could not open the folders of releases")]
    Releases(#[from] ReleaseDirError),
    #[error("could not describe this host")]
    Inventory(#[from] InventoryError),
    #[error("could not measure this host")]
    Load(#[from] SampleError),
    #[error("could not find out which boot of the host this is, or where this program is")]
    Program(#[source] io::Error),
}

impl RunError {
    /// Returns the exit status: 75 asks the supervisor to try again, 73 says that the data
    /// directory is taken, 3 that the agent refuses to touch anything.
    pub const fn exit_status(&self) -> u8 {
        match self {
            Self::Identity(LoadIdentity::NotJoined { .. }) => 2,
            Self::Identity(_) | Self::Open(_) | Self::Replay(_) => 3,
            Self::Lock(LockError::Held { .. }) => 73,
            Self::Write(_)
            | Self::Lock(LockError::Io { .. })
            | Self::Releases(_)
            | Self::Inventory(_)
            | Self::Load(_)
            | Self::Program(_) => 75,
        }
    }
}

/// Runs the daemon until `shutdown`. Instances keep running.
///
/// # Errors
///
/// When it cannot start, or its journal cannot be written any more.
pub async fn run(settings: RunSettings, shutdown: Shutdown) -> Result<(), RunError> {
    let RunSettings { data, address, gate: keeper } = settings;
    let data = std::path::absolute(data).map_err(RunError::Program)?;
    let identity = Arc::new(AgentIdentity::load(&data)?);
    let _lock = DataLock::take(&data)?;
    let (journal, events) = FileJournal::open(RealDisk::new(&data))?;
    let agent = Agent::replay(&events)?;
    let address = address.or(identity.address).unwrap_or(ADDRESS);
    tracing::info!(
        agent = %identity.name, %address, coordinator = %identity.url,
        applications = agent.remembered().applications.len(), events = events.len(),
        "the agent starts"
    );
    let (inbox, received) = mpsc::channel(INBOX_MAX);
    let (channels, channel) = watch::channel(None);
    let secrets = Secrets::in_data(&data);
    let host = describe(&data, &identity, address, secrets.clone(), channel.clone())?;
    let logs = host.runtime.logs();
    let outlet = Outlet::default();
    let (states, gate_states) = watch::channel(None);
    let link = GateSettings { keeper, data: data.clone(), address };
    let gate = gate::keep(link, inbox.clone(), states);
    let load = LoadSampler::new(data.clone())?;
    let performer = Performer::new(host, load, inbox.clone(), outlet.clone(), (gate, gate_states));
    let clock = SystemClock::start(Timestamp::default());
    let dice: Arc<dyn Dice> = Arc::new(KernelDice);
    let (name, journal) = (identity.name.clone(), Box::new(journal));
    let engine = Engine::new(name, agent, journal, clock, dice.clone(), received);
    tokio::spawn(status::keep(data, engine.snapshots()));
    tokio::spawn(session::renew_in_time(identity.clone(), channel));
    let local = (address.is_loopback() && is_loopback(&identity.url)).then_some(address);
    let session =
        SessionSettings { identity: identity.clone(), network: Tcp { local }, dice, logs, secrets };
    tokio::spawn(session::keep(session, outlet, inbox, channels));
    engine.run(performer, shutdown).await?;
    tracing::info!(agent = %identity.name, "the agent ends; what runs keeps running");
    Ok(())
}

/// Returns whether a coordinator's address is on this machine: several agents on one machine are
/// then told apart by where they dial from.
fn is_loopback(url: &str) -> bool {
    let authority = url.strip_prefix("https://").unwrap_or(url);
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn describe(
    data: &std::path::Path,
    identity: &AgentIdentity,
    address: IpAddr,
    secrets: Secrets,
    channel: watch::Receiver<Option<tonic::transport::Channel>>,
) -> Result<Host, RunError> {
    let program = std::env::current_exe().map_err(RunError::Program)?;
    let releases = ReleaseDirs::open(data)?;
    releases.remove_unfinished()?;
    Ok(Host {
        agent: identity.name.clone(),
        data: data.to_owned(),
        address,
        inventory: take_inventory(data, address, "process")?,
        boot_id: boot_id().map_err(RunError::Program)?,
        runtime: ProcessRuntime::new(data.to_owned(), program).map_err(RunError::Program)?,
        releases,
        secrets,
        channel,
    })
}
