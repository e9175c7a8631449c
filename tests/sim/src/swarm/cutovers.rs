//! Cutovers: in some runs the last that is deployed goes over at one moment, gates are slow to hear of it,
//! and somebody interferes just then.

use crate::{
    dice::Dice,
    script::{Call, Entry, Fault, SUPERSEDES, Script, What},
};

/// How many runs in a thousand.
const RUNS_PERMILLE: u32 = 40;

/// Makes the run of a seed such a one, if it is to be one, with luck of its own.
pub(super) fn draw(script: &mut Script) {
    let mut dice = Dice::new(script.seed, "cutovers");
    if !dice.chance(RUNS_PERMILLE) {
        return;
    }
    let last = script.entries.iter_mut().rev().find_map(|entry| match &mut entry.what {
        What::Call(Call::Deploy { application, options, .. }) if entry.at_ms > 10_000 => {
            Some((entry.at_ms, *application, options))
        }
        What::Call(_) | What::Fault(_) => None,
    });
    let Some((at_ms, application, options)) = last else { return };
    let Some(spec) = script.applications.get_mut(usize::from(application)) else { return };
    super::groups::gate(&mut dice, spec).in_place = false;
    *options = [
        ("strategy", "blue_green"),
        ("cutover", "strict"),
        ("hold", "10s"),
        ("keep", *dice.pick(&["0s", "10s"])),
        ("healthy_for", "1s"),
        ("healthy_within", "20s"),
        ("progress_within", "40s"),
        (SUPERSEDES, "yes"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec();
    let mut push = |at_ms: u64, what: What| script.entries.push(Entry { at_ms, what });
    for _ in 0..2 {
        let host = *dice.pick(&spec.hosts);
        let delay_ms = dice.between(300, 2_000);
        push(at_ms, What::Fault(Fault::SlowLink { host, delay_ms, for_ms: 40_000 }));
    }
    // Paused and resumed again and again, so that one time hits it when gates are being told.
    let every_ms = dice.between(2_500, 9_000);
    let interrupts = dice.between(1, 4);
    for number in 0..interrupts {
        let at_ms = at_ms + 1_500 + (number + 1) * every_ms;
        push(at_ms, What::Call(Call::Pause { application }));
        push(at_ms + dice.between(100, 600), What::Call(Call::Resume { application }));
    }
    if dice.chance(300) {
        let call = if dice.chance(500) {
            Call::Abort { application }
        } else {
            Call::Rollback { application }
        };
        push(at_ms + dice.between(2_000, 16_000), What::Call(call));
    }
    script.entries.sort_by_key(|entry| entry.at_ms);
}
