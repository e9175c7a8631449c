//! Interruptions: an operator stops a rollout just when a host is out of reach, so that what the
//! host was told last is what nobody wants any more.

use crate::{
    dice::Dice,
    script::{Application, Call, Direction, Entry, Fault, What},
};

/// How many runs in a thousand have one.
const RUNS_PERMILLE: u32 = 150;

/// Draws it, from luck of its own: it changes nothing else of a run.
pub(super) fn draw(seed: u64, applications: &[Application], entries: &mut Vec<Entry>) {
    let mut dice = Dice::new(seed, "interrupts");
    if !dice.chance(RUNS_PERMILLE) {
        return;
    }
    let deploys: Vec<(u64, u16)> = entries.iter().filter_map(later_deploy).collect();
    let Some((at_ms, application)) = deploys.get(dice.below(deploys.len())).copied() else {
        return;
    };
    let Some(spec) = applications.get(usize::from(application)) else { return };
    let mut push = |at_ms: u64, what: What| entries.push(Entry { at_ms, what });
    let cut_ms = at_ms + dice.between(0, 8_000);
    let direction = *dice.pick(&[Direction::Both, Direction::Down]);
    for _ in 0..dice.between(1, 3) {
        let host = *dice.pick(&spec.hosts);
        let for_ms = dice.between(12_000, 40_000);
        push(cut_ms, What::Fault(Fault::CutLink { host, direction, for_ms }));
    }
    let call =
        if dice.chance(500) { Call::Pause { application } } else { Call::Abort { application } };
    push(cut_ms + dice.between(100, 9_000), What::Call(call));
}

fn later_deploy(entry: &Entry) -> Option<(u64, u16)> {
    match &entry.what {
        // The first is what everything else begins from.
        What::Call(Call::Deploy { application, .. }) if entry.at_ms > 10_000 => {
            Some((entry.at_ms, *application))
        }
        What::Call(_) | What::Fault(_) => None,
    }
}
