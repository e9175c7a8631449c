//! `cutover-bench [--quick] [--json FILE] [--only PARTS]`, of fleet, latency, store, swaps, gate,
//! cutover, rolling and reaction: runs the benchmarks and prints a table.

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

const USAGE: &str = "usage: cutover-bench [--quick] [--json FILE] \
    [--only fleet,latency,store,swaps,gate,cutover,rolling,reaction]";

/// How long all of it may take: more than twice what a quiet machine of two cores needs.
const ALL_WITHIN: Duration = Duration::from_secs(2_400);

struct Args {
    is_quick: bool,
    json: Option<PathBuf>,
    parts: Vec<Part>,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [word, address, letter] = &args[..]
        && word == "instance"
    {
        return ended(be_instance(address, letter));
    }
    // A peer that hangs must not hang whoever runs this.
    thread::spawn(|| {
        thread::sleep(ALL_WITHIN);
        say(&format!("error: not done within {ALL_WITHIN:?}"));
        descendants::end_all();
        std::process::exit(1);
    });
    ended(measure(args))
}

fn ended(done: Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// A process of its own, so that it can be replaced while its clients go on.
fn be_instance(address: &str, letter: &str) -> Result<()> {
    let letter = letter.bytes().next().context("an instance has a letter")?;
    bench::instance::run(address.parse()?, letter)
}

fn measure(args: Vec<String>) -> Result<()> {
    let Args { is_quick, json, parts } = Args::parse(args.into_iter())?;
    let sizes = Sizes::from_environment(is_quick)?;
    descendants::adopt_orphans().context("the kernel lets us reap orphans")?;
    let (report, done) = bench::run(&sizes, &parts, |step| say(&format!("bench: {step}")))?;
    // What was measured before something failed is worth reading.
    write!(io::stdout(), "{}", report.render())?;
    if let Some(path) = json {
        let text = serde_json::to_vec_pretty(&report.to_json())?;
        fs::write(&path, text).with_context(|| format!("{} can be written", path.display()))?;
    }
    done
}

impl Args {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self> {
        let mut parsed = Self { is_quick: false, json: None, parts: Part::ALL.to_vec() };
        while let Some(arg) = args.next() {
            if arg == "--quick" {
                parsed.is_quick = true;
                continue;
            }
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
