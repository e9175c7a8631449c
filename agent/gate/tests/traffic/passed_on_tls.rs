//! A host that is out, whose service has a certificate: what it passes on goes encrypted to those that
//! show that they serve the same, and to nobody else.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use cutover_runtime::tls::files::{read_certificates, read_key};
use http::{Request, StatusCode};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring::{default_provider, sign::any_supported_type},
        pki_types::CertificateDer,
        sign::{CertifiedKey, SingleCertAndKey},
        version::{TLS12, TLS13},
    },
};

use crate::{
    edge::of_kind,
    encrypted::{Files, client, connect},
    instance::Instance,
    lasting::{echo, upgrade_on},
    support::{Bench, speak, upstream, wait_until},
};

const NAME: &str = "shop.example";

/// An authority that operators have their certificates from.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn named(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn trusted(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    /// Puts a certificate for `name` there, with a key of its own.
    fn issue(&self, files: &Files, name: &str) {
        self.issue_as(files, CertificateParams::new(vec![name.to_owned()]).unwrap());
    }

    fn issue_as(&self, files: &Files, params: CertificateParams) {
        let key = KeyPair::generate().unwrap();
        let own = params.signed_by(&key, &self.0).unwrap();
        files.put(&format!("{}{}", own.pem(), self.0.pem()), &key);
    }
}

/// A host whose service has the certificate in `files`.
fn host(files: &Files) -> Bench {
    let mut host = Bench::unprogrammed();
    files.show(&mut host);
    host
}

fn serving(files: &Files, blue: &Instance) -> Bench {
    let mut serving = host(files);
    serving.route(&[("blue", blue, 1_000)]);
    serving
}

fn out(files: &Files, peers: &[SocketAddr]) -> Bench {
    let mut out = host(files);
    lead(&mut out, peers);
    out
}

fn lead(out: &mut Bench, peers: &[SocketAddr]) {
    let names: Vec<String> = (0..peers.len()).map(|number| format!("peer-{number}")).collect();
    let peers: Vec<(&str, SocketAddr)> =
        names.iter().map(String::as_str).zip(peers.iter().copied()).collect();
    out.service["route"]["upstreams"] = of_kind("gate", &peers);
    out.apply();
}

#[tokio::test]
async fn requests_go_encrypted_to_a_host_that_has_the_same_key() {
    let (blue, files) = (Instance::start("blue").await, Files::new());
    let certificate = files.renew(1);
    let serving = serving(&files, &blue);
    let out = out(&files, &[serving.address]);
    let mut client = client(&out, &certificate).await;

    for _ in 0..3 {
        assert_eq!(client.get("/").await, (StatusCode::OK, "blue".to_owned()));
        let posted = client.post("/echo", Bytes::from_static(b"once and whole")).await;
        assert_eq!(posted, (StatusCode::OK, "once and whole".to_owned()));
    }
    let (_, headers) = client.get("/headers").await;
    assert!(headers.contains(r#""x-forwarded-proto": "https""#), "{headers}");
    assert!(!headers.contains("cutover-gate"), "{headers}");
    assert_eq!(out.trouble(), (true, String::new()));
    // After a pause there is another, and the end of the first may be noticed later.
    wait_until("one connection for all of them", || serving.gate.connections() == 1).await;
}

#[tokio::test]
async fn a_host_with_another_key_of_the_same_issuer_and_name_takes_them_too() {
    let blue = Instance::start("blue").await;
    let (authority, here, there) = (Authority::named("one"), Files::new(), Files::new());
    authority.issue(&here, NAME);
    authority.issue(&there, NAME);
    let serving = serving(&there, &blue);
    let out = out(&here, &[serving.address]);

    for version in [&TLS12, &TLS13] {
        let stream = connect(&out, &authority.trusted(), &[version], &[b"http/1.1"]).await;
        let mut upgraded = upgrade_on(stream, "echo").await;
        echo(&mut upgraded).await;
    }
    let mut client = client(&out, &authority.trusted()).await;
    assert_eq!(client.get("/").await.1, "blue");
    serving.wait_for("blue", |it| it.long_lived == 0 && it.requests_in_flight == 0).await;
}

/// Answers one request over TLS 1.2 alone, with the certificate in `shown` and the key in `signs`.
/// Returns where.
async fn old_peer(shown: &Files, signs: &Files) -> SocketAddr {
    let chain = read_certificates(&shown.certificate()).unwrap();
    let key = any_supported_type(&read_key(&signs.key()).unwrap()).unwrap();
    let shown = SingleCertAndKey::from(CertifiedKey::new(chain, key));
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(shown));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let Ok(mut stream) = TlsAcceptor::from(Arc::new(config)).accept(stream).await else {
            return;
        };
        stream.read_exact(&mut [0; 4]).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nold").await.unwrap();
    });
    address
}

#[tokio::test]
async fn over_tls_1_2_a_peer_has_to_have_its_key_as_well() {
    let (files, other) = (Files::new(), Files::new());
    let certificate = files.renew(1);
    other.renew(2);

    let peer = out(&files, &[old_peer(&files, &files).await]);
    assert_eq!(client(&peer, &certificate).await.get("/").await.1, "old");
    let thief = out(&files, &[old_peer(&files, &other).await]);
    assert_eq!(client(&thief, &certificate).await.get("/").await.0, StatusCode::BAD_GATEWAY);
    let (_, trouble) = thief.trouble();
    assert!(trouble.contains("BadSignature"), "{trouble}");
}

/// Demands that a host says why it passes nothing on, and that the other one's instance hears nothing,
/// until `mend` has mended it.
async fn refused_until(
    (out, blue): (&Bench, &Instance),
    trusted: &CertificateDer<'static>,
    why: &str,
    mend: impl FnOnce(),
) {
    let got = blue.got();
    let mut client = client(out, trusted).await;
    for _ in 0..2 {
        let (status, text) = client.get("/").await;
        assert_eq!(status, StatusCode::BAD_GATEWAY, "{why}: {text}");
    }
    let (is_served, trouble) = out.trouble();
    assert!(is_served && trouble.contains(why), "{why} is not in: {trouble}");
    assert!(trouble.contains("nothing can be passed on to 127.0.0.1:"), "{trouble}");
    assert_eq!(blue.got(), got, "{why}");

    mend();
    assert_eq!(client.get("/").await, (StatusCode::OK, "blue".to_owned()), "{why}");
    assert_eq!(out.trouble(), (true, String::new()), "{why}");
}

#[tokio::test]
async fn a_stranger_gets_nothing_and_the_host_says_what_to_do_until_it_is_none() {
    let blue = Instance::start("blue").await;
    let (one, two) = (Authority::named("one"), Authority::named("two"));
    let mut ended = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
    ended.not_before = date_time_ymd(2000, 1, 1);
    ended.not_after = date_time_ymd(2001, 1, 1);
    type Put<'a> = &'a dyn Fn(&Files);
    let strange: [(Put<'_>, &str); 4] = [
        (&|files| two.issue(files, NAME), "UnknownIssuer"),
        (&|files| one.issue(files, "another.example"), "not one for shop.example by an issuer"),
        (
            &|files| one.issue_as(files, ended.clone()),
            "its certificate ended at 2001-01-01T00:00:00Z",
        ),
        (&|files| drop(files.renew(1)), "put the same certificate and key on both hosts"),
    ];
    for (put, why) in strange {
        let (here, there) = (Files::new(), Files::new());
        one.issue(&here, NAME);
        put(&there);
        let serving = serving(&there, &blue);
        let out = out(&here, &[serving.address]);
        refused_until((&out, &blue), &one.trusted(), why, || one.issue(&there, NAME)).await;
    }

    // Both alone: the same key or nothing.
    let (here, there) = (Files::new(), Files::new());
    let certificate = here.renew(1);
    there.renew(2);
    let serving = serving(&there, &blue);
    let out = out(&here, &[serving.address]);
    let copied = || there.put_as(&here);
    refused_until((&out, &blue), &certificate, "names no issuer", copied).await;
}

#[tokio::test]
async fn a_renewed_certificate_of_the_own_host_is_the_one_that_counts() {
    let (blue, here, there) = (Instance::start("blue").await, Files::new(), Files::new());
    let old = here.renew(1);
    there.put_as(&here);
    let serving = serving(&there, &blue);
    let out = out(&here, &[serving.address]);
    // Before anything was passed on: what has connected already stays.
    let new = here.renew(2);

    let mut asks = client(&out, &new).await;
    assert_eq!(asks.get("/").await.0, StatusCode::BAD_GATEWAY);
    there.put_as(&here);
    assert_eq!(asks.get("/").await, (StatusCode::OK, "blue".to_owned()));
    assert_ne!(old, new);
}

#[tokio::test]
async fn nothing_goes_in_the_clear_where_the_service_has_a_certificate() {
    let (blue, files) = (Instance::start("blue").await, Files::new());
    let certificate = files.renew(1);
    let mut serving = Bench::start(&[("blue", &blue, 1_000)]);
    let mut out = Bench::unprogrammed();
    lead(&mut out, &[serving.address]);
    // A connection in the clear waits there for the next request.
    assert_eq!(out.get("/").await.1, "blue");

    files.show(&mut out);
    out.apply();
    let mut asks = client(&out, &certificate).await;
    assert_eq!(asks.get("/").await.0, StatusCode::BAD_GATEWAY);
    assert_eq!(blue.got(), 1);
    let (_, trouble) = out.trouble();
    assert!(trouble.contains("look at what that host serves there"), "{trouble}");

    files.show(&mut serving);
    serving.apply();
    assert_eq!(asks.get("/").await.1, "blue");
}

#[tokio::test]
async fn a_stranger_among_the_peers_costs_no_request_whatever_it_is() {
    let (blue, red) = (Instance::start("blue").await, Instance::start("red").await);
    let (files, strange) = (Files::new(), Files::new());
    let certificate = files.renew(1);
    strange.renew(2);
    let (stranger, serving) = (serving(&strange, &red), serving(&files, &blue));
    let out = out(&files, &[stranger.address, serving.address]);

    for _ in 0..20 {
        let mut client = client(&out, &certificate).await;
        assert_eq!(client.get("/").await, (StatusCode::OK, "blue".to_owned()));
        let posted = client.send(Request::post("/echo"), Bytes::from_static(b"whole")).await;
        assert_eq!(posted, (StatusCode::OK, "whole".to_owned()));
    }

    assert_eq!((red.got(), blue.got()), (0, 40));
    let refused = out.upstream("peer-0").unwrap().counts;
    assert!(refused.connect_errors > 0 && refused.connect_errors == refused.retries, "{refused:?}");
}

#[tokio::test]
async fn what_was_passed_on_goes_no_further_and_nothing_circles() {
    let (blue, files) = (Instance::start("blue").await, Files::new());
    let certificate = files.renew(1);
    let mut second = serving(&files, &blue);
    let first = out(&files, &[second.address]);
    lead(&mut second, &[first.address]);

    let (status, _) = client(&first, &certificate).await.get("/").await;

    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(blue.got(), 0);
}

#[tokio::test]
async fn plain_tcp_goes_on_encrypted() {
    let (blue, files, strange) = (Instance::start("blue").await, Files::new(), Files::new());
    let certificate = files.renew(1);
    strange.renew(2);
    let [mut serving, mut stranger, mut out] = ["127.8.0.1", "127.8.0.2", "127.8.0.3"].map(|ip| {
        let mut host = Bench::unprogrammed_at(ip);
        host.service["protocol"] = json!("tcp");
        host
    });
    files.show(&mut serving);
    strange.show(&mut stranger);
    files.show(&mut out);
    serving.route(&[("blue", &blue, 1_000)]);
    stranger.route(&[("blue", &blue, 1_000)]);
    lead(&mut out, &[stranger.address, serving.address]);

    for _ in 0..10 {
        let mut client = client(&out, &certificate).await;
        assert_eq!(client.get("/").await.1, "blue");
    }
    assert_eq!(stranger.upstream("blue").unwrap().counts.requests, 0);
    let stream = connect(&out, &certificate, &[&TLS13], &[]).await;
    let mut upgraded = upgrade_on(stream, "echo").await;
    echo(&mut upgraded).await;
}

#[tokio::test]
async fn a_peer_ends_a_tcp_connection_as_its_instance_does() {
    let files = Files::new();
    let certificate = files.renew(1);
    let says = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let says_at = says.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = says.accept().await.unwrap();
        let mut heard = String::new();
        stream.read_to_string(&mut heard).await.unwrap();
        stream.write_all(format!("heard {heard}").as_bytes()).await.unwrap();
    });
    let [mut serving, mut out] = ["127.8.1.1", "127.8.1.2"].map(|ip| {
        let mut host = Bench::unprogrammed_at(ip);
        host.service["protocol"] = json!("tcp");
        files.show(&mut host);
        host
    });
    serving.service["route"]["upstreams"] = json!([upstream("blue", says_at, 1_000)]);
    serving.apply();
    lead(&mut out, &[serving.address]);

    let mut stream = connect(&out, &certificate, &[&TLS13], &[]).await;
    stream.write_all(b"all of it").await.unwrap();
    // Half of the connection ends, and the other half goes on.
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();

    assert_eq!(answer, "heard all of it");
    serving.wait_for("blue", |it| it.long_lived == 0 && it.counts.resets == 0).await;
    out.wait_for("peer-0", |it| it.long_lived == 0 && it.counts.resets == 0).await;
}

#[tokio::test]
async fn a_client_that_speaks_in_the_clear_is_not_passed_on() {
    let (blue, files) = (Instance::start("blue").await, Files::new());
    files.renew(1);
    let serving = serving(&files, &blue);
    let out = out(&files, &[serving.address]);

    let said = speak(out.address, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;

    assert!(!said.contains("blue"), "{said}");
    assert_eq!(blue.got(), 0);
}
