//! Host after host with the real programs, under traffic: a restart, a window that slides, and
//! batches after which a person is asked.

use std::time::Duration;

use cutover_tests::live::{Fleet, wait_for};

/// How long an instance may take to start, on a machine that is busy.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

#[test]
fn a_restart_replaces_every_instance_by_one_of_the_same_release_and_no_request_fails() {
    let fleet = Fleet::start(3);
    let before = fleet.cluster.instances(Fleet::PORT);
    let clients = fleet.ask();

    fleet.deploy("1", &["--strategy", "restart", "--batch", "1"]).done();

    clients.heard().all_is_well().only("1");
    let after = fleet.cluster.instances(Fleet::PORT);
    for (old, new) in before.iter().zip(&after) {
        assert!(old.is_some() && new.is_some() && old != new, "{before:?}, and then {after:?}");
    }
    assert_eq!(fleet.starts_by_host("1"), [2, 2, 2]);
}

#[test]
fn a_window_slides_past_a_host_that_takes_long_is_never_wider_and_no_request_fails() {
    let fleet = Fleet::start(4);
    let hosts = fleet.cluster.hosts(Fleet::PORT);
    fleet.push_moody("2-late");
    let clients = fleet.ask();

    fleet.deploy("2-late", &["--sliding", "--batch", "2", "--no-watch"]).done();
    fleet.until_why_says("for web-1, web-2 to be healthy");
    (2..4).for_each(|index| fleet.make_healthy(index));
    wait_for("two hosts to start it", STARTS_WITHIN, || {
        (fleet.starts_by_host("2-late")[..2] == [1, 1]).then_some(())
    });
    clients.heard().all_is_well().only("1");
    assert_eq!(fleet.starts_by_host("2-late"), [1, 1, 0, 0], "the window is full");

    fleet.make_healthy(1);
    fleet.until_why_says("3 of 4 hosts run 2-late");
    let heard = clients.heard();
    hosts[1..].iter().for_each(|host| heard.of(*host).all_is_well().moved("1", "2-late"));
    heard.of(hosts[0]).all_is_well().only("1");

    fleet.make_healthy(0);
    fleet.until_over_as("succeeded");
    clients.heard().of(hosts[0]).all_is_well().moved("1", "2-late");
    clients.heard().all_is_well().only("2-late");
    assert_eq!(fleet.starts_by_host("2-late"), [1, 1, 1, 1]);
}

#[test]
fn a_rollout_waits_for_a_person_after_each_batch_it_was_told_to_also_when_its_coordinator_is_killed()
 {
    let mut fleet = Fleet::start(3);
    let hosts = fleet.cluster.hosts(Fleet::PORT);
    let clients = fleet.ask();
    fleet.deploy("2", &["--batch", "1", "--pause-after", "1,2", "--no-watch"]).done();
    fleet.until_why_says("Batch 1 is done, and waits for a person to promote it.");

    // A restart is no promotion.
    fleet.cluster.kill_the_coordinator();
    fleet.cluster.start_the_coordinator();
    fleet.cluster.wait_until_live(3);
    fleet.until_why_says("Batch 1 is done, and waits for a person to promote it.");
    let heard = clients.heard();
    heard.of(hosts[0]).all_is_well().moved("1", "2");
    hosts[1..].iter().for_each(|host| heard.of(*host).all_is_well().only("1"));
    assert_eq!(fleet.starts_by_host("2"), [1, 0, 0]);

    fleet.tell("promote");
    fleet.until_why_says("Batch 2 is done, and waits for a person to promote it.");
    clients.heard().of(hosts[2]).all_is_well().only("1");
    assert_eq!(fleet.starts_by_host("2"), [1, 1, 0]);

    fleet.tell("promote");
    fleet.until_over_as("succeeded");
    clients.heard().all_is_well();
    clients.heard().all_is_well().only("2");
    assert_eq!(fleet.starts_by_host("2"), [1, 1, 1]);
}
