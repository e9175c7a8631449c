//! `explain`: the story of one run.

use std::io::Write;

use super::{
    Failure, Verdict,
    by_host::{about, in_chapters},
    planted::Planted,
    replay::{told, verdict},
    source::Source,
};
use crate::{run, trace::Line};

#[derive(Debug, clap::Args)]
pub(super) struct Explain {
    /// A seed, or the file of a script
    #[arg(value_name = "SEED|FILE")]
    what: Source,
    /// Only what concerns this host; can be given more than once
    #[arg(long, value_name = "N")]
    host: Vec<u16>,
    /// One chapter for the coordinator, and one for each host
    #[arg(long)]
    by_host: bool,
    #[command(flatten)]
    planted: Planted,
}

impl Explain {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<Verdict, Failure> {
        let script = self.what.script()?;
        self.planted.plant();
        let outcome = run::run(&script, true);
        let lines: Vec<&Line> = outcome
            .lines
            .iter()
            .filter(|line| self.host.is_empty() || self.host.iter().any(|host| about(line, *host)))
            .collect();
        if self.by_host {
            for (title, lines) in in_chapters(&lines, script.hosts) {
                writeln!(out, "{title}")?;
                for line in lines {
                    writeln!(out, "{:>10}  {}", line.at, line.text)?;
                }
                writeln!(out)?;
            }
        } else {
            for line in lines {
                writeln!(out, "{:>10}  {:<13} {}", line.at, line.who, line.text)?;
            }
            writeln!(out)?;
        }
        out.write_all(told(&outcome).as_bytes())?;
        Ok(verdict(&outcome))
    }
}
