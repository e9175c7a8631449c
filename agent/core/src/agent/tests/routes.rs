//! Stories of two slots that run beside each other: shares, holds, and the strict change.

use std::time::Duration;

use cutover_common::{
    Allow, Assignment, Health, HoldLimits, HoldState, HookKind, Phase, Protocol, Route, RouteMode,
    Slot, SlotGoal, Slots, Swap, Traffic,
};

use super::world::{World, assignment, running, served, smoked, web};
use crate::{Agent, Event, Remembered};

const BLUE: Slot = Slot::Blue;
const GREEN: Slot = Slot::Green;
pub(super) const LIMITS: HoldLimits =
    HoldLimits { within: Duration::from_secs(5), requests: 100, bytes: 1 << 20 };

/// Release 1 is to run in blue, and 2 beside it in green.
pub(super) fn both(generation: u64, to: Slot, share: u32, mode: RouteMode) -> Assignment {
    let blue = SlotGoal::Running(served("1", Swap::Beside));
    let green = SlotGoal::Running(smoked("2"));
    let share = share.try_into().unwrap();
    let route = Some(Route { to, share, allow: None, mode });
    Assignment { route, ..assignment(generation, blue, green) }
}

/// Release 1 gets all that is new in blue, and 2 has settled beside it in green.
fn beside() -> World {
    let mut world = World::with_blue_served(Swap::Beside);
    world.assign(both(2, BLUE, 0, RouteMode::Open));
    world.pass(30);
    assert_eq!(world.report(GREEN).health, Health::Settled);
    world.trace.clear();
    world.reports.clear();
    world.gate_did.clear();
    world
}

/// The same, held.
fn held() -> World {
    let mut world = beside();
    world.assign(both(3, BLUE, 0, RouteMode::Hold(LIMITS)));
    world.settle();
    assert!(world.gate.holds());
    world
}

/// The same, held until another goal comes.
fn armed() -> World {
    let mut world = held();
    world.assign(both(4, BLUE, 0, RouteMode::Armed(LIMITS)));
    world.settle();
    assert_eq!(hold(&world), HoldState::Drained);
    world
}

fn hold(world: &World) -> HoldState {
    world.reports.last().expect("a report was sent").hold
}

#[test]
fn a_release_is_started_beside_without_traffic_and_going_there_and_back_stops_nothing() {
    let mut world = World::with_blue_served(Swap::Beside);
    world.assign(both(2, BLUE, 0, RouteMode::Open));
    world.pass(60);
    assert_eq!(world.trace, ["start green 2", "smoke"]);
    assert_eq!(world.report(GREEN).health, Health::Settled);
    assert_eq!(world.report(GREEN).traffic, Traffic::Away);
    assert_eq!(world.gate.leads_to(), [BLUE]);

    world.assign(both(3, GREEN, 0, RouteMode::Open));
    world.settle();
    assert_eq!(world.gate.leads_to(), [GREEN]);
    assert_eq!(world.report(GREEN).traffic, Traffic::Here);
    assert_eq!(world.report(BLUE).traffic, Traffic::Away);

    world.assign(both(4, BLUE, 0, RouteMode::Open));
    world.pass(60);
    assert_eq!(world.gate.leads_to(), [BLUE]);
    assert_eq!(world.trace, ["start green 2", "smoke"]);
    assert_eq!(world.alive().len(), 2);
}

#[test]
fn a_share_begins_when_its_slot_has_settled_with_its_hook_passed_and_grows_with_a_lease() {
    let mut world = World::with_blue_served(Swap::Beside);
    world.gate_did.clear();
    world.failing_hooks = [HookKind::Smoke].into();
    world.assign(both(2, BLUE, 50, RouteMode::Open));
    world.pass(60);
    assert_eq!(world.gate.weights(), Slots { blue: 1000, green: 0 });
    assert_eq!(world.report(GREEN).phase, Phase::Failed);

    world.failing_hooks.clear();
    world.assign(both(3, BLUE, 50, RouteMode::Open));
    world.pass(1);
    assert_eq!(world.gate.weights(), Slots { blue: 950, green: 50 });
    assert_eq!(world.report(GREEN).traffic, Traffic::Here);

    world.echoes = false;
    world.pass(11);
    world.assign(both(4, BLUE, 500, RouteMode::Open));
    world.pass(5);
    assert_eq!(world.gate.weights(), Slots { blue: 950, green: 50 });
    world.echoes = true;
    world.pass(5);
    assert_eq!(world.gate.weights(), Slots { blue: 500, green: 500 });
}

#[test]
fn a_slot_that_fails_leaves_its_share_to_the_other_and_has_to_settle_again_after_a_crash() {
    let mut world = beside();
    world.assign(both(3, BLUE, 1000, RouteMode::Open));
    world.settle();
    assert_eq!(world.gate.weights(), Slots { blue: 0, green: 1000 });
    assert_eq!(world.report(BLUE).traffic, Traffic::Here, "it is what is led to");

    world.sick.insert("2".to_owned());
    world.pass(10);
    assert_eq!(world.gate.leads_to(), [BLUE]);
    world.sick.clear();
    world.pass(5);
    assert_eq!(world.gate.leads_to(), [GREEN]);

    world.kill();
    world.pass(5);
    assert_eq!(world.gate.leads_to(), [BLUE], "the next instance has not settled");
    world.pass(30);
    assert_eq!(world.gate.leads_to(), [GREEN]);
}

#[test]
fn clients_reach_the_other_slot_on_purpose_when_it_has_settled() {
    let mut world = World::with_blue_served(Swap::Beside);
    let by = Allow::of("X-Canary=yes".parse().ok(), "canary=1".parse().ok()).unwrap();
    let allowed = |generation, mode| {
        let mut goal = both(generation, BLUE, 0, mode);
        goal.route.as_mut().unwrap().allow = Some(by.clone());
        goal
    };
    world.assign(allowed(2, RouteMode::Open));
    world.pass(5);
    assert_eq!(world.gate.allows(), None);

    world.pass(20);
    assert_eq!(world.gate.allows(), Some((GREEN, &by)));
    assert_eq!(world.gate.leads_to(), [BLUE]);

    // Whoever is held is held, however it asks.
    world.assign(allowed(3, RouteMode::Hold(LIMITS)));
    world.settle();
    assert_eq!((world.gate.allows(), hold(&world)), (None, HoldState::Drained));
}

#[test]
fn what_gets_a_share_is_stopped_only_after_it_was_taken_away_with_a_lease_and_is_empty() {
    let mut world = beside();
    world.assign(both(3, BLUE, 100, RouteMode::Open));
    world.settle();
    world.gate.busy.insert(GREEN);
    world.echoes = false;
    world.pass(11);
    let blue = SlotGoal::Running(served("1", Swap::Beside));
    world.assign(assignment(4, blue, SlotGoal::Absent));
    world.pass(30);
    assert_eq!(world.gate.weights(), Slots { blue: 900, green: 100 });

    world.echoes = true;
    world.pass(10);
    assert_eq!(world.gate.weights(), Slots { blue: 1000, green: 0 });
    assert_eq!(world.trace, Vec::<String>::new());
    world.drain(GREEN);
    world.settle();
    assert_eq!(world.trace, ["hook", "stop green 2"]);
}

#[test]
fn a_hold_is_drained_at_the_moment_at_which_the_gate_says_that_the_last_request_has_ended() {
    let mut world = beside();
    world.gate.busy.insert(BLUE);
    world.assign(both(3, BLUE, 0, RouteMode::Hold(LIMITS)));
    world.settle();
    assert_eq!(hold(&world), HoldState::Holding);
    // It gets what is held, unless it is told otherwise: so it is no host that serves nobody.
    assert_eq!(world.report(BLUE).traffic, Traffic::Here);

    let before = world.now;
    world.drain(BLUE);
    world.settle();

    assert_eq!((hold(&world), world.now), (HoldState::Drained, before));
}

#[test]
fn a_hold_that_nobody_arms_is_released_where_it_was_without_a_lease_and_not_begun_again() {
    let mut world = held();
    world.disconnect();
    world.pass(3);
    assert!(world.gate.holds());
    // Before the gate tells those who came first to ask again later.
    world.pass(1);
    assert_eq!(world.gate.leads_to(), [BLUE]);

    world.welcome(1, "store", "boot");
    world.pass(60);

    assert_eq!(world.gate_did, ["holds", "1000/0"]);
    assert_eq!(hold(&world), HoldState::Open);
    let detail = world.report(BLUE).detail;
    assert!(detail.contains("released, as no other goal came in time"), "{detail}");
    world.assign(both(4, BLUE, 0, RouteMode::Hold(LIMITS)));
    world.settle();
    assert_eq!(hold(&world), HoldState::Drained, "another goal is another hold");
}

#[test]
fn a_hold_does_not_outlive_its_agent() {
    let mut world = held();
    world.crash();
    world.settle();

    assert_eq!(world.gate.leads_to(), [BLUE]);
    world.connect();
    world.assign(both(4, BLUE, 0, RouteMode::Armed(LIMITS)));
    world.settle();
    assert_eq!((hold(&world), world.gate.leads_to()), (HoldState::Open, vec![BLUE]));
    let detail = world.report(BLUE).detail;
    assert!(detail.contains("cannot be armed, as nothing is held any more"), "{detail}");
}

#[test]
fn what_is_armed_stays_held_whoever_is_gone_or_begins_again_until_another_goal_comes() {
    let mut world = armed();
    world.disconnect();
    world.pass(3_600);
    world.crash();
    world.pass(60);
    world.restart_gate();
    world.pass(60);
    world.reboot();
    world.pass(60);
    assert!(world.gate.holds());

    world.welcome(2, "store", "another");
    world.settle();
    world.assign(both(5, GREEN, 0, RouteMode::Open));
    world.pass(60);

    // In one program: what was held goes to green, and none of it to blue.
    assert_eq!(world.gate_did, ["holds", "0/1000"]);
    assert_eq!(hold(&world), HoldState::Open);
}

#[test]
fn the_way_back_from_armed_leads_where_it_was() {
    let mut world = armed();
    world.assign(both(5, BLUE, 0, RouteMode::Open));
    world.settle();

    assert_eq!(world.gate_did, ["holds", "1000/0"]);
    world.assign(assignment(
        6,
        SlotGoal::Running(served("1", Swap::Beside)),
        SlotGoal::Prepared(smoked("2")),
    ));
    world.pass(10);
    assert_eq!(world.trace, ["hook", "stop green 2"]);
}

#[test]
fn what_is_armed_waits_for_a_slot_that_fails_rather_than_lead_to_the_old_one_again() {
    let mut world = armed();
    world.sick.insert("2".to_owned());
    world.pass(10);
    world.assign(both(5, GREEN, 0, RouteMode::Open));
    world.pass(60);
    assert!(world.gate.holds());

    world.sick.clear();
    world.pass(10);
    assert_eq!(world.gate_did, ["holds", "0/1000"]);
}

#[test]
fn a_goal_that_arms_is_not_told_of_as_drained_before_it_is_armed() {
    let mut world = beside();
    let limits = HoldLimits { within: Duration::from_secs(30), ..LIMITS };
    world.assign(both(3, BLUE, 0, RouteMode::Hold(limits)));
    world.settle();
    world.echoes = false;
    world.pass(11);
    world.assign(both(4, BLUE, 0, RouteMode::Armed(limits)));
    world.settle();
    assert_eq!(hold(&world), HoldState::Holding, "it is about to end by itself");
    world.pass(20);
    assert_eq!((hold(&world), world.gate.leads_to()), (HoldState::Open, vec![BLUE]));
}

#[test]
fn nothing_is_held_or_armed_without_a_lease() {
    let mut world = beside();
    world.echoes = false;
    world.pass(11);
    world.assign(both(3, BLUE, 0, RouteMode::Hold(LIMITS)));
    world.pass(60);
    assert_eq!((world.gate.holds(), hold(&world)), (false, HoldState::Open));

    world.echoes = true;
    world.pass(5);
    assert!(world.gate.holds());
}

#[test]
fn a_gate_that_cannot_be_told_or_does_not_serve_holds_nothing() {
    let mut world = beside();
    world.gate.is_there = false;
    world.assign(both(3, BLUE, 0, RouteMode::Hold(LIMITS)));
    world.settle();
    assert_eq!(hold(&world), HoldState::Open);

    let mut world = beside();
    world.gate.unserved.insert(web());
    world.assign(both(3, BLUE, 0, RouteMode::Hold(LIMITS)));
    world.settle();
    assert_eq!(hold(&world), HoldState::Open);
}

#[test]
fn one_release_runs_in_both_slots_when_it_is_started_anew() {
    let mut world = World::with_blue_served(Swap::Beside);
    let one = || SlotGoal::Running(served("1", Swap::Beside));
    let route = |to| Some(both(2, to, 0, RouteMode::Open).route.unwrap());
    world.assign(Assignment { route: route(GREEN), ..assignment(2, one(), one()) });
    world.pass(30);
    assert_eq!(world.gate.leads_to(), [GREEN]);
    assert_eq!(world.trace, ["start green 1"]);

    world.assign(assignment(3, SlotGoal::Absent, one()));
    world.pass(5);
    assert_eq!(world.trace, ["start green 1", "hook", "stop blue 1"]);
}

#[test]
fn a_route_that_cannot_be_is_refused_in_words_and_moves_nothing() {
    let refused = |change: fn(&mut Assignment)| {
        let mut world = World::with_blue_served(Swap::Beside);
        let mut goal = both(2, BLUE, 100, RouteMode::Hold(LIMITS));
        change(&mut goal);
        world.assign(goal);
        world.pass(30);
        assert_eq!(world.trace, Vec::<String>::new());
        assert!(world.reports.last().unwrap().refused.is_some());
        world.refusals.join("; ")
    };
    fn route(goal: &mut Assignment) -> &mut Route {
        goal.route.as_mut().unwrap()
    }
    insta::assert_snapshot!(
        [
            refused(|goal| goal.route = None),
            refused(|goal| goal.slots.blue = SlotGoal::Absent),
            refused(|goal| goal.slots.green = SlotGoal::Absent),
            refused(|goal| {
                goal.slots.green = SlotGoal::Prepared(smoked("2"));
                route(goal).share = 0.try_into().unwrap();
            }),
            refused(|goal| goal.slots.blue = running("1")),
            refused(|goal| goal.slots.green = running("2")),
            refused(|goal| goal.slots.green = SlotGoal::Running(served("2", Swap::InPlace))),
            refused(|goal| {
                let limits = HoldLimits { within: Duration::ZERO, ..LIMITS };
                route(goal).mode = RouteMode::Hold(limits);
            }),
            refused(|goal| {
                goal.slots.green = SlotGoal::Prepared(smoked("2"));
                route(goal).share = 0.try_into().unwrap();
                route(goal).mode = RouteMode::Open;
                route(goal).allow = Some(Allow::Cookie("canary=1".parse().unwrap()));
            }),
            refused(|goal| {
                let SlotGoal::Running(release) = &mut goal.slots.blue else { return };
                let service = std::sync::Arc::make_mut(release).service.as_mut().unwrap();
                service.protocol = Protocol::Tcp;
                route(goal).allow = Some(Allow::Header("X-Canary=x".parse().unwrap()));
            }),
        ]
        .join("\n"),
        @r#"
    BOTH_SLOTS: only one slot can run where no route says where a gate leads
    BAD_ROUTE: the route leads to blue, which is not to run
    BAD_ROUTE: the route has a share, and green is not to run
    BAD_ROUTE: the route has a hold, and green is not to run
    BAD_ROUTE: a route is for what stands behind the gate, and the release in blue does not
    BAD_ROUTE: both slots are to run, and their releases cannot stand beside each other
    BAD_ROUTE: both slots are to run, and their releases cannot stand beside each other
    BAD_ROUTE: the route's hold.within is out of range
    BAD_ROUTE: the route has a header or a cookie, and green is not to run
    BAD_ROUTE: the route lets clients through by a header or a cookie, and the service is no HTTP
    "#
    );
}

#[test]
fn what_was_written_before_there_were_routes_is_read() {
    let mut world = World::with_blue_served(Swap::Beside);
    world.pass(1);
    let text = serde_json::to_string(&world.events).unwrap();
    for word in ["route", "aside", "hold"] {
        assert!(!text.contains(word), "what has none is written as before: {word}");
    }

    let events: Vec<Event> = serde_json::from_str(&text).unwrap();
    let remembered: &Remembered = world.agent.remembered();
    assert_eq!(Agent::replay(&events).unwrap().remembered(), remembered);
}

#[test]
fn what_is_held_and_shared_is_remembered_by_a_summary() {
    let mut world = armed();
    world.assign(both(5, GREEN, 250, RouteMode::Open));
    world.settle();
    for world in [armed(), world] {
        let text = serde_json::to_string(&world.agent.summary()).unwrap();
        let events: Vec<Event> = serde_json::from_str(&text).unwrap();
        assert_eq!(Agent::replay(&events).unwrap().remembered(), world.agent.remembered());
    }
}
