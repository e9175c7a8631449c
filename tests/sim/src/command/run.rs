//! `run`: seeds until a promise is broken, or all of them.

use std::{io::Write, num::NonZeroUsize, path::PathBuf, time::Duration};

use cutover_common::duration_text;

use super::{
    Failure, Verdict,
    planted::Planted,
    search::{Search, SearchEnd, Tally, cores},
    shrink,
    source::Source,
    table::{facts, grouped, span},
};
use crate::{oracle::Violation, swarm};

/// How many seeds are run when nothing else is said.
const SEEDS: u64 = 1_000;

#[derive(Debug, clap::Args)]
pub(super) struct Run {
    /// How many seeds [default: 1000, or as many as --for has time for]
    #[arg(long, value_name = "N")]
    seeds: Option<u64>,
    /// The first seed
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    from: u64,
    /// Go on for this long, as "90s", "10m" or "1h"
    #[arg(long = "for", value_name = "DURATION", value_parser = duration_text::parse)]
    lasts: Option<Duration>,
    /// How many threads [default: one for each core]
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// Go on after a broken promise, and count them
    #[arg(long)]
    keep_going: bool,
    /// Run the standard rollout instead: twenty hosts, one release to the next, some faults
    #[arg(long)]
    standard: bool,
    /// Where the shrunk script goes [default: target/sim/seed-SEED.toml]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    planted: Planted,
}

impl Run {
    pub(super) fn run(
        self,
        out: &mut dyn Write,
        notes: &mut dyn Write,
    ) -> Result<Verdict, Failure> {
        let count = self.seeds.or_else(|| self.lasts.is_none().then_some(SEEDS));
        let search = Search {
            from: self.from,
            count,
            lasts: self.lasts,
            jobs: self.jobs.unwrap_or_else(cores),
            draw: if self.standard { swarm::standard } else { swarm::draw },
            planted: self.planted,
            end: if self.keep_going { SearchEnd::LastSeed } else { SearchEnd::FirstBroken },
        };
        let tally = search.run(notes);
        out.write_all(table_of(&tally, search.jobs).as_bytes())?;
        if self.keep_going {
            list(&tally, out)?;
        }
        let Some((seed, violation)) = tally.broken.first_key_value() else {
            return Ok(Verdict::Held);
        };
        writeln!(out, "\nseed {seed} broke {violation}")?;
        out.flush()?;
        if self.standard {
            return Ok(Verdict::Broken);
        }
        self.shrink(*seed, violation, out, notes)?;
        Ok(Verdict::Broken)
    }

    fn shrink(
        &self,
        seed: u64,
        violation: &Violation,
        out: &mut dyn Write,
        notes: &mut dyn Write,
    ) -> Result<(), Failure> {
        let path = self.output.clone().unwrap_or_else(|| shrink::path_of(&Source::Seed(seed)));
        shrink::shrink_to(&swarm::draw(seed), violation, &path, self.planted, notes)?;
        let replay = self.planted.command(&format!("explain {}", path.display()));
        writeln!(out, "shrunk to {}; to see what happens in it:\n  {replay}", path.display())?;
        Ok(())
    }
}

/// Lists seeds by the promise that they broke.
fn list(tally: &Tally, out: &mut dyn Write) -> Result<(), Failure> {
    /// So many of each say enough.
    const SHOWN: usize = 10;
    for (promise, count) in tally.by_promise() {
        writeln!(out, "\n{promise}: {count} seeds")?;
        let of_it = tally.broken.iter().filter(|(_, violation)| violation.promise == promise);
        for (seed, violation) in of_it.take(SHOWN) {
            writeln!(out, "  seed {seed}: {}", violation.what)?;
        }
    }
    Ok(())
}

fn table_of(tally: &Tally, jobs: NonZeroUsize) -> String {
    let counts = &tally.counts;
    let core_seconds = tally.busy.as_secs_f64();
    let rate = |count: u64| format!("{:.0}", count as f64 / core_seconds.max(0.001));
    let promises = tally.by_promise();
    let broken: Vec<String> =
        promises.iter().map(|(promise, count)| format!("{promise} x {count}")).collect();
    facts(&[
        ("seeds", grouped(tally.seeds)),
        ("whole rollouts", grouped(counts.rollouts)),
        ("virtual time", span(tally.virtual_ms)),
        ("inputs", grouped(counts.inputs)),
        ("messages", grouped(counts.messages)),
        ("faults", grouped(counts.faults)),
        ("checks", grouped(counts.checks)),
        ("took", format!("{:.1} s on {jobs} threads", tally.took.as_secs_f64())),
        ("seeds/s/core", rate(tally.seeds)),
        ("rollouts/s/core", rate(counts.rollouts)),
        ("broken", if broken.is_empty() { "nothing".to_owned() } else { broken.join(", ") }),
    ])
}
