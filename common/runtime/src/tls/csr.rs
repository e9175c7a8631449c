//! Certificate requests: made by agents, judged by the coordinator.
//!
//! Nothing but the public key is taken from a request: what the certificate says is decided by
//! who signs it.

use cutover_common::Sha256;
use rcgen::{
    CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, SubjectPublicKeyInfo,
};
use rustls_pki_types::{CertificateSigningRequestDer, PrivateKeyDer, pem::PemObject};
use x509_parser::{certification_request::X509CertificationRequest, prelude::FromDer, x509};

/// The largest request that is looked at, in bytes. Ours have about 400.
pub const CSR_MAX_BYTES: usize = 16 * 1024;

/// OID and key length of what an agent's key may be: id-ecPublicKey with an uncompressed point
/// of P-256 (RFC 5480), or Ed25519 (RFC 8410).
const EC_PUBLIC_KEY: &str = "1.2.840.10045.2.1";
const CURVE_P256: &str = "1.2.840.10045.3.1.7";
const P256_POINT_BYTES: usize = 65;
const ED25519: &str = "1.3.101.112";
const ED25519_BYTES: usize = 32;

/// A key made on this machine, and the request that asks for its certificate.
pub struct KeyRequest {
    key_pem: String,
    csr_pem: String,
}

/// Why a key or its request could not be made.
#[derive(Debug, thiserror::Error)]
#[error("could not make a key and its certificate request")]
pub struct MakeRequest(#[source] rcgen::Error);

/// Why a request is refused (`BAD_CSR`).
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadCsr {
    #[error("the certificate request has {size_bytes} bytes; at most {CSR_MAX_BYTES} are taken")]
    TooLarge { size_bytes: usize },
    #[error("the certificate request is not a PKCS #10 request in PEM form")]
    Unreadable,
    #[error("the certificate request's key must be ECDSA P-256 or Ed25519")]
    KeyKind,
    #[error("the certificate request is not signed by the key that it names")]
    Signature,
}

/// A public key whose holder proved that it has the private one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProvenKey {
    pub(super) public: SubjectPublicKeyInfo,
    hash: Sha256,
}

impl KeyRequest {
    /// Makes a new P-256 key and its request.
    ///
    /// # Errors
    ///
    /// If the key cannot be made.
    pub fn generate() -> Result<Self, MakeRequest> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(MakeRequest)?;
        Self::of(&key)
    }

    /// Makes the request of a key that exists, for asking once more with the same key.
    ///
    /// # Errors
    ///
    /// If the text is no key.
    pub fn from_key(key_pem: &str) -> Result<Self, MakeRequest> {
        Self::of(&KeyPair::from_pem(key_pem).map_err(MakeRequest)?)
    }

    fn of(key: &KeyPair) -> Result<Self, MakeRequest> {
        let mut params = CertificateParams::default();
        // The coordinator takes nothing but the key, so the request says nothing else.
        params.distinguished_name = DistinguishedName::new();
        let csr = params.serialize_request(key).map_err(MakeRequest)?;
        let csr_pem = csr.pem().map_err(MakeRequest)?;
        Ok(Self { key_pem: key.serialize_pem(), csr_pem })
    }

    /// Returns the private key in PEM form. It goes into a file for its owner, nowhere else.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// Returns the private key.
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes())
            .expect("the text is a key: rcgen wrote it")
    }

    /// Returns the request in PEM form.
    pub fn csr_pem(&self) -> &str {
        &self.csr_pem
    }
}

impl std::fmt::Debug for KeyRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyRequest").finish_non_exhaustive()
    }
}

impl ProvenKey {
    /// Parses a request and checks that its sender holds the key.
    ///
    /// # Errors
    ///
    /// If it is too large, no request, for another kind of key, or signed by another key.
    pub fn parse(csr_pem: &str) -> Result<Self, BadCsr> {
        if csr_pem.len() > CSR_MAX_BYTES {
            return Err(BadCsr::TooLarge { size_bytes: csr_pem.len() });
        }
        let der = CertificateSigningRequestDer::from_pem_slice(csr_pem.as_bytes())
            .map_err(|_| BadCsr::Unreadable)?;
        let Ok(([], request)) = X509CertificationRequest::from_der(&der) else {
            return Err(BadCsr::Unreadable);
        };
        let key = &request.certification_request_info.subject_pki;
        if !is_allowed(key) {
            return Err(BadCsr::KeyKind);
        }
        request.verify_signature().map_err(|_| BadCsr::Signature)?;
        let public = SubjectPublicKeyInfo::from_der(key.raw).map_err(|_| BadCsr::KeyKind)?;
        Ok(Self { public, hash: Sha256::of(key.raw) })
    }

    /// Returns the sha256 of the key, by which a repeated request is recognised (promise S4).
    pub fn hash(&self) -> Sha256 {
        self.hash
    }
}

fn is_allowed(key: &x509::SubjectPublicKeyInfo<'_>) -> bool {
    let bits = &key.subject_public_key;
    if bits.unused_bits != 0 {
        return false;
    }
    let parameters = key.algorithm.parameters.as_ref();
    match key.algorithm.algorithm.to_id_string().as_str() {
        EC_PUBLIC_KEY => {
            let curve = parameters.and_then(|any| any.as_oid().ok());
            curve.is_some_and(|curve| curve.to_id_string() == CURVE_P256)
                && bits.data.len() == P256_POINT_BYTES
                && bits.data.first() == Some(&4)
        }
        ED25519 => parameters.is_none() && bits.data.len() == ED25519_BYTES,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{PKCS_ECDSA_P384_SHA384, PKCS_ED25519};

    use super::*;

    fn csr_of(key: &KeyPair) -> String {
        CertificateParams::default().serialize_request(key).unwrap().pem().unwrap()
    }

    #[test]
    fn the_same_key_is_recognised_and_another_is_not() {
        let request = KeyRequest::generate().unwrap();
        let again = KeyRequest::from_key(request.key_pem()).unwrap();
        let other = KeyRequest::generate().unwrap();

        let hash = ProvenKey::parse(request.csr_pem()).unwrap().hash();
        assert_eq!(ProvenKey::parse(again.csr_pem()).unwrap().hash(), hash);
        assert_ne!(ProvenKey::parse(other.csr_pem()).unwrap().hash(), hash);
    }

    #[test]
    fn p256_and_ed25519_are_taken_and_p384_is_not() {
        assert!(ProvenKey::parse(&csr_of(&KeyPair::generate().unwrap())).is_ok());
        let ed25519 = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        assert!(ProvenKey::parse(&csr_of(&ed25519)).is_ok());
        let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        assert_eq!(ProvenKey::parse(&csr_of(&p384)), Err(BadCsr::KeyKind));
    }

    #[test]
    fn a_request_that_was_changed_after_signing_is_refused() {
        let request = KeyRequest::generate().unwrap();
        let signed = ProvenKey::parse(request.csr_pem()).unwrap().hash();
        let der =
            CertificateSigningRequestDer::from_pem_slice(request.csr_pem().as_bytes()).unwrap();

        let mut refused = 0;
        for at in 0..der.len() {
            let mut bytes = der.to_vec();
            bytes[at] ^= 1;
            match ProvenKey::parse(&pem_of(&bytes)) {
                // A few bits around the signature are not signed; the key always is.
                Ok(key) => assert_eq!(key.hash(), signed, "byte {at}"),
                Err(_) => refused += 1,
            }
        }
        assert!(refused > der.len() * 9 / 10, "{refused} of {}", der.len());
        assert_eq!(ProvenKey::parse(&pem_of(&der)).unwrap().hash(), signed);
    }

    #[test]
    fn huge_and_foreign_texts_are_refused() {
        let huge = "x".repeat(CSR_MAX_BYTES + 1);
        assert!(matches!(ProvenKey::parse(&huge), Err(BadCsr::TooLarge { .. })));
        for bad in ["", "-----BEGIN CERTIFICATE REQUEST-----", &pem_of(b""), &pem_of(b"\x30\x00")] {
            assert_eq!(ProvenKey::parse(bad), Err(BadCsr::Unreadable), "{bad:?}");
        }
    }

    #[test]
    fn debug_output_has_no_key() {
        let request = KeyRequest::generate().unwrap();

        assert_eq!(format!("{request:?}"), "KeyRequest { .. }");
    }

    fn pem_of(der: &[u8]) -> String {
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut body = String::new();
        for chunk in der.chunks(3) {
            let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
            let word = byte(0) << 16 | byte(1) << 8 | byte(2);
            for digit in 0..4 {
                if digit <= chunk.len() {
                    body.push(alphabet[(word >> (18 - 6 * digit) & 63) as usize] as char);
                } else {
                    body.push('=');
                }
            }
        }
        let lines: Vec<&str> =
            body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        let body = lines.join("\n");
        format!("-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n")
    }
}
