//! `coverage`: which rows of the list of faults were reached, how often, and which never.

use std::{io::Write, num::NonZeroUsize};

use super::{
    Failure, Verdict,
    planted::Planted,
    search::{Search, SearchEnd, cores},
    table::table,
};
use crate::{
    coverage::{Coverage as Coverages, Proof, Row},
    swarm,
};

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
        let coverage = &tally.coverage;
        let cells = |(row, count): (&Row, u64)| {
            let count = if row.proof == Proof::Cores { count.to_string() } else { String::new() };
            [row.number.to_string(), row.name.to_owned(), row.proof.word().to_owned(), count]
        };
        let rows: Vec<_> = coverage.table().map(cells).collect();
        out.write_all(table(["row", "fault", "proved by", "reached"], &rows).as_bytes())?;
        let (pairs, pairs_max) = (coverage.pairs(), Coverages::pairs_max());
        writeln!(out, "\npairs of rows in one run: {pairs} of {pairs_max}")?;
        let missed: Vec<String> = coverage.missed().map(|row| row.number.to_string()).collect();
        if !missed.is_empty() {
            writeln!(out, "never reached: {}", missed.join(", "))?;
        }
        Ok(Verdict::Held)
    }
}
