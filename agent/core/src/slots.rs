//! Slots: the next step that brings one slot towards its goal, or what it waits for.
//!
//! Instances that can stand beside each other behind the gate do: the new one is started next to
//! the old one, which is stopped when the gate has said that nothing is under way there. Otherwise
//! the two slots exclude each other, and a release is replaced in place: the one that runs is
//! stopped, and known to be gone, before the other is started; and it is stopped only when the
//! other is ready on disk, so that as little time as possible passes in between.

use std::{collections::BTreeSet, sync::Arc};

use cutover_common::{
    Generation, Health, HookKind, Release, Sha256, Slot, SlotGoal, Timestamp, planted,
};
use uuid::Uuid;

use crate::{
    HookEnd, HookId, HookProgress, HookRun, Instance, Life,
    hooks::{Once, Standing, before_the_start, before_the_traffic},
    lease::Permission,
    prepare::{NextTry, Preparation},
    remembered::SlotState,
    traffic::can_stand_beside,
};

/// What one slot's decision depends on.
#[derive(Clone, Copy, Debug)]
pub struct SlotView<'a> {
    pub slot: Slot,
    pub goal: &'a SlotGoal,
    pub state: &'a SlotState,
    pub other_goal: &'a SlotGoal,
    pub other_state: &'a SlotState,
    /// The preparation of the goal's release, if it was begun.
    pub preparation: Option<&'a Preparation>,
    /// The contents whose install hook has passed on this host.
    pub installed: &'a BTreeSet<Sha256>,
    pub once: Once<'a>,
    /// What was asked of the world for this slot and is not answered.
    pub in_flight: Option<Work>,
    /// The same for a hook that is to bring a release into service.
    pub hook_in_flight: Option<HookWork>,
    /// Of the instance.
    pub health: Health,
    /// When an instance that ended, or a stop that failed, is tried again. None: at once.
    pub retry_at: Option<Timestamp>,
    pub traffic: SlotTraffic,
    pub generation: Generation,
    pub permission: Permission,
    pub now: Timestamp,
}

/// What the instance in a slot has to do with the gate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SlotTraffic {
    /// It stands behind none.
    Ungated,
    /// It gets what is new.
    Led,
    /// It gets nothing new, and the gate has not said that nothing is under way there.
    Leaving,
    /// Nothing is under way there. It is kept running until then.
    Warm { until: Timestamp },
    /// Nothing is under way there, and its place was taken by the other slot.
    Replaced,
    /// Nothing is under way there, and nobody else is led to: what took the traffic away has
    /// begun the stop.
    Out,
}

/// Something asked of the world for one instance.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Work {
    Adopting,
    Starting,
    RunningHook,
    EndingHook,
    Stopping,
}

/// A run of a hook that was asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HookWork {
    Running(Uuid),
    Ending(Uuid),
}

/// The next step of one slot.
#[derive(Clone, Debug, Eq, PartialEq)]
#[must_use]
pub enum Decision {
    Do(SlotStep),
    Wait(Waiting),
    /// The slot is as wanted.
    Rest,
}

/// A step that can be taken at this moment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SlotStep {
    Prepare,
    /// Start an instance of the prepared release.
    Start,
    /// Start another instance of the release whose instance ended.
    Restart,
    /// Ask once more for a start that the world never began.
    ResumeStart,
    /// Stop a running instance for good. Disruptive.
    Stop,
    /// Finish a stop that was begun.
    ResumeStop,
    /// Note that a stop is over, with the hook after it.
    FinishStop,
    /// Note that a hook was running when the agent died; it is not run again (E3).
    GiveUpHook,
    /// Run a hook that is to bring the goal's release into service.
    RunHook(HookKind),
    /// End such a hook: nobody wants to know any more, or it was running when the agent died.
    EndHook(HookId),
    /// Start nothing in the place of an instance that ended. Disruptive.
    Abandon,
    Forget,
}

/// What a slot waits for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Waiting {
    ForWork(Work),
    ForPreparation,
    /// The preparation failed; none: only another goal helps.
    ForRetry {
        detail: String,
        at: Option<Timestamp>,
    },
    /// An instance ended and is started again then.
    ForRestart {
        at: Timestamp,
    },
    /// A stop did not succeed and is tried again then.
    ForStopRetry {
        at: Timestamp,
    },
    /// A hook that is to bring the goal's release into service.
    ForHook(HookKind),
    /// Such a hook is run by another host for all, and has not passed there.
    ForOnce(HookKind),
    /// Such a hook is run here for all hosts, and needs a fresh lease.
    ForOnceLease(HookKind),
    /// Such a hook failed or was interrupted; only another goal helps.
    ForGoal {
        kind: HookKind,
        end: HookEnd,
    },
    /// The slot that is to take over is not ready on disk.
    ForReplacement {
        slot: Slot,
    },
    ForPermission(Permission),
    /// The traffic is to go elsewhere first.
    ForShift,
    /// What is under way is to end first.
    ForDrain,
    /// It is kept running until then, without traffic.
    ForWarmth {
        until: Timestamp,
    },
    /// The other slot's instance is to end first.
    ForOtherSlot,
}

/// Returns the next step of one slot, or why there is none.
pub fn decide(view: &SlotView<'_>) -> Decision {
    if let Some(step @ Decision::Do(_)) = decide_preparation(view) {
        return step;
    }
    if let Some(step @ Decision::Do(_)) = decide_hook(view) {
        return step;
    }
    if let Some(work) = view.in_flight {
        return Decision::Wait(Waiting::ForWork(work));
    }
    match &view.state.instance {
        Some(instance) => decide_occupied(view, instance),
        None => decide_vacant(view),
    }
}

/// Preparing takes nothing down, so it waits for nothing.
fn decide_preparation(view: &SlotView<'_>) -> Option<Decision> {
    let wanted = view.goal.release()?;
    if view.state.prepared.as_ref() == Some(wanted) {
        return None;
    }
    let Some(preparation) = view.preparation else { return Some(Decision::Do(SlotStep::Prepare)) };
    if preparation.is_due(view.now, view.generation) {
        return Some(Decision::Do(SlotStep::Prepare));
    }
    Some(Decision::Wait(match preparation {
        Preparation::InFlight { .. } => Waiting::ForPreparation,
        Preparation::Failed { detail, next, .. } => {
            let at = match next {
                NextTry::At(at) => Some(*at),
                NextTry::After(_) => None,
            };
            Waiting::ForRetry { detail: detail.clone(), at }
        }
    }))
}

/// Hooks that bring a release into service take nothing down, so they wait for no lease, but for one
/// that changes what all hosts share.
fn decide_hook(view: &SlotView<'_>) -> Option<Decision> {
    if let Some(run) = view.state.open_hook() {
        return Some(decide_open_hook(view, run));
    }
    let standing = match (view.goal, &view.state.instance) {
        (SlotGoal::Running(release), Some(instance)) if instance.release == *release => {
            let is_ready =
                matches!(instance.life, Life::Running { .. }) && view.health.is_passing();
            let standing = before_the_traffic(release, view.state, view.generation);
            if !is_ready && let Standing::Due(kind) = standing {
                return Some(Decision::Wait(Waiting::ForHook(kind)));
            }
            standing
        }
        (SlotGoal::Running(release) | SlotGoal::Prepared(release), _) => {
            if view.state.prepared.as_ref() != Some(release) {
                return None;
            }
            standing_before_start(view.goal, view.state, view)
        }
        (SlotGoal::Absent, _) => return None,
    };
    match standing {
        Standing::Passed => None,
        // What all hosts share is changed only while their coordinator is heard: one that has lost
        // this host may have let another run it.
        Standing::Due(kind) if is_once(view, kind) && view.permission != Permission::Fresh => {
            Some(Decision::Wait(Waiting::ForOnceLease(kind)))
        }
        Standing::Due(kind) => Some(Decision::Do(SlotStep::RunHook(kind))),
        Standing::Running(_) | Standing::Awaited(_) | Standing::Stuck { .. } => {
            Some(waits_for(standing))
        }
    }
}

fn is_once(view: &SlotView<'_>, kind: HookKind) -> bool {
    let hook = view.goal.release().and_then(|release| release.hook(kind));
    hook.is_some_and(|hook| hook.once)
}

fn waits_for(standing: Standing<'_>) -> Decision {
    match standing {
        Standing::Stuck { kind, end } => {
            Decision::Wait(Waiting::ForGoal { kind, end: end.clone() })
        }
        Standing::Running(kind) | Standing::Due(kind) => Decision::Wait(Waiting::ForHook(kind)),
        Standing::Awaited(kind) => Decision::Wait(Waiting::ForOnce(kind)),
        Standing::Passed => Decision::Rest,
    }
}

/// Ends a hook that has become pointless, and one that an earlier agent process began: what it has
/// done is not known, and it is not run again (E3).
fn decide_open_hook(view: &SlotView<'_>, run: &HookRun) -> Decision {
    let wait = Decision::Wait(Waiting::ForHook(run.kind));
    let end = Decision::Do(SlotStep::EndHook(HookId { run: run.id, kind: run.kind }));
    let is_wanted = match view.goal {
        SlotGoal::Running(release) => run.is_for(release),
        SlotGoal::Prepared(release) => run.is_for(release) && run.kind == HookKind::Install,
        SlotGoal::Absent => false,
    };
    // It is for all hosts, and would be left half done.
    let is_once = view.once.runs.iter().any(|known| known.id == run.id);
    match view.hook_in_flight {
        Some(HookWork::Running(_)) if is_wanted || is_once => wait,
        Some(HookWork::Ending(_)) => wait,
        Some(HookWork::Running(_)) | None => end,
    }
}

/// Returns how those hooks stand that pass before the goal's release is started.
fn standing_before_start<'a>(
    goal: &SlotGoal,
    state: &'a SlotState,
    view: &SlotView<'a>,
) -> Standing<'a> {
    let Some(release) = goal.release() else { return Standing::Passed };
    let is_installed = view.installed.contains(&release.digest);
    let standing = before_the_start(release, state, is_installed, view.once, view.generation);
    let is_later = match standing {
        Standing::Passed => false,
        Standing::Due(kind)
        | Standing::Running(kind)
        | Standing::Awaited(kind)
        | Standing::Stuck { kind, .. } => kind != HookKind::Install,
    };
    // What comes later is the affair of a release that is to run.
    if is_later && !goal.wants_instance() { Standing::Passed } else { standing }
}

/// Returns when the slot's failed preparation is to be tried again, if it is.
pub(crate) fn prepare_retry_at(view: &SlotView<'_>) -> Option<Timestamp> {
    match decide_preparation(view) {
        Some(Decision::Wait(Waiting::ForRetry { at, .. })) => at,
        Some(_) | None => None,
    }
}

fn decide_vacant(view: &SlotView<'_>) -> Decision {
    if let Some(decision) = decide_preparation(view) {
        return decision;
    }
    if let Some(decision) = planted!(StartsBeforeHooks: None; decide_hook(view)) {
        return decision;
    }
    match view.goal {
        SlotGoal::Absent if view.state.prepared.is_some() => Decision::Do(SlotStep::Forget),
        SlotGoal::Absent | SlotGoal::Prepared(_) => Decision::Rest,
        // A start takes nothing down and needs no lease: what it replaces went with one.
        SlotGoal::Running(release)
            if view
                .other_state
                .instance
                .as_ref()
                .is_none_or(|it| can_stand_beside(release, it)) =>
        {
            Decision::Do(SlotStep::Start)
        }
        SlotGoal::Running(_) => Decision::Wait(Waiting::ForOtherSlot),
    }
}

fn decide_occupied(view: &SlotView<'_>, instance: &Instance) -> Decision {
    match &instance.life {
        Life::Starting => Decision::Do(SlotStep::ResumeStart),
        // Once begun it is finished, lease or not: never leave a host with neither.
        Life::Stopping { hook: HookProgress::Begun } => Decision::Do(SlotStep::GiveUpHook),
        Life::Stopping { hook: HookProgress::Over { .. } } => match due(view) {
            Err(at) => Decision::Wait(Waiting::ForStopRetry { at }),
            Ok(()) => planted!(
                BegunStopWaitsForLease: with_lease(view, SlotStep::ResumeStop);
                Decision::Do(SlotStep::ResumeStop)
            ),
        },
        Life::Stopped { hook: HookProgress::Begun, .. } => Decision::Do(SlotStep::GiveUpHook),
        // What the hook says is a warning, never a veto.
        Life::Stopped { hook: HookProgress::Over { .. }, .. } => planted!(
            AfterStopVeto:
                match &instance.life {
                    Life::Stopped { hook: HookProgress::Over { warning }, .. }
                        if !warning.is_empty() => Decision::Rest,
                    _ => Decision::Do(SlotStep::FinishStop),
                };
            Decision::Do(SlotStep::FinishStop)
        ),
        Life::Running { .. } if is_wanted(view, &instance.release) => planted!(
            StopsOnDisconnect:
                if view.permission == Permission::Fresh { Decision::Rest }
                else { Decision::Do(SlotStep::Stop) };
            decide_hook(view).unwrap_or(Decision::Rest)
        ),
        Life::Running { .. } => decide_end(view, SlotStep::Stop),
        Life::Ended { .. } if is_wanted(view, &instance.release) => decide_restart(view, None),
        Life::Ended { .. } => match decide_end(view, SlotStep::Abandon) {
            step @ Decision::Do(_) => step,
            // What may not be ended yet is kept alive like anything else.
            Decision::Wait(reason) => decide_restart(view, Some(reason)),
            Decision::Rest => Decision::Rest,
        },
    }
}

/// Neither lease nor coordinator is needed: static stability (A2).
fn decide_restart(view: &SlotView<'_>, reason: Option<Waiting>) -> Decision {
    match due(view) {
        Err(at) => Decision::Wait(reason.unwrap_or(Waiting::ForRestart { at })),
        Ok(()) => planted!(
            RestartNeedsLease: with_lease(view, SlotStep::Restart);
            Decision::Do(SlotStep::Restart)
        ),
    }
}

fn due(view: &SlotView<'_>) -> Result<(), Timestamp> {
    view.retry_at.filter(|at| view.now < *at).map_or(Ok(()), Err)
}

fn is_wanted(view: &SlotView<'_>, release: &Arc<Release>) -> bool {
    matches!(view.goal, SlotGoal::Running(wanted) if wanted == release)
}

/// Returns whether the slot is to hold another release than the one of its instance.
fn is_for_another(view: &SlotView<'_>) -> bool {
    let held = view.state.instance.as_ref().map(|instance| &instance.release);
    view.goal.release().is_some_and(|wanted| Some(wanted) != held)
}

/// Decides whether an instance that is not wanted may be ended.
fn decide_end(view: &SlotView<'_>, step: SlotStep) -> Decision {
    let is_ready = |goal: &SlotGoal, state: &SlotState| match goal {
        SlotGoal::Running(release) => {
            state.prepared.as_ref() == Some(release)
                && planted!(
                    StopsBeforeHooks: true;
                    standing_before_start(goal, state, view).has_passed()
                )
        }
        SlotGoal::Absent | SlotGoal::Prepared(_) => true,
    };
    if !is_ready(view.goal, view.state) {
        return Decision::Wait(Waiting::ForReplacement { slot: view.slot });
    }
    if planted!(StopsBeforePrepared: false; !is_ready(view.other_goal, view.other_state)) {
        return Decision::Wait(Waiting::ForReplacement { slot: view.slot.other() });
    }
    match view.traffic {
        SlotTraffic::Led => planted!(
            StopsUnderTraffic: with_lease(view, step);
            Decision::Wait(Waiting::ForShift)
        ),
        SlotTraffic::Leaving => planted!(
            StopsBeforeEmpty: Decision::Do(step);
            Decision::Wait(Waiting::ForDrain)
        ),
        // Nothing is kept warm in the place of what is to be there.
        SlotTraffic::Warm { until } if planted!(WarmKeepsItsPlace: true; !is_for_another(view)) => {
            Decision::Wait(Waiting::ForWarmth { until })
        }
        SlotTraffic::Out => Decision::Do(step),
        SlotTraffic::Ungated | SlotTraffic::Replaced | SlotTraffic::Warm { .. } => {
            with_lease(view, step)
        }
    }
}

fn with_lease(view: &SlotView<'_>, step: SlotStep) -> Decision {
    match view.permission {
        Permission::Fresh => Decision::Do(step),
        Permission::NoLease | Permission::SplitBrain => {
            Decision::Wait(Waiting::ForPermission(view.permission))
        }
    }
}

#[cfg(test)]
mod tests;
