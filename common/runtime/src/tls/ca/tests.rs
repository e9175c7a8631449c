//! What the authority signs, read back from the certificates.

use cutover_common::ErrorChain;
use rcgen::PKCS_ED25519;
use x509_parser::{extensions::GeneralName, prelude::X509Certificate};

use super::*;
use crate::{
    clock::wall,
    tls::{csr::KeyRequest, peer},
};

const ENROLMENT: Uuid = Uuid::from_u128(0xa);

fn authority() -> (tempfile::TempDir, CertificateAuthority) {
    let dir = tempfile::tempdir().unwrap();
    let ca = CertificateAuthority::create(dir.path(), wall()).unwrap();
    (dir, ca)
}

fn sign(ca: &CertificateAuthority, csr_pem: &str) -> IssuedCertificate {
    ca.sign_agent(csr_pem, &"web-1".parse().unwrap(), ENROLMENT, wall()).unwrap()
}

fn der(pem: &str) -> CertificateDer<'static> {
    files::certificates_in(pem).unwrap().remove(0)
}

fn with_parsed<T>(pem: &str, read: impl FnOnce(&X509Certificate<'_>) -> T) -> T {
    let der = der(pem);
    read(&x509_parser::parse_x509_certificate(&der).unwrap().1)
}

/// Asserts that a certificate is an agent's and nothing more.
fn assert_plain_agent(pem: &str) {
    with_parsed(pem, |certificate| {
        assert!(!certificate.is_ca());
        let usage = certificate.key_usage().unwrap().unwrap().value;
        assert!(usage.digital_signature() && !usage.key_cert_sign() && !usage.crl_sign());
        let purpose = certificate.extended_key_usage().unwrap().unwrap().value;
        assert!(purpose.client_auth && !purpose.server_auth && !purpose.any);
        assert!(!purpose.code_signing && purpose.other.is_empty());
        let names = &certificate.subject_alternative_name().unwrap().unwrap().value.general_names;
        let uri = format!("spiffe://cutover/agent/web-1/{ENROLMENT}");
        assert!(
            matches!(names.as_slice(), [GeneralName::URI(found)] if *found == uri),
            "{names:?}"
        );
        assert_eq!(certificate.subject().to_string(), "CN=web-1");
    });
}

#[test]
fn an_agents_certificate_says_one_name_one_role_and_one_day() {
    let (_dir, ca) = authority();
    let before = wall();
    let issued = sign(&ca, KeyRequest::generate().unwrap().csr_pem());

    assert_plain_agent(&issued.pem);
    let validity = peer::validity(&der(&issued.pem)).unwrap();
    assert_eq!(validity.not_after, issued.not_after);
    let life = validity.not_after.since(validity.not_before);
    assert_eq!(life, AGENT_VALID_FOR + BACKDATED_BY);
    assert!(before.since(validity.not_before) >= BACKDATED_BY);
    assert!(issued.not_after.since(before) <= AGENT_VALID_FOR + Duration::from_secs(60));
}

#[test]
fn a_request_that_asks_for_more_gets_none_of_it() {
    let (_dir, ca) = authority();
    let key = KeyPair::generate().unwrap();
    let mut greedy = CertificateParams::new(vec!["coordinator.example.com".to_owned()]).unwrap();
    let uri = |text: &str| SanType::URI(text.try_into().unwrap());
    greedy.subject_alt_names.push(uri(&format!("spiffe://cutover/coordinator/{ENROLMENT}")));
    greedy.subject_alt_names.push(uri(&format!("spiffe://cutover/agent/web-9/{ENROLMENT}")));
    greedy.subject_alt_names.push(SanType::IpAddress(IpAddr::from([10, 0, 0, 1])));
    greedy.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    greedy.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    greedy.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::Any, ExtendedKeyUsagePurpose::ServerAuth];
    greedy.distinguished_name.push(DnType::CommonName, "web-9,CN=coordinator\n");
    greedy.distinguished_name.push(DnType::OrganizationName, "admin");
    let csr = greedy.serialize_request(&key).unwrap().pem().unwrap();

    assert_plain_agent(&sign(&ca, &csr).pem);
}

#[test]
fn an_ed25519_key_is_signed_as_what_it_is() {
    let (_dir, ca) = authority();
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let csr = CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();

    let issued = sign(&ca, &csr);

    assert_plain_agent(&issued.pem);
    assert!(is_key_of(&der(&issued.pem), &key));
}

#[test]
fn no_two_serial_numbers_are_equal() {
    let (_dir, ca) = authority();
    let request = KeyRequest::generate().unwrap();
    let (one, two) = (sign(&ca, request.csr_pem()), sign(&ca, request.csr_pem()));

    assert_ne!(one.serial, two.serial);
    assert_eq!(one.serial.len(), 32);
    with_parsed(&one.pem, |certificate| {
        assert_eq!(certificate.raw_serial_as_string().replace(':', ""), one.serial);
    });
}

#[test]
fn a_refused_request_gets_no_certificate() {
    let (_dir, ca) = authority();

    let error =
        ca.sign_agent("not a request", &"web-1".parse().unwrap(), ENROLMENT, wall()).unwrap_err();

    assert!(matches!(error, SignAgent::Csr(BadCsr::Unreadable)));
    assert!(ErrorChain(&error).to_string().contains("PKCS #10"));
}

#[test]
fn a_servers_certificate_is_for_serving_under_its_names_for_a_month() {
    let (_dir, ca) = authority();
    let names = ["deploy.example.com", "10.0.0.1", "::1"].map(str::to_owned);
    let issued = ca.issue_server(&names, ENROLMENT, wall()).unwrap();

    let certificate = der(&issued.certificate_pem);
    assert_eq!(peer::host_names(&certificate).unwrap(), names);
    assert_eq!(
        PeerIdentity::from_certificate(&certificate),
        Ok(PeerIdentity::coordinator(ENROLMENT))
    );
    let validity = peer::validity(&certificate).unwrap();
    assert_eq!(validity.not_after.since(validity.not_before), SERVER_VALID_FOR + BACKDATED_BY);
    with_parsed(&issued.certificate_pem, |certificate| {
        assert!(!certificate.is_ca());
        let purpose = certificate.extended_key_usage().unwrap().unwrap().value;
        assert!(purpose.server_auth && !purpose.client_auth && !purpose.any);
    });
}

#[test]
fn a_name_that_is_no_host_is_refused_with_what_to_write() {
    let (_dir, ca) = authority();
    for bad in ["", "a b", "https://x", "x:7440", "*", "a\0b", "-", "é"] {
        let error = ca.issue_server(&[bad.to_owned()], ENROLMENT, wall()).unwrap_err();
        assert!(error.to_string().contains("--name deploy.example.com"), "{bad:?}: {error}");
    }
    assert!(matches!(
        ca.issue_server(&[], ENROLMENT, wall()),
        Err(IssueServer::NameCount { count: 0 })
    ));
}

#[test]
fn the_authority_signs_leaves_only_and_lives_ten_years() {
    let (dir, ca) = authority();
    let loaded = CertificateAuthority::load(dir.path()).unwrap();

    assert_eq!(loaded.ca_hash(), ca.ca_hash());
    assert_eq!(ca.ca_hash(), Sha256::of(ca.certificate()));
    with_parsed(ca.pem(), |certificate| {
        let constraints = certificate.basic_constraints().unwrap().unwrap().value;
        assert!(constraints.ca);
        assert_eq!(constraints.path_len_constraint, Some(0));
    });
    let validity = peer::validity(ca.certificate()).unwrap();
    assert_eq!(validity.not_after.since(validity.not_before), CA_VALID_FOR + BACKDATED_BY);
}
