//! Edges: hosts that stand in front of an application's environment, and what goes wrong with them.

use crate::{
    dice::Dice,
    script::{Application, Call, Direction, Entry, Fault, KillPoint, What},
};

/// How many runs in a thousand have edges, of those with an application behind a gate.
const RUNS_PERMILLE: u32 = 500;

/// When agents have joined, and can be labelled.
const LABELLED_MS: u64 = 1_000;

/// Draws them, from luck of their own, as hosts above those that there are: they change nothing
/// else of a run. Returns how many hosts there are then.
pub(super) fn draw(
    seed: u64,
    hosts: u16,
    applications: &[Application],
    until_ms: u64,
    entries: &mut Vec<Entry>,
) -> u16 {
    let mut dice = Dice::new(seed, "edges");
    let gated: Vec<u16> = (0..)
        .zip(applications)
        .filter(|(_, application)| application.gate.is_some())
        .map(|(number, _)| number)
        .collect();
    if gated.is_empty() || !dice.chance(RUNS_PERMILLE) {
        return hosts;
    }
    let count = u16::try_from(dice.between(1, 2)).unwrap_or(1);
    for host in hosts..hosts + count {
        let application = *dice.pick(&gated);
        let mut push = |at_ms: u64, what: What| entries.push(Entry { at_ms, what });
        let at_ms = LABELLED_MS + dice.between(0, 8_000);
        push(at_ms, What::Call(Call::Edge { host, application }));
        if dice.chance(300) {
            let at_ms = dice.between(12_000, until_ms.max(12_000));
            push(at_ms, What::Call(Call::Unedge { host }));
            if dice.chance(600) {
                let application = *dice.pick(&gated);
                let at_ms = at_ms + dice.between(10, 20_000);
                push(at_ms, What::Call(Call::Edge { host, application }));
            }
        }
        for _ in 0..dice.between(0, 4) {
            let at_ms = dice.between(8_000, until_ms.max(8_000));
            push(at_ms, What::Fault(fault(&mut dice, host)));
        }
    }
    hosts + count
}

pub(super) fn fault(dice: &mut Dice, host: u16) -> Fault {
    let down_ms = *dice.pick(&[10, 1_000, 20_000]);
    match dice.below(7) {
        0 => Fault::KillAgent { host, point: KillPoint::Now, down_ms },
        1 => Fault::KillAgent { host, point: KillPoint::AfterStore, down_ms },
        2 => Fault::CutPower { host, down_ms },
        3 => Fault::CrashGate { host, down_ms, forgets: dice.chance(300) },
        4 => Fault::SlowLink { host, delay_ms: 6_000, for_ms: 20_000 },
        5 => Fault::ResetLink { host },
        _ => {
            let direction = *dice.pick(&[Direction::Both, Direction::Down, Direction::Up]);
            Fault::CutLink { host, direction, for_ms: dice.between(2_000, 40_000) }
        }
    }
}
