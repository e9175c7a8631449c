//! One run, from a script to its outcome. A core that panics has broken a promise too.

use std::{
    cell::RefCell,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Once,
};

use crate::{
    coverage::Coverage,
    moment::Moment,
    oracle::Violation,
    script::Script,
    trace::Line,
    world::{Counts, World},
};

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// The promise that was broken, which ended the run.
    pub violation: Option<Violation>,
    /// Of everything that happened: the same for every run of one script.
    pub hash: u64,
    pub counts: Counts,
    pub coverage: Coverage,
    /// When the run ended, in virtual time.
    pub ended: Moment,
    /// Its story, if it was asked for.
    pub lines: Vec<Line>,
}

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
    static IS_RUNNING: RefCell<bool> = const { RefCell::new(false) };
}

/// Runs a script. With `is_told` the outcome has the story.
pub fn run(script: &Script, is_told: bool) -> Outcome {
    hear_panics();
    IS_RUNNING.set(true);
    let mut world = None;
    let ended = catch_unwind(AssertUnwindSafe(|| {
        world.insert(World::new(script.clone(), is_told)).run();
    }));
    IS_RUNNING.set(false);
    let panicked = ended.err().map(|_| {
        let text = PANIC.take().unwrap_or_else(|| "no message".to_owned());
        Violation::new("panic", text)
    });
    let Some(world) = world else {
        return Outcome {
            violation: panicked,
            hash: 0,
            counts: Counts::default(),
            coverage: Coverage::default(),
            ended: Moment::default(),
            lines: Vec::new(),
        };
    };
    Outcome {
        violation: panicked.or(world.violation),
        hash: world.trace.hash(),
        counts: world.counts,
        coverage: world.coverage,
        ended: world.now,
        lines: world.trace.into_lines(),
    }
}

/// Keeps the text of a panic in a run for its outcome. Other panics are told as ever.
fn hear_panics() {
    static HEARD: Once = Once::new();
    HEARD.call_once(|| {
        let told = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !IS_RUNNING.with_borrow(|is_running| *is_running) {
                told(info);
                return;
            }
            let text = info.payload_as_str().unwrap_or("no message");
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            PANIC.set(Some(format!("{text} (at {place})")));
        }));
    });
}
