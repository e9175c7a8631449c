//! Blue/green with the real programs: staged, promoted, cut over, kept, and rolled back or retired.

use cutover_tests::live::{Cluster, Fleet};

/// Returns what the instance of `version` on host `index` answers where it listens itself.
fn preview(fleet: &Fleet, index: usize, version: &str) -> Option<String> {
    Cluster::get_from(*fleet.starts(index, version).last()?, "/")
}

#[test]
fn what_is_staged_is_seen_by_nobody_until_a_person_promotes_it_and_the_old_one_retires_at_the_end()
{
    let fleet = Fleet::start(2);
    let clients = fleet.ask();
    fleet.begin_blue_green("2", &["--approve", "--keep", "1h"]);
    fleet.until_why_says("waits for a person");
    for index in 0..2 {
        let page = preview(&fleet, index, "2").unwrap();
        assert!(page.contains("web 2 "), "{page}");
    }
    clients.heard().all_is_well().only("1");

    fleet.tell("promote");
    fleet.until_why_says("Watching the batch");
    clients.heard().all_is_well().moved("1", "2");
    for index in 0..2 {
        let page = preview(&fleet, index, "1").unwrap();
        assert!(page.contains("web 1 "), "the old one stays warm: {page}");
    }

    fleet.tell("promote");
    fleet.until_over_as("succeeded");
    fleet.until_it_is_gone("1");
    clients.heard().all_is_well().only("2");
    assert_eq!((fleet.starts_everywhere("1"), fleet.starts_everywhere("2")), (2, 2));
}

#[test]
fn a_rollback_while_the_old_one_is_kept_starts_nothing() {
    let fleet = Fleet::start(2);
    let before = fleet.cluster.instances(Fleet::PORT);
    let clients = fleet.ask();
    fleet.begin_blue_green("2", &["--keep", "1h"]);
    fleet.until_why_says("Watching the batch");
    clients.heard().all_is_well().moved("1", "2");

    fleet.tell("rollback");
    fleet.until_over_as("rolled_back");

    clients.heard().all_is_well().moved("2", "1");
    assert_eq!(fleet.cluster.instances(Fleet::PORT), before);
    fleet.until_it_is_gone("2");
    assert_eq!((fleet.starts_everywhere("1"), fleet.starts_everywhere("2")), (2, 2));
}

#[test]
fn what_was_tried_until_smoke_is_cut_over_without_being_started_again() {
    let fleet = Fleet::start(2);
    let clients = fleet.ask();
    fleet.deploy("2", &["--strategy", "blue_green", "--until", "smoke"]).done();
    fleet.until_over_as("staged");
    let page = preview(&fleet, 0, "2").unwrap();
    assert!(page.contains("web 2 "), "{page}");
    clients.heard().all_is_well().only("1");

    fleet.begin_blue_green("2", &["--keep", "0s"]);
    fleet.until_over_as("succeeded");

    clients.heard().all_is_well().moved("1", "2");
    assert_eq!(fleet.starts_everywhere("2"), 2, "one start a host, for both deploys");
}
