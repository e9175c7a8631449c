//! kill -9 of the coordinator in the middle of a canary's steps and of a rollback that is half done:
//! each goes on from where it was, nothing is started twice, and no request fails.

use cutover_tests::live::Fleet;

fn begin_again(fleet: &mut Fleet) {
    fleet.cluster.start_the_coordinator();
    fleet.cluster.wait_until_live(3);
}

#[test]
fn a_coordinator_that_is_killed_in_each_step_of_a_canary_goes_on_with_that_step() {
    let mut fleet = Fleet::start(3);
    fleet.push_moody("2-late");
    let clients = fleet.ask();
    let steps = ["--canary-hosts", "1", "--canary-steps", "20%:1h,50%:1h", "--batch", "2"];
    let args = [&["--strategy", "canary", "--no-watch"][..], &steps].concat();
    fleet.deploy("2-late", &args).done();

    // While it starts beside the old one.
    fleet.until_why_says("for web-1 to be healthy");
    fleet.cluster.kill_the_coordinator();
    (0..3).for_each(|index| fleet.make_healthy(index));
    clients.heard().all_is_well().only("1");
    begin_again(&mut fleet);
    fleet.until_why_says("Comparing");
    clients.heard().all_is_well();
    drop(clients);
    fleet.assert_share(0, "2-late", 20);

    // Between what a person said and what follows from it.
    let clients = fleet.ask();
    fleet.tell("promote");
    fleet.cluster.kill_the_coordinator();
    clients.heard().all_is_well();
    begin_again(&mut fleet);
    fleet.until_why_says("Comparing");
    clients.heard().all_is_well();
    drop(clients);
    fleet.assert_share(0, "2-late", 50);

    let clients = fleet.ask();
    fleet.tell("promote");
    fleet.cluster.kill_the_coordinator();
    clients.heard().all_is_well();
    begin_again(&mut fleet);
    fleet.until_over_as("succeeded");
    clients.heard().all_is_well();
    clients.heard().all_is_well().only("2-late");
    assert_eq!(fleet.starts_everywhere("2-late"), 3);
}

#[test]
fn a_coordinator_that_is_killed_when_a_rollback_is_half_done_brings_the_rest_back_too() {
    let mut fleet = Fleet::start(3);
    let hosts = fleet.cluster.hosts(Fleet::PORT);
    fleet.push_moody("1-late");
    (0..3).for_each(|index| fleet.make_healthy(index));
    fleet.deploy("1-late", &["--strategy", "all_at_once"]).done();
    let clients = fleet.ask();
    fleet.deploy("2", &["--batch", "3", "--soak", "1h", "--no-watch"]).done();
    fleet.until_why_says("Watching the batch");
    fleet.until_it_is_gone("1-late");

    fleet.make_sick(1);
    fleet.tell("rollback");
    fleet.until_all_are_back_but(1);
    fleet.cluster.kill_the_coordinator();

    clients.heard().all_is_well();
    let heard = clients.heard();
    for index in [0, 2] {
        heard.of(hosts[index]).all_is_well().only("1-late");
    }
    heard.of(hosts[1]).all_is_well().only("2");
    begin_again(&mut fleet);
    // Held where its agent has dialled late, as agents do whose coordinator was away for long.
    fleet.until_all_are_back_but(1);
    fleet.make_healthy(1);
    fleet.until_rolled_back();
    clients.heard().all_is_well();
    clients.heard().all_is_well().only("1-late");
    assert_eq!((fleet.starts_everywhere("1-late"), fleet.starts_everywhere("2")), (6, 3));
}
