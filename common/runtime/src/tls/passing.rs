//! Passing on: which server may stand in for the one that shows a certificate of ours.
//!
//! A host's gate that passes requests on to another host's has to know that it is one of the same
//! service. What the two have in common is what they show their clients: the same key, or
//! certificates of one issuer for one name. Nobody else is trusted, not even by the system's roots: those
//! vouch for everybody, and what a file of the service's own names is enough.

use std::{io, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore,
    SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    server::ParsedCertificate,
};
use rustls_pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};

use super::{OutOfTime, TlsSetup, client, fault_in, peer, protocols, provider};

/// The server at the other end is none that may stand in.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Stranger {
    #[error(
        "it shows a certificate with another key, and the file of the own one names no issuer by \
         which another could be known"
    )]
    OtherKey,
    #[error(
        "it shows a certificate with another key, and the own one is for no host name by which \
         another could be known"
    )]
    Nameless,
    #[error("it shows a certificate with another key, which is not valid at this time")]
    OutOfTime(#[source] OutOfTime),
    #[error(
        "it shows a certificate with another key, and not one for {name} by an issuer in the file \
         of the own one"
    )]
    NoKin {
        name: String,
        #[source]
        source: Error,
    },
}

impl Stranger {
    /// Returns it, if that is why a handshake failed.
    pub fn in_failure(failure: &io::Error) -> Option<&Self> {
        let Error::InvalidCertificate(CertificateError::Other(OtherError(error))) =
            fault_in(failure)?
        else {
            return None;
        };
        error.downcast_ref()
    }
}

/// Makes the configuration of a client of servers that may stand in for the one that shows `chain`, and
/// of no others: those that have the same key, and those whose certificate is good for the first
/// name in the first certificate of `chain` and was issued by one of the others in it.
///
/// Its connections name no server: whoever answers is judged by what it shows alone.
///
/// # Errors
///
/// If the provider lacks every version of TLS.
pub fn passing_config(
    chain: &[CertificateDer<'static>],
    alpn: &[&[u8]],
) -> Result<Arc<ClientConfig>, TlsSetup> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|source| TlsSetup::new("the provider lacks TLS", source))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(StandInVerifier::of(chain)))
        .with_no_client_auth();
    config.alpn_protocols = protocols(alpn);
    Ok(client::hardened(config))
}

/// Accepts who may stand in.
#[derive(Debug)]
struct StandInVerifier {
    /// None: it cannot be read, and nobody has the same.
    key: Option<SubjectPublicKeyInfoDer<'static>>,
    kin: Result<Kin, Stranger>,
}

/// Certificates that count as the own one although they have another key.
#[derive(Debug)]
struct Kin {
    issued: Arc<WebPkiServerVerifier>,
    name: String,
    asked: ServerName<'static>,
}

impl StandInVerifier {
    fn of(chain: &[CertificateDer<'static>]) -> Self {
        let Some((leaf, issuers)) = chain.split_first() else {
            return Self { key: None, kin: Err(Stranger::OtherKey) };
        };
        Self { key: key_of(leaf), kin: Kin::of(leaf, issuers) }
    }
}

/// Read by those who verify signatures with it: no second reading that could differ.
fn key_of(certificate: &CertificateDer<'_>) -> Option<SubjectPublicKeyInfoDer<'static>> {
    ParsedCertificate::try_from(certificate).ok().map(|it| it.subject_public_key_info())
}

/// What stands for `*` where a name is asked for: a label as any other, as a certificate is good for
/// all of them or for none.
const ANY_LABEL: &str = "any";

impl Kin {
    fn of(
        leaf: &CertificateDer<'_>,
        issuers: &[CertificateDer<'static>],
    ) -> Result<Self, Stranger> {
        let mut roots = RootCertStore::empty();
        // One that cannot be read vouches for nobody.
        roots.add_parsable_certificates(issuers.iter().cloned());
        let issued = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider());
        let issued = issued.build().map_err(|_| Stranger::OtherKey)?;
        let name = peer::host_names(leaf).unwrap_or_default().into_iter().next();
        let name = name.ok_or(Stranger::Nameless)?;
        let asked = name.strip_prefix("*.").map(|rest| format!("{ANY_LABEL}.{rest}"));
        let asked = ServerName::try_from(asked.unwrap_or_else(|| name.clone()));
        let asked = asked.map_err(|_| Stranger::Nameless)?;
        Ok(Self { issued, name, asked })
    }

    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.issued.verify_server_cert(leaf, rest, &self.asked, ocsp, now)?;
        let is_listed = || {
            let names = peer::host_names(leaf).unwrap_or_default();
            names.iter().any(|name| name.eq_ignore_ascii_case(&self.name))
        };
        // Of a wildcard one label was tried: a certificate for that label alone is none for all.
        if self.name.starts_with("*.") && !is_listed() {
            return Err(CertificateError::NotValidForName.into());
        }
        Ok(verified)
    }

    fn stranger(&self, why: Error) -> Stranger {
        if let Error::InvalidCertificate(reason) = &why
            && let Some((out_of_time, _)) = OutOfTime::of(reason)
        {
            return Stranger::OutOfTime(out_of_time);
        }
        Stranger::NoKin { name: self.name.clone(), source: why }
    }
}

impl ServerCertVerifier for StandInVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // Whoever has the key can pose as this server to everybody, whatever a certificate says. That
        // it has it is proven by the handshake's signature.
        if self.key.is_some() && key_of(leaf) == self.key {
            return Ok(ServerCertVerified::assertion());
        }
        let verified = match &self.kin {
            Ok(kin) => kin.verify(leaf, rest, ocsp, now).map_err(|why| kin.stranger(why)),
            Err(stranger) => Err(stranger.clone()),
        };
        verified.map_err(|stranger| CertificateError::Other(OtherError(Arc::new(stranger))).into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &algorithms)
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

#[cfg(test)]
mod tests;
