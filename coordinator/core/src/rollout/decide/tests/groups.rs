//! Two groups of hosts, of which edges lead to one.

use cutover_common::{EdgeRoutes, Health, HoldState, Phase};

use crate::{
    Request, Verb,
    rollout::{CutoverPhase, HostState, Waiting},
    testing::{PROD, Story, gated, labels, name, order, seconds},
};

const EDGE: &str = "edge-9";

const SWITCH: [(&str, &str); 3] = [("strategy", "blue_green"), ("groups", "group"), ("keep", "5m")];

/// Begins with two hosts in each group and an edge. Nothing runs yet.
fn groups() -> Story {
    let mut story = Story::fleet(0);
    for (agent, group) in
        [("web-1", "blue"), ("web-2", "blue"), ("web-3", "green"), ("web-4", "green")]
    {
        story.join_with(agent, labels(&[("env", PROD), ("group", group)]));
    }
    story.join_with(EDGE, labels(&[("edge", PROD)]));
    for of in ["4.0", "5.0", "6.0"] {
        story.push(gated(of));
    }
    story.connect_all();
    story
}

/// The same with 4.0 in the blue group, which clients get.
fn led_to_blue() -> Story {
    let mut story = groups();
    story.deploy("4.0", &SWITCH);
    through(&mut story);
    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
    story
}

/// Lets everything go on until it is over.
fn through(story: &mut Story) {
    story.settle();
    story.pass(seconds(300));
    story.settle();
}

fn routes(story: &Story) -> &EdgeRoutes {
    story.agents[&name(EDGE)].routes.as_ref().unwrap()
}

/// Returns the hosts that the edge was told to lead to, or that it is to hold.
fn led(story: &Story) -> String {
    let Some(route) = routes(story).routes.first() else { return "nowhere".to_owned() };
    let gets = route.hosts.iter().filter(|host| host.lead.is_none_or(|lead| lead.weight > 0));
    let hosts: Vec<&str> = gets.map(|host| host.agent.as_str()).collect();
    let hold = route.cutover.and_then(|cutover| cutover.hold);
    let held = hold.map_or("", |hold| if hold.is_armed { " (armed)" } else { " (held)" });
    format!("{}{held}", hosts.join(" "))
}

fn running(story: &Story, agent: &str) -> String {
    story.told(agent).unwrap_or_else(|| "nothing".to_owned())
}

#[test]
fn the_first_release_comes_to_one_group_which_is_led_to_when_it_serves() {
    let mut story = groups();
    story.deploy("4.0", &SWITCH);
    story.obey_all();
    story.obey("web-1");
    assert_eq!(led(&story), "", "one of them serves, and not the other");

    through(&mut story);

    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
    assert_eq!(led(&story), "web-1 web-2");
    assert_eq!(running(&story, "web-3"), "nothing");
}

#[test]
fn all_edges_hold_and_are_armed_before_any_leads_to_the_other_group() {
    let mut story = led_to_blue();
    story.deploy("5.0", &SWITCH);
    for _ in 0..2 {
        story.obey("web-3");
        story.obey("web-4");
    }
    assert_eq!(running(&story, "web-1"), "4.0", "what serves is left alone");
    assert_eq!(led(&story), "web-1 web-2 (held)");
    insta::assert_snapshot!(story.why(), @"2 of 2 hosts run 5.0, and this step of batch 1 of 1 began just now. Cutting over: clients wait up to 9s until nothing is under way at edge-9, or the old release goes on.");

    let told = routes(&story).clone();
    story.say_of_edge(EDGE, &told, HoldState::Holding);
    assert_eq!(led(&story), "web-1 web-2 (held)", "something is under way");
    story.say_of_edge(EDGE, &told, HoldState::Drained);
    assert_eq!(led(&story), "web-1 web-2 (armed)");
    // Its word of the hold that was not armed is none of this one.
    story.say_of_edge(EDGE, &told, HoldState::Drained);
    assert_eq!(led(&story), "web-1 web-2 (armed)");
    story.obey(EDGE);
    assert_eq!(led(&story), "web-3 web-4");
    assert!(matches!(story.waiting(), Some(Waiting::ForEdges { .. })), "{:?}", story.waiting());
    story.obey(EDGE);

    assert!(matches!(story.waiting(), Some(Waiting::ForSoak { .. })), "{:?}", story.waiting());
    assert_eq!(running(&story, "web-1"), "4.0", "it stays warm");
    story.pass(seconds(300));
    story.settle();
    assert_eq!(running(&story, "web-1"), "nothing");
    assert_eq!(story.state_word(), "succeeded", "{}", story.why());

    story.deploy("6.0", &SWITCH);
    through(&mut story);
    assert_eq!(led(&story), "web-1 web-2", "and back again");
    assert_eq!(
        (running(&story, "web-1").as_str(), running(&story, "web-3").as_str()),
        ("6.0", "nothing")
    );
}

#[test]
fn the_way_back_is_the_edges_first_and_then_what_they_have_left() {
    let mut story = led_to_blue();
    story.deploy("5.0", &SWITCH);
    story.settle();
    assert_eq!(led(&story), "web-3 web-4");

    story.fail("web-3", "5.0");

    assert_eq!(led(&story), "web-1 web-2", "at once");
    assert_eq!(running(&story, "web-4"), "5.0", "an edge may still lead there");
    insta::assert_snapshot!(story.why(), @"Going back because web-3 failed (was healthy and turned bad: exited with 1) and max_failed is 0. Waiting up to 10m for edge-9 to lead clients to the hosts of group=blue, then for a person.");
    story.obey(EDGE);
    assert_eq!(running(&story, "web-3"), "nothing");
    story.settle();
    assert_eq!(story.state_word(), "rolled_back", "{}", story.why());
    let (old, new) = (running(&story, "web-1"), running(&story, "web-4"));
    assert_eq!((old.as_str(), new.as_str()), ("4.0", "nothing"));
}

#[test]
fn clients_are_not_led_back_to_hosts_that_do_not_serve() {
    let mut story = led_to_blue();
    story.deploy("5.0", &SWITCH);
    story.settle();
    story.fail("web-1", "4.0");
    story.fail("web-2", "4.0");

    story.control(Verb::Rollback).unwrap();

    assert_eq!(led(&story), "web-3 web-4");
    insta::assert_snapshot!(story.why(), @"Going back because ann asked for it. Waiting up to 10m for web-1, web-2 to be healthy, then for a person.");
    story.report("web-2", "4.0", Phase::Running, Health::Settled);
    assert_eq!(led(&story), "web-2");
}

#[test]
fn a_group_that_fails_before_it_is_led_to_is_noticed_by_nobody() {
    let mut story = led_to_blue();
    story.deploy("5.0", &SWITCH);
    story.obey("web-3");
    story.obey("web-4");
    story.fail("web-3", "5.0");
    story.settle();

    assert_eq!(story.state_word(), "rolled_back", "{}", story.why());
    assert_eq!(
        (led(&story).as_str(), running(&story, "web-3").as_str()),
        ("web-1 web-2", "nothing")
    );
}

#[test]
fn an_edge_that_is_lost_while_it_holds_ends_the_attempt_and_the_third_asks_a_person() {
    let mut story = led_to_blue();
    story.join_with("edge-8", labels(&[("edge", PROD)]));
    story.connect("edge-8");
    story.deploy("5.0", &SWITCH);
    for _ in 0..3 {
        story.obey("web-3");
        story.obey("web-4");
    }
    assert_eq!(led(&story), "web-1 web-2 (held)");

    story.lose("edge-8");

    assert_eq!(led(&story), "web-1 web-2", "clients do not wait for it");
    story.pass(seconds(5));
    assert!(matches!(story.waiting(), Some(Waiting::ForContact { .. })), "{:?}", story.waiting());
    for attempt in 2..=3 {
        story.connect("edge-8");
        assert_eq!(led(&story), "web-1 web-2 (held)", "{attempt}: {}", story.why());
        story.lose("edge-8");
        story.pass(seconds(5));
    }
    assert_eq!(story.state_word(), "held");
    insta::assert_snapshot!(story.why(), @"Held for a person 5s ago: clients could not be led to 5.0 at all gates at one moment, 3 times: edge-8 cannot be reached; they get the old release. 2 of 2 hosts run 5.0.");
}

#[test]
fn a_hold_that_an_edge_has_let_go_is_not_taken_for_an_armed_one() {
    let mut story = led_to_blue();
    story.deploy("5.0", &SWITCH);
    for _ in 0..3 {
        story.obey("web-3");
        story.obey("web-4");
    }
    story.obey(EDGE);
    assert_eq!(led(&story), "web-1 web-2 (armed)");

    let told = routes(&story).clone();
    story.say_of_edge(EDGE, &told, HoldState::Open);

    assert_eq!(led(&story), "web-1 web-2");
    assert_eq!(story.newest().cutover.map(|it| it.phase), Some(CutoverPhase::Release));
}

#[test]
fn a_pause_and_an_abort_let_edges_go_on() {
    for verb in [Verb::Pause, Verb::Abort, Verb::Rollback] {
        let mut story = led_to_blue();
        story.deploy("5.0", &SWITCH);
        for _ in 0..3 {
            story.obey("web-3");
            story.obey("web-4");
        }
        assert_eq!(led(&story), "web-1 web-2 (held)");

        story.control(verb).unwrap();

        assert_eq!(led(&story), "web-1 web-2", "{verb:?}");
    }
}

#[test]
fn a_process_that_begins_after_the_switch_knows_of_it() {
    let mut story = led_to_blue();
    story.deploy("5.0", &SWITCH);
    for _ in 0..3 {
        story.obey("web-3");
        story.obey("web-4");
    }
    story.obey(EDGE);
    story.obey(EDGE);
    assert_eq!(led(&story), "web-3 web-4");

    story.restart();
    story.connect(EDGE);

    // Nothing is known of either group, and only one of them is to be gone on with.
    assert_eq!(led(&story), "web-3 web-4");
    assert_eq!(routes(&story).routes[0].hosts.len(), 2);
    story.connect_all();
    through(&mut story);
    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
}

#[test]
fn hosts_that_clients_are_not_led_to_are_no_part_of_what_runs() {
    let mut story = led_to_blue();
    for (agent, group) in [("web-5", "blue"), ("web-6", "green")] {
        story.join_with(agent, labels(&[("env", PROD), ("group", group)]));
        story.connect(agent);
        story.settle();
    }
    assert_eq!(running(&story, "web-5"), "4.0", "it gets what runs");
    assert_eq!(running(&story, "web-6"), "nothing");
    assert_eq!(led(&story), "web-1 web-2 web-5");

    story.deploy("5.0", &[("strategy", "rolling"), ("batch", "1")]);
    story.settle();

    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
    assert_eq!(
        (running(&story, "web-2").as_str(), running(&story, "web-3").as_str()),
        ("5.0", "nothing")
    );
}

#[test]
fn what_was_started_and_not_led_to_is_led_to_by_the_next_deploy() {
    let mut story = led_to_blue();
    let mut until: Vec<(&str, &str)> = SWITCH.to_vec();
    until.push(("until", "smoke"));
    story.deploy("5.0", &until);
    story.settle();
    assert_eq!(story.state_word(), "staged", "{}", story.why());
    assert_eq!((led(&story).as_str(), running(&story, "web-3").as_str()), ("web-1 web-2", "5.0"));

    story.deploy("5.0", &SWITCH);
    through(&mut story);

    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
    assert_eq!(led(&story), "web-3 web-4");
    // And when clients have it, there is nothing to do.
    let again = story.try_deploy("5.0", &SWITCH).unwrap_err();
    insta::assert_snapshot!(again.text, @"web@5.0 runs in health on all 2 hosts of prod already");
}

#[test]
fn hosts_that_are_lost_before_they_are_led_to_are_waited_for_and_then_a_person() {
    let mut story = led_to_blue();
    story.deploy("5.0", &[SWITCH[0], SWITCH[1], ("approve", "on")]);
    story.settle();
    story.lose("web-3");
    story.control(Verb::Promote { full: false }).unwrap();
    assert!(matches!(story.waiting(), Some(Waiting::ForContact { .. })), "{:?}", story.waiting());

    story.pass(seconds(900));

    assert_eq!((story.state_word(), led(&story).as_str()), ("held", "web-1 web-2"));
}

#[test]
fn clients_are_not_led_back_to_hosts_that_were_told_to_stop() {
    let mut story = led_to_blue();
    story.deploy("5.0", &[SWITCH[0], SWITCH[1], ("keep", "0s"), ("bake", "5m")]);
    for _ in 0..3 {
        story.obey("web-3");
        story.obey("web-4");
    }
    for _ in 0..3 {
        story.obey(EDGE);
    }
    assert_eq!(running(&story, "web-1"), "nothing", "and it has not done so yet");

    story.fail("web-3", "5.0");

    assert_eq!(led(&story), "web-4");
    assert!(matches!(story.waiting(), Some(Waiting::ForHealth { .. })), "{:?}", story.waiting());
}

#[test]
fn nothing_is_replaced_on_a_host_that_an_edge_may_still_lead_to() {
    let mut story = led_to_blue();
    let set = labels(&[("group", "green")]);
    story.ask(Request::LabelAgent { agent: name("web-2"), set, unset: Vec::new() }).unwrap();
    story.deploy("5.0", &SWITCH);
    for agent in ["web-2", "web-3", "web-4"] {
        story.obey(agent);
    }
    assert_eq!(running(&story, "web-2"), "4.0");
    assert!(matches!(story.waiting(), Some(Waiting::ForEdges { .. })), "{:?}", story.waiting());

    story.obey(EDGE);

    assert_eq!(running(&story, "web-2"), "5.0");
}

#[test]
fn too_few_hosts_in_health_are_not_led_to() {
    let mut story = led_to_blue();
    let mut settings: Vec<(&str, &str)> = SWITCH.to_vec();
    settings.extend([("max_failed", "1"), ("min_healthy", "2")]);
    story.deploy("5.0", &settings);
    story.obey("web-3");
    story.obey("web-4");
    story.obey("web-3");
    story.fail("web-4", "5.0");
    story.settle();

    assert_eq!(led(&story), "web-1 web-2");
    assert_eq!(story.state_word(), "held");
    insta::assert_snapshot!(story.why(), @"Held for a person just now: 1 of 2 hosts run 5.0 in health, and 2 are needed before clients are led to them. 1 of 2 hosts run 5.0.");
}

#[test]
fn groups_that_cannot_be_are_refused_in_words() {
    let refused = |story: &Story| story.core.plan(&order("5.0", &SWITCH)).unwrap_err().text;
    let mut story = groups();
    story.deploy("4.0", &[("strategy", "all_at_once")]);
    story.settle();
    insta::assert_snapshot!(refused(&story), @"groups: clients get web from group=blue, group=green, so that neither is free for another release; label the hosts that run it alike, and give the other label to hosts that do not");

    let mut story = led_to_blue();
    story.ask(Request::RemoveAgent { agent: name(EDGE) }).unwrap();
    insta::assert_snapshot!(refused(&story), @"no agent is an edge of prod, which would lead clients to a group");

    let mut story = led_to_blue();
    story.join("web-7");
    insta::assert_snapshot!(refused(&story), @"groups: web-7 has no label group; give it one with `cutover agents label`");

    for agent in ["web-3", "web-4", "web-7"] {
        let set = labels(&[("group", "blue")]);
        story.ask(Request::LabelAgent { agent: name(agent), set, unset: Vec::new() }).unwrap();
    }
    insta::assert_snapshot!(refused(&story), @"groups: hosts are in two groups, and the label group of prod has one value (blue); label them so that there are two");
    let set = labels(&[("group", "red")]);
    story.ask(Request::LabelAgent { agent: name("web-3"), set, unset: Vec::new() }).unwrap();
    let planned = story.core.plan(&order("5.0", &SWITCH)).unwrap();
    assert_eq!(planned.spec.groups().unwrap().to, "red");
    assert!(matches!(story.host("web-1"), HostState::Updated));
}
