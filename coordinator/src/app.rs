//! Wires the tasks together; decides nothing.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use cutover_common::ErrorChain;
use cutover_proto::v1::operator_server::OperatorServer;
use cutover_runtime::{
    clock::{Clock, SystemClock, wall},
    shutdown::Shutdown,
    tls::{
        Enrolments, TlsSetup,
        accept::AgentsPortConfig,
        files::{self, Access, WriteFile},
        server,
    },
};
use tokio::{net::TcpListener, task::JoinSet};

use crate::{
    artifacts::{ArchiveStore, OpenArchives},
    engine::{Engine, EngineHandle},
    grpc::{agent::Link, authority::Guarded, enrollment::Enrolling, operator::Operating},
    identity::{Identity, OpenIdentity, Reissue},
    ledger::Ledger,
    listen::{
        Admission, AgentConnections, BindListener, Listener, LiveConnections, OperatorConnections,
        bounded_server,
    },
    logs::LogDesk,
    metrics,
    outlets::{Operators, Outlets},
    prometheus::Asker,
    replay::{Replay, replay},
    settings::Settings,
    store::{AppendError, EventStore, OpenError, SledStore, StoreThread},
    web::{self, Watched},
};

/// The largest message of an operator: a piece of a release, or a manifest.
const OPERATOR_MESSAGE_MAX: usize = 4 * 1024 * 1024;

/// How often the server's own certificate is looked at. It is renewed at half of 30 days.
const REISSUE_EVERY: Duration = Duration::from_secs(6 * 60 * 60);

/// How long connections may take to end after the signal: short, as agents and viewers dial
/// again, and nothing runs here that could be cut in half.
const DRAIN_WITHIN: Duration = Duration::from_secs(3);

/// Why the coordinator could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("could not replay the event log")]
    Replay(#[from] Replay),
    #[error("could not open the coordinator's identity")]
    Identity(#[from] OpenIdentity),
    #[error("could not set up TLS")]
    Tls(#[from] TlsSetup),
    #[error(transparent)]
    Bind(#[from] BindListener),
    #[error("could not listen on {addr} for the web: {source}; choose another with --listen-web")]
    BindWeb { addr: SocketAddr, source: io::Error },
    #[error("could not open the archives")]
    Archives(#[from] OpenArchives),
    #[error("could not write where the coordinator listens")]
    Listening(#[from] WriteFile),
    #[error("could not start a thread")]
    Thread(#[source] io::Error),
    /// D4: the process ends, and reads its log again when it is restarted.
    #[error(
        "an event could not be made durable, so the coordinator stops; nothing that depends on it was done"
    )]
    Store(#[from] AppendError),
    #[error("a server ended")]
    Server(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl RunError {
    /// Returns the exit status: 75 asks the supervisor to try again later.
    pub const fn exit_status(&self) -> u8 {
        match self {
            Self::Store(_) => 75,
            Self::Bind(_) | Self::BindWeb { .. } => 2,
            Self::Open(_)
            | Self::Replay(_)
            | Self::Identity(_)
            | Self::Tls(_)
            | Self::Archives(_)
            | Self::Listening(_)
            | Self::Thread(_)
            | Self::Server(_) => 1,
        }
    }
}

/// Where the coordinator listens, with the ports that it was given for port 0.
#[derive(Clone, Copy, Debug)]
pub struct Listening {
    pub agents: SocketAddr,
    pub operators: SocketAddr,
    pub web: SocketAddr,
}

impl Listening {
    /// The file in the data directory that says it, for scripts.
    pub const FILE: &str = "listening.json";

    fn write(&self, data: &Path) -> Result<(), RunError> {
        let Self { agents, operators, web } = self;
        let json = serde_json::json!({ "agents": agents, "operators": operators, "web": web });
        Ok(files::write(&data.join(Self::FILE), json.to_string().as_bytes(), Access::Everybody)?)
    }
}

/// Runs the coordinator of `data` until shutdown; `asker` has the metrics servers that it may ask.
///
/// # Errors
///
/// When it cannot start, or an event cannot be made durable.
pub async fn run(
    data: PathBuf,
    settings: Settings,
    asker: Asker,
    shutdown: Shutdown,
) -> Result<(), RunError> {
    let store_dir = data.join("store");
    let store = tokio::task::spawn_blocking(move || SledStore::open(&store_dir))
        .await
        .map_err(|error| RunError::Thread(io::Error::other(error)))??;
    let incarnation = store.incarnation();
    let core = replay(&store)?;
    tracing::info!(events = store.last().0, term = core.term().0, "replayed the event log");
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start(core.last_event()));
    let identity = Arc::new(Identity::open(&data, incarnation, core.all_sealed(), wall())?);
    let archives = Arc::new(ArchiveStore::in_folder(&data.join("artifacts")).await?);
    let (thread, store) = StoreThread::start(Box::new(store)).map_err(RunError::Thread)?;

    let ports = Ports::open(&settings).await?;
    let listening = ports.listening()?;
    listening.write(&data)?;
    let enrolments = Arc::new(Enrolments::default());
    let live = LiveConnections::default();
    let operators: Operators = Arc::new(ArcSwap::from_pointee(BTreeMap::new()));
    let (engine, handle) = Engine::new(core, Ledger::new(store.clone()), clock, {
        let (identity, enrolments) = (identity.clone(), enrolments.clone());
        let (live, operators) = (live.clone(), operators.clone());
        move |changed| {
            let mut outlets =
                Outlets::new(identity, incarnation, enrolments, live, operators, changed);
            outlets.asker = asker;
            outlets
        }
    });
    let parts = Parts {
        engine: handle,
        identity,
        archives,
        enrolments,
        live,
        operators,
        settings,
        store,
        incarnation,
        listening,
        logs: LogDesk::default(),
    };
    let ended = serve(parts, ports, engine, &shutdown).await;
    thread.stop().await;
    ended
}

struct Parts {
    engine: EngineHandle,
    identity: Arc<Identity>,
    archives: Arc<ArchiveStore>,
    enrolments: Arc<Enrolments>,
    live: LiveConnections,
    operators: Operators,
    settings: Settings,
    store: crate::store::StoreHandle,
    incarnation: uuid::Uuid,
    listening: Listening,
    logs: LogDesk,
}

struct Ports {
    agents: Listener,
    operators: Listener,
    web: TcpListener,
}

impl Ports {
    async fn open(settings: &Settings) -> Result<Self, RunError> {
        let addr = settings.listen_web;
        Ok(Self {
            agents: Listener::bind(settings.listen_agents).await?,
            operators: Listener::bind(settings.listen_operators).await?,
            web: TcpListener::bind(addr)
                .await
                .map_err(|source| RunError::BindWeb { addr, source })?,
        })
    }

    fn listening(&self) -> Result<Listening, RunError> {
        let web = self.web.local_addr();
        Ok(Listening {
            agents: self.agents.addr(),
            operators: self.operators.addr(),
            web: web.map_err(|error| RunError::Server(Box::new(error)))?,
        })
    }
}

async fn serve(
    parts: Parts,
    ports: Ports,
    engine: Engine,
    shutdown: &Shutdown,
) -> Result<(), RunError> {
    let counts = Arc::new(metrics::Counts::default());
    let config = AgentsPortConfig {
        join: server::join_config(parts.identity.server.clone())?,
        agents: server::agent_listener_config(
            parts.identity.ca.certificate(),
            parts.identity.server.clone(),
            parts.enrolments.clone(),
        )?,
    };
    let operator_config = server::operator_config(parts.identity.server.clone())?;
    // The loop must run before the first connection: it says who is enrolled.
    let mut engine = tokio::spawn(engine.run());
    parts.engine.look(|_, _| ()).await.map_err(|gone| RunError::Server(Box::new(gone)))?;

    let admission = Admission { enrolments: parts.enrolments.clone(), live: parts.live.clone() };
    let agents = ports.agents.serve_agents(config, admission, shutdown);
    let operators = ports.operators.serve_operators(operator_config, shutdown);
    drop(counts.agents.set(agents.counts.clone()));
    drop(counts.operators.set(operators.counts.clone()));

    let mut servers: JoinSet<Result<(), RunError>> = JoinSet::new();
    spawn_agents(&mut servers, &parts, agents, shutdown);
    spawn_operators(&mut servers, &parts, operators, shutdown);
    let watched = Watched { engine: parts.engine.clone(), store: parts.store.clone(), counts };
    let (web, ending) = (ports.web, shutdown.clone());
    servers.spawn(async move {
        web::serve(web, watched, &ending).await.map_err(|error| RunError::Server(Box::new(error)))
    });
    tokio::spawn(parts.live.clone().watch_ends(shutdown.clone()));
    tokio::spawn(reissue(parts.identity.clone(), shutdown.clone()));
    let Listening { agents, operators, web } = parts.listening;
    tracing::info!(%agents, %operators, %web, incarnation = %parts.incarnation, "ready");
    drop(parts);

    let ended = tokio::select! {
        ended = &mut engine => flatten(ended),
        Some(ended) = servers.join_next() => match ended {
            Ok(ended) => ended,
            Err(error) => Err(RunError::Server(Box::new(error))),
        },
        () = shutdown.requested() => Ok(()),
    };
    shutdown.request();
    // Streams to agents and viewers live as long as they may; they dial again, so they are cut.
    drop(
        tokio::time::timeout(DRAIN_WITHIN, async { while servers.join_next().await.is_some() {} })
            .await,
    );
    servers.abort_all();
    while servers.join_next().await.is_some() {}
    // A handle that has given its answer must not be asked again.
    if !engine.is_finished() {
        drop(tokio::time::timeout(DRAIN_WITHIN, engine).await);
    }
    tracing::info!("stopped");
    ended
}

fn flatten(ended: Result<Result<(), AppendError>, tokio::task::JoinError>) -> Result<(), RunError> {
    match ended {
        Ok(ended) => Ok(ended?),
        // A broken invariant: the supervisor starts us again, from the log.
        Err(error) => Err(RunError::Server(Box::new(error))),
    }
}

fn spawn_agents(
    servers: &mut JoinSet<Result<(), RunError>>,
    parts: &Parts,
    connections: AgentConnections,
    shutdown: &Shutdown,
) {
    let enrolling = Enrolling { engine: parts.engine.clone(), identity: parts.identity.clone() };
    let join = enrolling.into_server();
    let ending = shutdown.requested();
    servers.spawn(async move {
        bounded_server()
            .add_service(join)
            .serve_with_incoming_shutdown(connections.joins, ending)
            .await
            .map_err(|error| RunError::Server(Box::new(error)))
    });
    let link = Link {
        engine: parts.engine.clone(),
        archives: parts.archives.clone(),
        logs: parts.logs.clone(),
    };
    let link = link.into_server();
    let ending = shutdown.requested();
    servers.spawn(async move {
        bounded_server()
            .add_service(link)
            .serve_with_incoming_shutdown(connections.agents, ending)
            .await
            .map_err(|error| RunError::Server(Box::new(error)))
    });
}

fn spawn_operators(
    servers: &mut JoinSet<Result<(), RunError>>,
    parts: &Parts,
    connections: OperatorConnections,
    shutdown: &Shutdown,
) {
    let operating = Operating {
        engine: parts.engine.clone(),
        identity: parts.identity.clone(),
        pushes: crate::grpc::Pushes::new(parts.archives.clone()),
        join_url: format!("https://{}:{}", parts.settings.advertise, parts.listening.agents.port()),
        incarnation: parts.incarnation,
        logs: parts.logs.clone(),
        simulator: crate::grpc::Simulator::default(),
    };
    let operator = OperatorServer::new(operating).max_decoding_message_size(OPERATOR_MESSAGE_MAX);
    let guarded = Guarded::new(operator, parts.operators.clone());
    let ending = shutdown.requested();
    servers.spawn(async move {
        bounded_server()
            .add_service(guarded)
            .serve_with_incoming_shutdown(connections.operators, ending)
            .await
            .map_err(|error| RunError::Server(Box::new(error)))
    });
}

/// Keeps the server's own certificate fresh.
async fn reissue(identity: Arc<Identity>, shutdown: Shutdown) {
    let mut look = tokio::time::interval(REISSUE_EVERY);
    let ended = shutdown.token();
    while ended.run_until_cancelled(look.tick()).await.is_some() {
        match identity.reissue_if_due(wall()) {
            Ok(Reissue::NotDue { .. }) => {}
            Ok(Reissue::Reissued { until }) => {
                let until = cutover_runtime::tls::utc(until);
                tracing::info!(until, "renewed the server's certificate");
            }
            Err(error) => {
                let error = ErrorChain(&error).to_string();
                tracing::error!(error, "could not renew the server's certificate");
            }
        }
    }
}
