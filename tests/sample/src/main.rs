//! `cutover-sample`: a small web server to deploy. It says which version answers, behaves badly on
//! demand, and on TERM finishes what it has begun and exits with 0.

mod args;
mod connection;
mod request;
mod request_log;
mod server;

use std::{
    io::{self, Write as _},
    process::ExitCode,
    thread,
};

use crate::{
    args::{Args, Manners},
    connection::Site,
    request_log::RequestLog,
    server::Server,
};

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
    server::hold_port(std::env::args().skip(1))?;
    let args = Args::parse(std::env::args().skip(1))?;
    let version = args.version()?;
    let Args { port, address, manners } = args;
    thread::sleep(manners.listen_after);
    let server = Server::bind(address, port, manners.ignores_term)?;
    let name = format!("web {version} pid {}", std::process::id());
    log(&format!("{name} listens on {}", server.address()?))?;
    if manners.leaves_child {
        log(&format!("{name} left its port to pid {}", server.leave_child()?))?;
    }
    if let Some(wait) = manners.crash_after {
        thread::spawn(move || {
            thread::sleep(wait);
            std::process::abort();
        });
    }
    if let Some(every) = manners.complain_every {
        let line = format!("ERROR {name} does not like it here");
        thread::spawn(move || {
            loop {
                thread::sleep(every);
                if log(&line).is_err() {
                    return;
                }
            }
        });
    }
    let Manners { health, held_until, request_log, faults, .. } = manners;
    let opening = |cause| Failure::of_system("open the log of requests", &cause);
    let request_log = request_log.map(|path| RequestLog::open(&path, &version)).transpose();
    let site = Site::new(version, std::process::id(), health, held_until);
    server.serve(site.with_log(request_log.map_err(opening)?).with_faults(faults))?;
    log(&format!("{name} was asked to stop, and has finished"))
}

fn log(line: &str) -> Result<(), Failure> {
    writeln!(io::stdout(), "{line}").map_err(|cause| Failure::of_system("write the log", &cause))
}
