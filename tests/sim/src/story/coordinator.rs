//! What a coordinator remembers, in words: of a rollout in its own ones.

use std::collections::BTreeMap;

use cutover_common::Slot;
use cutover_coordinator_core::{Coordinator, Event, EventKind, event::Dequeued, fleet::GoalSlot};
use uuid::Uuid;

use super::{generation, short_digest};

/// Tells events, which `core` has just decided.
pub(crate) fn events(core: &Coordinator, events: &[Event]) -> Vec<String> {
    // The newest of a rollout's own words are about the newest changes.
    let mut left: BTreeMap<Uuid, usize> = BTreeMap::new();
    for event in events {
        if let EventKind::Rollout { id, .. } = &event.kind {
            *left.entry(*id).or_default() += 1;
        }
    }
    let mut told = Vec::new();
    for event in events {
        told.push(match &event.kind {
            EventKind::Rollout { id, .. } => {
                let left = left.entry(*id).or_default();
                let words = change(core, *id, *left);
                *left = left.saturating_sub(1);
                words.unwrap_or_else(|| format!("{:?}", event.kind))
            }
            EventKind::Started { .. }
            | EventKind::Restored { .. }
            | EventKind::OperatorCreated { .. }
            | EventKind::JoinTokenCreated { .. }
            | EventKind::AgentJoined { .. }
            | EventKind::AgentLabelled { .. }
            | EventKind::AgentRemoved { .. }
            | EventKind::AgentDrained { .. }
            | EventKind::AgentUndrained { .. }
            | EventKind::EnvironmentCreated { .. }
            | EventKind::EnvironmentFrozen { .. }
            | EventKind::EnvironmentThawed { .. }
            | EventKind::EnvironmentConfigured { .. }
            | EventKind::ReleaseConfigured { .. }
            | EventKind::SecretsLost { .. }
            | EventKind::ReleaseRegistered { .. }
            | EventKind::GoalSet { .. }
            | EventKind::RolloutStarted(_)
            | EventKind::RolloutQueued(_)
            | EventKind::RolloutDequeued { .. } => other(&event.kind),
        });
    }
    told
}

/// Returns what a rollout says of the change that so many changes end with.
fn change(core: &Coordinator, id: Uuid, from_the_end: usize) -> Option<String> {
    let rollout = core.rollout(id)?;
    let at = rollout.history.len().checked_sub(from_the_end)?;
    let (_, words) = rollout.history.get(at)?;
    Some(format!("{} to {}: {words}", rollout.application, rollout.to))
}

fn other(kind: &EventKind) -> String {
    match kind {
        EventKind::Started { term, boot_nonce } => {
            let process = &boot_nonce.simple().to_string()[..4];
            format!("begins term {} (process {process})", term.0)
        }
        EventKind::Restored { term } => format!("goes on from a backup, from term {}", term.0),
        EventKind::OperatorCreated { name, .. } => format!("makes a token for operator {name}"),
        EventKind::JoinTokenCreated { name, .. } => {
            let name = name.as_ref().map_or_else(|| "anybody".to_owned(), ToString::to_string);
            format!("makes a join token for {name}")
        }
        EventKind::AgentJoined { agent, .. } => format!("lets {agent} join"),
        EventKind::AgentLabelled { agent, labels, .. } => {
            let labels: Vec<&str> = labels.keys().map(String::as_str).collect();
            format!("labels {agent}: {}", labels.join(", "))
        }
        EventKind::AgentRemoved { agent, .. } => format!("removes {agent}"),
        EventKind::AgentDrained { agent, .. } => format!("drains {agent}"),
        EventKind::AgentUndrained { agent, .. } => format!("lets {agent} take part again"),
        EventKind::EnvironmentFrozen { environment, .. } => format!("freezes {environment}"),
        EventKind::EnvironmentThawed { environment, .. } => format!("thaws {environment}"),
        EventKind::EnvironmentConfigured { environment, .. } => format!("configures {environment}"),
        EventKind::ReleaseConfigured { name } => format!("has {name}, with a config"),
        EventKind::SecretsLost { secrets } => format!("gives {} secrets up", secrets.len()),
        EventKind::EnvironmentCreated { name, .. } => format!("makes environment {name}"),
        EventKind::ReleaseRegistered { release, .. } => {
            format!("has release {} ({})", release.name, short_digest(release.digest))
        }
        EventKind::GoalSet { agent, application, generation: of, slots, .. } => format!(
            "sets {} of {application} on {agent}: {}",
            generation(*of),
            [Slot::Blue, Slot::Green]
                .map(|slot| format!("{slot} {}", goal(slots.of(slot))))
                .join(", ")
        ),
        EventKind::RolloutStarted(started) => {
            format!("begins a rollout of {} to {}", started.application, started.to)
        }
        EventKind::RolloutQueued(queued) => {
            format!("queues a rollout of {} to {}", queued.application, queued.to)
        }
        EventKind::RolloutDequeued { id, how, .. } => {
            let why = match how {
                Dequeued::Refused { why } => why.clone(),
                Dequeued::Aborted { by, .. } => format!("{by} asked for it"),
                Dequeued::Superseded { rollout, .. } => format!("{rollout} takes its place"),
            };
            format!("takes rollout {id} out of the queue: {why}")
        }
        EventKind::Rollout { change, .. } => format!("{change:?}"),
    }
}

fn goal(goal: &GoalSlot) -> String {
    match goal {
        GoalSlot::Absent => "absent".to_owned(),
        GoalSlot::Prepared(version) => format!("{version} prepared"),
        GoalSlot::Running(version) => format!("{version} running"),
    }
}
