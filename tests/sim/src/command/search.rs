//! The search: seeds one after the other, on as many threads as there are cores.

use std::{
    collections::BTreeMap,
    io::{IsTerminal as _, Write},
    num::NonZeroUsize,
    sync::{
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use super::{planted::Planted, table::grouped};
use crate::{
    coverage::Coverage, moment::Moment, oracle::Violation, run, script::Script, world::Counts,
};

/// Which seeds are run, and how.
#[derive(Clone, Debug)]
pub(super) struct Search {
    pub(super) from: u64,
    /// How many; without an end, until the time is over.
    pub(super) count: Option<u64>,
    pub(super) lasts: Option<Duration>,
    pub(super) jobs: NonZeroUsize,
    pub(super) draw: fn(u64) -> Script,
    pub(super) planted: Planted,
    pub(super) end: SearchEnd,
}

/// What a search ends at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum SearchEnd {
    FirstBroken,
    LastSeed,
}

/// What all runs came to.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) seeds: u64,
    pub(super) virtual_ms: u64,
    pub(super) counts: Counts,
    pub(super) coverage: Coverage,
    /// What was broken, by seed.
    pub(super) broken: BTreeMap<u64, Violation>,
    pub(super) took: Duration,
    /// For how long cores were busy with them: less, where others want the cores too.
    pub(super) busy: Duration,
}

/// One run, as its thread tells it.
struct Done {
    seed: u64,
    ended: Moment,
    counts: Counts,
    coverage: Coverage,
    violation: Option<Violation>,
}

/// Between two lines of progress.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Returns how many threads there are cores for.
pub(super) fn cores() -> NonZeroUsize {
    thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// Returns for how long this thread has had a core, where the kernel tells it.
fn busy() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let ns = text.split_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(ns))
}

impl Search {
    /// Runs the seeds. Threads take them in order, and finish what they have begun: the lowest
    /// seed that breaks something is the same with any number of them.
    pub(super) fn run(&self, notes: &mut dyn Write) -> Tally {
        let begun = Instant::now();
        let next = AtomicU64::new(self.from);
        let is_over = AtomicBool::new(false);
        let busy_us = AtomicU64::new(0);
        let (done, news) = mpsc::channel();
        let mut tally = Tally::default();
        thread::scope(|scope| {
            for _ in 0..self.jobs.get() {
                let done = done.clone();
                let (next, is_over, busy_us) = (&next, &is_over, &busy_us);
                scope.spawn(move || {
                    self.work(begun, next, is_over, &done);
                    let busy = busy().unwrap_or_else(|| begun.elapsed());
                    let us = u64::try_from(busy.as_micros()).unwrap_or(u64::MAX);
                    busy_us.fetch_add(us, Ordering::Relaxed);
                });
            }
            drop(done);
            self.gather(&news, &mut tally, begun, notes);
        });
        tally.took = begun.elapsed();
        tally.busy = Duration::from_micros(busy_us.into_inner());
        tally
    }

    fn work(
        &self,
        begun: Instant,
        next: &AtomicU64,
        is_over: &AtomicBool,
        done: &mpsc::Sender<Done>,
    ) {
        self.planted.plant();
        let is_late = || self.lasts.is_some_and(|lasts| begun.elapsed() >= lasts);
        while !is_over.load(Ordering::Relaxed) && !is_late() {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if self.count.is_some_and(|count| seed - self.from >= count) {
                return;
            }
            let mut outcome = run::run(&(self.draw)(seed), false);
            if outcome.violation.is_some() && self.breaks_without_the_bug(seed) {
                outcome.violation = None;
            }
            if outcome.violation.is_some() && self.end == SearchEnd::FirstBroken {
                is_over.store(true, Ordering::Relaxed);
            }
            let run::Outcome { violation, counts, coverage, ended, .. } = outcome;
            if done.send(Done { seed, ended, counts, coverage, violation }).is_err() {
                return;
            }
        }
    }

    /// What the right cores break too is not found by a planted bug.
    fn breaks_without_the_bug(&self, seed: u64) -> bool {
        if !self.planted.is_any() {
            return false;
        }
        Planted::default().plant();
        let outcome = run::run(&(self.draw)(seed), false);
        self.planted.plant();
        outcome.violation.is_some()
    }

    fn gather(
        &self,
        news: &mpsc::Receiver<Done>,
        tally: &mut Tally,
        begun: Instant,
        notes: &mut dyn Write,
    ) {
        let shows = std::io::stderr().is_terminal();
        let mut shown = begun;
        while let Ok(done) = news.recv() {
            tally.add(done);
            if shows && shown.elapsed() >= PROGRESS_EVERY {
                shown = Instant::now();
                let of = self.count.map_or_else(String::new, |it| format!(" of {}", grouped(it)));
                let (seeds, broken) = (grouped(tally.seeds), tally.broken.len());
                let line = format!("\r{seeds}{of} seeds, {broken} broke a promise ");
                // Progress is a courtesy: without it the search is the same.
                let printed = notes.write_all(line.as_bytes()).and_then(|()| notes.flush());
                drop(printed);
            }
        }
        if shown != begun {
            drop(notes.write_all(b"\r\x1b[K"));
        }
    }
}

impl Tally {
    fn add(&mut self, done: Done) {
        self.seeds += 1;
        self.virtual_ms += done.ended.ms();
        self.counts.add(&done.counts);
        self.coverage.add(&done.coverage);
        if let Some(violation) = done.violation {
            self.broken.insert(done.seed, violation);
        }
    }

    /// Returns how many seeds broke each promise.
    pub(super) fn by_promise(&self) -> BTreeMap<&'static str, u64> {
        let mut count = BTreeMap::new();
        for violation in self.broken.values() {
            *count.entry(violation.promise).or_default() += 1;
        }
        count
    }
}
