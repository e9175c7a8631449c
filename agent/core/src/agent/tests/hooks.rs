//! Hooks that bring a release into service, and those around a stop: each once, in order, and
//! nothing is disturbed, started or served before what must pass has passed.

use std::sync::Arc;

use cutover_common::{Health, HookKind, Phase, Release, Slot, SlotGoal, Swap};

use super::world::{World, assignment, hooked, prepared, running, served};
use crate::{Action, Event};

const BLUE: Slot = Slot::Blue;
const GREEN: Slot = Slot::Green;

/// A release behind the gate with every hook.
fn served_and_hooked(version: &str, swap: Swap) -> SlotGoal {
    let mut release = served(version, swap);
    Arc::make_mut(&mut release).hooks.clone_from(&hooked(version).hooks);
    SlotGoal::Running(release)
}

/// The content of 2 with the config of an environment.
fn configured(version: &str) -> Arc<Release> {
    let mut release = hooked("2");
    Arc::make_mut(&mut release).name.version = version.parse().unwrap();
    release
}

fn replaced_by(goal: SlotGoal) -> World {
    let mut world = World::with_blue_running();
    world.assign(assignment(2, prepared("1"), goal));
    world
}

/// Performs what is asked up to a hook of this kind, which stays asked.
fn perform_until(world: &mut World, wanted: HookKind) {
    let is_it =
        |action: &Action| matches!(action, Action::RunHook { hook, .. } if hook.kind == wanted);
    for _ in 0..100 {
        while let Some(action) = world.queue.pop_front() {
            if is_it(&action) {
                world.queue.push_front(action);
                return;
            }
            if let Some(answer) = world.perform(action) {
                world.give(answer);
            }
        }
        world.now = world.agent.next_wake().expect("the agent waits for something");
        world.give(crate::Input::Tick);
    }
    panic!("no {wanted} hook was asked for: {:?}", world.trace);
}

#[test]
fn hooks_run_once_each_in_the_order_of_an_instances_life() {
    let mut world = replaced_by(SlotGoal::Running(hooked("2")));
    world.pass(30);
    assert_eq!(
        world.trace,
        ["install", "before_start", "hook", "stop blue 1", "start green 2", "after_start", "smoke"]
    );
    assert_eq!(world.report(GREEN).health, Health::Settled);
    world.trace.clear();

    world.assign(assignment(3, running("1"), SlotGoal::Prepared(hooked("2"))));
    world.pass(30);

    assert_eq!(world.trace, ["hook", "stop green 2", "after_stop", "start blue 1"]);
}

#[test]
fn a_restart_runs_no_hooks_and_another_deploy_runs_all_but_install() {
    let mut world = replaced_by(SlotGoal::Running(hooked("2")));
    world.pass(30);
    world.trace.clear();
    world.kill();
    world.pass(30);
    assert_eq!(world.trace, ["start green 2"]);

    world.assign(assignment(3, running("1"), SlotGoal::Prepared(hooked("2"))));
    world.pass(30);
    world.trace.clear();
    world.assign(assignment(4, prepared("1"), SlotGoal::Running(hooked("2"))));
    world.pass(30);

    assert_eq!(
        world.trace,
        ["before_start", "hook", "stop blue 1", "start green 2", "after_start", "smoke"]
    );
}

#[test]
fn a_hook_before_the_start_that_fails_disturbs_nothing() {
    for kind in HookKind::BEFORE_THE_START {
        let mut world = World::with_blue_running();
        world.failing_hooks.insert(kind);
        world.assign(assignment(2, prepared("1"), SlotGoal::Running(hooked("2"))));
        world.pass(60);

        assert!(!world.trace.iter().any(|line| line.starts_with("st")), "{:?}", world.trace);
        let green = world.report(GREEN);
        assert_eq!(green.phase, Phase::Failed, "{green:?}");
        assert_eq!(
            green.detail,
            format!(
                "its {kind} hook failed: exited with status 1; not run again before another goal"
            )
        );
        assert_eq!(world.report(BLUE).health, Health::Settled);

        world.failing_hooks.clear();
        world.assign(assignment(3, prepared("1"), SlotGoal::Running(hooked("2"))));
        world.pass(60);
        assert_eq!(world.report(GREEN).health, Health::Settled, "{kind} passes the next time");
    }
}

#[test]
fn the_old_instance_runs_while_a_hook_before_the_start_of_the_new_one_does() {
    let mut world = replaced_by(SlotGoal::Running(hooked("2")));
    perform_until(&mut world, HookKind::BeforeStart);

    assert_eq!(world.trace, ["install"]);
    assert_eq!(world.alive().len(), 1);
    let green = &world.agent.reports()[0].slots.green;
    assert_eq!(green.phase, Phase::Waiting);
    assert_eq!(green.detail, "running its before_start hook");
}

#[test]
fn traffic_waits_for_the_hooks_after_the_start_and_stays_away_when_one_fails() {
    for kind in HookKind::BEFORE_THE_TRAFFIC {
        let mut world = World::with_blue_served(Swap::Beside);
        world.failing_hooks.insert(kind);
        let blue = SlotGoal::Prepared(served("1", Swap::Beside));
        world.assign(assignment(2, blue.clone(), served_and_hooked("2", Swap::Beside)));
        perform_until(&mut world, kind);
        world.pass_without_hooks(60);
        assert_eq!(world.gate.leads_to(), [BLUE]);
        assert!(!world.report(GREEN).has_settled(), "{kind} runs: {:?}", world.report(GREEN));

        world.pass(60);
        assert_eq!(world.gate.leads_to(), [BLUE]);
        assert_eq!(world.report(GREEN).phase, Phase::Failed);
        assert!(world.report(GREEN).detail.contains(&format!("its {kind} hook failed")));

        world.failing_hooks.clear();
        world.assign(assignment(3, blue, served_and_hooked("2", Swap::Beside)));
        world.pass(60);
        assert_eq!(world.gate.leads_to(), [GREEN]);
    }
}

#[test]
fn a_hook_that_the_agents_death_interrupted_is_ended_told_and_run_only_for_another_goal() {
    for kind in [HookKind::Install, HookKind::BeforeStart, HookKind::AfterStart, HookKind::Smoke] {
        let mut world = replaced_by(SlotGoal::Running(hooked("2")));
        perform_until(&mut world, kind);
        world.crash();
        world.connect();
        world.pass(60);

        let ran = world.trace.iter().filter(|line| **line == kind.name()).count();
        assert_eq!(ran, 0, "{kind}: {:?}", world.trace);
        let green = world.report(GREEN);
        assert_eq!(green.phase, Phase::Failed, "{kind}: {green:?}");
        assert!(green.detail.contains(&format!("its {kind} hook was interrupted")), "{green:?}");

        world.assign(assignment(3, prepared("1"), SlotGoal::Running(hooked("2"))));
        world.pass(60);
        assert_eq!(world.report(GREEN).health, Health::Settled, "{kind}");
    }
}

#[test]
fn a_hook_that_nobody_wants_any_more_is_ended_and_the_way_back_does_not_wait_for_it() {
    let mut world = replaced_by(SlotGoal::Running(hooked("2")));
    perform_until(&mut world, HookKind::Smoke);
    let smoke = world.queue.pop_front();
    world.assign(assignment(3, running("1"), SlotGoal::Absent));
    world.pass(60);

    assert!(matches!(smoke, Some(Action::RunHook { .. })));
    assert_eq!(world.report(BLUE).health, Health::Settled);
    assert_eq!(world.report(GREEN).phase, Phase::Empty);
}

#[test]
fn a_hook_around_a_stop_that_fails_is_a_warning_and_never_a_veto() {
    for kind in [HookKind::BeforeStop, HookKind::AfterStop] {
        let mut world = replaced_by(SlotGoal::Running(hooked("2")));
        world.pass(30);
        world.failing_hooks.insert(kind);
        world.assign(assignment(3, running("1"), SlotGoal::Prepared(hooked("2"))));
        world.pass(60);

        assert_eq!(world.report(BLUE).health, Health::Settled);
        let green = world.report(GREEN);
        assert_eq!(green.phase, Phase::Prepared);
        assert_eq!(green.detail, format!("its {kind} hook failed: exited with status 1"));
    }
}

#[test]
fn a_release_that_is_only_prepared_is_installed_and_nothing_more() {
    let mut world = World::with_blue_running();
    world.assign(assignment(2, running("1"), SlotGoal::Prepared(hooked("2"))));
    world.pass(30);

    assert_eq!(world.trace, ["install"]);
    assert_eq!(world.report(GREEN).phase, Phase::Prepared);
}

#[test]
fn the_time_for_hooks_is_added_to_the_time_for_health() {
    let mut world = replaced_by(SlotGoal::Running(hooked("2")));
    world.is_healthy = false;
    world.pass(60);
    let late = world.report(GREEN).detail;
    // healthy_within and four hooks of five seconds.
    assert!(!late.contains("not healthy within"), "{late}");
    world.pass(60);
    let late = world.report(GREEN).detail;
    assert!(late.contains("not healthy within"), "{late}");
}

#[test]
fn another_config_runs_its_own_hooks_before_anything_is_disturbed_but_is_installed_already() {
    let mut world = replaced_by(SlotGoal::Running(configured("2~production.1")));
    world.pass(30);
    world.trace.clear();
    world.assign(assignment(3, prepared("1"), SlotGoal::Running(configured("2~production.2"))));
    world.pass(30);
    let of_each_life = [
        "before_start",
        "hook",
        "stop green 2~production.1",
        "after_stop",
        "start green 2~production.2",
        "after_start",
        "smoke",
    ];
    assert_eq!(world.trace, of_each_life);
}

#[test]
fn what_has_passed_for_a_release_that_was_left_prepared_does_not_count_for_another_config() {
    let mut world = World::with_blue_running();
    left_prepared(&mut world, "2~production.1");
    world.assign(assignment(4, prepared("1"), SlotGoal::Running(configured("2~production.2"))));
    world.pass(30);
    let start = "start green 2~production.2";
    assert_eq!(world.trace, ["before_start", "hook", "stop blue 1", start, "after_start", "smoke"]);
}

#[test]
fn what_has_passed_for_an_older_agent_is_not_run_again() {
    let mut world = World::with_blue_running();
    left_prepared(&mut world, "2~production.1");
    let mut summary = serde_json::to_value(world.agent.remembered()).unwrap();
    let runs = &mut summary["applications"]["web"]["slots"]["green"]["hooks"];
    for run in runs.as_array_mut().unwrap() {
        run.as_object_mut().unwrap().remove("version").expect("it is kept");
    }
    let remembered = serde_json::from_value(summary).unwrap();
    world.events = vec![Event::Summarised(Box::new(remembered))];
    world.crash();
    world.connect();
    world.assign(assignment(4, prepared("1"), SlotGoal::Running(configured("2~production.1"))));
    world.pass(30);
    let start = "start green 2~production.1";
    assert_eq!(world.trace, ["hook", "stop blue 1", start, "after_start", "smoke"]);
}

/// Lets all pass in green that comes before the start of this config of 2, and 1 run on in blue.
fn left_prepared(world: &mut World, version: &str) {
    world.echoes = false;
    world.pass(15);
    world.assign(assignment(2, prepared("1"), SlotGoal::Running(configured(version))));
    world.settle();
    assert_eq!(world.trace, ["install", "before_start"], "no lease, so nothing is stopped");
    world.assign(assignment(3, running("1"), SlotGoal::Prepared(configured(version))));
    world.settle();
    world.echoes = true;
    world.pass(30);
    assert_eq!(world.trace, ["install", "before_start"]);
    world.trace.clear();
}
