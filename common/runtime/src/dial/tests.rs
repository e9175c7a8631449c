//! What dialing makes of every kind of server.

use std::{future::Future, net::IpAddr, time::Duration};

use cutover_common::{ErrorChain, Sha256};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
};

use super::*;
use crate::{
    clock::wall,
    tls::{
        ALPN_H2, ALPN_JOIN, SwapCert,
        accept::{self, AgentsPort, AgentsPortConfig, ServerStream},
        client::{pinned, trusted},
        fleet::{ENROLMENT, Fleet},
    },
};

/// An empty SETTINGS frame, with which every HTTP/2 server begins (RFC 9113 §3.4).
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Serves an agents' port whose accepted connections begin to speak HTTP/2; returns its port.
async fn coordinator(config: AgentsPortConfig) -> u16 {
    listening(move |tcp| {
        let config = config.clone();
        async move {
            let Ok(greeting) = accept::greet(tcp).await else { return };
            match greeting.into_agents_port(config).await {
                Ok(AgentsPort::Join(stream)) => speak(stream).await,
                Ok(AgentsPort::Agent(agent)) => speak(agent.stream).await,
                Err(_) => {}
            }
        }
    })
    .await
}

async fn speak(mut stream: ServerStream) {
    stream.write_all(&SETTINGS).await.unwrap();
    stream.flush().await.unwrap();
    drop(stream.read_to_end(&mut Vec::new()).await);
}

async fn listening<F, T>(each: F) -> u16
where
    F: Fn(TcpStream) -> T + Send + 'static,
    T: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            tokio::spawn(each(tcp));
        }
    });
    port
}

fn url(port: u16) -> String {
    format!("https://127.0.0.1:{port}")
}

fn text(error: &DialError) -> String {
    ErrorChain(error).to_string()
}

/// Dials a server that shows `shown`, pinning the fleet's CA, and returns how that failed.
async fn failure(fleet: &Fleet, shown: Arc<SwapCert>) -> DialError {
    let port = coordinator(fleet.agents_port_of(shown)).await;
    channel(&url(port), pinned(fleet.ca.ca_hash()).unwrap(), ALPN_JOIN).await.unwrap_err()
}

#[tokio::test]
async fn the_pinned_coordinator_is_dialed_by_address_and_by_name() {
    let fleet = Fleet::new();
    let port = coordinator(fleet.agents_port()).await;

    for host in ["127.0.0.1", "localhost"] {
        let config = pinned(fleet.ca.ca_hash()).unwrap();
        channel(&format!("https://{host}:{port}/"), config, ALPN_JOIN).await.unwrap();
    }
    let config = trusted(fleet.ca.pem()).unwrap();
    channel(&url(port), config, ALPN_JOIN).await.unwrap();
}

#[tokio::test]
async fn another_authority_than_the_pinned_one_is_named_with_both_hashes() {
    let fleet = Fleet::new();
    let port = coordinator(fleet.agents_port()).await;
    let expected = Sha256::of(b"what the operator typed");

    let error = channel(&url(port), pinned(expected).unwrap(), ALPN_JOIN).await.unwrap_err();

    let DialError::TlsCaMismatch { source, .. } = &error else { panic!("{}", text(&error)) };
    assert_eq!(*source, CaMismatch { presented: fleet.ca.ca_hash(), expected });
    let hash = fleet.ca.ca_hash();
    assert!(text(&error).contains(&format!("sha256:{hash}, not sha256:{expected}")));
}

#[tokio::test]
async fn showing_the_pinned_authority_is_not_being_signed_by_it() {
    let (fleet, impostor) = (Fleet::new(), Fleet::new());
    let foreign = impostor.ca.issue_server(&["127.0.0.1".to_owned()], ENROLMENT, wall()).unwrap();
    // The impostor's own leaf, with the true CA's certificate (which is public) behind it.
    let shown = fleet.shown(&foreign.certificate_pem, &foreign.key_pem);

    let error = failure(&fleet, shown).await;

    assert!(matches!(error, DialError::Certificate { .. }), "{}", text(&error));
    assert!(text(&error).contains("another CA"), "{}", text(&error));
}

#[tokio::test]
async fn a_coordinator_of_another_name_is_refused() {
    let fleet = Fleet::new();

    let error = failure(&fleet, fleet.server_for(&["elsewhere.example.com"], wall())).await;

    assert!(matches!(error, DialError::Certificate { .. }), "{}", text(&error));
    assert!(text(&error).contains("elsewhere.example.com"), "{}", text(&error));
}

#[tokio::test]
async fn a_clock_that_differs_is_named_with_both_times() {
    let fleet = Fleet::new();
    let names = ["127.0.0.1"];
    let year = &utc(wall())[..4];

    let early = failure(&fleet, fleet.server_for(&names, wall() + 400 * DAY)).await;
    assert!(text(&early).contains("begins at"), "{}", text(&early));
    assert!(text(&early).contains("CLOCK_SKEW"), "{}", text(&early));
    assert!(text(&early).contains(&format!("clock says {year}")), "{}", text(&early));

    let past = cutover_common::Timestamp::from_unix_ms(946_684_800_000);
    let late = failure(&fleet, fleet.server_for(&names, past)).await;
    assert!(text(&late).contains("ended at 2000-01-31"), "{}", text(&late));
    assert!(text(&late).contains(&format!("clock says {year}")), "{}", text(&late));
}

#[tokio::test]
async fn an_agent_that_poses_as_the_coordinator_is_refused() {
    let fleet = Fleet::new();

    let error = failure(&fleet, fleet.agent_cert("web-1", ENROLMENT, wall())).await;

    // Without the CA behind it the pin already fails; a known CA looks at the leaf.
    assert!(matches!(error, DialError::TlsCaMismatch { .. }), "{}", text(&error));
    let posing = fleet.agents_port_of(fleet.agent_cert("web-1", ENROLMENT, wall()));
    let port = coordinator(posing).await;
    let error = channel(&url(port), fleet.anonymous(), ALPN_JOIN).await.unwrap_err();
    assert!(matches!(error, DialError::Certificate { .. }), "{}", text(&error));
}

#[tokio::test]
async fn an_agent_learns_at_once_why_it_is_not_served() {
    let fleet = Fleet::new();
    let port = coordinator(fleet.agents_port()).await;
    let web_1 = fleet.web_1();
    channel(&url(port), web_1.clone(), ALPN_H2).await.unwrap();

    fleet.enrolments.remove("web-1");
    let stranger = Fleet::new().agent_cert("web-1", ENROLMENT, wall());
    let old = cutover_common::Timestamp::from_unix_ms(946_684_800_000);
    let expired = fleet.agent_cert("web-1", ENROLMENT, old);
    for (config, expected) in [
        (web_1, Refusal::Revoked),
        (fleet.client(expired), Refusal::Expired),
        (fleet.client(stranger), Refusal::ForeignCa),
        (fleet.anonymous(), Refusal::NoCertificate),
    ] {
        let error = channel(&url(port), config, ALPN_H2).await.unwrap_err();
        let DialError::Refused { because, .. } = error else { panic!("{}", text(&error)) };
        assert_eq!(because, expected);
    }
}

#[tokio::test]
async fn what_is_no_coordinator_at_all_is_named_as_that() {
    let config = || pinned(Sha256::of(b"")).unwrap();

    let closed = listening(|_| async {}).await;
    let error = channel(&url(closed), config(), ALPN_JOIN).await.unwrap_err();
    assert!(
        matches!(error, DialError::Refused { .. } | DialError::Unreachable { .. }),
        "{}",
        text(&error)
    );

    let web = listening(|mut tcp| async move {
        drop(tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await);
    })
    .await;
    let error = channel(&url(web), config(), ALPN_JOIN).await.unwrap_err();
    assert!(matches!(error, DialError::Certificate { .. }), "{}", text(&error));
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);

    let config = pinned(Sha256::of(b"")).unwrap();
    let error = channel(&url(port), config, ALPN_JOIN).await.unwrap_err();

    assert!(matches!(error, DialError::Unreachable { .. }), "{}", text(&error));
    assert!(text(&error).contains(&format!("127.0.0.1:{port}")), "{}", text(&error));
}

#[tokio::test]
async fn a_server_that_is_silent_is_given_up_after_five_seconds() {
    let silent = listening(|mut tcp| async move {
        drop(tcp.read_to_end(&mut Vec::new()).await);
    })
    .await;
    let begun = Instant::now();

    let config = pinned(Sha256::of(b"")).unwrap();
    let error = channel(&url(silent), config, ALPN_JOIN).await.unwrap_err();

    assert!(matches!(error, DialError::TooSlow { .. }), "{}", text(&error));
    assert!(begun.elapsed() >= CONNECT_MAX && begun.elapsed() < CONNECT_MAX * 3);
}

#[tokio::test]
async fn an_address_that_swallows_packets_does_not_keep_from_the_next() {
    // promises.md §3 row 45: the name now leads nowhere, and the address that worked is known.
    let fleet = Fleet::new();
    let good = coordinator(fleet.agents_port()).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = socket.listen(1).unwrap();
    let swallowing = full.local_addr().unwrap();
    let mut waiting = Vec::new();
    // Connections that nobody accepts, until the kernel drops the next one's packets.
    while let Ok(connected) =
        timeout(Duration::from_millis(300), TcpStream::connect(swallowing)).await
    {
        waiting.push(connected.unwrap());
    }
    remember(&swallowing.to_string(), SocketAddr::new(swallowing.ip(), good));

    let config = pinned(fleet.ca.ca_hash()).unwrap();
    channel(&url(swallowing.port()), config, ALPN_JOIN).await.unwrap();
}

#[tokio::test]
async fn a_name_that_cannot_be_looked_up_is_named() {
    // RFC 6761 §6.4: "invalid." never resolves.
    let config = pinned(Sha256::of(b"")).unwrap();
    let error = channel("https://nowhere.invalid:7440", config, ALPN_JOIN).await.unwrap_err();

    assert!(
        matches!(&error, DialError::Resolve { host, .. } if host == "nowhere.invalid")
            || matches!(error, DialError::TooSlow { .. }),
        "{}",
        text(&error)
    );
}

#[tokio::test]
async fn an_agent_can_dial_from_an_address_of_its_own() {
    let (tell, told) = tokio::sync::oneshot::channel();
    let tell = Mutex::new(Some(tell));
    let port = listening(move |tcp| {
        if let Some(tell) = tell.lock().unwrap().take() {
            tell.send(tcp.peer_addr().unwrap().ip()).unwrap();
        }
        async {}
    })
    .await;

    let local: IpAddr = "127.0.0.11".parse().unwrap();
    let config = pinned(Sha256::of(b"")).unwrap();
    assert!(channel_over(Tcp { local: Some(local) }, &url(port), config, ALPN_JOIN).await.is_err());

    assert_eq!(told.await.unwrap(), local);
}

#[test]
fn only_https_with_a_host_and_a_port_is_an_address() {
    for good in ["https://a:1", "https://a.b:7440/", "https://[::1]:7440", "https://10.0.0.1:9"] {
        assert!(parse_url(good).is_ok(), "{good}");
    }
    for bad in [
        "",
        "a",
        "a:7440",
        "http://a:7440",
        "https://a",
        "https://:7440",
        "https://a:0",
        "https://a:70000",
        "https://a:7440/x",
        "https://a:7440?x",
        "https://user@a:7440",
        "https://user:password@a:7440",
        "https://a b:7440",
        "ftp://a:7440",
        "https://-:7440",
    ] {
        let error = parse_url(bad).unwrap_err();
        assert!(matches!(error, DialError::NotHttps { .. }), "{bad}");
        assert!(error.to_string().contains("write https://HOST:PORT"), "{error}");
        assert!(!error.to_string().contains("password"), "{error}");
    }
}

#[test]
fn the_host_of_an_address_is_what_the_certificate_must_name() {
    assert_eq!(host_and_port("https://[::1]:7440").unwrap(), ("::1".to_owned(), 7440));
    assert_eq!(host_and_port("https://a.example:1/").unwrap(), ("a.example".to_owned(), 1));
}

#[test]
fn the_address_that_worked_last_is_remembered_for_a_few_hosts() {
    let addr: SocketAddr = "10.0.0.1:7440".parse().unwrap();
    for n in 0..2 * REMEMBERED_MAX {
        remember(&format!("host-{n}:7440"), addr);
    }

    assert_eq!(remembered("host-0:7440"), Some(addr));
    assert_eq!(remembered(&format!("host-{}:7440", 2 * REMEMBERED_MAX - 1)), None);
}
