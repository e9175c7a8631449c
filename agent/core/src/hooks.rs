//! Hooks: how those stand that bring a release into service, and what that means for its slot.
//!
//! `install` and `before_start` pass before anything is disturbed, `after_start` and `smoke` before
//! the instance gets traffic and counts. Each is run once for a release in a slot; what failed or
//! was interrupted is run again only for another goal (E3).

use std::{sync::Arc, time::Duration};

use cutover_common::{Generation, HookKind, Release, SlotGoal, Timers, planted};

use crate::{HookEnd, remembered::SlotState};

/// How some hooks of a release stand.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Standing<'a> {
    /// All have passed that the release has.
    Passed,
    /// This one is to be run next.
    Due(HookKind),
    Running(HookKind),
    /// No other one is run before there is another goal.
    Stuck {
        kind: HookKind,
        end: &'a HookEnd,
    },
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
    generation: Generation,
) -> Standing<'a> {
    let is_there = |held: &crate::Instance| held.release == *release;
    if state.instance.as_ref().is_some_and(is_there) {
        return Standing::Passed;
    }
    let kinds = HookKind::BEFORE_THE_START.into_iter();
    let is_left = |kind: &HookKind| *kind != HookKind::Install || !is_installed;
    standing(kinds.filter(is_left), release, state, generation)
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
        let Some(run) = state.hook_run(release.digest, kind) else { return Standing::Due(kind) };
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
