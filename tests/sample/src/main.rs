//! `cutover-sample`: a small web server to deploy. It says which version answers, fails on
//! demand, and on TERM finishes what it has begun and exits with 0.

mod args;
mod connection;
mod request;
mod server;

use std::{
    io::{self, Write as _},
    process::ExitCode,
    thread,
};

use crate::{args::Args, connection::Site, server::Server};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nobody is left to tell when stderr is closed.
            match writeln!(io::stderr(), "cutover-sample: {}", failure.message) {
                Ok(()) | Err(_) => failure.exit_code,
            }
        }
    }
}

/// Why the program ends early.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) exit_code: ExitCode,
}

impl Failure {
    /// The arguments are wrong. 2, as all our programs say it.
    pub(crate) fn wrong_use(message: impl Into<String>) -> Self {
        Self { message: message.into(), exit_code: ExitCode::from(2) }
    }

    /// The system refused something.
    pub(crate) fn of_system(doing: &str, cause: &io::Error) -> Self {
        Self { message: format!("could not {doing}: {cause}"), exit_code: ExitCode::FAILURE }
    }
}

fn run() -> Result<(), Failure> {
    let args = Args::parse(std::env::args().skip(1))?;
    let version = args.version()?;
    let server = Server::bind(args.address, args.port)?;
    let pid = std::process::id();
    let site = Site { version: version.clone(), pid, health: args.health };
    writeln!(io::stdout(), "web {version} pid {pid} listens on {}", server.address()?)
        .map_err(|cause| Failure::of_system("write the log", &cause))?;
    if let Some(wait) = args.crash_after {
        thread::spawn(move || {
            thread::sleep(wait);
            std::process::abort();
        });
    }
    server.serve(site)?;
    writeln!(io::stdout(), "web {version} pid {pid} was asked to stop, and has finished")
        .map_err(|cause| Failure::of_system("write the log", &cause))
}
