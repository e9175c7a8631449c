//! `cutover agents` and `cutover env`.

use std::path::PathBuf;

use clap::Subcommand;
use cutover_common::{AgentName, ApplicationName, EnvironmentName, VariableName, WeekWindow};

use super::{
    OutputArgs,
    values::{Label, LabelChange, Moment, Selector, VariableChange},
};

/// `cutover agents …`
#[derive(Debug, Subcommand)]
pub enum AgentsCommand {
    /// List the agents, and whether they are heard of
    List(OutputArgs),
    /// Show one agent: its host, load and applications
    Show {
        agent: AgentName,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Make a one-time token, and print the command that joins a server with it
    Token {
        /// The only name that may join with it [default: any that is free]
        #[arg(long)]
        name: Option<AgentName>,
        /// A label that the agent gets; may be repeated
        #[arg(long = "label", value_name = "KEY=VALUE")]
        labels: Vec<Label>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Set labels with KEY=VALUE, and take them away with KEY-
    Label {
        agent: AgentName,
        #[arg(required = true, value_name = "KEY=VALUE|KEY-")]
        changes: Vec<LabelChange>,
    },
    /// Take a host out for maintenance: it counts as down, and no rollout begins on it
    Drain {
        agent: AgentName,
        /// Let it take part again
        #[arg(long)]
        undo: bool,
        /// Also below the floor of what runs there, where no rollout is under way
        #[arg(long, conflicts_with = "undo")]
        force: bool,
        /// Why, for those who see it
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// Remove an agent from the fleet; its certificate is worth nothing from then on
    Remove { agent: AgentName },
}

/// `cutover env …`
#[derive(Debug, Subcommand)]
pub enum EnvCommand {
    /// Create an environment of all agents that have these labels
    Create {
        environment: EnvironmentName,
        /// The labels that an agent must have, all of them
        #[arg(long, value_name = "KEY=VALUE,...")]
        select: Selector,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// List the environments
    List(OutputArgs),
    /// Let nothing new be deployed to an environment for a while; the way back stays open
    Freeze {
        environment: EnvironmentName,
        /// From when on, such as 2026-12-24T00:00:00Z [default: now]
        #[arg(long, value_name = "MOMENT")]
        from: Option<Moment>,
        /// Until when, such as 2026-12-27T08:00:00Z [default: until it is thawed]
        #[arg(long, value_name = "MOMENT")]
        until: Option<Moment>,
        /// A part of every week in UTC, such as "fri 16:00..mon 08:00"
        #[arg(long, value_name = "DAY HH:MM..DAY HH:MM", conflicts_with_all = ["from", "until"])]
        weekly: Option<WeekWindow>,
        /// Why, for those who are kept waiting
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// Lift all freezes of an environment
    Thaw { environment: EnvironmentName },
    /// Set variables that releases get with their next deploy, with NAME=VALUE, and take them away with NAME-
    Set {
        environment: EnvironmentName,
        #[arg(required = true, value_name = "NAME=VALUE|NAME-")]
        changes: Vec<VariableChange>,
        /// Only for this application [default: for all that say nothing else]
        #[arg(long)]
        app: Option<ApplicationName>,
    },
    /// Set a variable to a value that nobody is shown again; it is read from stdin, less one newline at its end
    Secret {
        environment: EnvironmentName,
        name: VariableName,
        /// Read it from this file in place of stdin, as it is
        #[arg(long, value_name = "PATH")]
        file: Option<PathBuf>,
        /// Only for this application [default: for all that say nothing else]
        #[arg(long)]
        app: Option<ApplicationName>,
    },
    /// Show one environment: its agents, what is stable there, its freezes and its config
    Show {
        environment: EnvironmentName,
        #[command(flatten)]
        output: OutputArgs,
    },
}
