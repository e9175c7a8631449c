//! Identity on the wire: keys, certificates, and who may speak to whom.
//!
//! One CA, made by the coordinator. Every certificate carries one role and one id (`peer`), is
//! signed with parameters of our own (`ca`), and is good for one direction only. Agents' port:
//! TLS 1.3 with a client certificate of an enrolled agent, no resumption, because a resumed
//! session skips the verifier. ring is the one provider, always named, never looked up.

pub mod accept;
pub mod ca;
pub mod client;
pub mod csr;
pub mod enrolments;
pub mod files;
pub mod outbound;
pub mod passing;
pub mod peer;
pub mod reload;
pub mod server;

use std::{
    io,
    sync::{Arc, LazyLock},
};

use cutover_common::Timestamp;
use rustls::{
    CertificateError, DigitallySignedStruct, SignatureScheme,
    client::danger::HandshakeSignatureValid, crypto::CryptoProvider,
};
use rustls_pki_types::UnixTime;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

pub use enrolments::Enrolments;
pub use peer::{PeerIdentity, Role};
pub use reload::SwapCert;
pub use rustls::{ClientConfig, ServerConfig};
pub use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// The protocol of connections that carry gRPC.
pub const ALPN_H2: &[u8] = b"h2";

/// The protocol of connections without a client certificate that may only call
/// `Enrollment.Join`. The agents' port tells the two apart by this, before any handshake.
pub const ALPN_JOIN: &[u8] = b"cutover-join/1";

/// Why a TLS configuration could not be made: a fault in a certificate of ours.
#[derive(Debug, thiserror::Error)]
#[error("could not set up TLS: {what}")]
pub struct TlsSetup {
    what: &'static str,
    #[source]
    source: Option<rustls::Error>,
}

impl TlsSetup {
    fn new(what: &'static str, source: rustls::Error) -> Self {
        Self { what, source: Some(source) }
    }

    fn saying(what: &'static str) -> Self {
        Self { what, source: None }
    }
}

/// A certificate was shown at a time at which it is not valid.
///
/// In these words, as rustls' own name that time too, and are others each second.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OutOfTime {
    #[error("its certificate ended at {}", utc(*not_after))]
    Ended { not_after: Timestamp },
    #[error("its certificate begins at {}", utc(*not_before))]
    NotBegun { not_before: Timestamp },
}

impl OutOfTime {
    /// Returns it, if that is why a certificate was refused, and what time it was.
    pub(crate) fn of(reason: &CertificateError) -> Option<(Self, Timestamp)> {
        if let CertificateError::ExpiredContext { time, not_after } = reason {
            return Some((Self::Ended { not_after: moment(*not_after) }, moment(*time)));
        }
        if let CertificateError::NotValidYetContext { time, not_before } = reason {
            return Some((Self::NotBegun { not_before: moment(*not_before) }, moment(*time)));
        }
        None
    }
}

fn moment(time: UnixTime) -> Timestamp {
    Timestamp::from_unix_ms(time.as_secs().saturating_mul(1000))
}

/// Returns the fault for which TLS has failed. None: the connection beneath it has.
pub fn fault_in(failure: &io::Error) -> Option<&rustls::Error> {
    failure.get_ref()?.downcast_ref()
}

fn protocols(alpn: &[&[u8]]) -> Vec<Vec<u8>> {
    alpn.iter().map(|name| name.to_vec()).collect()
}

fn verify_tls13_signature(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    let algorithms = provider().signature_verification_algorithms;
    rustls::crypto::verify_tls13_signature(message, certificate, signature, &algorithms)
}

fn supported_verify_schemes() -> Vec<SignatureScheme> {
    provider().signature_verification_algorithms.supported_schemes()
}

/// Returns the one provider of cryptography.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));
    PROVIDER.clone()
}

/// Prints a moment for people, in UTC.
pub fn utc(moment: Timestamp) -> String {
    let seconds = i64::try_from(moment.unix_ms() / 1000).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds)
        .ok()
        .and_then(|moment| moment.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("{} ms after 1970", moment.unix_ms()))
}

/// Prints the hash of a CA as operators copy it: `sha256:<hex>`.
pub fn render_ca_hash(hash: &cutover_common::Sha256) -> String {
    format!("sha256:{hash}")
}

/// Parses a CA's hash as operators copy it.
///
/// # Errors
///
/// If the text is not `sha256:` and 64 lower-case hex digits.
pub fn parse_ca_hash(text: &str) -> Result<cutover_common::Sha256, InvalidCaHash> {
    text.strip_prefix("sha256:").and_then(|hex| hex.parse().ok()).ok_or(InvalidCaHash)
}

/// Why a text is no CA hash.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "a CA hash is sha256: and 64 lower-case hex digits; the coordinator prints it with \
     `cutover agents token` and at `cutover-coordinator init`"
)]
pub struct InvalidCaHash;

#[cfg(test)]
pub(crate) mod fleet;
#[cfg(test)]
mod tests;
