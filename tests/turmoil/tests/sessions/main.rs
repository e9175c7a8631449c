//! Sessions of agents over a network that fails, in virtual time and from seeds (promises.md §3
//! rows 34 to 43 and 47). `CUTOVER_SEED=n` runs one seed alone, `CUTOVER_SEEDS=n`
//! the seeds up to n.

mod chaos;
mod flapping;
mod lease;
mod partitions;
mod restarts;

use std::time::Duration;

use cutover_common::protocol::SILENCE_MAX;
use cutover_turmoil::World;

const SECOND: Duration = Duration::from_secs(1);

/// In what time each side notices that the other is gone (rows 35 and 39), with a second for what
/// was under way when the link broke.
const NOTICED_WITHIN: Duration = Duration::from_secs(16);

/// In what time both sides have each other again after everything is mended: the longest wait
/// between two dials (30 s), a dial that had just begun (5 s), and once ALREADY_CONNECTED (another
/// dial within 30 s, as the coordinator has noticed by then).
const BACK_WITHIN: Duration = Duration::from_secs(65);

/// Waits until neither side believes in a session with `agent`; checks that it is noticed in time.
fn noticed(world: &mut World, agent: &str) -> (Duration, Duration) {
    let begun = world.elapsed();
    let (mut by_agent, mut by_coordinator) = (None, None);
    loop {
        let took = world.elapsed() - begun;
        if !world.agent(agent).is_joined {
            by_agent = by_agent.or(Some(took));
        }
        if !world.coordinator().sessions.contains_key(agent) {
            by_coordinator = by_coordinator.or(Some(took));
        }
        if let (Some(by_agent), Some(by_coordinator)) = (by_agent, by_coordinator) {
            return (by_agent, by_coordinator);
        }
        assert!(
            took <= NOTICED_WITHIN,
            "{agent} is cut off and not noticed: {by_agent:?} by itself, {by_coordinator:?} by the coordinator"
        );
        world.step();
    }
}

/// Waits until every agent is connected, and checks that it stays so and nothing is left over.
fn whole_again(world: &mut World, agents: usize) -> Duration {
    let took = world.until(BACK_WITHIN, "every agent is connected again", World::is_whole);
    // Connections that were given up are gone when the slower side has noticed.
    world.run(2 * SILENCE_MAX);
    assert!(world.is_whole(), "a mended link stays up");
    assert_eq!(world.coordinator().connections, agents, "a connection for each agent");
    took
}
