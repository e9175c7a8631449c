//! What each command does: asks the coordinator, and prints what it answered.

mod agents;
mod deploy;
mod env;
mod follow;
mod local;
mod login;
mod logs;
mod push;
mod releases;
mod retry;
mod rollouts;
mod simulate;
#[cfg(test)]
mod tests;

use std::path::Path;

use serde::Serialize;

use crate::{
    args::{
        Cli, Command, OutputArgs, OutputFormat,
        rollout::{AbortArgs, PromoteArgs},
    },
    failure::Failure,
    grpc::{Coordinator, Verb},
    login_file::{self, Surroundings},
    outcome::Outcome,
    render::{console::Console, json::json},
};

/// What every command has at hand.
#[derive(Clone, Copy, Debug)]
struct Desk<'a> {
    console: Console,
    config: Option<&'a Path>,
}

impl Desk<'_> {
    /// Connects to the coordinator that the login file names.
    async fn coordinator(&self) -> Result<Coordinator, Failure> {
        let path = Surroundings::of_this_process().login_file(self.config)?;
        let login = login_file::read(&path)?;
        Coordinator::connect(login.coordinator.as_str(), login.ca_hash.0, &login.token).await
    }

    /// Prints a result, in the way that was asked for.
    fn print<T: Serialize>(
        &self,
        output: OutputArgs,
        result: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        match output.output {
            OutputFormat::Text => self.console.result(&text(result)),
            OutputFormat::Json => self.console.result(&json(result)?),
        }
    }
}

/// Carries out what was typed.
///
/// # Errors
///
/// Why it was not carried out, and what to type next.
pub async fn run(cli: Cli, console: Console) -> Result<Outcome, Failure> {
    let desk = Desk { console, config: cli.config.as_deref() };
    match cli.command {
        Command::Login(args) => login::login(desk, args).await?,
        Command::Agents(command) => agents::run(desk, command).await?,
        Command::Env(command) => env::run(desk, command).await?,
        Command::Release(command) => releases::run(desk, command).await?,
        Command::Deploy(args) => return deploy::deploy(desk, *args).await,
        Command::Simulate(args) => return simulate::simulate(desk, *args).await,
        Command::Status(args) => rollouts::status(desk, args).await?,
        Command::Watch(args) => return rollouts::watch(desk, args).await,
        Command::Why(args) => rollouts::why(desk, args).await?,
        Command::History(args) => rollouts::history(desk, args).await?,
        Command::Pause(args) => rollouts::control(desk, Verb::Pause, args.into()).await?,
        Command::Resume(args) => rollouts::control(desk, Verb::Resume, args.into()).await?,
        // It leaves hosts as they are with and without the word.
        Command::Abort(AbortArgs { control, stay: _ }) => {
            rollouts::control(desk, Verb::Abort, control.into()).await?;
        }
        Command::Retry(args) => rollouts::control(desk, Verb::Retry, args).await?,
        Command::Rollback(args) => rollouts::control(desk, Verb::Rollback, args).await?,
        Command::Promote(PromoteArgs { control, full }) => {
            rollouts::control(desk, Verb::Promote { full }, control.into()).await?;
        }
        Command::Exclude(args) => rollouts::exclude(desk, args, false).await?,
        Command::Skip(args) => rollouts::exclude(desk, args, true).await?,
        Command::Logs(args) => return logs::logs(desk, args).await,
        Command::Demo(args) => return crate::demo::run(console, args).await,
        Command::Completions { shell } => local::completions(desk, shell)?,
        Command::Version(output) => local::version(desk, output)?,
    }
    Ok(Outcome::Done)
}
