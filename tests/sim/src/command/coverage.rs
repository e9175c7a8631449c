//! `coverage`: which rows of the list of faults were reached, how often, and which never.

use std::{io::Write, num::NonZeroUsize};

use super::{
    Failure, Verdict,
    planted::Planted,
    search::{Search, SearchEnd, cores},
};
use crate::swarm;

#[derive(Debug, clap::Args)]
pub(super) struct Coverage {
    /// How many seeds
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    seeds: u64,
    /// The first seed
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    from: u64,
    /// How many threads [default: one for each core]
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
}

impl Coverage {
    pub(super) fn run(
        self,
        out: &mut dyn Write,
        notes: &mut dyn Write,
    ) -> Result<Verdict, Failure> {
        let search = Search {
            from: self.from,
            count: Some(self.seeds),
            lasts: None,
            jobs: self.jobs.unwrap_or_else(cores),
            draw: swarm::draw,
            planted: Planted::default(),
            end: SearchEnd::LastSeed,
        };
        let tally = search.run(notes);
        for (row, count) in &tally.coverage.rows {
            writeln!(out, "{row:>4}  {count}")?;
        }
        Ok(Verdict::Held)
    }
}
