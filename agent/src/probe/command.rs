//! Passes when a command of the release exits with status 0.

use std::time::Duration;

use super::{CommandPlace, DETAIL_CHARS_MAX, ProbeAnswer};
use crate::process::{
    bounded::{BoundedCommand, CommandEnd, run_bounded},
    end_probe, mark_probe,
};

pub(super) async fn ask(argv: &[String], within: Duration, place: CommandPlace<'_>) -> ProbeAnswer {
    let CommandPlace { instance, env, secrets, directory } = place;
    let mut env = env.clone();
    mark_probe(&mut env, instance);
    let result =
        run_bounded(BoundedCommand { argv, env: &env, secrets, directory, within }, None).await;
    // Who left its process group would stay for ever, and another one at each probe.
    end_probe(instance).await;
    let how = match result.end {
        CommandEnd::Exited(status) => format!("the command exited with status {status}"),
        CommandEnd::Signalled(signal) => format!("signal {signal} ended the command"),
        CommandEnd::TimedOut => format!("the command took longer than {within:?} and was killed"),
        CommandEnd::NotStarted(text) => return ProbeAnswer::failed(&text),
    };
    let detail = match last_words(&result.output, how.len()) {
        "" => how,
        said => format!("{how}: {said}"),
    };
    match result.end {
        CommandEnd::Exited(0) => ProbeAnswer::passed(&detail),
        CommandEnd::Exited(_)
        | CommandEnd::Signalled(_)
        | CommandEnd::TimedOut
        | CommandEnd::NotStarted(_) => ProbeAnswer::failed(&detail),
    }
}

/// Returns the end of `output` that fits behind `taken` characters.
fn last_words(output: &str, taken: usize) -> &str {
    let output = output.trim();
    let room = DETAIL_CHARS_MAX.saturating_sub(taken + 2).max(1);
    let from = output.char_indices().rev().nth(room - 1).map_or(0, |(at, _)| at);
    output[from..].trim_start()
}
