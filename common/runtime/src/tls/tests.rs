//! Every kind of peer at every kind of port, over sockets.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType};
use rustls::{AlertDescription, Error as TlsError, HandshakeKind, client::Resumption};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use uuid::Uuid;

use super::{
    accept::{self, AgentsPort, AgentsPortConfig},
    fleet::{ENROLMENT, Fleet, connect},
    server::operator_config,
    *,
};
use crate::clock::wall;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const H2: &[&[u8]] = &[ALPN_H2];
const JOIN: &[&[u8]] = &[ALPN_JOIN];

/// What a port told a peer, as the peer saw it.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Verdict {
    Join,
    Agent(String),
    Operator,
    Alert(AlertDescription),
    /// Refused without an alert: closed, or not even TLS.
    Closed,
}

/// Serves an agents' port that tells each accepted peer what it took it for.
async fn agents_port(config: AgentsPortConfig) -> SocketAddr {
    serve(move |tcp| {
        let config = config.clone();
        async move {
            let Ok(greeting) = accept::greet(tcp).await else { return };
            let (mut stream, told) = match greeting.into_agents_port(config).await {
                Ok(AgentsPort::Join(stream)) => (stream, "join".to_owned()),
                Ok(AgentsPort::Agent(agent)) => (agent.stream, agent.identity.to_string()),
                Err(_) => return,
            };
            tell(&mut stream, &told).await;
        }
    })
    .await
}

async fn operators_port(config: Arc<ServerConfig>) -> SocketAddr {
    serve(move |tcp| {
        let config = config.clone();
        async move {
            let Ok(greeting) = accept::greet(tcp).await else { return };
            if let Ok(mut stream) = greeting.into_operators_port(config).await {
                assert!(stream.get_ref().1.peer_certificates().is_none());
                tell(&mut stream, "operator").await;
            }
        }
    })
    .await
}

async fn serve<F, T>(each: F) -> SocketAddr
where
    F: Fn(TcpStream) -> T + Send + 'static,
    T: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            tokio::spawn(each(tcp));
        }
    });
    addr
}

async fn tell(stream: &mut accept::ServerStream, told: &str) {
    stream.write_all(told.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
}

async fn verdict(addr: SocketAddr, config: &ClientConfig, alpn: &[&[u8]]) -> Verdict {
    let mut told = String::new();
    let heard = match connect(addr, config, alpn).await {
        Ok(mut stream) => stream.read_to_string(&mut told).await,
        Err(error) => Err(error),
    };
    match heard {
        Ok(_) if told == "join" => Verdict::Join,
        Ok(_) if told == "operator" => Verdict::Operator,
        Ok(_) if told.is_empty() => Verdict::Closed,
        Ok(_) => Verdict::Agent(told),
        Err(error) => match error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) {
            Some(TlsError::AlertReceived(alert)) => Verdict::Alert(*alert),
            Some(other) => panic!("the client itself gave up: {other}"),
            None => Verdict::Closed,
        },
    }
}

fn web_1() -> Verdict {
    Verdict::Agent(format!("spiffe://cutover/agent/web-1/{ENROLMENT}"))
}

#[tokio::test]
async fn the_agents_port_takes_an_enrolled_agent_for_what_its_certificate_says() {
    let fleet = Fleet::new();
    let port = agents_port(fleet.agents_port()).await;

    assert_eq!(verdict(port, &fleet.web_1(), H2).await, web_1());
}

#[tokio::test]
async fn without_a_certificate_the_agents_port_is_for_joining_only() {
    let fleet = Fleet::new();
    let port = agents_port(fleet.agents_port()).await;
    let nobody = fleet.anonymous();
    let refused = Verdict::Alert(AlertDescription::CertificateRequired);

    assert_eq!(verdict(port, &nobody, JOIN).await, Verdict::Join);
    assert_eq!(verdict(port, &nobody, H2).await, refused);
    assert_eq!(verdict(port, &nobody, &[]).await, refused);
    assert_eq!(verdict(port, &nobody, &[ALPN_JOIN, ALPN_H2]).await, refused);
    assert_eq!(verdict(port, &nobody, &[ALPN_H2, ALPN_JOIN]).await, refused);
    let no_protocol = Verdict::Alert(AlertDescription::NoApplicationProtocol);
    assert_eq!(verdict(port, &nobody, &[b"cutover-join/2"]).await, no_protocol);
    assert_eq!(verdict(port, &nobody, &[b"http/1.1"]).await, no_protocol);
}

#[tokio::test]
async fn a_certificate_gives_nothing_where_none_is_asked_for() {
    let fleet = Fleet::new();
    let agents = agents_port(fleet.agents_port()).await;
    let operators = operators_port(operator_config(fleet.server()).unwrap()).await;
    let web_1_config = fleet.web_1();

    assert_eq!(verdict(agents, &web_1_config, JOIN).await, Verdict::Join);
    assert_eq!(verdict(operators, &web_1_config, H2).await, Verdict::Operator);
    assert_eq!(verdict(operators, &fleet.anonymous(), H2).await, Verdict::Operator);
    let no_protocol = Verdict::Alert(AlertDescription::NoApplicationProtocol);
    assert_eq!(verdict(operators, &web_1_config, JOIN).await, no_protocol);
    assert_eq!(verdict(operators, &fleet.anonymous(), &[]).await, Verdict::Closed);
}

#[tokio::test]
async fn an_agent_without_a_protocol_is_refused_after_the_handshake() {
    let fleet = Fleet::new();
    let port = agents_port(fleet.agents_port()).await;

    assert_eq!(verdict(port, &fleet.web_1(), &[]).await, Verdict::Closed);
}

#[tokio::test]
async fn a_removed_agent_is_refused_by_name_and_by_enrolment() {
    let fleet = Fleet::new();
    let port = agents_port(fleet.agents_port()).await;
    let config = fleet.web_1();
    let revoked = Verdict::Alert(AlertDescription::CertificateRevoked);
    assert_eq!(verdict(port, &config, H2).await, web_1());

    fleet.enrolments.remove("web-1");
    assert_eq!(verdict(port, &config, H2).await, revoked);

    // The same server joins again: only its certificate of that enrolment is good.
    fleet.enrolments.admit("web-1", Uuid::from_u128(0xb));
    assert_eq!(verdict(port, &config, H2).await, revoked);

    fleet.enrolments.replace([("web-1".to_owned(), ENROLMENT)]);
    assert_eq!(verdict(port, &config, H2).await, web_1());
}

#[tokio::test]
async fn certificates_of_other_roles_times_and_authorities_are_refused() {
    let fleet = Fleet::new();
    let port = agents_port(fleet.agents_port()).await;
    let stranger = Fleet::new();
    let expired = AlertDescription::CertificateExpired;
    for (why, certificate, alert) in [
        ("expired", fleet.agent_cert("web-1", ENROLMENT, ago(2 * DAY)), expired),
        ("not yet valid", fleet.agent_cert("web-1", ENROLMENT, wall() + DAY), expired),
        (
            "another authority's",
            stranger.agent_cert("web-1", ENROLMENT, wall()),
            AlertDescription::UnknownCA,
        ),
        (
            "never enrolled",
            fleet.agent_cert("web-2", ENROLMENT, wall()),
            AlertDescription::CertificateRevoked,
        ),
    ] {
        let config = fleet.client(certificate);
        assert_eq!(verdict(port, &config, H2).await, Verdict::Alert(alert), "{why}");
    }
    // The coordinator's own certificate is for serving.
    let refused = verdict(port, &fleet.client(fleet.server()), H2).await;
    assert!(matches!(refused, Verdict::Alert(_)), "{refused:?}");
}

fn ago(time: Duration) -> Timestamp {
    let ms = u64::try_from(time.as_millis()).unwrap();
    Timestamp::from_unix_ms(wall().unix_ms() - ms)
}

/// Signs, with the fleet's own key, a certificate that our code would never sign.
fn forged(dir: &std::path::Path, ca_pem: &str, names: Vec<SanType>) -> Arc<SwapCert> {
    let ca_key = std::fs::read_to_string(dir.join("ca-key.pem")).unwrap();
    let issuer = Issuer::from_ca_cert_pem(ca_pem, KeyPair::from_pem(&ca_key).unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = names;
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let key = csr::KeyRequest::from_key(&key.serialize_pem()).unwrap().key();
    let chain = format!("{}{ca_pem}", certificate.pem());
    SwapCert::new(files::certificates_in(&chain).unwrap(), key).unwrap()
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

#[tokio::test]
async fn a_certificate_that_names_nobody_or_two_is_refused_even_from_our_authority() {
    let dir = tempfile::tempdir().unwrap();
    let ca = ca::CertificateAuthority::create(dir.path(), wall()).unwrap();
    let issued = ca.issue_server(&["127.0.0.1".to_owned()], ENROLMENT, wall()).unwrap();
    let chain = format!("{}{}", issued.certificate_pem, ca.pem());
    let chain = files::certificates_in(&chain).unwrap();
    let shown = SwapCert::new(chain, issued.key()).unwrap();
    let enrolments = Arc::new(Enrolments::new([("web-1".to_owned(), ENROLMENT)]));
    let port = agents_port(AgentsPortConfig {
        join: server::join_config(shown.clone()).unwrap(),
        agents: server::agent_listener_config(ca.certificate(), shown, enrolments).unwrap(),
    })
    .await;
    let good = format!("spiffe://cutover/agent/web-1/{ENROLMENT}");
    let other = format!("spiffe://cutover/agent/web-2/{ENROLMENT}");
    let coordinator = format!("spiffe://cutover/coordinator/{ENROLMENT}");
    let dns = SanType::DnsName("web-1".try_into().unwrap());

    for names in [
        vec![],
        vec![dns.clone()],
        vec![uri(&good), uri(&other)],
        vec![uri(&good), uri(&good)],
        vec![uri(&good), uri("https://example.com")],
        vec![uri(&good), dns],
        vec![uri(&coordinator)],
        vec![uri("spiffe://elsewhere/agent/web-1/x")],
    ] {
        let config = client::agent(ca.pem(), forged(dir.path(), ca.pem(), names.clone())).unwrap();
        let refused = verdict(port, &config, H2).await;
        assert!(matches!(refused, Verdict::Alert(_)), "{names:?}: {refused:?}");
    }
    let config = client::agent(ca.pem(), forged(dir.path(), ca.pem(), vec![uri(&good)])).unwrap();
    assert_eq!(verdict(port, &config, H2).await, web_1(), "the forger itself works");
}

#[tokio::test]
async fn an_agents_certificate_cannot_serve() {
    let fleet = Fleet::new();
    let port =
        agents_port(fleet.agents_port_of(fleet.agent_cert("web-1", ENROLMENT, wall()))).await;

    let error = connect(port, &fleet.anonymous(), JOIN).await.unwrap_err();

    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>());
    assert!(matches!(inner, Some(TlsError::InvalidCertificate(_))), "{error}");
}

#[tokio::test]
async fn a_server_of_our_authority_that_is_no_coordinator_is_not_talked_to() {
    let dir = tempfile::tempdir().unwrap();
    let ca = ca::CertificateAuthority::create(dir.path(), wall()).unwrap();
    let here = SanType::IpAddress("127.0.0.1".parse().unwrap());
    let agent = uri(&format!("spiffe://cutover/agent/web-1/{ENROLMENT}"));
    let coordinator = uri(&format!("spiffe://cutover/coordinator/{ENROLMENT}"));

    for (names, is_coordinator) in [
        (vec![here.clone()], false),
        (vec![here.clone(), agent.clone()], false),
        (vec![here.clone(), coordinator.clone(), agent], false),
        (vec![here, coordinator], true),
    ] {
        let shown = forged(dir.path(), ca.pem(), names.clone());
        let port = operators_port(operator_config(shown).unwrap()).await;
        for config in [client::trusted(ca.pem()), client::pinned(ca.ca_hash())] {
            let connected = connect(port, &config.unwrap(), H2).await;
            assert_eq!(connected.is_ok(), is_coordinator, "{names:?}");
        }
    }
}

#[tokio::test]
async fn a_session_is_never_resumed_so_that_every_connection_is_verified() {
    let fleet = Fleet::new();
    let port = agents_port(fleet.agents_port()).await;
    let mut eager = ClientConfig::clone(&fleet.web_1());
    eager.resumption = Resumption::in_memory_sessions(8);

    for _ in 0..2 {
        let mut stream = connect(port, &eager, H2).await.unwrap();
        stream.read_to_end(&mut Vec::new()).await.unwrap();
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
    }
    fleet.enrolments.remove("web-1");
    let revoked = Verdict::Alert(AlertDescription::CertificateRevoked);
    assert_eq!(verdict(port, &eager, H2).await, revoked);
}

#[tokio::test]
async fn a_client_of_tls_1_2_is_told_the_version() {
    let fleet = Fleet::new();
    let port = agents_port(fleet.agents_port()).await;
    let mut tcp = TcpStream::connect(port).await.unwrap();

    tcp.write_all(&tls_1_2_hello()).await.unwrap();
    let mut answer = Vec::new();
    tcp.read_to_end(&mut answer).await.unwrap();

    // A fatal (2) alert (record type 21): protocol_version (70), RFC 8446 §6.2.
    assert_eq!((answer[0], &answer[answer.len() - 2..]), (21, &[2, 70][..]), "{answer:?}");
}

/// A ClientHello as TLS 1.2 has it (RFC 5246 §7.4.1.2): one suite, and the two extensions that
/// ECDHE needs.
fn tls_1_2_hello() -> Vec<u8> {
    let extensions: &[u8] = &[
        0, 10, 0, 4, 0, 2, 0, 29, // supported_groups: x25519
        0, 13, 0, 4, 0, 2, 4, 3, // signature_algorithms: ecdsa_secp256r1_sha256
    ];
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0xc0, 0x2b, 1, 0]);
    body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
    body.extend(extensions);
    let mut message = vec![1, 0];
    message.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    message.extend(body);
    let mut record = vec![22, 3, 1];
    record.extend(u16::try_from(message.len()).unwrap().to_be_bytes());
    record.extend(message);
    record
}

#[tokio::test]
async fn a_swapped_certificate_counts_for_the_next_handshake_and_leaves_the_open_one_alone() {
    let fleet = Fleet::new();
    let server = fleet.server();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let config = fleet.agents_port_of(server.clone());
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let greeting = accept::greet(tcp).await.unwrap();
            let connected = greeting.into_agents_port(config.clone()).await.unwrap();
            let AgentsPort::Agent(agent) = connected else { panic!("not an agent") };
            let (mut read, mut write) = tokio::io::split(agent.stream);
            tokio::spawn(async move { tokio::io::copy(&mut read, &mut write).await });
        }
    });
    let mine = fleet.agent_cert("web-1", ENROLMENT, wall());
    let client = fleet.client(mine.clone());
    let mut open = connect(addr, &client, H2).await.unwrap();
    echo(&mut open).await;

    let renewed = fleet.agent_cert("web-1", ENROLMENT, wall());
    let before = mine.leaf();
    copy_into(&mine, &renewed);
    copy_into(&server, &fleet.server());
    assert_ne!(mine.leaf(), before);

    echo(&mut open).await;
    let mut next = connect(addr, &client, H2).await.unwrap();
    echo(&mut next).await;
    let shown = next.get_ref().1.peer_certificates().unwrap()[0].clone();
    assert_eq!(shown, server.leaf());
    assert_ne!(open.get_ref().1.peer_certificates().unwrap()[0], shown);
}

fn copy_into(to: &SwapCert, from: &SwapCert) {
    to.share(from);
}

async fn echo<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(stream: &mut S) {
    stream.write_all(b"ping").await.unwrap();
    let mut back = [0; 4];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"ping");
}

#[test]
fn a_key_of_another_certificate_is_not_taken() {
    let fleet = Fleet::new();
    let server = fleet.server();
    let other = csr::KeyRequest::generate().unwrap();

    assert!(server.swap(vec![server.leaf()], other.key()).is_err());
    assert!(SwapCert::new(vec![], other.key()).is_err());
}

#[test]
fn a_ca_hash_is_read_as_it_is_printed() {
    let hash = Fleet::new().ca.ca_hash();

    assert_eq!(parse_ca_hash(&render_ca_hash(&hash)), Ok(hash));
    for bad in [&hash.to_string(), "sha256:", "SHA256:00", "sha256:zz", ""] {
        assert_eq!(parse_ca_hash(bad), Err(InvalidCaHash), "{bad:?}");
    }
}
