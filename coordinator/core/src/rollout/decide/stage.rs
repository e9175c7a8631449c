//! Steps beside what serves: start there, get a share of the traffic, stop what was replaced.

use cutover_common::{
    AgentName, Health, Permille, Phase, SlotReport, Timestamp, Traffic, Version, planted,
};

use super::{
    Decision, NewGoals, Scene, facts, forward,
    once::{self, Turn},
};
use crate::{
    event::Change,
    fleet::{Presence, Wanted},
    rollout::{Host, HostState, Rollout, Waiting, story::names},
};

/// Starts the release beside what serves on each host of a wave.
pub(super) fn staging(rollout: &Rollout, scene: Scene<'_>, wave: usize) -> Option<Decision> {
    let pending = of_wave(rollout, wave, |host| host.state == HostState::Pending);
    let (mut here, away): (Vec<AgentName>, Vec<AgentName>) =
        pending.into_iter().partition(|agent| scene.fleet.presence(agent) == Presence::Live);
    let stages = |host: &Host| matches!(host.state, HostState::Staging { .. });
    if !here.is_empty() || !of_wave(rollout, wave, stages).is_empty() {
        match once::turn(rollout, scene, wave, &here) {
            Turn::Everybody => {}
            Turn::Only(agent) => here = vec![agent],
            Turn::Not(decision) => return Some(decision),
        }
    }
    if !here.is_empty() {
        // It takes nothing from anybody, so that all begin at once.
        let goals = goals(scene, rollout, &here, |_, held| {
            held.staged(&rollout.to, Permille::NONE, rollout.allow())
        });
        return Some(Decision::Record { change: Change::HostsStaged { agents: here }, goals });
    }
    if let Some(behind) = behind(rollout, scene, wave) {
        return Some(behind);
    }
    let staging = of_wave(rollout, wave, stages);
    let unsure: Vec<AgentName> = away.into_iter().chain(staging.iter().cloned()).collect();
    if unsure.is_empty() {
        return None;
    }
    let deadline = rollout.standstill();
    if let Some(decision) = forward::out_of_contact(rollout, scene, &unsure, deadline) {
        return Some(decision);
    }
    let judged = facts::first_judged(rollout, scene.now, &staging);
    Some(
        forward::standstill(rollout, scene, deadline, || {
            format!("{} did not become healthy beside what serves", names(&staging))
        })
        .unwrap_or(Decision::Wait(Waiting::ForHealth {
            agents: staging,
            judged,
            deadline,
        })),
    )
}

/// Gives the release another share of the traffic on each host of a wave.
pub(super) fn shifting(
    rollout: &Rollout,
    scene: Scene<'_>,
    wave: usize,
    share: Permille,
) -> Option<Decision> {
    let staged = |host: &Host| host.state == HostState::Staged;
    let others = of_wave(rollout, wave, |host| staged(host) && host.share != share);
    if !others.is_empty() {
        let told = planted!(ShiftsTooMuch: share.rest().max(share); share);
        let goals = goals(scene, rollout, &others, |_, held| {
            held.staged(&rollout.to, told, rollout.allow())
        });
        return Some(Decision::Record {
            change: Change::HostsShifted { agents: others, share },
            goals,
        });
    }
    let unsure: Vec<AgentName> = of_wave(rollout, wave, staged)
        .into_iter()
        .filter(|agent| !gets_traffic(rollout, scene, agent))
        .collect();
    if unsure.is_empty() {
        return None;
    }
    let deadline = rollout.standstill();
    if let Some(decision) = forward::out_of_contact(rollout, scene, &unsure, deadline) {
        return Some(decision);
    }
    Some(
        forward::standstill(rollout, scene, deadline, || {
            format!("{} did not give {} its traffic", names(&unsure), rollout.to)
        })
        .unwrap_or(Decision::Wait(Waiting::ForShift { agents: unsure, deadline })),
    )
}

/// Stops what was replaced, and still runs beside what replaced it.
pub(super) fn retiring(rollout: &Rollout, scene: Scene<'_>, wave: usize) -> Option<Decision> {
    let both = of_wave(rollout, wave, |host| host.state == HostState::Updated)
        .into_iter()
        .filter(|agent| scene.wanted(rollout, agent).beside().is_some())
        .collect::<Vec<_>>();
    if both.is_empty() {
        return None;
    }
    let goals = goals(scene, rollout, &both, |_, held| held.running(&rollout.to));
    Some(Decision::Record { change: Change::HostsRetired { agents: both }, goals })
}

/// Sets goals anew that are not what hosts are to have beside what serves: after a crash, or a hold
/// that somebody retried.
pub(super) fn behind(rollout: &Rollout, scene: Scene<'_>, wave: usize) -> Option<Decision> {
    let is_behind = |agent: &AgentName| {
        let held = scene.wanted(rollout, agent);
        held.beside().is_some() && rollout.stage(agent, &held) != held
    };
    let agents: Vec<AgentName> = of_wave(rollout, wave, |host| {
        matches!(host.state, HostState::Staging { .. } | HostState::Staged)
    })
    .into_iter()
    .filter(is_behind)
    .collect();
    if agents.is_empty() {
        return None;
    }
    let goals = goals(scene, rollout, &agents, |agent, held| rollout.stage(agent, held));
    Some(Decision::Record { change: Change::HostsTold { agents }, goals })
}

/// Returns the hosts of a wave that `wanted` says yes to.
pub(super) fn of_wave(
    rollout: &Rollout,
    wave: usize,
    wanted: impl Fn(&Host) -> bool,
) -> Vec<AgentName> {
    rollout.hosts_where(|host| host.wave == wave && wanted(host))
}

/// Returns what becomes of the goals of `agents`.
pub(super) fn goals(
    scene: Scene<'_>,
    rollout: &Rollout,
    agents: &[AgentName],
    become_of: impl Fn(&AgentName, &Wanted) -> Wanted,
) -> NewGoals {
    agents
        .iter()
        .map(|agent| (agent.clone(), become_of(agent, &scene.wanted(rollout, agent))))
        .collect()
}

/// Returns what is to be recorded of a host that starts the release beside what serves.
pub(super) fn staged(
    rollout: &Rollout,
    scene: Scene<'_>,
    agent: &AgentName,
    since: Timestamp,
) -> Option<Change> {
    if let Some(slot) = scene.slot_of_goal(rollout, agent, &rollout.to) {
        if has_settled_beside(slot) {
            return Some(Change::HostStaged { agent: agent.clone() });
        }
        if let Some(why) = facts::gave_up(slot) {
            return Some(Change::HostFailed { agent: agent.clone(), why });
        }
    }
    let why = facts::late(rollout, scene, agent, since, &rollout.to)?;
    Some(Change::HostFailed { agent: agent.clone(), why })
}

/// Returns whether an instance has proved itself, whether clients reach it or not.
fn has_settled_beside(slot: &SlotReport) -> bool {
    slot.phase == Phase::Running && slot.health == Health::Settled
}

/// Returns whether `agent` has said that its clients get the release as its newest goal says.
fn gets_traffic(rollout: &Rollout, scene: Scene<'_>, agent: &AgentName) -> bool {
    let to: &Version = &rollout.to;
    scene
        .slot_of_goal(rollout, agent, to)
        .is_some_and(|slot| has_settled_beside(slot) && slot.traffic != Traffic::Away)
}
