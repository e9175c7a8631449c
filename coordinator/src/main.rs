//! The program `cutover-coordinator`: arguments, run, exit status.

use std::{io::Write, process::ExitCode};

use clap::Parser;
use cutover_common::ErrorChain;
use cutover_coordinator::{
    app,
    args::{Cli, Command, Run},
    commands::{self, Failure},
    prometheus::{Asker, SourceFlags},
    settings::Settings,
};
use cutover_runtime::{
    shutdown::Shutdown,
    telemetry::{self, Program},
};

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Init(args) => commands::init(args),
        Command::Run(args) => run(args),
        Command::Backup(args) => commands::backup(&args),
        Command::Restore(args) => commands::restore(&args),
        Command::Check(args) => commands::check(&args),
        Command::ForgetSecrets(args) => commands::forget_secrets(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { text, status }) => {
            // Nothing is left to tell it to when stderr is gone.
            drop(writeln!(std::io::stderr(), "error: {text}"));
            ExitCode::from(status)
        }
    }
}

fn run(args: Run) -> Result<(), Failure> {
    let failed =
        |error: &dyn std::error::Error| Failure { text: ErrorChain(error).to_string(), status: 1 };
    telemetry::init(Program::Coordinator, args.log_format).map_err(|error| failed(&error))?;
    end_on_panic();
    let mut settings = Settings::read(&args.data.data).map_err(|error| failed(&error))?;
    settings.listen_agents = args.listen_agents.unwrap_or(settings.listen_agents);
    settings.listen_operators = args.listen_operators.unwrap_or(settings.listen_operators);
    settings.listen_web = args.listen_web.unwrap_or(settings.listen_web);
    let flags =
        SourceFlags { urls: args.metrics, tokens: args.metrics_token, cas: args.metrics_ca };
    let asker = Asker::new(flags.open().map_err(|error| failed(&error))?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| failed(&error))?;
    runtime.block_on(async {
        let shutdown = Shutdown::on_signals().map_err(|error| failed(&error))?;
        app::run(args.data.data, settings, asker, shutdown).await.map_err(|error| Failure {
            text: ErrorChain(&error).to_string(),
            status: error.exit_status(),
        })
    })
}

/// A panic anywhere is a broken invariant, and ends the whole process (promises.md §3 row 113):
/// the supervisor starts it again from its log, where half a coordinator would go on without
/// what that task did.
fn end_on_panic() {
    let print_it = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print_it(panic);
        // Threads of our own only: what sled's do wrong, the store notices and tells.
        if tokio::runtime::Handle::try_current().is_ok() {
            std::process::exit(70);
        }
    }));
}
