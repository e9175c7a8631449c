//! The `once` hook of a release: one host runs it for all, before any other begins.
//!
//! A host is chosen when the first one may begin, so that it is the canary too. No other one is
//! told to run anything of the release before that one has said that the hook passed. It may fail,
//! which is known, and then counts as any failure of a host; where nobody knows what it has done, a
//! person decides.

use cutover_common::{
    AgentName, OncePart, OnceReport, OnceStand, Release, ReleaseRef, SlotReport, Version, planted,
};

use super::{Decision, Scene, forward};
use crate::{
    coordinator::StoredRelease,
    event::Change,
    fleet::{Fresh, Presence},
    once::{Once, OnceStep, Stand, Unclear},
    rollout::{HostState, Rollout, State, Waiting, story},
};

/// Who of those that wait may begin.
#[derive(Debug)]
pub(super) enum Turn {
    Everybody,
    /// This one, which runs the hook, and no other.
    Only(AgentName),
    /// Nobody, and this is to be done.
    Not(Decision),
}

impl Scene<'_> {
    fn release_of(&self, rollout: &Rollout) -> Option<&Release> {
        let (application, version) = (rollout.application.clone(), rollout.to.clone());
        self.releases.get(&ReleaseRef { application, version }).map(|stored| &*stored.release)
    }

    /// Returns whether the release of `rollout` has a `once` hook that has not passed in its
    /// environment.
    pub(crate) fn awaits_once(&self, rollout: &Rollout) -> bool {
        self.release_of(rollout).is_some_and(|release| release.once_hook().is_some())
            && self.onces.of(rollout).is_none_or(|once| once.stand != Stand::Passed)
    }

    /// Returns what the host of `once` has said of it, whenever that was: what has begun or ended
    /// stays so.
    fn said(&self, rollout: &Rollout, once: &Once) -> Option<OnceStand> {
        let report = self.fleet.seen(&once.agent)?.reports.get(&rollout.application)?;
        let digest = self.release_of(rollout)?.digest;
        let is_it = |told: &&OnceReport| told.release == digest && Some(told.permit) == once.permit;
        report.once.iter().find(is_it).map(|told| told.stand)
    }

    /// Returns whether the host of `once` has said that it holds a later goal than those that permit
    /// the hook, with any config, and not that it began it: it never will. It tells of hooks of releases
    /// that its goal names, so that of others its silence says nothing.
    fn was_called_back(&self, rollout: &Rollout, once: &Once) -> bool {
        let is_it = |version: &Version| version.as_pushed() == rollout.to.as_pushed();
        let Some(goal) = self.goals.of(&once.agent, &rollout.application) else { return false };
        let mut slots = goal.wanted.slots.iter();
        let is_named = slots.any(|(_, slot)| slot.version().is_some_and(is_it));
        let is_permitted = goal.once.iter().any(|it| is_it(&it.version) && permits(Some(it.part)));
        if is_permitted || !is_named {
            return false;
        }
        let seen = self.fleet.seen(&once.agent);
        let report = seen.and_then(|seen| seen.reports.get(&rollout.application));
        self.said(rollout, once).is_none()
            && report.is_some_and(|report| report.fence.generation >= goal.generation)
    }
}

const fn permits(part: Option<OncePart>) -> bool {
    matches!(part, Some(OncePart::Run { .. }))
}

fn record(agent: &AgentName, step: OnceStep) -> Decision {
    Decision::record(Change::Once { agent: agent.clone(), step })
}

/// Returns what the host that runs the hook has said of it, or that it will not say it.
///
/// A rollout that is held takes only what needs no person: whoever sends it again is to have read of
/// the rest.
pub(super) fn word(rollout: &Rollout, scene: Scene<'_>) -> Option<Decision> {
    if !scene.awaits_once(rollout) {
        return None;
    }
    let once = scene.onces.of(rollout)?;
    once.permit?;
    let said = scene.said(rollout, once);
    // However it was taken before: that it passed is known now.
    if said == Some(OnceStand::Passed) || runs_already(rollout, scene, once) {
        return Some(record(&once.agent, OnceStep::Passed));
    }
    let is_held = matches!(rollout.state, State::Held { .. });
    if is_held || once.stand != Stand::Given {
        return None;
    }
    match said {
        Some(OnceStand::Failed) => Some(record(&once.agent, OnceStep::Failed)),
        Some(OnceStand::Interrupted) => Some(record(&once.agent, OnceStep::Interrupted)),
        Some(OnceStand::Running | OnceStand::Passed) | None => {
            let is_lost = scene.fleet.unreachable_since(&once.agent, scene.now).is_some();
            let lost = planted!(
                LostOnceGoesElsewhere: OnceStep::Freed { by: "nobody".to_owned() };
                OnceStep::Lost
            );
            let is_awaited = matches!(rollout.state, State::Advancing { .. });
            let is_due = is_awaited && is_lost && !scene.was_called_back(rollout, once);
            is_due.then(|| record(&once.agent, lost))
        }
    }
}

/// Returns whether the host runs the release in health by the goal that permits the hook, and did
/// before: what runs was started, after its hooks.
fn runs_already(rollout: &Rollout, scene: Scene<'_>, once: &Once) -> bool {
    let goal = scene.goals.of(&once.agent, &rollout.application);
    goal.is_some_and(|goal| permits(goal.once_of(&rollout.to)))
        && scene
            .slot_of_goal(rollout, &once.agent, &rollout.to)
            .is_some_and(SlotReport::has_settled)
}

/// Holds a rollout where nobody knows what the hook has done.
pub(super) fn unclear(rollout: &Rollout, scene: Scene<'_>) -> Option<Decision> {
    let once = scene.onces.of(rollout).filter(|_| scene.awaits_once(rollout))?;
    let (agent, to) = (&once.agent, &rollout.to);
    let what = match once.stand {
        Stand::Unclear(Unclear::Interrupted) => {
            format!(
                "the once hook of {to} was interrupted on {agent}, and nobody knows what it has done"
            )
        }
        Stand::Unclear(Unclear::Lost) => format!(
            "{agent} was told to run the once hook of {to} and cannot be reached, so that nobody \
             knows whether it ran"
        ),
        Stand::Unclear(Unclear::Forgotten) => format!(
            "this coordinator was restored from a backup, and {agent} may have run the once hook of \
             {to} since that was made"
        ),
        Stand::Given | Stand::Passed | Stand::Failed | Stand::Freed => return None,
    };
    Some(held(rollout, &what))
}

/// Holds a rollout whose budget bears that the hook failed: nobody else may begin.
pub(super) fn failed(rollout: &Rollout, scene: Scene<'_>) -> Option<Decision> {
    let once = scene.onces.of(rollout).filter(|_| scene.awaits_once(rollout))?;
    let is_own = once.stand == Stand::Failed && once.rollout == rollout.id;
    is_own.then(|| {
        held(rollout, &format!("the once hook of {} failed on {}", rollout.to, once.agent))
    })
}

fn held(rollout: &Rollout, what: &str) -> Decision {
    let id = rollout.id;
    let why = format!(
        "{what}; no other host begins. See what it has done, then run it again with `cutover retry \
         {id}`, or go back with `cutover rollback {id}`"
    );
    Decision::record(Change::Held { why })
}

/// Tells hosts that wait for the hook, as another one was to run it, that it has passed.
pub(super) fn behind(rollout: &Rollout, scene: Scene<'_>) -> Option<Decision> {
    let has_passed = scene.onces.of(rollout).is_some_and(|once| once.stand == Stand::Passed);
    if !has_passed {
        return None;
    }
    let waits = |agent: &AgentName| {
        let goal = scene.goals.of(agent, &rollout.application);
        goal.and_then(|goal| goal.once_of(&rollout.to)) == Some(OncePart::Awaited)
    };
    let mut agents = rollout.hosts_where(|host| {
        matches!(host.state, HostState::Updating { .. } | HostState::Staging { .. })
    });
    agents.retain(waits);
    (!agents.is_empty()).then(|| tell_again(rollout, scene, agents))
}

fn tell_again(rollout: &Rollout, scene: Scene<'_>, agents: Vec<AgentName>) -> Decision {
    let goals = agents.iter().map(|agent| (agent.clone(), scene.wanted(rollout, agent))).collect();
    Decision::Record { change: Change::HostsTold { agents }, goals }
}

/// Returns who of `here`, which are connected and have not begun, may begin in `wave`.
pub(super) fn turn(rollout: &Rollout, scene: Scene<'_>, wave: usize, here: &[AgentName]) -> Turn {
    if planted!(OnceNotAwaited: true; !scene.awaits_once(rollout)) {
        return Turn::Everybody;
    }
    // That of an earlier rollout, which was aborted or superseded, may still run.
    if let Some((agent, of)) = runs_another(rollout, scene) {
        return Turn::Not(wait_for(rollout, scene, agent, of));
    }
    if let Some(told) = told_passed(rollout, scene) {
        return Turn::Not(told);
    }
    let Some(once) = scene.onces.of(rollout) else {
        return choose(rollout, scene, wave, here);
    };
    let is_here = here.contains(&once.agent);
    let runs = scene.said(rollout, once) == Some(OnceStand::Running);
    let is_live = scene.fleet.presence(&once.agent) == Presence::Live;
    match once.stand {
        Stand::Passed => Turn::Everybody,
        Stand::Given if is_here => Turn::Only(once.agent.clone()),
        Stand::Given if once.permit.is_none() || scene.was_called_back(rollout, once) => {
            choose(rollout, scene, wave, here)
        }
        Stand::Freed if runs && is_live => Turn::Not(wait(rollout, scene, &once.agent)),
        Stand::Failed | Stand::Freed => call_back(rollout, scene, once)
            .map_or_else(|| choose(rollout, scene, wave, here), Turn::Not),
        Stand::Given | Stand::Unclear(_) => Turn::Not(wait(rollout, scene, &once.agent)),
    }
}

/// Chooses the first of the wave.
fn choose(rollout: &Rollout, scene: Scene<'_>, wave: usize, here: &[AgentName]) -> Turn {
    if let Some(forgotten) = forgotten(rollout, scene) {
        return Turn::Not(forgotten);
    }
    // What only brings hosts what runs already runs no hook that a person has not asked for.
    if rollout.converges {
        let why = format!("the once hook of {} has not passed", rollout.to);
        return Turn::Not(Decision::record(Change::Held { why }));
    }
    let planned = rollout.plan.waves.get(wave).map_or(&[][..], |wave| &wave.agents[..]);
    match planned.iter().find(|agent| here.contains(agent)) {
        Some(agent) => Turn::Not(record(agent, OnceStep::Given)),
        None => Turn::Everybody,
    }
}

/// Returns what a host says of a run of the hook of which no log tells, as after a restore from a
/// backup.
fn unexplained(rollout: &Rollout, scene: Scene<'_>, agent: &AgentName) -> Option<OnceStand> {
    let digest = scene.release_of(rollout)?.digest;
    let report = scene.fleet.seen(agent)?.reports.get(&rollout.application)?;
    let is_unexplained = |told: &&OnceReport| {
        told.release == digest && !scene.onces.explains(rollout, agent, told.permit)
    };
    report.once.iter().find(is_unexplained).map(|told| told.stand)
}

/// Returns that the hook passed on a host after the backup was made that this coordinator was restored
/// from, whatever the log says of before.
fn told_passed(rollout: &Rollout, scene: Scene<'_>) -> Option<Decision> {
    if !scene.goals.was_restored() {
        return None;
    }
    let has_passed =
        |agent: &&AgentName| unexplained(rollout, scene, agent) == Some(OnceStand::Passed);
    scene.members.iter().find(has_passed).map(|agent| record(agent, OnceStep::Passed))
}

/// Returns what hosts know of the hook and a restore from a backup has cost this coordinator. All that
/// can be asked are heard first.
fn forgotten(rollout: &Rollout, scene: Scene<'_>) -> Option<Decision> {
    if !scene.goals.was_restored() || scene.onces.of(rollout).is_some() {
        return None;
    }
    let is_unheard = |agent: &&AgentName| {
        scene.fleet.fresh(agent, &rollout.application) == Fresh::Unknown
            && scene.fleet.unreachable_since(agent, scene.now).is_none()
    };
    if let Some(agent) = scene.members.iter().find(is_unheard) {
        return Some(wait(rollout, scene, agent));
    }
    let digest = scene.release_of(rollout)?.digest;
    let runs = |agent: &AgentName| {
        let seen = scene.fleet.seen(agent);
        let report = seen.and_then(|seen| seen.reports.get(&rollout.application));
        let holds = |slot: &SlotReport| {
            let is_it = slot.release.as_ref().is_some_and(|(_, held)| *held == digest);
            is_it && slot.instance.is_some()
        };
        report.is_some_and(|report| report.slots.iter().any(|(_, slot)| holds(slot)))
            && !scene.onces.has_passed_elsewhere(rollout)
    };
    let may_have_run =
        |agent: &&AgentName| unexplained(rollout, scene, agent).is_some() || runs(agent);
    scene.members.iter().find(may_have_run).map(|agent| record(agent, OnceStep::Forgotten))
}

/// Takes the permit from the host that had it before another is chosen. One that does not hear of it
/// has been lost for so long that it begins no hook before it does.
fn call_back(rollout: &Rollout, scene: Scene<'_>, once: &Once) -> Option<Decision> {
    let host = rollout.hosts.get(&once.agent)?;
    let goal = scene.goals.of(&once.agent, &rollout.application)?;
    let has_permit = permits(goal.once_of(&rollout.to));
    let is_ours = !matches!(host.state, HostState::Excluded { .. });
    (has_permit && is_ours && goal.rollout == rollout.id)
        .then(|| tell_again(rollout, scene, vec![once.agent.clone()]))
}

/// Returns a host on which the hook of another release of the application runs at this moment, and which
/// release that is, if it is known.
fn runs_another<'a>(
    rollout: &Rollout,
    scene: Scene<'a>,
) -> Option<(&'a AgentName, Option<&'a Version>)> {
    let digest = scene.release_of(rollout)?.digest;
    let is_another = |it: &&OnceReport| it.release != digest && it.stand == OnceStand::Running;
    let (agent, hook) = scene.members.iter().find_map(|agent| {
        let report = scene.fleet.fresh_report(agent, &rollout.application)?;
        Some((agent, report.once.iter().find(is_another)?))
    })?;
    let is_it = |(name, stored): &(&ReleaseRef, &StoredRelease)| {
        name.application == rollout.application && stored.release.digest == hook.release
    };
    let known = scene.releases.iter().find(is_it);
    Some((agent, known.map(|(name, _)| &name.version)))
}

fn wait(rollout: &Rollout, scene: Scene<'_>, agent: &AgentName) -> Decision {
    wait_for(rollout, scene, agent, Some(&rollout.to))
}

fn wait_for(
    rollout: &Rollout,
    scene: Scene<'_>,
    agent: &AgentName,
    of: Option<&Version>,
) -> Decision {
    let deadline = rollout.standstill();
    forward::standstill(rollout, scene, deadline, || {
        format!("the once hook of {} did not come to its end on {agent}", story::hook_of(of))
    })
    .unwrap_or_else(|| {
        let lost = scene.fleet.unreachable_from(agent).filter(|at| *at > scene.now);
        let looks = lost.map_or(deadline, |lost| lost.min(deadline));
        let (agent, of) = (agent.clone(), of.cloned());
        Decision::Wait(Waiting::ForOnce { agent, of, looks, deadline })
    })
}
