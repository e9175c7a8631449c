//! Windows: in some runs the last that happens is a window that slides over hosts, of which one is lost
//! for good while it is watched.

use crate::{
    dice::Dice,
    script::{Call, Mode, SUPERSEDES, Script, What},
};

/// How many runs in a thousand.
const RUNS_PERMILLE: u32 = 40;

/// Makes the run of a seed such a one, if it is to be one, with luck of its own.
pub(super) fn draw(script: &mut Script) {
    let mut dice = Dice::new(script.seed, "windows");
    if !dice.chance(RUNS_PERMILLE) {
        return;
    }
    // Whoever rolls out last does so alone.
    let last = script.entries.iter_mut().rev().find_map(|entry| match &mut entry.what {
        What::Call(Call::Deploy { application, release, options }) if entry.at_ms > 10_000 => {
            Some((entry.at_ms, *application, release, options))
        }
        What::Call(_) | What::Fault(_) => None,
    });
    let Some((at_ms, application, release, options)) = last else { return };
    *release = u16::try_from(dice.between(1, 3)).unwrap_or(1);
    *options = [
        ("batch", *dice.pick(&["1", "50%"])),
        ("sliding", "on"),
        ("soak", *dice.pick(&["4s", "8s"])),
        ("healthy_for", "1s"),
        ("healthy_within", "20s"),
        ("progress_within", "40s"),
        ("min_healthy", "0"),
        ("max_unreachable", *dice.pick(&["0", "1"])),
        (SUPERSEDES, "yes"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec();
    let Some(spec) = script.applications.get(usize::from(application)) else { return };
    let broken = vec![*dice.pick(&spec.hosts)];
    let each_ms = 8_000 * u64::try_from(spec.hosts.len()).unwrap_or(1);
    let heals_ms = at_ms + dice.between(3_000, 4_000 + each_ms);
    script.entries.retain(|entry| entry.at_ms <= at_ms);
    script.mode = Mode::Liveness { heals_ms, broken };
    script.ends_ms = heals_ms + crate::oracle::bound_ms(script);
}
