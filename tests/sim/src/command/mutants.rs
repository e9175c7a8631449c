//! `mutants`: each planted bug, and the seed that finds it.

use std::{io::Write, num::NonZeroUsize};

use cutover_common::planted::Bug;

use super::{
    Failure, Verdict,
    planted::Planted,
    search::{Search, SearchEnd, Tally, cores},
    table::{grouped, table},
};
use crate::swarm;

#[derive(Debug, clap::Args)]
pub(super) struct Mutants {
    /// How many seeds each bug has to hide from
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    seeds_max: u64,
    /// Only this bug; can be given more than once
    #[arg(long, value_name = "NAME")]
    bug: Vec<Bug>,
    /// How many threads [default: one for each core]
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
}

impl Mutants {
    pub(super) fn run(
        self,
        out: &mut dyn Write,
        notes: &mut dyn Write,
    ) -> Result<Verdict, Failure> {
        let here = Bug::ALL.iter().filter(|bug| !Bug::OF_ROUTES_ALONE.contains(bug));
        let all: Vec<Bug> = here.copied().collect();
        let bugs = if self.bug.is_empty() { &all } else { &self.bug };
        let mut rows = Vec::new();
        let (mut seeds, mut hidden) = (0, 0);
        for bug in bugs {
            let tally = self.search(Planted::with(*bug), self.seeds_max).run(notes);
            seeds = seeds.max(tally.broken.first_key_value().map_or(0, |(seed, _)| *seed + 1));
            hidden += usize::from(tally.broken.is_empty());
            rows.push(row(*bug, &tally));
        }
        let header = ["bug", "breaks", "found at seed", "after", "as"];
        out.write_all(table(header, &rows).as_bytes())?;
        // The right cores are the control: what is found there is no planted bug.
        let control = self.search(Planted::default(), seeds).run(notes);
        writeln!(
            out,
            "\n{} of {} found; without a bug the same {} seeds break {}",
            bugs.len() - hidden,
            bugs.len(),
            grouped(control.seeds),
            control.broken.iter().next().map_or_else(
                || "nothing".to_owned(),
                |(seed, violation)| format!("{violation} (seed {seed})")
            ),
        )?;
        let held = hidden == 0 && control.broken.is_empty();
        Ok(if held { Verdict::Held } else { Verdict::Broken })
    }

    fn search(&self, planted: Planted, seeds: u64) -> Search {
        Search {
            from: 0,
            count: Some(seeds),
            lasts: None,
            jobs: self.jobs.unwrap_or_else(cores),
            draw: swarm::draw,
            planted,
            end: SearchEnd::FirstBroken,
        }
    }
}

fn row(bug: Bug, tally: &Tally) -> [String; 5] {
    let took = format!("{:.1} s", tally.took.as_secs_f64());
    let (seed, found) = match tally.broken.first_key_value() {
        Some((seed, violation)) => (seed.to_string(), shortened(&violation.to_string())),
        None => ("NOT FOUND".to_owned(), format!("in {} seeds", grouped(tally.seeds))),
    };
    [bug.name().to_owned(), bug.promise().to_owned(), seed, took, found]
}

/// What fits beside the other columns, on one line.
fn shortened(text: &str) -> String {
    const LETTERS_MAX: usize = 72;
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.char_indices().nth(LETTERS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
