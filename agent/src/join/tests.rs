//! Joining and renewing against a coordinator's side made of the same parts as the real one.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use cutover_common::{ErrorChain, Timestamp};
use cutover_proto::v1::{
    agent_link_server::{AgentLink, AgentLinkServer},
    enrollment_server::{Enrollment, EnrollmentServer},
};
use cutover_runtime::tls::{
    ALPN_H2, Enrolments, SwapCert,
    accept::{self, AgentsPort, AgentsPortConfig, ServerStream},
    ca::CertificateAuthority,
    server::{agent_listener_config, join_config},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpListener,
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Response,
    transport::{Server, server::Connected},
};
use uuid::Uuid;

use super::*;

const TOKEN: &str = "ctj_good";
const ENROLMENT: Uuid = Uuid::from_u128(0xa);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How this coordinator answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Answers {
    Well,
    /// Signs and then the answer is lost, once.
    LosesTheFirst,
    ForAnotherName,
    ForAnotherEnrolment,
    WithAnotherCa,
    ForAnotherKey,
    LongAgo,
    Refuses(Code, &'static str),
}

#[derive(Clone)]
struct Coordinator {
    ca: Arc<CertificateAuthority>,
    answers: Arc<Mutex<Answers>>,
    seen: Arc<Mutex<Vec<pb::JoinRequest>>>,
    port: u16,
    _dir: Arc<tempfile::TempDir>,
}

struct Stream(ServerStream);

impl Connected for Stream {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl Coordinator {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = CertificateAuthority::create(dir.path(), wall()).unwrap();
        let issued = ca.issue_server(&["127.0.0.1".to_owned()], ENROLMENT, wall()).unwrap();
        let chain = format!("{}{}", issued.certificate_pem, ca.pem());
        let chain = files::certificates_in(&chain).unwrap();
        let server = SwapCert::new(chain, issued.key()).unwrap();
        let enrolments = Arc::new(Enrolments::new([("web-1".to_owned(), ENROLMENT)]));
        let config = AgentsPortConfig {
            join: join_config(server.clone()).unwrap(),
            agents: agent_listener_config(ca.certificate(), server, enrolments).unwrap(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let this = Self {
            ca: Arc::new(ca),
            answers: Arc::new(Mutex::new(Answers::Well)),
            seen: Arc::default(),
            port: listener.local_addr().unwrap().port(),
            _dir: Arc::new(dir),
        };
        this.serve(listener, config);
        this
    }

    fn serve(&self, listener: TcpListener, config: AgentsPortConfig) {
        let (joins, joins_incoming) = mpsc::channel::<std::io::Result<Stream>>(8);
        let (agents, agents_incoming) = mpsc::channel::<std::io::Result<Stream>>(8);
        tokio::spawn(
            Server::builder()
                .add_service(EnrollmentServer::new(self.clone()))
                .serve_with_incoming(ReceiverStream::new(joins_incoming)),
        );
        tokio::spawn(
            Server::builder()
                .add_service(AgentLinkServer::new(self.clone()))
                .serve_with_incoming(ReceiverStream::new(agents_incoming)),
        );
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let Ok(greeting) = accept::greet(tcp).await else { continue };
                match greeting.into_agents_port(config.clone()).await {
                    Ok(AgentsPort::Join(stream)) => joins.send(Ok(Stream(stream))).await.unwrap(),
                    Ok(AgentsPort::Agent(agent)) => {
                        agents.send(Ok(Stream(agent.stream))).await.unwrap();
                    }
                    Err(_) => {}
                }
            }
        });
    }

    fn answer(&self, answers: Answers) {
        *self.answers.lock().unwrap() = answers;
    }

    fn request(&self, data: &Path) -> JoinRequest {
        JoinRequest {
            url: format!("https://127.0.0.1:{}", self.port),
            token: TOKEN.to_owned(),
            ca_hash: self.ca.ca_hash(),
            data_dir: data.to_owned(),
            name: "web-1".parse().unwrap(),
            labels: Labels::from([("zone".to_owned(), "a".to_owned())]),
            address: Some("127.0.0.11".parse().unwrap()),
        }
    }

    /// Returns how it refuses, if it does.
    fn refusal(&self) -> Option<Status> {
        let mut answers = self.answers.lock().unwrap();
        if let Answers::Refuses(code, text) = *answers {
            return Some(Status::new(code, text));
        }
        if *answers == Answers::LosesTheFirst {
            *answers = Answers::Well;
            return Some(Status::unavailable("the connection broke"));
        }
        None
    }

    /// Returns a certificate and the CA's.
    fn issue(&self, csr_pem: &str) -> (String, String) {
        let (mut name, mut enrolment, mut now) = ("web-1", ENROLMENT, wall());
        let (mut csr, mut ca_pem) = (csr_pem.to_owned(), self.ca.pem().to_owned());
        match *self.answers.lock().unwrap() {
            Answers::Well | Answers::LosesTheFirst | Answers::Refuses(..) => {}
            Answers::ForAnotherName => name = "web-2",
            Answers::ForAnotherEnrolment => enrolment = Uuid::from_u128(0xb),
            Answers::WithAnotherCa => ca_pem = other_ca_pem(),
            Answers::ForAnotherKey => {
                KeyRequest::generate().unwrap().csr_pem().clone_into(&mut csr);
            }
            Answers::LongAgo => now = Timestamp::from_unix_ms(946_684_800_000),
        }
        let issued = self.ca.sign_agent(&csr, &name.parse().unwrap(), enrolment, now).unwrap();
        (issued.pem, ca_pem)
    }
}

fn other_ca_pem() -> String {
    let dir = tempfile::tempdir().unwrap();
    CertificateAuthority::create(dir.path(), wall()).unwrap().pem().to_owned()
}

#[tonic::async_trait]
impl Enrollment for Coordinator {
    async fn join(
        &self,
        request: Request<pb::JoinRequest>,
    ) -> Result<Response<pb::JoinResponse>, Status> {
        let request = request.into_inner();
        self.seen.lock().unwrap().push(request.clone());
        if request.token != TOKEN {
            return Err(Status::unauthenticated("TOKEN_INVALID"));
        }
        if let Some(refusal) = self.refusal() {
            return Err(refusal);
        }
        let (certificate_pem, ca_pem) = self.issue(&request.csr_pem);
        Ok(Response::new(pb::JoinResponse { certificate_pem, ca_pem, name: request.name }))
    }
}

#[tonic::async_trait]
impl AgentLink for Coordinator {
    type SessionStream = tokio_stream::Empty<Result<pb::CoordinatorMessage, Status>>;
    type FetchReleaseStream = tokio_stream::Empty<Result<pb::Chunk, Status>>;

    async fn session(
        &self,
        _: Request<tonic::Streaming<pb::AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        Err(Status::unimplemented("not what these tests are about"))
    }

    async fn fetch_release(
        &self,
        _: Request<pb::FetchReleaseRequest>,
    ) -> Result<Response<Self::FetchReleaseStream>, Status> {
        Err(Status::unimplemented("not what these tests are about"))
    }

    async fn renew(
        &self,
        request: Request<pb::RenewRequest>,
    ) -> Result<Response<pb::RenewResponse>, Status> {
        if let Some(refusal) = self.refusal() {
            return Err(refusal);
        }
        let (certificate_pem, _) = self.issue(&request.into_inner().csr_pem);
        Ok(Response::new(pb::RenewResponse { certificate_pem }))
    }

    async fn send_log(
        &self,
        _: Request<tonic::Streaming<pb::LogPiece>>,
    ) -> Result<Response<pb::SendLogResponse>, Status> {
        Err(Status::unimplemented("not what these tests are about"))
    }
}

fn files_in(data: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(data.join("identity"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn text(error: &dyn std::error::Error) -> String {
    ErrorChain(error).to_string()
}

async fn joined() -> (Coordinator, tempfile::TempDir, AgentIdentity) {
    let coordinator = Coordinator::start().await;
    let data = tempfile::tempdir().unwrap();
    join(coordinator.request(data.path())).await.unwrap();
    let identity = AgentIdentity::load(data.path()).unwrap();
    (coordinator, data, identity)
}

async fn channel(identity: &AgentIdentity) -> Result<tonic::transport::Channel, DialError> {
    dial::channel(&identity.url, identity.client_config().unwrap(), ALPN_H2).await
}

#[tokio::test]
async fn a_joined_agent_has_its_identity_on_disk_and_is_let_in() {
    let (coordinator, data, identity) = joined().await;

    assert_eq!(identity.name.as_str(), "web-1");
    assert_eq!(identity.enrolment, ENROLMENT);
    assert_eq!(identity.address, Some("127.0.0.11".parse().unwrap()));
    assert_eq!(files_in(data.path()), ["agent.pem", "ca.pem"]);
    let mode = |name| fs::metadata(data.path().join(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("identity"), mode("identity/agent.pem")), (0o700, 0o600));
    channel(&identity).await.unwrap();
    let seen = coordinator.seen.lock().unwrap();
    assert_eq!(seen[0].labels.get("zone").map(String::as_str), Some("a"));
    assert!(wall().unix_ms().abs_diff(seen[0].unix_time_ms) < 60_000);
    assert!(!seen[0].csr_pem.contains("PRIVATE"));
}

#[tokio::test]
async fn a_second_join_is_refused_until_the_identity_is_given_up() {
    let (coordinator, data, _) = joined().await;

    let error = join(coordinator.request(data.path())).await.unwrap_err();
    assert!(matches!(error, JoinError::AlreadyJoined { .. }));
    assert!(error.to_string().contains("cutover-agent leave --data"), "{error}");

    forget(data.path()).unwrap();
    forget(data.path()).unwrap();
    assert!(matches!(AgentIdentity::load(data.path()), Err(LoadIdentity::NotJoined { .. })));
    join(coordinator.request(data.path())).await.unwrap();
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_with_the_same_key() {
    let coordinator = Coordinator::start().await;
    let data = tempfile::tempdir().unwrap();
    coordinator.answer(Answers::LosesTheFirst);

    let error = join(coordinator.request(data.path())).await.unwrap_err();
    assert!(matches!(error, JoinError::Broken(_)), "{}", text(&error));
    assert!(error.to_string().contains("same token"), "{error}");
    assert_eq!(files_in(data.path()), ["pending-key.pem"]);

    join(coordinator.request(data.path())).await.unwrap();
    let seen = coordinator.seen.lock().unwrap();
    let keys: Vec<_> = seen
        .iter()
        .map(|request| {
            cutover_runtime::tls::csr::ProvenKey::parse(&request.csr_pem).unwrap().hash()
        })
        .collect();
    assert_eq!(keys[0], keys[1]);
}

#[tokio::test]
async fn a_token_that_is_not_taken_has_one_text() {
    let coordinator = Coordinator::start().await;
    let data = tempfile::tempdir().unwrap();
    let mut request = coordinator.request(data.path());
    request.token = "ctj_bad".to_owned();

    let error = join(request).await.unwrap_err();

    assert!(matches!(error, JoinError::Token));
    assert!(text(&error).contains("unknown, used, expired or for another agent"));
    assert!(!text(&error).contains("ctj_bad"));
    assert!(AgentIdentity::load(data.path()).is_err());
}

#[tokio::test]
async fn the_token_is_not_sent_to_a_coordinator_that_is_not_the_pinned_one() {
    let coordinator = Coordinator::start().await;
    let data = tempfile::tempdir().unwrap();
    let mut request = coordinator.request(data.path());
    request.ca_hash = Sha256::of(b"another");

    let error = join(request).await.unwrap_err();

    assert!(matches!(error, JoinError::Dial(DialError::TlsCaMismatch { .. })));
    assert!(text(&error).contains("somebody is in between"), "{}", text(&error));
    assert!(coordinator.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_coordinators_words_reach_the_operator_without_control_characters() {
    let coordinator = Coordinator::start().await;
    let data = tempfile::tempdir().unwrap();
    let skew = "CLOCK_SKEW: 9 minutes apart\u{1b}[2J";
    coordinator.answer(Answers::Refuses(Code::FailedPrecondition, skew));

    let error = join(coordinator.request(data.path())).await.unwrap_err();

    assert_eq!(text(&error), "the coordinator refused: CLOCK_SKEW: 9 minutes apart [2J");
}

#[tokio::test]
async fn an_answer_that_is_not_this_agents_is_not_stored() {
    let coordinator = Coordinator::start().await;
    for (answers, expected) in [
        (Answers::ForAnotherName, "another name"),
        (Answers::WithAnotherCa, "another CA"),
        (Answers::ForAnotherKey, "another key"),
        (Answers::LongAgo, "CLOCK_SKEW"),
    ] {
        let data = tempfile::tempdir().unwrap();
        coordinator.answer(answers);

        let error = join(coordinator.request(data.path())).await.unwrap_err();

        assert!(text(&error).contains(expected), "{answers:?}: {}", text(&error));
        assert_eq!(files_in(data.path()), ["pending-key.pem"]);
    }
}

#[tokio::test]
async fn an_unreachable_coordinator_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed: SocketAddr = listener.local_addr().unwrap();
    drop(listener);
    let coordinator = Coordinator::start().await;
    let data = tempfile::tempdir().unwrap();
    let mut request = coordinator.request(data.path());
    request.url = format!("https://{closed}");

    let error = join(request).await.unwrap_err();

    assert!(matches!(error, JoinError::Dial(DialError::Unreachable { .. })));
    assert!(text(&error).contains(&closed.to_string()));
}

#[tokio::test]
async fn a_certificate_is_renewed_at_half_of_its_life() {
    let (_coordinator, _data, identity) = joined().await;
    let validity = identity.validity().unwrap();
    let half = validity.not_before + validity.not_after.since(validity.not_before) / 2;

    assert!(!identity.needs_renewal(wall()).unwrap());
    assert_eq!(identity.renews_at().unwrap(), half);
    assert!(identity.needs_renewal(half).unwrap());
    assert!(identity.needs_renewal(wall() + 2 * DAY).unwrap());
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_next_and_the_open_connection_goes_on() {
    let (_coordinator, data, identity) = joined().await;
    let open = channel(&identity).await.unwrap();
    let before = fs::read_to_string(data.path().join("identity/agent.pem")).unwrap();

    let until = renew(&identity, open.clone()).await.unwrap();

    assert_eq!(until, identity.validity().unwrap().not_after);
    let after = fs::read_to_string(data.path().join("identity/agent.pem")).unwrap();
    assert_ne!(before, after);
    assert_eq!(files_in(data.path()), ["agent.pem", "ca.pem"]);
    // The open connection carries the next renewal; a new one is let in; so is a new process.
    renew(&identity, open).await.unwrap();
    channel(&identity).await.unwrap();
    channel(&AgentIdentity::load(data.path()).unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_refused_or_wrong_renewal_leaves_the_certificate_in_use() {
    let (coordinator, data, identity) = joined().await;
    let before = fs::read_to_string(data.path().join("identity/agent.pem")).unwrap();
    for answers in [
        Answers::Refuses(Code::PermissionDenied, "removed"),
        Answers::ForAnotherName,
        Answers::ForAnotherEnrolment,
        Answers::ForAnotherKey,
        Answers::LongAgo,
    ] {
        coordinator.answer(answers);
        let open = channel(&identity).await.unwrap();
        assert!(renew(&identity, open).await.is_err(), "{answers:?}");
    }

    let after = fs::read_to_string(data.path().join("identity/agent.pem")).unwrap();
    assert_eq!(before, after);
    channel(&identity).await.unwrap();
}

#[tokio::test]
async fn damaged_files_are_named_with_what_to_do() {
    let (_coordinator, data, _) = joined().await;
    let load = || AgentIdentity::load(data.path()).unwrap_err();
    let path = |name: &str| data.path().join(name);

    fs::set_permissions(path("identity/agent.pem"), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(text(&load()).contains("chmod 600"), "{}", text(&load()));
    fs::set_permissions(path("identity/agent.pem"), fs::Permissions::from_mode(0o600)).unwrap();

    let ca = fs::read_to_string(path("identity/ca.pem")).unwrap();
    fs::write(path("identity/ca.pem"), other_ca_pem()).unwrap();
    assert!(matches!(load(), LoadIdentity::OtherCa { .. }));
    fs::write(path("identity/ca.pem"), ca).unwrap();

    let record = fs::read_to_string(path("agent.json")).unwrap();
    fs::write(path("agent.json"), record.replace("web-1", "web-2")).unwrap();
    assert!(matches!(load(), LoadIdentity::Certificate(BadIssue::OtherName)));
    fs::write(path("agent.json"), "{").unwrap();
    assert!(matches!(load(), LoadIdentity::Record { .. }));
    fs::write(path("agent.json"), record).unwrap();

    AgentIdentity::load(data.path()).unwrap();
}
