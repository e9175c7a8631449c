//! Everything at once, and the same again: a seed is a whole story.

use std::time::Duration;

use cutover_turmoil::{Cut, Trace, World, WorldSettings, agent_name, each_seed};

use super::{SECOND, whole_again};

const AGENTS: usize = 4;
const FAULTS: usize = 40;
const TICK: Duration = Duration::from_millis(20);

/// Cuts, freezes, mends and restarts whatever the seed says, with a deploy under way; returns what
/// happened.
fn chaos(seed: u64) -> Trace {
    let mut world = World::new(&WorldSettings::new(seed, AGENTS).in_steps(TICK));
    world.with_release_running();
    world.deploy("2");
    let mut is_up = true;
    for _ in 0..FAULTS {
        let calm = world.draw(Duration::from_millis(10)..10 * SECOND);
        world.run(calm);
        let agent = world.draw_agent();
        match world.draw_below(9) {
            0 => world.cut(&agent, Cut::Up),
            1 => world.cut(&agent, Cut::Down),
            2 => world.cut(&agent, Cut::Both),
            3 => world.cut(&agent, Cut::Held),
            4 => world.restart_agent(&agent),
            5 => {
                if is_up {
                    world.crash_coordinator();
                } else {
                    world.start_coordinator();
                }
                is_up = !is_up;
            }
            _ => world.mend(&agent),
        }
    }
    if !is_up {
        world.start_coordinator();
    }
    (1..=AGENTS).for_each(|number| world.mend(&agent_name(number)));
    whole_again(&mut world, AGENTS);
    world.finish_rollout(900 * SECOND);
    for number in 1..=AGENTS {
        let agent = agent_name(number);
        assert_eq!(world.effects(&agent, "starts web@2"), 1, "E1 on {agent}");
        assert_eq!(world.effects(&agent, "stops web@1"), 1, "E1 on {agent}");
        assert_eq!(world.effects(&agent, "runs the hook of web@1"), 1, "E3 on {agent}");
    }
    world.trace().clone()
}

#[test]
fn whatever_breaks_every_host_runs_the_release_at_the_end_and_nothing_was_done_twice() {
    each_seed(8, |seed| {
        let trace = chaos(seed);
        let (things, hash) = (trace.entries().len(), trace.hash());
        println!("seed {seed}: {things} things happened, hash {hash:016x}");
    });
}

#[test]
fn the_same_seed_is_the_same_story() {
    each_seed(2, |seed| {
        let (first, second) = (chaos(seed), chaos(seed));

        let differ = first.entries().into_iter().zip(second.entries()).find(|(a, b)| a != b);
        assert_eq!(differ, None, "seed {seed}: the first difference");
        assert_eq!(first.hash(), second.hash());
        assert_ne!(first.hash(), chaos(seed + 1000).hash(), "another seed is another story");
    });
}
