//! Two groups of hosts behind two edges, and clients that ask the edges all the time: they go over
//! to the other group and back, and none of their requests fails.

use cutover_tests::live::{Clients, Fleet, PAGES, Sample, ask_aside};

const GROUPS: [&str; 2] = ["--groups", "group"];

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    GROUPS.into_iter().chain(more.iter().copied()).collect()
}

#[test]
fn edges_lead_over_to_the_other_group_strictly_and_back_and_no_request_fails() {
    let fleet = Fleet::in_groups();
    assert_eq!(fleet.starts_by_host("1"), [1, 1, 0, 0, 0, 0], "the others have nothing");
    let clients = Clients::ask_at(&fleet.edges(), &PAGES);

    fleet.begin_blue_green("2", &with(&["--keep", "0s"]));
    fleet.until_over_as("succeeded");

    clients.heard().all_is_well().moved("1", "2");
    let served = fleet.served();
    assert!(served.strictly("1", "2").is_ok(), "{:?}", served.strictly("1", "2"));
    assert_eq!(fleet.starts_by_host("2"), [0, 0, 1, 1, 0, 0]);
    fleet.until_it_is_gone("1");
    let status = fleet.cluster.cutover(&["status", "web"]).stdout;
    assert!(status.contains("edges lead to the hosts with group=green"), "{status}");
    assert!(status.contains("2 of 2"), "{status}");

    // The group that was left is the next one's.
    fleet.push(Sample::good("3"));
    fleet.deploy("3", &["--strategy", "blue_green", "--groups", "group", "--keep", "0s"]).done();
    clients.heard().all_is_well().moved("2", "3");
    assert_eq!(fleet.starts_by_host("3"), [1, 1, 0, 0, 0, 0]);
}

#[test]
fn a_rollback_leads_edges_back_and_starts_nothing() {
    let fleet = Fleet::in_groups();
    let clients = Clients::ask_at(&fleet.edges(), &PAGES);
    fleet.begin_blue_green("2", &with(&["--keep", "1h"]));
    fleet.until_why_says("Watching the batch");
    clients.heard().all_is_well().moved("1", "2");

    fleet.tell("rollback");
    fleet.until_over_as("rolled_back");

    clients.heard().all_is_well();
    clients.heard().all_is_well().only("1");
    assert_eq!(fleet.starts_by_host("1"), [1, 1, 0, 0, 0, 0]);
    fleet.until_it_is_gone("2");
}

#[test]
fn a_coordinator_that_is_killed_while_edges_hold_costs_no_request_and_tries_again() {
    let mut fleet = Fleet::in_groups();
    let edges = fleet.edges();
    let under_way = ask_aside(edges[0], "POST /held");
    fleet.until_a_request_is_held();
    let clients = Clients::ask_at(&edges, &PAGES);
    fleet.begin_blue_green("2", &with(&["--keep", "1h"]));
    fleet.until_why_says("nothing is under way at edge-8");

    fleet.cluster.kill_the_coordinator();
    // Each edge goes on by itself, with the old version.
    clients.heard().all_is_well().only("1");
    fleet.let_all_go();
    assert!(under_way.join().unwrap().unwrap().contains("web 1 "));
    fleet.cluster.start_the_coordinator();

    fleet.until_why_says("Watching the batch");
    clients.heard().all_is_well().moved("1", "2");
    let served = fleet.served();
    assert!(served.strictly("1", "2").is_ok(), "{:?}", served.strictly("1", "2"));
    assert_eq!(fleet.starts_by_host("2"), [0, 0, 1, 1, 0, 0]);
}
