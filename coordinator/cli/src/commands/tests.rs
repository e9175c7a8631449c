//! What goes on after a lost connection: deploys, pushes, watches.

use std::{fs::File, io::Write as _, sync::Arc, time::Duration};

use cutover_common::Sha256;
use cutover_proto::v1 as pb;
use uuid::Uuid;

use super::{
    follow::{Ending, follow},
    push,
    retry::until_answered,
    *,
};
use crate::{
    args::rollout::WaitArgs,
    failure::Kind,
    grpc::{
        DeployOrder, Exclude, Order, ReleaseOffer, SimulateOrder,
        fake::{Fake, Script, rollout_in},
    },
};

fn console() -> Console {
    Console::of_this_process()
}

fn order() -> DeployOrder {
    DeployOrder {
        request_id: Uuid::from_u128(7),
        order: Order {
            release: "web@1".parse::<crate::args::values::ReleaseArg>().unwrap().0,
            environment: "production".parse().unwrap(),
            settings: crate::args::deploy::SettingArgs::default(),
            if_busy: crate::args::deploy::IfBusy::Refuse,
            despite_freeze: String::new(),
        },
    }
}

async fn follow_for(fake: &Fake, timeout: Option<Duration>) -> Result<Ending, Failure> {
    let wait = WaitArgs { timeout };
    follow(&fake.coordinator, console(), "0193ab12", wait).await
}

fn watching(watches: &[&[&str]]) -> Script {
    let told = |states: &&[&str]| states.iter().map(|state| rollout_in(state)).collect();
    Script { watches: watches.iter().map(told).collect(), ..Script::default() }
}

#[tokio::test]
async fn a_deploy_whose_answer_was_lost_is_sent_again_with_the_same_request_id() {
    let fake = Fake::start(Script { unanswered: 2, ..Script::default() }).await;

    let accepted = until_answered(console(), || {
        let coordinator = fake.coordinator.clone();
        async move { coordinator.deploy(&order()).await }
    })
    .await
    .unwrap();

    assert_eq!(accepted.rollout.as_str(), "0193ab12-3456-7abc-8def-0123456789ab");
    assert_eq!(fake.script().request_ids, vec![Uuid::from_u128(7).to_string(); 3]);
}

#[tokio::test]
async fn a_simulation_is_asked_for_as_it_was_typed_and_comes_back_as_it_was_told() {
    let line = |after_ms, text: &str| pb::SimulatedLine { after_ms, text: text.to_owned() };
    let told = pb::SimulateResponse {
        ending: "rolled_back".to_owned(),
        why: "Rolled back\u{1b}[2J.".to_owned(),
        story: vec![line(0, "started"), line(15_000, "batch 1 of 2")],
        host_ends: vec![pb::SimulatedHost { agent: "web-1".to_owned(), ..Default::default() }],
        ..pb::SimulateResponse::default()
    };
    let fake = Fake::start(Script { simulated: Some(told), ..Script::default() }).await;
    let asked = SimulateOrder {
        order: order().order,
        fail: vec!["web-3".parse().unwrap()],
        lose: vec!["zone-b".to_owned()],
        promote: true,
        starts_in: Duration::from_secs(20),
    };

    let simulated = fake.coordinator.simulate(&asked).await.unwrap();

    assert_eq!(simulated.why.as_str(), r"Rolled back\u{1b}[2J.");
    assert!(!simulated.ending.is_success());
    assert_eq!((simulated.story.len(), simulated.host_ends[0].running_version.as_ref()), (2, None));
    let heard = fake.script().simulations.pop().unwrap();
    assert_eq!((heard.fail, heard.lose), (vec!["web-3".to_owned()], vec!["zone-b".to_owned()]));
    assert_eq!((heard.promote, heard.starts_in_ms), (true, 20_000));
    assert_eq!(heard.deploy.unwrap().environment, "production");
}

#[tokio::test]
async fn an_exclusion_whose_answer_was_lost_is_sent_again_with_the_same_request_id() {
    let fake = Fake::start(Script { unanswered: 2, ..Script::default() }).await;
    let exclude = Exclude {
        request_id: Uuid::from_u128(7),
        rollout: "web".to_owned(),
        agents: vec!["web-1".parse().unwrap(), "web-2".parse().unwrap()],
        skip: false,
        reason: "a bad disk".to_owned(),
    };

    let controlled =
        until_answered(console(), || fake.coordinator.exclude(&exclude)).await.unwrap();

    assert_eq!(controlled.text.as_str(), "excluded: web-1, web-2 (a bad disk)");
    assert_eq!(fake.script().request_ids, vec![Uuid::from_u128(7).to_string(); 3]);
}

#[tokio::test]
async fn a_watch_goes_on_after_the_coordinator_was_away() {
    // It breaks off, is away for one try, and comes back with the end.
    let fake = Fake::start(watching(&[&["advancing"], &[], &["advancing", "succeeded"]])).await;

    let ending = follow_for(&fake, None).await.unwrap();

    assert_eq!(ending.outcome(), Outcome::Done);
    assert!(fake.script().watches.is_empty());
}

#[tokio::test]
async fn any_end_but_success_is_a_failure_for_a_script() {
    for state in ["rolled_back", "aborted", "held"] {
        // The stream may stay open after a hold: somebody may retry.
        let fake =
            Fake::start(Script { is_patient: true, ..watching(&[&["advancing", state]]) }).await;

        let ending = follow_for(&fake, None).await.unwrap();

        assert_eq!(ending.outcome(), Outcome::RolloutFailed, "{state}");
    }
}

#[tokio::test]
async fn what_is_queued_is_waited_for_and_a_refusal_of_its_turn_is_one() {
    let fake = Fake::start(watching(&[&["queued", "advancing", "succeeded"]])).await;
    assert_eq!(follow_for(&fake, None).await.unwrap().outcome(), Outcome::Done);

    let fake = Fake::start(watching(&[&["queued", "refused"]])).await;
    assert_eq!(follow_for(&fake, None).await.unwrap().outcome(), Outcome::Refused);
}

#[tokio::test]
async fn a_timeout_says_that_the_rollout_goes_on() {
    let fake = Fake::start(Script { is_patient: true, ..watching(&[&["advancing"]]) }).await;

    let failure = follow_for(&fake, Some(Duration::from_secs(1))).await.unwrap_err();

    insta::assert_snapshot!(failure, @r"
    error: the rollout was not over within 1s; it goes on
    hint: watch it again: cutover watch 0193ab12
    ");
    assert_eq!(failure.kind(), Kind::RolloutFailed);
}

#[tokio::test]
async fn a_coordinator_that_does_not_come_back_in_time_is_not_reachable() {
    let fake = Fake::start(watching(&[&["advancing"]])).await;

    let failure = follow_for(&fake, Some(Duration::from_secs(1))).await.unwrap_err();

    assert_eq!(failure.kind(), Kind::NotReachable, "{failure}");
}

/// 1 MiB that is the same nowhere.
fn archive() -> (Vec<u8>, Arc<File>, ReleaseOffer) {
    let bytes: Vec<u8> = (0..1_u32 << 18).flat_map(u32::to_le_bytes).collect();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    let digest = Sha256::of(&bytes);
    let offer = ReleaseOffer {
        version: "1".parse().unwrap(),
        manifest: String::new(),
        digest,
        size_bytes: bytes.len() as u64,
        archive_digest: digest,
        archive_size_bytes: bytes.len() as u64,
    };
    (bytes, Arc::new(file), offer)
}

#[tokio::test]
async fn a_push_goes_on_where_it_broke_off() {
    let (bytes, file, offer) = archive();
    let breaks = [300_000, 200_000].into();
    let fake = Fake::start(Script { breaks, wanted: bytes.len(), ..Script::default() }).await;

    let already_there =
        push::send(console(), &fake.coordinator, "web@1", &offer, &file).await.unwrap();

    assert!(!already_there);
    assert_eq!(fake.script().offsets, [0, 300_000, 500_000]);
    assert!(fake.script().received == bytes, "what arrived is what was sent");
}

#[tokio::test]
async fn a_push_whose_last_answer_was_lost_was_not_there_before() {
    let (bytes, file, offer) = archive();
    let breaks = [bytes.len()].into();
    let fake = Fake::start(Script { breaks, wanted: bytes.len(), ..Script::default() }).await;
    let send = || push::send(console(), &fake.coordinator, "web@1", &offer, &file);

    assert!(!send().await.unwrap());
    assert!(send().await.unwrap());
    assert_eq!(fake.script().offsets, [0]);
}
