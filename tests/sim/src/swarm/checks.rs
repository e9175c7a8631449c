//! Checks: some applications have canaries that are asked, by a metrics server and by commands on their
//! hosts. Drawn by itself, so that all else of a seed stays what it was.

use crate::{
    dice::Dice,
    script::{Application, Call, CheckBehaviour, CheckBehaviours, Checks, Entry, What},
};

/// Gives checks to the applications of a seed, and makes canaries of their later deploys.
pub(super) fn draw(seed: u64, applications: &mut [Application], entries: &mut [Entry]) {
    let mut dice = Dice::new(seed, "checks");
    for (number, application) in applications.iter_mut().enumerate() {
        if dice.chance(800) {
            continue;
        }
        let metric = dice.chance(700);
        let checks = Checks {
            metric,
            command: !metric || dice.chance(500),
            failures: *dice.pick(&[1, 2, 2, 3]),
        };
        application.checks = Some(checks);
        // The first release is what is to be updated.
        for release in application.releases.iter_mut().skip(1) {
            release.checks =
                CheckBehaviours { metric: behaviour(&mut dice), command: behaviour(&mut dice) };
        }
        for entry in entries.iter_mut().filter(|entry| entry.at_ms > 10_000) {
            if let What::Call(Call::Deploy { application: of, options, .. }) = &mut entry.what
                && usize::from(*of) == number
                && dice.chance(800)
            {
                canary(&mut dice, options);
            }
        }
    }
}

fn behaviour(dice: &mut Dice) -> CheckBehaviour {
    *dice.pick(&[
        CheckBehaviour::Passes,
        CheckBehaviour::Passes,
        CheckBehaviour::Fails,
        CheckBehaviour::Blips,
        CheckBehaviour::Errs,
        CheckBehaviour::Hangs,
    ])
}

/// Makes a deploy one with a canary whose steps are long enough for answers.
fn canary(dice: &mut Dice, options: &mut Vec<(String, String)>) {
    options.retain(|(name, _)| {
        let is_of_others =
            matches!(name.as_str(), "strategy" | "cutover" | "hold" | "keep" | "approve" | "until");
        !is_of_others && !name.starts_with("canary")
    });
    let mut push = |name: &str, value: &str| options.push((name.to_owned(), value.to_owned()));
    let one_of =
        |dice: &mut Dice, choices: &[&'static str]| -> &'static str { dice.pick::<&str>(choices) };
    push("strategy", "canary");
    push("canary_hosts", one_of(dice, &["1", "25%"]));
    push("canary_steps", one_of(dice, &["50%:20s", "10%:12s,50%:12s", "100%:6s"]));
    push("canary_unsure", one_of(dice, &["pass", "wait", "fail"]));
}
