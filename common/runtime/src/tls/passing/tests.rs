//! Every kind of server that may or may not stand in, in a handshake.

use std::time::Duration;

use cutover_common::ErrorChain;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PKCS_ED25519,
    date_time_ymd,
};
use rustls::{
    ServerConfig,
    crypto::ring::sign::any_supported_type,
    sign::{CertifiedKey, SingleCertAndKey},
};
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;

const NAME: &str = "shop.example";

fn params(names: &[&str]) -> CertificateParams {
    CertificateParams::new(names.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>()).unwrap()
}

fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

/// Returns an authority.
fn authority() -> CertifiedIssuer<'static, KeyPair> {
    authority_named("an authority")
}

fn authority_named(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = params(&[]);
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, key()).unwrap()
}

/// Returns a certificate for `names`, and its issuer's behind it.
fn chain(
    names: &[&str],
    key: &KeyPair,
    issuer: &CertifiedIssuer<'_, KeyPair>,
) -> Vec<CertificateDer<'static>> {
    chain_of(&params(names), key, issuer)
}

fn chain_of(
    params: &CertificateParams,
    key: &KeyPair,
    issuer: &CertifiedIssuer<'_, KeyPair>,
) -> Vec<CertificateDer<'static>> {
    vec![params.signed_by(key, issuer).unwrap().der().clone(), issuer.der().clone()]
}

fn alone(params: &CertificateParams, key: &KeyPair) -> Vec<CertificateDer<'static>> {
    vec![params.self_signed(key).unwrap().der().clone()]
}

/// Has who shows `own` shake hands with a server that shows `shown` and signs with `key`.
async fn shake_hands(
    own: &[CertificateDer<'static>],
    shown: Vec<CertificateDer<'static>>,
    key: &KeyPair,
) -> io::Result<()> {
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    // Not looked at whether the two go together, as one who poses as another would not.
    let shown = CertifiedKey::new(shown, any_supported_type(&key).unwrap());
    let server = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(shown)));
    let (ours, theirs) = duplex(64 * 1024);
    let server = tokio::spawn(async move {
        let mut stream = TlsAcceptor::from(Arc::new(server)).accept(theirs).await?;
        assert_eq!(stream.get_ref().1.server_name(), None, "nothing is said of a name");
        stream.write_all(b"hello").await?;
        stream.shutdown().await
    });
    let client = TlsConnector::from(passing_config(own, &[]).unwrap());
    let to = ServerName::try_from("192.0.2.1").unwrap();
    let mut stream = client.connect(to, ours).await?;
    let mut said = String::new();
    stream.read_to_string(&mut said).await?;
    assert_eq!(said, "hello");
    server.await.unwrap()
}

/// Demands that it is refused, and returns why in words.
async fn refused(
    own: &[CertificateDer<'static>],
    shown: Vec<CertificateDer<'static>>,
    key: &KeyPair,
) -> Stranger {
    let failure = shake_hands(own, shown, key).await.unwrap_err();
    Stranger::in_failure(&failure).unwrap_or_else(|| panic!("{failure:?}")).clone()
}

fn is_no_kin(stranger: &Stranger, why: impl Fn(&CertificateError) -> bool) -> bool {
    let Stranger::NoKin { source: Error::InvalidCertificate(error), .. } = stranger else {
        return false;
    };
    why(error)
}

#[tokio::test]
async fn who_has_the_same_key_may_stand_in_whatever_its_certificate_says() {
    for key in [key(), KeyPair::generate_for(&PKCS_ED25519).unwrap()] {
        let own = alone(&params(&[NAME]), &key);
        let mut ended = params(&["another.example"]);
        ended.not_after = date_time_ymd(2001, 1, 1);
        ended.not_before = date_time_ymd(2000, 1, 1);

        shake_hands(&own, own.clone(), &key).await.unwrap();
        shake_hands(&own, alone(&ended, &key), &key).await.unwrap();
        shake_hands(&own, chain_of(&ended, &key, &authority()), &key).await.unwrap();
    }
}

fn assert_is_signature(failure: &io::Error) {
    let error = failure.get_ref().unwrap().downcast_ref::<Error>().unwrap();
    assert_eq!(*error, Error::InvalidCertificate(CertificateError::BadSignature));
}

#[tokio::test]
async fn who_shows_the_certificate_and_has_not_its_key_is_refused() {
    let (own_key, another) = (key(), key());
    let issuer = authority();
    for own in [alone(&params(&[NAME]), &own_key), chain(&[NAME], &own_key, &issuer)] {
        let failure = shake_hands(&own, own.clone(), &another).await.unwrap_err();
        assert_is_signature(&failure);
    }
    // The same of one who would be accepted for its issuer and name.
    let shown = chain(&[NAME], &own_key, &issuer);
    let failure = shake_hands(&chain(&[NAME], &key(), &issuer), shown, &another).await.unwrap_err();
    assert_is_signature(&failure);
}

#[tokio::test]
async fn who_has_a_certificate_of_the_same_issuer_for_the_same_name_may_stand_in() {
    let (issuer, other) = (authority(), key());
    for (own, shown) in [
        (&[NAME][..], &[NAME][..]),
        (&[NAME, "b.example"], &["b.example", NAME]),
        (&["10.0.0.1"], &["10.0.0.2", "10.0.0.1"]),
        (&["www.shop.example"], &["*.shop.example"]),
        (&["*.shop.example"], &["*.shop.example"]),
    ] {
        let own = chain(own, &key(), &issuer);
        shake_hands(&own, chain(shown, &other, &issuer), &other).await.unwrap();
    }
}

#[tokio::test]
async fn an_issuer_in_between_is_enough_and_the_rest_of_the_chain_may_be_absent() {
    let root = authority();
    let mut params = params(&[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let between = CertifiedIssuer::signed_by(params, key(), &root).unwrap();
    let (own, other) = (chain(&[NAME], &key(), &between), key());
    let mut shown = chain(&[NAME], &other, &between);

    shake_hands(&own, shown.clone(), &other).await.unwrap();
    shown.truncate(1);
    shake_hands(&own, shown.clone(), &other).await.unwrap();
    // Whoever knows the root alone is shown what is in between.
    let of_root = chain(&[NAME], &key(), &root);
    shown.push(between.der().clone());
    shake_hands(&of_root, shown, &other).await.unwrap();
}

#[tokio::test]
async fn another_issuer_name_or_time_is_refused_in_words() {
    let (issuer, other) = (authority(), key());
    let own = chain(&[NAME, "b.example"], &key(), &issuer);

    let foreign = chain(&[NAME], &other, &authority_named("another"));
    let foreign = refused(&own, foreign, &other).await;
    assert!(is_no_kin(&foreign, |it| *it == CertificateError::UnknownIssuer), "{foreign:?}");
    let namesake = refused(&own, chain(&[NAME], &other, &authority()), &other).await;
    assert!(is_no_kin(&namesake, |it| *it == CertificateError::BadSignature), "{namesake:?}");
    let itself = refused(&own, alone(&params(&[NAME]), &other), &other).await;
    assert!(is_no_kin(&itself, |_| true), "{itself:?}");
    // The first of the own names counts, as the others may be of other services.
    let named = refused(&own, chain(&["b.example"], &other, &issuer), &other).await;
    let is_name =
        |it: &CertificateError| matches!(it, CertificateError::NotValidForNameContext { .. });
    assert!(is_no_kin(&named, is_name), "{named:?}");
    assert!(named.to_string().contains("not one for shop.example by an issuer"), "{named}");
    let mut ended = params(&[NAME]);
    ended.not_after = date_time_ymd(2001, 1, 1);
    ended.not_before = date_time_ymd(2000, 1, 1);
    let ended = refused(&own, chain_of(&ended, &other, &issuer), &other).await;
    assert!(matches!(ended, Stranger::OutOfTime(OutOfTime::Ended { .. })), "{ended:?}");
}

#[test]
fn a_certificate_out_of_its_time_is_refused_in_the_same_words_whenever_that_is() {
    let (issuer, other) = (authority(), key());
    let verifier = StandInVerifier::of(&chain(&[NAME], &key(), &issuer));
    let mut of_2010 = params(&[NAME]);
    of_2010.not_before = date_time_ymd(2010, 1, 1);
    of_2010.not_after = date_time_ymd(2011, 1, 1);
    let shown = chain_of(&of_2010, &other, &issuer);
    let name = ServerName::try_from("192.0.2.1").unwrap();
    let refused_at = |unix: u64| {
        let now = UnixTime::since_unix_epoch(Duration::from_secs(unix));
        let refused = verifier.verify_server_cert(&shown[0], &shown[1..], &name, &[], now);
        let failure = io::Error::other(refused.unwrap_err());
        ErrorChain(Stranger::in_failure(&failure).unwrap()).to_string()
    };

    for (unix, why) in [
        (1_230_000_000, "begins at 2010-01-01T00:00:00Z"),
        (1_300_000_000, "ended at 2011-01-01T00:00:00Z"),
    ] {
        let words = refused_at(unix);
        assert!(words.ends_with(why), "{words}");
        assert_eq!(refused_at(unix + 1), words);
    }
}

#[tokio::test]
async fn a_wildcard_is_met_by_itself_and_not_by_one_of_its_names() {
    let (issuer, other) = (authority(), key());
    let own = chain(&["*.shop.example"], &key(), &issuer);

    for shown in [ANY_LABEL, "www"].map(|label| format!("{label}.shop.example")) {
        let refused = refused(&own, chain(&[&shown], &other, &issuer), &other).await;
        assert!(is_no_kin(&refused, |_| true), "{refused:?}");
    }
}

#[tokio::test]
async fn without_an_issuer_or_a_name_there_is_only_the_key() {
    let (issuer, other) = (authority(), key());
    let shown = || chain(&[NAME], &other, &issuer);

    let alone = alone(&params(&[NAME]), &key());
    assert_eq!(refused(&alone, shown(), &other).await, Stranger::OtherKey);
    let nameless = chain(&[], &key(), &issuer);
    assert_eq!(refused(&nameless, shown(), &other).await, Stranger::Nameless);
    assert_eq!(refused(&[], shown(), &other).await, Stranger::OtherKey);
    let garbage = CertificateDer::from(vec![0x30, 0x03, 1, 2, 3]);
    assert_eq!(refused(&[garbage], shown(), &other).await, Stranger::OtherKey);
}
