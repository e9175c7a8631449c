//! Runs a hook of a release, keeps what it says, and ends what it leaves behind.
//!
//! That a hook is run at most once (E3) is the core's affair: it remembers the begin before it asks.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use cutover_common::VariableName;
use uuid::Uuid;

use super::{
    ProcessRuntime, SWEEP_WITHIN, blocking,
    bounded::{BoundedCommand, CommandEnd, run_bounded},
    kept_output::KeptOutput,
    sweep::{LeftBehind, kill_by_token},
};
use crate::shim::program::PATH;

/// Set in the environment of a hook and so of all that it starts: what an interrupted hook left
/// behind can be told from an instance, and is found again by another agent process.
const HOOK_VARIABLE: &str = "CUTOVER_HOOK";

/// How much of the end of its output is told with a hook's failure, in characters: most of what a
/// report may say of a slot.
const LAST_WORDS_MAX: usize = 600;

/// One run of a hook, with all variables filled in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HookSpec {
    pub run: Uuid,
    pub command: Vec<String>,
    pub env: BTreeMap<String, String>,
    /// What is in the environment besides, by the files that hold the values.
    pub secrets: BTreeMap<VariableName, PathBuf>,
    pub directory: PathBuf,
    pub within: Duration,
    /// Where its output is kept.
    pub log: PathBuf,
}

/// What became of a hook.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HookOutcome {
    Passed,
    /// The text is for people: how it ended, and the end of its output.
    Failed(String),
}

impl ProcessRuntime {
    /// Runs a hook to its end. Its process group is dead when this returns, and also when the
    /// future is dropped.
    pub async fn run_hook(&self, spec: HookSpec) -> HookOutcome {
        let HookSpec { run, command, mut env, secrets, directory, within, log } = spec;
        env.insert(HOOK_VARIABLE.to_owned(), run.to_string());
        env.entry("PATH".to_owned()).or_insert_with(|| PATH.to_owned());
        let path = log.clone();
        let kept = blocking(move || KeptOutput::create(&path)).await.inspect_err(|error| {
            tracing::warn!(path = %log.display(), %error, "the hook's output is not kept");
        });
        let command = BoundedCommand {
            argv: &command,
            env: &env,
            secrets: &secrets,
            directory: &directory,
            within,
        };
        let result = run_bounded(command, kept.ok()).await;
        let outcome = if result.end == CommandEnd::Exited(0) {
            HookOutcome::Passed
        } else {
            HookOutcome::Failed(failure(&result.end, within, &result.output))
        };
        // Who left its process group is no hook any more, and no instance either.
        match self.end_hook(run).await {
            Ok(()) => outcome,
            Err(error) => HookOutcome::Failed(error.to_string()),
        }
    }

    /// Ends every process that a hook has started and that still runs.
    ///
    /// # Errors
    ///
    /// When something of it may still run.
    pub async fn end_hook(&self, run: Uuid) -> Result<(), LeftBehind> {
        let value = run.to_string();
        blocking(move || kill_by_token(HOOK_VARIABLE, &value, SWEEP_WITHIN)).await
    }
}

fn failure(end: &CommandEnd, within: Duration, output: &str) -> String {
    let how = match end {
        CommandEnd::Exited(status) => format!("it exited with status {status}"),
        CommandEnd::Signalled(signal) => format!("signal {signal} ended it"),
        CommandEnd::TimedOut => format!("it was killed after {within:?}"),
        CommandEnd::NotStarted(text) => text.clone(),
    };
    match last_words(output.trim_end()) {
        "" => how,
        output => format!("{how}; it said: {output}"),
    }
}

/// Returns the end of what was said, as far as it fits into a report with all the rest.
fn last_words(output: &str) -> &str {
    let from = output.char_indices().rev().nth(LAST_WORDS_MAX - 1).map_or(0, |(at, _)| at);
    output[from..].trim_start()
}
