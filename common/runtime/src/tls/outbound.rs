//! A client of servers that are none of ours: those that an administrator has named, by the
//! authorities that were named with them. The system's roots are not asked.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore, version::TLS13};

use super::{TlsSetup, client::hardened, files, provider};

/// Trusts the authorities in `ca_pem`, and shows no certificate.
///
/// # Errors
///
/// If the text holds no certificates, or one that is no authority's.
pub fn trusting(ca_pem: &str) -> Result<Arc<ClientConfig>, TlsSetup> {
    let certificates = files::certificates_in(ca_pem)
        .filter(|certificates| !certificates.is_empty())
        .ok_or_else(|| TlsSetup::saying("the PEM text holds no certificate, or a broken one"))?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots
            .add(certificate)
            .map_err(|source| TlsSetup::new("a certificate of an authority is broken", source))?;
    }
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(|source| TlsSetup::new("the provider lacks TLS 1.3", source))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(hardened(config))
}
