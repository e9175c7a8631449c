//! Links that are cut for a while: each side notices in time, and they find each other again.

use std::time::Duration;

use cutover_turmoil::{Cut, World, WorldSettings, agent_name, each_seed};

use super::{SECOND, noticed, whole_again};

const SEEDS: u64 = 8;

/// Cuts one of two agents off, for a time from the seed, and mends.
fn cut_and_mend(seed: u64, cut: Cut) {
    let mut world = World::new(&WorldSettings::new(seed, 2));
    let (agent, other) = (agent_name(1), agent_name(2));
    let calm = world.draw(SECOND..20 * SECOND);
    world.run(calm);

    world.cut(&agent, cut);
    let (by_agent, by_coordinator) = noticed(&mut world, &agent);
    let away = world.draw(SECOND..120 * SECOND);
    let until = world.elapsed() + away;
    while world.elapsed() < until {
        world.step();
        assert!(!world.agent(&agent).is_joined, "nobody is welcomed through a cut link");
        assert!(world.coordinator().sessions.contains_key(&other), "others do not suffer");
    }
    world.mend(&agent);
    let back = whole_again(&mut world, 2);

    world.tell(&format!(
        "{cut:?}: noticed by the agent after {by_agent:?}, by the coordinator after \
         {by_coordinator:?}, back after {back:?}"
    ));
}

#[test]
fn row_34_a_partition_is_noticed_by_both_sides_and_heals() {
    each_seed(SEEDS, |seed| cut_and_mend(seed, Cut::Both));
}

#[test]
fn row_35_what_an_agent_sends_is_lost_and_both_sides_notice() {
    each_seed(SEEDS, |seed| cut_and_mend(seed, Cut::Up));
}

#[test]
fn row_36_what_the_coordinator_sends_is_lost_and_both_sides_notice() {
    each_seed(SEEDS, |seed| cut_and_mend(seed, Cut::Down));
}

#[test]
fn row_39_a_frozen_peer_is_noticed_and_its_late_words_change_nothing() {
    each_seed(SEEDS, |seed| cut_and_mend(seed, Cut::Held));
}

/// Everything is kept back for less than anybody needs to notice: nothing happens.
#[test]
fn a_short_pause_ends_no_session() {
    each_seed(SEEDS, |seed| {
        let mut world = World::new(&WorldSettings::new(seed, 1));
        let agent = agent_name(1);
        let calm = world.draw(SECOND..20 * SECOND);
        world.run(calm);
        let dials = world.dials(&agent, Duration::ZERO).len();

        world.cut(&agent, Cut::Held);
        // A ping that was sent just before waits 5 s for its answer.
        let pause = world.draw(Duration::from_millis(100)..4 * SECOND);
        world.run(pause);
        world.mend(&agent);
        world.run(30 * SECOND);

        world.tell(&format!("paused for {pause:?}"));
        assert!(world.is_whole());
        assert_eq!(world.dials(&agent, Duration::ZERO).len(), dials, "nobody dialed anew");
    });
}

/// The agent's process ends while its link is cut, so that no FIN arrives, and comes back before
/// the coordinator has noticed (row 39, T4.6).
#[test]
fn an_agent_that_is_back_too_early_waits_for_its_old_session_to_end() {
    let mut seen_refused = false;
    each_seed(SEEDS, |seed| {
        let mut world = World::new(&WorldSettings::new(seed, 1));
        let agent = agent_name(1);
        let calm = world.draw(SECOND..20 * SECOND);
        world.run(calm);
        let old = world.coordinator().sessions[&agent];

        world.cut(&agent, Cut::Both);
        world.restart_agent(&agent);
        world.mend(&agent);
        let mended = world.elapsed();
        while !world.agent(&agent).is_joined {
            // It ends by itself, or as the agent's host answers that it knows of no such
            // connection; nothing takes its place before.
            let session = world.coordinator().sessions.get(&agent).copied();
            seen_refused |= session == Some(old) && world.has_ended_a_session(&agent, mended);
            world.step();
        }
        let back = whole_again(&mut world, 1);

        let dials = world.dials(&agent, mended);
        world.tell(&format!("back after {back:?}, dialed at {dials:?}"));
        assert_ne!(world.coordinator().sessions[&agent], old);
        // ALREADY_CONNECTED was heard: a connection that broke would be dialed again in 1 to 2 s.
        let gaps: Vec<Duration> = dials.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.iter().all(|gap| *gap >= 3 * SECOND), "dialed again after {gaps:?}");
        assert!(dials.len() <= 5, "{dials:?}");
    });
    if std::env::var("CUTOVER_SEED").is_err() {
        assert!(seen_refused, "some seed must show an agent that is refused");
    }
}
