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
    Some(strictly(rollout, scene, &Hosts { rollout, scene, agents }))
}

/// Those whose gates lead clients over at one moment.
pub(super) trait Gates {
    /// Waits until all are there: a gate that cannot be told would lead to the old release.
    fn contact(&self) -> Option<Decision>;

    /// Returns those that are to hold.
    fn holding(&self) -> Vec<AgentName>;

    /// Returns what one of them says of the very hold that it was told; none if it has not heard of
    /// that.
    fn said(&self, agent: &AgentName) -> Option<HoldState>;

    /// Says what is known of why they could not.
    fn details(&self) -> Vec<String>;

    /// Leads clients over.
    fn switch(&self) -> Decision;
}

/// Has all gates hold, then arms them, then switches.
pub(super) fn strictly(rollout: &Rollout, scene: Scene<'_>, gates: &impl Gates) -> Decision {
    let hold = || move_to(rollout, scene, CutoverPhase::Hold);
    match rollout.cutover {
        None => gates.contact().unwrap_or_else(hold),
        Some(Cutover { phase: CutoverPhase::Release, since, attempt }) => {
            let again = since + RETRY_AFTER;
            if planted!(CutoverTriedForEver: false; attempt >= ATTEMPTS_MAX) {
                return Decision::record(Change::Held { why: failed(rollout, scene, gates) });
            }
            if scene.now < again {
                let (phase, agents) = (CutoverPhase::Release, gates.holding());
                return Decision::Wait(Waiting::ForCutover { phase, agents, deadline: again });
            }
            gates.contact().unwrap_or_else(hold)
        }
        Some(Cutover { phase: CutoverPhase::Hold, since, .. }) => {
            held(rollout, scene, gates, since).unwrap_or_else(|| {
                planted!(
                    NotArmed: gates.switch();
                    move_to(rollout, scene, CutoverPhase::Arm)
                )
            })
        }
        Some(Cutover { phase: CutoverPhase::Arm, since, .. }) => {
            held(rollout, scene, gates, since).unwrap_or_else(|| gates.switch())
        }
    }
}

/// The hosts of a wave on which both releases run.
struct Hosts<'a> {
    rollout: &'a Rollout,
    scene: Scene<'a>,
    agents: Vec<AgentName>,
}

impl Gates for Hosts<'_> {
    fn contact(&self) -> Option<Decision> {
        contact(self.rollout, self.scene, &self.agents)
    }

    fn holding(&self) -> Vec<AgentName> {
        let is_beside =
            |agent: &&AgentName| self.scene.wanted(self.rollout, agent).beside().is_some();
        self.agents.iter().filter(is_beside).cloned().collect()
    }

    fn said(&self, agent: &AgentName) -> Option<HoldState> {
        let report = planted!(
            ArmedUnheard: self.scene.fleet.fresh_report(agent, &self.rollout.application);
            self.scene.report_of_goal(self.rollout, agent)
        );
        report.map(|report| report.hold)
    }

    fn details(&self) -> Vec<String> {
        let detail = |agent: &AgentName| {
            let report: &Report = self.scene.report_of_goal(self.rollout, agent)?;
            let wanted = self.scene.wanted(self.rollout, agent);
            let leads = wanted.leads().map(|(slot, _)| slot)?;
            let detail = &report.slots.of(leads).detail;
            (!detail.is_empty()).then(|| format!("{agent}: {detail}"))
        };
        self.agents.iter().filter_map(detail).collect()
    }

    fn switch(&self) -> Decision {
        flip(self.rollout, self.scene, self.agents.clone())
    }
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

/// Waits for all gates that hold or are armed as they were told last, with nothing under way; lets
/// go of all when one of them does not, or it takes too long. None: all do.
fn held(
    rollout: &Rollout,
    scene: Scene<'_>,
    gates: &impl Gates,
    since: Timestamp,
) -> Option<Decision> {
    let participants = gates.holding();
    let said = |agent: &AgentName| gates.said(agent);
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

fn contact(rollout: &Rollout, scene: Scene<'_>, agents: &[AgentName]) -> Option<Decision> {
    forward::out_of_contact(rollout, scene, agents, rollout.standstill())
}

/// Says why it could not be made.
fn failed(rollout: &Rollout, scene: Scene<'_>, gates: &impl Gates) -> String {
    let within = duration_text::print(rollout.spec.hold_limits().lasts());
    let lost: Vec<AgentName> = gates
        .holding()
        .into_iter()
        .filter(|agent| scene.fleet.presence(agent) != Presence::Live)
        .collect();
    let mut details = gates.details();
    details.truncate(3);
    let because = if !lost.is_empty() {
        format!("{} cannot be reached", names(&lost))
    } else if details.is_empty() {
        format!("something was still under way at a gate after {within}")
    } else {
        details.join("; ")
    };
    format!(
        "clients could not be led to {} at all gates at one moment, {ATTEMPTS_MAX} times: \
         {because}; they get the old release",
        rollout.to
    )
}
