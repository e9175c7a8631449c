//! The coordinator's ports: from a TCP connection to one that a service may be served on.
//!
//! The agents' port gives two streams, told apart before the handshake: connections that may only
//! join, and connections of enrolled agents. Each service is served on its own stream, so that no
//! handler can forget to ask for a certificate. A slow or silent peer costs nobody else anything:
//! every handshake has its own task and 5 s, and when all places are taken the peer that has been
//! silent longest gives up its place.

mod accepting;
mod connection;
mod live;
mod pending;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use cutover_common::protocol::HEARTBEAT_EVERY;
use cutover_runtime::{
    shutdown::Shutdown,
    tls::{
        Enrolments, PeerIdentity, ServerConfig,
        accept::{
            self, AgentsPort, AgentsPortConfig, Greeting, Handshake, ServerStream, VerifiedAgent,
        },
    },
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use connection::Held;
use pending::Pending;

pub use accepting::Accept;
pub use connection::{Connection, Peer};
pub use live::LiveConnections;

/// Connections as tonic's `serve_with_incoming` takes them.
pub type Incoming<S = TcpStream> = ReceiverStream<io::Result<Connection<S>>>;

/// How many connections may wait for the server to take them.
const WAITING_MAX: usize = 64;

/// How many agents may be connected; each costs a few file descriptors and some 50 KiB.
const AGENTS_MAX: usize = 10_000;

/// How many connections for joining may be open, and for how long. They cost an unknown peer
/// nothing, and one call of some milliseconds is all they are for.
const JOINS_MAX: usize = 64;
const JOIN_OPEN_MAX: Duration = Duration::from_secs(30);

/// How many connections of operators may be open: people and their scripts.
const OPERATORS_MAX: usize = 1_024;

/// How long to wait when no connection can be accepted (no file descriptor is left, usually)
/// before trying again: short for people, long enough not to spin.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// How many calls one connection may have open (promises.md T1.4). An agent has one session and
/// a few downloads; an operator's script a few dozen.
const CALLS_MAX: u32 = 100;

/// The largest header list of a call, in bytes (promises.md T1.4): ours are a token and names.
const HEADERS_MAX_BYTES: u32 = 16 * 1024;

/// How many resets a peer may have unanswered before its connection ends: hyper's own number,
/// stated here because a rapid reset (CVE-2023-44487) must stay harmless.
const RESETS_MAX: usize = 20;

/// How much of one call may wait to be read, in bytes.
const CALL_WINDOW_BYTES: u32 = 256 * 1024;

/// How much of all calls of a connection may wait, in bytes: more than the sixteen logs that an agent
/// sends at a time. Nobody who stops reading a log may keep its host's heartbeats from coming.
const CONNECTION_WINDOW_BYTES: u32 = 20 * CALL_WINDOW_BYTES;

/// Returns a gRPC server with the limits that every port has; a peer that vanished is noticed
/// within 10 s.
pub fn bounded_server() -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(HEARTBEAT_EVERY))
        .http2_keepalive_timeout(Some(HEARTBEAT_EVERY))
        .max_concurrent_streams(CALLS_MAX)
        .initial_stream_window_size(CALL_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_max_header_list_size(HEADERS_MAX_BYTES)
        .http2_max_pending_accept_reset_streams(Some(RESETS_MAX))
}

/// Why a port could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindListener {
    #[error(
        "could not listen on {addr}: another program has that port (ss -ltnp names it); stop it, \
         or choose another address with --listen-agents or --listen-operators"
    )]
    InUse { addr: SocketAddr },
    #[error(
        "could not listen on {addr}: this machine has no such address (ip addr lists them); \
         choose another with --listen-agents or --listen-operators"
    )]
    NotOurs { addr: SocketAddr },
    #[error("could not listen on {addr}")]
    Other { addr: SocketAddr, source: io::Error },
}

/// A port that is open and not yet served.
#[derive(Debug)]
pub struct Listener<L = TcpListener> {
    accepting: L,
    addr: SocketAddr,
}

/// Who may connect as an agent, and who is connected.
#[derive(Clone, Debug)]
pub struct Admission {
    pub enrolments: Arc<Enrolments>,
    pub live: LiveConnections,
}

/// How many connections came to what, since the start.
#[derive(Debug, Default)]
pub struct Counts {
    accepted: AtomicU64,
    refused: AtomicU64,
}

/// The agents' port, being served.
pub struct AgentConnections<S = TcpStream> {
    /// May be served the enrolment service, and nothing else.
    pub joins: Incoming<S>,
    /// Of enrolled agents.
    pub agents: Incoming<S>,
    pub counts: Arc<Counts>,
}

/// The operators' port, being served.
pub struct OperatorConnections<S = TcpStream> {
    pub operators: Incoming<S>,
    pub counts: Arc<Counts>,
}

impl Counts {
    /// Returns how many connections were handed to a service.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Returns how many came to nothing: no TLS, no valid certificate, too slow, too many.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

impl Listener {
    /// Opens a port.
    ///
    /// # Errors
    ///
    /// If it is taken, not this machine's, or not allowed.
    pub async fn bind(addr: SocketAddr) -> Result<Self, BindListener> {
        let failed = |source: io::Error| {
            if source.kind() == io::ErrorKind::AddrInUse {
                BindListener::InUse { addr }
            } else if source.kind() == io::ErrorKind::AddrNotAvailable {
                BindListener::NotOurs { addr }
            } else {
                BindListener::Other { addr, source }
            }
        };
        let tcp = TcpListener::bind(addr).await.map_err(failed)?;
        let addr = tcp.local_addr().map_err(|source| BindListener::Other { addr, source })?;
        Ok(Self::new(tcp, addr))
    }
}

impl<L: Accept> Listener<L> {
    /// Takes a port at `addr` that is open already.
    pub const fn new(accepting: L, addr: SocketAddr) -> Self {
        Self { accepting, addr }
    }

    /// Returns the address with the port that was given for port 0.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves it as the agents' port until the program ends.
    pub fn serve_agents(
        self,
        config: AgentsPortConfig,
        admission: Admission,
        shutdown: &Shutdown,
    ) -> AgentConnections<L::Stream> {
        let (joins, joins_incoming) = mpsc::channel(WAITING_MAX);
        let (agents, agents_incoming) = mpsc::channel(WAITING_MAX);
        let kind = Kind::Agents(Box::new(AgentsKind {
            config,
            admission,
            joins: Outlet::new(joins, JOINS_MAX),
            agents: Outlet::new(agents, AGENTS_MAX),
        }));
        let counts = self.spawn(kind, shutdown);
        AgentConnections {
            joins: ReceiverStream::new(joins_incoming),
            agents: ReceiverStream::new(agents_incoming),
            counts,
        }
    }

    /// Serves it as the operators' port until the program ends.
    pub fn serve_operators(
        self,
        config: Arc<ServerConfig>,
        shutdown: &Shutdown,
    ) -> OperatorConnections<L::Stream> {
        let (operators, incoming) = mpsc::channel(WAITING_MAX);
        let kind = Kind::Operators { config, operators: Outlet::new(operators, OPERATORS_MAX) };
        let counts = self.spawn(kind, shutdown);
        OperatorConnections { operators: ReceiverStream::new(incoming), counts }
    }

    fn spawn(self, kind: Kind<L::Stream>, shutdown: &Shutdown) -> Arc<Counts> {
        let counts = Arc::new(Counts::default());
        let port = Arc::new(Port { kind, counts: counts.clone(), pending: Pending::default() });
        let ended = shutdown.token();
        tokio::spawn(async move {
            // The port closes here; connections that are served go on until their server ends.
            let _: Option<()> = ended.run_until_cancelled(port.accept_all(self.accepting)).await;
        });
        counts
    }
}

/// One port being served.
struct Port<S> {
    kind: Kind<S>,
    counts: Arc<Counts>,
    pending: Pending,
}

enum Kind<S> {
    Agents(Box<AgentsKind<S>>),
    Operators { config: Arc<ServerConfig>, operators: Outlet<S> },
}

struct AgentsKind<S> {
    config: AgentsPortConfig,
    admission: Admission,
    joins: Outlet<S>,
    agents: Outlet<S>,
}

/// Where connections of one kind go, and how many there may be.
struct Outlet<S> {
    connections: mpsc::Sender<io::Result<Connection<S>>>,
    places: Arc<Semaphore>,
}

/// Why a connection was not handed to a service.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("the handshake came to nothing")]
    Handshake(#[from] Handshake),
    #[error("it gave up its place to others: it had not said a word")]
    Evicted,
    #[error("the agent was removed during the handshake")]
    Removed,
    #[error("too many connections of this kind are open")]
    Full,
    #[error("the server is ending")]
    Ending,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Port<S> {
    async fn accept_all<L: Accept<Stream = S>>(self: Arc<Self>, accepting: L) {
        loop {
            let (stream, addr) = match accepting.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // A peer that hung up, or no file descriptor left (promises.md §3 row 66).
                    tracing::warn!(%error, "could not accept a connection; trying again");
                    tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
                    continue;
                }
            };
            let place = self.pending.place().await;
            let port = self.clone();
            tokio::spawn(async move {
                match port.take_in::<L>(stream, addr, place).await {
                    Ok(()) => port.counts.accepted.fetch_add(1, Ordering::Relaxed),
                    Err(refused) => {
                        let why = cutover_common::ErrorChain(&refused).to_string();
                        tracing::debug!(%addr, why, "refused a connection");
                        port.counts.refused.fetch_add(1, Ordering::Relaxed)
                    }
                }
            });
        }
    }

    async fn take_in<L: Accept<Stream = S>>(
        &self,
        stream: S,
        addr: SocketAddr,
        place: pending::Place,
    ) -> Result<(), Refused> {
        if let Err(error) = L::watch_over(&stream) {
            return Err(Handshake::Failed(error).into());
        }
        let greeting =
            place.while_silent(accept::greet(stream)).await.ok_or(Refused::Evicted)??;
        match &self.kind {
            Kind::Agents(agents) => agents.take_in(greeting, addr, place).await,
            Kind::Operators { config, operators } => {
                let stream = greeting.into_operators_port(config.clone()).await?;
                drop(place);
                let place = operators.place()?;
                let kill = CancellationToken::new();
                operators.hand_over_anonymous(stream, addr, kill, place).await
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AgentsKind<S> {
    async fn take_in(
        &self,
        greeting: Greeting<S>,
        addr: SocketAddr,
        place: pending::Place,
    ) -> Result<(), Refused> {
        let connected = greeting.into_agents_port(self.config.clone()).await?;
        drop(place);
        match connected {
            AgentsPort::Join(stream) => {
                let place = self.joins.place()?;
                let kill = CancellationToken::new();
                tokio::spawn(end_after(JOIN_OPEN_MAX, kill.clone()));
                self.joins.hand_over_anonymous(stream, addr, kill, place).await
            }
            AgentsPort::Agent(agent) => self.take_in_agent(agent, addr).await,
        }
    }

    async fn take_in_agent(
        &self,
        agent: VerifiedAgent<S>,
        addr: SocketAddr,
    ) -> Result<(), Refused> {
        let VerifiedAgent { stream, identity, not_after } = agent;
        let _place = self.agents.place()?;
        let kill = CancellationToken::new();
        let registration = self.admission.live.register(identity.clone(), not_after, kill.clone());
        // Registered first, looked up after: whoever removes the agent meanwhile finds either no
        // admission here or the connection in the list.
        if !self.admission.enrolments.is_admitted(&identity) {
            return Err(Refused::Removed);
        }
        let peer = Peer { addr, identity: Some(identity), kill };
        let held = Held::Agent { _registration: registration, _place };
        self.agents.hand_over(Connection::new(stream, peer, held)).await
    }
}

impl<S> Outlet<S> {
    fn new(connections: mpsc::Sender<io::Result<Connection<S>>>, places: usize) -> Self {
        Self { connections, places: Arc::new(Semaphore::new(places)) }
    }

    fn place(&self) -> Result<OwnedSemaphorePermit, Refused> {
        self.places.clone().try_acquire_owned().map_err(|_| Refused::Full)
    }

    async fn hand_over_anonymous(
        &self,
        stream: ServerStream<S>,
        addr: SocketAddr,
        kill: CancellationToken,
        place: OwnedSemaphorePermit,
    ) -> Result<(), Refused> {
        let no_identity: Option<PeerIdentity> = None;
        let peer = Peer { addr, identity: no_identity, kill };
        self.hand_over(Connection::new(stream, peer, Held::Anonymous { _place: place })).await
    }

    async fn hand_over(&self, connection: Connection<S>) -> Result<(), Refused> {
        self.connections.send(Ok(connection)).await.map_err(|_| Refused::Ending)
    }
}

/// Ends a connection after a while, unless it has ended by itself.
async fn end_after(open_max: Duration, kill: CancellationToken) {
    if tokio::time::timeout(open_max, kill.cancelled()).await.is_err() {
        kill.cancel();
    }
}

#[cfg(test)]
mod tests;
