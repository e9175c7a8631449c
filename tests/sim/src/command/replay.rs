//! `replay`: one run, and how it ended.

use std::io::Write;

use super::{
    Failure, Verdict,
    planted::Planted,
    source::Source,
    table::{facts, grouped, span},
};
use crate::run::{self, Outcome};

#[derive(Debug, clap::Args)]
pub(super) struct Replay {
    /// A seed, or the file of a script
    #[arg(value_name = "SEED|FILE")]
    what: Source,
    /// Print the script of the run instead of running it
    #[arg(long)]
    print: bool,
    #[command(flatten)]
    planted: Planted,
}

impl Replay {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<Verdict, Failure> {
        let script = self.what.script()?;
        if self.print {
            out.write_all(script.print().as_bytes())?;
            return Ok(Verdict::Held);
        }
        self.planted.plant();
        let outcome = run::run(&script, false);
        out.write_all(told(&outcome).as_bytes())?;
        Ok(verdict(&outcome))
    }
}

/// Returns whether everything held.
pub(super) const fn verdict(outcome: &Outcome) -> Verdict {
    if outcome.violation.is_some() { Verdict::Broken } else { Verdict::Held }
}

/// Tells how a run ended.
pub(super) fn told(outcome: &Outcome) -> String {
    let counts = &outcome.counts;
    let broken = match &outcome.violation {
        Some(violation) => violation.to_string(),
        None => "nothing".to_owned(),
    };
    facts(&[
        ("hash", format!("{:016x}", outcome.hash)),
        ("virtual time", span(outcome.ended.ms())),
        ("whole rollouts", grouped(counts.rollouts)),
        ("inputs", grouped(counts.inputs)),
        ("messages", grouped(counts.messages)),
        ("faults", grouped(counts.faults)),
        ("checks", grouped(counts.checks)),
        ("broken", broken),
    ])
}
