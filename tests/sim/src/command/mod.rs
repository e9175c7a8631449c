//! The command line. Only here are there files, threads and a real clock: they decide which runs
//! are made, and nothing in one.

mod by_host;
mod coverage;
mod explain;
#[cfg(feature = "planted-bugs")]
mod mutants;
mod planted;
mod replay;
mod run;
mod search;
mod shrink;
mod source;
mod table;

use std::{
    ffi::OsString,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use cutover_common::ErrorChain;

/// Runs simulated fleets: the real cores, every fault, from a seed.
#[derive(Debug, Parser)]
#[command(name = "cutover-sim", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run seeds until a promise is broken, then shrink that run
    Run(run::Run),
    /// Run one seed or script, and print how it ended
    Replay(replay::Replay),
    /// Run one seed or script, and tell its story
    Explain(explain::Explain),
    /// Make a script that breaks the same promise as small as it can be
    Shrink(shrink::Shrink),
    /// Run seeds, and list which rows of the list of faults they reached
    Coverage(coverage::Coverage),
    /// Plant each bug in turn, and list the seed that finds it
    #[cfg(feature = "planted-bugs")]
    Mutants(mutants::Mutants),
}

/// Whether everything held.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verdict {
    Held,
    Broken,
}

/// Why a command could not be carried out.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("could not read {}", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is no script", .path.display())]
    Parse { path: PathBuf, source: crate::script::ParseScript },
    #[error("could not write {}", .path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("could not print")]
    Print(#[from] io::Error),
    #[error("there is nothing to shrink: {what} breaks no promise")]
    NothingBreaks { what: String },
}

/// Runs the program: arguments, output, exit status.
pub fn run_process() -> ExitCode {
    let mut out = io::stdout().lock();
    let mut notes = io::stderr().lock();
    run_with(std::env::args_os(), &mut out, &mut notes)
}

/// Runs the program with `args`, of which the first is its name. The status is 0 when every
/// promise held, 1 when one was broken, and 2 when it could not be found out.
pub fn run_with(
    args: impl IntoIterator<Item = OsString>,
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let status = u8::try_from(error.exit_code()).unwrap_or(2);
            let printed =
                if error.use_stderr() { write!(notes, "{error}") } else { write!(out, "{error}") };
            return status_of(printed, status);
        }
    };
    let verdict = match cli.command {
        Command::Run(run) => run.run(out, notes),
        Command::Replay(replay) => replay.run(out),
        Command::Explain(explain) => explain.run(out),
        Command::Shrink(shrink) => shrink.run(out, notes),
        Command::Coverage(coverage) => coverage.run(out, notes),
        #[cfg(feature = "planted-bugs")]
        Command::Mutants(mutants) => mutants.run(out, notes),
    };
    match verdict {
        Ok(Verdict::Held) => ExitCode::SUCCESS,
        Ok(Verdict::Broken) => ExitCode::from(1),
        // Its reader has seen enough.
        Err(Failure::Print(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(failure) => status_of(writeln!(notes, "error: {}", ErrorChain(&failure)), 2),
    }
}

fn status_of(printed: io::Result<()>, status: u8) -> ExitCode {
    if printed.is_ok() { ExitCode::from(status) } else { ExitCode::from(2) }
}
