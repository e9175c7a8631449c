//! The program `cutover-gate`: its command line.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    num::NonZeroUsize,
    path::PathBuf,
    process::ExitCode,
    thread,
};

use clap::{Parser, Subcommand};
use cutover_common::ErrorChain;
use cutover_gate::{
    State,
    control::Client,
    daemon::{self, SOCKET_FILE, Settings},
};
use cutover_runtime::{
    shutdown::Shutdown,
    telemetry::{self, LogFormat, Program},
};

/// The traffic gate of Cutover: takes a host's traffic to the instances of its applications.
#[derive(Debug, Parser)]
#[command(name = "cutover-gate", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gate. It follows its last program until it is told another.
    Run {
        /// The gate's directory.
        #[arg(long, env = "CUTOVER_GATE_DATA", value_name = "DIR")]
        data: PathBuf,
        /// How many cores it uses; all, if not given.
        #[arg(long, value_name = "NUMBER")]
        cores: Option<NonZeroUsize>,
        /// Take over from the gate that runs in this directory: no client is refused meanwhile.
        /// Where none runs, it starts as it would without this. Without it, a second gate ends.
        #[arg(long)]
        take_over: bool,
        /// Where Prometheus asks for /metrics (plain HTTP); nowhere, if not given.
        #[arg(long, env = "CUTOVER_GATE_METRICS", value_name = "ADDRESS")]
        metrics: Option<SocketAddr>,
        /// How a line of the log looks: text or json.
        #[arg(long, env = "CUTOVER_LOG_FORMAT", default_value = "text")]
        log_format: LogFormat,
    },
    /// Say where requests go, and what is under way.
    Status {
        /// The gate's directory.
        #[arg(long, env = "CUTOVER_GATE_DATA", value_name = "DIR")]
        data: PathBuf,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run { data, cores, take_over: takes_over, metrics, log_format } => {
            let all = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
            let shards = cores.unwrap_or(all);
            run(Settings { data, shards, takes_over, metrics }, log_format)
        }
        Command::Status { data, json } => status(&data.join(SOCKET_FILE), json),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell it to when stderr is gone.
            drop(writeln!(io::stderr(), "error: {}", ErrorChain(&*error)));
            ExitCode::FAILURE
        }
    }
}

type Done = Result<(), Box<dyn std::error::Error>>;

fn run(settings: Settings, log_format: LogFormat) -> Done {
    telemetry::init(Program::Gate, log_format)?;
    runtime()?.block_on(async {
        let shutdown = Shutdown::on_signals()?;
        Ok(daemon::run(settings, shutdown).await?)
    })
}

fn status(socket: &std::path::Path, json: bool) -> Done {
    let state = runtime()?.block_on(async { Client::connect(socket).await?.state().await })?;
    let text = if json { serde_json::to_string_pretty(&state)? + "\n" } else { render(&state) };
    io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn render(state: &State) -> String {
    let Some(revision) = state.revision else {
        return "The gate has no program yet: it serves nothing.\n".to_owned();
    };
    let mut text = format!("The gate follows program {revision}.\n");
    if state.leaving > 0 {
        text += &format!("Processes that it took over from, and that end: {}.\n", state.leaving);
    }
    for service in &state.services {
        text += &format!(
            "\n{} on {}: {} clients, {} held\n",
            service.application, service.listen, service.connections, service.held
        );
        if !service.trouble.is_empty() {
            let what = if service.is_served { "trouble" } else { "not served as it should be" };
            text += &format!("  {what}: {}\n", service.trouble);
        }
        for upstream in &service.upstreams {
            let what = if upstream.is_empty { "empty" } else { "in use" };
            let counts = &upstream.counts;
            text += &format!(
                "  {} at {}: {what}; {} requests and {} long-lived under way; {} requests in all, \
                 {} answered 5xx, {} resets\n",
                upstream.name,
                upstream.address,
                upstream.requests_in_flight,
                upstream.long_lived,
                counts.requests,
                counts.statuses[4],
                counts.resets,
            );
        }
    }
    text
}
