//! Runs a check of a canary once, and ends what it leaves behind.
//!
//! It changes nothing, so that it may be run again: one that another agent process has left running
//! is ended before the next run, and before its instance is stopped.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use cutover_common::{CheckName, InstanceId, VariableName, check::Answer};

use super::{
    blocking,
    bounded::{BoundedCommand, CommandEnd, run_bounded},
    sweep::kill_by_token,
};
use crate::{probe::one_line, shim::program::PATH};

/// Set in the environment of a check and so of all that it starts: which check of which instance.
const CHECK_VARIABLE: &str = "CUTOVER_CHECK";

/// The same for all checks of an instance, which are looked for together when it is stopped.
const CHECKED_VARIABLE: &str = "CUTOVER_CHECKED";

/// How long the killed are waited for. They end within milliseconds, and the next run, or the stop,
/// looks for them again.
const CHECK_SWEEP_WITHIN: Duration = Duration::from_secs(1);

/// The status by which a command says that the canary is not well.
const NOT_WELL: i32 = 1;

/// One run of a check, with all variables filled in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CheckSpec {
    pub instance: InstanceId,
    pub name: CheckName,
    pub command: Vec<String>,
    pub env: BTreeMap<String, String>,
    /// What is in the environment besides, by the files that hold the values.
    pub secrets: BTreeMap<VariableName, PathBuf>,
    pub directory: PathBuf,
    pub within: Duration,
}

/// Runs a check to its end, and returns what it says of the canary and, for people, how it ended.
/// Nothing of it runs when this returns, and its process group is dead when the future is dropped.
pub async fn run_check(spec: CheckSpec) -> (Answer, String) {
    let CheckSpec { instance, name, command, mut env, secrets, directory, within } = spec;
    let token = format!("{}/{name}", instance.0);
    env.insert(CHECK_VARIABLE.to_owned(), token.clone());
    env.insert(CHECKED_VARIABLE.to_owned(), instance.0.to_string());
    env.entry("PATH".to_owned()).or_insert_with(|| PATH.to_owned());
    end(CHECK_VARIABLE, token.clone()).await;
    let command = BoundedCommand {
        argv: &command,
        env: &env,
        secrets: &secrets,
        directory: &directory,
        within,
    };
    let result = run_bounded(command, None).await;
    // Who left its process group would stay for ever, and another one at each run.
    end(CHECK_VARIABLE, token).await;
    let (answer, how) = match result.end {
        CommandEnd::Exited(0) => (Answer::Pass, "it exited with status 0".to_owned()),
        CommandEnd::Exited(NOT_WELL) => (Answer::Fail, "it exited with status 1".to_owned()),
        CommandEnd::Exited(status) => {
            (Answer::NotEnough, format!("it exited with status {status}"))
        }
        CommandEnd::Signalled(signal) => (Answer::NotEnough, format!("signal {signal} ended it")),
        CommandEnd::TimedOut => (Answer::NotEnough, format!("it was killed after {within:?}")),
        CommandEnd::NotStarted(text) => return (Answer::NotEnough, one_line(&text)),
    };
    let last = result.output.trim_end().lines().next_back().unwrap_or_default().trim();
    let detail = if last.is_empty() { how } else { format!("{how}; it said: {}", one_line(last)) };
    (answer, detail)
}

/// Ends all that checks of an instance have started and that still runs.
pub async fn end_checks(instance: InstanceId) {
    end(CHECKED_VARIABLE, instance.0.to_string()).await;
}

async fn end(variable: &'static str, value: String) {
    let ended = blocking({
        let value = value.clone();
        move || kill_by_token(variable, &value, CHECK_SWEEP_WITHIN)
    });
    if let Err(error) = ended.await {
        tracing::warn!(check = value, %error, "a check left something behind");
    }
}
