//! The command line: names, flags and help. Names and flags are a contract (design §10).
//!
//! An argument is what was typed, letter by letter: no `@file`, no `-` for stdin
//! (promises.md T7.4, §4 row 73).

pub mod demo;
pub mod deploy;
pub mod fleet;
pub mod login;
pub mod logs;
pub mod release;
pub mod rollout;
pub mod simulate;
#[cfg(test)]
mod tests;
pub mod values;

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    the rollout failed, was rolled back or aborted, is held, or was not over within --timeout
  2    wrong use: of the command line, of a file or of a name in it
  3    refused: locked, not allowed, or impossible
  4    the coordinator cannot be reached
  70   a bug in Cutover
  130  interrupted with Ctrl-C; the rollout goes on";

/// Deploys applications to fleets of servers, and says what is happening and why
#[derive(Debug, Parser)]
#[command(name = "cutover", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub struct Cli {
    /// The file that `cutover login` writes [default: $XDG_CONFIG_HOME/cutover/login.json]
    #[arg(long, global = true, value_name = "FILE", env = "CUTOVER_CONFIG")]
    pub config: Option<PathBuf>,

    #[command(subcommand)]
    pub command: Command,
}

/// What can be asked for.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Remember a coordinator and who you are to it
    Login(login::LoginArgs),
    /// The agents of the fleet: list, show, token, label, drain, remove
    #[command(subcommand)]
    Agents(fleet::AgentsCommand),
    /// Environments: create, list, show
    #[command(subcommand)]
    Env(fleet::EnvCommand),
    /// Releases: push, list
    #[command(subcommand)]
    Release(release::ReleaseCommand),
    /// Bring a release to an environment
    Deploy(Box<deploy::DeployArgs>),
    /// Say how a deploy would go if nothing or something given goes wrong, and do nothing
    Simulate(Box<simulate::SimulateArgs>),
    /// Show what runs where, and how it is
    Status(rollout::StatusArgs),
    /// Follow a rollout to its end
    Watch(rollout::WatchArgs),
    /// Say in two sentences what a rollout waits for or how it ended, and what to type next
    Why(rollout::ShowArgs),
    /// List rollouts, the newest first
    History(rollout::HistoryArgs),
    /// Stop a rollout before its next step
    Pause(rollout::ControlArgs),
    /// Let a paused rollout go on
    Resume(rollout::ControlArgs),
    /// Stop a rollout for good where it is
    Abort(rollout::AbortArgs),
    /// Try again what failed
    Retry(rollout::AnewArgs),
    /// Bring back the release from before the rollout
    Rollback(rollout::AnewArgs),
    /// Say that what is being watched, or waits for a word, is good enough to go on
    Promote(rollout::PromoteArgs),
    /// Take hosts out of a rollout, which then keeps its hands off them for good
    Exclude(rollout::ExcludeArgs),
    /// Go on without hosts, which get the release by themselves when the rollout has succeeded
    Skip(rollout::ExcludeArgs),
    /// Read what the instances and hooks of an application say on its hosts
    Logs(logs::LogsArgs),
    /// Show it all on this machine: a coordinator, agents, and three rollouts under traffic
    Demo(demo::DemoArgs),
    /// Print the completion script of a shell
    Completions {
        /// Which shell
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Print the version of this program
    Version(OutputArgs),
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct OutputArgs {
    /// Print the result for people or as JSON with stable field names
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub output: OutputFormat,
}

/// For whom results are printed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum OutputFormat {
    #[default]
    Text,
    Json,
}

/// The shells that there are completion scripts for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}
