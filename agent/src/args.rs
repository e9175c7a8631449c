//! The daemon's command line.

use std::{net::IpAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use cutover_common::{AgentName, Sha256, host::is_label_part};
use cutover_runtime::{telemetry::LogFormat, tls::parse_ca_hash};

/// The agent of Cutover: runs on a server what the coordinator wants it to run.
#[derive(Debug, Parser)]
#[command(name = "cutover-agent", version, about)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make this server an agent of a coordinator, with a one-time token.
    Join(Join),
    /// Run the agent. When it ends, applications keep running.
    Run(Run),
    /// Say what this agent runs, and whether it is connected.
    Status(Status),
    /// Forget the coordinator. The agent must not be running; applications are left as they are.
    Leave(Data),
}

/// Where everything is kept.
#[derive(Debug, Args)]
pub struct Data {
    /// The agent's data directory.
    #[arg(long, env = "CUTOVER_DATA", value_name = "DIR")]
    pub data: PathBuf,
}

/// What to join, and as whom. Has no `Debug` output of the token.
#[derive(Args)]
pub struct Join {
    /// The coordinator's agents' port: https://HOST:7440.
    #[arg(value_name = "URL")]
    pub url: String,
    /// The one-time token that `cutover agents token` printed.
    #[arg(long, env = "CUTOVER_JOIN_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub token: String,
    /// The hash of the coordinator's authority, printed with the token.
    #[arg(long, value_name = "sha256:HASH", value_parser = ca_hash)]
    pub ca_hash: Sha256,
    #[command(flatten)]
    pub data: Data,
    /// This agent's name; the host's name if not given.
    #[arg(long)]
    pub name: Option<AgentName>,
    /// A label as KEY=VALUE; may be given several times.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub labels: Vec<(String, String)>,
    /// The address that this host's applications listen on.
    #[arg(long, value_name = "IP")]
    pub address: Option<IpAddr>,
}

impl std::fmt::Debug for Join {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Join")
            .field("url", &self.url)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// How to run.
#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    pub data: Data,
    /// The address that this host's applications listen on, in place of the one given at the
    /// join; all addresses if neither was given.
    #[arg(long, value_name = "IP")]
    pub address: Option<IpAddr>,
    /// What runs the applications.
    #[arg(long, value_enum, default_value_t = Runtime::Process)]
    pub runtime: Runtime,
    /// Who starts the gate when an application has a service.
    #[arg(long, value_enum, default_value_t = Gate::Agent)]
    pub gate: Gate,
    /// How log lines look: text or json.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// Who starts the gate.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Gate {
    /// The agent, from the program cutover-gate beside its own. The gate outlives it.
    Agent,
    /// The init system: cutover-gate.service.
    Init,
}

/// What runs the applications of a host.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Runtime {
    /// Processes, each under a small shim that outlives the agent.
    Process,
}

/// What to print.
#[derive(Debug, Args)]
pub struct Status {
    #[command(flatten)]
    pub data: Data,
    /// How to print it.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// How something is printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Output {
    Text,
    Json,
}

fn ca_hash(text: &str) -> Result<Sha256, String> {
    parse_ca_hash(text).map_err(|error| error.to_string())
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if is_label_part(key) && is_label_part(value) => {
            Ok((key.to_owned(), value.to_owned()))
        }
        Some(_) | None => {
            Err("a label is KEY=VALUE, each 1 to 63 printable characters without = , and spaces"
                .to_owned())
        }
    }
}
