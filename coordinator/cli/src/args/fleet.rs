//! `cutover agents` and `cutover env`.

use clap::Subcommand;
use cutover_common::{AgentName, EnvironmentName};

use super::{
    OutputArgs,
    values::{Label, LabelChange, Selector},
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
    /// Show one environment: its agents and what is stable there
    Show {
        environment: EnvironmentName,
        #[command(flatten)]
        output: OutputArgs,
    },
}
