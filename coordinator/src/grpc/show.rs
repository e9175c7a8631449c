//! What is looked at → pb. Total: everything that the core shows can be sent.

use std::time::Duration;

use cutover_common::{AgentName, FreezeWindow, ReleaseRef, Timestamp};
use cutover_coordinator_core::{
    Coordinator, Found,
    coordinator::{Freeze, Led},
    enrolment::{Drain, Enrolled},
    rollout::{Planned, Replacement},
    simulate::{Simulated, SimulatedHost},
    view::{HostStatus, HostView, QueuedView, RolloutView, StatusView, presence_word},
};
use cutover_proto::v1 as pb;

pub(super) fn agent(core: &Coordinator, name: &AgentName, enrolled: &Enrolled) -> pb::Agent {
    let seen = core.fleet().seen(name);
    let inventory = seen.and_then(|seen| seen.inventory.clone());
    pb::Agent {
        name: name.to_string(),
        labels: enrolled.labels.clone(),
        presence: presence_word(seen.map(|seen| seen.presence)).to_owned(),
        last_heard_unix_ms: seen.and_then(|seen| seen.last_heard).map_or(0, Timestamp::unix_ms),
        address: inventory.as_ref().map(|it| it.address.clone()).unwrap_or_default(),
        inventory: inventory.map(Into::into),
        load: seen.map(|seen| seen.load.into()),
        reports: seen
            .map(|seen| seen.reports.values().cloned().map(Into::into).collect())
            .unwrap_or_default(),
        joined_unix_ms: enrolled.joined.unix_ms(),
        counts: seen
            .map(|seen| seen.counts.iter().cloned().map(Into::into).collect())
            .unwrap_or_default(),
        agent_version: seen.map(|seen| seen.agent_version.clone()).unwrap_or_default(),
        drain: core.enrolments().drain(name).map(drain),
        edge: seen.and_then(|seen| seen.edge.clone()).map(Into::into),
    }
}

fn drain(drain: &Drain) -> pb::Drain {
    let Drain { by, reason, since } = drain;
    pb::Drain { by: by.clone(), reason: reason.clone(), since_unix_ms: since.unix_ms() }
}

fn freeze(freeze: &Freeze, now: Timestamp) -> pb::Freeze {
    let Freeze { window, by, reason } = freeze;
    let shown = match window {
        FreezeWindow::Once { from, until } => pb::FreezeWindow {
            from_unix_ms: from.unix_ms(),
            until_unix_ms: until.map_or(0, Timestamp::unix_ms),
            weekly: String::new(),
        },
        FreezeWindow::Weekly(week) => {
            pb::FreezeWindow { weekly: week.to_string(), ..pb::FreezeWindow::default() }
        }
    };
    let is_on = window.left(now).is_some();
    pb::Freeze { window: Some(shown), by: by.clone(), reason: reason.clone(), is_on }
}

/// Shows what runs in an environment.
pub(super) fn stable(name: &ReleaseRef) -> pb::StableRelease {
    let ReleaseRef { application, version } = name;
    pb::StableRelease { application: application.to_string(), version: version.to_string() }
}

pub(super) fn environments(core: &Coordinator, now: Timestamp) -> Vec<pb::Environment> {
    core.environments()
        .map(|(name, select, stable)| pb::Environment {
            name: name.to_string(),
            select: select.clone(),
            agents: core.members(name).iter().map(ToString::to_string).collect(),
            stable: stable
                .map(|(application, version)| pb::StableRelease {
                    application: application.to_string(),
                    version: version.to_string(),
                })
                .collect(),
            freezes: core
                .freezes(name)
                .iter()
                .filter(|it| !it.window.is_over(now))
                .map(|it| freeze(it, now))
                .collect(),
        })
        .collect()
}

pub(super) fn releases(core: &Coordinator, application: Option<&str>) -> Vec<pb::ReleaseRow> {
    core.releases(application)
        .map(|(name, stored)| pb::ReleaseRow {
            application: name.application.to_string(),
            version: name.version.to_string(),
            digest: stored.release.digest.to_string(),
            size_bytes: stored.release.size_bytes,
            archive_size_bytes: stored.release.archive_size_bytes,
            pushed_unix_ms: stored.pushed.unix_ms(),
            pushed_by: stored.by.clone(),
        })
        .collect()
}

pub(super) fn plan(planned: &Planned) -> pb::Plan {
    let waves = planned.plan.waves.iter().zip(&planned.worst_healthy);
    pb::Plan {
        strategy: planned.spec.strategy.to_string(),
        waves: waves
            .map(|(wave, worst)| pb::PlannedWave {
                agents: wave.agents.iter().map(ToString::to_string).collect(),
                steps: wave.steps.iter().map(|step| planned.step_text(*step)).collect(),
                worst_healthy: *worst,
            })
            .collect(),
        settings: planned
            .settings
            .iter()
            .map(|setting| pb::Setting {
                name: setting.name.clone(),
                value: setting.value.clone(),
                source: setting.source.word().to_owned(),
            })
            .collect(),
        up_to_date: planned.up_to_date.iter().map(ToString::to_string).collect(),
        from_version: planned.from.as_ref().map(ToString::to_string).unwrap_or_default(),
        to_version: planned.to.to_string(),
        worst_healthy: planned.worst_healthy.iter().copied().min().unwrap_or(planned.healthy),
        hosts: planned.hosts,
        min_healthy: planned.spec.min_healthy,
        drained: planned.drained.iter().map(ToString::to_string).collect(),
        replacement: planned.replacement.word().to_owned(),
        not_passed_on: planned.not_passed_on.as_ref().map(ToString::to_string).unwrap_or_default(),
        once: planned.once.as_ref().map(ToString::to_string).unwrap_or_default(),
        outage_ms: match planned.replacement {
            Replacement::Outage { measured: Some(outage) } => {
                u64::try_from(outage.as_millis()).unwrap_or(u64::MAX).max(1)
            }
            Replacement::First
            | Replacement::Beside
            | Replacement::PassedOn
            | Replacement::Outage { measured: None } => 0,
        },
    }
}

pub(super) fn simulated(simulated: Simulated) -> pb::SimulateResponse {
    let Simulated {
        from,
        to,
        strategy,
        batches,
        ending,
        why,
        lasts,
        story,
        members,
        lowest,
        hosts,
        assumed,
    } = simulated;
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    pb::SimulateResponse {
        from_version: from.map(|from| from.to_string()).unwrap_or_default(),
        to_version: to.to_string(),
        strategy,
        batches: u32::try_from(batches).unwrap_or(u32::MAX),
        ending: ending.word().to_owned(),
        why,
        lasts_ms: millis(lasts),
        story: story
            .into_iter()
            .map(|line| pb::SimulatedLine { after_ms: millis(line.after), text: line.text })
            .collect(),
        hosts: members,
        lowest_healthy: lowest.healthy,
        lowest_after_ms: millis(lowest.after),
        host_ends: hosts.into_iter().map(simulated_host).collect(),
        assumed,
    }
}

fn simulated_host(host: SimulatedHost) -> pb::SimulatedHost {
    let SimulatedHost { agent, batch, state, detail, runs } = host;
    pb::SimulatedHost {
        agent: agent.to_string(),
        batch: u32::try_from(batch).unwrap_or(u32::MAX),
        state: state.to_owned(),
        detail,
        running_version: runs.map(|runs| runs.to_string()).unwrap_or_default(),
    }
}

/// Shows a rollout, whether it has begun or not.
pub(super) fn found(core: &Coordinator, found: Found<'_>, now: Timestamp) -> pb::Rollout {
    match found {
        Found::Rollout(begun) => rollout(&core.view(begun, now)),
        Found::Queued(queued) => waiting(&core.view_queued(queued, now)),
    }
}

fn waiting(view: &QueuedView<'_>) -> pb::Rollout {
    let order = &view.queued.order;
    pb::Rollout {
        id: view.queued.id.to_string(),
        application: order.application.to_string(),
        environment: order.environment.to_string(),
        to_version: order.version.to_string(),
        strategy: view.strategy.to_owned(),
        state: view.state.to_owned(),
        why: view.why.clone(),
        next: view.next.clone(),
        started_unix_ms: view.queued.since.unix_ms(),
        ended_unix_ms: view.ended.map_or(0, Timestamp::unix_ms),
        started_by: view.queued.by.clone(),
        ended: view.ended.is_some(),
        waits_for: view.waits_for.map(|id| id.to_string()).unwrap_or_default(),
        ahead: u32::try_from(view.ahead).unwrap_or(u32::MAX),
        ..pb::Rollout::default()
    }
}

fn next(view: &QueuedView<'_>) -> pb::QueuedRollout {
    let queued = view.queued;
    pb::QueuedRollout {
        rollout: queued.id.to_string(),
        to_version: queued.order.version.to_string(),
        queued_by: queued.by.clone(),
        queued_unix_ms: queued.since.unix_ms(),
    }
}

fn rollout(view: &RolloutView<'_>) -> pb::Rollout {
    let rollout = view.rollout;
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    pb::Rollout {
        id: rollout.id.to_string(),
        application: rollout.application.to_string(),
        environment: rollout.environment.to_string(),
        from_version: rollout.from.as_ref().map(ToString::to_string).unwrap_or_default(),
        to_version: rollout.to.to_string(),
        strategy: rollout.spec.strategy.to_string(),
        state: view.state.to_owned(),
        why: view.why.clone(),
        next: view.next.clone(),
        wave: count(view.wave),
        waves: count(rollout.plan.waves.len()),
        hosts: view.hosts.iter().map(rollout_host).collect(),
        history: rollout
            .history
            .iter()
            .map(|(at, text)| pb::HistoryEntry { unix_ms: at.unix_ms(), text: text.clone() })
            .collect(),
        started_unix_ms: rollout.started.unix_ms(),
        ended_unix_ms: view.ended.map_or(0, Timestamp::unix_ms),
        started_by: rollout.by.clone(),
        ended: rollout.is_over(),
        waits_for: String::new(),
        ahead: 0,
    }
}

fn rollout_host(host: &HostView<'_>) -> pb::RolloutHost {
    pb::RolloutHost {
        agent: host.agent.to_string(),
        wave: u32::try_from(host.wave + 1).unwrap_or(u32::MAX),
        state: host.state.to_owned(),
        detail: host.detail.clone(),
        running_version: host.running.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}

pub(super) fn status(view: &StatusView<'_>) -> pb::ApplicationStatus {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let rollout = view.rollout.as_ref();
    let led = || view.hosts.iter().filter(|host| !host.stands_by);
    pb::ApplicationStatus {
        application: view.application.to_string(),
        environment: view.environment.to_string(),
        stable_version: view.stable.map(ToString::to_string).unwrap_or_default(),
        hosts: count(led().count()),
        healthy: count(led().filter(|host| host.is_healthy).count()),
        host_states: view.hosts.iter().map(host_status).collect(),
        rollout: rollout.map(|view| view.rollout.id.to_string()).unwrap_or_default(),
        rollout_state: rollout.map(|view| view.state.to_owned()).unwrap_or_default(),
        rollout_why: rollout.map(|view| view.why.clone()).unwrap_or_default(),
        queue: view.queue.iter().map(next).collect(),
        group: view.led.map(group).unwrap_or_default(),
    }
}

fn group(led: &Led) -> String {
    format!("{}={}", led.label, led.group.as_deref().unwrap_or("-"))
}

fn host_status(host: &HostStatus) -> pb::HostStatus {
    pb::HostStatus {
        agent: host.agent.to_string(),
        presence: host.presence.to_owned(),
        version: host.version.as_ref().map(ToString::to_string).unwrap_or_default(),
        phase: host.phase.to_owned(),
        health: host.health.to_owned(),
        detail: host.detail.clone(),
        restarts: host.restarts,
        stands_by: host.stands_by,
    }
}
