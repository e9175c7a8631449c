//! Drained hosts: they count as down, and no rollout begins on them.

use cutover_common::{Health, Phase};

use crate::{
    Answer, EventKind, RefusalKind, Verb,
    event::Change,
    rollout::{
        Cause, HostState, State,
        decide::{Decision, decide},
    },
    testing::{PROD, Story, labels, name, order, seconds},
};

#[test]
fn a_drain_survives_a_restart_and_is_done_once() {
    let mut story = Story::running(3);
    assert_eq!(story.drain("web-2"), Ok(Answer::Done));
    assert_eq!(story.drain("web-2"), Ok(Answer::Done));

    story.restart();
    let drain = story.core.enrolments().drain(&name("web-2")).unwrap();
    assert_eq!((drain.by.as_str(), drain.reason.as_str()), ("ann", "a new disk"));

    assert_eq!(story.undrain("web-2"), Ok(Answer::Done));
    assert_eq!(story.undrain("web-2"), Ok(Answer::Done));
    assert!(story.core.enrolments().drain(&name("web-2")).is_none());
    let is_about_it = |kind: &EventKind| {
        matches!(kind, EventKind::AgentDrained { .. } | EventKind::AgentUndrained { .. })
    };
    assert_eq!(story.log.iter().filter(|event| is_about_it(&event.kind)).count(), 2);
    assert_eq!(story.drain("web-9").unwrap_err().kind, RefusalKind::NotFound);
    assert_eq!(story.undrain("web-9").unwrap_err().kind, RefusalKind::NotFound);
}

#[test]
fn a_plan_leaves_drained_hosts_out_and_says_so() {
    let mut story = Story::running(4);
    story.drain("web-2").unwrap();

    let planned = story.core.plan(&order("2.0", &[("batch", "1")])).unwrap();
    let waves: Vec<String> =
        planned.plan.waves.iter().flat_map(|wave| &wave.agents).map(ToString::to_string).collect();
    assert_eq!(waves, ["web-1", "web-3", "web-4"]);
    assert_eq!(planned.drained, [name("web-2")]);
    assert_eq!((planned.hosts, planned.healthy, planned.spec.min_healthy), (4, 3, 2));
    assert_eq!(planned.worst_healthy, [2, 2, 2]);

    story.deploy("2.0", &[("batch", "1")]);
    story.settle();
    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
    assert_eq!(story.told("web-2").as_deref(), Some("1.0"));

    story.undrain("web-2").unwrap();
    story.deploy("2.0", &[]);
    story.settle();
    assert_eq!(story.told("web-2").as_deref(), Some("2.0"));
}

#[test]
fn a_share_of_the_floor_is_of_all_hosts_and_a_drained_one_is_down() {
    let mut story = Story::running(4);
    story.drain("web-4").unwrap();

    let refusal = story.try_deploy("2.0", &[("min_healthy", "75%")]).unwrap_err();

    insta::assert_snapshot!(refusal.text, @"only 3 of 4 hosts (1 drained) are healthy and min_healthy is 3: taking one more out would leave 2");
}

#[test]
fn a_fleet_that_is_drained_whole_has_nothing_to_deploy_to() {
    let mut story = Story::running(2);
    story.drain("web-1").unwrap();
    story.drain("web-2").unwrap();

    let refusal = story.try_deploy("2.0", &[]).unwrap_err();

    insta::assert_snapshot!(refusal.text, @"every host of prod that does not run web@2.0 in health is drained: web-1, web-2");
    insta::assert_snapshot!(refusal.hint, @"let one take part again: cutover agents drain AGENT --undo");
}

#[test]
fn a_drain_that_breaks_the_floor_of_a_rollout_is_refused_with_the_numbers() {
    let mut story = Story::running(4);
    story.deploy("2.0", &[("batch", "1")]);
    story.obey_all();
    assert_eq!(story.hosts("updating"), "web-1");

    let refusal = story.drain("web-4").unwrap_err();
    let id = story.rollout.unwrap().to_string();
    insta::assert_snapshot!(refusal.text.replace(&id, "ID"), @"agent web-4 cannot be drained: web has 3 healthy hosts in prod and min_healthy is 3, so 2 would be too few for rollout ID");
    assert!(refusal.hint.contains("cutover abort"), "{refusal:?}");

    // One that is down already can be drained.
    story.fail("web-4", "1.0");
    story.drain("web-4").unwrap();
}

#[test]
fn a_drained_host_counts_as_down_whatever_it_says() {
    let mut story = Story::running(4);
    story.deploy("2.0", &[("batch", "1"), ("min_healthy", "2")]);
    story.obey_all();
    story.drain("web-4").unwrap();
    story.obey("web-1");

    assert_eq!(story.hosts("updating"), "web-2", "two are left: {}", story.why());
    story.fail("web-1", "2.0");
    story.settle();
    assert_eq!(story.state_word(), "rolled_back", "{}", story.why());
    assert_eq!(story.told("web-4").as_deref(), Some("1.0"));
}

#[test]
fn waiting_for_a_floor_names_the_drained_hosts() {
    let mut story = Story::running(4);
    story.deploy("2.0", &[("batch", "1"), ("soak", "10s"), ("progress_within", "10m")]);
    story.settle();
    story.drain("web-4").unwrap();
    story.pass(seconds(10));
    story.obey_all();

    insta::assert_snapshot!(story.why(), @"1 of 4 hosts run 2.0 and 1 is left out, and this step of batch 2 of 4 began just now. Waiting up to 10m to take web-2 out, as 3 are healthy (web-4 drained) and min_healthy is 3, then for a person.");
    story.pass(seconds(600));
    assert_eq!(story.state_word(), "held");
    insta::assert_snapshot!(story.why(), @"Held for a person just now: nothing went forward for 10m: taking web-2 out would leave too little: 3 are healthy (web-4 drained) and min_healthy is 3. 1 of 4 hosts run 2.0 and 1 is left out.");
}

#[test]
fn a_drained_host_of_a_rollout_is_left_out_and_the_others_go_on() {
    let mut story = Story::running(4);
    story.deploy("2.0", &[("batch", "1"), ("min_healthy", "1")]);
    story.obey_all();
    story.drain("web-3").unwrap();
    story.settle();

    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
    insta::assert_snapshot!(story.why(), @"Succeeded: 3 of 4 hosts run 2.0 in health; drained: web-3.");
    let lines: Vec<&str> = story.newest().history.iter().map(|(_, line)| line.as_str()).collect();
    assert!(
        lines.contains(&"web-3 left out from here on: drained by ann: a new disk"),
        "{lines:?}"
    );
}

#[test]
fn a_drained_host_that_was_told_and_has_not_begun_is_called_back() {
    let mut story = Story::running(3);
    story.deploy("2.0", &[("batch", "1"), ("min_healthy", "1")]);
    story.obey_all();
    assert_eq!(story.hosts("updating"), "web-1");

    story.drain("web-1").unwrap();

    assert_eq!(story.told("web-1").as_deref(), Some("1.0"));
    assert!(matches!(story.host("web-1"), HostState::Excluded { touched: false, .. }));
    story.settle();
    assert_eq!(story.hosts("updated"), "web-2 web-3", "{}", story.why());
}

#[test]
fn a_drained_host_that_has_begun_is_left_to_itself() {
    let mut story = Story::running(3);
    story.deploy("2.0", &[("batch", "1"), ("min_healthy", "1")]);
    story.obey_all();
    story.report("web-1", "2.0", Phase::Starting, Health::Unknown);
    let goal = story.generation("web-1");

    story.drain("web-1").unwrap();

    assert!(matches!(story.host("web-1"), HostState::Excluded { touched: true, .. }));
    story.settle();
    assert_eq!(story.state_word(), "succeeded");
    assert_eq!(story.generation("web-1"), goal);
}

#[test]
fn a_drained_host_is_not_taken_back() {
    let mut story = Story::running(3);
    story.deploy("2.0", &[("batch", "1"), ("min_healthy", "0")]);
    story.obey_all();
    story.obey("web-1");
    story.control(Verb::Rollback).unwrap();
    story.pass_in_silence(seconds(1));
    story.drain("web-1").unwrap();
    story.settle();

    assert_eq!(story.state_word(), "rolled_back", "{}", story.why());
}

#[test]
fn a_host_that_is_drained_while_the_rollout_is_held_is_not_sent_again() {
    let mut story = Story::running(3);
    story.deploy("2.0", &[("batch", "1"), ("auto_rollback", "off"), ("min_healthy", "1")]);
    story.obey_all();
    story.fail("web-1", "2.0");
    assert_eq!(story.state_word(), "held");

    story.drain("web-1").unwrap();
    assert_eq!(story.hosts("failed"), "web-1", "the budget still counts it");
    story.control(Verb::Retry).unwrap();
    story.settle();

    assert_eq!(story.hosts("excluded"), "web-1");
    assert_eq!(story.state_word(), "succeeded", "{}", story.why());
}

#[test]
fn a_drained_host_that_was_called_back_on_the_way_back_is_not_told_to_go_back() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[("batch", "1")]);
    story.drain("web-1").unwrap();
    let mut rollout = story.newest().clone();
    let cause = Cause::Operator { by: "ann".to_owned(), reason: String::new() };
    let waves = vec![vec![name("web-1")]];
    rollout.state = State::RollingBack { cause, waves, wave: 0, since: story.now };
    rollout.hosts.get_mut(&name("web-1")).unwrap().state = HostState::Pending;

    let members = story.core.members(&rollout.environment);
    let decision = decide(&rollout, story.core.scene(story.now, &members));

    let Decision::Record { change: Change::HostsExcluded { agents, .. }, goals } = decision else {
        panic!("{decision:?}")
    };
    assert_eq!((agents, goals), (vec![name("web-1")], Vec::new()));
}

#[test]
fn at_rest_the_floor_of_what_runs_goes_on() {
    let mut story = Story::running(4);
    story.deploy("2.0", &[("batch", "1")]);
    story.settle();
    story.drain("web-4").unwrap();

    let refusal = story.drain("web-3").unwrap_err();
    insta::assert_snapshot!(refusal.text, @"agent web-3 cannot be drained: web has 3 healthy hosts in prod and min_healthy is 3, so 2 would be too few");
    insta::assert_snapshot!(refusal.hint, @"bring others back first (cutover status web), or drain it all the same: cutover agents drain web-3 --force");

    // One that is down already can be drained, and any by force.
    story.fail("web-3", "2.0");
    story.drain("web-3").unwrap();
    story.force_drain("web-2");
    assert!(story.core.enrolments().drain(&name("web-2")).is_some());
}

#[test]
fn a_zone_keeps_its_floor_at_rest_too() {
    let mut story = Story::fleet(0);
    for (agent, zone) in [("web-1", "a"), ("web-2", "a"), ("web-3", "b"), ("web-4", "b")] {
        story.join_with(agent, labels(&[("env", PROD), ("zone", zone)]));
        story.connect(agent);
    }
    story.deploy("1.0", &[("zone", "zone"), ("zone_min_healthy", "1"), ("min_healthy", "1")]);
    story.settle();
    story.drain("web-1").unwrap();

    let refusal = story.drain("web-2").unwrap_err();
    insta::assert_snapshot!(refusal.text, @r#"agent web-2 cannot be drained: web has 1 healthy hosts in zone "a" of prod and zone_min_healthy is 1, so 0 would be too few"#);
    story.drain("web-3").unwrap();
}
