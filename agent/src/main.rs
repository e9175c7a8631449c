//! The program `cutover-agent`: the daemon on a server, and the shim under each of its instances.

use std::{env, ffi::OsStr, process::ExitCode};

fn main() -> ExitCode {
    // Before anything else is started: a shim has neither tokio nor a command line for people.
    if env::args_os().nth(1).as_deref() == Some(OsStr::new("shim")) {
        return cutover_agent::shim::run(env::args_os().skip(2));
    }
    ExitCode::from(64)
}
