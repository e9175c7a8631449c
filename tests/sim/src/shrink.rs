//! Shrinking: the smallest script that still breaks the same promise.
//!
//! What happens goes first, in halves and then one by one; then everything that makes a run large
//! or hard to read is made small or plain, as long as it still fails.

mod cuts;
mod plain;

use std::ops::Range;

use crate::script::{Call, Mode, Script, What};

/// How often it is tried at the most: a run takes some ten milliseconds.
const TRIES_MAX: u32 = 5_000;

/// What is left between two things that happen, in the end: enough for one to have its effect.
const GAP_MS: u64 = 1_000;

/// Shrinks `script` as long as `fails` says yes to what is left.
pub fn shrink(script: &Script, mut fails: impl FnMut(&Script) -> bool) -> Script {
    let mut shrinker = Shrinker { best: script.clone(), tries: 0, fails: &mut fails };
    shrinker.end_early();
    loop {
        let before = shrinker.best.clone();
        shrinker.drop_entries();
        shrinker.drop_the_fleet();
        shrinker.calm();
        shrinker.make_plain();
        shrinker.close_gaps();
        shrinker.end_early();
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

    /// Delta debugging: takes out ever smaller ranges of the `count` things that a script has.
    /// From the end, so that what is left of a range keeps its number.
    fn drop_ranges(
        &mut self,
        count: impl Fn(&Script) -> usize,
        drop: impl Fn(&mut Script, Range<usize>),
    ) {
        let mut size = count(&self.best);
        while size > 0 {
            let mut end = count(&self.best);
            while end > 0 {
                let start = end.saturating_sub(size);
                self.change(|script| drop(script, start..end));
                end = start.min(count(&self.best));
            }
            size = if size == 1 { 0 } else { size.div_ceil(2) };
        }
    }

    fn drop_entries(&mut self) {
        self.drop_ranges(
            |script| script.entries.len(),
            |script, range| drop(script.entries.drain(range)),
        );
        for index in 0..self.best.entries.len() {
            self.drop_ranges(
                |script| options_of(script, index).map_or(0, |options| options.len()),
                |script, range| {
                    if let What::Call(Call::Deploy { options, .. }) =
                        &mut script.entries[index].what
                    {
                        options.drain(range);
                    }
                },
            );
        }
    }

    fn drop_the_fleet(&mut self) {
        self.drop_ranges(|script| usize::from(script.hosts), cuts::without_hosts);
        self.drop_ranges(|script| script.applications.len(), cuts::without_applications);
        for index in 0..self.best.applications.len() {
            self.drop_ranges(
                |script| script.applications[index].releases.len(),
                |script, range| cuts::without_releases(script, index, range),
            );
            self.drop_ranges(
                |script| script.applications[index].hosts.len(),
                |script, range| drop(script.applications[index].hosts.drain(range)),
            );
        }
        self.drop_ranges(
            |script| match &script.mode {
                Mode::Safety => 0,
                Mode::Liveness { broken, .. } => broken.len(),
            },
            |script, range| {
                if let Mode::Liveness { broken, .. } = &mut script.mode {
                    broken.drain(range);
                }
            },
        );
    }

    /// Makes the world quiet and ordinary.
    fn calm(&mut self) {
        for calm in plain::WORLD {
            self.change(calm);
        }
        for index in 0..self.best.applications.len() {
            for calm in plain::APPLICATION {
                self.change(|script| calm(&mut script.applications[index]));
            }
            for release in 0..self.best.applications[index].releases.len() {
                for calm in plain::RELEASE {
                    self.change(|script| calm(&mut script.applications[index].releases[release]));
                }
            }
        }
    }

    /// Makes each thing that happens as plain as it can be.
    fn make_plain(&mut self) {
        for index in 0..self.best.entries.len() {
            self.change(|script| plain::make_plain(&mut script.entries[index].what));
            for round in [10_000, 1_000, 100] {
                self.change(|script| plain::round_times(&mut script.entries[index].what, round));
                self.change(|script| {
                    let entry = &mut script.entries[index];
                    entry.at_ms = (entry.at_ms / round * round).max(1_000);
                    // Stable: an order that was drawn within a moment stays.
                    script.entries.sort_by_key(|entry| entry.at_ms);
                });
            }
        }
    }

    /// Lets things follow each other sooner.
    fn close_gaps(&mut self) {
        for index in 0..self.best.entries.len() {
            let before = index.checked_sub(1).map_or(0, |index| self.best.entries[index].at_ms);
            let mut by_ms = self.best.entries[index].at_ms.saturating_sub(before + GAP_MS);
            while by_ms >= GAP_MS {
                let moves = |script: &mut Script| cuts::earlier(script, index, by_ms / 100 * 100);
                if self.change(moves) {
                    break;
                }
                by_ms /= 2;
            }
        }
    }

    /// Ends the run right behind what was broken.
    fn end_early(&mut self) {
        self.change(|script| script.mode = Mode::Safety);
        if self.best.mode != Mode::Safety {
            // Its bound is what it is about.
            let last_ms = self.best.entries.last().map_or(0, |entry| entry.at_ms);
            self.change(|script| cuts::heal_at(script, last_ms + GAP_MS));
            return;
        }
        let (mut too_short, mut long_enough) = (0, self.best.ends_ms);
        while too_short + 100 < long_enough {
            let middle = u64::midpoint(too_short, long_enough);
            if self.change(|script| script.ends_ms = middle) {
                long_enough = middle;
            } else {
                too_short = middle;
            }
        }
        self.change(|script| script.ends_ms = script.ends_ms.next_multiple_of(1_000));
        let ends_ms = self.best.ends_ms;
        self.change(|script| script.entries.retain(|entry| entry.at_ms <= ends_ms));
    }
}

fn options_of(script: &Script, index: usize) -> Option<&Vec<(String, String)>> {
    match &script.entries.get(index)?.what {
        What::Call(Call::Deploy { options, .. }) => Some(options),
        What::Call(_) | What::Fault(_) => None,
    }
}

#[cfg(test)]
mod tests;
