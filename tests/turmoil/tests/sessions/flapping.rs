//! Links that are bad for long: no storm of dials, no effect twice, progress at the end.

use std::time::Duration;

use cutover_turmoil::{Cut, World, WorldSettings, agent_name, each_seed};

use super::{SECOND, whole_again};

/// Row 38: 2 s up, 2 s down, for half an hour.
const UP: Duration = Duration::from_secs(2);
const DOWN: Duration = Duration::from_secs(2);
const FLAPS: usize = 450;

/// At most how often an agent dials over a link that flaps: between two dials it waits at least a
/// second (REDIAL), and a session that was welcomed lives until the link breaks it, which
/// takes at least another. Half an hour has 1,800 of them.
const DIALS_MAX: usize = 900;

fn flap(seed: u64, cut: Cut) {
    let tick = Duration::from_millis(20);
    let mut world = World::new(&WorldSettings::new(seed, 1).in_steps(tick));
    let agent = agent_name(1);
    world.with_release_running();
    let begun = world.elapsed();

    world.deploy("2");
    for _ in 0..FLAPS {
        world.run(UP);
        world.cut(&agent, cut);
        world.run(DOWN);
        world.mend(&agent);
    }
    let dials = world.dials(&agent, begun);
    whole_again(&mut world, 1);
    world.finish_rollout(600 * SECOND);

    world.tell(&format!("{cut:?}: {} dials in half an hour", dials.len()));
    assert!(dials.len() <= DIALS_MAX, "{} dials", dials.len());
    let closest = dials.windows(2).map(|pair| pair[1] - pair[0]).min();
    assert!(closest.is_none_or(|gap| gap >= SECOND), "two dials within {closest:?}");
    assert_eq!(world.effects(&agent, "starts web@2"), 1);
    assert_eq!(world.effects(&agent, "stops web@1"), 1);
    assert_eq!(world.effects(&agent, "runs the hook of web@1"), 1);
}

#[test]
fn row_38_a_link_that_flaps_and_loses_makes_no_storm_and_no_effect_twice() {
    each_seed(2, |seed| flap(seed, Cut::Both));
}

#[test]
fn row_38_a_link_that_flaps_and_delays_makes_no_storm_and_no_effect_twice() {
    each_seed(2, |seed| flap(seed, Cut::Held));
}

/// Lost packets are late ones, as TCP repeats them: 250 ms one way, and some take seconds.
#[test]
fn row_43_a_slow_link_is_slow_and_nothing_else() {
    each_seed(2, |seed| {
        let latency = Duration::from_millis(250)..Duration::from_millis(2000);
        let settings = WorldSettings::new(seed, 3).in_steps(Duration::from_millis(20));
        let mut world = World::new(&WorldSettings { latency, ..settings });
        world.with_release_running();
        let begun = world.elapsed();

        world.deploy("2");
        world.finish_rollout(600 * SECOND);
        world.run(300 * SECOND);

        let dials: usize = (1..=3).map(|n| world.dials(&agent_name(n), begun).len()).sum();
        world.tell(&format!("{dials} dials in {:?}", world.elapsed() - begun));
        assert!(world.is_whole());
        assert_eq!(dials, 0, "a slow link is no broken one");
    });
}

/// Single messages are lost for good, so that connections stand still in the middle of anything.
#[test]
fn row_43_connections_that_stand_still_are_given_up_and_made_anew() {
    each_seed(3, |seed| {
        let mut world = World::new(&WorldSettings::new(seed, 3));
        world.with_release_running();
        let begun = world.elapsed();

        world.lose(0.01);
        world.deploy("2");
        world.run(300 * SECOND);
        world.lose(0.0);
        (1..=3).for_each(|number| world.mend(&agent_name(number)));
        whole_again(&mut world, 3);
        world.finish_rollout(600 * SECOND);

        for number in 1..=3 {
            let agent = agent_name(number);
            world.tell(&format!("{agent} dialed {} times", world.dials(&agent, begun).len()));
            assert_eq!(world.effects(&agent, "starts web@2"), 1);
            assert_eq!(world.effects(&agent, "stops web@1"), 1);
        }
    });
}
