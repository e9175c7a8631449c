//! Exclusions: an operator takes hosts out of a rollout, or out for maintenance, at any moment: before
//! it, in the middle of a switch, on the way back, while a host is out of reach.

use super::interrupts::later_deploy;
use crate::{
    dice::Dice,
    script::{Application, Call, Direction, Entry, Fault, What},
};

/// How many runs in a thousand have hosts that are taken out of a rollout.
const EXCLUDING_PERMILLE: u32 = 350;

/// How many of those hosts in a thousand get the release later.
const SKIPPED_PERMILLE: u32 = 400;

/// How many runs in a thousand have hosts that are taken out for maintenance.
const DRAINING_PERMILLE: u32 = 350;

/// Draws them, from luck of their own: they change nothing else of a run.
pub(super) fn draw(seed: u64, applications: &[Application], entries: &mut Vec<Entry>) {
    let deploys: Vec<(u64, u16)> = entries.iter().filter_map(later_deploy).collect();
    // Of two coordinators only one hears of it, and what they do to each other is rare enough.
    let is_cloned = entries.iter().any(|entry| entry.what == What::Fault(Fault::Clone));
    if deploys.is_empty() || is_cloned {
        return;
    }
    let mut dice = Dice::new(seed, "exclusions");
    if dice.chance(EXCLUDING_PERMILLE) {
        if dice.chance(400) {
            let is_skip = dice.chance(SKIPPED_PERMILLE);
            let exclude = |host, application| Call::Exclude { host, application, is_skip };
            let deploy = *dice.pick(&deploys);
            unheard(&mut dice, applications, deploy, exclude, entries);
        }
        for _ in 0..dice.between(1, 4) {
            let (at_ms, application) = *dice.pick(&deploys);
            exclude(&mut dice, applications, (at_ms, application), entries);
        }
    }
    let mut dice = Dice::new(seed, "drains");
    if dice.chance(DRAINING_PERMILLE) {
        if dice.chance(400) {
            let is_forced = dice.chance(500);
            let drain = |host, _| Call::Drain { host, is_forced };
            let deploy = *dice.pick(&deploys);
            unheard(&mut dice, applications, deploy, drain, entries);
        }
        for _ in 0..dice.between(1, 4) {
            let (at_ms, application) = *dice.pick(&deploys);
            drain(&mut dice, applications, (at_ms, application), entries);
        }
    }
}

/// Hosts are taken out while they are out of reach, so that what they were told last is what nobody
/// wants any more.
fn unheard(
    dice: &mut Dice,
    applications: &[Application],
    (at_ms, application): (u64, u16),
    take_out: impl Fn(u16, u16) -> Call,
    entries: &mut Vec<Entry>,
) {
    let Some(spec) = applications.get(usize::from(application)) else { return };
    let cut_ms = at_ms + dice.between(0, 8_000);
    let out_ms = cut_ms + dice.between(100, 9_000);
    let direction = *dice.pick(&[Direction::Both, Direction::Down]);
    // Most of them: of a batch that is told to switch one has to be among them.
    let hosts: Vec<u16> = spec.hosts.iter().copied().filter(|_| dice.chance(600)).collect();
    for host in hosts {
        let for_ms = dice.between(15_000, 40_000);
        let cut = Fault::CutLink { host, direction, for_ms };
        entries.push(Entry { at_ms: cut_ms, what: What::Fault(cut) });
        let at_ms = out_ms + dice.between(0, 500);
        entries.push(Entry { at_ms, what: What::Call(take_out(host, application)) });
    }
}

fn exclude(
    dice: &mut Dice,
    applications: &[Application],
    (at_ms, application): (u64, u16),
    entries: &mut Vec<Entry>,
) {
    let Some(spec) = applications.get(usize::from(application)) else { return };
    let host = *dice.pick(&spec.hosts);
    let out_ms = at_ms + soon(dice);
    let mut push = |at_ms: u64, what: What| entries.push(Entry { at_ms, what });
    if dice.chance(400) {
        // What it is told does not reach it, or its word does not come back.
        push(out_ms.saturating_sub(dice.between(0, 6_000)), cut(dice, host));
    }
    let is_skip = dice.chance(SKIPPED_PERMILLE);
    push(out_ms, What::Call(Call::Exclude { host, application, is_skip }));
    if dice.chance(300) {
        // What was waiting because of it goes on.
        push(out_ms + dice.between(100, 10_000), What::Call(Call::Retry { application }));
    }
}

fn drain(
    dice: &mut Dice,
    applications: &[Application],
    (at_ms, application): (u64, u16),
    entries: &mut Vec<Entry>,
) {
    let Some(spec) = applications.get(usize::from(application)) else { return };
    let host = *dice.pick(&spec.hosts);
    let begin_ms = if dice.chance(300) {
        at_ms.saturating_sub(dice.between(100, 10_000))
    } else {
        at_ms + soon(dice)
    };
    let mut push = |at_ms: u64, what: What| entries.push(Entry { at_ms, what });
    if dice.chance(300) {
        push(begin_ms.saturating_sub(dice.between(0, 6_000)), cut(dice, host));
    }
    let is_forced = dice.chance(500);
    push(begin_ms, What::Call(Call::Drain { host, is_forced }));
    if dice.chance(600) {
        push(begin_ms + dice.between(100, 40_000), What::Call(Call::Undrain { host }));
    }
}

/// Returns how long after a deploy something happens: most often while it is under way.
fn soon(dice: &mut Dice) -> u64 {
    let within = if dice.chance(700) { 12_000 } else { 60_000 };
    dice.between(10, within)
}

fn cut(dice: &mut Dice, host: u16) -> What {
    let direction = *dice.pick(&[Direction::Both, Direction::Down, Direction::Up]);
    What::Fault(Fault::CutLink { host, direction, for_ms: dice.between(3_000, 30_000) })
}
