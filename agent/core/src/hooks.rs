//! Hooks: how those stand that bring a release into service, and what that means for its slot.
//!
//! `install` and `before_start` pass before anything is disturbed, `after_start` and `smoke` before
//! the instance gets traffic and counts. Each is run once for a release in a slot, `install` once for
//! all configs of a content; what failed or was interrupted is run again only for another goal (E3).
//!
//! A `once` hook is one that a single host runs for all. It is run here only with a permit, at most
//! once for each (E10), and while it is to pass elsewhere nothing of its release is started.

use std::{sync::Arc, time::Duration};

use cutover_common::{
    Generation, HookKind, OnceDuty, OncePart, Release, Sha256, SlotGoal, Timers, planted,
};

use crate::{Application, HookEnd, OnceRun, remembered::SlotState};

/// How some hooks of a release stand.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Standing<'a> {
    /// All have passed that the release has.
    Passed,
    /// This one is to be run next.
    Due(HookKind),
    Running(HookKind),
    /// This one is run by another host, and has not passed there.
    Awaited(HookKind),
    /// No other one is run before there is another goal.
    Stuck {
        kind: HookKind,
        end: &'a HookEnd,
    },
}

/// What this host has to do with `once` hooks, and has done.
#[derive(Clone, Copy, Debug)]
pub struct Once<'a> {
    pub duties: &'a [OnceDuty],
    pub runs: &'a [OnceRun],
}

impl<'a> Once<'a> {
    pub(crate) fn of(application: &'a Application) -> Self {
        Self { duties: &application.assignment.once, runs: &application.once }
    }

    /// Returns the permit with which the `once` hook of `release` may be begun now, if it may.
    pub(crate) fn permit(self, release: Sha256) -> Option<Generation> {
        let Some(OncePart::Run { permit }) = OnceDuty::part_in(self.duties, release) else {
            return None;
        };
        let is_used = |run: &OnceRun| {
            let may_go_again = planted!(
                OnceRunAgain: run.end == Some(HookEnd::Interrupted);
                run.permit < permit
            );
            run.end.is_none() || !may_go_again
        };
        (!self.run_of(release).is_some_and(is_used)).then_some(permit)
    }

    fn run_of(self, release: Sha256) -> Option<&'a OnceRun> {
        self.runs.iter().find(|run| run.release == release)
    }

    fn standing(self, kind: HookKind, release: Sha256) -> Standing<'a> {
        match OnceDuty::part_in(self.duties, release) {
            None => return Standing::Passed,
            Some(OncePart::Awaited) => return Standing::Awaited(kind),
            Some(OncePart::Run { .. }) => {}
        }
        if self.permit(release).is_some() {
            return Standing::Due(kind);
        }
        match self.run_of(release).map(|run| run.end.as_ref()) {
            Some(None) | None => Standing::Running(kind),
            Some(Some(HookEnd::Passed)) => Standing::Passed,
            Some(Some(end @ (HookEnd::Failed { .. } | HookEnd::Interrupted))) => {
                Standing::Stuck { kind, end }
            }
        }
    }
}

impl Standing<'_> {
    pub(crate) const fn has_passed(self) -> bool {
        matches!(self, Self::Passed)
    }
}

/// Returns how the hooks stand that pass before `release` is started in a slot. `is_installed`:
/// its install hook has passed on this host. What runs already was started.
pub(crate) fn before_the_start<'a>(
    release: &Arc<Release>,
    state: &'a SlotState,
    is_installed: bool,
    once: Once<'a>,
    generation: Generation,
) -> Standing<'a> {
    let is_there = |held: &crate::Instance| held.release == *release;
    if state.instance.as_ref().is_some_and(is_there) {
        return Standing::Passed;
    }
    let kinds = HookKind::BEFORE_THE_START.into_iter();
    let is_left = |kind: &HookKind| *kind != HookKind::Install || !is_installed;
    for kind in kinds.filter(is_left) {
        let stands = match release.hook(kind) {
            Some(hook) if hook.once => once.standing(kind, release.digest),
            Some(_) | None => standing([kind].into_iter(), release, state, generation),
        };
        if !stands.has_passed() {
            return stands;
        }
    }
    Standing::Passed
}

/// Returns how the hooks stand that pass before the instance of `release` gets traffic.
pub(crate) fn before_the_traffic<'a>(
    release: &Release,
    state: &'a SlotState,
    generation: Generation,
) -> Standing<'a> {
    standing(HookKind::BEFORE_THE_TRAFFIC.into_iter(), release, state, generation)
}

fn standing<'a>(
    kinds: impl Iterator<Item = HookKind>,
    release: &Release,
    state: &'a SlotState,
    generation: Generation,
) -> Standing<'a> {
    for kind in kinds.filter(|kind| release.hook(*kind).is_some()) {
        let Some(run) = state.hook_run(release, kind) else { return Standing::Due(kind) };
        let Some(end) = &run.end else { return Standing::Running(kind) };
        let has_passed = match end {
            HookEnd::Passed => true,
            HookEnd::Failed { .. } => planted!(FailedHookCounts: true; false),
            HookEnd::Interrupted => planted!(InterruptedHookCounts: true; false),
        };
        if has_passed {
            continue;
        }
        if planted!(FailedHookRunAgain: true; run.generation < generation) {
            return Standing::Due(kind);
        }
        return Standing::Stuck { kind, end };
    }
    Standing::Passed
}

/// Returns how long an instance of what is wanted may take from its start until it is settled and
/// its hooks have passed.
pub(crate) fn patience(timers: Timers, goal: &SlotGoal) -> Duration {
    let hooks = goal.release().map_or(Duration::ZERO, |release| release.hooks_within());
    timers.healthy_within + hooks
}

/// Says why a hook is not run again.
pub(crate) fn stuck_text(kind: HookKind, end: &HookEnd) -> String {
    let how = match end {
        HookEnd::Passed => return String::new(),
        HookEnd::Failed { detail } => format!("failed: {detail}"),
        HookEnd::Interrupted => "was interrupted".to_owned(),
    };
    format!("its {kind} hook {how}; not run again before another goal")
}
