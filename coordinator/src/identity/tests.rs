//! The identity over its life: made, loaded, renewed, damaged.

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use cutover_common::ErrorChain;
use cutover_runtime::clock::wall;

use super::*;

const INCARNATION: Uuid = Uuid::from_u128(7);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn made(now: Timestamp) -> (tempfile::TempDir, Identity) {
    let data = tempfile::tempdir().unwrap();
    let names = ["deploy.example.com".to_owned(), "10.0.0.1".to_owned()];
    let identity = Identity::init(data.path(), &names, INCARNATION, now).unwrap();
    (data, identity)
}

#[test]
fn an_authority_is_made_once() {
    let (data, _) = made(wall());

    let again = Identity::init(data.path(), &["h".to_owned()], INCARNATION, wall());

    let error = again.err().unwrap();
    assert!(ErrorChain(&error).to_string().contains("already has a certificate authority"));
}

#[test]
fn what_was_made_is_what_is_loaded() {
    let (data, identity) = made(wall());

    let opened = Identity::open(data.path(), INCARNATION, [], wall()).unwrap();

    assert_eq!(opened.ca.ca_hash(), identity.ca.ca_hash());
    assert_eq!(opened.server.leaf(), identity.server.leaf());
    assert_eq!(
        peer::host_names(&opened.server.leaf()).unwrap(),
        ["deploy.example.com", "10.0.0.1", "localhost", "127.0.0.1"]
    );
}

#[test]
fn keys_are_for_their_owner_alone() {
    let (data, _) = made(wall());
    let dir = data.path().join("identity");

    for (name, mode) in [("", 0o700), ("ca-key.pem", 0o600), ("server-key.pem", 0o600)] {
        let metadata = fs::metadata(dir.join(name)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o7777, mode, "{name}");
    }
}

#[test]
fn a_key_that_others_may_read_refuses_the_start() {
    for name in ["ca-key.pem", "server-key.pem"] {
        let (data, _) = made(wall());
        let path = data.path().join("identity").join(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();

        let error = Identity::open(data.path(), INCARNATION, [], wall()).err().unwrap();

        let text = ErrorChain(&error).to_string();
        assert!(text.contains(&format!("chmod 600 {}", path.display())), "{text}");
    }
}

#[test]
fn the_servers_certificate_is_made_anew_in_its_second_half_and_keeps_its_names() {
    let (data, identity) = made(wall());
    let first = identity.server.leaf();

    let early = Identity::open(data.path(), INCARNATION, [], wall() + 14 * DAY).unwrap();
    assert_eq!(early.server.leaf(), first);

    let late = Identity::open(data.path(), INCARNATION, [], wall() + 16 * DAY).unwrap();
    assert_ne!(late.server.leaf(), first);
    assert_eq!(peer::host_names(&late.server.leaf()), peer::host_names(&first));
    assert_eq!(late.ca.ca_hash(), identity.ca.ca_hash());
}

#[test]
fn a_running_coordinator_renews_in_place() {
    let (data, identity) = made(wall());

    let due = wall() + 16 * DAY;
    assert!(matches!(identity.reissue_if_due(wall()), Ok(Reissue::NotDue { .. })));
    assert!(matches!(identity.reissue_if_due(due), Ok(Reissue::Reissued { .. })));

    let opened = Identity::open(data.path(), INCARNATION, [], due).unwrap();
    assert_eq!(opened.server.leaf(), identity.server.leaf());
}

#[test]
fn another_incarnation_gets_a_certificate_of_its_own() {
    let (data, _) = made(wall());
    let restored = Uuid::from_u128(8);

    let opened = Identity::open(data.path(), restored, [], wall()).unwrap();

    assert_eq!(
        PeerIdentity::from_certificate(&opened.server.leaf()),
        Ok(PeerIdentity::coordinator(restored))
    );
}

#[test]
fn a_key_without_its_certificate_after_a_crash_is_repaired() {
    let (data, identity) = made(wall());
    let key = data.path().join("identity/server-key.pem");
    let other = identity.ca.issue_server(&["h".to_owned()], INCARNATION, wall()).unwrap();
    files::write(&key, other.key_pem.as_bytes(), Access::Owner).unwrap();

    let opened = Identity::open(data.path(), INCARNATION, [], wall()).unwrap();

    assert_ne!(opened.server.leaf(), identity.server.leaf());
    assert_eq!(peer::host_names(&opened.server.leaf()).unwrap().len(), 4);
}

#[test]
fn the_authoritys_key_must_be_its_own() {
    let (data, _) = made(wall());
    let (other, _) = made(wall());
    let key = "identity/ca-key.pem";
    fs::copy(other.path().join(key), data.path().join(key)).unwrap();

    let error = Identity::open(data.path(), INCARNATION, [], wall()).err().unwrap();

    assert!(ErrorChain(&error).to_string().contains("does not belong"), "{}", ErrorChain(&error));
}
