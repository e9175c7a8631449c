//! A coordinator without a mind: it sends the assignments it is told to, echoes heartbeats unless
//! told not to, and keeps what agents report.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use cutover_common::{
    Assignment, Config, Fence, Generation, InstanceVitals, Release, ReleaseRef, Report, Route,
    RunSpec, Slot, SlotGoal, SlotReport, Slots, StopSignal, Term, Timers,
    protocol::PROTOCOL,
    wire::{Secrets, Welcome},
};
use cutover_proto::v1::{
    self as pb,
    agent_link_server::{AgentLink, AgentLinkServer},
    agent_message::Kind as FromAgent,
    coordinator_message::Kind as ToAgent,
    enrollment_server::{Enrollment, EnrollmentServer},
};
use cutover_runtime::{
    archive::pack,
    clock::wall,
    tls::{
        Enrolments, SwapCert,
        accept::{self, AgentsPort, AgentsPortConfig, ServerStream},
        ca::CertificateAuthority,
        files,
        server::{agent_listener_config, join_config},
    },
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpListener,
    sync::mpsc,
    task::JoinSet,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Server, server::Connected},
};
use uuid::Uuid;

use super::host::LONG;

const ENROLMENT: Uuid = Uuid::from_u128(0xa);

#[derive(Clone)]
pub struct Coordinator {
    ca: Arc<CertificateAuthority>,
    config: AgentsPortConfig,
    port: u16,
    state: Arc<Mutex<State>>,
    _dir: Arc<TempDir>,
}

struct State {
    term: u64,
    echoes: bool,
    farewell: Option<pb::Farewell>,
    assignment: Option<Assignment>,
    sessions: Vec<mpsc::Sender<Result<pb::CoordinatorMessage, Status>>>,
    archives: BTreeMap<String, Vec<u8>>,
    hellos: usize,
    reports: Vec<Report>,
    /// What the newest heartbeat of the newest session told.
    vitals: Vec<InstanceVitals>,
    /// Everything that serves; dropped when the coordinator is away.
    serving: Option<JoinSet<()>>,
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
    pub async fn start() -> Self {
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
        let state = State {
            term: 1,
            echoes: true,
            farewell: None,
            assignment: None,
            sessions: Vec::new(),
            archives: BTreeMap::new(),
            hellos: 0,
            reports: Vec::new(),
            vitals: Vec::new(),
            serving: None,
        };
        let mut this = Self {
            ca: Arc::new(ca),
            config,
            port: 0,
            state: Arc::new(Mutex::new(state)),
            _dir: Arc::new(dir),
        };
        this.port = this.come_back().await;
        this
    }

    /// Serves, again on the same port, and returns it.
    pub async fn come_back(&self) -> u16 {
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        let deadline = Instant::now() + LONG;
        let listener = loop {
            match TcpListener::bind(address).await {
                Ok(listener) => break listener,
                Err(error) => assert!(Instant::now() < deadline, "port {}: {error}", self.port),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let port = listener.local_addr().unwrap().port();
        let serving = self.serve(listener);
        self.state.lock().unwrap().serving = Some(serving);
        port
    }

    /// Goes away at once, with every connection.
    pub fn go_away(&self) {
        let mut state = self.state.lock().unwrap();
        state.serving = None;
        state.sessions.clear();
    }

    fn serve(&self, listener: TcpListener) -> JoinSet<()> {
        let (joins, joins_incoming) = mpsc::channel::<std::io::Result<Stream>>(8);
        let (agents, agents_incoming) = mpsc::channel::<std::io::Result<Stream>>(8);
        let mut serving = JoinSet::new();
        let enrollment = EnrollmentServer::new(self.clone());
        let link = AgentLinkServer::new(self.clone());
        serving.spawn(async move {
            let incoming = ReceiverStream::new(joins_incoming);
            Server::builder().add_service(enrollment).serve_with_incoming(incoming).await.unwrap();
        });
        serving.spawn(async move {
            let incoming = ReceiverStream::new(agents_incoming);
            Server::builder().add_service(link).serve_with_incoming(incoming).await.unwrap();
        });
        let config = self.config.clone();
        serving.spawn(async move {
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
        serving
    }

    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    pub fn ca_hash(&self) -> String {
        cutover_runtime::tls::render_ca_hash(&self.ca.ca_hash())
    }

    /// Ends every connection and counts one start more.
    pub async fn restart(&self) {
        self.go_away();
        self.state.lock().unwrap().term += 1;
        self.come_back().await;
    }

    pub fn echo(&self, echoes: bool) {
        self.state.lock().unwrap().echoes = echoes;
    }

    /// Answers the next sessions with this farewell.
    pub fn send_away(&self, farewell: Option<pb::Farewell>) {
        self.state.lock().unwrap().farewell = farewell;
    }

    pub fn hellos(&self) -> usize {
        self.state.lock().unwrap().hellos
    }

    /// Packs a release of `web` from these executable files.
    pub fn release(&self, version: &str, files: &[(&str, &str)]) -> Release {
        use std::os::unix::fs::PermissionsExt as _;
        self.release_of(version, |folder| {
            for (name, text) in files {
                let path = folder.join(name);
                std::fs::write(&path, text).unwrap();
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            }
        })
    }

    /// Packs a release of `web` from a folder that is filled.
    pub fn release_of(&self, version: &str, fill: impl FnOnce(&Path)) -> Release {
        let folder = tempfile::tempdir().unwrap();
        fill(folder.path());
        std::fs::write(folder.path().join("VERSION"), version).unwrap();
        let mut archive = Vec::new();
        let packed = pack(folder.path(), &mut archive).unwrap();
        let digest = packed.archive_digest.to_string();
        self.state.lock().unwrap().archives.insert(digest, archive);
        Release {
            name: ReleaseRef {
                application: "web".parse().unwrap(),
                version: version.parse().unwrap(),
            },
            digest: packed.digest,
            size_bytes: packed.size_bytes,
            archive_digest: packed.archive_digest,
            archive_size_bytes: packed.archive_size_bytes,
            run: RunSpec {
                command: vec!["./server".to_owned()],
                env: BTreeMap::from([("DATA".to_owned(), "$DATA_DIR".to_owned())]),
                stop_signal: StopSignal::Term,
                stop_within: Duration::from_secs(10),
                shared: Vec::new(),
            },
            probe: None,
            hooks: Vec::new(),
            checks: Vec::new(),
            service: None,
            config: Config::default(),
        }
    }

    pub fn assign(&self, generation: u64, blue: SlotGoal, green: SlotGoal) {
        self.assign_led(generation, Slots { blue, green }, None);
    }

    pub fn assign_led(&self, generation: u64, slots: Slots<SlotGoal>, route: Option<Route>) {
        let mut state = self.state.lock().unwrap();
        let assignment = Assignment {
            application: "web".parse().unwrap(),
            fence: Fence { term: Term(state.term), generation: Generation(generation) },
            slots,
            timers: Timers {
                healthy_for: Duration::from_millis(300),
                healthy_within: Duration::from_secs(60),
            },
            rollout: "r1".to_owned(),
            peers: Vec::new(),
            route,
            once: Vec::new(),
        };
        state.assignment = Some(assignment.clone());
        for session in &state.sessions {
            session.try_send(Ok(to_agent(ToAgent::Assignment(assignment.clone().into())))).ok();
        }
    }

    pub fn send_secrets(&self, secrets: &Secrets) {
        for session in &self.state.lock().unwrap().sessions {
            session.try_send(Ok(to_agent(ToAgent::Secrets(secrets.clone().into())))).ok();
        }
    }

    /// Waits until a report came, since the last wait, that is as `wanted`.
    pub async fn until(&self, what: &str, wanted: impl Fn(&Report) -> bool) -> Report {
        let deadline = Instant::now() + LONG;
        let mut last = None;
        loop {
            let reports = std::mem::take(&mut self.state.lock().unwrap().reports);
            if let Some(report) = reports.iter().find(|report| wanted(report)) {
                return report.clone();
            }
            last = reports.last().cloned().or(last);
            assert!(Instant::now() < deadline, "{what}; the last report was {last:#?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until a heartbeat tells something of an instance that is as `wanted`.
    pub async fn until_vitals(
        &self,
        what: &str,
        wanted: impl Fn(&InstanceVitals) -> bool,
    ) -> InstanceVitals {
        let deadline = Instant::now() + LONG;
        loop {
            let vitals = self.state.lock().unwrap().vitals.clone();
            if let Some(vitals) = vitals.iter().find(|vitals| wanted(vitals)) {
                return vitals.clone();
            }
            assert!(Instant::now() < deadline, "{what}; the last heartbeat told {vitals:#?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until so many sessions have begun.
    pub async fn until_hellos(&self, wanted: usize) {
        let deadline = Instant::now() + LONG;
        while self.hellos() < wanted {
            assert!(Instant::now() < deadline, "{} sessions have begun", self.hellos());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub async fn until_slot(
        &self,
        what: &str,
        slot: Slot,
        wanted: impl Fn(&SlotReport) -> bool,
    ) -> SlotReport {
        let report = self.until(what, |report| wanted(report.slots.of(slot))).await;
        report.slots.of(slot).clone()
    }

    async fn converse(
        self,
        mut incoming: Streaming<pb::AgentMessage>,
        outgoing: mpsc::Sender<Result<pb::CoordinatorMessage, Status>>,
    ) {
        let Ok(Some(first)) = incoming.message().await else { return };
        let Some(FromAgent::Hello(hello)) = first.kind else { panic!("no hello: {first:?}") };
        assert_eq!(hello.protocol, PROTOCOL);
        let mut answers = Vec::new();
        let session;
        {
            let mut state = self.state.lock().unwrap();
            state.hellos += 1;
            session = state.hellos;
            state.vitals.clear();
            if let Some(farewell) = state.farewell.clone() {
                answers.push(ToAgent::Farewell(farewell));
            } else {
                let term = state.term;
                let welcome = Welcome {
                    protocol: PROTOCOL,
                    coordinator_version: "test".to_owned(),
                    incarnation: Uuid::from_u128(1),
                    term: Term(term),
                    boot_nonce: Uuid::from_u128(term.into()),
                    heartbeat_every: Duration::from_secs(5),
                };
                answers.push(ToAgent::Welcome(welcome.into()));
                answers.extend(state.assignment.clone().map(|a| ToAgent::Assignment(a.into())));
                state.sessions.push(outgoing.clone());
            }
        }
        for answer in answers {
            outgoing.send(Ok(to_agent(answer))).await.ok();
        }
        while let Ok(Some(message)) = incoming.message().await {
            if let Some(echo) = self.hear(session, message.kind.expect("a message has a kind")) {
                outgoing.send(Ok(to_agent(ToAgent::Echo(echo)))).await.ok();
            }
        }
    }

    fn hear(&self, session: usize, kind: FromAgent) -> Option<pb::HeartbeatEcho> {
        let mut state = self.state.lock().unwrap();
        match kind {
            FromAgent::Hello(_) => panic!("a second hello"),
            FromAgent::Report(report) => {
                state.reports.push(report.try_into().unwrap());
                None
            }
            FromAgent::Heartbeat(beat) => {
                assert!(beat.load.is_some());
                let vitals = beat.vitals.into_iter().map(|vitals| vitals.try_into().unwrap());
                // What an agent said that was killed may be read after the next one's hello.
                if session == state.hellos {
                    state.vitals = vitals.collect();
                }
                let reports = beat.reports.into_iter().map(|report| report.try_into().unwrap());
                state.reports.extend(reports);
                // An empty nonce keeps the session alive and permits nothing.
                let nonce = if state.echoes { beat.nonce } else { Uuid::nil().to_string() };
                Some(pb::HeartbeatEcho { nonce, compared: Vec::new() })
            }
        }
    }
}

fn to_agent(kind: ToAgent) -> pb::CoordinatorMessage {
    pb::CoordinatorMessage { kind: Some(kind) }
}

#[tonic::async_trait]
impl Enrollment for Coordinator {
    async fn join(
        &self,
        request: Request<pb::JoinRequest>,
    ) -> Result<Response<pb::JoinResponse>, Status> {
        let pb::JoinRequest { token, name, csr_pem, .. } = request.into_inner();
        if token != "ctj_good" {
            return Err(Status::unauthenticated("TOKEN_INVALID"));
        }
        let agent = name.parse().unwrap();
        let issued = self.ca.sign_agent(&csr_pem, &agent, ENROLMENT, wall()).unwrap();
        let (certificate_pem, ca_pem) = (issued.pem, self.ca.pem().to_owned());
        Ok(Response::new(pb::JoinResponse { certificate_pem, ca_pem, name }))
    }
}

#[tonic::async_trait]
impl AgentLink for Coordinator {
    type SessionStream = ReceiverStream<Result<pb::CoordinatorMessage, Status>>;
    type FetchReleaseStream = ReceiverStream<Result<pb::Chunk, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<pb::AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (outgoing, received) = mpsc::channel(64);
        tokio::spawn(self.clone().converse(request.into_inner(), outgoing));
        Ok(Response::new(ReceiverStream::new(received)))
    }

    async fn fetch_release(
        &self,
        request: Request<pb::FetchReleaseRequest>,
    ) -> Result<Response<Self::FetchReleaseStream>, Status> {
        let pb::FetchReleaseRequest { archive_digest, offset, .. } = request.into_inner();
        let archive = self.state.lock().unwrap().archives.get(&archive_digest).cloned();
        let archive = archive.ok_or_else(|| Status::not_found("no such archive"))?;
        let (outgoing, received) = mpsc::channel(64);
        tokio::spawn(async move {
            let offset = usize::try_from(offset).unwrap();
            for chunk in archive[offset..].chunks(1000) {
                outgoing.send(Ok(pb::Chunk { data: chunk.to_vec() })).await.ok();
            }
        });
        Ok(Response::new(ReceiverStream::new(received)))
    }

    async fn renew(
        &self,
        _: Request<pb::RenewRequest>,
    ) -> Result<Response<pb::RenewResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn send_log(
        &self,
        _: Request<Streaming<pb::LogPiece>>,
    ) -> Result<Response<pb::SendLogResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }
}
