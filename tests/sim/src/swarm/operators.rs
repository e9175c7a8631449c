//! What operators do in a run: they deploy, and interfere.

use crate::{
    dice::Dice,
    script::{Application, Call, Entry, SUPERSEDES, What},
};

/// Draws the calls of a run, by time.
pub(super) fn draw(dice: &mut Dice, applications: &[Application], hosts: u16) -> Vec<Entry> {
    let interferes = dice.chance(500);
    let fleet_changes = dice.chance(200);
    let mut entries = Vec::new();
    for (index, spec) in applications.iter().enumerate() {
        let application = u16::try_from(index).unwrap_or(0);
        let size = spec.hosts.len();
        let mut at_ms = 2_000 + dice.between(0, 3_000);
        let mut push =
            |at_ms: u64, call: Call| entries.push(Entry { at_ms, what: What::Call(call) });
        let first = vec![
            ("strategy".to_owned(), "all_at_once".to_owned()),
            ("healthy_for".to_owned(), "1s".to_owned()),
            ("healthy_within".to_owned(), "40s".to_owned()),
        ];
        push(at_ms, Call::Deploy { application, release: 0, options: first });
        at_ms += dice.between(10_000, 20_000);
        for _ in 0..dice.between(1, 3) {
            let release = u16::try_from(dice.between(0, 3)).unwrap_or(0);
            let mut settings = options(dice, size);
            if dice.chance(120) {
                push(at_ms, Call::Restart { application, options: settings });
            } else {
                beside(dice, &mut settings);
                if dice.chance(150) {
                    settings.push((SUPERSEDES.to_owned(), "yes".to_owned()));
                }
                push(at_ms, Call::Deploy { application, release, options: settings });
            }
            let lasts = dice.between(10_000, 90_000);
            if interferes {
                for _ in 0..dice.between(1, 4) {
                    // Most often while it is under way.
                    let within = if dice.chance(700) { lasts.min(15_000) } else { lasts };
                    push(at_ms + dice.between(100, within), control(dice, application));
                }
            }
            at_ms += lasts;
        }
        if fleet_changes {
            let host = u16::try_from(dice.between(0, u64::from(hosts) - 1)).unwrap_or(0);
            let begin = dice.between(5_000, at_ms);
            let later = begin + dice.between(1_000, 40_000);
            if dice.chance(600) {
                push(begin, Call::Unlabel { host, application });
                push(later, Call::Label { host, application });
            } else {
                push(begin, Call::Remove { host });
                // Sometimes the token is too old by then.
                let token_age_ms = *dice.pick(&[0, 0, 40_000]);
                push(later, Call::Join { host, token_age_ms });
            }
        }
    }
    entries.sort_by_key(|entry| entry.at_ms);
    entries
}

fn control(dice: &mut Dice, application: u16) -> Call {
    if dice.chance(200) {
        return Call::Promote { application, full: dice.chance(300) };
    }
    match dice.below(8) {
        0 | 1 => Call::Pause { application },
        2 | 3 => Call::Resume { application },
        4 => Call::Abort { application },
        5 | 6 => Call::Retry { application },
        _ => Call::Rollback { application },
    }
}

fn options(dice: &mut Dice, hosts: usize) -> Vec<(String, String)> {
    let mut options = Vec::new();
    let mut push = |name: &str, value: String| options.push((name.to_owned(), value));
    let within = *dice.pick(&["20s", "40s"]);
    push("healthy_for", (*dice.pick(&["1s", "3s", "8s"])).to_owned());
    push("healthy_within", within.to_owned());
    push("progress_within", (*dice.pick(&["40s", "90s"])).to_owned());
    if dice.chance(150) {
        push("strategy", "all_at_once".to_owned());
    } else {
        push("batch", (*dice.pick(&["1", "25%", "50%", "1,2,50%"])).to_owned());
    }
    if dice.chance(400) {
        push("min_healthy", dice.between(0, hosts as u64).to_string());
    }
    if dice.chance(400) {
        push("max_failed", dice.between(0, 2).to_string());
    }
    if dice.chance(400) {
        push("max_unreachable", dice.between(0, 2).to_string());
    }
    if dice.chance(400) {
        push("soak", (*dice.pick(&["1s", "5s"])).to_owned());
    }
    if dice.chance(400) {
        push("bake", (*dice.pick(&["2s", "10s"])).to_owned());
    }
    if dice.chance(200) {
        push("auto_rollback", "off".to_owned());
    }
    pace(dice, &mut options);
    if dice.chance(250) {
        let bears = options.iter().any(|(name, value)| name == "max_unreachable" && value != "0");
        let words: &[&str] = if bears { &["skip", "fail"] } else { &["wait", "skip", "fail"] };
        options.push(("unreachable".to_owned(), one_of(dice, words).to_owned()));
    }
    options
}

/// Adds windows, zones, pauses and limits of load.
fn pace(dice: &mut Dice, options: &mut Vec<(String, String)>) {
    let is_all_at_once = options.iter().any(|(_, value)| value == "all_at_once");
    let is_ramp = options.iter().any(|(name, value)| name == "batch" && value.contains(','));
    let mut push = |name: &str, value: &str| options.push((name.to_owned(), value.to_owned()));
    if !is_all_at_once && !is_ramp && dice.chance(200) {
        push("sliding", "on");
    } else if !is_all_at_once && dice.chance(150) {
        push("pause_after", one_of(dice, &["1", "1,2"]));
    }
    if dice.chance(250) {
        push("zone", "zone");
        if dice.chance(300) {
            push("zone_soak", one_of(dice, &["1s", "5s"]));
        }
        if dice.chance(400) {
            push("zone_min_healthy", one_of(dice, &["0", "1", "50%"]));
        }
    }
    if dice.chance(200) {
        push("max_load", one_of(dice, &["60%", "90%", "100%"]));
    }
}

/// Makes some deploys canaries, and some blue/green: behind a gate they run beside what serves.
fn beside(dice: &mut Dice, options: &mut Vec<(String, String)>) {
    let drawn = dice.below(10);
    if drawn >= 4 {
        return;
    }
    let is_canary = drawn < 2;
    options.retain(|(name, _)| {
        let is_of_batches = matches!(name.as_str(), "batch" | "sliding" | "pause_after");
        name != "strategy" && (is_canary || !is_of_batches)
    });
    let mut push = |name: &str, value: &str| options.push((name.to_owned(), value.to_owned()));
    if is_canary {
        push("strategy", "canary");
        push("canary_hosts", one_of(dice, &["1", "25%", "zone=a"]));
        push("canary_steps", one_of(dice, &["10%:3s", "5%:2s,50%:5s", "100%:1s"]));
        push("canary_promote", one_of(dice, &["auto", "auto", "manual"]));
        // No request is counted there, so that there may be nothing to compare.
        push("canary_unsure", "pass");
        return;
    }
    push("strategy", "blue_green");
    push("cutover", one_of(dice, &["strict", "strict", "strict", "relaxed"]));
    push("hold", one_of(dice, &["1s", "5s", "10s"]));
    push("keep", one_of(dice, &["0s", "3s", "10s"]));
    push("approve", one_of(dice, &["off", "off", "on"]));
    if dice.chance(150) {
        push("until", "smoke");
    }
}

fn one_of(dice: &mut Dice, choices: &[&'static str]) -> &'static str {
    dice.pick::<&str>(choices)
}
