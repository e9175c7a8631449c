//! Hooks: some applications have those that bring a release into service, and some of their
//! releases one that does not pass. Drawn by itself, so that all else of a seed stays what it was.

use cutover_common::HookKind;

use crate::{
    dice::Dice,
    script::{Application, BadHook, HookBehaviour},
};

/// Gives hooks to the applications of a seed.
pub(super) fn draw(seed: u64, applications: &mut [Application]) {
    let mut dice = Dice::new(seed, "hooks");
    for application in applications {
        if dice.chance(650) {
            continue;
        }
        let kinds = HookKind::ALL.into_iter().filter(|kind| *kind != HookKind::BeforeStop);
        application.hooks = kinds.filter(|_| dice.chance(500)).collect();
        // The first release is what is to be updated; the later ones may be bad.
        for release in application.releases.iter_mut().skip(1) {
            if application.hooks.is_empty() || dice.chance(700) {
                continue;
            }
            let kind = *dice.pick(&application.hooks);
            let how =
                *dice.pick(&[HookBehaviour::Fails, HookBehaviour::Fails, HookBehaviour::Hangs]);
            release.behaviour.bad_hook = Some(BadHook { kind, how });
        }
    }
}
