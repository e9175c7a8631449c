//! Drains: some runs are nothing but deploys, one into the drain of another. Nothing goes wrong in
//! them, so that every release must arrive.

use crate::{
    dice::Dice,
    script::{Behaviour, Call, Entry, Gated, Mode, Network, Script, What},
};

/// How many runs in a thousand.
const RUNS_PERMILLE: u32 = 20;

/// How long clients stay: far longer than a release may take to become healthy.
const DRAIN_MS: u64 = 400_000;

/// Makes the run of a seed such a one, if it is to be one.
pub(super) fn draw(script: &mut Script) {
    let mut dice = Dice::new(script.seed, "drains");
    if !dice.chance(RUNS_PERMILLE) {
        return;
    }
    script.applications.truncate(1);
    for application in &mut script.applications {
        application.gate = Some(Gated {
            in_place: false,
            requests_ms: *dice.pick(&[10, DRAIN_MS]),
            drain_ms: DRAIN_MS,
            keep_warm_ms: *dice.pick(&[0, 2 * DRAIN_MS]),
        });
        application.hooks.clear();
        application.once = false;
        for release in &mut application.releases {
            release.is_damaged = false;
            release.exceptions.clear();
            release.behaviour = Behaviour::WELL;
        }
    }
    let network = script.network;
    let (reorder_permille, drop_permille) = (0, 0);
    // Quick enough for every archive.
    script.network =
        Network { reorder_permille, drop_permille, bytes_per_ms: 1_000_000, ..network };
    let mut at_ms = 2_000;
    script.entries.clear();
    for release in 0..4 {
        let strategy = if release == 0 { "all_at_once" } else { "rolling" };
        let options = [
            ("strategy", strategy),
            ("healthy_for", "1s"),
            ("healthy_within", "40s"),
            ("progress_within", "90s"),
        ];
        let options = options.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let call = Call::Deploy { application: 0, release, options };
        script.entries.push(Entry { at_ms, what: What::Call(call) });
        at_ms += dice.between(30_000, 200_000);
    }
    script.mode = Mode::Liveness { heals_ms: at_ms, broken: Vec::new() };
    script.ends_ms = at_ms + crate::oracle::bound_ms(script);
}
