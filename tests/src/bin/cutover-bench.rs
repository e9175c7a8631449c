//! `cutover-bench [--json FILE] [--only fleet,latency,store]`: runs the benchmarks and prints a table.

use std::{
    fs,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use cutover_runtime::descendants;
use cutover_tests::bench::{self, Part, Sizes};

const USAGE: &str = "usage: cutover-bench [--json FILE] [--only fleet,latency,store]";

/// How long all of it may take: more than twice what a quiet machine of two cores needs (6 min).
const ALL_WITHIN: Duration = Duration::from_secs(900);

struct Args {
    json: Option<PathBuf>,
    parts: Vec<Part>,
}

fn main() -> ExitCode {
    // A peer that hangs must not hang whoever runs this.
    thread::spawn(|| {
        thread::sleep(ALL_WITHIN);
        say(&format!("error: not done within {ALL_WITHIN:?}"));
        descendants::end_all();
        std::process::exit(1);
    });
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Result<()> {
    let Args { json, parts } = Args::parse(std::env::args().skip(1))?;
    let sizes = Sizes::from_environment()?;
    descendants::adopt_orphans().context("the kernel lets us reap orphans")?;
    let report = bench::run(&sizes, &parts, |step| say(&format!("bench: {step}")))?;
    write!(io::stdout(), "{}", report.render())?;
    if let Some(path) = json {
        let text = serde_json::to_vec_pretty(&report.to_json())?;
        fs::write(&path, text).with_context(|| format!("{} can be written", path.display()))?;
    }
    Ok(())
}

impl Args {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self> {
        let mut parsed = Self { json: None, parts: Part::ALL.to_vec() };
        while let Some(arg) = args.next() {
            let value = args.next().with_context(|| format!("{arg} has no value\n{USAGE}"))?;
            match arg.as_str() {
                "--json" => parsed.json = Some(value.into()),
                "--only" => {
                    let part = |word: &str| {
                        Part::ALL.into_iter().find(|part| part.word() == word).with_context(|| {
                            format!("{word:?} is no part of the benchmarks\n{USAGE}")
                        })
                    };
                    parsed.parts = value.split(',').map(part).collect::<Result<_>>()?;
                }
                _ => bail!("{arg:?} is unknown\n{USAGE}"),
            }
        }
        Ok(parsed)
    }
}

fn say(line: &str) {
    // Nobody is left to tell when stderr is closed.
    drop(writeln!(io::stderr(), "{line}"));
}
