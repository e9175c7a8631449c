//! Each guard of the store, except those within sled and those against damage.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;
use crate::store::{
    BATCH_BYTES_MAX, EVENT_BYTES_MAX, check,
    directory::{copy_directory, files_of},
    luck::Luck,
    place::{Place, assert_holds, event, fill},
};

#[test]
fn a_store_that_was_closed_opens_with_everything_under_the_same_incarnation_and_head() {
    let place = Place::new();
    let (incarnation, head) = {
        let mut store = place.create();
        fill(&mut store, 300);
        (store.incarnation(), store.head())
    };

    let mut store = place.open().expect("opened");
    assert_holds(&store, 300);
    assert_eq!((store.incarnation(), store.head()), (incarnation, head));
    fill(&mut store, 5);
    drop(store);
    assert_holds(&place.open().expect("opened again"), 305);
}

#[test]
fn what_only_the_anchor_has_is_added_on_opening() {
    let place = Place::killed(300);

    let report = check(&place.dir).expect("whole");
    assert!(report.completed_events > 0, "sled had everything: {report:?}");
    assert_holds(&place.open().expect("opened"), 300);
    assert_eq!(check(&place.dir).expect("whole").completed_events, 0);
}

#[test]
fn the_ring_goes_round_many_times_and_every_kill_on_the_way_loses_nothing() {
    let place = Place::new();
    let mut store = place.create();
    let mut luck = Luck::from_environment();
    let mut model: Vec<Vec<u8>> = Vec::new();
    // 30 MB through a ring of 4 MiB.
    for round in 0..60 {
        let length =
            if luck.within(0..4) == 0 { EVENT_BYTES_MAX } else { luck.within(0..BATCH_BYTES_MAX) };
        let event = luck.bytes(length.min(EVENT_BYTES_MAX));
        store.append(store.last(), std::slice::from_ref(&event)).expect("appended");
        model.push(event);
        if round % 6 == 0 {
            let killed = place.copy();
            let reopened = killed.open().expect("opened");
            let log: Vec<Vec<u8>> = reopened
                .read_after(Sequence::ZERO)
                .map(|event| event.expect("readable").1)
                .collect();
            assert!(log == model, "the log differs after {round} events");
        }
    }
}

#[test]
fn a_snapshot_that_sled_was_killed_in_is_removed_and_the_store_opens() {
    let place = Place::closed(20);
    let unfinished = place.dir.join("sled/snap.00000000FFFFFFFF.generating");
    fs::write(&unfinished, "").expect("written");

    assert_holds(&place.open().expect("opened"), 20);
    assert!(!unfinished.exists());
}

#[test]
fn a_second_coordinator_is_told_who_has_the_store_until_that_one_is_gone() {
    let place = Place::new();
    let store = place.create();

    let told = place.refused("STORE_LOCKED");
    let pid = format!("locked by another coordinator (pid {})", std::process::id());
    assert!(told.contains(&pid), "{told}");
    assert_eq!(check(&place.dir).expect_err("refused").code(), "STORE_LOCKED");
    drop(store);
    place.open().expect("opened");
}

#[test]
fn reading_keeps_the_store_locked() {
    let place = Place::new();
    let mut store = place.create();
    fill(&mut store, 3);
    let reading = store.read_after(Sequence::ZERO);
    drop(store);

    place.refused("STORE_LOCKED");
    assert_eq!(reading.filter(Result::is_ok).count(), 3);
    place.open().expect("opened");
}

#[test]
fn a_newer_format_is_refused_with_both_versions() {
    let place = Place::closed(1);
    let path = place.dir.join("format");
    let text = fs::read_to_string(&path).expect("a text").replace("format = 1", "format = 2");
    let (body, _sum) = text.split_once("checksum").expect("a checksum");
    fs::write(&path, format!("{body}checksum = {}\n", format::checksum(body))).expect("written");

    let told = place.refused("STORE_NEWER");
    assert!(told.contains("has format 2 and this coordinator reads formats up to 1"), "{told}");
}

#[test]
fn a_directory_that_is_open_to_others_or_a_link_or_no_directory_is_refused() {
    let place = Place::closed(1);
    let other = Place::new();
    symlink(&place.dir, &other.dir).expect("linked");
    assert!(other.refused("STORE_PERMISSIONS").contains("symbolic link"));
    fs::remove_file(&other.dir).expect("removed");
    fs::write(&other.dir, "").expect("written");
    assert!(other.refused("STORE_PERMISSIONS").contains("is no directory"));

    fs::set_permissions(&place.dir, fs::Permissions::from_mode(0o750)).expect("changed");
    assert!(place.refused("STORE_PERMISSIONS").contains("chmod 700"));
    fs::set_permissions(&place.dir, fs::Permissions::from_mode(0o700)).expect("changed");
    assert_holds(&place.open().expect("opened"), 1);
}

#[test]
fn everything_that_is_created_is_private() {
    let place = Place::closed(1);
    let mode = |name: &str| {
        fs::metadata(place.dir.join(name)).expect("there").permissions().mode() & 0o777
    };

    assert_eq!(mode(""), 0o700);
    assert_eq!([mode("lock"), mode("format"), mode("anchor")], [0o600; 3]);
}

#[test]
fn a_store_is_not_created_over_anything_and_not_opened_where_there_is_none() {
    let place = Place::new();
    assert!(place.refused("STORE_MISSING").contains("cutover-coordinator init"));
    fs::create_dir(&place.dir).expect("created");
    fs::set_permissions(&place.dir, fs::Permissions::from_mode(0o700)).expect("changed");
    place.refused("STORE_MISSING");
    assert!(!holds_anything(&place.dir).expect("readable"), "opening left something behind");

    drop(place.create());
    let refused = SledStore::create(&place.dir).expect_err("refused");
    assert_eq!(refused.code(), "STORE_OCCUPIED");
    place.open().expect("opened");
}

#[test]
fn nothing_stays_beside_a_new_store() {
    let place = Place::closed(1);
    let names: Vec<_> = fs::read_dir(place.dir.parent().expect("a parent"))
        .expect("readable")
        .map(|entry| entry.expect("readable").file_name())
        .collect();

    assert_eq!(names, ["store"]);
}

#[test]
fn a_blob_is_refused_on_opening_and_stops_a_store_in_use_for_good() {
    let place = Place::new();
    let mut store = place.create();
    fill(&mut store, 3);
    let blob = place.dir.join("sled/blobs/1234");
    fs::write(&blob, "").expect("written");

    let failed = store.settle().expect_err("failed");
    assert!(matches!(failed, AppendError::Poisoned { .. }) && failed.is_fatal(), "{failed:?}");
    fs::remove_file(&blob).expect("removed");
    let refused = store.append(Sequence(3), &[event(4)]).expect_err("refused");
    assert!(matches!(refused, AppendError::Poisoned { .. }), "{refused:?}");
    assert!(matches!(store.settle(), Err(AppendError::Poisoned { .. })));
    drop(store);
    fs::write(&blob, "").expect("written");
    assert!(place.refused("STORE_DAMAGED").contains("blobs"));
    fs::remove_file(&blob).expect("removed");
    let mut store = place.open().expect("opened");
    fill(&mut store, 1);
    assert_holds(&store, 4);
}

#[test]
fn a_store_without_one_of_its_files_is_refused_or_whole() {
    for name in ["format", "anchor"] {
        let place = Place::closed(20);
        fs::remove_file(place.dir.join(name)).expect("removed");
        assert!(place.refused("STORE_DAMAGED").contains("cutover-coordinator restore"));
    }
    let place = Place::closed(20);
    fs::remove_dir_all(place.dir.join("sled")).expect("removed");
    assert_holds(&place.open().expect("the anchor had everything"), 20);
}

#[test]
fn a_log_that_is_shorter_than_its_anchor_can_fill_is_refused() {
    let place = Place::new();
    let mut store = place.create();
    fill(&mut store, 20);
    store.settle().expect("settled");
    let old = place.copy();
    // More than the ring holds.
    for _ in 0..6 {
        store.append(store.last(), &[vec![0; EVENT_BYTES_MAX]]).expect("appended");
    }
    drop(store);
    fs::remove_dir_all(place.dir.join("sled")).expect("removed");
    copy_directory(&old.dir.join("sled"), &place.dir.join("sled")).expect("copied");

    let told = place.refused("STORE_DAMAGED");
    assert!(told.contains("ends at event 20 and had reached"), "{told}");
    assert_eq!(check(&place.dir).expect_err("refused").code(), "STORE_DAMAGED");
}

#[test]
fn the_anchor_or_the_log_of_another_store_is_refused() {
    for part in ["anchor", "format"] {
        let (place, other) = (Place::closed(20), Place::closed(20));
        fs::copy(other.dir.join(part), place.dir.join(part)).expect("copied");
        place.refused("STORE_DAMAGED");
    }
    let (place, other) = (Place::closed(20), Place::closed(20));
    fs::remove_dir_all(place.dir.join("sled")).expect("removed");
    copy_directory(&other.dir.join("sled"), &place.dir.join("sled")).expect("copied");
    assert!(place.refused("STORE_DAMAGED").contains("event 1 does not match its hash"));
}

#[test]
fn the_log_of_a_copy_that_went_another_way_is_refused() {
    let place = Place::closed(20);
    let other = place.copy();
    fill(&mut place.open().expect("opened"), 2);
    let mut store = other.open().expect("opened");
    store.append(Sequence(20), &[b"another".to_vec(), b"way".to_vec()]).expect("appended");
    drop(store);
    fs::remove_dir_all(place.dir.join("sled")).expect("removed");
    copy_directory(&other.dir.join("sled"), &place.dir.join("sled")).expect("copied");

    let told = place.refused("STORE_DAMAGED");
    assert!(told.contains("its log and its anchor differ up to event 21"), "{told}");
}

#[test]
fn checking_reports_what_is_there_and_changes_nothing() {
    let place = Place::killed(300);
    let files = |place: &Place| {
        let mut files = files_of(&place.dir).expect("files");
        files.extend(files_of(&place.dir.join("sled")).expect("files"));
        files.sort();
        files
            .into_iter()
            .filter(|file| !file.ends_with("lock"))
            .map(|file| (fs::read(&file).expect("readable"), file))
            .collect::<Vec<_>>()
    };
    let before = files(&place);

    let report = check(&place.dir).expect("whole");
    assert!(files(&place) == before, "checking has changed the store");
    let store = place.open().expect("opened");
    assert_eq!(
        (report.events, report.incarnation, report.head),
        (300, store.incarnation(), store.head())
    );
    let event_bytes: usize = (1..=300).map(|sequence| event(sequence).len()).sum();
    assert_eq!(report.event_bytes, event_bytes as u64);
    assert!(report.disk_bytes > report.event_bytes);
}
