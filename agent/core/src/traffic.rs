//! Traffic: which slot of an application the gate gives what is new, and when that changes.
//!
//! Taking traffic from an instance that serves is the disruptive moment of a swap: it needs a
//! fresh lease, and so do holding it and changing shares. What follows from it, the drain and the
//! stop, is the end of something begun, as is the end of a hold that nobody armed.

use std::sync::Arc;

use cutover_common::{Health, HoldLimits, Release, RouteMode, Slot, SlotGoal, Slots, planted};

use crate::{
    Application, Aside, Hold, Instance, Life, TrafficState,
    hooks::{Once, before_the_start, before_the_traffic},
    lease::Permission,
};

/// What the decision for one application depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TrafficView<'a> {
    pub(crate) application: &'a Application,
    /// Of the live instance in each slot.
    pub(crate) health: Slots<Health>,
    /// Whether the gate may lead to the instance in each slot.
    pub(crate) serves_well: Slots<bool>,
    /// Whether the time of a hold that is not armed is over.
    pub(crate) hold_is_over: bool,
    pub(crate) permission: Permission,
}

/// What becomes of the traffic.
#[derive(Clone, Debug, Eq, PartialEq)]
#[must_use]
pub(crate) enum TrafficDecision {
    /// What is new goes there, and what is held too. None: nowhere on this host.
    Shift(Option<Slot>, Aside),
    /// What is new is held.
    Hold(HoldLimits),
    /// What is held stays so until another goal comes.
    Arm(HoldLimits),
    /// A hold is over, and all goes on as before it.
    Release,
    /// It is to move, or to be held, and may not yet.
    Wait(Permission),
    /// It is where it should be, or what should get it is not ready.
    Rest,
}

/// Returns what becomes of the traffic of one application.
pub(crate) fn decide(view: TrafficView<'_>) -> TrafficDecision {
    let TrafficView { application, .. } = view;
    // The end of something begun, which needs nobody's leave. First: what is over is not armed.
    if view.hold_is_over {
        return planted!(
            HoldExpiresToTheOther: match application.traffic.to {
                Some(to) if is_there(application, to.other()) => {
                    TrafficDecision::Shift(Some(to.other()), Aside::NOTHING)
                }
                _ => TrafficDecision::Release,
            };
            TrafficDecision::Release
        );
    }
    let to = application.traffic.to;
    let Some((slot, release)) = application.wanted() else {
        return if to.is_some() { shift(view, None) } else { TrafficDecision::Rest };
    };
    if release.service.is_some() && is_held(application, slot, release) {
        if to == Some(slot) {
            return in_place(view, slot);
        }
        return if is_ready(view, slot) { shift(view, Some(slot)) } else { leave_aside(view) };
    }
    match to {
        Some(old) if has_to_make_room(application, old, slot, release) => shift(view, None),
        Some(_) | None => leave_aside(view),
    }
}

/// The traffic stays where it is, but for the share of an instance that is not wanted any more:
/// what is to come in its place waits for it to be empty.
fn leave_aside(view: TrafficView<'_>) -> TrafficDecision {
    let TrafficState { to, aside, hold, .. } = &view.application.traffic;
    let Some(to) = *to else { return TrafficDecision::Rest };
    let other = to.other();
    if aside.is_nothing() || is_there(view.application, other) || hold.limits().is_some() {
        return TrafficDecision::Rest;
    }
    with_lease(view, TrafficDecision::Shift(Some(to), Aside::NOTHING))
}

/// Returns whether what is new may be led to the instance in `slot`, which gets none of it yet.
fn is_ready(view: TrafficView<'_>, slot: Slot) -> bool {
    let is_ready = match view.health.of(slot) {
        Health::Settled => true,
        // Whoever gets nothing at all is served best by what may be good.
        Health::Passing => planted!(ShiftAtFirstPass: true; !serves(view)),
        Health::Unknown => planted!(ShiftUnasked: true; false),
        Health::Failing => false,
    };
    is_ready && planted!(ShiftBeforeSmoke: true; has_passed_hooks(view.application, slot))
}

/// Returns whether the hooks of the release that is to run in `slot` have passed.
fn has_passed_hooks(application: &Application, slot: Slot) -> bool {
    let SlotGoal::Running(release) = application.goal(slot) else { return false };
    let (state, generation) = (application.slots.of(slot), application.fence().generation);
    before_the_traffic(release, state, generation).has_passed()
}

/// Returns whether the release that is to run in `slot` is alive there.
fn is_there(application: &Application, slot: Slot) -> bool {
    match application.goal(slot) {
        SlotGoal::Running(release) => is_held(application, slot, release),
        SlotGoal::Absent | SlotGoal::Prepared(_) => false,
    }
}

/// Decides for what is led where it should be: whether it is held, and what the other slot gets.
fn in_place(view: TrafficView<'_>, slot: Slot) -> TrafficDecision {
    let traffic = &view.application.traffic;
    let generation = view.application.fence().generation;
    let mode = view.application.assignment.route.as_ref().map_or(RouteMode::Open, |it| it.mode);
    let decision = match (mode, traffic.hold) {
        (RouteMode::Hold(_), Hold::Begun { generation: of, .. })
        | (RouteMode::Armed(_), Hold::Armed { generation: of, .. })
            if of == generation =>
        {
            return TrafficDecision::Rest;
        }
        (RouteMode::Hold(_), Hold::Over { generation: of }) if planted!(HoldsAgain: false; of == generation) => {
            None
        }
        (RouteMode::Hold(limits), _) => Some(TrafficDecision::Hold(limits)),
        (RouteMode::Armed(limits), Hold::Begun { .. } | Hold::Armed { .. }) => {
            Some(TrafficDecision::Arm(limits))
        }
        // Nothing is held that could be armed: the report says so.
        (RouteMode::Armed(_), Hold::None | Hold::Over { .. }) | (RouteMode::Open, _) => None,
    };
    if let Some(decision) = decision {
        return with_lease(view, decision);
    }
    if traffic.hold.limits().is_none() && traffic.aside == aside(view, slot) {
        return TrafficDecision::Rest;
    }
    shift(view, Some(slot))
}

/// Returns what the other slot gets while the gate leads to `to`.
fn aside(view: TrafficView<'_>, to: Slot) -> Aside {
    let application = view.application;
    let Some(route) = application.assignment.route.as_ref().filter(|route| route.to == to) else {
        return Aside::NOTHING;
    };
    let other = to.other();
    // What gets some already has settled once; how it is now is the gate's affair.
    let gets_some = application.traffic.to == Some(to) && !application.traffic.aside.is_nothing();
    let has_settled = planted!(
        ShareBeforeSettled: true;
        gets_some || *view.health.of(other) == Health::Settled
    );
    let may_get_some = has_settled
        && is_there(application, other)
        && planted!(ShareBeforeSmoke: true; has_passed_hooks(application, other));
    if !may_get_some {
        return Aside::NOTHING;
    }
    Aside { share: route.share, allow: route.allow.clone() }
}

/// Returns whether an instance of `release` is alive in `slot`.
fn is_held(application: &Application, slot: Slot, release: &Arc<Release>) -> bool {
    let held = application.slots.of(slot).instance.as_ref();
    held.is_some_and(|held| held.release == *release && matches!(held.life, Life::Running { .. }))
}

/// Returns whether `release`, ready to be started, cannot be started in `slot` before the instance
/// in `old` is gone.
fn has_to_make_room(
    application: &Application,
    old: Slot,
    slot: Slot,
    release: &Arc<Release>,
) -> bool {
    let Some(instance) = &application.slots.of(old).instance else { return false };
    let state = application.slots.of(slot);
    let is_installed = application.installed.contains(&release.digest);
    let generation = application.fence().generation;
    let is_ready = state.prepared.as_ref() == Some(release)
        && before_the_start(release, state, is_installed, Once::of(application), generation)
            .has_passed();
    let is_in_the_way = if old == slot {
        instance.release != *release
    } else {
        !can_stand_beside(release, instance)
    };
    is_ready && is_in_the_way
}

/// Returns whether an instance of `release` may be started while `instance` is there.
pub(crate) fn can_stand_beside(release: &Release, instance: &Instance) -> bool {
    release.can_stand_beside(&instance.release)
}

/// Returns whether somebody is served at this moment, or will be when a hold ends by itself.
fn serves(view: TrafficView<'_>) -> bool {
    let traffic = &view.application.traffic;
    let is_armed = matches!(traffic.hold, Hold::Armed { .. });
    !is_armed && traffic.to.is_some_and(|slot| *view.serves_well.of(slot))
}

fn shift(view: TrafficView<'_>, to: Option<Slot>) -> TrafficDecision {
    let aside = to.map_or(Aside::NOTHING, |to| aside(view, to));
    with_lease(view, TrafficDecision::Shift(to, aside))
}

fn with_lease(view: TrafficView<'_>, decision: TrafficDecision) -> TrafficDecision {
    // From nowhere nothing is taken away, or what took it was permitted to.
    let needs_lease = planted!(ShiftWithoutLease: false; view.application.traffic.to.is_some());
    match view.permission {
        Permission::NoLease | Permission::SplitBrain if needs_lease => {
            TrafficDecision::Wait(view.permission)
        }
        Permission::Fresh | Permission::NoLease | Permission::SplitBrain => decision,
    }
}

#[cfg(test)]
mod tests;
