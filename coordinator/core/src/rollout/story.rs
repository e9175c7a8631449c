//! Changes as sentences, for `history` and `why`.

use cutover_common::{AgentName, Version, duration_text};

use super::{Cause, CutoverPhase, Exclusion, HostState, Outcome, PlanStep, Rollout, plan::percent};
use crate::{event::Change, once::OnceStep};

/// How many names a sentence lists before it counts the rest: one line on a terminal.
const NAMES_MAX: usize = 6;

/// Lists agents: "web-1, web-2 and 18 more".
pub(crate) fn names(agents: &[AgentName]) -> String {
    listed(agents.iter().map(AgentName::as_str))
}

/// Lists texts in the same way.
pub(crate) fn listed<'a>(texts: impl ExactSizeIterator<Item = &'a str>) -> String {
    let count = texts.len();
    let shown: Vec<&str> = texts.take(NAMES_MAX).collect();
    match count.saturating_sub(NAMES_MAX) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

pub(super) fn begun(rollout: &Rollout, despite_freeze: &str) -> String {
    if rollout.converges {
        let agents: Vec<AgentName> = rollout.hosts.keys().cloned().collect();
        let (application, to, environment) =
            (&rollout.application, &rollout.to, &rollout.environment);
        let lacks = if agents.len() == 1 { "lacks" } else { "lack" };
        let names = names(&agents);
        return format!(
            "begun by itself: {environment} runs {application}@{to}, and {names} {lacks} it"
        );
    }
    let from = rollout.from.as_ref().map_or_else(String::new, |from| format!(" from {from}"));
    let despite = match despite_freeze {
        "" => String::new(),
        reason => format!(", despite the freeze: {reason}"),
    };
    format!(
        "{} started: {}{from} to {} in {}, {} over {} hosts in {} batches{despite}",
        rollout.by,
        rollout.application,
        rollout.to,
        rollout.environment,
        rollout.spec.strategy,
        rollout.hosts.len(),
        rollout.plan.waves.len(),
    )
}

/// Tells `change`, which is about to happen to `rollout`.
pub(super) fn of(rollout: &Rollout, change: &Change) -> String {
    match change {
        Change::StepStarted { wave, step } => step_started(rollout, *wave, *step),
        Change::HostsReleased { agents } => {
            format!("{} told to run {}", names(agents), rollout.to)
        }
        Change::HostsStaged { .. }
        | Change::HostStaged { .. }
        | Change::HostsShifted { .. }
        | Change::CutoverMoved { .. }
        | Change::HostsFlipped { .. }
        | Change::GroupSwitched { .. }
        | Change::HostsTold { .. }
        | Change::HostsRetired { .. } => beside(rollout, change),
        Change::HostUpdated { agent } => updated(rollout, std::slice::from_ref(agent)),
        Change::HostFailed { agent, why } => format!("{agent} failed: {why}"),
        Change::HostUnreachable { agent, why } => format!("{agent} is unreachable: {why}"),
        Change::BakeStarted => format!(
            "all batches are done; watching everything for {}",
            duration_text::print(rollout.spec.bake)
        ),
        Change::RollbackStarted { cause, waves } => {
            let hosts: usize = waves.iter().map(Vec::len).sum();
            format!("going back on {hosts} hosts: {}", why(cause))
        }
        Change::RollbackWave { wave } => format!("going back: group {}", wave + 1),
        Change::HostsReverted { agents } => match &rollout.from {
            Some(from) if rollout.groups().is_none() => {
                format!("{} told to run {from} again", names(agents))
            }
            Some(_) | None if agents.iter().any(|agent| rollout.back_to(agent).is_some()) => {
                format!("{} told to run what they ran before", names(agents))
            }
            Some(_) | None => format!("{} told to stop {}", names(agents), rollout.to),
        },
        Change::HostReverted { agent } => reverted(rollout, std::slice::from_ref(agent)),
        Change::HostStuck { agent, why } => format!("{agent} could not go back: {why}"),
        Change::HostsWithdrawn { agents } => {
            format!("{} had not begun and stay as they are", names(agents))
        }
        Change::HostsExcluded { agents, cause } => {
            format!("{} left out from here on: {}", names(agents), exclusion(cause))
        }
        Change::Paused { by, reason } => told_by("paused", by, reason),
        Change::Resumed { by } => format!("resumed by {by}"),
        Change::Held { why } => format!("held: {why}"),
        Change::Retried { by } => format!("retried by {by}"),
        Change::Once { agent, step } => once(rollout, agent, step),
        Change::Promoted { by, reason, full: false } => told_by("promoted", by, reason),
        Change::Promoted { by, reason, full: true } => told_by("promoted in full", by, reason),
        Change::Ended { outcome, why } => match outcome {
            Outcome::Succeeded => format!("succeeded: {why}"),
            Outcome::RolledBack => format!("rolled back: {why}"),
            Outcome::Aborted => format!("aborted: {why}"),
            Outcome::Staged => format!("staged: {why}"),
        },
    }
}

/// Tells what became of a hook that one host runs for all.
fn once(rollout: &Rollout, agent: &AgentName, step: &OnceStep) -> String {
    let hook = format!("the once hook of {}", rollout.to);
    match step {
        OnceStep::Given => format!("{agent} is to run {hook} for all hosts"),
        OnceStep::Passed => format!("{hook} has passed on {agent}"),
        OnceStep::Failed => format!("{hook} failed on {agent}"),
        OnceStep::Interrupted => format!("{hook} was interrupted on {agent}"),
        OnceStep::Lost => format!("{agent} cannot be reached, and has not said how {hook} ended"),
        OnceStep::Forgotten => {
            format!("{agent} may have run {hook} since the backup that this was restored from")
        }
        OnceStep::Freed { by } => format!("{by} lets {hook} run again"),
    }
}

/// Tells that hosts run the new release.
pub(crate) fn updated(rollout: &Rollout, agents: &[AgentName]) -> String {
    match agents {
        [agent] => format!("{agent} runs {} and is healthy", rollout.to),
        several => format!("{} run {} and are healthy", names(several), rollout.to),
    }
}

/// Tells that hosts run the new release beside what serves.
pub(crate) fn staged(rollout: &Rollout, agents: &[AgentName]) -> String {
    let to = &rollout.to;
    match agents {
        [agent] => format!("{agent} runs {to} beside what serves, and it is healthy"),
        several => format!("{} run {to} beside what serves, and it is healthy", names(several)),
    }
}

/// Tells that hosts run what they ran before, which is the same on all of them.
pub(crate) fn reverted(rollout: &Rollout, agents: &[AgentName]) -> String {
    let from = agents.first().and_then(|agent| rollout.back_to(agent));
    match (agents, from) {
        ([agent], Some(from)) => format!("{agent} runs {from} again and is healthy"),
        (several, Some(from)) => format!("{} run {from} again and are healthy", names(several)),
        ([agent], None) => format!("{agent} runs nothing again, as before"),
        (several, None) => format!("{} run nothing again, as before", names(several)),
    }
}

fn step_started(rollout: &Rollout, wave: usize, step: usize) -> String {
    let planned = rollout.plan.waves.get(wave);
    let agents = planned.map_or_else(String::new, |wave| names(&wave.agents));
    let batch = format!("batch {} of {}", wave + 1, rollout.plan.waves.len());
    let to = &rollout.to;
    match planned.and_then(|planned| planned.steps.get(step)) {
        Some(PlanStep::Prepare) => format!("{batch}: preparing {agents}"),
        Some(PlanStep::Start) if rollout.groups().is_some() => {
            format!("{batch}: starting {to} where no edge leads, on {agents}")
        }
        Some(PlanStep::Start) => format!("{batch}: replacing on {agents}"),
        Some(PlanStep::Hold(duration)) => {
            format!("{batch} is healthy; watching it for {}", duration_text::print(*duration))
        }
        Some(PlanStep::Stage) => {
            format!("{batch}: starting {to} beside what serves on {agents}")
        }
        Some(PlanStep::Shift(share)) => {
            format!("{batch}: {} of the traffic to {to}", percent(*share))
        }
        Some(PlanStep::Judge(duration)) => {
            format!("{batch}: comparing for {}", duration_text::print(*duration))
        }
        Some(PlanStep::Cutover) => format!("cutting over to {to}"),
        Some(PlanStep::Retire) => "stopping what was replaced".to_owned(),
        Some(PlanStep::Approve) => format!("{batch} is done; waiting for a person"),
        None => batch,
    }
}

/// Tells what becomes of a release that runs beside what serves.
#[expect(clippy::wildcard_enum_match_arm, reason = "the caller has chosen among all of them")]
fn beside(rollout: &Rollout, change: &Change) -> String {
    let to = &rollout.to;
    match change {
        Change::HostsStaged { agents } => {
            format!("{} told to start {to} beside what serves", names(agents))
        }
        Change::HostStaged { agent } => staged(rollout, std::slice::from_ref(agent)),
        Change::HostsShifted { agents, share } => {
            format!("{} told to give {to} {} of the traffic", names(agents), percent(*share))
        }
        Change::CutoverMoved { phase } => match phase {
            CutoverPhase::Hold => "all gates told to hold what is new",
            CutoverPhase::Arm => {
                "nothing is under way at any gate; all told to hold until they are told"
            }
            CutoverPhase::Release => {
                "the cutover could not be made; all gates told to go on as before"
            }
        }
        .to_owned(),
        Change::HostsFlipped { agents } => {
            format!("{} told to lead clients to {to}", names(agents))
        }
        Change::GroupSwitched { group } => {
            let label = rollout.groups().map_or("", |groups| groups.label.as_str());
            format!("edges told to lead clients to the hosts with {label}={group}")
        }
        Change::HostsTold { agents } => format!("{} told once more", names(agents)),
        Change::HostsRetired { agents } => {
            format!("{} told to stop what was replaced", names(agents))
        }
        _ => String::new(),
    }
}

/// Tells why a rollout goes back.
pub(crate) fn why(cause: &Cause) -> String {
    match cause {
        Cause::Failed { agent, why, failed: 1, max_failed } => {
            format!("{agent} failed ({why}) and max_failed is {max_failed}")
        }
        Cause::Failed { agent, why, failed, max_failed } => format!(
            "{failed} hosts failed, among them {agent} ({why}), and max_failed is {max_failed}"
        ),
        Cause::Judged { why } => why.clone(),
        Cause::Operator { by, reason } if reason.is_empty() => format!("{by} asked for it"),
        Cause::Operator { by, reason } => format!("{by} asked for it: {reason}"),
    }
}

/// Tells why a rollout keeps its hands off a host.
pub(crate) fn exclusion(cause: &Exclusion) -> String {
    match cause {
        Exclusion::Operator { by, reason } => told_by("excluded", by, reason),
        Exclusion::Drained { by, reason } => told_by("drained", by, reason),
        Exclusion::Skipped { by, reason } => told_by("skipped", by, reason),
    }
}

/// Tells which hosts of `rollout` it has left as they are, as the end of a sentence; nothing if
/// there are none.
pub(crate) fn left_out(rollout: &Rollout) -> String {
    let of = |word: &str, wanted: fn(&Exclusion) -> bool| {
        let agents = rollout.hosts_where(|host| match &host.state {
            HostState::Excluded { cause, .. } => wanted(cause),
            HostState::Pending
            | HostState::Staging { .. }
            | HostState::Staged
            | HostState::Updating { .. }
            | HostState::Updated
            | HostState::Failed { .. }
            | HostState::Unreachable { .. }
            | HostState::Reverting { .. }
            | HostState::Reverted
            | HostState::Stuck { .. } => false,
        });
        if agents.is_empty() { String::new() } else { format!("; {word}: {}", names(&agents)) }
    };
    let excluded = of("excluded", |cause| matches!(cause, Exclusion::Operator { .. }));
    let skipped = of("skipped", |cause| matches!(cause, Exclusion::Skipped { .. }));
    excluded + &skipped + &of("drained", |cause| matches!(cause, Exclusion::Drained { .. }))
}

fn told_by(what: &str, by: &str, reason: &str) -> String {
    match reason {
        "" => format!("{what} by {by}"),
        reason => format!("{what} by {by}: {reason}"),
    }
}

/// Returns the release whose once hook is meant, as it was pushed: it is one hook with every config.
pub(crate) fn hook_of(version: Option<&Version>) -> &str {
    version.map_or("another release", Version::as_pushed)
}
