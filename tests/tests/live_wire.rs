//! Peers that do not behave: another protocol, no hello, somebody else's release, the wrong role.

use std::{process::Command, time::Duration};

use cutover_agent::join::AgentIdentity;
use cutover_common::protocol::PROTOCOL;
use cutover_proto::v1::{
    self as pb, agent_link_client::AgentLinkClient, agent_message, coordinator_message,
    farewell::Reason, operator_client::OperatorClient,
};
use cutover_runtime::{dial, tls::ALPN_H2};
use cutover_tests::live::{Cluster, Sample, run};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, transport::Channel};

/// How long an answer may take on a busy machine.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// Lets an agent join that this test plays itself.
fn join(cluster: &Cluster, name: &str) -> AgentIdentity {
    let token = cluster.json(&["agents", "token", "--name", name, "--output", "json"]);
    let of = |key: &str| token[key].as_str().expect("a text").to_owned();
    let data = cluster.folder().join(name);
    run(Command::new(&cluster.programs().agent)
        .args(["join", &of("join_url"), "--token", &of("token")])
        .args(["--ca-hash", &of("ca_hash"), "--name", name, "--data"])
        .arg(&data))
    .done();
    AgentIdentity::load(&data).expect("it has just joined")
}

async fn connect(identity: &AgentIdentity) -> Channel {
    let config = identity.client_config().expect("the identity is good");
    dial::channel(&identity.url, config, ALPN_H2).await.expect("the coordinator is there")
}

fn hello(protocol: u32) -> agent_message::Kind {
    agent_message::Kind::Hello(pb::Hello {
        protocol,
        agent_version: "test".to_owned(),
        inventory: Some(pb::Inventory::default()),
        held: Vec::new(),
        boot_id: "test".to_owned(),
    })
}

/// Opens a session that begins with `first`, and returns the first answer.
async fn open(
    channel: Channel,
    first: agent_message::Kind,
) -> Result<Option<coordinator_message::Kind>, Code> {
    let (outgoing, messages) = mpsc::channel(4);
    outgoing.send(pb::AgentMessage { kind: Some(first) }).await.expect("there is room");
    let mut link = AgentLinkClient::new(channel);
    let opened = link.session(ReceiverStream::new(messages));
    let opened = tokio::time::timeout(ANSWER_WITHIN, opened).await.expect("an answer in time");
    let mut incoming = opened.map_err(|status| status.code())?.into_inner();
    let answer = tokio::time::timeout(ANSWER_WITHIN, incoming.message()).await;
    let answer = answer.expect("an answer in time").map_err(|status| status.code())?;
    Ok(answer.and_then(|message| message.kind))
}

#[tokio::test]
async fn an_agent_of_another_protocol_is_told_what_to_install() {
    let cluster = Cluster::start_coordinator();
    let identity = join(&cluster, "old");
    for protocol in [0, PROTOCOL + 1] {
        let answer = open(connect(&identity).await, hello(protocol)).await;
        let Ok(Some(coordinator_message::Kind::Farewell(farewell))) = answer else {
            panic!("a farewell was expected: {answer:?}");
        };
        assert_eq!(farewell.reason(), Reason::ProtocolMismatch);
        assert!(farewell.text.contains("install"), "{}", farewell.text);
    }
    let answer = open(connect(&identity).await, hello(PROTOCOL)).await;
    assert!(matches!(answer, Ok(Some(coordinator_message::Kind::Welcome(_)))), "{answer:?}");
}

#[tokio::test]
async fn a_session_without_a_hello_is_refused() {
    let cluster = Cluster::start_coordinator();
    let identity = join(&cluster, "rude");
    let report = agent_message::Kind::Report(pb::Report::default());

    let answer = open(connect(&identity).await, report).await;

    assert_eq!(answer.unwrap_err(), Code::InvalidArgument);
}

#[tokio::test]
async fn an_agent_cannot_fetch_what_is_not_assigned_to_it_nor_speak_as_an_operator() {
    let cluster = Cluster::start_coordinator();
    let dir = Sample::good("1").write(cluster.folder(), &cluster.programs().sample);
    cluster.push(&dir, "1");
    let identity = join(&cluster, "curious");
    // The true digest: what is refused is the agent, not a guess. Objects are named by it.
    let objects = cluster.coordinator_data().join("artifacts/objects/archives/sha256");
    let object = std::fs::read_dir(objects).unwrap().next().unwrap().unwrap();
    let digest = object.file_name().into_string().unwrap();
    assert_eq!(digest.len(), 64, "{digest}");

    let mut link = AgentLinkClient::new(connect(&identity).await);
    let request = pb::FetchReleaseRequest {
        application: "web".to_owned(),
        version: "1".to_owned(),
        archive_digest: digest,
        offset: 0,
    };
    let refused = link.fetch_release(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");

    // The agents' port serves no operator, whatever certificate is shown.
    let mut operator = OperatorClient::new(connect(&identity).await);
    let refused = operator.list_agents(pb::ListAgentsRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented, "{refused}");

    // The operators' port asks for a token, and a certificate is none.
    let operators = cluster.listening()["operators"].as_str().unwrap().to_owned();
    let config = identity.client_config().unwrap();
    let channel = dial::channel(&format!("https://{operators}"), config, ALPN_H2).await.unwrap();
    let refused =
        OperatorClient::new(channel).list_agents(pb::ListAgentsRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
}
