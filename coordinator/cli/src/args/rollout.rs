//! Commands on rollouts: status, watch, why, history, and the verbs of an operator.

use std::time::Duration;

use cutover_common::{AgentName, ApplicationName, EnvironmentName};
use uuid::Uuid;

use super::{
    OutputArgs,
    deploy::IfBusy,
    values::{RolloutArg, parse_timeout},
};

/// Arguments of `cutover status`.
#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    /// Only this application, with each of its hosts
    #[arg(value_name = "APP")]
    pub application: Option<ApplicationName>,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Arguments of `cutover why`.
#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// An id, at least its first 8 characters, or an application for the newest that somebody asked for
    pub rollout: RolloutArg,
    /// One of its hosts, to say what that one waits for
    #[arg(value_name = "AGENT")]
    pub agent: Option<AgentName>,
    // A rollout has at most that many hosts, and so batches.
    /// One of its batches, counted from 1, to say what that one waits for
    #[arg(long, value_name = "N", conflicts_with = "agent", value_parser = clap::value_parser!(u32).range(1..=5_000))]
    pub batch: Option<u32>,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Arguments of `cutover watch`.
#[derive(Debug, clap::Args)]
pub struct WatchArgs {
    /// An id, at least its first 8 characters, or an application for the newest that somebody asked for
    pub rollout: RolloutArg,
    #[command(flatten)]
    pub wait: WaitArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// How long to wait.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct WaitArgs {
    /// Stop waiting after this long, such as 30m; the rollout goes on [default: wait for its end]
    #[arg(long, value_name = "DURATION", value_parser = parse_timeout)]
    pub timeout: Option<Duration>,
}

/// Arguments of `cutover history`.
#[derive(Debug, clap::Args)]
pub struct HistoryArgs {
    /// Only of this application
    #[arg(value_name = "APP")]
    pub application: Option<ApplicationName>,
    /// Only to this environment
    #[arg(long = "to", value_name = "ENV")]
    pub environment: Option<EnvironmentName>,
    /// How many at the most
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub limit: u32,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Arguments of `cutover retry` and `cutover rollback`.
#[derive(Debug, clap::Args)]
pub struct AnewArgs {
    #[command(flatten)]
    pub control: ControlArgs,
    /// Where it starts a new rollout, what to do while another has the same hosts: refuse, supersede
    /// or queue
    #[arg(long, value_name = "WHAT", value_enum, default_value_t, hide_possible_values = true)]
    pub if_busy: IfBusy,
}

/// Arguments of pause, resume and abort, and part of others.
#[derive(Debug, clap::Args)]
pub struct ControlArgs {
    /// An id, at least its first 8 characters, or an application for the newest that somebody asked for
    pub rollout: RolloutArg,
    /// Why, for the history
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub reason: String,
    /// Makes a repeated request the same one [default: a fresh one for each run]
    #[arg(long, value_name = "UUID")]
    pub request_id: Option<Uuid>,
    #[command(flatten)]
    pub output: OutputArgs,
}

impl From<ControlArgs> for AnewArgs {
    fn from(control: ControlArgs) -> Self {
        Self { control, if_busy: IfBusy::Refuse }
    }
}

/// Arguments of `cutover abort`.
#[derive(Debug, clap::Args)]
pub struct AbortArgs {
    #[command(flatten)]
    pub control: ControlArgs,
    /// Leave every host as it is, which is what happens without it, too; `cutover rollback` goes back
    #[arg(long)]
    pub stay: bool,
}

/// Arguments of `cutover promote`.
#[derive(Debug, clap::Args)]
pub struct PromoteArgs {
    #[command(flatten)]
    pub control: ControlArgs,
    /// Skip everything that is still to be watched or approved; health and the floor still count
    #[arg(long)]
    pub full: bool,
}

/// Arguments of `cutover exclude` and `cutover skip`.
#[derive(Debug, clap::Args)]
pub struct ExcludeArgs {
    /// An id, at least its first 8 characters, or an application for the newest that somebody asked for
    pub rollout: RolloutArg,
    /// The hosts to leave as they are, by their agents
    #[arg(required = true, value_name = "AGENT")]
    pub agents: Vec<AgentName>,
    /// Why, for the history
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub reason: String,
    /// Makes a repeated request the same one [default: a fresh one for each run]
    #[arg(long, value_name = "UUID")]
    pub request_id: Option<Uuid>,
    #[command(flatten)]
    pub output: OutputArgs,
}
