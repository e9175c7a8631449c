//! The fleet of a run: hosts, applications, and how their releases behave.

use crate::{
    dice::Dice,
    script::{
        Answers, Application, Behaviour, CheckBehaviours, Exception, Gated, HookBehaviour, Life,
        OnStop, Probe, Release,
    },
};

/// The most hosts of a run.
const HOSTS_MAX: u64 = 40;

/// Draws hosts and applications.
pub(super) fn draw(dice: &mut Dice) -> (u16, Vec<Application>) {
    let hosts = match dice.below(10) {
        0..=5 => dice.between(1, 5),
        6..=8 => dice.between(3, 12),
        _ => dice.between(10, HOSTS_MAX),
    };
    let hosts = u16::try_from(hosts).unwrap_or(1);
    let count = if hosts > 12 || dice.chance(600) { 1 } else { dice.between(2, 6) };
    let applications = (0..count).map(|index| application(dice, index, hosts)).collect();
    (hosts, applications)
}

fn application(dice: &mut Dice, index: u64, hosts: u16) -> Application {
    let all = dice.chance(800);
    let mut members: Vec<u16> = (0..hosts).filter(|_| all || dice.chance(600)).collect();
    if members.is_empty() {
        members.push(0);
    }
    let probe = dice.chance(800).then(|| Probe {
        every_ms: *dice.pick(&[500, 2_000, 5_000]),
        timeout_ms: *dice.pick(&[200, 1_000]),
        passes: u32::try_from(dice.between(1, 3)).unwrap_or(1),
        failures: u32::try_from(dice.between(1, 3)).unwrap_or(1),
        start_within_ms: *dice.pick(&[2_000, 10_000]),
    });
    let releases = (1..=4).map(|number| release(dice, number, hosts)).collect();
    Application {
        name: format!("app-{index}"),
        hosts: members,
        probe,
        has_stop_hook: dice.chance(300),
        hooks: Vec::new(),
        once: false,
        stop_within_ms: *dice.pick(&[500, 5_000]),
        gate: dice.chance(600).then(|| Gated {
            in_place: dice.chance(350),
            requests_ms: *dice.pick(&[10, 1_000, 20_000]),
            drain_ms: *dice.pick(&[500, 30_000]),
            keep_warm_ms: *dice.pick(&[0, 0, 5_000, 20_000]),
        }),
        checks: None,
        requests_per_s: None,
        releases,
    }
}

fn release(dice: &mut Dice, number: u64, hosts: u16) -> Release {
    // The first is what is to be updated; the later ones may be bad.
    let is_bad = number > 1 && dice.chance(350);
    let good = good(dice);
    let behaviour = if is_bad && dice.chance(500) { bad(dice) } else { good };
    let mut exceptions = Vec::new();
    if is_bad && behaviour.is_good() {
        for host in 0..hosts {
            if dice.chance(250) {
                exceptions.push(Exception { host, behaviour: bad(dice) });
            }
        }
    }
    Release {
        version: format!("{number}.0"),
        archive_bytes: *dice.pick(&[1_000, 100_000, 5_000_000]),
        is_damaged: number > 1 && dice.chance(30),
        behaviour,
        checks: CheckBehaviours::default(),
        answers: Answers::GOOD,
        exceptions,
    }
}

fn good(dice: &mut Dice) -> Behaviour {
    Behaviour {
        boot_ms: *dice.pick(&[10, 300, 3_000]),
        life: Life::Well,
        on_stop: match dice.below(20) {
            0 | 1 => OnStop::Ignores,
            2 => OnStop::LeavesChild { for_ms: *dice.pick(&[100, 3_000]) },
            _ => OnStop::Exits { after_ms: *dice.pick(&[5, 50, 2_000]) },
        },
        hook: *dice.pick(&[HookBehaviour::Passes, HookBehaviour::Fails, HookBehaviour::Hangs]),
        bad_hook: None,
    }
}

fn bad(dice: &mut Dice) -> Behaviour {
    let life = match dice.below(9) {
        0 => Life::CannotStart,
        1 => Life::NeverReady,
        2 => Life::Crashes { after_ms: dice.between(0, 200) },
        3 => Life::Crashes { after_ms: dice.between(2_000, 30_000) },
        4 => Life::CrashesAtFirst { after_ms: dice.between(0, 4_000), times: 1 },
        5 => Life::PassesOnce,
        6 => Life::Flaps { period_ms: dice.between(500, 8_000) },
        _ => Life::TurnsBad { after_ms: dice.between(3_000, 60_000) },
    };
    Behaviour { life, ..good(dice) }
}
