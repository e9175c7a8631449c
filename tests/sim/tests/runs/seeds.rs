//! A sample of seeds; `make sim` runs ten thousand of them.

use cutover_sim::{run, swarm, world::Counts};

#[test]
fn a_sample_of_seeds_breaks_nothing() {
    let mut counts = Counts::default();
    for seed in 0..300 {
        let outcome = run::run(&swarm::draw(seed), false);
        counts.add(&outcome.counts);
        if let Some(violation) = outcome.violation {
            panic!("seed {seed} broke {violation}; cargo run -p cutover-sim -- run --from {seed}");
        }
    }

    // A world in which nothing happens breaks nothing either.
    assert!(counts.rollouts > 300, "{counts:?}");
    assert!(counts.faults > 2_000, "{counts:?}");
    assert!(counts.messages > 50_000, "{counts:?}");
}

#[test]
fn standard_rollouts_come_to_their_end() {
    for seed in 0..10 {
        let outcome = run::run(&swarm::standard(seed), false);

        assert_eq!(outcome.violation, None, "standard rollout {seed}");
        assert!(outcome.counts.rollouts >= 1, "standard rollout {seed}: {:?}", outcome.counts);
    }
}
