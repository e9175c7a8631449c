//! The ports over sockets: who lands in which stream, who costs others nothing, who is ended.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use cutover_runtime::{
    clock::wall,
    tls::{
        ALPN_H2, ALPN_JOIN, ClientConfig, SwapCert, client,
        csr::KeyRequest,
        files,
        server::{agent_listener_config, join_config, operator_config},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream, rustls::pki_types::ServerName};
use tokio_stream::StreamExt;
use tonic::transport::server::Connected;
use uuid::Uuid;

use super::*;
use crate::identity::Identity;

mod services;

const ENROLMENT: Uuid = Uuid::from_u128(0xa);

/// How long a test waits for what must happen: far longer than it takes.
const LONG: Duration = Duration::from_secs(20);

/// A coordinator's ports in which `web-1` is enrolled.
struct House {
    identity: Identity,
    admission: Admission,
    port: SocketAddr,
    agents: AgentConnections,
    shutdown: Shutdown,
    _data: tempfile::TempDir,
}

impl House {
    async fn new() -> Self {
        let enrolments = Enrolments::new([("web-1".to_owned(), ENROLMENT)]);
        let enrolments = Arc::new(enrolments);
        Self::with(enrolments.clone(), enrolments).await
    }

    /// One whose verifier and whose later look-up see different enrolments.
    async fn with(verified: Arc<Enrolments>, looked_up: Arc<Enrolments>) -> Self {
        let data = tempfile::tempdir().unwrap();
        let identity = Identity::init(data.path(), &[], Uuid::from_u128(1), wall()).unwrap();
        let admission = Admission { enrolments: looked_up, live: LiveConnections::default() };
        let shutdown = Shutdown::new();
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let port = listener.addr();
        let server = identity.server.clone();
        let config = AgentsPortConfig {
            join: join_config(server.clone()).unwrap(),
            agents: agent_listener_config(identity.ca.certificate(), server, verified).unwrap(),
        };
        let agents = listener.serve_agents(config, admission.clone(), &shutdown);
        Self { identity, admission, port, agents, shutdown, _data: data }
    }

    fn web_1(&self) -> Arc<ClientConfig> {
        let request = KeyRequest::generate().unwrap();
        let name = "web-1".parse().unwrap();
        let ca = &self.identity.ca;
        let issued = ca.sign_agent(request.csr_pem(), &name, ENROLMENT, wall()).unwrap();
        let chain = files::certificates_in(&issued.pem).unwrap();
        client::agent(ca.pem(), SwapCert::new(chain, request.key()).unwrap()).unwrap()
    }

    fn nobody(&self) -> Arc<ClientConfig> {
        client::pinned(self.identity.ca.ca_hash()).unwrap()
    }

    async fn accepted_agent(&mut self) -> Connection {
        accepted(&mut self.agents.agents).await
    }

    async fn accepted_join(&mut self) -> Connection {
        accepted(&mut self.agents.joins).await
    }

    /// Waits until as many connections came to nothing.
    async fn refused(&self, count: u64) {
        let counts = &self.agents.counts;
        until("the refused connections to be counted", || counts.refused() >= count).await;
    }
}

async fn accepted(incoming: &mut Incoming) -> Connection {
    let next = timeout(LONG, incoming.next()).await.expect("a connection is handed over");
    next.expect("the port is open").unwrap()
}

async fn until(awaited: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain for {awaited}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn connect(
    addr: SocketAddr,
    config: &ClientConfig,
    alpn: &[u8],
) -> io::Result<TlsStream<TcpStream>> {
    let mut config = config.clone();
    config.alpn_protocols = vec![alpn.to_vec()];
    let tcp = TcpStream::connect(addr).await?;
    let name = ServerName::try_from("127.0.0.1").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await
}

/// Sends a word through a connection and back.
async fn ping(client: &mut TlsStream<TcpStream>, server: &mut Connection) -> io::Result<()> {
    let mut heard = [0; 4];
    client.write_all(b"ping").await?;
    server.read_exact(&mut heard).await?;
    server.write_all(&heard).await?;
    server.flush().await?;
    client.read_exact(&mut heard).await?;
    assert_eq!(&heard, b"ping");
    Ok(())
}

#[tokio::test]
async fn joins_and_agents_come_out_of_two_streams() {
    let mut house = House::new().await;

    let mut joining = connect(house.port, &house.nobody(), ALPN_JOIN).await.unwrap();
    let mut join = house.accepted_join().await;
    ping(&mut joining, &mut join).await.unwrap();
    assert_eq!(join.connect_info().identity, None);

    // An agent's certificate on a joining connection gives nothing.
    let _with_certificate = connect(house.port, &house.web_1(), ALPN_JOIN).await.unwrap();
    assert_eq!(house.accepted_join().await.peer().identity, None);

    let mut client = connect(house.port, &house.web_1(), ALPN_H2).await.unwrap();
    let mut agent = house.accepted_agent().await;
    ping(&mut client, &mut agent).await.unwrap();
    let web_1 = PeerIdentity::agent(&"web-1".parse().unwrap(), ENROLMENT);
    assert_eq!(agent.connect_info().identity, Some(web_1));
    assert_eq!(house.admission.live.count(), 1);

    // Whoever shows nothing and does not join appears in neither.
    let mut refused = connect(house.port, &house.nobody(), ALPN_H2).await.unwrap();
    assert!(refused.read_u8().await.is_err());
    house.refused(1).await;
    assert_eq!(house.agents.counts.accepted(), 3);
}

#[tokio::test]
async fn the_operators_port_knows_nobody_by_certificate() {
    let house = House::new().await;
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let port = listener.addr();
    let config = operator_config(house.identity.server.clone()).unwrap();
    let mut operators = listener.serve_operators(config, &house.shutdown);

    let mut client = connect(port, &house.web_1(), ALPN_H2).await.unwrap();
    let mut operator = accepted(&mut operators.operators).await;

    ping(&mut client, &mut operator).await.unwrap();
    assert_eq!(operator.peer().identity, None);
    assert_eq!(house.admission.live.count(), 0);
    assert!(connect(port, &house.nobody(), ALPN_JOIN).await.is_err());
}

#[tokio::test]
async fn removing_an_agent_ends_its_open_connection_and_refuses_the_next() {
    let mut house = House::new().await;
    let config = house.web_1();
    let mut client = connect(house.port, &config, ALPN_H2).await.unwrap();
    let mut agent = house.accepted_agent().await;
    ping(&mut client, &mut agent).await.unwrap();
    let kill = agent.peer().kill.clone();
    let serving = tokio::spawn(async move { agent.read_u8().await });

    let enrolment = house.admission.enrolments.remove("web-1").unwrap();
    let begun = Instant::now();
    assert_eq!(house.admission.live.kill("web-1", enrolment), 1);

    let ended = timeout(LONG, serving).await.unwrap().unwrap().unwrap_err();
    assert_eq!(ended.kind(), io::ErrorKind::ConnectionAborted);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(kill.is_cancelled());
    assert!(timeout(LONG, client.read_u8()).await.unwrap().is_err());
    until("the ended connection to leave the list", || house.admission.live.count() == 0).await;

    let mut again = connect(house.port, &config, ALPN_H2).await.unwrap();
    let error = again.read_u8().await.unwrap_err();
    assert!(error.to_string().contains("CertificateRevoked"), "{error}");
}

#[tokio::test]
async fn an_agent_that_is_removed_during_its_handshake_is_not_let_in() {
    let before = Arc::new(Enrolments::new([("web-1".to_owned(), ENROLMENT)]));
    let house = House::with(before, Arc::new(Enrolments::default())).await;

    let mut client = connect(house.port, &house.web_1(), ALPN_H2).await.unwrap();

    let closed = timeout(LONG, client.read_u8()).await.expect("the connection is closed");
    assert!(closed.is_err());
    house.refused(1).await;
    assert_eq!((house.agents.counts.accepted(), house.admission.live.count()), (0, 0));
}

#[tokio::test]
async fn a_connection_ends_with_its_certificate() {
    let mut house = House::new().await;
    let mut client = connect(house.port, &house.web_1(), ALPN_H2).await.unwrap();
    let mut agent = house.accepted_agent().await;
    let day = Duration::from_secs(24 * 60 * 60);

    house.admission.live.extend("web-1", ENROLMENT, wall() + 2 * day);
    assert_eq!(house.admission.live.kill_expired(wall() + day), 0);
    ping(&mut client, &mut agent).await.unwrap();

    assert_eq!(house.admission.live.kill_expired(wall() + 2 * day), 1);
    let ended = timeout(LONG, agent.read_u8()).await.expect("the connection ends").unwrap_err();
    assert_eq!(ended.kind(), io::ErrorKind::ConnectionAborted);
    let ended = agent.write_all(b"x").await.unwrap_err();
    assert_eq!(ended.kind(), io::ErrorKind::ConnectionAborted);
}

#[tokio::test]
async fn a_renewed_server_certificate_leaves_open_connections_alone() {
    let mut house = House::new().await;
    let config = house.web_1();
    let mut client = connect(house.port, &config, ALPN_H2).await.unwrap();
    let mut agent = house.accepted_agent().await;
    let sixteen_days = Duration::from_secs(16 * 24 * 60 * 60);

    // Backdated by minutes only, so what is made for the time in 16 days is refused here: the
    // handshake proves that it is the one that is shown.
    house.identity.reissue_if_due(wall() + sixteen_days).unwrap();

    ping(&mut client, &mut agent).await.unwrap();
    let error = connect(house.port, &config, ALPN_H2).await.unwrap_err();
    assert!(error.to_string().contains("not valid yet"), "{error}");
}

#[tokio::test]
async fn silent_and_garbage_peers_cost_others_nothing() {
    let mut house = House::new().await;
    let mut silent = Vec::new();
    // More than there are places: the silent ones make room for each other and for the agent.
    for _ in 0..pending::PENDING_MAX + 40 {
        silent.push(TcpStream::connect(house.port).await.unwrap());
    }
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 64], &[22, 3, 1, 255, 255], b"\x16"] {
        let mut tcp = TcpStream::connect(house.port).await.unwrap();
        tcp.write_all(garbage).await.unwrap();
        silent.push(tcp);
    }
    let begun = Instant::now();

    let mut client = connect(house.port, &house.web_1(), ALPN_H2).await.unwrap();
    let mut agent = house.accepted_agent().await;
    ping(&mut client, &mut agent).await.unwrap();

    // Had it waited for places to become free by themselves, that were the whole 5 s.
    assert!(begun.elapsed() < accept::HANDSHAKE_MAX / 2, "{:?}", begun.elapsed());
    house.refused(40).await;
}

#[tokio::test]
async fn a_peer_that_stops_in_its_handshake_is_closed_in_time() {
    let house = House::new().await;
    let mut half = TcpStream::connect(house.port).await.unwrap();
    half.write_all(&[22, 3, 1]).await.unwrap();
    let begun = Instant::now();

    let closed = timeout(LONG, half.read_to_end(&mut Vec::new())).await;

    assert!(closed.is_ok(), "the connection is closed");
    assert!(begun.elapsed() < accept::HANDSHAKE_MAX + Duration::from_secs(5));
    house.refused(1).await;
}

/// hyper waits for a peer's first words without a limit, and pings nobody before (row 39).
#[tokio::test]
async fn a_peer_that_says_nothing_after_its_handshake_is_closed_in_time() {
    let mut house = House::new().await;
    let mut client = connect(house.port, &house.web_1(), ALPN_H2).await.unwrap();
    let mut agent = house.accepted_agent().await;
    // The beginning of HTTP/2's preface is not all of it.
    client.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    client.flush().await.unwrap();

    let ended = timeout(LONG, agent.read_to_end(&mut Vec::new())).await;

    let ended = ended.expect("the connection ends").unwrap_err();
    assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn joins_are_few_so_that_strangers_cannot_fill_the_coordinator() {
    let mut house = House::new().await;
    let nobody = house.nobody();
    let mut held = Vec::new();
    for _ in 0..JOINS_MAX {
        let client = connect(house.port, &nobody, ALPN_JOIN).await.unwrap();
        held.push((client, house.accepted_join().await));
    }

    let mut one_more = connect(house.port, &nobody, ALPN_JOIN).await.unwrap();
    assert!(one_more.read_u8().await.is_err(), "closed");
    house.refused(1).await;

    held.pop();
    let mut client = connect(house.port, &nobody, ALPN_JOIN).await.unwrap();
    let mut join = house.accepted_join().await;
    ping(&mut client, &mut join).await.unwrap();
}

#[tokio::test]
async fn a_port_that_is_taken_says_what_to_do() {
    let first = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();

    let error = Listener::bind(first.addr()).await.unwrap_err();

    assert!(matches!(error, BindListener::InUse { .. }));
    let text = error.to_string();
    assert!(text.contains(&first.addr().to_string()), "{text}");
    assert!(text.contains("choose another address with --listen-agents"), "{text}");
    // TEST-NET-1 is nobody's (RFC 5737).
    let foreign = Listener::bind("192.0.2.1:0".parse().unwrap()).await.unwrap_err();
    assert!(matches!(foreign, BindListener::NotOurs { .. }), "{foreign}");
}

#[tokio::test]
async fn the_port_closes_when_the_program_ends_and_open_connections_go_on() {
    let mut house = House::new().await;
    let mut client = connect(house.port, &house.web_1(), ALPN_H2).await.unwrap();
    let mut agent = house.accepted_agent().await;

    house.shutdown.request();

    let end = timeout(LONG, house.agents.agents.next()).await.expect("the stream ends");
    assert!(end.is_none());
    ping(&mut client, &mut agent).await.unwrap();
    assert!(TcpStream::connect(house.port).await.is_err());
}

#[tokio::test]
async fn a_connection_for_joining_does_not_stay_open() {
    let kill = CancellationToken::new();

    timeout(LONG, end_after(Duration::from_millis(1), kill.clone())).await.unwrap();

    assert!(kill.is_cancelled());
}
