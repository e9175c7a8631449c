//! One rule a story.

use std::time::Duration;

use cutover_common::{Health, Phase, Slot, SlotGoal, Term};

use super::world::{Process, TIMERS, World, assignment, prepared, release, running, web};
use crate::{Action, Agent, Event, Finding, Input, PrepareFailure, Retry, SessionId};

const BLUE: Slot = Slot::Blue;
const GREEN: Slot = Slot::Green;

#[test]
fn a_first_assignment_is_prepared_started_and_settles() {
    let mut world = World::begin();
    world.connect();
    world.assign(assignment(1, running("1"), SlotGoal::Absent));
    world.settle();
    assert_eq!(world.trace, ["start blue 1"]);

    world.pass(9);
    assert_eq!(world.report(BLUE).health, Health::Passing);
    world.pass(1);
    assert_eq!(world.report(BLUE).health, Health::Settled);
    assert_eq!(world.report(BLUE).phase, Phase::Running);
    assert_eq!(world.report(BLUE).instance.unwrap().boot_id, "boot-1");
}

#[test]
fn a_release_is_replaced_in_place_the_old_one_gone_before_the_new_one_starts() {
    let mut world = World::with_blue_running();
    world.assign(assignment(2, prepared("1"), running("2")));
    world.pass(30);

    assert_eq!(world.trace, ["hook", "stop blue 1", "start green 2"]);
    assert_eq!(world.report(GREEN).health, Health::Settled);
    assert_eq!(world.report(BLUE).phase, Phase::Prepared);
    assert!(world.disk.contains(&release("1").digest), "the way back is from local disk (E7)");
    // Two probes that pass, two seconds apart, after a stop and a start that take no time here.
    assert_eq!(world.agent.reports()[0].outage, Some(Duration::from_secs(2)));
    world.crash();
    assert_eq!(world.agent.reports()[0].outage, Some(Duration::from_secs(2)), "for the next plan");
}

#[test]
fn a_rollback_needs_nothing_from_the_network() {
    let mut world = World::with_blue_running();
    world.assign(assignment(2, prepared("1"), running("2")));
    world.pass(30);
    world.trace.clear();

    world.assign(assignment(3, running("1"), SlotGoal::Absent));
    assert!(
        !world.queue.iter().any(|action| matches!(action, Action::Prepare { .. })),
        "the previous release is prepared (E7)"
    );
    world.pass(30);

    assert_eq!(world.trace, ["hook", "stop green 2", "start blue 1"]);
}

#[test]
fn nothing_is_stopped_before_what_replaces_it_is_on_disk() {
    let mut world = World::with_blue_running();
    let failure = PrepareFailure { detail: "disk full".to_owned(), retry: Retry::Later };
    world.prepare_failure = Some(failure);
    world.assign(assignment(2, prepared("1"), running("2")));
    world.pass(200);
    assert_eq!(world.report(GREEN).phase, Phase::Failed);
    assert!(world.report(GREEN).detail.contains("disk full"));
    assert!(world.trace.is_empty());
    assert_eq!(world.report(BLUE).phase, Phase::Running);

    world.prepare_failure = None;
    world.pass(90);
    assert_eq!(world.trace, ["hook", "stop blue 1", "start green 2"]);
}

#[test]
fn a_coordinator_that_is_away_while_a_release_is_fetched_fails_no_host() {
    let mut world = World::with_blue_running();
    let failure = PrepareFailure { detail: "not connected".to_owned(), retry: Retry::Connected };
    world.prepare_failure = Some(failure);
    world.assign(assignment(2, prepared("1"), running("2")));
    world.pass(200);
    assert_eq!(world.agent.reports()[0].slots.green.phase, Phase::Preparing);
    assert!(world.report(GREEN).detail.contains("not connected"));

    world.prepare_failure = None;
    world.pass(30);
    assert_eq!(world.trace, ["hook", "stop blue 1", "start green 2"]);
}

#[test]
fn without_a_fresh_lease_nothing_is_stopped_and_with_one_it_is() {
    let mut world = World::with_blue_running();
    world.echoes = false;
    world.pass(11);
    world.assign(assignment(2, prepared("1"), running("2")));
    world.pass(100);
    assert!(world.trace.is_empty());
    assert_eq!(world.report(GREEN).phase, Phase::Waiting);
    assert!(world.report(BLUE).detail.contains("fresh lease"));

    world.echoes = true;
    world.pass(5);
    assert_eq!(world.trace, ["hook", "stop blue 1", "start green 2"]);
}

#[test]
fn a_replacement_that_was_begun_is_finished_without_a_lease() {
    let mut world = World::with_blue_running();
    world.assign(assignment(2, prepared("1"), running("2")));
    while !world.queue.iter().any(|action| matches!(action, Action::RunHook { .. })) {
        let action = world.queue.pop_front().expect("the hook is asked for");
        if let Some(answer) = world.perform(action) {
            world.give(answer);
        }
    }
    world.disconnect();
    world.pass(60);

    assert_eq!(world.trace, ["hook", "stop blue 1", "start green 2"]);
}

#[test]
fn a_crashed_instance_is_started_again_without_a_coordinator() {
    let mut world = World::with_blue_running();
    world.disconnect();
    for _ in 0..3 {
        world.kill();
        world.pass(30);
    }

    assert_eq!(world.trace, ["start blue 1"; 3]);
    assert_eq!(world.agent.reports()[0].slots.blue.restarts, 3);
}

#[test]
fn what_waits_to_be_replaced_is_kept_alive() {
    let mut world = World::with_blue_running();
    world.echoes = false;
    world.pass(11);
    world.assign(assignment(2, prepared("1"), running("2")));
    world.settle();
    world.kill();
    world.pass(5);

    assert_eq!(world.trace, ["start blue 1"]);
}

#[test]
fn a_restart_of_the_agent_touches_nothing_and_health_begins_anew() {
    let mut world = World::with_blue_running();
    world.crash();
    world.settle();
    assert!(world.trace.is_empty());
    assert_eq!(world.agent.reports()[0].slots.blue.health, Health::Unknown);

    world.pass(20);
    assert_eq!(world.agent.reports()[0].slots.blue.health, Health::Settled);
}

#[test]
fn after_a_reboot_what_ran_is_started_without_a_coordinator() {
    let mut world = World::with_blue_running();
    world.reboot();
    world.settle();

    assert_eq!(world.trace, ["start blue 1"]);
}

#[test]
fn a_start_that_the_agents_death_interrupted_is_not_done_twice() {
    for was_performed in [false, true] {
        let mut world = World::begin();
        world.connect();
        world.assign(assignment(1, running("1"), SlotGoal::Absent));
        let prepare = world.queue.iter().position(|a| matches!(a, Action::Prepare { .. })).unwrap();
        let prepare = world.queue.remove(prepare).unwrap();
        let answer = world.perform(prepare).unwrap();
        world.give(answer);
        let start = world.queue.iter().position(|a| matches!(a, Action::Start { .. })).unwrap();
        let start = world.queue.remove(start).unwrap();
        if was_performed {
            world.perform(start);
        }

        world.crash();
        world.settle();

        assert_eq!(world.trace, ["start blue 1"], "performed before the crash: {was_performed}");
        assert_eq!(world.agent.reports()[0].slots.blue.phase, Phase::Running);
    }
}

#[test]
fn a_hook_that_the_agents_death_interrupted_is_not_run_again_and_the_stop_goes_on() {
    let mut world = World::with_blue_running();
    world.assign(assignment(2, prepared("1"), running("2")));
    while !world.queue.iter().any(|action| matches!(action, Action::RunHook { .. })) {
        let action = world.queue.pop_front().expect("the hook is asked for");
        if let Some(answer) = world.perform(action) {
            world.give(answer);
        }
    }
    world.crash();
    world.pass(30);

    assert_eq!(world.trace, ["stop blue 1", "start green 2"]);
    let blue = &world.agent.reports()[0].slots.blue;
    assert!(blue.detail.contains("interrupted"), "{}", blue.detail);
}

#[test]
fn an_older_assignment_is_refused_and_the_held_fence_reported() {
    let mut world = World::with_blue_running();
    world.assign(assignment(3, running("1"), SlotGoal::Absent));
    world.settle();
    world.reports.clear();

    world.assign(assignment(2, SlotGoal::Absent, SlotGoal::Absent));
    world.settle();

    assert!(world.refusals[0].starts_with("STALE_GENERATION"), "{:?}", world.refusals);
    assert_eq!(world.reports[0].fence.generation.0, 3);
    assert!(world.trace.is_empty());
}

#[test]
fn the_same_assignment_again_is_answered_and_changes_nothing() {
    let mut world = World::with_blue_running();
    let events = world.events.len();
    world.assign(assignment(1, running("1"), SlotGoal::Absent));
    world.settle();

    assert_eq!(world.events.len(), events);
    assert_eq!(world.reports.len(), 1);
}

#[test]
fn the_same_generation_with_another_content_is_a_conflict() {
    let mut world = World::with_blue_running();
    world.assign(assignment(1, running("2"), SlotGoal::Absent));
    world.settle();

    assert!(world.refusals[0].starts_with("GENERATION_CONFLICT"));
    assert!(world.trace.is_empty());
    let refused = world.agent.reports()[0].refused;
    assert_eq!(refused.map(|fence| fence.generation.0), Some(1), "whoever asked is told");

    world.assign(assignment(2, running("1"), SlotGoal::Absent));
    world.settle();
    assert_eq!(world.agent.reports()[0].refused, None, "and what is accepted ends it");
}

#[test]
fn wild_generations_both_slots_and_later_terms_are_refused() {
    let mut world = World::with_blue_running();
    world.assign(assignment(0, running("1"), SlotGoal::Absent));
    world.assign(assignment(2 + (1 << 32), running("1"), SlotGoal::Absent));
    world.assign(assignment(2, running("1"), running("2")));
    let mut later = assignment(2, running("1"), SlotGoal::Absent);
    later.fence.term = Term(2);
    world.assign(later);
    world.settle();

    let reasons: Vec<_> =
        world.refusals.iter().map(|text| text.split(':').next().unwrap()).collect();
    assert_eq!(reasons, ["BAD_GENERATION", "BAD_GENERATION", "BOTH_SLOTS", "BAD_TERM"]);
    assert!(world.trace.is_empty());
}

#[test]
fn a_lower_term_and_another_store_are_refused_and_a_higher_term_is_obeyed() {
    let mut world = World::with_blue_running();
    world.welcome(0, "store", "boot");
    world.welcome(1, "other store", "boot");
    world.settle();
    assert!(world.ended_sessions[0].starts_with("STALE_TERM"));
    assert!(world.ended_sessions[1].starts_with("OTHER_INCARNATION"));
    assert!(!world.agent.is_joined());

    world.welcome(2, "other store", "boot 2");
    assert!(world.agent.is_joined());
}

#[test]
fn two_processes_of_one_term_get_nothing_stopped_until_a_higher_term() {
    let mut world = World::with_blue_running();
    world.welcome(1, "store", "clone");
    world.settle();
    assert!(world.ended_sessions[0].starts_with("SPLIT_BRAIN"));

    world.crash();
    world.welcome(1, "store", "boot");
    world.assign(assignment(2, prepared("1"), running("2")));
    world.pass(60);
    assert!(world.trace.is_empty(), "neither of the two may disrupt (F3)");
    assert!(world.report(BLUE).detail.contains("two coordinators"));

    world.welcome(2, "store", "boot 2");
    world.pass(60);
    assert_eq!(world.trace, ["hook", "stop blue 1", "start green 2"]);
}

#[test]
fn input_of_an_earlier_session_counts_nothing() {
    let mut world = World::with_blue_running();
    world.connect();
    let old = Box::new(assignment(2, SlotGoal::Absent, SlotGoal::Absent));
    world.give(Input::Assigned { session: SessionId(1), assignment: old });
    world.give(Input::SessionEnded { session: SessionId(1) });
    world.settle();

    assert!(world.agent.is_joined());
    assert_eq!(world.agent.held()[0].1.generation.0, 1);
}

#[test]
fn what_is_not_healthy_in_time_fails_and_goes_on_being_tried() {
    let mut world = World::with_blue_running();
    world.is_healthy = false;
    world.assign(assignment(2, prepared("1"), running("2")));
    world.pass(59);
    assert_eq!(world.report(GREEN).health, Health::Failing);
    assert_eq!(world.report(GREEN).detail, "connection refused");
    world.pass(2);
    assert_eq!(world.report(GREEN).detail, "not healthy within 1m: connection refused");
    assert_eq!(world.report(GREEN).phase, Phase::Running);

    world.is_healthy = true;
    world.pass(20);
    assert_eq!(world.report(GREEN).health, Health::Settled);
}

#[test]
fn a_crash_loop_is_not_healthy_in_time_although_each_instance_is_young() {
    let mut world = World::with_blue_running();
    world.assign(assignment(2, prepared("1"), running("2")));
    world.settle();
    for _ in 0..61 {
        world.kill();
        world.pass(1);
    }
    let green = world.report(GREEN);
    assert_eq!((green.phase, green.health), (Phase::Running, Health::Failing));
    assert!(green.detail.starts_with("not healthy within 1m"), "{}", green.detail);
    assert!(green.detail.contains("exited with status 1"), "{}", green.detail);
}

#[test]
fn what_is_sick_after_a_restart_of_the_agent_fails_by_what_it_answers() {
    let mut world = World::with_blue_running();
    world.is_healthy = false;
    world.crash();
    world.connect();
    world.pass(30);

    assert_eq!(world.report(BLUE).health, Health::Failing);
    assert_eq!(world.report(BLUE).detail, "connection refused");
}

#[test]
fn what_was_settled_and_turns_sick_is_failing_for_its_own_reason() {
    let mut world = World::with_blue_running();
    world.is_healthy = false;
    world.pass(600);
    assert_eq!(world.report(BLUE).health, Health::Failing);
    assert_eq!(world.report(BLUE).detail, "connection refused");

    world.kill();
    world.pass(30);
    assert!(!world.report(BLUE).detail.contains("not healthy within"), "its time begins anew");
    world.pass(40);
    assert!(world.report(BLUE).detail.contains("not healthy within"));
}

#[test]
fn only_a_running_instance_is_probed() {
    let is_probe = |action: &Action| matches!(action, Action::Probe { .. });
    let mut world = World::with_blue_running();
    world.assign(assignment(2, prepared("1"), running("2")));
    while !world.queue.iter().any(|action| matches!(action, Action::RunHook { .. })) {
        let action = world.queue.pop_front().expect("the hook is asked for");
        if let Some(answer) = world.perform(action) {
            world.give(answer);
        }
    }
    world.queue.clear();
    world.now = world.now + Duration::from_secs(100);
    world.give(Input::Tick);
    assert!(!world.queue.iter().any(is_probe), "{:?}", world.queue);
}

#[test]
fn what_is_being_prepared_is_not_removed_before_it_is_answered_for() {
    let mut world = World::with_blue_running();
    world.assign(assignment(2, running("1"), prepared("2")));
    world.assign(assignment(3, running("1"), SlotGoal::Absent));
    let content = release("2").digest;
    let last_retained = |world: &World| {
        let retained = world.queue.iter().rev().find_map(|action| {
            let Action::Retain(retained) = action else { return None };
            Some(retained.releases[&web()].contains(&content))
        });
        retained.expect("what is retained changed")
    };
    assert!(last_retained(&world));

    let result = Ok(());
    world.queue.clear();
    let version = release("2").name.version.clone();
    world.give(Input::PrepareEnded { application: web(), version, digest: content, result });
    assert!(!last_retained(&world));
}

#[test]
fn what_is_prepared_with_one_config_is_not_prepared_with_another() {
    let (mut world, first) = preparing_another_config();
    // What was fetched for the first says nothing of the second, whose secrets may be missing.
    let answer = world.perform(first).unwrap();
    world.give(answer);

    let prepared = |world: &World| {
        let prepared = &world.agent.remembered().applications[&web()].slots.green.prepared;
        prepared.as_ref().map(|release| release.name.version.to_string())
    };
    assert_eq!(prepared(&world), None);
    world.settle();
    assert_eq!(prepared(&world).as_deref(), Some("2~production.4"));
}

#[test]
fn what_one_config_cannot_be_prepared_for_is_nothing_against_another() {
    let (mut world, first) = preparing_another_config();
    let answer = world.perform(first).unwrap();
    let failed = Err(PrepareFailure { detail: "no value".to_owned(), retry: Retry::Never });
    let Input::PrepareEnded { application, version, digest, .. } = answer else { panic!() };
    world.give(Input::PrepareEnded { application, version, digest, result: failed });

    assert_eq!(world.agent.reports()[0].slots.green.phase, Phase::Preparing);
    world.settle();
    assert_eq!(world.agent.reports()[0].slots.green.phase, Phase::Prepared);
}

/// Returns a host that prepares a content with one config, and was then told to prepare it with
/// another, and what it does for the first.
fn preparing_another_config() -> (World, Action) {
    let mut world = World::with_blue_running();
    let with = |number: u32| {
        let mut release = std::sync::Arc::unwrap_or_clone(release("2"));
        release.name.version = format!("2~production.{number}").parse().expect("a version");
        SlotGoal::Prepared(release.into())
    };
    world.assign(assignment(2, running("1"), with(3)));
    let is_it = |action: &Action| matches!(action, Action::Prepare { .. });
    let at = world.queue.iter().position(is_it).expect("it is prepared");
    let first = world.queue.remove(at).expect("it is there");
    world.assign(assignment(3, running("1"), with(4)));
    (world, first)
}

#[test]
fn a_restart_takes_settled_away() {
    let mut world = World::with_blue_running();
    world.kill();
    world.pass(5);
    assert_eq!(world.report(BLUE).health, Health::Passing);
    world.pass(10);
    assert_eq!(world.report(BLUE).health, Health::Settled);
}

#[test]
fn what_cannot_be_started_is_failed_with_its_reason_and_tried_again() {
    let mut world = World::begin();
    world.connect();
    world.assign(assignment(1, running("1"), SlotGoal::Absent));
    while let Some(action) = world.queue.pop_front() {
        let answer = if let Action::Start { instance, .. } = action {
            Some(Input::StartFailed { instance, detail: "no such file".to_owned() })
        } else {
            world.perform(action)
        };
        if let Some(answer) = answer {
            world.give(answer);
        }
    }
    assert_eq!(world.report(BLUE).phase, Phase::Failed);
    assert!(world.report(BLUE).detail.contains("no such file"));

    world.pass(3);
    assert_eq!(world.report(BLUE).phase, Phase::Running);
}

#[test]
fn wrong_content_is_fetched_again_only_for_a_later_generation() {
    let mut world = World::with_blue_running();
    let failure = PrepareFailure { detail: "wrong digest".to_owned(), retry: Retry::Never };
    world.prepare_failure = Some(failure);
    world.assign(assignment(2, prepared("1"), running("2")));
    world.settle();
    world.prepare_failure = None;
    world.pass(600);
    assert!(world.trace.is_empty());

    world.assign(assignment(3, prepared("1"), running("2")));
    world.pass(30);
    assert_eq!(world.trace, ["hook", "stop blue 1", "start green 2"]);
}

#[test]
fn an_application_that_is_no_longer_wanted_is_stopped_and_forgotten() {
    let mut world = World::with_blue_running();
    world.assign(assignment(2, SlotGoal::Absent, SlotGoal::Absent));
    world.pass(10);

    assert_eq!(world.trace, ["hook", "stop blue 1"]);
    assert!(world.disk.is_empty());
    assert_eq!(world.report(BLUE).phase, Phase::Empty);
}

#[test]
fn after_leaving_another_coordinator_takes_over_what_runs() {
    let mut world = World::with_blue_running();
    world.assign(assignment(7, running("1"), SlotGoal::Absent));
    world.settle();
    world.events.push(Event::CoordinatorForgotten);
    world.crash();
    world.welcome(1, "another store", "another boot");
    world.assign(assignment(1, running("1"), SlotGoal::Absent));
    world.pass(30);

    assert!(world.ended_sessions.is_empty() && world.refusals.is_empty());
    assert!(world.trace.is_empty(), "what runs is as wanted: {:?}", world.trace);
    assert_eq!(world.report(BLUE).health, Health::Settled);
}

#[test]
fn a_summary_makes_an_agent_that_remembers_the_same() {
    let world = World::with_blue_running();
    let summary = world.agent.summary();
    let json = serde_json::to_string(&summary).unwrap();
    let summary: Vec<Event> = serde_json::from_str(&json).unwrap();

    assert_eq!(Agent::replay(&summary).unwrap().remembered(), world.agent.remembered());
}

#[test]
fn a_journal_that_this_agent_cannot_have_written_is_refused() {
    let mut world = World::with_blue_running();
    world.events.remove(1);

    assert!(Agent::replay(&world.events).is_err());
}

#[test]
fn heartbeats_and_unchanged_reports_make_no_event() {
    let mut world = World::with_blue_running();
    let events = world.events.len();
    world.pass(600);

    assert_eq!(world.events.len(), events);
}

#[test]
fn a_stop_whose_outcome_is_unknown_is_neither_done_nor_forgotten() {
    let mut world = World::with_blue_running();
    world.assign(assignment(2, prepared("1"), running("2")));
    while let Some(action) = world.queue.pop_front() {
        let answer = if let Action::Stop { instance, .. } = action {
            Some(Input::StopFailed { instance, detail: "permission denied".to_owned() })
        } else {
            world.perform(action)
        };
        if let Some(answer) = answer {
            world.give(answer);
        }
    }
    assert_eq!(world.trace, ["hook"]);
    assert!(world.report(BLUE).detail.contains("permission denied"));

    world.pass(5);
    assert_eq!(world.trace, ["hook", "stop blue 1", "start green 2"]);
}

#[test]
fn a_stop_that_failed_is_not_done_because_a_restarted_agent_finds_the_process_gone() {
    let mut world = World::with_blue_running();
    world.assign(assignment(2, prepared("1"), running("2")));
    while let Some(action) = world.queue.pop_front() {
        let answer = if let Action::Stop { instance, .. } = action {
            // It has ended, and left a child that lives.
            world.processes.insert(instance, Process::Dead);
            Some(Input::StopFailed { instance, detail: "something is left".to_owned() })
        } else {
            world.perform(action)
        };
        if let Some(answer) = answer {
            world.give(answer);
        }
    }

    world.crash();
    world.settle();

    assert_eq!(world.trace, ["hook", "stop blue 1", "start green 2"]);
}

#[test]
fn an_exit_that_nobody_saw_is_found_when_the_agent_starts() {
    let mut world = World::with_blue_running();
    let instance = world.alive()[0];
    world.processes.insert(instance, Process::Dead);
    world.crash();
    world.give(Input::Adopted { instance, finding: Finding::Exited { detail: "9".to_owned() } });
    world.queue.clear();
    world.pass(3);

    assert_eq!(world.trace, ["start blue 1"]);
}

#[test]
fn what_ran_when_the_agent_was_restarted_is_not_late_to_become_healthy() {
    let mut world = World::with_blue_running();
    world.disconnect();
    world.crash();
    world.settle();
    // The host is suspended after one answer of the two that are needed.
    world.now = world.now + TIMERS.healthy_within + TIMERS.healthy_for;
    world.reports.clear();
    world.connect();

    let told: Vec<Health> = world.reports.iter().map(|it| it.slots.blue.health).collect();
    assert_eq!(told.first(), Some(&Health::Unknown), "{told:?}");
    assert!(!told.contains(&Health::Failing), "{told:?}");
}
