//! Once hooks: in some applications one host runs the `before_start` hook for all. Drawn by itself, so
//! that all else of a seed stays what it was.

use cutover_common::HookKind;

use crate::{
    dice::Dice,
    script::{Application, BadHook, Direction, Entry, Fault, HookBehaviour, What},
    swarm::interrupts::later_deploy,
};

/// Gives once hooks to the applications of a seed.
pub(super) fn draw(seed: u64, applications: &mut [Application]) {
    let mut dice = Dice::new(seed, "once");
    for application in applications {
        if dice.chance(700) {
            continue;
        }
        application.once = true;
        if !application.hooks.contains(&HookKind::BeforeStart) {
            application.hooks.push(HookKind::BeforeStart);
            application.hooks.sort_unstable();
        }
        for release in application.releases.iter_mut().skip(1) {
            if dice.chance(800) {
                continue;
            }
            let kind = HookKind::BeforeStart;
            let how = *dice.pick(&[HookBehaviour::Fails, HookBehaviour::Hangs]);
            release.behaviour.bad_hook = Some(BadHook { kind, how });
        }
    }
}

/// Loses hosts while a once hook may run on one of them.
pub(super) fn draw_losses(seed: u64, applications: &[Application], entries: &mut Vec<Entry>) {
    let mut dice = Dice::new(seed, "once-losses");
    let deploys: Vec<(u64, u16)> = entries.iter().filter_map(later_deploy).collect();
    for (at_ms, application) in deploys {
        let Some(spec) = applications.get(usize::from(application)) else { continue };
        if !spec.once || dice.chance(500) {
            continue;
        }
        let at_ms = at_ms + dice.between(100, 3_000);
        for host in spec.hosts.iter().copied() {
            let for_ms = dice.between(35_000, 90_000);
            let direction = Direction::Both;
            let fault = match dice.below(4) {
                0 => continue,
                1 => Fault::CutPower { host, down_ms: for_ms },
                _ => Fault::CutLink { host, direction, for_ms },
            };
            entries.push(Entry { at_ms, what: What::Fault(fault) });
            break;
        }
    }
}
