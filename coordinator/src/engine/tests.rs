//! The loop with a real core, store and authority.

use std::time::Duration;

use cutover_common::Sha256;
use cutover_coordinator_core::Request;
use cutover_runtime::{
    clock::wall,
    tls::{
        csr::{KeyRequest, ProvenKey},
        files, peer,
    },
};
use uuid::Uuid;

use super::testing::House;

#[tokio::test]
async fn certificates_are_signed_by_the_wall_when_the_logs_time_is_ahead_of_it() {
    // A machine whose clock was wrong for a moment leaves events of the future in the log.
    let house = House::at(wall() + Duration::from_secs(7 * 24 * 60 * 60));
    let (name, token_hash) = ("web-1".parse().unwrap(), Sha256::of(b"token"));
    let expires = house.engine.look(|_, now| now + Duration::from_secs(60)).await.unwrap();
    let labels = std::collections::BTreeMap::new();
    let token =
        Request::CreateJoinToken { token_hash, name: None, labels: labels.clone(), expires };
    house.engine.ask("ann", token).await.unwrap().unwrap();
    let key = KeyRequest::generate().unwrap();
    let key_hash = ProvenKey::parse(key.csr_pem()).unwrap().hash();
    let enrolment = Uuid::from_u128(1);

    let join = Request::Join { token_hash, name, labels, enrolment, key_hash };
    let issued = house.engine.sign(join, key.csr_pem().to_owned()).await.unwrap().unwrap();

    let chain = files::certificates_in(&issued.pem).unwrap();
    let validity = peer::validity(&chain[0]).unwrap();
    assert!(validity.not_before <= wall(), "{validity:?}");
    assert!(validity.not_after <= wall() + Duration::from_secs(25 * 60 * 60), "{validity:?}");
}
