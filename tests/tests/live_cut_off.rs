//! Hosts whose wire to the coordinator is cut in the middle of a canary's step, a rollback and a
//! cutover. Their agents go on, alone: no request fails, nothing is stopped that serves, `cutover
//! why` says who is waited for, and all of it ends well when the wire is mended.

use std::time::Duration;

use cutover_tests::live::{Clients, Cluster, Fleet, ask_aside, wait_for};

/// How long an agent may take to see that its instance is ill, on a machine that is busy.
const SEEN_WITHIN: Duration = Duration::from_secs(60);

/// As long as a gate may hold at all: a client waits for as long as it takes to cut a host off, to
/// look at the others, and to let it hear again.
const LONG_HOLD: Duration = Duration::from_mins(1);

/// Of three hosts the first is a canary, or the first two are, with half of their traffic.
fn canary(version: &str, count: &str) -> (Fleet, Clients) {
    let fleet = Fleet::start_with_wires(3);
    fleet.push_moody("2-moody");
    (0..3).for_each(|index| fleet.make_healthy(index));
    let clients = fleet.ask();
    let steps = ["--canary-hosts", count, "--canary-steps", "50%:1h", "--batch", "2"];
    let args = [&["--strategy", "canary", "--no-watch"][..], &steps].concat();
    fleet.deploy(version, &args).done();
    fleet.until_why_says("Comparing");
    clients.heard().all_is_well();
    (fleet, clients)
}

#[test]
fn a_canary_that_is_cut_off_keeps_its_share_and_is_waited_for_by_name() {
    let (fleet, clients) = canary("2", "1");
    let hosts = fleet.cluster.hosts(Fleet::PORT);

    fleet.cluster.cut_wire(0);
    fleet.tell("promote");
    fleet.until_why_says("for web-1 to be reachable, as lost contact is no failure");

    let heard = clients.heard();
    heard.all_is_well();
    hosts[1..].iter().for_each(|host| heard.of(*host).only("1"));
    clients.until_all_answer(hosts[0], &["1", "2"]);

    fleet.cluster.mend_wire(0);
    fleet.until_over_as("succeeded");
    clients.heard().all_is_well();
    clients.heard().all_is_well().only("2");
    assert_eq!(fleet.starts_everywhere("2"), 3);
}

#[test]
fn a_canary_that_turns_bad_while_it_is_cut_off_gets_nothing_more_and_goes_back_when_it_is_heard() {
    let (fleet, clients) = canary("2-moody", "1");
    let hosts = fleet.cluster.hosts(Fleet::PORT);

    fleet.cluster.cut_wire(0);
    fleet.make_sick(0);
    // Of what each of its clients asks for twice, half would go there.
    wait_for("the old version to serve alone", SEEN_WITHIN, || {
        let heard = clients.heard();
        heard.all_is_well().answers.iter().all(|it| it.version == "1").then_some(())
    });
    fleet.until_why_says("Comparing");

    fleet.cluster.mend_wire(0);
    fleet.until_over_as("rolled_back");
    let heard = clients.heard();
    hosts.iter().for_each(|host| heard.of(*host).all_is_well().only("1"));
    assert_eq!(fleet.starts_everywhere("2-moody"), 1);
    assert_eq!(fleet.starts_everywhere("1"), 3, "the old one ran beside it");
}

#[test]
fn a_canary_that_is_cut_off_when_all_go_back_keeps_its_share_and_follows_when_it_hears_of_it() {
    let (fleet, clients) = canary("2", "2");
    let hosts = fleet.cluster.hosts(Fleet::PORT);

    fleet.cluster.cut_wire(0);
    fleet.tell("rollback");
    fleet.until_all_are_back_but(0);

    clients.heard().all_is_well();
    clients.heard_at(&hosts[1..]).all_is_well().only("1");
    clients.until_all_answer(hosts[0], &["1", "2"]);
    fleet.cluster.mend_wire(0);
    fleet.until_rolled_back();
    clients.heard().all_is_well();
    clients.heard().all_is_well().only("1");
    assert_eq!((fleet.starts_everywhere("1"), fleet.starts_everywhere("2")), (3, 2));
}

#[test]
fn a_host_that_is_cut_off_in_a_rollback_serves_on_and_follows_when_it_hears_of_it() {
    let fleet = Fleet::start_with_wires(3);
    let hosts = fleet.cluster.hosts(Fleet::PORT);
    let clients = fleet.ask();
    fleet.deploy("2", &["--batch", "3", "--soak", "1h", "--no-watch"]).done();
    fleet.until_why_says("Watching the batch");
    fleet.until_it_is_gone("1");
    clients.heard().all_is_well();

    fleet.cluster.cut_wire(1);
    fleet.tell("rollback");
    fleet.until_all_are_back_but(1);

    clients.heard().all_is_well();
    let heard = clients.heard();
    for index in [0, 2] {
        heard.of(hosts[index]).all_is_well().only("1");
    }
    heard.of(hosts[1]).all_is_well().only("2");
    fleet.cluster.mend_wire(1);
    fleet.until_rolled_back();
    clients.heard().all_is_well();
    clients.heard().all_is_well().only("1");
    assert_eq!((fleet.starts_everywhere("1"), fleet.starts_everywhere("2")), (6, 3));
}

/// All of three hosts hold, as something is under way at the first. Then the second is cut off, and
/// the others are armed.
fn arming(hold: Duration) -> (Fleet, Clients) {
    let fleet = Fleet::start_with_wires(3);
    let clients = Clients::ask(&fleet.cluster, Fleet::PORT, &["GET /"]);
    let held = fleet.hold_all(hold);
    fleet.cluster.cut_wire(1);
    fleet.let_go(held);
    fleet.until_why_says("until web-2 can switch");
    (fleet, clients)
}

/// Unlike a frozen one, its agent is there to let its gate go on in time.
#[test]
fn a_host_that_is_cut_off_while_it_holds_goes_back_by_itself_in_time_and_no_request_fails() {
    let (fleet, clients) = arming(Fleet::HOLD);
    let hosts = fleet.cluster.hosts(Fleet::PORT);

    // It could not be made, and is tried again when all are there.
    fleet.until_why_says("for web-2 to be reachable");

    clients.heard_at(&[hosts[0], hosts[2]]).all_is_well().only("1");
    clients.heard_at(&[hosts[1]]).none_failed_before(Fleet::HOLD).only("1");
    clients.heard_at(&[hosts[1]]).all_is_well().only("1");
    fleet.cluster.mend_wire(1);
    fleet.until_cut_over_strictly("1", "2");
    clients.heard().all_is_well().moved("1", "2");
}

#[test]
fn a_host_that_is_cut_off_when_the_switch_was_decided_makes_its_clients_wait_for_the_new_version() {
    let (fleet, clients) = arming(LONG_HOLD);
    let hosts = fleet.cluster.hosts(Fleet::PORT);
    fleet.cluster.cut_wire(2);
    fleet.cluster.mend_wire(1);
    fleet.until_it_serves("2");

    let waits = ask_aside(hosts[2], "GET /");
    for _ in 0..20 {
        let page = Cluster::get_from(hosts[0], "/").expect("every request is answered");
        assert!(page.contains("web 2 "), "{page}");
    }
    assert!(!waits.is_finished(), "a gate that was armed waits for the word of its agent");

    fleet.cluster.mend_wire(2);
    let page = waits.join().expect("a client tells what it heard").expect("it was answered");
    assert!(page.contains("web 2 "), "{page}");
    fleet.until_cut_over_strictly("1", "2");
    clients.heard().all_is_well().moved("1", "2");
}
