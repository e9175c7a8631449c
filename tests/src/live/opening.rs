//! What a client's connection begins with before its first request: a PROXY protocol header, a TLS
//! handshake, both or nothing.

use std::{
    fmt,
    io::{self, Read, Write},
    net::{IpAddr, TcpStream},
    sync::Arc,
};

use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};

/// A PROXY protocol header, version 2, of a client at 192.0.2.7:4096 that connected to
/// 192.0.2.8:8080.
pub const PROXY_HEADER: [u8; 28] = [
    b'\r', b'\n', b'\r', b'\n', 0, b'\r', b'\n', b'Q', b'U', b'I', b'T', b'\n', 0x21, 0x11, 0, 12,
    192, 0, 2, 7, 192, 0, 2, 8, 0x10, 0, 0x1f, 0x90,
];

/// What a connection begins with. By default nothing.
#[derive(Clone, Debug, Default)]
pub struct Opening {
    /// Sent as it is.
    pub header: &'static [u8],
    pub tls: Option<Trust>,
}

/// Whom a client of TLS trusts.
#[derive(Clone, Debug)]
pub struct Trust {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

/// A connection on which requests may begin.
pub(super) trait Stream: Read + Write + Send + fmt::Debug {}

impl<S: Read + Write + Send + fmt::Debug> Stream for S {}

impl Trust {
    /// Trusts the certificate in this PEM text, where it is for `name`.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub fn of(certificate: &str, name: IpAddr) -> Self {
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes());
        let mut roots = RootCertStore::empty();
        roots.add(certificate.expect("it is a certificate")).expect("it can be trusted");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring knows TLS")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { config: Arc::new(config), name: ServerName::from(name) }
    }
}

impl Opening {
    /// Begins a connection. A handshake happens with the first request.
    pub(super) fn begin(&self, mut stream: TcpStream) -> io::Result<Box<dyn Stream>> {
        let Self { header, tls } = self;
        stream.write_all(header)?;
        let Some(Trust { config, name }) = tls else { return Ok(Box::new(stream)) };
        let session = ClientConnection::new(Arc::clone(config), name.clone());
        Ok(Box::new(StreamOwned::new(session.map_err(io::Error::other)?, stream)))
    }
}
