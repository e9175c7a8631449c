//! Commands that ask nobody: version and completions.

use clap::CommandFactory as _;
use clap_complete::{Shell as Generator, generate};
use cutover_common::protocol::PROTOCOL;
use serde::Serialize;

use super::Desk;
use crate::{
    args::{Cli, OutputArgs, Shell},
    failure::Failure,
};

#[derive(Serialize)]
struct Version {
    version: &'static str,
    protocol: u32,
}

/// Prints the version of this program.
pub(super) fn version(desk: Desk<'_>, output: OutputArgs) -> Result<(), Failure> {
    let version = Version { version: env!("CARGO_PKG_VERSION"), protocol: PROTOCOL };
    desk.print(output, &version, |Version { version, protocol }| {
        format!("cutover {version} (protocol {protocol})\n")
    })
}

/// Prints the completion script of a shell.
pub(super) fn completions(desk: Desk<'_>, shell: Shell) -> Result<(), Failure> {
    let generator = match shell {
        Shell::Bash => Generator::Bash,
        Shell::Zsh => Generator::Zsh,
        Shell::Fish => Generator::Fish,
    };
    let mut script = Vec::new();
    generate(generator, &mut Cli::command(), "cutover", &mut script);
    desk.console.result(&String::from_utf8_lossy(&script))
}
