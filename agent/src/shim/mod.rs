//! Shim: the parent of one instance. It keeps the exit status and the log, and outlives the agent.
//!
//! An application cannot be the agent's child, or it would lose its parent, its pipes and its
//! exit status with every crash and upgrade of the agent (promise A2; §3 row 112). So the agent
//! starts `cutover-agent shim --dir DIR`, and from then on both speak through the files in DIR
//! (see [`record`]). The shim is as small as it can be: no runtime, two threads, no network.
//!
//! It runs the application as its own user, which is the agent's: choosing another user per
//! application is what the systemd runtime is for.
//!
//! An application must stay in the foreground: when the process that was started ends, what is
//! left of its descendants is killed, whatever group or session they moved to.

pub mod error_lines;
pub mod files;
mod live;
mod log;
pub mod program;
pub mod record;

use std::{
    ffi::OsString,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use cutover_common::ErrorChain;

/// sysexits.h: EX_USAGE.
const WRONG_USE: u8 = 64;

/// Runs a shim until its application ended. `args` are those after `shim`.
///
/// Must be called before any thread is started.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let dir = match args.as_slice() {
        [flag, dir] if flag == "--dir" => PathBuf::from(dir),
        _ => {
            complain("usage: cutover-agent shim --dir DIR (started by the agent, not by people)");
            return ExitCode::from(WRONG_USE);
        }
    };
    match live::live(&dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&ErrorChain(&error).to_string());
            ExitCode::FAILURE
        }
    }
}

/// Writes to stderr, which the agent made a file in the instance's folder.
fn complain(text: &str) {
    // There is nobody left to tell when this fails.
    writeln!(io::stderr(), "{text}").ok();
}
