//! Shrinking: the smallest script that still breaks the same promise.
//!
//! What happens goes first, in halves and then one by one; then everything that makes a run large
//! or hard to read is made small or plain, as long as it still fails.

use crate::script::{Behaviour, Entry, Fault, KillPoint, Mode, Network, Script, Settings, What};

/// How often it is tried at the most: a run takes some ten milliseconds.
const TRIES_MAX: u32 = 20_000;

/// Shrinks `script` as long as `fails` says yes to what is left.
pub fn shrink(script: &Script, mut fails: impl FnMut(&Script) -> bool) -> Script {
    let mut shrinker = Shrinker { best: script.clone(), tries: 0, fails: &mut fails };
    loop {
        let before = shrinker.best.clone();
        shrinker.drop_entries();
        shrinker.drop_hosts();
        shrinker.drop_applications();
        shrinker.calm();
        shrinker.plain_entries();
        if shrinker.best == before || shrinker.tries >= TRIES_MAX {
            return shrinker.best;
        }
    }
}

struct Shrinker<'a> {
    best: Script,
    tries: u32,
    fails: &'a mut dyn FnMut(&Script) -> bool,
}

impl Shrinker<'_> {
    /// Takes `script` if it still fails, and is another.
    fn offer(&mut self, script: Script) -> bool {
        if script == self.best || self.tries >= TRIES_MAX {
            return false;
        }
        self.tries += 1;
        let fails = (self.fails)(&script);
        if fails {
            self.best = script;
        }
        fails
    }

    fn change(&mut self, change: impl FnOnce(&mut Script)) -> bool {
        let mut script = self.best.clone();
        change(&mut script);
        self.offer(script)
    }

    /// Delta debugging over what happens.
    fn drop_entries(&mut self) {
        let mut size = self.best.entries.len().div_ceil(2);
        while size > 0 {
            let mut at = 0;
            while at < self.best.entries.len() {
                let end = (at + size).min(self.best.entries.len());
                let dropped = self.change(|script| {
                    script.entries.drain(at..end);
                });
                if !dropped {
                    at = end;
                }
            }
            if size == 1 {
                return;
            }
            size = size.div_ceil(2);
        }
    }

    fn drop_hosts(&mut self) {
        let mut host = self.best.hosts;
        while host > 0 && self.best.hosts > 1 {
            host -= 1;
            self.change(|script| without_host(script, host));
        }
    }

    fn drop_applications(&mut self) {
        let mut index = self.best.applications.len();
        while index > 0 && self.best.applications.len() > 1 {
            index -= 1;
            self.change(|script| without_application(script, index));
        }
    }

    /// Makes the world quiet and ordinary.
    fn calm(&mut self) {
        self.change(|script| script.settings = Settings::default());
        for zero in [
            (|network| network.loss_permille = 0) as fn(&mut Network),
            |network| network.drop_permille = 0,
            |network| network.duplicate_permille = 0,
            |network| network.reorder_permille = 0,
            |network| (network.delay_min_us, network.delay_max_us) = (100, 100),
            |network| network.bytes_per_ms = 1_000_000,
            |network| network.keepalive = true,
        ] {
            self.change(|script| zero(&mut script.network));
        }
        self.change(|script| (script.disks.sync_min_us, script.disks.sync_max_us) = (100, 100));
        self.change(|script| script.disks.journal_bytes_max = 1_048_576);
        self.change(|script| script.disks.append_bytes_max = 1_048_576);
        for index in 0..self.best.applications.len() {
            self.change(|script| script.applications[index].probe = None);
            self.change(|script| script.applications[index].has_stop_hook = false);
            for release in 0..self.best.applications[index].releases.len() {
                self.change(|script| {
                    script.applications[index].releases[release].exceptions.clear();
                });
                self.change(|script| {
                    script.applications[index].releases[release].behaviour = Behaviour::WELL;
                });
            }
        }
        self.change(|script| {
            if let Mode::Liveness { broken, .. } = &mut script.mode {
                broken.clear();
            }
        });
        self.shorten();
    }

    fn shorten(&mut self) {
        if self.best.mode != Mode::Safety {
            return;
        }
        let mut ends_ms = self.best.ends_ms;
        while ends_ms > 1_000 {
            ends_ms = ends_ms * 3 / 4;
            if !self.change(|script| script.ends_ms = ends_ms) {
                return;
            }
        }
    }

    /// Makes each thing that happens as plain as it can be.
    fn plain_entries(&mut self) {
        for index in 0..self.best.entries.len() {
            self.change(|script| {
                if let What::Fault(
                    Fault::KillAgent { point, .. } | Fault::KillCoordinator { point, .. },
                ) = &mut script.entries[index].what
                {
                    *point = KillPoint::Now;
                }
            });
            self.change(|script| {
                if let What::Call(crate::script::Call::Deploy { options, .. }) =
                    &mut script.entries[index].what
                {
                    options.clear();
                }
            });
            for round in [10_000, 1_000, 100] {
                self.change(|script| round_time(script, index, round));
            }
        }
    }
}

/// Rounds when an entry happens, and sorts it in.
fn round_time(script: &mut Script, index: usize, round: u64) {
    let entry: &mut Entry = &mut script.entries[index];
    let rounded = entry.at_ms / round * round;
    if rounded > 0 {
        entry.at_ms = rounded;
    }
    script.entries.sort_by_key(|entry| entry.at_ms);
}

/// Takes a host out, with all that happens to it, and numbers those behind it anew.
fn without_host(script: &mut Script, host: u16) {
    script.entries.retain_mut(|entry| keep(entry.what.host_mut(), host));
    script.hosts -= 1;
    for application in &mut script.applications {
        application.hosts.retain_mut(|member| keep(Some(member), host));
        for release in &mut application.releases {
            release.exceptions.retain_mut(|exception| keep(Some(&mut exception.host), host));
        }
    }
    if let Mode::Liveness { broken, .. } = &mut script.mode {
        broken.retain_mut(|member| keep(Some(member), host));
    }
}

/// Takes an application out, with all that happens to it.
fn without_application(script: &mut Script, index: usize) {
    let Ok(number) = u16::try_from(index) else { return };
    script.entries.retain_mut(|entry| keep(entry.what.application_mut(), number));
    script.applications.remove(index);
}

/// Returns whether something that concerns `number` stays without `gone`; what is behind it moves
/// up.
const fn keep(number: Option<&mut u16>, gone: u16) -> bool {
    match number {
        Some(number) if *number == gone => false,
        Some(number) => {
            if *number > gone {
                *number -= 1;
            }
            true
        }
        None => true,
    }
}
