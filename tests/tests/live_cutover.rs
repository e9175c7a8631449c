//! Strict cutovers of real fleets at full load: what instances wrote down themselves proves that no
//! request reached the old version after one had reached the new one, on whichever host.

use cutover_tests::live::{Clients, Fleet, PAGES};

fn strictly(hosts: u8) {
    let fleet = Fleet::start(hosts);
    let clients = Clients::press(&fleet.cluster, Fleet::PORT, &PAGES);

    fleet.begin_blue_green("2", &["--keep", "0s"]);
    fleet.until_over_as("succeeded");

    clients.heard().all_is_well().moved("1", "2");
    drop(clients);
    let served = fleet.served();
    assert!(served.strictly("1", "2").is_ok(), "{:?}", served.strictly("1", "2"));
}

#[test]
fn one_gate_leads_over_strictly_and_no_request_fails() {
    strictly(1);
}

#[test]
fn five_gates_lead_over_at_one_moment_and_no_request_fails() {
    strictly(5);
}

/// The control: where a gate hears of the switch later than the others, a relaxed cutover is seen
/// to be none.
#[test]
fn a_relaxed_cutover_has_both_versions_begin_requests_and_the_logs_show_it() {
    let fleet = Fleet::start(2);
    let clients = Clients::press(&fleet.cluster, Fleet::PORT, &PAGES);
    fleet.begin_blue_green("2", &["--cutover", "relaxed", "--keep", "0s", "--approve"]);
    fleet.until_why_says("waits for a person");

    fleet.cut_off(1);
    fleet.tell("promote");
    fleet.until_it_serves("2");
    clients.ask_on();
    fleet.reconnect(1);
    fleet.until_over_as("succeeded");

    clients.heard().all_is_well().moved("1", "2");
    let overlap = fleet.served().strictly("1", "2").unwrap_err();
    assert!(overlap.begun > 0, "{overlap:?}");
}
