//! Server configurations: who must show what on which port.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    server::{
        NoServerSessionStorage, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

use super::{
    ALPN_H2, ALPN_JOIN, Enrolments, PeerIdentity, Role, SwapCert, TlsSetup, protocols, provider,
};

/// Makes the configuration of the agents' port: a certificate of an enrolled agent is required.
///
/// # Errors
///
/// If `ca` is no certificate of an authority.
pub fn agent_listener_config(
    ca: &CertificateDer<'static>,
    server: Arc<SwapCert>,
    enrolments: Arc<Enrolments>,
) -> Result<Arc<ServerConfig>, TlsSetup> {
    let mut roots = RootCertStore::empty();
    roots
        .add(ca.clone())
        .map_err(|source| TlsSetup::new("the CA's certificate is broken", source))?;
    let signed_by_us = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|_| TlsSetup::saying("the CA's certificate cannot verify agents"))?;
    let verifier = Arc::new(AgentVerifier { signed_by_us, enrolments });
    let config = builder()?.with_client_cert_verifier(verifier).with_cert_resolver(server);
    Ok(hardened(config, ALPN_H2))
}

/// Makes the configuration for agents that join: no client certificate, and a protocol of its
/// own, so that such a connection can be served nothing but enrolment.
///
/// # Errors
///
/// If the provider lacks TLS 1.3.
pub fn join_config(server: Arc<SwapCert>) -> Result<Arc<ServerConfig>, TlsSetup> {
    Ok(hardened(builder()?.with_no_client_auth().with_cert_resolver(server), ALPN_JOIN))
}

/// Makes the configuration of the operators' port: no client certificate is asked for, tokens
/// say who calls.
///
/// # Errors
///
/// If the provider lacks TLS 1.3.
pub fn operator_config(server: Arc<SwapCert>) -> Result<Arc<ServerConfig>, TlsSetup> {
    Ok(hardened(builder()?.with_no_client_auth().with_cert_resolver(server), ALPN_H2))
}

/// Makes the configuration of a port for anybody: no client certificate is asked for, and every version
/// of TLS is spoken that is compiled in, as public clients come with what they have.
///
/// # Errors
///
/// If the key does not fit its certificate.
pub fn public_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    alpn: &[&[u8]],
) -> Result<Arc<ServerConfig>, TlsSetup> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|source| TlsSetup::new("the key does not fit its certificate", source))?;
    config.alpn_protocols = protocols(alpn);
    Ok(Arc::new(config))
}

fn builder() -> Result<rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier>, TlsSetup> {
    ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(|source| TlsSetup::new("the provider lacks TLS 1.3", source))
}

fn hardened(mut config: ServerConfig, alpn: &[u8]) -> Arc<ServerConfig> {
    config.alpn_protocols = vec![alpn.to_vec()];
    // A resumed session skips the client-certificate verifier: a removed agent came back so.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Arc::new(config)
}

#[derive(Debug)]
struct AgentVerifier {
    signed_by_us: Arc<dyn ClientCertVerifier>,
    enrolments: Arc<Enrolments>,
}

impl ClientCertVerifier for AgentVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        // The CA signs agents directly, so no intermediate has a place in a chain: what a peer
        // sends of them is not looked at.
        let verified = self.signed_by_us.verify_client_cert(leaf, &[], now)?;
        let identity = PeerIdentity::from_certificate(leaf)
            .map_err(|error| CertificateError::Other(OtherError(Arc::new(error))))?;
        if identity.role != Role::Agent {
            return Err(CertificateError::InvalidPurpose.into());
        }
        if !self.enrolments.is_admitted(&identity) {
            return Err(CertificateError::Revoked.into());
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed_by_us.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed_by_us.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signed_by_us.supported_verify_schemes()
    }
}
