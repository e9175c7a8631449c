//! TLS to the client, with certificates from files that change.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::{Request, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, KeyPair, SerialNumber};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, ProtocolVersion, RootCertStore, SupportedProtocolVersion,
        crypto::ring::default_provider,
        pki_types::CertificateDer,
        version::{TLS12, TLS13},
    },
};

use crate::{
    instance::Instance,
    support::{Bench, Client, PATIENCE},
};

/// A certificate in files, as an operator puts it there.
pub(crate) struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn certificate(&self) -> PathBuf {
        self.dir.path().join("certificate.pem")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.dir.path().join("key.pem")
    }

    /// Puts another certificate there, and returns it.
    pub(crate) fn renew(&self, serial: u64) -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["shop.example".to_owned()]).unwrap();
        params.serial_number = Some(SerialNumber::from(serial));
        let certificate = params.self_signed(&key).unwrap();
        self.put(&certificate.pem(), &key);
        certificate.der().clone()
    }

    /// Puts these there.
    pub(crate) fn put(&self, chain: &str, key: &KeyPair) {
        put(&self.key(), &key.serialize_pem(), 0o600);
        put(&self.certificate(), chain, 0o644);
    }

    /// Puts there what is in others.
    pub(crate) fn put_as(&self, others: &Self) {
        put(&self.key(), &fs::read_to_string(others.key()).unwrap(), 0o600);
        put(&self.certificate(), &fs::read_to_string(others.certificate()).unwrap(), 0o644);
    }

    /// Has a service show them.
    pub(crate) fn show(&self, bench: &mut Bench) {
        bench.service["tls"] = json!({ "certificate": self.certificate(), "key": self.key() });
    }
}

/// In the way that tools renew certificates: written beside, then renamed.
fn put(path: &Path, text: &str, mode: u32) {
    let beside = path.with_extension("new");
    fs::write(&beside, text).unwrap();
    fs::set_permissions(&beside, fs::Permissions::from_mode(mode)).unwrap();
    fs::rename(&beside, path).unwrap();
}

pub(crate) fn bench(blue: &Instance, files: &Files) -> Bench {
    let mut bench = Bench::unprogrammed();
    files.show(&mut bench);
    bench.route(&[("blue", blue, 1_000)]);
    bench
}

pub(crate) async fn connect(
    bench: &Bench,
    trusted: &CertificateDer<'static>,
    versions: &[&'static SupportedProtocolVersion],
    alpn: &[&[u8]],
) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(bench.address).await.unwrap();
    connect_on(stream, trusted, versions, alpn).await
}

pub(crate) async fn connect_on(
    stream: TcpStream,
    trusted: &CertificateDer<'static>,
    versions: &[&'static SupportedProtocolVersion],
    alpn: &[&[u8]],
) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let name = "shop.example".try_into().unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

pub(crate) async fn client(bench: &Bench, trusted: &CertificateDer<'static>) -> Client {
    let stream = connect(bench, trusted, &[&TLS13], &[b"http/1.1"]).await;
    Client::on(stream).await
}

#[tokio::test]
async fn an_instance_is_told_that_its_client_speaks_encrypted() {
    let (blue, files) = (Instance::start("blue").await, Files::new());
    let certificate = files.renew(1);
    let bench = bench(&blue, &files);

    let (_, headers) = client(&bench, &certificate).await.get("/headers").await;

    assert!(headers.contains(r#""x-forwarded-proto": "https""#), "{headers}");
    assert!(headers.contains(r#";proto=https""#), "{headers}");
}

#[tokio::test]
async fn a_client_chooses_http_2_and_the_version_of_tls() {
    let (blue, files) = (Instance::start("blue").await, Files::new());
    let certificate = files.renew(1);
    let bench = bench(&blue, &files);

    let versions = [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)];
    for (version, spoken) in versions {
        let stream = connect(&bench, &certificate, &[version], &[b"h2", b"http/1.1"]).await;
        let session = stream.get_ref().1;
        assert_eq!(session.protocol_version(), Some(spoken));
        assert_eq!(session.alpn_protocol(), Some(&b"h2"[..]));
        let (mut sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get("https://shop.example/").body(Empty::<Bytes>::new()).unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "blue");
    }
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_at_once_and_a_broken_one_never() {
    let (blue, files) = (Instance::start("blue").await, Files::new());
    let first = files.renew(1);
    let bench = bench(&blue, &files);
    let mut before = client(&bench, &first).await;
    assert_eq!(before.get("/").await.1, "blue");

    let second = files.renew(2);
    assert_eq!(client(&bench, &second).await.get("/").await.1, "blue");
    assert_eq!(before.get("/").await.1, "blue", "open connections go on");

    put(&files.certificate(), "no certificate", 0o644);
    assert_eq!(client(&bench, &second).await.get("/").await.1, "blue");
    fs::remove_file(files.key()).unwrap();
    assert_eq!(client(&bench, &second).await.get("/").await.1, "blue");

    let third = files.renew(3);
    assert_eq!(client(&bench, &third).await.get("/").await.1, "blue");
}

#[tokio::test]
async fn a_service_whose_certificate_cannot_be_shown_stays_as_it_was_and_is_tried_again() {
    let (blue, files) = (Instance::start("blue").await, Files::new());
    let mut bench = Bench::start(&[("blue", &blue, 1_000)]);
    files.show(&mut bench);
    bench.apply();
    let assert_told = |bench: &Bench, what: &str| {
        let (is_served, trouble) = bench.trouble();
        assert!(!is_served && trouble.contains(what), "{what} is not in: {trouble}");
    };

    assert_told(&bench, "could not read");
    files.renew(1);
    fs::set_permissions(files.key(), fs::Permissions::from_mode(0o640)).unwrap();
    bench.gate.try_again();
    assert_told(&bench, "chmod 600");
    put(&files.key(), &KeyPair::generate().unwrap().serialize_pem(), 0o600);
    bench.gate.try_again();
    assert_told(&bench, "does not fit");
    assert!(bench.trouble().1.contains("served as before"), "{:?}", bench.trouble());

    assert_eq!(bench.get("/").await.1, "blue", "clients speak in the clear as before");
    let certificate = files.renew(2);
    bench.gate.try_again();
    assert_eq!(client(&bench, &certificate).await.get("/").await.1, "blue");
    assert_eq!(bench.trouble(), (true, String::new()));
}

#[tokio::test]
async fn a_certificate_that_cannot_be_shown_any_more_is_told_until_it_can() {
    let (blue, files) = (Instance::start("blue").await, Files::new());
    files.renew(1);
    let bench = bench(&blue, &files);

    fs::set_permissions(files.key(), fs::Permissions::from_mode(0o640)).unwrap();
    let (is_served, trouble) = bench.trouble();
    assert!(is_served && trouble.contains("chmod 600"), "{trouble}");

    fs::set_permissions(files.key(), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(bench.trouble(), (true, String::new()), "its mode alone was wrong");
}

#[tokio::test]
async fn who_does_not_finish_its_handshake_is_sent_away() {
    let (blue, files) = (Instance::start("blue").await, Files::new());
    let certificate = files.renew(1);
    let mut bench = bench(&blue, &files);
    bench.service["limits"] = json!({ "head_ms": 100 });
    bench.apply();

    for said in [&b""[..], b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"] {
        let mut stream = TcpStream::connect(bench.address).await.unwrap();
        stream.write_all(said).await.unwrap();
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        drop(closed.expect("it is closed"));
    }

    // This one finishes it, however long that takes.
    bench.service["limits"] = json!({});
    bench.apply();
    assert_eq!(client(&bench, &certificate).await.get("/").await.1, "blue");
    assert_eq!(blue.got(), 1);
}

#[tokio::test]
async fn plain_tcp_is_encrypted_too() {
    let (blue, files) = (Instance::start("blue").await, Files::new());
    let certificate = files.renew(1);
    let mut bench = Bench::unprogrammed();
    bench.service["protocol"] = json!("tcp");
    files.show(&mut bench);
    bench.route(&[("blue", &blue, 1_000)]);

    let (_, headers) = client(&bench, &certificate).await.get("/headers").await;

    assert!(!headers.contains("x-forwarded"), "it is the client's own request: {headers}");
}
