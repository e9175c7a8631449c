//! The program `cutover-agent`: the daemon on a server, and the shim under each of its instances.

use std::{
    env,
    ffi::OsStr,
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser as _;
use cutover_agent::{
    args::{Cli, Command},
    commands::{self, Failure},
    shim,
};

fn main() -> ExitCode {
    // Before anything else is started: a shim has neither tokio nor a command line for people.
    if env::args_os().nth(1).as_deref() == Some(OsStr::new("shim")) {
        return shim::run(env::args_os().skip(2));
    }
    let done = match Cli::parse().command {
        Command::Join(args) => commands::join(args),
        Command::Run(args) => commands::run(args),
        Command::Status(args) => commands::status(&args),
        Command::Leave(args) => commands::leave(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { text, status }) => {
            // Nobody is left to tell it to when stderr is gone.
            drop(writeln!(io::stderr(), "error: {text}"));
            ExitCode::from(status)
        }
    }
}
