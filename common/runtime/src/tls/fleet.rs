//! A small fleet for tests: an authority, its coordinator and agents, with real certificates.

use std::{net::SocketAddr, sync::Arc};

use cutover_common::Timestamp;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use uuid::Uuid;

use super::{
    ClientConfig, Enrolments, SwapCert,
    accept::AgentsPortConfig,
    ca::CertificateAuthority,
    client,
    csr::KeyRequest,
    files,
    server::{agent_listener_config, join_config},
};
use crate::clock::wall;

pub(crate) const ENROLMENT: Uuid = Uuid::from_u128(0xa);
pub(crate) const INCARNATION: Uuid = Uuid::from_u128(0xc);

pub(crate) struct Fleet {
    pub(crate) ca: CertificateAuthority,
    pub(crate) enrolments: Arc<Enrolments>,
    _dir: tempfile::TempDir,
}

impl Fleet {
    /// One in which `web-1` is enrolled.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = CertificateAuthority::create(dir.path(), wall()).unwrap();
        let enrolments = Arc::new(Enrolments::new([("web-1".to_owned(), ENROLMENT)]));
        Self { ca, enrolments, _dir: dir }
    }

    pub(crate) fn server(&self) -> Arc<SwapCert> {
        self.server_for(&["127.0.0.1", "localhost"], wall())
    }

    pub(crate) fn server_for(&self, names: &[&str], now: Timestamp) -> Arc<SwapCert> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let issued = self.ca.issue_server(&names, INCARNATION, now).unwrap();
        self.shown(&issued.certificate_pem, &issued.key_pem)
    }

    /// Returns a certificate with the CA's behind it, as servers show it.
    pub(crate) fn shown(&self, certificate_pem: &str, key_pem: &str) -> Arc<SwapCert> {
        let chain = format!("{certificate_pem}{}", self.ca.pem());
        let key = KeyRequest::from_key(key_pem).unwrap().key();
        SwapCert::new(files::certificates_in(&chain).unwrap(), key).unwrap()
    }

    pub(crate) fn agents_port(&self) -> AgentsPortConfig {
        self.agents_port_of(self.server())
    }

    pub(crate) fn agents_port_of(&self, server: Arc<SwapCert>) -> AgentsPortConfig {
        let enrolments = self.enrolments.clone();
        AgentsPortConfig {
            join: join_config(server.clone()).unwrap(),
            agents: agent_listener_config(self.ca.certificate(), server, enrolments).unwrap(),
        }
    }

    pub(crate) fn agent_cert(&self, name: &str, enrolment: Uuid, now: Timestamp) -> Arc<SwapCert> {
        let request = KeyRequest::generate().unwrap();
        let name = name.parse().unwrap();
        let issued = self.ca.sign_agent(request.csr_pem(), &name, enrolment, now).unwrap();
        let chain = files::certificates_in(&issued.pem).unwrap();
        SwapCert::new(chain, request.key()).unwrap()
    }

    /// Returns the configuration of a client that shows `certificate`.
    pub(crate) fn client(&self, certificate: Arc<SwapCert>) -> Arc<ClientConfig> {
        client::agent(self.ca.pem(), certificate).unwrap()
    }

    /// Returns the configuration of a client that shows none.
    pub(crate) fn anonymous(&self) -> Arc<ClientConfig> {
        client::trusted(self.ca.pem()).unwrap()
    }

    /// Returns the configuration of the enrolled agent `web-1`.
    pub(crate) fn web_1(&self) -> Arc<ClientConfig> {
        self.client(self.agent_cert("web-1", ENROLMENT, wall()))
    }
}

/// Connects and ends the client's half of the handshake. That the server agrees is not known yet.
pub(crate) async fn connect(
    addr: SocketAddr,
    config: &ClientConfig,
    alpn: &[&[u8]],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut config = config.clone();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let tcp = TcpStream::connect(addr).await?;
    let name = rustls_pki_types::ServerName::try_from("127.0.0.1").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await
}
