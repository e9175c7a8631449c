//! The way forward: wave by wave, step by step.

use cutover_common::{AgentName, SlotReport, Timestamp, duration_text, planted};

use super::{
    Decision, Scene, cutover, facts, floor, groups, is_prepared, judge,
    once::{self, Turn},
    stage,
    window::Watched,
};
use crate::{
    event::Change,
    fleet::Presence,
    rollout::{
        HostState, Outcome, PlanStep, Rollout, Waiting,
        spec::Unreachable,
        story::{self, names},
    },
};

pub(super) fn advancing(
    rollout: &Rollout,
    scene: Scene<'_>,
    wave: usize,
    step: usize,
    since: Timestamp,
) -> Decision {
    let planned = rollout.plan.waves.get(wave).and_then(|wave| wave.steps.get(step));
    let waiting = match planned {
        // An empty plan, or one that ran out: over.
        None => None,
        Some(PlanStep::Prepare) => preparing(rollout, scene, wave),
        Some(PlanStep::Start) => {
            groups::vacating(rollout, scene, wave).or_else(|| starting(rollout, scene, wave, step))
        }
        Some(PlanStep::Hold(_) | PlanStep::Judge(_) | PlanStep::Approve)
            if rollout.is_promoted(wave, step) =>
        {
            None
        }
        Some(PlanStep::Stage) => stage::staging(rollout, scene, wave),
        Some(PlanStep::Shift(share)) => stage::shifting(rollout, scene, wave, *share),
        Some(PlanStep::Judge(duration)) => judge::judging(rollout, scene, wave, (since, *duration)),
        Some(PlanStep::Cutover) => match rollout.groups() {
            Some(groups) => groups::cutting_over(rollout, scene, wave, groups),
            None => cutover::cutting_over(rollout, scene, wave, step),
        },
        Some(PlanStep::Retire) if rollout.groups().is_some() => groups::retiring(rollout, scene),
        Some(PlanStep::Retire) => stage::retiring(rollout, scene, wave),
        Some(PlanStep::Hold(duration)) => holding(rollout, scene, wave, since + *duration),
        Some(PlanStep::Approve) => {
            let waiting = Waiting::ForPromotion { batch: wave + 1 };
            planted!(PauseNotAwaited: None; Some(Decision::Wait(waiting)))
        }
    };
    waiting.unwrap_or_else(|| next_step(rollout, wave, step))
}

pub(super) fn baking(rollout: &Rollout, scene: Scene<'_>, since: Timestamp) -> Decision {
    let until = planted!(BakeFromTheStart: rollout.started; since) + rollout.spec.bake;
    if scene.now < until {
        return Decision::Wait(Waiting::ForBake { until });
    }
    let watched = rollout.hosts_where(|host| host.state == HostState::Updated);
    still_healthy(rollout, scene, watched, until).unwrap_or_else(|| succeeded(rollout))
}

fn next_step(rollout: &Rollout, wave: usize, step: usize) -> Decision {
    let steps = rollout.plan.waves.get(wave).map_or(0, |wave| wave.steps.len());
    if step + 1 < steps {
        return Decision::record(Change::StepStarted { wave, step: step + 1 });
    }
    if wave + 1 < rollout.plan.waves.len() {
        return Decision::record(Change::StepStarted { wave: wave + 1, step: 0 });
    }
    let is_over = rollout.spec.blue_green.as_ref().is_some_and(|how| how.until_smoke);
    if rollout.spec.bake.is_zero() || is_over {
        return succeeded(rollout);
    }
    Decision::record(Change::BakeStarted)
}

fn succeeded(rollout: &Rollout) -> Decision {
    if rollout.spec.blue_green.as_ref().is_some_and(|how| how.until_smoke) {
        return staged(rollout);
    }
    let updated = rollout.hosts_where(|host| host.state == HostState::Updated);
    let left: Vec<AgentName> = rollout
        .hosts_where(|host| !matches!(host.state, HostState::Updated | HostState::Excluded { .. }));
    if updated.is_empty() {
        // Budgets that bear every host would call it a success that nothing runs.
        let left = if left.is_empty() { String::new() } else { format!(": {}", names(&left)) };
        let left_out = story::left_out(rollout);
        // Of those that were left out nobody asks.
        let which = if left_out.is_empty() { "" } else { " that takes part" };
        let why = format!("no host{which} runs {}{left}{left_out}", rollout.to);
        return Decision::record(Change::Held { why });
    }
    let mut why =
        format!("{} of {} hosts run {} in health", updated.len(), rollout.hosts.len(), rollout.to);
    if !left.is_empty() {
        why.push_str(&format!("; left out within the budgets: {}", names(&left)));
    }
    why.push_str(&story::left_out(rollout));
    Decision::record(Change::Ended { outcome: Outcome::Succeeded, why })
}

/// Ends a rollout that was to stop before clients notice.
fn staged(rollout: &Rollout) -> Decision {
    let staged = rollout.hosts_where(|host| match rollout.groups() {
        Some(_) => host.state == HostState::Updated,
        None => host.state == HostState::Staged,
    });
    if staged.is_empty() {
        let why = format!("no host runs {} beside what serves", rollout.to);
        return Decision::record(Change::Held { why });
    }
    let why = format!(
        "{} of {} hosts run {} beside what serves, without traffic{}",
        staged.len(),
        rollout.hosts.len(),
        rollout.to,
        story::left_out(rollout)
    );
    Decision::record(Change::Ended { outcome: Outcome::Staged, why })
}

fn pending_of(rollout: &Rollout, wave: usize) -> Vec<AgentName> {
    rollout.hosts_where(|host| host.wave == wave && host.state == HostState::Pending)
}

fn preparing(rollout: &Rollout, scene: Scene<'_>, wave: usize) -> Option<Decision> {
    let unprepared: Vec<AgentName> = pending_of(rollout, wave)
        .into_iter()
        // What was told to run it has it, or fails at its next try.
        .filter(|agent| rollout.hosts.get(agent).is_some_and(|host| host.tries == 0))
        .filter(|agent| !scene.slot_of_goal(rollout, agent, &rollout.to).is_some_and(is_prepared))
        .collect();
    if planted!(StopsBeforePrepared: true; unprepared.is_empty()) {
        return None;
    }
    let deadline = rollout.standstill();
    if let Some(decision) = out_of_contact(rollout, scene, &unprepared, deadline) {
        return Some(decision);
    }
    Some(
        standstill(rollout, scene, deadline, || {
            format!("{} did not get {} onto disk", names(&unprepared), rollout.to)
        })
        .unwrap_or(Decision::Wait(Waiting::ForPrepared { agents: unprepared, deadline })),
    )
}

pub(super) fn starting(
    rollout: &Rollout,
    scene: Scene<'_>,
    wave: usize,
    step: usize,
) -> Option<Decision> {
    let pending = stage::of_wave(rollout, wave, |host| {
        matches!(host.state, HostState::Pending | HostState::Staged)
    });
    let updating = rollout
        .hosts_where(|host| host.wave == wave && matches!(host.state, HostState::Updating { .. }));
    let watched = Watched::in_window(rollout, scene, wave, step);
    if pending.is_empty() && planted!(WaveNotAwaited: true; updating.is_empty()) {
        // The last of a window are watched to the end.
        return watched.wait(rollout, scene);
    }
    let (mut here, away): (Vec<AgentName>, Vec<AgentName>) =
        pending.into_iter().partition(|agent| scene.fleet.presence(agent) == Presence::Live);
    match once::turn(rollout, scene, wave, &here) {
        Turn::Everybody => {}
        Turn::Only(agent) => here = vec![agent],
        Turn::Not(decision) => return Some(decision),
    }
    if let Some(window) = rollout.plan.waves.get(wave).and_then(|wave| wave.window) {
        let window = usize::try_from(window).unwrap_or(usize::MAX);
        let taken = updating.len() + watched.hosts;
        here.truncate(planted!(WindowTooWide: window + 1; window).saturating_sub(taken));
        if here.is_empty() && updating.is_empty() && watched.hosts > 0 {
            return watched.wait(rollout, scene);
        }
    }
    let permitted = floor::permitted(rollout, scene, &here);
    if !permitted.agents.is_empty() {
        return Some(release(rollout, scene, permitted.agents));
    }
    let unsure: Vec<AgentName> = away.into_iter().chain(updating.iter().cloned()).collect();
    let deadline = rollout.standstill();
    if let Some(decision) = out_of_contact(rollout, scene, &unsure, deadline) {
        return Some(decision);
    }
    let waiting = if here.is_empty() {
        let judged = facts::first_judged(rollout, scene.now, &updating);
        Waiting::ForHealth { agents: updating, judged, deadline }
    } else {
        Waiting::ForFloor { short: permitted.short, agents: here, deadline }
    };
    Some(
        standstill(rollout, scene, deadline, || match &waiting {
            Waiting::ForFloor { short, agents, .. } => format!(
                "taking {} out would leave too little: {}",
                names(agents),
                floor::shortage(short, scene),
            ),
            Waiting::ForHealth { agents, .. } => {
                format!("{} did not become healthy", names(agents))
            }
            Waiting::ForPrepared { .. }
            | Waiting::ForContact { .. }
            | Waiting::ForOnce { .. }
            | Waiting::ForPromotion { .. }
            | Waiting::ForShift { .. }
            | Waiting::ForEdges { .. }
            | Waiting::ForCutover { .. }
            | Waiting::ForVerdict { .. }
            | Waiting::ForSoak { .. }
            | Waiting::ForBake { .. }
            | Waiting::ForReverted { .. }
            | Waiting::ForOperator
            | Waiting::Over => String::new(),
        })
        .unwrap_or(Decision::Wait(waiting)),
    )
}

fn holding(rollout: &Rollout, scene: Scene<'_>, wave: usize, until: Timestamp) -> Option<Decision> {
    let watched = rollout.hosts_where(|host| host.wave == wave && host.state == HostState::Updated);
    if scene.now < until && !watched.is_empty() {
        return Some(Decision::Wait(Waiting::ForSoak { until }));
    }
    still_healthy(rollout, scene, watched, until)
}

/// Waits until all of `watched` say at the end of a watch that they are healthy: no data is not
/// health (promises.md §3 row 100), and lost contact is no failure (A7).
pub(super) fn still_healthy(
    rollout: &Rollout,
    scene: Scene<'_>,
    watched: Vec<AgentName>,
    until: Timestamp,
) -> Option<Decision> {
    let unsure: Vec<AgentName> = watched
        .into_iter()
        .filter(|agent| {
            let slot = scene.slot_of_goal(rollout, agent, &rollout.to);
            planted!(
                NoDataIsHealth: slot.is_some_and(|slot| !slot.has_settled());
                !slot.is_some_and(SlotReport::has_settled)
            )
        })
        .collect();
    if unsure.is_empty() {
        return None;
    }
    let deadline = rollout.standstill().max(until + rollout.spec.progress_within);
    if let Some(decision) = out_of_contact(rollout, scene, &unsure, deadline) {
        return Some(decision);
    }
    Some(
        standstill(rollout, scene, deadline, || {
            format!("{} did not stay healthy to the end of the watch", names(&unsure))
        })
        .unwrap_or(Decision::Wait(Waiting::ForHealth {
            agents: unsure,
            judged: None,
            deadline,
        })),
    )
}

fn release(rollout: &Rollout, scene: Scene<'_>, agents: Vec<AgentName>) -> Decision {
    let goals = agents
        .iter()
        .map(|agent| {
            let held = scene.wanted(rollout, agent);
            (agent.clone(), rollout.forward(agent, &held))
        })
        .collect();
    Decision::Record { change: Change::HostsReleased { agents }, goals }
}

/// Returns whether the budget bears one more host that is out of reach.
pub(crate) fn bears_another(rollout: &Rollout) -> bool {
    let unreachable =
        rollout.hosts_where(|host| matches!(host.state, HostState::Unreachable { .. })).len();
    let unreachable = u32::try_from(unreachable).unwrap_or(u32::MAX);
    let borne = rollout.spec.max_unreachable;
    planted!(UnreachableBudgetOffByOne: unreachable <= borne; unreachable < borne)
}

/// Deals with those of `agents` that are not connected: left out within the budget, waited for
/// beyond it. Never a reason to go back (A7), unless it was said that they count as failed.
pub(super) fn out_of_contact(
    rollout: &Rollout,
    scene: Scene<'_>,
    agents: &[AgentName],
    deadline: Timestamp,
) -> Option<Decision> {
    let lost: Vec<AgentName> = agents
        .iter()
        .filter(|agent| scene.fleet.presence(agent) != Presence::Live)
        .cloned()
        .collect();
    if lost.is_empty() {
        return None;
    }
    let long_lost = lost.iter().find_map(|agent| {
        let since = scene.fleet.unreachable_since(agent, scene.now)?;
        Some((agent, since))
    });
    if let Some((agent, since)) = long_lost {
        let agent = agent.clone();
        let why = format!("not connected for {} s", scene.now.since(since).as_secs());
        let is_borne = bears_another(rollout);
        let fails = rollout.spec.unreachable == Unreachable::Fail;
        if is_borne {
            return Some(Decision::record(Change::HostUnreachable { agent, why }));
        }
        if planted!(UnreachableFailsAnyway: true; fails) {
            let why = format!("{why}, which counts as failed (unreachable is fail)");
            return Some(Decision::record(Change::HostFailed { agent, why }));
        }
    }
    standstill(rollout, scene, deadline, || {
        format!(
            "{} cannot be reached, and max_unreachable is {}",
            names(&lost),
            rollout.spec.max_unreachable
        )
    })
    .or_else(|| Some(Decision::Wait(Waiting::ForContact { agents: lost.clone(), deadline })))
}

/// Holds the rollout if nothing has gone forward until `deadline`.
pub(super) fn standstill(
    rollout: &Rollout,
    scene: Scene<'_>,
    deadline: Timestamp,
    why: impl FnOnce() -> String,
) -> Option<Decision> {
    if scene.now < deadline {
        return None;
    }
    let within = duration_text::print(rollout.spec.progress_within);
    let why = format!("nothing went forward for {within}: {}", why());
    Some(Decision::record(Change::Held { why }))
}
