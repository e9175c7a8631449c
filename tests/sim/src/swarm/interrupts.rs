//! Interruptions: an operator does something just when it is hardest to obey. A rollout is stopped
//! when a host is out of reach, so that what the host was told last is what nobody wants any more;
//! an agent is removed when it dials, and what it once joined with is shown again.

use crate::{
    dice::Dice,
    script::{Application, Call, Direction, Entry, Fault, What},
};

/// How many runs in a thousand have a rollout that is stopped so.
const RUNS_PERMILLE: u32 = 400;

/// Draws them, from luck of their own: they change nothing else of a run.
pub(super) fn draw(seed: u64, applications: &[Application], entries: &mut Vec<Entry>) {
    draw_stop(seed, applications, entries);
    draw_removals(seed, entries);
}

fn draw_stop(seed: u64, applications: &[Application], entries: &mut Vec<Entry>) {
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

fn draw_removals(seed: u64, entries: &mut Vec<Entry>) {
    let mut dice = Dice::new(seed, "removals");
    let removals: Vec<(u64, u16)> = entries.iter().filter_map(removal).collect();
    for (at_ms, host) in removals {
        let mut push = |at_ms: u64, what: What| entries.push(Entry { at_ms, what });
        if dice.chance(500) {
            // It is let in before its removal, and says hello after it.
            let slow_ms = at_ms.saturating_sub(5_000);
            let slow = Fault::SlowLink { host, delay_ms: 2_000, for_ms: 15_000 };
            push(slow_ms, What::Fault(slow));
            let reset_ms = at_ms.saturating_sub(dice.between(1_000, 4_500));
            push(reset_ms, What::Fault(Fault::ResetLink { host }));
        }
        if dice.chance(500) {
            let shown_ms = at_ms + dice.between(10, 1_000);
            push(shown_ms, What::Call(Call::ShowUsedToken { host }));
        }
    }
}

fn removal(entry: &Entry) -> Option<(u64, u16)> {
    match &entry.what {
        What::Call(Call::Remove { host }) => Some((entry.at_ms, *host)),
        What::Call(_) | What::Fault(_) => None,
    }
}

pub(super) fn later_deploy(entry: &Entry) -> Option<(u64, u16)> {
    match &entry.what {
        // The first is what everything else begins from.
        What::Call(Call::Deploy { application, .. }) if entry.at_ms > 10_000 => {
            Some((entry.at_ms, *application))
        }
        What::Call(_) | What::Fault(_) => None,
    }
}
