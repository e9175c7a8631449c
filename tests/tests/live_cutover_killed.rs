//! kill -9 of the coordinator in the middle of a cutover, a canary and a rollback, and hosts that
//! are cut off there: clients get the old version or the new one, and never one after the other.

use std::time::Duration;

use cutover_tests::live::{Clients, Fleet};

const PAGES: [&str; 1] = ["GET /"];

/// How long a gate may hold in these tests: what is done within this time takes a few seconds.
const HOLD: Duration = Duration::from_secs(10);

/// The coordinator ends, and nobody replaces it yet.
fn kill(fleet: &mut Fleet) {
    fleet.cluster.kill_the_coordinator();
}

/// All hosts of three hold; something is under way at the first.
fn holding() -> (Fleet, Clients, impl FnOnce(&Fleet)) {
    let fleet = Fleet::start(3);
    let clients = Clients::ask(&fleet.cluster, Fleet::PORT, &PAGES);
    let held = fleet.hold_a_request(0);
    fleet.begin_blue_green("2", &["--keep", "1h", "--hold", "10s"]);
    fleet.until_why_says("nothing is under way at web-1, or");
    let let_go = move |fleet: &Fleet| {
        fleet.let_go();
        let page = held.join().expect("a client tells what it heard").expect("it was answered");
        assert!(page.contains("web 1 "), "{page}");
    };
    (fleet, clients, let_go)
}

/// The first and the third of three hosts are armed; the second holds, and is cut off.
fn arming() -> (Fleet, Clients) {
    let (fleet, clients, let_go) = holding();
    fleet.cut_off(1);
    let_go(&fleet);
    fleet.until_why_says("until web-2 can switch");
    (fleet, clients)
}

/// The first and the second of three hosts were told to switch; the third is armed, and cut off.
fn switched() -> (Fleet, Clients) {
    let (fleet, clients) = arming();
    fleet.cut_off(2);
    fleet.reconnect(1);
    fleet.until_it_serves("2");
    (fleet, clients)
}

/// Demands that the cutover was made in the end, and strictly.
fn all_are_new(fleet: &Fleet) {
    fleet.until_why_says("Watching the batch");
    let served = fleet.served();
    assert!(served.strictly("1", "2").is_ok(), "{:?}", served.strictly("1", "2"));
    assert_eq!((fleet.starts_everywhere("1"), fleet.starts_everywhere("2")), (3, 3));
}

#[test]
fn gates_that_hold_when_the_coordinator_is_killed_go_back_to_the_old_version_by_themselves() {
    let (mut fleet, clients, let_go) = holding();

    kill(&mut fleet);

    clients.heard().all_is_well().only("1");
    clients.heard().all_is_well().only("1");
    let_go(&fleet);
    fleet.cluster.start_the_coordinator();
    all_are_new(&fleet);
    clients.heard().all_is_well().moved("1", "2");
}

#[test]
fn a_host_that_is_cut_off_while_all_hold_lets_all_go_on_with_the_old_version() {
    let (fleet, clients) = arming();
    let hosts = fleet.cluster.hosts(Fleet::PORT);

    fleet.until_why_says("could not be made");

    let heard = clients.heard();
    for host in [hosts[0], hosts[2]] {
        heard.of(host).all_is_well().only("1");
    }
    heard.of(hosts[1]).some_were_told_to_retry_after(HOLD);
    fleet.reconnect(1);
    all_are_new(&fleet);
    clients.heard().of(hosts[0]).all_is_well().moved("1", "2");
}

#[test]
fn gates_that_are_armed_when_the_coordinator_is_killed_wait_for_it_and_then_go_on() {
    let (mut fleet, clients) = arming();
    let hosts = fleet.cluster.hosts(Fleet::PORT);

    kill(&mut fleet);

    let heard = clients.heard();
    for host in [hosts[0], hosts[2]] {
        heard.of(host).some_were_told_to_retry_after(HOLD);
    }
    fleet.reconnect(1);
    drop(clients.heard());
    clients.heard().of(hosts[1]).all_is_well().only("1");
    fleet.cluster.start_the_coordinator();
    fleet.cluster.wait_until_live(3);
    all_are_new(&fleet);
}

#[test]
fn a_host_that_is_cut_off_when_the_switch_was_decided_serves_nobody_until_it_hears_of_it() {
    let (fleet, clients) = switched();
    let hosts = fleet.cluster.hosts(Fleet::PORT);

    let heard = clients.heard();

    for host in [hosts[0], hosts[1]] {
        heard.of(host).all_is_well().moved("1", "2");
    }
    heard.of(hosts[2]).some_were_told_to_retry_after(HOLD);
    fleet.reconnect(2);
    all_are_new(&fleet);
    drop(clients.heard());
    clients.heard().all_is_well().only("2");
}

#[test]
fn a_coordinator_that_is_killed_when_it_has_decided_goes_on_and_all_get_the_new_version() {
    let (mut fleet, clients) = switched();
    let hosts = fleet.cluster.hosts(Fleet::PORT);

    kill(&mut fleet);

    let heard = clients.heard();
    for host in [hosts[0], hosts[1]] {
        heard.of(host).all_is_well().moved("1", "2");
    }
    fleet.reconnect(2);
    fleet.cluster.start_the_coordinator();
    fleet.cluster.wait_until_live(3);
    all_are_new(&fleet);
    drop(clients.heard());
    clients.heard().all_is_well().only("2");
}

#[test]
fn a_canary_keeps_its_share_while_nobody_commands_it_and_goes_on_afterwards() {
    let mut fleet = Fleet::start(3);
    let clients = Clients::ask(&fleet.cluster, Fleet::PORT, &PAGES);
    let canary = ["--strategy", "canary", "--canary-steps", "50%:1h", "--batch", "2"];
    fleet.deploy("2", &[&canary[..], &["--no-watch"]].concat()).done();
    fleet.until_why_says("Comparing");

    let share = |clients: &Clients| {
        drop(clients.heard());
        let heard = clients.heard();
        let new = heard.all_is_well().answers.iter().filter(|it| it.version == "2").count();
        assert!((1..heard.answers.len()).contains(&new), "both answer: {new}");
    };
    kill(&mut fleet);
    share(&clients);
    fleet.cut_off(0);
    fleet.cluster.start_the_coordinator();
    fleet.cluster.wait_until_live(2);
    share(&clients);
    fleet.reconnect(0);
    fleet.cluster.wait_until_live(3);
    fleet.until_why_says("Comparing");
    fleet.tell("promote");
    fleet.until_over_as("succeeded");
    clients.heard().all_is_well();
    clients.heard().all_is_well().only("2");
    assert_eq!(fleet.starts_everywhere("2"), 3);
}

#[test]
fn a_rollback_goes_on_after_a_kill_and_a_host_that_is_cut_off_follows_when_it_is_back() {
    let mut fleet = Fleet::start(3);
    let before = fleet.cluster.instances(Fleet::PORT);
    let clients = Clients::ask(&fleet.cluster, Fleet::PORT, &PAGES);
    let hosts = fleet.cluster.hosts(Fleet::PORT);
    fleet.begin_blue_green("2", &["--keep", "1h"]);
    fleet.until_why_says("Watching the batch");
    clients.heard().all_is_well();

    fleet.cut_off(1);
    fleet.tell("rollback");
    kill(&mut fleet);

    clients.heard().all_is_well();
    clients.heard().all_is_well().of(hosts[1]).only("2");
    fleet.cluster.start_the_coordinator();
    fleet.reconnect(1);
    fleet.cluster.wait_until_live(3);
    fleet.until_over_as("rolled_back");
    clients.heard().all_is_well();
    clients.heard().all_is_well().only("1");
    assert_eq!(fleet.cluster.instances(Fleet::PORT), before, "nothing was started");
}
