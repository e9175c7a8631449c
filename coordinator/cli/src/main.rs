//! Program `cutover`: what an operator types and sees.

use std::process::ExitCode;

fn main() -> ExitCode {
    cutover_cli::run_process()
}
