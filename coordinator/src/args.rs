//! The daemon's command line.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand};
use cutover_common::{SourceName, name::InvalidName};
use cutover_runtime::telemetry::LogFormat;

use crate::prometheus::NamedFile;

/// The coordinator of Cutover: runs rollouts, and tells agents what their servers should run.
#[derive(Debug, Parser)]
#[command(name = "cutover-coordinator", version, about)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a new data directory: the fleet's authority, the server's certificate, the event
    /// store, and the first administrator's token.
    Init(Init),
    /// Run the coordinator.
    Run(Run),
    /// Write all events to one file. The coordinator must not be running.
    Backup(Backup),
    /// Make a new event store from a backup.
    Restore(Restore),
    /// Read the whole event store and say whether it is sound.
    Check(Check),
    /// Give those secrets up that the key of the data directory does not open, as it is lost. They
    /// have to be set anew. The coordinator must not be running.
    ForgetSecrets(ForgetSecrets),
}

/// Where everything is kept.
#[derive(Debug, Args)]
pub struct DataDir {
    /// The coordinator's data directory.
    #[arg(long, env = "CUTOVER_DATA", value_name = "DIR")]
    pub data: PathBuf,
}

/// The addresses to listen on.
#[derive(Clone, Debug, Args)]
pub struct Listen {
    /// Where agents connect (mutual TLS).
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:7440")]
    pub listen_agents: SocketAddr,
    /// Where operators connect (TLS and token).
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:7441")]
    pub listen_operators: SocketAddr,
    /// Where /livez, /readyz and /metrics are served (plain HTTP).
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7442")]
    pub listen_web: SocketAddr,
}

#[derive(Debug, Args)]
pub struct Init {
    #[command(flatten)]
    pub data: DataDir,
    #[command(flatten)]
    pub listen: Listen,
    /// A host name or address under which agents and operators reach the coordinator; may be
    /// given several times. The first one stands in the printed commands.
    #[arg(long = "name", value_name = "HOST")]
    pub names: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    pub data: DataDir,
    /// Where agents connect, if it is not what `init` was given.
    #[arg(long, value_name = "ADDR")]
    pub listen_agents: Option<SocketAddr>,
    /// Where operators connect, if it is not what `init` was given.
    #[arg(long, value_name = "ADDR")]
    pub listen_operators: Option<SocketAddr>,
    /// Where /livez, /readyz and /metrics are served, if it is not what `init` was given.
    #[arg(long, value_name = "ADDR")]
    pub listen_web: Option<SocketAddr>,
    /// A Prometheus server that checks of canaries may ask, by the name that a cutover.toml has for
    /// it: main=http://prometheus:9090. May be given several times.
    #[arg(long, value_name = "NAME=URL", value_parser = named)]
    pub metrics: Vec<(SourceName, String)>,
    /// The file with the bearer token for one of them; read for each question.
    #[arg(long, value_name = "NAME=FILE", value_parser = named_file)]
    pub metrics_token: Vec<NamedFile>,
    /// The file with the authorities that are trusted for one of them; needed for https.
    #[arg(long, value_name = "NAME=FILE", value_parser = named_file)]
    pub metrics_ca: Vec<NamedFile>,
    /// How log lines are written: text or json.
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = log_format)]
    pub log_format: LogFormat,
}

#[derive(Debug, Args)]
pub struct Backup {
    #[command(flatten)]
    pub data: DataDir,
    /// The file to write.
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
}

#[derive(Debug, Args)]
pub struct Restore {
    #[command(flatten)]
    pub data: DataDir,
    /// The backup to read.
    #[arg(long, value_name = "FILE")]
    pub from: PathBuf,
}

#[derive(Debug, Args)]
pub struct Check {
    #[command(flatten)]
    pub data: DataDir,
}

#[derive(Debug, Args)]
pub struct ForgetSecrets {
    #[command(flatten)]
    pub data: DataDir,
}

fn named(text: &str) -> Result<(SourceName, String), String> {
    // What stands behind the name is not repeated: it may hold a password.
    let (name, value) = text.split_once('=').ok_or("write a name, =, and the rest: main=...")?;
    let name = name.parse().map_err(|error: InvalidName| error.to_string())?;
    Ok((name, value.to_owned()))
}

fn named_file(text: &str) -> Result<NamedFile, String> {
    named(text).map(|(name, file)| (name, file.into()))
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        other => Err(format!("{other:?} must be \"text\" or \"json\"")),
    }
}
