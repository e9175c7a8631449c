//! `shrink`: the smallest script that breaks the same promise.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    time::Instant,
};

use super::{Failure, Verdict, planted::Planted, source::Source};
use crate::{oracle::Violation, run, script::Script, shrink::shrink};

#[derive(Debug, clap::Args)]
pub(super) struct Shrink {
    /// A seed, or the file of a script
    #[arg(value_name = "SEED|FILE")]
    what: Source,
    /// Where the small script goes [default: target/sim/seed-SEED.toml, or FILE.small.toml]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    planted: Planted,
}

impl Shrink {
    pub(super) fn run(
        self,
        out: &mut dyn Write,
        notes: &mut dyn Write,
    ) -> Result<Verdict, Failure> {
        let script = self.what.script()?;
        self.planted.plant();
        let Some(violation) = run::run(&script, false).violation else {
            return Err(Failure::NothingBreaks { what: self.what.to_string() });
        };
        let path = self.output.clone().unwrap_or_else(|| path_of(&self.what));
        writeln!(out, "{} breaks {violation}", self.what)?;
        out.flush()?;
        shrink_to(&script, &violation, &path, self.planted, notes)?;
        let explain = self.planted.command(&format!("explain {}", path.display()));
        writeln!(out, "shrunk to {}; to see what happens in it:\n  {explain}", path.display())?;
        Ok(Verdict::Held)
    }
}

/// Returns where the small script of a run goes when nothing else is said.
pub(super) fn path_of(what: &Source) -> PathBuf {
    match what {
        Source::Seed(seed) => PathBuf::from(format!("target/sim/seed-{seed}.toml")),
        Source::File(path) => path.with_extension("small.toml"),
    }
}

/// Shrinks `script`, which breaks `violation`, and writes what is left to `path`.
pub(super) fn shrink_to(
    script: &Script,
    violation: &Violation,
    path: &Path,
    planted: Planted,
    notes: &mut dyn Write,
) -> Result<(), Failure> {
    planted.plant();
    let begun = Instant::now();
    let mut runs = 0_u32;
    let small = shrink(script, |script| {
        runs += 1;
        run::run(script, false).violation.is_some_and(|it| it.is_like(violation))
    });
    let broken = run::run(&small, false).violation.unwrap_or_else(|| violation.clone());
    writeln!(
        notes,
        "from {} to {} in {runs} runs, {:.1} s",
        size(script),
        size(&small),
        begun.elapsed().as_secs_f64()
    )?;
    let text = format!("# It breaks {}\n{}", broken.to_string().replace('\n', " "), small.print());
    let write = |source| Failure::Write { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(write)?;
    }
    fs::write(path, text).map_err(write)
}

fn size(script: &Script) -> String {
    format!(
        "{} entries, {} hosts, {} applications, {} s",
        script.entries.len(),
        script.hosts,
        script.applications.len(),
        script.ends_ms / 1_000
    )
}
