//! Queues: deploys that wait for what is under way, and are taken out again.

use super::interrupts::later_deploy;
use crate::{
    dice::Dice,
    script::{Call, Entry, Fault, KillPoint, QUEUES, What},
};

/// How many runs in a thousand have them.
const QUEUEING_PERMILLE: u32 = 200;

/// Draws them, from luck of their own: they change nothing else of a run.
pub(super) fn draw(seed: u64, entries: &mut Vec<Entry>) {
    let deploys: Vec<(u64, u16)> = entries.iter().filter_map(later_deploy).collect();
    let mut dice = Dice::new(seed, "queues");
    if deploys.is_empty() || !dice.chance(QUEUEING_PERMILLE) {
        return;
    }
    let (deploy_ms, application) = *dice.pick(&deploys);
    let mut at_ms = deploy_ms;
    let mut push = |at_ms: u64, what: What| entries.push(Entry { at_ms, what });
    for _ in 0..dice.between(1, 4) {
        at_ms += dice.between(10, 4_000);
        let release = u16::try_from(dice.between(0, 3)).unwrap_or(0);
        let mut options = vec![
            (QUEUES.to_owned(), "yes".to_owned()),
            ("healthy_for".to_owned(), "1s".to_owned()),
            ("healthy_within".to_owned(), "20s".to_owned()),
            ("progress_within".to_owned(), "40s".to_owned()),
        ];
        if dice.chance(500) {
            options.push(("strategy".to_owned(), "all_at_once".to_owned()));
        }
        push(at_ms, What::Call(Call::Deploy { application, release, options }));
    }
    if dice.chance(300) {
        let later_ms = at_ms + dice.between(10, 10_000);
        push(later_ms, What::Call(Call::AbortQueued { application }));
    }
    // What ends then is followed by the next, or would have been.
    if dice.chance(400) {
        let later_ms = at_ms + dice.between(10, 8_000);
        push(later_ms, What::Call(Call::Abort { application }));
        if dice.chance(700) {
            let operation = u32::try_from(dice.between(1, 6)).unwrap_or(1);
            let points = [KillPoint::Now, KillPoint::AfterStore, KillPoint::AtDisk { operation }];
            let point = *dice.pick(&points);
            let kill = Fault::KillCoordinator { coordinator: 0, point, down_ms: 2_000 };
            push(later_ms + dice.between(0, 5), What::Fault(kill));
        }
    }
}
