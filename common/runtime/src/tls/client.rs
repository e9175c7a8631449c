//! Client configurations: trust one CA, by its hash or by its certificate, and nothing else.

use std::sync::Arc;

use cutover_common::Sha256;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore,
    SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{PeerIdentity, Role, SwapCert, TlsSetup, files, provider, render_ca_hash};

/// The server at the other end belongs to another authority than the pinned one
/// (`CA_PIN_MISMATCH`).
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "the coordinator's CA is {presented}, not {expected}: wrong host, or somebody is in between; \
     compare with what the coordinator itself prints",
    presented = render_ca_hash(presented), expected = render_ca_hash(expected)
)]
pub struct CaMismatch {
    pub presented: Sha256,
    pub expected: Sha256,
}

/// The server's certificate is of our CA and still not a coordinator's.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the certificate at the other end is not a coordinator's")]
pub struct NotCoordinator;

/// Trusts the CA that the server presents if its hash is `ca_hash`: for the first contact, when
/// nothing but the hash is known.
///
/// # Errors
///
/// If the provider lacks TLS 1.3.
pub fn pinned(ca_hash: Sha256) -> Result<Arc<ClientConfig>, TlsSetup> {
    anonymous(Trust::Pinned(ca_hash))
}

/// Trusts the CA in `ca_pem`.
///
/// # Errors
///
/// If the text is no CA's certificate.
pub fn trusted(ca_pem: &str) -> Result<Arc<ClientConfig>, TlsSetup> {
    anonymous(Trust::known(ca_pem)?)
}

/// Trusts the CA in `ca_pem` and shows the agent's certificate, whichever it is at that moment.
///
/// # Errors
///
/// If the text is no CA's certificate.
pub fn agent(ca_pem: &str, certificate: Arc<SwapCert>) -> Result<Arc<ClientConfig>, TlsSetup> {
    let config = builder(Trust::known(ca_pem)?)?.with_client_cert_resolver(certificate);
    Ok(hardened(config))
}

/// Returns the hash of the CA's certificate in `ca_pem`.
///
/// # Errors
///
/// If the text holds not exactly one certificate.
pub fn ca_hash_of(ca_pem: &str) -> Result<Sha256, TlsSetup> {
    Ok(Sha256::of(&only_certificate(ca_pem)?))
}

fn anonymous(trust: Trust) -> Result<Arc<ClientConfig>, TlsSetup> {
    Ok(hardened(builder(trust)?.with_no_client_auth()))
}

fn builder(
    trust: Trust,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>, TlsSetup> {
    Ok(ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(|source| TlsSetup::new("the provider lacks TLS 1.3", source))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(CoordinatorVerifier(trust))))
}

pub(super) fn hardened(mut config: ClientConfig) -> Arc<ClientConfig> {
    // A resumed session skips the verifier; and a client that keeps no tickets cannot be tracked.
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

fn only_certificate(pem: &str) -> Result<CertificateDer<'static>, TlsSetup> {
    let certificates = files::certificates_in(pem).unwrap_or_default();
    let [certificate] = <[_; 1]>::try_from(certificates)
        .map_err(|_| TlsSetup::saying("the CA's PEM text holds not exactly one certificate"))?;
    Ok(certificate)
}

#[derive(Debug)]
enum Trust {
    Pinned(Sha256),
    Known(Arc<WebPkiServerVerifier>),
}

impl Trust {
    fn known(ca_pem: &str) -> Result<Self, TlsSetup> {
        let verifier = verifier_of(only_certificate(ca_pem)?)
            .map_err(|source| TlsSetup::new("the CA's certificate is broken", source))?;
        Ok(Self::Known(verifier))
    }

    /// Returns the verifier that trusts the one CA.
    fn resolve(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
    ) -> Result<Arc<WebPkiServerVerifier>, Error> {
        let expected = match self {
            Self::Known(verifier) => return Ok(verifier.clone()),
            Self::Pinned(expected) => *expected,
        };
        if let Some(ca) = rest.iter().find(|certificate| Sha256::of(certificate) == expected) {
            return verifier_of(ca.clone().into_owned());
        }
        // Servers of ours send the CA last; of a foreign server the last one is named too.
        let presented = Sha256::of(rest.last().unwrap_or(leaf));
        let mismatch = CaMismatch { presented, expected };
        Err(CertificateError::Other(OtherError(Arc::new(mismatch))).into())
    }
}

fn verifier_of(ca: CertificateDer<'static>) -> Result<Arc<WebPkiServerVerifier>, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(ca)?;
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|error| Error::General(error.to_string()))
}

#[derive(Debug)]
struct CoordinatorVerifier(Trust);

impl ServerCertVerifier for CoordinatorVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // The CA signs coordinators directly: no intermediate has a place in the chain.
        let verifier = self.0.resolve(leaf, rest)?;
        let verified = verifier.verify_server_cert(leaf, &[], name, ocsp, now)?;
        match PeerIdentity::from_certificate(leaf) {
            Ok(identity) if identity.role == Role::Coordinator => Ok(verified),
            Ok(_) | Err(_) => {
                Err(CertificateError::Other(OtherError(Arc::new(NotCoordinator))).into())
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        super::verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        super::supported_verify_schemes()
    }
}
