//! Rollouts: why, history, and how one ended.

use std::{fmt::Write as _, time::Duration};

use cutover_common::Timestamp;

use super::{
    Paint, count, moment,
    table::{Cell, table},
    tone_of, took,
};
use crate::{
    text::Text,
    view::{Accepted, Controlled, Rollout, RolloutState, short},
};

/// Prints what a rollout waits for or how it ended, and what to type next. Nothing else, as this
/// is what goes into a chat or a ticket.
pub fn why(rollout: &Rollout) -> String {
    why_and_next(&rollout.why, &rollout.next)
}

/// Prints what is so, and what to type.
pub fn why_and_next(why: &Text, next: &[Text]) -> String {
    let mut text = format!("{why}\n");
    for next in next {
        writeln!(text, "next: {next}").expect("writing to a String does not fail");
    }
    text
}

/// Prints a list of rollouts.
pub fn history(rollouts: &[Rollout], now: Timestamp, paint: Paint) -> String {
    if rollouts.is_empty() {
        return "no rollouts: cutover deploy APP@VERSION --to ENV\n".to_owned();
    }
    let rows: Vec<[Cell; 8]> = rollouts
        .iter()
        .map(|rollout| {
            [
                short(&rollout.id).into(),
                versions(rollout).into(),
                (&rollout.environment).into(),
                strategy(rollout).into(),
                state(&rollout.state),
                moment(rollout.started_unix_ms).into(),
                took(elapsed(rollout, now)).into(),
                (&rollout.started_by).into(),
            ]
        })
        .collect();
    let header = ["ROLLOUT", "RELEASE", "TO", "STRATEGY", "STATE", "STARTED", "TOOK", "BY"];
    table(header, &rows, paint)
}

/// Prints how a rollout ended, or that it holds.
pub fn ending(rollout: &Rollout, now: Timestamp, paint: Paint) -> String {
    let hosts = match rollout.hosts.len() {
        0 => String::new(),
        hosts => format!(", {}", count(hosts, "host")),
    };
    let state = paint.tone(tone_of(rollout.state.as_str()), &rollout.state.words());
    let after = took(elapsed(rollout, now));
    let id = short(&rollout.id);
    let mut text = format!("{}: {state} after {after}{hosts} ({id})\n", rollout.title());
    if rollout.state != RolloutState::Succeeded {
        text += &why(rollout);
    }
    text
}

/// Prints a rollout that was accepted.
pub fn accepted(accepted: &Accepted) -> String {
    match queued(accepted) {
        Some(queued) => format!("rollout {} {queued}\n", accepted.rollout),
        None => format!("rollout {} accepted\n", accepted.rollout),
    }
}

/// Says after what a rollout comes; none if it has begun.
pub fn queued(accepted: &Accepted) -> Option<String> {
    if !accepted.queued {
        return None;
    }
    let before = match accepted.ahead {
        0 => String::new(),
        ahead => format!(", {ahead} in the queue before it"),
    };
    Some(match &accepted.waits_for {
        Some(waits_for) => format!("queued after {waits_for}{before}"),
        None => format!("queued{before}"),
    })
}

/// Prints what became of an operator's word.
pub fn controlled(controlled: &Controlled) -> String {
    if controlled.text.is_empty() {
        return format!("rollout {}: done\n", controlled.rollout);
    }
    format!("{}\n", controlled.text)
}

/// Returns how long a rollout took, or has gone on.
pub(super) fn elapsed(rollout: &Rollout, now: Timestamp) -> Duration {
    let started = Timestamp::from_unix_ms(rollout.started_unix_ms);
    rollout.ended_unix_ms.map_or(now, Timestamp::from_unix_ms).since(started)
}

/// What is queued is planned later, and may not say yet how it goes.
fn strategy(rollout: &Rollout) -> &str {
    let strategy = rollout.strategy.as_str();
    if strategy.is_empty() { "-" } else { strategy }
}

fn versions(rollout: &Rollout) -> String {
    let Rollout { application, to_version, .. } = rollout;
    match &rollout.from_version {
        Some(from) => format!("{application} {from} → {to_version}"),
        None => format!("{application} {to_version}"),
    }
}

fn state(state: &RolloutState) -> Cell {
    Cell::toned(tone_of(state.as_str()), state.words())
}
