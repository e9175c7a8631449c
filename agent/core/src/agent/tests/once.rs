//! `once` hooks: run by permit, at most once for each, and nothing of the release is started where
//! it is another host's affair that has not come to its end.

use std::sync::Arc;

use cutover_common::{
    Assignment, Generation, Health, HookKind, OnceDuty, OncePart, OnceStand, Phase, Release, Slot,
    SlotGoal,
};

use super::world::{World, assignment, hooked, prepared, running};
use crate::Action;

const BLUE: Slot = Slot::Blue;
const GREEN: Slot = Slot::Green;

/// A release with every hook, whose `before_start` is run by one host for all.
fn migrated(version: &str) -> Arc<Release> {
    let mut release = Arc::unwrap_or_clone(hooked(version));
    for hook in &mut release.hooks {
        hook.once = hook.kind == HookKind::BeforeStart;
    }
    Arc::new(release)
}

/// The goal in which 2 takes the place of 1, with what this host has to do with its once hook.
fn to_two(generation: u64, part: Option<OncePart>) -> Assignment {
    let release = migrated("2");
    let once = part.map(|part| OnceDuty { release: release.digest, part }).into_iter().collect();
    Assignment { once, ..assignment(generation, prepared("1"), SlotGoal::Running(release)) }
}

const fn run(permit: u64) -> OncePart {
    OncePart::Run { permit: Generation(permit) }
}

fn ran(world: &World) -> usize {
    world.trace.iter().filter(|line| *line == "before_start").count()
}

/// What the agent says of its once hook.
fn said(world: &World) -> Option<(u64, OnceStand)> {
    let report = world.agent.reports().into_iter().next()?;
    report.once.into_iter().next().map(|once| (once.permit.0, once.stand))
}

/// Performs what is asked up to the once hook, which stays asked.
fn perform_until_it_runs(world: &mut World) {
    let is_it = |action: &Action| matches!(action, Action::RunHook { hook, .. } if hook.kind == HookKind::BeforeStart);
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
    panic!("no hook was asked for: {:?}", world.trace);
}

#[test]
fn a_once_hook_runs_where_it_is_permitted_and_is_told_of() {
    let mut world = World::with_blue_running();
    world.assign(to_two(2, Some(run(2))));
    perform_until_it_runs(&mut world);
    assert_eq!(said(&world), Some((2, OnceStand::Running)));
    assert_eq!(world.report(BLUE).health, Health::Settled, "what runs is not disturbed before");
    world.pass(30);

    assert_eq!(ran(&world), 1);
    assert_eq!(said(&world), Some((2, OnceStand::Passed)));
    assert_eq!(world.report(GREEN).health, Health::Settled);
}

#[test]
fn nothing_of_the_release_is_started_while_it_is_to_pass_elsewhere() {
    let mut world = World::with_blue_running();
    world.assign(to_two(2, Some(OncePart::Awaited)));
    world.pass(60);

    assert_eq!(world.trace, ["install"]);
    assert_eq!(world.report(BLUE).health, Health::Settled);
    let green = world.report(GREEN);
    assert_eq!(green.phase, Phase::Waiting);
    assert_eq!(
        green.detail,
        "waits until its before_start hook has passed on the host that runs it for all"
    );

    world.assign(to_two(3, None));
    world.pass(60);
    assert_eq!(ran(&world), 0, "it has passed elsewhere");
    assert_eq!(said(&world), None);
    assert_eq!(world.report(GREEN).health, Health::Settled);
}

#[test]
fn what_was_interrupted_runs_again_with_another_permit_only() {
    let mut world = World::with_blue_running();
    world.assign(to_two(2, Some(run(2))));
    perform_until_it_runs(&mut world);
    world.crash();
    world.connect();
    world.pass(60);
    assert_eq!((ran(&world), said(&world)), (0, Some((2, OnceStand::Interrupted))));
    assert_eq!(world.report(GREEN).phase, Phase::Failed);

    world.assign(to_two(3, Some(run(2))));
    world.pass(60);
    assert_eq!(ran(&world), 0, "a later goal alone does not permit it");
    assert_eq!(world.report(BLUE).health, Health::Settled);

    world.assign(to_two(4, Some(run(4))));
    world.pass(60);
    assert_eq!((ran(&world), said(&world)), (1, Some((4, OnceStand::Passed))));
    assert_eq!(world.report(GREEN).health, Health::Settled);
}

#[test]
fn a_once_hook_that_was_begun_comes_to_its_end_whatever_the_goal_becomes() {
    let mut world = World::with_blue_running();
    world.assign(to_two(2, Some(run(2))));
    perform_until_it_runs(&mut world);
    let release = SlotGoal::Prepared(migrated("2"));
    world.assign(assignment(3, running("1"), release));
    world.pass(60);

    assert_eq!((ran(&world), said(&world)), (1, Some((2, OnceStand::Passed))));
    assert_eq!(world.report(BLUE).health, Health::Settled);
    assert_eq!(world.report(GREEN).phase, Phase::Prepared);

    world.assign(assignment(4, running("1"), SlotGoal::Absent));
    world.pass(60);
    assert_eq!(said(&world), None, "it is told of while its release is in the goal");
    world.assign(to_two(5, Some(run(2))));
    world.pass(60);
    assert_eq!((ran(&world), said(&world)), (1, Some((2, OnceStand::Passed))));
    assert_eq!(world.report(GREEN).health, Health::Settled);
}

#[test]
fn a_once_hook_is_begun_with_a_fresh_lease_only() {
    let mut world = World::with_blue_running();
    world.echoes = false;
    world.pass(30);
    world.assign(to_two(2, Some(run(2))));
    world.pass(60);
    assert_eq!(world.trace, ["install"], "the other hooks need none");
    assert_eq!(
        world.report(GREEN).detail,
        "its before_start hook is for all hosts, and waits for a fresh lease from the coordinator"
    );

    world.echoes = true;
    world.pass(60);
    assert_eq!(ran(&world), 1);
    assert_eq!(world.report(GREEN).health, Health::Settled);
}

#[test]
fn a_once_hook_that_failed_is_told_of_and_disturbs_nothing() {
    let mut world = World::with_blue_running();
    world.failing_hooks.insert(HookKind::BeforeStart);
    world.assign(to_two(2, Some(run(2))));
    world.pass(60);

    assert_eq!(said(&world), Some((2, OnceStand::Failed)));
    let green = world.report(GREEN);
    assert_eq!(green.phase, Phase::Failed);
    assert!(green.detail.contains("its before_start hook failed: exited with status 1"));
    assert_eq!(world.report(BLUE).health, Health::Settled);
}
