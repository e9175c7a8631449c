//! Traffic: which slot of an application the gate gives what is new, and when that changes.
//!
//! Taking traffic from an instance that serves is the disruptive moment of a swap: it needs a
//! fresh lease. What follows from it, the drain and the stop, is the end of something begun.

use std::sync::Arc;

use cutover_common::{Health, Release, Slot, Slots, planted};

use crate::{
    Application, Instance, Life,
    hooks::{before_the_start, before_the_traffic},
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
    pub(crate) permission: Permission,
}

/// What becomes of the traffic.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub(crate) enum TrafficDecision {
    /// All that is new goes there. None: nowhere on this host.
    Shift(Option<Slot>),
    /// It is to move, and may not yet.
    Wait(Permission),
    /// It is where it should be, or what should get it is not ready.
    Rest,
}

/// Returns what becomes of the traffic of one application.
pub(crate) fn decide(view: TrafficView<'_>) -> TrafficDecision {
    let TrafficView { application, .. } = view;
    let to = application.traffic.to;
    let Some((slot, release)) = application.wanted() else {
        return if to.is_some() { shift(view, None) } else { TrafficDecision::Rest };
    };
    if release.service.is_some() && is_held(application, slot, release) {
        if to == Some(slot) {
            return TrafficDecision::Rest;
        }
        let is_ready = match view.health.of(slot) {
            Health::Settled => true,
            // Whoever gets nothing at all is served best by what may be good.
            Health::Passing => planted!(ShiftAtFirstPass: true; !serves(view)),
            Health::Unknown => planted!(ShiftUnasked: true; false),
            Health::Failing => false,
        };
        let state = application.slots.of(slot);
        let hooks = before_the_traffic(release, state, application.fence().generation);
        let is_ready = is_ready && planted!(ShiftBeforeSmoke: true; hooks.has_passed());
        return if is_ready { shift(view, Some(slot)) } else { TrafficDecision::Rest };
    }
    match to {
        Some(old) if has_to_make_room(application, old, slot, release) => shift(view, None),
        Some(_) | None => TrafficDecision::Rest,
    }
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
        && before_the_start(release, state, is_installed, generation).has_passed();
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

/// Returns whether somebody is served at this moment.
fn serves(view: TrafficView<'_>) -> bool {
    view.application.traffic.to.is_some_and(|slot| *view.serves_well.of(slot))
}

fn shift(view: TrafficView<'_>, to: Option<Slot>) -> TrafficDecision {
    // From nowhere nothing is taken away, or what took it was permitted to.
    let needs_lease = planted!(ShiftWithoutLease: false; view.application.traffic.to.is_some());
    match view.permission {
        Permission::NoLease | Permission::SplitBrain if needs_lease => {
            TrafficDecision::Wait(view.permission)
        }
        Permission::Fresh | Permission::NoLease | Permission::SplitBrain => {
            TrafficDecision::Shift(to)
        }
    }
}

#[cfg(test)]
mod tests;
