//! The same script makes the same run, to the last bit: twice in one process, and in another.

use std::process::Command;

use cutover_sim::{run, swarm};

/// How many seeds are compared; every kind of fault is in several of them.
const SEEDS: u64 = 50;

#[test]
fn a_seed_makes_the_same_run_twice_in_one_process() {
    for seed in 0..SEEDS {
        let script = swarm::draw(seed);
        assert_eq!(script, swarm::draw(seed), "seed {seed} draws another script");
        let (one, other) = (run::run(&script, false), run::run(&script, true));

        assert_eq!(one.hash, other.hash, "seed {seed}: telling it changes it");
        assert_eq!(one.counts.inputs, other.counts.inputs, "seed {seed}");
        assert_eq!(one.violation, other.violation, "seed {seed}");
    }
}

#[test]
fn a_seed_makes_the_same_run_in_another_process() {
    for seed in 0..SEEDS {
        let outcome = run::run(&swarm::draw(seed), false);
        let replay = Command::new(env!("CARGO_BIN_EXE_cutover-sim"))
            .args(["replay", &seed.to_string()])
            // Whatever a map's order or an address could depend on.
            .env("RUST_BACKTRACE", if seed % 2 == 0 { "0" } else { "1" })
            .output()
            .expect("the program can be started");
        let told = String::from_utf8(replay.stdout).expect("it prints text");

        let hash = format!("{:016x}", outcome.hash);
        assert!(told.contains(&hash), "seed {seed} is {hash} here, and there:\n{told}");
    }
}

#[test]
fn different_seeds_make_different_runs() {
    let hashes: std::collections::BTreeSet<u64> =
        (0..SEEDS).map(|seed| run::run(&swarm::draw(seed), false).hash).collect();

    assert_eq!(hashes.len(), usize::try_from(SEEDS).expect("they are few"));
}
