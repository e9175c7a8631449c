//! Programs that end and come back, and what a coordinator says before it ends a session.

use std::time::Duration;

use cutover_coordinator_core::Request;
use cutover_turmoil::{Cut, World, WorldSettings, agent_name, each_seed};

use super::{SECOND, noticed, whole_again};

/// Row 47, scaled: this many agents come back at once.
const FLEET: usize = 50;

/// Row 47: how long until 99 of 100 agents are back.
const FLEET_BACK_WITHIN: Duration = Duration::from_secs(60);

#[test]
fn a_coordinator_that_crashed_is_found_again_and_obeyed_in_its_next_term() {
    each_seed(8, |seed| {
        let mut world = World::new(&WorldSettings::new(seed, 3));
        world.with_release_running();
        let term = world.coordinator().term;

        world.crash_coordinator();
        let away = world.draw(Duration::from_millis(10)..60 * SECOND);
        world.run(away);
        (1..=3).for_each(|number| assert!(!world.agent(&agent_name(number)).is_joined));
        world.start_coordinator();
        let back = whole_again(&mut world, 3);

        world.tell(&format!("away for {away:?}, all back after {back:?}"));
        assert_eq!(world.coordinator().term, term + 1);
        (1..=3).for_each(|number| assert_eq!(world.agent(&agent_name(number)).term, term + 1));
        world.deploy("2");
        world.finish_rollout(120 * SECOND);
        (1..=3).for_each(|n| assert_eq!(world.effects(&agent_name(n), "starts web@2"), 1));
    });
}

/// The host of the coordinator loses its power: not even a FIN arrives.
#[test]
fn a_coordinator_whose_host_died_is_noticed_and_found_again() {
    each_seed(8, |seed| {
        let mut world = World::new(&WorldSettings::new(seed, 1));
        let agent = agent_name(1);
        let calm = world.draw(SECOND..20 * SECOND);
        world.run(calm);

        world.cut(&agent, Cut::Both);
        world.crash_coordinator();
        let (by_agent, _) = noticed(&mut world, &agent);
        world.start_coordinator();
        world.mend(&agent);
        let back = whole_again(&mut world, 1);

        world.tell(&format!("noticed after {by_agent:?}, back after {back:?}"));
    });
}

#[test]
fn row_47_a_fleet_that_comes_back_at_once_spreads_its_dials() {
    each_seed(2, |seed| {
        let mut world = World::new(&WorldSettings::new(seed, FLEET));
        let begun = world.elapsed();

        world.crash_coordinator();
        world.start_coordinator();
        let back = world.until(FLEET_BACK_WITHIN, "the fleet is back", World::is_whole);

        let mut dials: Vec<Duration> =
            (1..=FLEET).flat_map(|number| world.dials(&agent_name(number), begun)).collect();
        dials.sort_unstable();
        let busiest = (0..dials.len())
            .map(|first| {
                let until = dials[first] + Duration::from_millis(100);
                dials[first..].iter().take_while(|at| **at < until).count()
            })
            .max();
        world.tell(&format!("back after {back:?}, {busiest:?} dials in the busiest 100 ms"));
        assert!(dials.len() <= 2 * FLEET, "{} dials of {FLEET} agents", dials.len());
        // Spread over a second, five are expected in each tenth of it.
        assert!(busiest <= Some(FLEET / 3), "{busiest:?} of {FLEET} agents dial at once");
    });
}

/// A fleet that was away for long has waits of half a minute, and is back within one.
#[test]
fn row_47_a_fleet_that_was_away_for_long_is_back_within_a_minute() {
    each_seed(1, |seed| {
        let tick = Duration::from_millis(50);
        let mut world = World::new(&WorldSettings::new(seed, FLEET).in_steps(tick));

        world.crash_coordinator();
        world.run(120 * SECOND);
        world.start_coordinator();
        let back = world.until(FLEET_BACK_WITHIN, "the fleet is back", World::is_whole);

        world.tell(&format!("back after {back:?}"));
    });
}

/// A removed agent hears that it was removed: it dials again after 15 s and not after one.
#[test]
fn a_removed_agent_hears_the_farewell() {
    each_seed(4, |seed| {
        let mut world = World::new(&WorldSettings::new(seed, 2));
        let agent = agent_name(1);
        let calm = world.draw(SECOND..20 * SECOND);
        world.run(calm);
        let begun = world.elapsed();

        let request = Request::RemoveAgent { agent: agent.parse().unwrap() };
        world.ask(request).expect("it is there");
        noticed(&mut world, &agent);
        world.run(120 * SECOND);

        let dials = world.dials(&agent, begun);
        world.tell(&format!("dialed at {dials:?} after the removal at {begun:?}"));
        assert!(dials.len() <= 4, "{dials:?}");
        assert!(dials.iter().all(|at| *at >= begun + 15 * SECOND), "{dials:?}");
        assert!(!world.agent(&agent).is_joined);
        assert_eq!(world.coordinator().connections, 1);
    });
}
