//! kill -9 of the coordinator and of gates in the middle of a cutover, a canary and a rollback, and
//! hosts that are cut off there: clients get the old version or the new one, and never one after
//! the other.

use std::time::{Duration, Instant};

use cutover_tests::live::{Clients, Fleet, HeldRequest, wait_for};
use rustix::process::{Signal, kill_process};

const PAGES: [&str; 1] = ["GET /"];

/// How long it may take until a gate is there again, on a machine that is busy: less than a gate may
/// hold, so that what is waited for in vain is no gate that gave up.
const SOON: Duration = Duration::from_secs(10);

/// All hosts of three hold; something is under way at the first.
fn holding() -> (Fleet, Clients, HeldRequest) {
    let fleet = Fleet::start(3);
    let clients = Clients::ask(&fleet.cluster, Fleet::PORT, &PAGES);
    let held = fleet.hold_all(Fleet::HOLD);
    (fleet, clients, held)
}

/// The first and the third of three hosts are armed; the second holds, and is cut off.
fn arming() -> (Fleet, Clients) {
    let (fleet, clients, held) = holding();
    fleet.cut_off(1);
    fleet.let_go(held);
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

#[test]
fn gates_that_hold_when_the_coordinator_is_killed_go_back_to_the_old_version_by_themselves() {
    let (mut fleet, clients, held) = holding();

    fleet.cluster.kill_the_coordinator();

    clients.heard().none_failed_before(Fleet::HOLD).only("1");
    clients.heard().all_is_well().only("1");
    fleet.let_go(held);
    fleet.cluster.start_the_coordinator();
    fleet.until_cut_over_strictly("1", "2");
    clients.heard().all_is_well().moved("1", "2");
}

#[test]
fn a_host_that_is_cut_off_while_all_hold_lets_all_go_on_with_the_old_version() {
    let (fleet, clients) = arming();
    let hosts = fleet.cluster.hosts(Fleet::PORT);

    // It could not be made, and is tried again when all are there.
    fleet.until_why_says("for web-2 to be reachable");

    clients.heard_at(&[hosts[0], hosts[2]]).all_is_well().only("1");
    clients.until_told_to_retry_after(Fleet::HOLD, &[hosts[1]]);
    fleet.reconnect(1);
    fleet.until_cut_over_strictly("1", "2");
    clients.heard().of(hosts[0]).all_is_well().moved("1", "2");
}

#[test]
fn gates_that_are_armed_when_the_coordinator_is_killed_wait_for_it_and_then_go_on() {
    let (mut fleet, clients) = arming();
    let hosts = fleet.cluster.hosts(Fleet::PORT);

    fleet.cluster.kill_the_coordinator();

    clients.until_told_to_retry_after(Fleet::HOLD, &[hosts[0], hosts[2]]);
    fleet.reconnect(1);
    drop(clients.heard_at(&[hosts[1]]));
    clients.heard_at(&[hosts[1]]).all_is_well().only("1");
    fleet.cluster.start_the_coordinator();
    fleet.cluster.wait_until_live(3);
    fleet.until_cut_over_strictly("1", "2");
}

#[test]
fn a_host_that_is_cut_off_when_the_switch_was_decided_serves_nobody_until_it_hears_of_it() {
    let (fleet, clients) = switched();
    let hosts = fleet.cluster.hosts(Fleet::PORT);

    clients.heard_at(&hosts[..2]).all_is_well().moved("1", "2");

    clients.until_told_to_retry_after(Fleet::HOLD, &[hosts[2]]);
    fleet.reconnect(2);
    fleet.until_cut_over_strictly("1", "2");
    drop(clients.heard());
    clients.heard().all_is_well().only("2");
}

#[test]
fn a_coordinator_that_is_killed_when_it_has_decided_goes_on_and_all_get_the_new_version() {
    let (mut fleet, clients) = switched();
    let hosts = fleet.cluster.hosts(Fleet::PORT);

    fleet.cluster.kill_the_coordinator();

    clients.heard_at(&hosts[..2]).all_is_well().moved("1", "2");
    fleet.reconnect(2);
    fleet.cluster.start_the_coordinator();
    fleet.cluster.wait_until_live(3);
    fleet.until_cut_over_strictly("1", "2");
    drop(clients.heard());
    clients.heard().all_is_well().only("2");
}

/// Kills the gate of host `index`, which holds what is new, and waits for its next one.
fn kill_the_gate(fleet: &Fleet, index: usize) {
    let holds = || fleet.cluster.gate_status(index)["services"][0]["held"].as_u64();
    wait_for("the gate to hold requests", SOON, || holds().filter(|held| *held > 0));
    let gates = fleet.cluster.gates(index);
    let [old] = gates[..] else { panic!("one gate: {gates:?}") };
    kill_process(old, Signal::KILL).expect("a process of ours can be killed");
    wait_for("the next gate to be there", SOON, || {
        let gates = fleet.cluster.gates(index);
        matches!(gates[..], [next] if next != old).then_some(())
    });
}

/// Does so where something else keeps all from being led over, and returns when the next one holds.
fn kill_the_gate_that_holds(fleet: &Fleet, index: usize) -> Instant {
    kill_the_gate(fleet, index);
    // It may be asked from when it listens, and then it serves, too.
    wait_for("the next gate to hold requests", SOON, || {
        let said = fleet.cluster.gate_status_if_there(index)?;
        said["services"][0]["held"].as_u64().filter(|held| *held > 0)
    });
    Instant::now()
}

#[test]
fn a_gate_that_is_killed_while_it_holds_is_followed_by_one_that_holds_on() {
    let (fleet, clients, held) = holding();
    let hosts = fleet.cluster.hosts(Fleet::PORT);

    let back = kill_the_gate_that_holds(&fleet, 1);

    assert_eq!(fleet.served().count("2"), 0, "nobody has switched");
    fleet.let_go(held);
    fleet.until_cut_over_strictly("1", "2");
    let heard = clients.heard();
    heard.of(hosts[1]).only_lost_connections_before(back).moved("1", "2");
    for host in [hosts[0], hosts[2]] {
        heard.of(host).all_is_well().moved("1", "2");
    }
    clients.heard().all_is_well().only("2");
}

#[test]
fn what_a_killed_gate_had_under_way_is_waited_for_no_longer() {
    let (fleet, clients, held) = holding();
    let hosts = fleet.cluster.hosts(Fleet::PORT);

    kill_the_gate(&fleet, 0);

    // Nothing was let go: the old version still works for a client that is gone. Nothing else is under
    // way, so that all are led over before anybody could look at the next gate.
    fleet.until_why_says("Watching the batch");
    let back = Instant::now();
    let begun_late = fleet.served().strictly("1", "2").map_or_else(|overlap| overlap.begun, |_| 0);
    assert_eq!(begun_late, 0, "nobody is given to the old version after the new one");
    fleet.lost(held);
    let heard = clients.heard();
    heard.of(hosts[0]).only_lost_connections_before(back).moved("1", "2");
    for host in [hosts[1], hosts[2]] {
        heard.of(host).all_is_well().moved("1", "2");
    }
}

#[test]
fn a_gate_that_is_killed_while_it_is_armed_is_followed_by_one_that_holds_until_it_is_told() {
    let (fleet, clients) = arming();
    let hosts = fleet.cluster.hosts(Fleet::PORT);

    let back = kill_the_gate_that_holds(&fleet, 0);

    assert_eq!(fleet.served().count("2"), 0, "nobody has switched");
    fleet.reconnect(1);
    fleet.until_cut_over_strictly("1", "2");
    let heard = clients.heard();
    heard.of(hosts[0]).only_lost_connections_before(back).moved("1", "2");
    for host in [hosts[1], hosts[2]] {
        heard.of(host).all_is_well().moved("1", "2");
    }
    clients.heard().all_is_well().only("2");
}

#[test]
fn a_canary_keeps_its_share_while_nobody_commands_it_and_goes_on_afterwards() {
    let mut fleet = Fleet::start(3);
    let clients = Clients::ask(&fleet.cluster, Fleet::PORT, &PAGES);
    let canary = fleet.cluster.hosts(Fleet::PORT)[0];
    let steps = ["--strategy", "canary", "--canary-steps", "50%:1h", "--batch", "2"];
    fleet.deploy("2", &[&steps[..], &["--no-watch"]].concat()).done();
    fleet.until_why_says("Comparing");

    let share = || {
        clients.heard().all_is_well();
        clients.until_all_answer(canary, &["1", "2"]);
    };
    fleet.cluster.kill_the_coordinator();
    share();
    fleet.cut_off(0);
    fleet.cluster.start_the_coordinator();
    fleet.cluster.wait_until_live(2);
    share();
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
    fleet.cluster.kill_the_coordinator();

    clients.heard().all_is_well();
    clients.heard().all_is_well().of(hosts[1]).only("2");
    fleet.cluster.start_the_coordinator();
    fleet.reconnect(1);
    fleet.until_rolled_back();
    clients.heard().all_is_well();
    clients.heard().all_is_well().only("1");
    assert_eq!(fleet.cluster.instances(Fleet::PORT), before, "nothing was started");
}
