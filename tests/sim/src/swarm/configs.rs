//! Configs: what an environment adds is changed, and comes with what is deployed later.

use super::interrupts::later_deploy;
use crate::{
    dice::Dice,
    script::{Call, Entry, Fault, What},
};

/// How many runs in a thousand have them.
const CONFIGURED_PERMILLE: u32 = 200;

/// How many changes in a thousand are of a secret.
const SECRET_PERMILLE: u32 = 400;

/// Draws them, from luck of their own: they change nothing else of a run but the versions that are
/// deployed, and a deploy more.
pub(super) fn draw(seed: u64, entries: &mut Vec<Entry>) {
    let deploys: Vec<(u64, u16)> = entries.iter().filter_map(later_deploy).collect();
    // Of two coordinators only one hears of it.
    let is_cloned = entries.iter().any(|entry| entry.what == What::Fault(Fault::Clone));
    let mut dice = Dice::new(seed, "configs");
    if deploys.is_empty() || is_cloned || !dice.chance(CONFIGURED_PERMILLE) {
        return;
    }
    let mut secrets = Dice::new(seed, "secrets");
    let (_, application) = *dice.pick(&deploys);
    let end = entries.iter().map(|entry| entry.at_ms).max().unwrap_or_default();
    for level in 1..=u32::try_from(dice.between(1, 4)).unwrap_or(1) {
        let at_ms = dice.between(5_000, end.max(6_000));
        let level = (!dice.chance(200)).then_some(level);
        let is_secret = secrets.chance(SECRET_PERMILLE);
        let call = Call::Configure { application, level, is_secret };
        entries.push(Entry { at_ms, what: What::Call(call) });
    }
    // What runs already comes once more, with what is set by then.
    if dice.chance(500)
        && let Some((at_ms, mut again)) = deployed_again(entries, application, &mut dice)
    {
        again.at_ms = at_ms;
        entries.push(again);
    }
}

fn deployed_again(entries: &[Entry], application: u16, dice: &mut Dice) -> Option<(u64, Entry)> {
    let is_of = |entry: &&Entry| later_deploy(entry).is_some_and(|(_, of)| of == application);
    let last = entries.iter().filter(is_of).max_by_key(|entry| entry.at_ms)?;
    Some((last.at_ms + dice.between(5_000, 60_000), last.clone()))
}
