//! The command line of Cutover.
//!
//! `args` is what can be typed, `commands` what it does, `grpc` the border to the coordinator,
//! `view` the facts that come back, and `render` everything that a person reads. Results go to
//! stdout, everything else to stderr.

pub mod args;
pub mod commands;
mod demo;
pub mod failure;
pub mod grpc;
pub mod login_file;
pub mod outcome;
pub mod render;
pub mod text;
pub mod view;

use std::process::ExitCode;

use clap::Parser as _;

use crate::{
    args::Cli,
    failure::{Failure, Kind},
    outcome::Outcome,
    render::console::Console,
};

/// What a shell reports of a program that Ctrl-C ended (128 + SIGINT).
const INTERRUPTED: u8 = 130;

/// Runs the program with the arguments of this process, and returns its exit code.
pub fn run_process() -> ExitCode {
    let console = Console::of_this_process();
    std::panic::set_hook(Box::new(move |panic| {
        console.failure(
            &Failure::new(Kind::OurBug, format!("bug in cutover: {panic}"))
                .with_hint("please report it, with what you typed"),
        );
        std::process::exit(Kind::OurBug.exit_code().into());
    }));
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let failure = Failure::of(Kind::OurBug, &error);
            console.failure(&failure);
            return failure.kind().exit_code().into();
        }
    };
    let outcome = runtime.block_on(commands::run(cli, console));
    // A thread that still reads a file or packs must not hold up the end.
    runtime.shutdown_background();
    match outcome {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::RolloutFailed) => Kind::RolloutFailed.exit_code().into(),
        Ok(Outcome::Refused) => Kind::Refused.exit_code().into(),
        Ok(Outcome::Interrupted) => INTERRUPTED.into(),
        Err(failure) => {
            console.failure(&failure);
            failure.kind().exit_code().into()
        }
    }
}
