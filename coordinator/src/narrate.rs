//! What is remembered, as log lines: one for each event, with the ids that a search needs.

use cutover_common::VariableName;
use cutover_coordinator_core::{Event, EventKind};

/// Logs `event`, which is on disk.
pub(crate) fn narrate(event: &Event) {
    match &event.kind {
        EventKind::Started { term, boot_nonce } => {
            tracing::info!(term = term.0, %boot_nonce, "a term begins");
        }
        EventKind::Restored { term } => tracing::warn!(term = term.0, "restored from a backup"),
        EventKind::OperatorCreated { name, role, .. } => {
            tracing::info!(operator = name, role = role.word(), "operator created");
        }
        EventKind::JoinTokenCreated { name, by, .. } => {
            let agent = name.as_ref().map(ToString::to_string).unwrap_or_default();
            tracing::info!(agent, by, "join token created");
        }
        EventKind::AgentJoined { agent, enrolment, .. } => {
            tracing::info!(%agent, %enrolment, "agent joined");
        }
        EventKind::AgentLabelled { agent, labels, by } => {
            tracing::info!(%agent, ?labels, by, "agent labelled");
        }
        EventKind::AgentRemoved { agent, by } => tracing::info!(%agent, by, "agent removed"),
        EventKind::AgentDrained { agent, by, reason } => {
            tracing::info!(%agent, by, reason, "agent drained");
        }
        EventKind::AgentUndrained { agent, by, reason } => {
            tracing::info!(%agent, by, reason, "agent takes part again");
        }
        EventKind::EnvironmentCreated { .. }
        | EventKind::EnvironmentFrozen { .. }
        | EventKind::EnvironmentThawed { .. }
        | EventKind::EnvironmentConfigured { .. } => of_environment(&event.kind),
        EventKind::SecretsLost { secrets } => {
            tracing::warn!(secrets = secrets.len(), "secrets that nobody can read were given up");
        }
        EventKind::ReleaseConfigured { name } => {
            tracing::info!(release = %name, "release configured");
        }
        EventKind::ReleaseRegistered { release, by, .. } => {
            tracing::info!(release = %release.name, digest = %release.digest, by, "release pushed");
        }
        EventKind::GoalSet { agent, application, generation, rollout, .. } => {
            let generation = generation.0;
            tracing::info!(%agent, %application, generation, %rollout, "goal set");
        }
        EventKind::RolloutStarted(started) => tracing::info!(
            rollout = %started.id,
            application = %started.application,
            environment = %started.environment,
            to = %started.to,
            by = started.by,
            "rollout started"
        ),
        EventKind::RolloutQueued(queued) => tracing::info!(
            rollout = %queued.id,
            application = %queued.application,
            environment = %queued.environment,
            to = %queued.to,
            by = queued.by,
            "rollout queued"
        ),
        EventKind::RolloutDequeued { id, how, .. } => {
            tracing::info!(rollout = %id, ?how, "rollout left the queue");
        }
        EventKind::Rollout { id, change, .. } => tracing::info!(rollout = %id, ?change, "rollout"),
    }
}

fn of_environment(kind: &EventKind) {
    if let EventKind::EnvironmentCreated { name, select, by } = kind {
        tracing::info!(environment = %name, ?select, by, "environment created");
    }
    if let EventKind::EnvironmentFrozen { environment, window, by, reason } = kind {
        tracing::info!(%environment, ?window, by, reason, "environment frozen");
    }
    if let EventKind::EnvironmentThawed { environment, by } = kind {
        tracing::info!(%environment, by, "environment thawed");
    }
    if let EventKind::EnvironmentConfigured { environment, application, set, unset, by } = kind {
        // The names alone: values may be nobody's business.
        let names = |names: Vec<&VariableName>| {
            names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(",")
        };
        let application = application.as_ref().map(ToString::to_string).unwrap_or_default();
        let (set, unset) = (names(set.keys().collect()), names(unset.iter().collect()));
        tracing::info!(%environment, application, set, unset, by, "environment configured");
    }
}
