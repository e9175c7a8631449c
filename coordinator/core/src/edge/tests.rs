//! Tests of what edges are told: by what is known of hosts, and what happens when little is.

use cutover_common::{EdgeReport, Health, Phase, TlsFiles, wire::Heartbeat};
use uuid::Uuid;

use super::*;
use crate::{
    Input, Request,
    testing::{PROD, Story, in_place, labels, name, seconds},
};

const EDGE: &str = "edge-9";

/// A fleet of three that runs release 4.0 behind its gates, and an edge that is there.
fn story() -> Story {
    let mut story = Story::running(3);
    story.push(in_place("4.0"));
    story.deploy("4.0", &[("strategy", "all_at_once"), ("min_healthy", "0")]);
    story.settle();
    story.join_with(EDGE, labels(&[("edge", PROD)]));
    story.connect(EDGE);
    story
}

/// Returns what an edge was told last by this process, host by host.
fn told(story: &Story) -> Vec<String> {
    let Some(told) = story.core.edges.told.get(&name(EDGE)) else { return Vec::new() };
    let hosts = told.routes.routes.iter().flat_map(|route| &route.hosts);
    let words = |host: &EdgeHost| match host.lead {
        None => format!("{} as it is", host.agent),
        Some(EdgeLead { address, weight, is_certain }) => {
            let doubt = if is_certain { "" } else { "?" };
            format!("{} {address} {weight}{doubt}", host.agent)
        }
    };
    hosts.map(words).collect()
}

/// Returns the routes that the newest input sent.
fn sent(story: &Story) -> Vec<EdgeRoutes> {
    let mut sent = Vec::new();
    for action in &story.actions {
        if let Action::RouteEdge { routes, .. } = action {
            sent.push((**routes).clone());
        }
    }
    sent
}

/// The edge's heartbeat, which says what it has accepted.
fn beat(story: &mut Story, revision: Option<EdgeRevision>) {
    let session = story.agents[&name(EDGE)].session.unwrap();
    let edge = revision.map(|revision| EdgeReport { revision, ..EdgeReport::default() });
    let heartbeat = Heartbeat {
        nonce: Uuid::nil(),
        load: cutover_common::HostLoad::default(),
        counts: Vec::new(),
        vitals: Vec::new(),
        checks: Vec::new(),
        reports: Vec::new(),
        edge,
    };
    story.handle(Input::Beat { session, heartbeat });
}

#[test]
fn every_host_that_serves_gets_what_is_new_and_one_that_does_not_gets_nothing() {
    let mut story = story();
    let all = ["web-1 10.0.0.1:8080 1000", "web-2 10.0.0.2:8080 1000", "web-3 10.0.0.3:8080 1000"];
    assert_eq!(told(&story), all);

    story.fail("web-2", "4.0");
    assert_eq!(told(&story)[1], "web-2 10.0.0.2:8080 0");
    story.report("web-2", "4.0", Phase::Running, Health::Passing);
    assert_eq!(told(&story), all);
    story.drain("web-3").unwrap();
    assert_eq!(told(&story)[2], "web-3 10.0.0.3:8080 0");
    story.undrain("web-3").unwrap();
    assert_eq!(told(&story), all);
    story.ask(Request::RemoveAgent { agent: name("web-3") }).unwrap();
    assert_eq!(told(&story), all[..2]);
}

#[test]
fn an_edge_is_told_once_and_again_only_when_something_changed_or_was_lost() {
    let mut story = story();
    let first = story.core.edges.told[&name(EDGE)].routes.revision;
    story.beat("web-1");
    story.obey("web-2");
    assert_eq!(sent(&story), []);

    story.fail("web-1", "4.0");
    let routes = sent(&story);
    assert_eq!(routes.len(), 1);
    assert!(routes[0].revision > first);
    // Its beats do not show that this has reached it.
    beat(&mut story, Some(first));
    assert_eq!(sent(&story), []);
    story.pass_in_silence(seconds(11));
    assert_eq!(sent(&story), routes);
    beat(&mut story, Some(routes[0].revision));
    story.pass_in_silence(seconds(11));
    beat(&mut story, Some(routes[0].revision));
    assert_eq!(sent(&story), []);
}

#[test]
fn hosts_that_are_spoken_to_in_another_way_get_nothing_until_most_are() {
    let mut story = story();
    let mut release = in_place("5.0");
    let files = TlsFiles { certificate: "/c.pem".to_owned(), key: "/c.key".to_owned() };
    release.service.as_mut().unwrap().tls = Some(files);
    story.push(release);
    story.deploy("5.0", &[("strategy", "all_at_once"), ("min_healthy", "0")]);
    // They get the release, and then are told to run it.
    story.obey_all();

    story.report("web-1", "5.0", Phase::Running, Health::Passing);
    assert_eq!(told(&story), ["web-2 10.0.0.2:8080 1000", "web-3 10.0.0.3:8080 1000"]);
    story.report("web-2", "5.0", Phase::Running, Health::Passing);
    assert_eq!(told(&story), ["web-1 10.0.0.1:8080 1000", "web-2 10.0.0.2:8080 1000"]);
}

#[test]
fn a_host_out_of_touch_keeps_what_it_had() {
    let mut story = story();
    story.fail("web-2", "4.0");

    story.lose("web-1");
    story.lose("web-2");
    let lost = ["web-1 10.0.0.1:8080 1000?", "web-2 10.0.0.2:8080 0?", "web-3 10.0.0.3:8080 1000"];
    assert_eq!(told(&story), lost);
    story.pass(seconds(120));
    assert_eq!(told(&story), lost);
    // It said hello, and not yet how it is.
    story.hello("web-1");
    assert_eq!(told(&story), lost);
    // Nobody is left that is known to serve, or did when it was heard last.
    story.beat("web-1");
    story.fail("web-1", "4.0");
    story.fail("web-3", "4.0");
    let last = ["web-1 10.0.0.1:8080 0", "web-2 10.0.0.2:8080 1000?", "web-3 10.0.0.3:8080 0"];
    assert_eq!(told(&story), last);
}

#[test]
fn a_process_that_has_just_begun_leaves_everything_as_it_is() {
    let mut story = story();
    story.fail("web-2", "4.0");

    story.restart();
    story.connect(EDGE);

    assert_eq!(told(&story), ["web-1 as it is", "web-2 as it is", "web-3 as it is"]);
    let revision = story.core.edges.told[&name(EDGE)].routes.revision;
    assert_eq!(revision, EdgeRevision { term: story.core.term(), number: 1 });
    story.connect("web-1");
    assert_eq!(told(&story)[..2], ["web-1 10.0.0.1:8080 1000", "web-2 as it is"]);
    // What is drained is known.
    story.drain("web-3").unwrap();
    assert_eq!(told(&story), ["web-1 10.0.0.1:8080 1000", "web-2 as it is"]);
}

#[test]
fn an_agent_that_has_just_begun_and_not_asked_its_instance_is_not_one_that_does_not_serve() {
    let mut story = story();
    story.lose("web-1");
    let unclear = story.slot_as("web-1", "4.0", |slot| {
        slot.health = Health::Unknown;
        slot.traffic = cutover_common::Traffic::Away;
    });
    story.hello("web-1");
    story.say("web-1", unclear);

    assert_eq!(told(&story)[0], "web-1 10.0.0.1:8080 1000?");
}

#[test]
fn the_label_makes_an_edge_and_its_loss_empties_it() {
    let mut story = story();
    let unset = vec![EDGE_LABEL.to_owned()];
    let unlabel = Request::LabelAgent { agent: name(EDGE), set: labels(&[]), unset };
    story.ask(unlabel).unwrap();
    assert_eq!(sent(&story).pop().unwrap().routes, []);

    // A process that knows nothing of it empties it as well, once it says what it has.
    story.restart();
    story.hello(EDGE);
    assert_eq!(sent(&story), []);
    beat(&mut story, Some(EdgeRevision::default()));
    assert_eq!(sent(&story).pop().unwrap().routes, []);
}

#[test]
fn a_store_that_is_older_than_the_fleet_tells_edges_nothing() {
    let mut story = story();
    story.restart();
    let ahead = name("web-2");
    story.agents.get_mut(&ahead).unwrap().held.generation.0 += 7;
    story.hello("web-2");
    story.connect(EDGE);
    assert_eq!(sent(&story), []);
    assert_eq!(told(&story), [""; 0]);

    story.agents.get_mut(&ahead).unwrap().held.generation.0 -= 7;
    story.lose("web-2");
    story.connect("web-2");
    assert_eq!(told(&story).len(), 3);
}

#[test]
fn an_edge_among_its_own_hosts_does_not_lead_to_itself() {
    let mut story = story();
    let set = labels(&[("edge", PROD)]);
    let label = Request::LabelAgent { agent: name("web-1"), set, unset: Vec::new() };
    story.ask(label).unwrap();

    let told = &story.core.edges.told[&name("web-1")].routes;
    let hosts: Vec<&str> = told.routes[0].hosts.iter().map(|host| host.agent.as_str()).collect();
    assert_eq!(hosts, ["web-2", "web-3"]);
}
