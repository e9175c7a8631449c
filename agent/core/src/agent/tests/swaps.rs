//! Stories of swaps behind the gate.

use std::{sync::Arc, time::Duration};

use cutover_common::{
    Assignment, Health, Phase, Service, Slot, SlotGoal, SlotReport, Swap, Timestamp, TlsFiles,
    Traffic,
};

use super::world::{World, assignment, served};
use crate::{Action, Input, gate::PORTS};

const BLUE: Slot = Slot::Blue;
const GREEN: Slot = Slot::Green;

/// Release 2 is to take the place of release 1.
fn to_green(generation: u64, swap: Swap) -> Assignment {
    let blue = SlotGoal::Prepared(served("1", swap));
    assignment(generation, blue, SlotGoal::Running(served("2", swap)))
}

/// Release 1 is to run on, or again.
fn to_blue(generation: u64, swap: Swap) -> Assignment {
    let green = SlotGoal::Prepared(served("2", swap));
    assignment(generation, SlotGoal::Running(served("1", swap)), green)
}

#[test]
fn a_first_instance_gets_traffic_as_soon_as_it_passes_and_has_a_port_of_its_own() {
    let mut world = World::begin();
    world.connect();
    world.sick.insert("1".to_owned());
    let blue = SlotGoal::Running(served("1", Swap::Beside));
    world.assign(assignment(1, blue, SlotGoal::Absent));
    world.pass(5);
    assert_eq!(world.gate.leads_to(), []);
    assert_eq!(world.report(BLUE).traffic, Traffic::Away);

    world.sick.clear();
    world.pass(4);

    assert_eq!(world.gate.leads_to(), [BLUE]);
    assert_eq!(world.report(BLUE).traffic, Traffic::Here);
    assert_eq!(world.report(BLUE).health, Health::Passing);
    let application = world.agent.remembered().applications.values().next().unwrap();
    let instance = application.slots.blue.instance.as_ref().unwrap();
    assert!(PORTS.contains(&instance.port.unwrap()));
}

#[test]
fn a_new_release_starts_beside_and_the_old_one_serves_until_the_new_one_has_settled() {
    let mut world = World::with_blue_served(Swap::Beside);
    world.assign(to_green(2, Swap::Beside));
    world.pass(9);
    assert_eq!(world.trace, ["start green 2"]);
    assert_eq!(world.gate.leads_to(), [BLUE]);
    assert_eq!(world.report(GREEN).health, Health::Passing);
    assert_eq!(world.report(GREEN).traffic, Traffic::Away);

    world.pass(2);

    assert_eq!(world.gate.leads_to(), [GREEN]);
    assert_eq!(world.trace, ["start green 2", "hook", "stop blue 1"]);
    assert_eq!(world.report(GREEN).traffic, Traffic::Here);
    assert_eq!(world.report(BLUE).phase, Phase::Prepared);
}

#[test]
fn an_old_instance_is_stopped_only_when_the_gate_says_that_nothing_is_under_way_there() {
    let mut world = World::with_blue_served(Swap::Beside);
    world.gate.busy.insert(BLUE);
    world.assign(to_green(2, Swap::Beside));
    world.pass(60);
    assert_eq!(world.gate.leads_to(), [GREEN]);
    assert_eq!(world.trace, ["start green 2"]);
    assert!(world.report(BLUE).detail.contains("ends what is under way"));

    world.drain(BLUE);
    world.settle();

    assert_eq!(world.trace, ["start green 2", "hook", "stop blue 1"]);
}

#[test]
fn a_release_that_never_becomes_healthy_gets_no_traffic_and_the_way_back_moves_nothing() {
    let mut world = World::with_blue_served(Swap::Beside);
    world.sick.insert("2".to_owned());
    world.assign(to_green(2, Swap::Beside));
    world.pass(100);
    assert_eq!(world.report(GREEN).health, Health::Failing);
    assert_eq!(world.gate.leads_to(), [BLUE]);

    world.assign(to_blue(3, Swap::Beside));
    world.pass(5);

    assert_eq!(world.trace, ["start green 2", "hook", "stop green 2"]);
    assert_eq!(world.gate.leads_to(), [BLUE]);
}

#[test]
fn one_that_passes_for_a_while_and_dies_got_no_traffic() {
    let mut world = World::with_blue_served(Swap::Beside);
    world.assign(to_green(2, Swap::Beside));
    world.pass(5);
    assert_eq!(world.report(GREEN).health, Health::Passing);
    world.sick.insert("2".to_owned());
    world.pass(60);

    assert_eq!(world.gate.leads_to(), [BLUE]);
    assert_eq!(world.trace, ["start green 2"]);
}

#[test]
fn traffic_leaves_what_serves_only_with_a_fresh_lease() {
    let mut world = World::with_blue_served(Swap::Beside);
    world.echoes = false;
    world.pass(11);
    world.assign(to_green(2, Swap::Beside));
    world.pass(60);
    assert_eq!(world.gate.leads_to(), [BLUE]);
    assert_eq!(world.trace, ["start green 2"]);

    world.echoes = true;
    world.pass(5);
    assert_eq!(world.gate.leads_to(), [GREEN]);
}

#[test]
fn what_was_replaced_is_kept_warm_as_long_as_its_successor_asks() {
    let mut world = World::with_blue_served(Swap::Beside);
    let mut second = served("2", Swap::Beside);
    Arc::make_mut(&mut second).service.as_mut().unwrap().keep_warm = Duration::from_secs(60);
    let blue = SlotGoal::Prepared(served("1", Swap::Beside));
    world.assign(assignment(2, blue, SlotGoal::Running(second)));
    world.pass(60);
    assert_eq!(world.gate.leads_to(), [GREEN]);
    assert_eq!(world.trace, ["start green 2"]);
    assert!(world.report(BLUE).detail.contains("kept warm"));

    world.assign(to_blue(3, Swap::Beside));
    world.settle();
    assert_eq!(world.gate.leads_to(), [BLUE], "the way back starts nothing");

    world.pass(5);
    assert_eq!(world.trace, ["start green 2", "hook", "stop green 2"]);
}

#[test]
fn what_is_kept_warm_makes_room_for_the_next_release() {
    let mut world = World::with_blue_served(Swap::Beside);
    let mut second = served("2", Swap::Beside);
    Arc::make_mut(&mut second).service.as_mut().unwrap().keep_warm = Duration::from_secs(3_600);
    let blue = SlotGoal::Prepared(served("1", Swap::Beside));
    world.assign(assignment(2, blue, SlotGoal::Running(second.clone())));
    world.pass(60);
    world.trace.clear();

    // First it is brought to disk, which the coordinator waits for.
    let blue = SlotGoal::Prepared(served("3", Swap::Beside));
    world.assign(assignment(3, blue, SlotGoal::Running(second.clone())));
    world.pass(10);
    assert_eq!(world.report(BLUE).phase, Phase::Prepared);
    let blue = SlotGoal::Running(served("3", Swap::Beside));
    world.assign(assignment(4, blue, SlotGoal::Prepared(second)));
    world.pass(60);

    assert_eq!(world.trace[..3], ["hook", "stop blue 1", "start blue 3"]);
    assert_eq!(world.gate.leads_to(), [BLUE]);
}

#[test]
fn a_clock_that_was_set_back_keeps_nothing_warm() {
    let mut world = World::with_blue_served(Swap::Beside);
    world.gate.busy.insert(BLUE);
    world.assign(to_green(2, Swap::Beside));
    world.pass(30);
    assert_eq!(world.gate.leads_to(), [GREEN]);
    world.now = Timestamp::from_unix_ms(5);
    world.gate.busy.clear();

    world.reboot();
    world.connect();
    world.pass(30);

    assert_eq!(world.report(BLUE).phase, Phase::Prepared);
}

#[test]
fn in_place_the_traffic_goes_first_then_the_instance_then_the_next_one_starts() {
    let mut world = World::with_blue_served(Swap::InPlace);
    world.gate.busy.insert(BLUE);
    world.assign(to_green(2, Swap::InPlace));
    world.pass(5);
    assert_eq!(world.gate.leads_to(), []);
    assert!(world.trace.is_empty(), "what is under way ends first");

    world.drain(BLUE);
    world.pass(5);

    assert_eq!(world.trace, ["hook", "stop blue 1", "start green 2"]);
    assert_eq!(world.gate.leads_to(), [GREEN], "one that passes is better than none");
}

#[test]
fn in_place_nothing_is_taken_away_before_what_comes_is_on_disk() {
    let mut world = World::with_blue_served(Swap::InPlace);
    let failure =
        crate::PrepareFailure { detail: "disk full".to_owned(), retry: crate::Retry::Later };
    world.prepare_failure = Some(failure);
    world.assign(to_green(2, Swap::InPlace));
    world.pass(200);
    assert_eq!(world.gate.leads_to(), [BLUE]);

    world.prepare_failure = None;
    world.pass(90);
    assert_eq!(world.gate.leads_to(), [GREEN]);
}

#[test]
fn in_place_what_was_begun_with_a_lease_is_finished_without_one() {
    let mut world = World::with_blue_served(Swap::InPlace);
    world.gate.busy.insert(BLUE);
    world.assign(to_green(2, Swap::InPlace));
    world.settle();
    assert_eq!(world.gate.leads_to(), []);
    world.disconnect();
    world.drain(BLUE);
    world.pass(30);

    assert_eq!(world.trace, ["hook", "stop blue 1", "start green 2"]);
    assert_eq!(world.gate.leads_to(), [GREEN]);
}

#[test]
fn a_goal_that_returns_before_the_stop_gives_the_traffic_back() {
    let mut world = World::with_blue_served(Swap::InPlace);
    world.gate.busy.insert(BLUE);
    world.assign(to_green(2, Swap::InPlace));
    world.settle();
    assert_eq!(world.gate.leads_to(), []);

    world.assign(to_blue(3, Swap::InPlace));
    world.settle();

    assert_eq!(world.gate.leads_to(), [BLUE]);
    assert!(world.trace.is_empty());
}

#[test]
fn a_restart_of_the_agent_takes_traffic_from_nobody() {
    let mut world = World::with_blue_served(Swap::Beside);
    world.crash();
    while let Some(action) = world.queue.pop_front() {
        if let Some(answer) = world.perform(action) {
            world.give(answer);
        }
        assert_eq!(world.gate.leads_to(), [BLUE]);
    }
    world.connect();
    world.pass(30);
    assert_eq!(world.gate.leads_to(), [BLUE]);
    assert!(world.trace.is_empty());
}

#[test]
fn a_swap_goes_on_where_the_agent_died() {
    let mut world = World::with_blue_served(Swap::Beside);
    world.gate.busy.insert(BLUE);
    world.assign(to_green(2, Swap::Beside));
    world.pass(30);
    assert_eq!(world.gate.leads_to(), [GREEN]);
    world.crash();
    world.settle();
    assert_eq!(world.trace, ["start green 2"], "nobody has said that blue is empty");

    world.connect();
    world.drain(BLUE);
    world.pass(5);
    assert_eq!(world.trace, ["start green 2", "hook", "stop blue 1"]);
}

#[test]
fn a_gate_that_was_restarted_is_believed_only_of_the_program_that_it_was_told() {
    let mut world = World::with_blue_served(Swap::Beside);
    world.restart_gate();
    assert!(
        world.queue.iter().any(|action| matches!(action, Action::TellGate { .. })),
        "another gate is told anew"
    );
    world.settle();
    assert_eq!(world.gate.leads_to(), [BLUE]);
}

#[test]
fn while_no_gate_answers_a_swap_waits_and_says_why() {
    let mut world = World::with_blue_served(Swap::Beside);
    world.gate.is_there = false;
    world.restart_gate();
    world.assign(to_green(2, Swap::Beside));
    world.pass(60);
    assert_eq!(world.trace, ["start green 2"]);
    assert!(world.report(BLUE).detail.contains("no gate can be reached"));
    assert_eq!(world.report(GREEN).traffic, Traffic::Away);

    world.gate.is_there = true;
    world.pass(5);
    assert_eq!(world.trace, ["start green 2", "hook", "stop blue 1"]);
    assert_eq!(world.report(BLUE).detail, "");
}

#[test]
fn an_instance_that_crashes_gets_nothing_until_the_next_one_passes() {
    let mut world = World::with_blue_served(Swap::Beside);
    world.kill();
    world.settle();
    assert_eq!(world.gate.leads_to(), []);

    world.pass(10);
    assert_eq!(world.gate.leads_to(), [BLUE]);
}

#[test]
fn a_reboot_brings_the_traffic_back_without_a_coordinator() {
    let mut world = World::with_blue_served(Swap::Beside);
    world.disconnect();
    world.reboot();
    world.pass(10);

    assert_eq!(world.gate.leads_to(), [BLUE]);
}

#[test]
fn an_application_that_is_not_wanted_any_more_is_drained_before_it_stops() {
    let mut world = World::with_blue_served(Swap::Beside);
    world.gate.busy.insert(BLUE);
    world.assign(assignment(2, SlotGoal::Absent, SlotGoal::Absent));
    world.pass(5);
    assert_eq!(world.gate.leads_to(), []);
    assert!(world.trace.is_empty());

    world.drain(BLUE);
    world.settle();
    assert_eq!(world.trace, ["hook", "stop blue 1"]);
    assert_eq!(world.report(BLUE).phase, Phase::Empty);
}

#[test]
fn a_release_that_leaves_the_gate_or_comes_to_it_is_replaced_in_place() {
    let mut world = World::with_blue_served(Swap::Beside);
    let blue = SlotGoal::Prepared(served("1", Swap::Beside));
    let mut bare = served("2", Swap::Beside);
    Arc::make_mut(&mut bare).service = None;
    Arc::make_mut(&mut bare).probe = None;
    world.assign(assignment(2, blue, SlotGoal::Running(bare.clone())));
    world.pass(30);
    assert_eq!(world.trace, ["hook", "stop blue 1", "start green 2"]);
    assert_eq!(world.report(GREEN).traffic, Traffic::Ungated);
    world.trace.clear();

    let green = SlotGoal::Prepared(bare);
    let blue = SlotGoal::Running(served("3", Swap::Beside));
    world.assign(assignment(3, blue, green));
    world.pass(30);
    assert_eq!(world.trace, ["hook", "stop green 2", "start blue 3"]);
    assert_eq!(world.gate.leads_to(), [BLUE]);
}

#[test]
fn a_slot_is_not_empty_while_the_gate_is_being_told_to_lead_there() {
    let mut world = World::with_blue_served(Swap::InPlace);
    world.kill();
    world.settle();
    world.now = world.agent.next_wake().unwrap().max(world.now + Duration::from_secs(2));
    world.give(Input::Tick);
    let mut telling = None;
    let mut settle = |world: &mut World| {
        while let Some(action) = world.queue.pop_front() {
            if matches!(action, Action::TellGate { .. }) {
                telling = Some(action);
            } else if let Some(answer) = world.perform(action) {
                world.give(answer);
            }
        }
    };
    settle(&mut world);
    assert_eq!(world.trace, ["start blue 1"]);
    world.assign(to_green(2, Swap::InPlace));
    settle(&mut world);
    assert_eq!(world.trace, ["start blue 1"], "the gate may lead there at any moment");

    let answer = world.perform(telling.expect("the gate is told of it")).unwrap();
    world.give(answer);
    world.pass(5);
    assert_eq!(world.trace, ["start blue 1", "hook", "stop blue 1", "start green 2"]);
}

fn with_certificate(service: &mut Service) {
    let (certificate, key) = ("/c.pem".to_owned(), "/c.key".to_owned());
    service.tls = Some(TlsFiles { certificate, key });
}

fn with_headers(service: &mut Service) {
    service.proxy_protocol = true;
    service.trusted_peers = vec!["10.0.0.0/8".parse().unwrap()];
}

/// Replaces release 1 in place by release 2, whose services are as these say. What is under way at
/// the first has not ended.
fn world_that_is_out(first: fn(&mut Service), second: fn(&mut Service)) -> World {
    let release = |version: &str, change: fn(&mut Service)| {
        let mut release = Arc::unwrap_or_clone(served(version, Swap::InPlace));
        change(release.service.as_mut().unwrap());
        Arc::new(release)
    };
    let [first, second] = [release("1", first), release("2", second)];
    let mut world = World::begin();
    world.connect();
    world.assign(assignment(1, SlotGoal::Running(Arc::clone(&first)), SlotGoal::Absent));
    world.pass(30);
    let goal = assignment(2, SlotGoal::Prepared(first), SlotGoal::Running(second));
    world.gate.busy.insert(BLUE);
    world.assign(Assignment { peers: vec!["10.0.0.2".parse().unwrap()], ..goal });
    world.settle();
    assert_eq!(world.gate.leads_to(), []);
    world
}

#[test]
fn while_a_host_is_out_its_gate_passes_requests_on_and_not_longer() {
    for service in [|_: &mut Service| {}, with_certificate, with_headers] {
        let mut world = world_that_is_out(service, service);
        assert_eq!(world.gate.peers(), ["10.0.0.2".parse::<std::net::IpAddr>().unwrap()]);

        world.drain(BLUE);
        world.pass(5);
        assert_eq!(world.gate.leads_to(), [GREEN]);
        assert!(world.gate.peers().is_empty());
    }
}

#[test]
fn peers_of_what_is_reached_in_another_way_are_told_of_when_the_old_instance_is_gone() {
    let mut world = world_that_is_out(|_| {}, with_certificate);
    assert!(world.gate.peers().is_empty(), "the service is in the clear still");

    world.sick.insert("2".to_owned());
    world.drain(BLUE);
    world.pass(2);
    assert_eq!(world.gate.leads_to(), []);
    assert_eq!(world.gate.peers().len(), 1);
}

/// Another application, on a port of its own unless that is said to be web's.
fn another(name: &str, port: u16) -> Assignment {
    let mut release = Arc::unwrap_or_clone(served("7", Swap::Beside));
    release.name.application = name.parse().unwrap();
    release.service.as_mut().unwrap().port = port;
    let running = SlotGoal::Running(Arc::new(release));
    Assignment { application: name.parse().unwrap(), ..assignment(1, running, SlotGoal::Absent) }
}

fn report_of(world: &World, name: &str) -> SlotReport {
    let reports = world.agent.reports();
    let report = reports.into_iter().find(|it| it.application.as_str() == name);
    report.expect("it was assigned").slots.blue
}

#[test]
fn a_service_that_the_gate_cannot_serve_is_told_of_its_application_and_keeps_no_other_waiting() {
    let mut world = World::with_blue_served(Swap::Beside);
    world.gate.unserved.insert("shop".parse().unwrap());
    world.assign(another("shop", 9090));
    world.pass(30);
    assert_eq!(report_of(&world, "shop").traffic, Traffic::Away);
    assert_eq!(report_of(&world, "shop").health, Health::Settled);
    assert!(report_of(&world, "shop").detail.contains("nothing can listen on its port"));
    assert_eq!(report_of(&world, "web").traffic, Traffic::Here);
    assert_eq!(report_of(&world, "web").detail, "200 OK");

    world.assign(to_green(2, Swap::Beside));
    world.pass(30);
    assert_eq!(world.gate.leads_to(), [GREEN]);
    assert_eq!(world.trace, ["start blue 7", "start green 2", "hook", "stop blue 1"]);

    world.gate.unserved.clear();
    world.look_at_gate();
    assert_eq!(report_of(&world, "shop").traffic, Traffic::Here);
    assert_eq!(report_of(&world, "shop").detail, "200 OK");
}

#[test]
fn an_instance_is_not_stopped_while_its_successor_is_behind_a_service_that_is_not_served() {
    let mut world = World::with_blue_served(Swap::Beside);
    world.gate.unserved.insert("web".parse().unwrap());
    // The gate stays as it was: blue goes on getting what is new.
    world.gate.busy.insert(BLUE);
    world.assign(to_green(2, Swap::Beside));
    world.pass(120);
    assert_eq!(world.trace, ["start green 2"]);
    assert_eq!(world.report(GREEN).traffic, Traffic::Away);
    assert!(world.report(GREEN).detail.contains("nothing can listen on its port"));

    world.assign(to_blue(3, Swap::Beside));
    world.gate.unserved.clear();
    world.gate.busy.clear();
    world.look_at_gate();
    world.pass(30);
    assert_eq!(world.gate.leads_to(), [BLUE]);
    assert_eq!(world.trace, ["start green 2", "hook", "stop green 2"]);
}

#[test]
fn an_application_that_serves_keeps_its_port_whatever_the_names() {
    let mut world = World::with_blue_served(Swap::Beside);
    for name in ["api", "zoo"] {
        world.assign(another(name, 8080));
    }
    world.pass(30);
    for name in ["api", "zoo"] {
        let said = report_of(&world, name);
        assert_eq!((said.health, said.traffic), (Health::Settled, Traffic::Away));
        assert!(said.detail.contains("port 8080 of this host is web's"), "{}", said.detail);
    }
    assert_eq!(report_of(&world, "web").traffic, Traffic::Here);

    // Also while it is out, and when it comes back.
    world.assign(to_green(2, Swap::InPlace));
    world.pass(60);
    assert_eq!(world.gate.leads_to(), [GREEN]);
    assert_eq!(report_of(&world, "api").traffic, Traffic::Away);
}

#[test]
fn a_port_that_an_instance_was_given_is_no_services_and_the_others_are_served() {
    let mut world = World::with_blue_served(Swap::Beside);
    let taken =
        world.agent.remembered().applications[&super::world::web()].slots.blue.instance.as_ref();
    let taken = taken.and_then(|instance| instance.port).unwrap();

    world.assign(another("api", taken));
    world.pass(30);

    let said = report_of(&world, "api");
    assert_eq!(said.traffic, Traffic::Away);
    assert!(said.detail.contains("an instance of web was given"), "{}", said.detail);
    assert_eq!(report_of(&world, "web").traffic, Traffic::Here);
}

#[test]
fn of_two_applications_with_one_port_the_second_says_whose_it_is() {
    let mut world = World::with_blue_served(Swap::Beside);
    world.assign(another("zoo", 8080));
    world.pass(30);

    let said = report_of(&world, "zoo");
    assert_eq!(said.traffic, Traffic::Away);
    assert!(said.detail.contains("port 8080 of this host is web's"), "{}", said.detail);
    assert_eq!(report_of(&world, "web").traffic, Traffic::Here);
}

#[test]
fn traffic_that_may_not_move_as_two_coordinators_claim_one_term_says_so() {
    let mut world = World::with_blue_served(Swap::Beside);
    world.welcome(1, "store", "clone");
    world.settle();
    world.crash();
    world.welcome(1, "store", "boot");
    world.assign(to_green(2, Swap::Beside));
    world.pass(60);

    assert_eq!(world.trace, ["start green 2"]);
    assert_eq!(world.report(GREEN).traffic, Traffic::Away);
    assert!(world.report(GREEN).detail.contains("two coordinators"), "not only \"200 OK\"");

    world.welcome(2, "store", "boot 2");
    world.pass(60);
    assert_eq!(world.gate.leads_to(), [GREEN]);
    assert_eq!(world.report(GREEN).detail, "200 OK");
}
