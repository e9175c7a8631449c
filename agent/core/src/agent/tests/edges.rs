//! Stories of an edge: what its gate is told, with a coordinator and without one.

use std::time::Duration;

use cutover_common::{
    EdgeCutover, EdgeHold, EdgeHost, EdgeLead, EdgeRevision, EdgeRoute, EdgeRoutes, HoldLimits,
    HoldState, Protocol, Service, SlotGoal, Sticky, Swap, Term, TlsFiles,
};

use super::world::{World, assignment, served, web};
use crate::{Input, SessionId};

fn service(port: u16) -> Service {
    Service { port, ..served("1", Swap::Beside).service.clone().unwrap() }
}

fn route(application: &str, port: u16, hosts: &[(&str, Option<u16>)]) -> EdgeRoute {
    let hosts = hosts.iter().map(|(agent, weight)| EdgeHost {
        agent: agent.parse().unwrap(),
        lead: weight.map(|weight| EdgeLead {
            address: format!("10.0.0.{}:{port}", agent.as_bytes()[0]).parse().unwrap(),
            weight,
            is_certain: true,
        }),
    });
    let application = application.parse().unwrap();
    EdgeRoute { application, service: service(port), hosts: hosts.collect(), cutover: None }
}

fn routes((term, number): (u64, u64), routes: Vec<EdgeRoute>) -> EdgeRoutes {
    EdgeRoutes { revision: EdgeRevision { term: Term(term), number }, routes }
}

fn tell(world: &mut World, routes: EdgeRoutes) {
    let session = SessionId(1);
    world.give(Input::EdgeRouted { session, routes: Box::new(routes) });
    world.settle();
}

/// Returns the hosts that the gate leads to, by application.
fn led(world: &World) -> Vec<String> {
    let edges = world.gate.edges();
    let hosts = edges.iter().flat_map(|(application, edge)| {
        edge.hosts.iter().map(move |host| {
            let lead = host.lead.unwrap();
            let doubt = if lead.is_certain { "" } else { "?" };
            format!("{application} {} {}{doubt}", host.agent, lead.weight)
        })
    });
    hosts.collect()
}

#[test]
fn newer_routes_are_followed_and_older_ones_are_late() {
    let mut world = World::begin();
    world.connect();
    tell(&mut world, routes((1, 2), vec![route("api", 81, &[("a", Some(1000))])]));
    assert_eq!(led(&world), ["api a 1000"]);

    tell(&mut world, routes((1, 1), vec![]));
    tell(&mut world, routes((1, 2), vec![]));
    // Not of the coordinator that is obeyed.
    tell(&mut world, routes((2, 1), vec![]));
    assert_eq!(led(&world), ["api a 1000"]);

    tell(&mut world, routes((1, 3), vec![]));
    assert_eq!(led(&world), [""; 0]);
    world.pass(6);
    let said = world.edge.clone().unwrap();
    assert_eq!((said.revision.number, said.is_followed), (3, true));
}

#[test]
fn without_a_coordinator_or_after_a_crash_it_goes_on_as_it_is() {
    let mut world = World::begin();
    world.connect();
    tell(&mut world, routes((1, 2), vec![route("api", 81, &[("a", Some(1000))])]));

    world.disconnect();
    world.pass(60);
    world.crash();
    world.settle();
    assert_eq!(led(&world), ["api a 1000"]);
    world.reboot();
    world.gate.is_there = false;
    world.pass(5);
    world.gate.is_there = true;
    world.pass(5);

    assert_eq!(led(&world), ["api a 1000"]);
}

#[test]
fn other_routes_wait_for_a_lease_and_a_session_begins_without_any() {
    let mut world = World::begin();
    world.echoes = false;
    world.connect();
    tell(&mut world, routes((1, 2), vec![route("api", 81, &[("a", Some(1000))])]));
    assert_eq!(led(&world), [""; 0]);

    world.echoes = true;
    world.pass(6);
    assert_eq!(led(&world), ["api a 1000"]);
}

#[test]
fn a_host_that_is_as_it_was_keeps_its_weight_and_is_in_doubt() {
    let mut world = World::begin();
    world.connect();
    let hosts = [("a", Some(1000)), ("b", Some(0))];
    tell(&mut world, routes((1, 1), vec![route("api", 81, &hosts)]));

    let hosts = [("a", None), ("b", None), ("c", None)];
    tell(&mut world, routes((1, 2), vec![route("api", 81, &hosts)]));

    assert_eq!(led(&world), ["api a 1000?", "api b 0?"]);
}

#[test]
fn what_begins_with_a_handshake_or_a_proxy_header_is_passed_on_as_it_comes() {
    let mut world = World::begin();
    world.connect();
    let mut tls = route("api", 81, &[("a", Some(1000))]);
    tls.service.tls = Some(TlsFiles { certificate: "/c.pem".into(), key: "/c.key".into() });
    tls.service.sticky = Some(Sticky::Header("x-user".into()));
    let mut proxied = route("cart", 82, &[("a", Some(1000))]);
    proxied.service.proxy_protocol = true;
    let mut sticky = route("shop", 83, &[("a", Some(1000))]);
    sticky.service.sticky = Some(Sticky::Header("x-user".into()));

    tell(&mut world, routes((1, 1), vec![tls, proxied, sticky]));
    world.pass(6);

    assert_eq!(led(&world), ["api a 1000", "cart a 1000", "shop a 1000"]);
    let edges = world.gate.edges();
    let spoken = edges.values().map(|route| {
        let Service { protocol, tls, sticky, proxy_protocol, .. } = &route.service;
        (*protocol, tls.is_some(), sticky.is_some(), *proxy_protocol)
    });
    assert_eq!(
        spoken.collect::<Vec<_>>(),
        [
            (Protocol::Tcp, false, false, false),
            (Protocol::Tcp, false, false, false),
            (Protocol::Http, false, true, false),
        ]
    );
    assert_eq!(world.edge.clone().unwrap().trouble, "");
}

#[test]
fn what_runs_on_this_host_keeps_its_port_and_the_edge_says_so() {
    let mut world = World::begin();
    world.connect();
    let port = service(0).port + served("1", Swap::Beside).service.clone().unwrap().port;
    world.assign(assignment(1, SlotGoal::Running(served("1", Swap::Beside)), SlotGoal::Absent));
    world.pass(15);
    let here = web().to_string();
    let all = vec![
        route("api", 81, &[("a", Some(1000))]),
        route("cart", 81, &[("a", Some(1000))]),
        route("other", port, &[("a", Some(1000))]),
        route(&here, 82, &[("a", Some(1000))]),
    ];

    tell(&mut world, routes((1, 1), all));
    world.pass(6);

    assert_eq!(led(&world), ["api a 1000"]);
    let said = world.edge.clone().unwrap();
    assert_eq!(said.hosts.len(), 1);
    insta::assert_snapshot!(said.trouble, @"cart: port 81 is another application's here; other: port 8080 is another application's here; web runs on this host, which serves its own");
}

const HOLD: HoldLimits =
    HoldLimits { within: Duration::from_secs(10), requests: 100, bytes: 1 << 20 };

/// Tells the edge of `api`, with what it is to hold.
fn tell_cutover(world: &mut World, number: u64, switches: u64, hold: Option<(u64, bool)>) {
    let hosts = if switches == 0 { [1000, 0] } else { [0, 1000] };
    let [a, b] = hosts.map(Some);
    let mut api = route("api", 81, &[("a", a), ("b", b)]);
    let hold = hold.map(|(number, is_armed)| EdgeHold { number, is_armed, limits: HOLD });
    api.cutover = Some(EdgeCutover { switches, hold });
    let routes = Box::new(routes((1, number), vec![api]));
    world.give(Input::EdgeRouted { session: SessionId(world.session), routes });
    world.settle();
}

fn holds(world: &World) -> bool {
    world.gate.edges().values().any(|edge| edge.hold.is_some())
}

/// Returns what was said last: the hold, and how it stands.
fn said(world: &World) -> (Option<(u64, bool)>, HoldState) {
    let said = world.edge.as_ref().unwrap();
    assert!(said.is_followed);
    let cutover = &said.cutovers[0];
    (cutover.hold, cutover.state)
}

#[test]
fn an_edge_holds_says_when_nothing_is_under_way_and_is_armed_until_it_is_told() {
    let mut world = World::begin();
    world.connect();
    tell_cutover(&mut world, 1, 0, None);
    assert_eq!(said(&world), (None, HoldState::Open), "with no beat that was due");

    world.gate.busy_edges.insert("api".parse().unwrap());
    tell_cutover(&mut world, 2, 0, Some((1, false)));
    assert!(holds(&world));
    assert_eq!(said(&world), (Some((1, false)), HoldState::Holding));
    world.gate.busy_edges.clear();
    world.look_at_gate();
    world.settle();
    assert_eq!(said(&world), (Some((1, false)), HoldState::Drained));
    tell_cutover(&mut world, 3, 0, Some((1, true)));
    assert_eq!(said(&world), (Some((1, true)), HoldState::Drained));

    // It lasts, whatever time passes and whoever begins again.
    world.pass(60);
    world.crash();
    world.settle();
    world.pass(5);
    assert!(holds(&world));

    world.connect();
    tell_cutover(&mut world, 4, 1, None);
    assert!(!holds(&world));
    assert_eq!(led(&world), ["api a 0", "api b 1000"]);
    assert_eq!(world.edge.as_ref().unwrap().cutovers[0].switches, 1);
}

#[test]
fn a_hold_that_nobody_arms_ends_by_itself_and_is_not_begun_again() {
    let mut world = World::begin();
    world.connect();
    tell_cutover(&mut world, 1, 0, Some((1, false)));
    assert!(holds(&world));

    world.pass(9);
    assert!(!holds(&world));
    assert_eq!(said(&world), (Some((1, false)), HoldState::Open));
    // The same, as another host came.
    tell_cutover(&mut world, 2, 0, Some((1, false)));
    assert!(!holds(&world));
    // Nothing is held that could be armed.
    tell_cutover(&mut world, 3, 0, Some((1, true)));
    assert!(!holds(&world));
    assert_eq!(said(&world), (Some((1, true)), HoldState::Open));

    tell_cutover(&mut world, 4, 0, Some((2, false)));
    assert!(holds(&world), "another attempt");
}

#[test]
fn other_routes_meanwhile_make_a_hold_no_longer() {
    let mut world = World::begin();
    world.connect();
    tell_cutover(&mut world, 1, 0, Some((1, false)));
    world.pass(6);
    tell_cutover(&mut world, 2, 0, Some((1, false)));
    assert!(holds(&world));

    world.pass(3);
    assert!(!holds(&world));
}

#[test]
fn a_hold_does_not_outlive_the_process_that_began_it() {
    let mut world = World::begin();
    world.connect();
    tell_cutover(&mut world, 1, 0, Some((1, false)));
    assert!(holds(&world));

    world.crash();
    world.settle();

    assert!(!holds(&world));
    assert_eq!(led(&world), ["api a 1000", "api b 0"]);
}

#[test]
fn hosts_of_which_nothing_is_known_get_all_when_another_group_is_led_to() {
    let mut world = World::begin();
    world.connect();
    tell_cutover(&mut world, 1, 0, None);
    let mut api = route("api", 81, &[("b", None)]);
    api.cutover = Some(EdgeCutover { switches: 1, hold: None });

    tell(&mut world, routes((1, 2), vec![api.clone()]));
    assert_eq!(led(&world), ["api b 1000?"]);
    // After that it is as it is.
    let mut known = route("api", 81, &[("b", Some(0))]);
    known.cutover = api.cutover;
    tell(&mut world, routes((1, 3), vec![known]));
    tell(&mut world, routes((1, 4), vec![api]));
    assert_eq!(led(&world), ["api b 0?"]);
}
