//! Who is at the other end, from its certificate: one role and one id, or nobody.

use std::fmt;

use cutover_common::{AgentName, Timestamp};
use rustls_pki_types::CertificateDer;
use uuid::Uuid;
use x509_parser::{extensions::GeneralName, prelude::X509Certificate};

/// What a certificate entitles its holder to be. No certificate has two roles (promise S3).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Role {
    Agent,
    Coordinator,
}

/// The identity in a certificate that our CA signed.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct PeerIdentity {
    pub role: Role,
    /// An agent's name; `coordinator` for a coordinator.
    pub name: String,
    /// Which enrolment of an agent, so that a removed agent's certificate stays dead when a
    /// server of the same name joins again; for a coordinator, its incarnation.
    pub enrolment: Uuid,
}

/// Why a certificate names nobody (`BAD_IDENTITY`).
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadIdentity {
    #[error("the certificate cannot be parsed")]
    Unreadable,
    #[error(
        "the certificate must name exactly one URI, spiffe://cutover/agent/NAME/ENROLMENT or \
         spiffe://cutover/coordinator/INCARNATION, and names {count} URIs"
    )]
    UriCount { count: usize },
    #[error("the certificate's URI {uri:?} is not one of Cutover's")]
    ForeignUri { uri: String },
    #[error("an agent's certificate must name nothing but its URI")]
    MoreThanAgent,
}

/// From when and until when a certificate is good.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Validity {
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

/// What every URI of ours begins with.
const TRUST_DOMAIN: &str = "spiffe://cutover/";

/// The name that all coordinators' certificates share.
const COORDINATOR: &str = "coordinator";

/// How much of a foreign URI an error repeats, in characters: enough to recognise it.
const ECHO_MAX: usize = 120;

impl PeerIdentity {
    /// Names one enrolment of an agent.
    pub fn agent(name: &AgentName, enrolment: Uuid) -> Self {
        Self { role: Role::Agent, name: name.to_string(), enrolment }
    }

    /// Names a coordinator by its data directory's incarnation.
    pub fn coordinator(incarnation: Uuid) -> Self {
        Self { role: Role::Coordinator, name: COORDINATOR.to_owned(), enrolment: incarnation }
    }

    /// Reads the identity from a certificate whose signature was verified elsewhere.
    ///
    /// # Errors
    ///
    /// If it does not name exactly one URI of ours.
    pub fn from_certificate(certificate: &CertificateDer<'_>) -> Result<Self, BadIdentity> {
        let certificate = parse(certificate)?;
        let names = certificate
            .subject_alternative_name()
            .map_err(|_| BadIdentity::Unreadable)?
            .map(|extension| extension.value.general_names.as_slice())
            .unwrap_or_default();
        let uris: Vec<&str> = names.iter().filter_map(as_uri).collect();
        let [uri] = uris.as_slice() else {
            return Err(BadIdentity::UriCount { count: uris.len() });
        };
        let identity = Self::from_uri(uri)?;
        if identity.role == Role::Agent && names.len() != 1 {
            return Err(BadIdentity::MoreThanAgent);
        }
        Ok(identity)
    }

    /// Parses a URI of ours, in its one spelling.
    ///
    /// # Errors
    ///
    /// If it is any other text.
    pub fn from_uri(uri: &str) -> Result<Self, BadIdentity> {
        let foreign = || BadIdentity::ForeignUri { uri: uri.chars().take(ECHO_MAX).collect() };
        let path = uri.strip_prefix(TRUST_DOMAIN).ok_or_else(foreign)?;
        let parts: Vec<&str> = path.splitn(4, '/').collect();
        let identity = match parts.as_slice() {
            ["agent", name, enrolment] => {
                let name: AgentName = name.parse().map_err(|_| foreign())?;
                Self::agent(&name, enrolment.parse().map_err(|_| foreign())?)
            }
            ["coordinator", incarnation] => {
                Self::coordinator(incarnation.parse().map_err(|_| foreign())?)
            }
            _ => return Err(foreign()),
        };
        // A UUID has several spellings; only ours passes.
        if identity.uri() == uri { Ok(identity) } else { Err(foreign()) }
    }

    /// Returns the URI that stands in the certificate.
    pub fn uri(&self) -> String {
        match self.role {
            Role::Agent => format!("{TRUST_DOMAIN}agent/{}/{}", self.name, self.enrolment),
            Role::Coordinator => format!("{TRUST_DOMAIN}coordinator/{}", self.enrolment),
        }
    }
}

impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri())
    }
}

/// Reads from when and until when a certificate is good.
///
/// # Errors
///
/// If it cannot be parsed.
pub fn validity(certificate: &CertificateDer<'_>) -> Result<Validity, BadIdentity> {
    let certificate = parse(certificate)?;
    let moment = |seconds: i64| {
        Timestamp::from_unix_ms(u64::try_from(seconds).unwrap_or_default().saturating_mul(1000))
    };
    let validity = certificate.validity();
    Ok(Validity {
        not_before: moment(validity.not_before.timestamp()),
        not_after: moment(validity.not_after.timestamp()),
    })
}

/// Returns the DNS names and addresses that a server's certificate is good for.
///
/// # Errors
///
/// If it cannot be parsed.
pub fn host_names(certificate: &CertificateDer<'_>) -> Result<Vec<String>, BadIdentity> {
    let certificate = parse(certificate)?;
    let names = certificate.subject_alternative_name().map_err(|_| BadIdentity::Unreadable)?;
    let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
    Ok(names.iter().filter_map(as_host).collect())
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, BadIdentity> {
    match x509_parser::parse_x509_certificate(certificate) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) | Err(_) => Err(BadIdentity::Unreadable),
    }
}

fn as_uri<'a>(name: &GeneralName<'a>) -> Option<&'a str> {
    if let GeneralName::URI(uri) = name { Some(uri) } else { None }
}

fn as_host(name: &GeneralName<'_>) -> Option<String> {
    if let GeneralName::DNSName(dns) = name {
        return Some((*dns).to_owned());
    }
    let GeneralName::IPAddress(bytes) = name else { return None };
    if let Ok(v4) = <[u8; 4]>::try_from(*bytes) {
        return Some(std::net::Ipv4Addr::from(v4).to_string());
    }
    <[u8; 16]>::try_from(*bytes).ok().map(|v6| std::net::Ipv6Addr::from(v6).to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ENROLMENT: Uuid = Uuid::from_u128(0x0123_4567_89ab_4def_8123_4567_89ab_cdef);

    #[test]
    fn a_uri_of_ours_names_one_role_and_one_id() {
        let agent = "spiffe://cutover/agent/web-1/01234567-89ab-4def-8123-456789abcdef";
        let coordinator = "spiffe://cutover/coordinator/01234567-89ab-4def-8123-456789abcdef";

        let name = "web-1".parse().unwrap();
        assert_eq!(PeerIdentity::from_uri(agent), Ok(PeerIdentity::agent(&name, ENROLMENT)));
        assert_eq!(PeerIdentity::from_uri(coordinator), Ok(PeerIdentity::coordinator(ENROLMENT)));
    }

    #[test]
    fn every_other_spelling_is_nobody() {
        let id = ENROLMENT.to_string();
        for bad in [
            String::new(),
            "spiffe://cutover".to_owned(),
            format!("spiffe://cutover/agent/{id}"),
            format!("spiffe://cutover/agent/web/{id}/"),
            format!("spiffe://cutover/agent/web/{id}/x"),
            format!("spiffe://cutover/agent/web/{}", id.to_uppercase()),
            format!("spiffe://cutover/agent/web/{}", ENROLMENT.simple()),
            format!("spiffe://cutover/agent/web/{}", ENROLMENT.braced()),
            format!("spiffe://cutover/agent/web/urn:uuid:{id}"),
            format!("spiffe://cutover/agent/Web/{id}"),
            format!("spiffe://cutover/agent//{id}"),
            format!("spiffe://cutover/agent/../{id}"),
            format!("spiffe://cutover/agent/web%2f/{id}"),
            format!("spiffe://cutover/agent/web\0/{id}"),
            format!("spiffe://cutover/coordinator/web/{id}"),
            format!("spiffe://cutover/operator/{id}"),
            format!("spiffe://Cutover/agent/web/{id}"),
            format!("spiffe://cutover.example/agent/web/{id}"),
            format!("SPIFFE://cutover/agent/web/{id}"),
            format!(" spiffe://cutover/agent/web/{id}"),
            format!("spiffe://cutover/agent/web/{id}\n"),
            format!("spiffe://cutover/agent/web/{id}?x"),
        ] {
            let read = PeerIdentity::from_uri(&bad);
            assert!(matches!(read, Err(BadIdentity::ForeignUri { .. })), "{bad:?}: {read:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_was_written(name in "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", id: u128) {
            let identity = PeerIdentity::agent(&name.parse().unwrap(), Uuid::from_u128(id));
            prop_assert_eq!(PeerIdentity::from_uri(&identity.uri()), Ok(identity));
        }

        #[test]
        fn no_text_but_ours_is_read(text in ".{0,120}") {
            if let Ok(identity) = PeerIdentity::from_uri(&text) {
                prop_assert_eq!(identity.uri(), text);
            }
        }

        #[test]
        fn a_uri_with_a_change_names_somebody_else_or_nobody(at in 0..70_usize, byte in 0x20..0x7f_u8) {
            let identity = PeerIdentity::agent(&"web-1".parse().unwrap(), ENROLMENT);
            let mut bytes = identity.uri().into_bytes();
            let at = at % bytes.len();
            prop_assume!(bytes[at] != byte);
            bytes[at] = byte;
            prop_assert_ne!(PeerIdentity::from_uri(std::str::from_utf8(&bytes).unwrap()), Ok(identity));
        }

        #[test]
        fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let certificate = CertificateDer::from(bytes);
            prop_assert!(PeerIdentity::from_certificate(&certificate).is_err());
            prop_assert!(validity(&certificate).is_err());
            prop_assert!(host_names(&certificate).is_err());
        }
    }
}
