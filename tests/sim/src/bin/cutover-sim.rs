//! Program `cutover-sim`: runs simulated fleets, and tells what broke.

use std::process::ExitCode;

fn main() -> ExitCode {
    cutover_sim::command::run_process()
}
