//! The fleet's certificate authority. Every certificate is made from parameters of our own.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use cutover_common::{AgentName, Sha256, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, DnsName, PrivateKeyDer, pem::PemObject};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    csr::{BadCsr, ProvenKey},
    files::{self, Access, ReadFile, WriteFile},
    peer::PeerIdentity,
};

/// How long an agent's certificate is good (design §7). A stolen key is of no use after it.
pub const AGENT_VALID_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a server's certificate is good; it is made anew at a start in its second half.
pub const SERVER_VALID_FOR: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How long the CA is good: longer than a fleet keeps one coordinator.
pub const CA_VALID_FOR: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// How far certificates begin in the past, for machines whose clock is behind: as much skew as a
/// join tolerates.
pub const BACKDATED_BY: Duration = Duration::from_secs(5 * 60);

/// How many host names a server's certificate may have. A coordinator has a handful.
const SERVER_NAMES_MAX: usize = 32;

const CA_FILE: &str = "ca.pem";
const CA_KEY_FILE: &str = "ca-key.pem";

/// Signs certificates.
pub struct CertificateAuthority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

/// A certificate for somebody else's key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IssuedCertificate {
    pub pem: String,
    pub not_after: Timestamp,
    /// In hex, as tools print it.
    pub serial: String,
}

/// A certificate with its key, for a server of ours.
pub struct IssuedServer {
    pub certificate_pem: String,
    pub key_pem: String,
    pub not_after: Timestamp,
}

impl IssuedServer {
    /// Returns the private key.
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes())
            .expect("the text is a key: rcgen wrote it")
    }
}

impl std::fmt::Debug for IssuedServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssuedServer").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

/// Why no CA could be made.
#[derive(Debug, thiserror::Error)]
pub enum CreateAuthority {
    #[error("{path} exists: this directory already has a certificate authority; every agent \
         trusts it, so it is not replaced; use another directory", path = path.display())]
    Exists { path: PathBuf },
    #[error("could not make the certificate authority")]
    Sign(#[source] rcgen::Error),
    #[error("could not store the certificate authority")]
    Write(#[from] WriteFile),
}

/// Why a stored CA could not be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadAuthority {
    #[error("could not load the certificate authority")]
    Read(#[from] ReadFile),
    #[error("{path} is not the key and certificate of one authority", path = path.display())]
    Broken { path: PathBuf, source: rcgen::Error },
    #[error("the key in {path} does not belong to the authority's certificate; restore both from one backup", path = path.display())]
    Mismatch { path: PathBuf },
}

/// Why no server certificate could be made.
#[derive(Debug, thiserror::Error)]
pub enum IssueServer {
    #[error(
        "{name:?} is neither a host name nor an address; write for example --name deploy.example.com"
    )]
    Name { name: String },
    #[error(
        "a coordinator needs between 1 and {SERVER_NAMES_MAX} host names, not {count}; write --name HOST"
    )]
    NameCount { count: usize },
    #[error("could not sign the server's certificate")]
    Sign(#[source] rcgen::Error),
}

/// Why no agent certificate was signed.
#[derive(Debug, thiserror::Error)]
pub enum SignAgent {
    #[error("the certificate request is refused")]
    Csr(#[from] BadCsr),
    #[error("could not sign the agent's certificate")]
    Sign(#[source] rcgen::Error),
}

impl CertificateAuthority {
    /// Makes a new authority and stores it in `dir`.
    ///
    /// # Errors
    ///
    /// If `dir` has one already, or it cannot be stored.
    pub fn create(dir: &Path, now: Timestamp) -> Result<Self, CreateAuthority> {
        for path in [dir.join(CA_FILE), dir.join(CA_KEY_FILE)] {
            if path.exists() {
                return Err(CreateAuthority::Exists { path });
            }
        }
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(CreateAuthority::Sign)?;
        let key_pem = key.serialize_pem();
        let mut params = params(now, CA_VALID_FOR);
        let mark = u32::from_be_bytes(crate::dice::bytes());
        params.distinguished_name.push(DnType::CommonName, format!("Cutover CA {mark:08x}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.use_authority_key_identifier_extension = false;
        let certificate = params.self_signed(&key).map_err(CreateAuthority::Sign)?;
        files::create_private_dir(dir)?;
        // The certificate last: a directory with a certificate has its key.
        files::write(&dir.join(CA_KEY_FILE), key_pem.as_bytes(), Access::Owner)?;
        files::write(&dir.join(CA_FILE), certificate.pem().as_bytes(), Access::Everybody)?;
        let pem = certificate.pem();
        let issuer =
            Issuer::from_ca_cert_der(certificate.der(), key).map_err(CreateAuthority::Sign)?;
        Ok(Self { issuer, certificate: certificate.der().clone(), pem })
    }

    /// Loads the authority that `create` stored in `dir`.
    ///
    /// # Errors
    ///
    /// If others may reach its key, or key and certificate are broken or of two authorities.
    pub fn load(dir: &Path) -> Result<Self, LoadAuthority> {
        let path = dir.join(CA_FILE);
        let key_path = dir.join(CA_KEY_FILE);
        let pem = files::read_public(&path)?;
        let key_pem = files::read_secret(&key_path)?;
        let broken = |source| LoadAuthority::Broken { path: dir.to_owned(), source };
        let certificate = files::certificates_in(&pem)
            .and_then(|certificates| certificates.into_iter().next())
            .ok_or(ReadFile::Pem { path, wanted: "certificate" })?;
        let key = KeyPair::from_pem(&key_pem).map_err(broken)?;
        if !is_key_of(&certificate, &key) {
            return Err(LoadAuthority::Mismatch { path: key_path });
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(broken)?;
        Ok(Self { issuer, certificate, pem })
    }

    /// Returns the sha256 of the authority's certificate, which people compare and agents pin.
    pub fn ca_hash(&self) -> Sha256 {
        Sha256::of(&self.certificate)
    }

    /// Returns the authority's certificate in PEM form.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Returns the authority's certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Makes a key and certificate for the coordinator, good for `names` (DNS names or
    /// addresses) and for serving only.
    ///
    /// # Errors
    ///
    /// If a name is none, or there are too few or too many.
    pub fn issue_server(
        &self,
        names: &[String],
        incarnation: Uuid,
        now: Timestamp,
    ) -> Result<IssuedServer, IssueServer> {
        if names.is_empty() || names.len() > SERVER_NAMES_MAX {
            return Err(IssueServer::NameCount { count: names.len() });
        }
        let identity = PeerIdentity::coordinator(incarnation);
        let mut params = params(now, SERVER_VALID_FOR);
        params.distinguished_name.push(DnType::CommonName, identity.name.as_str());
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.subject_alt_names =
            names.iter().map(|name| host_name(name)).collect::<Result<_, _>>()?;
        params.subject_alt_names.push(uri(&identity).map_err(IssueServer::Sign)?);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(IssueServer::Sign)?;
        let signed = params.signed_by(&key, &self.issuer).map_err(IssueServer::Sign)?;
        Ok(IssuedServer {
            certificate_pem: signed.pem(),
            key_pem: key.serialize_pem(),
            not_after: moment(params.not_after),
        })
    }

    /// Signs the key of a request for one enrolment of an agent. Nothing else that the request
    /// says has any effect.
    ///
    /// # Errors
    ///
    /// If the request is too large, broken, for a kind of key that is not taken, or not signed
    /// by its own key.
    pub fn sign_agent(
        &self,
        csr_pem: &str,
        name: &AgentName,
        enrolment: Uuid,
        now: Timestamp,
    ) -> Result<IssuedCertificate, SignAgent> {
        let key = ProvenKey::parse(csr_pem)?;
        let identity = PeerIdentity::agent(name, enrolment);
        let mut params = params(now, AGENT_VALID_FOR);
        params.distinguished_name.push(DnType::CommonName, name.as_str());
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names = vec![uri(&identity).map_err(SignAgent::Sign)?];
        let signed = params.signed_by(&key.public, &self.issuer).map_err(SignAgent::Sign)?;
        let serial = params.serial_number.as_ref().map(SerialNumber::to_bytes).unwrap_or_default();
        Ok(IssuedCertificate {
            pem: signed.pem(),
            not_after: moment(params.not_after),
            serial: serial.iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    }
}

/// Returns what all our certificates share: a random serial number, an end, and one key usage.
fn params(now: Timestamp, valid_for: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    let now = OffsetDateTime::UNIX_EPOCH + Duration::from_secs(now.unix_ms() / 1000);
    params.not_before = now - BACKDATED_BY;
    params.not_after = now + valid_for;
    let mut serial = crate::dice::bytes::<16>();
    // Positive and without leading zeros (RFC 5280 §4.1.2.2).
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.distinguished_name = DistinguishedName::new();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params
}

fn uri(identity: &PeerIdentity) -> Result<SanType, rcgen::Error> {
    Ok(SanType::URI(identity.uri().as_str().try_into()?))
}

fn host_name(name: &str) -> Result<SanType, IssueServer> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let refused = || IssueServer::Name { name: name.to_owned() };
    DnsName::try_from(name).map_err(|_| refused())?;
    Ok(SanType::DnsName(name.try_into().map_err(|_| refused())?))
}

fn moment(time: OffsetDateTime) -> Timestamp {
    let seconds = u64::try_from(time.unix_timestamp()).unwrap_or_default();
    Timestamp::from_unix_ms(seconds.saturating_mul(1000))
}

fn is_key_of(certificate: &CertificateDer<'_>, key: &KeyPair) -> bool {
    x509_parser::parse_x509_certificate(certificate).is_ok_and(|(_, certificate)| {
        *certificate.public_key().subject_public_key.data == *key.public_key_raw()
    })
}

#[cfg(test)]
mod tests;
