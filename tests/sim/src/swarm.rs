//! The swarm: a seed draws first which faults are on and how often, then the fleet, then the run.
//! Each run has some of them only: faults that are always on hide what others would show.

mod checks;
mod configs;
mod cutovers;
mod drains;
mod edges;
mod exclusions;
mod faults;
mod fleet;
mod freezes;
mod groups;
mod hooks;
mod interrupts;
mod judges;
mod once;
mod operators;
mod queues;
mod standard;
mod windows;

pub use self::standard::standard;
use crate::{
    dice::Dice,
    script::{Disks, Entry, Mode, Network, Script, Settings},
};

/// Draws the run of a seed.
pub fn draw(seed: u64) -> Script {
    let mut dice = Dice::new(seed, "swarm");
    let (hosts, mut applications) = fleet::draw(&mut dice);
    hooks::draw(seed, &mut applications);
    once::draw(seed, &mut applications);
    let is_liveness = dice.chance(400);
    let calls = operators::draw(&mut dice, &applications, hosts);
    let busy_ms = calls.last().map_or(10_000, |entry| entry.at_ms) + dice.between(5_000, 60_000);
    let menu = faults::Menu::draw(&mut dice);
    let mut entries: Vec<Entry> = calls;
    entries.extend(menu.schedule(&mut dice, hosts, &applications, busy_ms));
    interrupts::draw(seed, &applications, &mut entries);
    exclusions::draw(seed, &applications, &mut entries);
    freezes::draw(seed, &mut entries);
    once::draw_losses(seed, &applications, &mut entries);
    configs::draw(seed, &mut entries);
    queues::draw(seed, &mut entries);
    checks::draw(seed, &mut applications, &mut entries);
    let all_hosts = edges::draw(seed, hosts, &applications, busy_ms, &mut entries);
    entries.sort_by_key(|entry| entry.at_ms);
    let mode = if is_liveness { liveness(&mut dice, hosts, busy_ms) } else { Mode::Safety };
    let mut script = Script {
        seed,
        mode,
        ends_ms: busy_ms + 60_000,
        hosts: all_hosts,
        network: network(&mut dice),
        disks: disks(&mut dice),
        settings: settings(&mut dice),
        applications,
        entries,
    };
    if let Mode::Liveness { heals_ms, .. } = script.mode {
        script.entries.retain(|entry| entry.at_ms < heals_ms);
        script.ends_ms = heals_ms + crate::oracle::bound_ms(&script);
    }
    drains::draw(&mut script);
    groups::draw(&mut script);
    cutovers::draw(&mut script);
    windows::draw(&mut script);
    judges::draw(&mut script);
    script
}

fn liveness(dice: &mut Dice, hosts: u16, busy_ms: u64) -> Mode {
    let broken = (0..hosts).filter(|_| dice.chance(80)).collect();
    Mode::Liveness { heals_ms: busy_ms, broken }
}

fn network(dice: &mut Dice) -> Network {
    let slow = *dice.pick(&[200, 2_000, 20_000, 250_000]);
    let mut rate = |choices: &[u32]| *dice.pick(choices);
    let loss_permille = rate(&[0, 0, 0, 10, 100]);
    let drop_permille = rate(&[0, 0, 0, 5, 50]);
    let duplicate_permille = rate(&[0, 0, 20, 200]);
    let reorder_permille = rate(&[0, 0, 20, 200]);
    Network {
        delay_min_us: 50,
        delay_max_us: slow,
        loss_permille,
        drop_permille,
        duplicate_permille,
        reorder_permille,
        late_max_ms: *dice.pick(&[50, 2_000, 60_000]),
        bytes_per_ms: *dice.pick(&[100, 10_000, 1_000_000]),
        keepalive: dice.chance(700),
    }
}

fn disks(dice: &mut Dice) -> Disks {
    Disks {
        sync_min_us: 50,
        sync_max_us: *dice.pick(&[200, 5_000, 100_000]),
        journal_bytes_max: *dice.pick(&[4_000, 16_000, 64_000]),
        // The daemon's is 1 MiB; small ones split what one input leads to.
        append_bytes_max: *dice.pick(&[1_048_576, 1_048_576, 4_096]),
    }
}

fn settings(dice: &mut Dice) -> Settings {
    Settings {
        coordinator_batch_max: *dice.pick(&[512, 512, 4, 1]),
        agent_batch_max: *dice.pick(&[64, 64, 1]),
        certificate_ms: *dice.pick(&[86_400_000, 86_400_000, 86_400_000, 90_000]),
    }
}
