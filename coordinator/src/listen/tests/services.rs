//! Services on the ports: each is served on its own stream of connections, and a removed agent's
//! calls end with its connection.

use cutover_proto::v1::{
    self as pb,
    agent_link_client::AgentLinkClient,
    agent_link_server::{AgentLink, AgentLinkServer},
    enrollment_client::EnrollmentClient,
    enrollment_server::{Enrollment, EnrollmentServer},
};
use cutover_runtime::dial;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming, transport::Channel};

use super::*;

/// One session, from this side.
type Outgoing = mpsc::Sender<Result<pb::CoordinatorMessage, Status>>;

/// Answers a join with the certificate's name, and keeps sessions open.
#[derive(Clone, Default)]
struct Services {
    sessions: Arc<std::sync::Mutex<Vec<Outgoing>>>,
}

fn name_of<T>(request: &Request<T>) -> String {
    let peer = request.extensions().get::<Peer>().expect("each call knows its peer");
    peer.identity.as_ref().map_or_else(|| "nobody".to_owned(), |identity| identity.name.clone())
}

#[tonic::async_trait]
impl Enrollment for Services {
    async fn join(
        &self,
        request: Request<pb::JoinRequest>,
    ) -> Result<Response<pb::JoinResponse>, Status> {
        let name = name_of(&request);
        Ok(Response::new(pb::JoinResponse { name, ..pb::JoinResponse::default() }))
    }
}

#[tonic::async_trait]
impl AgentLink for Services {
    type SessionStream = ReceiverStream<Result<pb::CoordinatorMessage, Status>>;
    type FetchReleaseStream = tokio_stream::Empty<Result<pb::Chunk, Status>>;

    async fn session(
        &self,
        _: Request<Streaming<pb::AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (open, stream) = mpsc::channel(1);
        open.try_send(Ok(pb::CoordinatorMessage::default())).expect("the channel is empty");
        self.sessions.lock().expect("no test panics in here").push(open);
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn fetch_release(
        &self,
        _: Request<pb::FetchReleaseRequest>,
    ) -> Result<Response<Self::FetchReleaseStream>, Status> {
        Ok(Response::new(tokio_stream::empty()))
    }

    async fn renew(
        &self,
        request: Request<pb::RenewRequest>,
    ) -> Result<Response<pb::RenewResponse>, Status> {
        Ok(Response::new(pb::RenewResponse { certificate_pem: name_of(&request) }))
    }

    /// Reads nothing of it, as when nobody reads on.
    async fn send_log(
        &self,
        request: Request<Streaming<pb::LogPiece>>,
    ) -> Result<Response<pb::SendLogResponse>, Status> {
        let _unread = request.into_inner();
        std::future::pending().await
    }
}

/// Serves both services as the coordinator does; returns how to reach them as whom.
async fn served() -> (Admission, Channel, Channel) {
    let house = House::new().await;
    let url = format!("https://{}", house.port);
    let (web_1, nobody) = (house.web_1(), house.nobody());
    let services = Services::default();
    let House { agents, admission, .. } = house;
    tokio::spawn(
        bounded_server()
            .add_service(EnrollmentServer::new(services.clone()))
            .serve_with_incoming(agents.joins),
    );
    tokio::spawn(
        bounded_server()
            .add_service(AgentLinkServer::new(services))
            .serve_with_incoming(agents.agents),
    );
    let agent = dial::channel(&url, web_1, ALPN_H2).await.unwrap();
    let joining = dial::channel(&url, nobody, ALPN_JOIN).await.unwrap();
    (admission, agent, joining)
}

#[tokio::test]
async fn each_service_is_reached_by_its_own_kind_of_connection_only() {
    let (_, agent, joining) = served().await;
    let join = pb::JoinRequest::default;
    let renew = pb::RenewRequest::default;

    let joined = EnrollmentClient::new(joining.clone()).join(join()).await.unwrap();
    assert_eq!(joined.into_inner().name, "nobody");
    let renewed = AgentLinkClient::new(agent.clone()).renew(renew()).await.unwrap();
    assert_eq!(renewed.into_inner().certificate_pem, "web-1");

    let refused = EnrollmentClient::new(agent).join(join()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    let refused = AgentLinkClient::new(joining).renew(renew()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
}

#[tokio::test]
async fn logs_that_nobody_reads_on_keep_no_other_call_from_coming() {
    let (_, agent, _) = served().await;
    let link = AgentLinkClient::new(agent);
    let mut logs = tokio::task::JoinSet::new();
    let (begun, mut full) = mpsc::channel::<()>(1);
    for _ in 0..16 {
        let (mut link, begun) = (link.clone(), begun.clone());
        let piece = pb::LogPiece { data: vec![b'x'; 64 * 1024], ..pb::LogPiece::default() };
        // As many as fit; then the sender waits, and says so.
        let pieces = futures::stream::iter(0..64).map(move |number| {
            if number == 3 {
                begun.try_send(()).unwrap_or_default();
            }
            piece.clone()
        });
        logs.spawn(async move { link.send_log(pieces).await });
    }
    timeout(LONG, full.recv()).await.expect("logs are sent");

    let mut link = link.clone();
    let renew = pb::RenewRequest { csr_pem: "x".repeat(1024) };
    for _ in 0..20 {
        let renewed = timeout(LONG, link.renew(renew.clone())).await.expect("it is not kept");
        assert_eq!(renewed.unwrap().into_inner().certificate_pem, "web-1");
    }
}

#[tokio::test]
async fn removing_an_agent_ends_its_open_session() {
    let (admission, agent, _) = served().await;
    let mut link = AgentLinkClient::new(agent);
    let mut session = link.session(tokio_stream::pending()).await.unwrap().into_inner();
    assert!(session.message().await.unwrap().is_some(), "the session is open");

    let enrolment = admission.enrolments.remove("web-1").unwrap();
    let begun = Instant::now();
    assert_eq!(admission.live.kill("web-1", enrolment), 1);

    let ended = timeout(LONG, session.message()).await.expect("the session ends");
    assert!(ended.is_err(), "{ended:?}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    // The channel dials anew by itself, and is refused.
    let refused = link.renew(pb::RenewRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    assert!(format!("{refused:?}").contains("Revoked"), "{refused:?}");
}
