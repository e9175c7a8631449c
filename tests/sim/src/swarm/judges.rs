//! Judges: some runs have clients, and canaries that are compared with what is beside them. Some of the
//! releases fail as often as the old one, some more often, and some always.

use crate::{
    dice::Dice,
    script::{
        Answers, Application, Behaviour, Call, CheckBehaviours, Direction, Entry, Fault, Gated,
        KillPoint, Mode, Probe, SUPERSEDES, Script, What,
    },
};

/// How many runs in a thousand.
const RUNS_PERMILLE: u32 = 45;

/// When the canary is asked for: what is to be compared with has run everywhere for a while by then.
const CANARY_MS: u64 = 15_000;

/// The longest that the steps of a canary take, with what comes before.
const STEPS_MS: u64 = 200_000;

/// Makes the run of a seed such a one, if it is to be one, with luck of its own.
pub(super) fn draw(script: &mut Script) {
    let mut dice = Dice::new(script.seed, "judges");
    if !dice.chance(RUNS_PERMILLE) {
        return;
    }
    script.hosts = u16::try_from(dice.between(2, 6)).unwrap_or(2);
    script.applications.truncate(1);
    for application in &mut script.applications {
        application.hosts = (0..script.hosts).collect();
        serve(&mut dice, application);
    }
    script.network.bytes_per_ms = 1_000_000;
    script.entries.clear();
    let mut push = |at_ms: u64, what: What| script.entries.push(Entry { at_ms, what });
    push(2_000, deploy(0, all_at_once()));
    let options = canary(&mut dice);
    push(CANARY_MS, deploy(1, options.clone()));
    if dice.chance(200) {
        let at_ms = CANARY_MS + dice.between(5_000, 150_000);
        let mut options = options;
        options.push((SUPERSEDES.to_owned(), "yes".to_owned()));
        push(at_ms, deploy(2, options));
    }
    for _ in 0..dice.between(0, 2) {
        let at_ms = CANARY_MS + dice.between(2_000, 150_000);
        let host = u16::try_from(dice.between(0, u64::from(script.hosts) - 1)).unwrap_or(0);
        push(at_ms, What::Fault(fault(&mut dice, host)));
    }
    if dice.chance(250) {
        interfere(&mut dice, &mut script.entries);
    }
    script.entries.sort_by_key(|entry| entry.at_ms);
    let last_ms = script.entries.last().map_or(CANARY_MS, |entry| entry.at_ms);
    script.mode = Mode::Safety;
    script.ends_ms = last_ms + STEPS_MS;
    if dice.chance(300) {
        let heals_ms = last_ms + 10_000;
        script.mode = Mode::Liveness { heals_ms, broken: Vec::new() };
        script.ends_ms = heals_ms + STEPS_MS + crate::oracle::bound_ms(script);
    }
}

/// Lets clients ask an application whose releases start well. They differ in their answers alone.
fn serve(dice: &mut Dice, application: &mut Application) {
    application.gate = Some(Gated {
        in_place: dice.chance(150),
        requests_ms: *dice.pick(&[10, 1_000]),
        drain_ms: 2_000,
        keep_warm_ms: 0,
    });
    application.probe = Some(Probe {
        every_ms: 500,
        timeout_ms: 200,
        passes: 1,
        failures: 3,
        start_within_ms: 10_000,
    });
    application.has_stop_hook = false;
    application.hooks.clear();
    application.once = false;
    application.checks = None;
    application.requests_per_s = Some(*dice.pick(&[1, 20, 50, 200]));
    let old = *dice.pick(&[0, 0, 0, 5, 50, 1_000]);
    for (number, release) in application.releases.iter_mut().enumerate() {
        release.is_damaged = false;
        release.exceptions.clear();
        release.behaviour = Behaviour::WELL;
        release.checks = CheckBehaviours::default();
        let (errors_permille, latency_ms) = match number {
            0 => (old, Answers::GOOD.latency_ms),
            _ => (
                *dice.pick(&[old, old, 0, 100, 1_000, 1_000, 1_000]),
                *dice.pick(&[10, 10, 10, 10, 40]),
            ),
        };
        release.answers = Answers { errors_permille, latency_ms };
    }
}

fn deploy(release: u16, options: Vec<(String, String)>) -> What {
    What::Call(Call::Deploy { application: 0, release, options })
}

fn all_at_once() -> Vec<(String, String)> {
    let options = [("strategy", "all_at_once"), ("healthy_for", "1s"), ("healthy_within", "40s")];
    options.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
}

fn canary(dice: &mut Dice) -> Vec<(String, String)> {
    let steps = ["50%:20s", "10%:30s,50%:150s", "50%:150s", "5%:60s", "100%:150s", "100%:40s"];
    let mut options = vec![
        ("strategy", "canary"),
        ("healthy_for", "1s"),
        ("healthy_within", "40s"),
        ("progress_within", "60s"),
        ("canary_hosts", *dice.pick(&["1", "1", "50%", "100%"])),
        ("canary_steps", *dice.pick(&steps)),
        ("canary_unsure", *dice.pick(&["pass", "wait", "wait", "fail"])),
    ];
    if dice.chance(400) {
        let said = [
            "requests_min=200",
            "requests_min=1,watched_min=5s",
            "false_alarms=0.5%",
            "latency=off,restarts=off",
            "errors=off",
            "errors=5x+5%",
        ];
        options.push(("canary_judge", *dice.pick(&said)));
    }
    if dice.chance(200) {
        options.push(("auto_rollback", "off"));
    }
    options.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Something that takes evidence away.
fn fault(dice: &mut Dice, host: u16) -> Fault {
    let for_ms = *dice.pick(&[500, 5_000, 40_000]);
    match dice.below(6) {
        0 | 1 => {
            let point = *dice.pick(&[KillPoint::Now, KillPoint::AfterStore]);
            Fault::KillCoordinator { coordinator: 0, point, down_ms: for_ms }
        }
        2 => Fault::KillAgent { host, point: KillPoint::Now, down_ms: for_ms },
        3 => Fault::CrashGate { host, down_ms: for_ms, forgets: dice.chance(300) },
        4 => Fault::CutLink { host, direction: Direction::Both, for_ms },
        _ => Fault::KillInstance { host, application: 0 },
    }
}

/// Somebody does not wait for the verdict, or does not like it.
fn interfere(dice: &mut Dice, entries: &mut Vec<Entry>) {
    let application = 0;
    let at_ms = CANARY_MS + dice.between(5_000, 150_000);
    let mut push = |at_ms: u64, call: Call| entries.push(Entry { at_ms, what: What::Call(call) });
    match dice.below(5) {
        0 => {
            push(at_ms, Call::Pause { application });
            push(at_ms + dice.between(500, 40_000), Call::Resume { application });
        }
        1 => push(at_ms, Call::Promote { application, full: dice.chance(300) }),
        2 | 3 => push(at_ms, Call::Retry { application }),
        _ => push(at_ms, Call::Rollback { application }),
    }
}
