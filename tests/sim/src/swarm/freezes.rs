//! Freezes: nothing new is to come to an environment for a while, and somebody deploys.

use super::interrupts::later_deploy;
use crate::{
    dice::Dice,
    script::{Call, DESPITE_FREEZE, Entry, Fault, What},
};

/// How many runs in a thousand have them.
const FREEZING_PERMILLE: u32 = 120;

/// Draws them, from luck of their own: they change nothing else of a run.
pub(super) fn draw(seed: u64, entries: &mut Vec<Entry>) {
    let deploys: Vec<(u64, u16)> = entries.iter().filter_map(later_deploy).collect();
    // Of two coordinators only one hears of it.
    let is_cloned = entries.iter().any(|entry| entry.what == What::Fault(Fault::Clone));
    let mut dice = Dice::new(seed, "freezes");
    if deploys.is_empty() || is_cloned || !dice.chance(FREEZING_PERMILLE) {
        return;
    }
    let (deploy_ms, application) = *dice.pick(&deploys);
    let begin = deploy_ms.saturating_sub(dice.between(10, 6_000));
    let end = deploy_ms + dice.between(10, 30_000);
    if dice.chance(400) {
        for entry in entries.iter_mut().filter(|entry| entry.at_ms == deploy_ms) {
            if let What::Call(Call::Deploy { application: of, options, .. }) = &mut entry.what
                && *of == application
            {
                options.push((DESPITE_FREEZE.to_owned(), "yes".to_owned()));
            }
        }
    }
    entries.push(Entry { at_ms: begin, what: What::Call(Call::Freeze { application }) });
    entries.push(Entry { at_ms: end, what: What::Call(Call::Thaw { application }) });
}
