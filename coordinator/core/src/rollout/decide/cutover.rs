//! The cutover: clients of all hosts are led to the release that runs beside what serves.
//!
//! Strictly it takes two phases, as any decision that several must make together. All gates hold
//! what is new while what is under way ends; one that hears nothing more goes back to the old
//! release by itself, which is safe, as nobody switches before all are armed. When all have
//! nothing under way they are armed: from then on they hold until they are told, whatever happens.
//! When all are armed the switch is decided, stored, and told. So no gate gives a request to the
//! old release after another gave one to the new one. What it costs: a gate that is out of reach
//! between being armed and being told answers 503 to whoever waits for too long, as it cannot know
//! which of the two is right.

use std::time::Duration;

use cutover_common::{
    AgentName, HoldState, Report, Timestamp, duration_text, manifest::CutoverMode, planted,
};

use super::{Decision, Scene, forward, stage};
use crate::{
    event::Change,
    fleet::Presence,
    rollout::{Cutover, CutoverPhase, HostState, Rollout, Waiting, story::names},
};

/// How often it is tried before a person is asked.
const ATTEMPTS_MAX: u32 = 3;

/// How long clients are left alone between two attempts: those that waited have their answers.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Takes the hosts of `wave` over.
pub(super) fn cutting_over(
    rollout: &Rollout,
    scene: Scene<'_>,
    wave: usize,
    step: usize,
) -> Option<Decision> {
    if let Some(decision) = alone(rollout, scene, wave) {
        return Some(decision);
    }
    let agents = stage::of_wave(rollout, wave, |host| host.state == HostState::Staged);
    if agents.is_empty() {
        // They were told, and say that they have done it as after any other switch.
        return forward::starting(rollout, scene, wave, step);
    }
    if let Some(behind) = stage::behind(rollout, scene, wave) {
        return Some(behind);
    }
    let how = rollout.spec.blue_green.as_ref();
    if how.is_some_and(|how| how.cutover == CutoverMode::Relaxed) {
        return Some(
            contact(rollout, scene, &agents).unwrap_or_else(|| flip(rollout, scene, agents)),
        );
    }
    Some(match rollout.cutover {
        None => {
            contact(rollout, scene, &agents).unwrap_or_else(|| move_to(rollout, scene, CutoverPhase::Hold))
        }
        Some(Cutover { phase: CutoverPhase::Release, since, attempt }) => {
            let again = since + RETRY_AFTER;
            if planted!(CutoverTriedForEver: false; attempt >= ATTEMPTS_MAX) {
                return Some(Decision::record(Change::Held { why: failed(rollout, scene, &agents) }));
            }
            if scene.now < again {
                let phase = CutoverPhase::Release;
                return Some(Decision::Wait(Waiting::ForCutover { phase, agents, deadline: again }));
            }
            contact(rollout, scene, &agents).unwrap_or_else(|| move_to(rollout, scene, CutoverPhase::Hold))
        }
        Some(Cutover { phase: CutoverPhase::Hold, since, .. }) => {
            held(rollout, scene, agents, since).unwrap_or_else(|| {
                planted!(
                    NotArmed: flip(rollout, scene, stage::of_wave(rollout, wave, |host| host.state == HostState::Staged));
                    move_to(rollout, scene, CutoverPhase::Arm)
                )
            })
        }
        Some(Cutover { phase: CutoverPhase::Arm, since, .. }) => {
            let all = agents.clone();
            held(rollout, scene, agents, since).unwrap_or_else(|| flip(rollout, scene, all))
        }
    })
}

/// Hosts on which nothing served have the release alone: they are done when it serves.
fn alone(rollout: &Rollout, scene: Scene<'_>, wave: usize) -> Option<Decision> {
    let staged = stage::of_wave(rollout, wave, |host| host.state == HostState::Staged);
    let agent = staged.into_iter().find(|agent| {
        let slot = scene.slot_of_goal(rollout, agent, &rollout.to);
        scene.wanted(rollout, agent).beside().is_none()
            && slot.is_some_and(cutover_common::SlotReport::has_settled)
    })?;
    Some(Decision::record(Change::HostUpdated { agent }))
}

/// Waits for all of `agents` that hold or are armed as their newest goal says, with nothing under
/// way; lets go of all when one of them does not, or it takes too long. None: all do.
fn held(
    rollout: &Rollout,
    scene: Scene<'_>,
    agents: Vec<AgentName>,
    since: Timestamp,
) -> Option<Decision> {
    let participants: Vec<AgentName> = agents
        .into_iter()
        .filter(|agent| scene.wanted(rollout, agent).beside().is_some())
        .collect();
    let said = |agent: &AgentName| scene.report_of_goal(rollout, agent).map(|report| report.hold);
    let open: Vec<AgentName> = participants
        .iter()
        .filter(|agent| said(agent) != Some(HoldState::Drained))
        .cloned()
        .collect();
    if open.is_empty() {
        return None;
    }
    let phase = rollout.cutover.map_or(CutoverPhase::Hold, |cutover| cutover.phase);
    let deadline = since + rollout.spec.hold_limits().lasts();
    let is_lost = |agent: &&AgentName| scene.fleet.presence(agent) != Presence::Live;
    // Whoever is told to hold has the goal before its gate holds. It is armed while it holds.
    let has_let_go =
        |agent: &&AgentName| phase == CutoverPhase::Arm && said(agent) == Some(HoldState::Open);
    let is_over = scene.now >= deadline
        || participants.iter().any(|agent| is_lost(&agent) || has_let_go(&agent));
    if is_over {
        return Some(move_to(rollout, scene, CutoverPhase::Release));
    }
    Some(Decision::Wait(Waiting::ForCutover { phase, agents: open, deadline }))
}

/// Tells all gates that take part.
pub(super) fn move_to(rollout: &Rollout, scene: Scene<'_>, phase: CutoverPhase) -> Decision {
    let mut after = rollout.clone();
    let attempt = rollout.cutover.map_or(0, |cutover| cutover.attempt);
    // How gates are told does not depend on since when.
    after.cutover = Some(Cutover { phase, since: scene.now, attempt });
    let agents: Vec<AgentName> = rollout
        .hosts_where(|host| host.state == HostState::Staged)
        .into_iter()
        .filter(|agent| scene.wanted(rollout, agent).beside().is_some())
        .collect();
    let goals = stage::goals(scene, rollout, &agents, |agent, held| after.stage(agent, held));
    Decision::Record { change: Change::CutoverMoved { phase }, goals }
}

fn flip(rollout: &Rollout, scene: Scene<'_>, agents: Vec<AgentName>) -> Decision {
    let goals = stage::goals(scene, rollout, &agents, |agent, held| rollout.forward(agent, held));
    Decision::Record { change: Change::HostsFlipped { agents }, goals }
}

/// Waits until all of `agents` are there: a gate that cannot be told would lead to the old release.
fn contact(rollout: &Rollout, scene: Scene<'_>, agents: &[AgentName]) -> Option<Decision> {
    forward::out_of_contact(rollout, scene, agents, rollout.standstill())
}

/// Says why it could not be made.
fn failed(rollout: &Rollout, scene: Scene<'_>, agents: &[AgentName]) -> String {
    let within = duration_text::print(rollout.spec.hold_limits().lasts());
    let lost: Vec<AgentName> = agents
        .iter()
        .filter(|agent| scene.fleet.presence(agent) != Presence::Live)
        .cloned()
        .collect();
    let details: Vec<String> = agents
        .iter()
        .filter_map(|agent| {
            let report: &Report = scene.report_of_goal(rollout, agent)?;
            let leads = scene.wanted(rollout, agent).leads().map(|(slot, _)| slot)?;
            let detail = &report.slots.of(leads).detail;
            (!detail.is_empty()).then(|| format!("{agent}: {detail}"))
        })
        .take(3)
        .collect();
    let because = if !lost.is_empty() {
        format!("{} cannot be reached", names(&lost))
    } else if details.is_empty() {
        format!("something was still under way at a gate after {within}")
    } else {
        details.join("; ")
    };
    format!(
        "clients could not be led to {} on all hosts at one moment, {ATTEMPTS_MAX} times: \
         {because}; all of them get the old release",
        rollout.to
    )
}
