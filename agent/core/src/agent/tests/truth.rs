//! What is true of a world's gate and instances, whatever its agent says.

use std::collections::{BTreeMap, BTreeSet};

use cutover_common::{
    Generation, HoldState, HookKind, InstanceId, Release, Report, RouteMode, Sha256, Slot,
    Timestamp,
};

use super::world::{Gate, TIMERS, web};
use crate::{Agent, Event, GateProgram, HookEnd, Input};

#[derive(Debug, Default)]
pub(super) struct Truth {
    /// Since when each instance answers well, as often as it was asked.
    passing_since: BTreeMap<InstanceId, Timestamp>,
    /// Those that did so for long enough.
    settled: BTreeSet<InstanceId>,
    /// Where the smoke hook of a release has passed.
    smoked: BTreeSet<(Slot, Sha256)>,
    /// The goal for which the coordinator was told that all is held until it says otherwise, and
    /// that nothing is under way.
    armed: Option<Generation>,
}

impl Truth {
    pub(super) fn note_answer(&mut self, instance: InstanceId, passed: bool, now: Timestamp) {
        let since = *self.passing_since.entry(instance).or_insert(now);
        // It was well until this answer, also where that is a bad one.
        if now.since(since) >= TIMERS.healthy_for {
            self.settled.insert(instance);
        }
        if !passed {
            self.passing_since.remove(&instance);
        }
    }

    pub(super) fn note_hook(&mut self, slot: Slot, release: &Release, ended: &Input) {
        if let Input::HookEnded { hook, end: HookEnd::Passed } = ended
            && hook.kind == HookKind::Smoke
        {
            self.smoked.insert((slot, release.digest));
        }
    }

    /// The hooks of what is gone for good are run again for what comes in its place.
    pub(super) fn note_event(&mut self, event: &Event) {
        if let Event::StopDone { slot, .. } = event {
            self.smoked.retain(|(of, _)| of != slot);
        }
    }

    /// G4: drained is what the gate holds, with nothing under way.
    pub(super) fn hear(&mut self, report: &Report, agent: &Agent, gate: &Gate) {
        if report.hold != HoldState::Drained || report.application != web() {
            return;
        }
        let is_held = gate.holds() && gate.busy.is_empty();
        assert!(is_held || !gate.is_there, "G4: told as drained: {gate:?}");
        let route = agent.remembered().applications[&web()].assignment.route.as_ref();
        if route.is_some_and(|route| matches!(route.mode, RouteMode::Armed(_))) {
            self.armed = Some(report.fence.generation);
        }
    }

    /// G4: what was told of as armed goes nowhere before another goal.
    pub(super) fn require_held(&self, agent: &Agent, gate: &Gate) {
        let Some(armed) = self.armed else { return };
        if agent.remembered().applications[&web()].fence().generation == armed {
            assert_eq!(gate.leads_to(), [], "G4: it is armed");
        }
    }

    /// G5: who gets a share beside another has settled, with its hook passed. Judged when the gate is
    /// to be told: what is on its way may name an instance that has ended since.
    pub(super) fn require_settled(&self, agent: &Agent, program: &GateProgram, now: Timestamp) {
        let Some(application) = agent.remembered().applications.get(&web()) else { return };
        let Some(service) = program.services.get(&web()) else { return };
        let Some(slot) = service.to.map(Slot::other).filter(|slot| service.gives_to(*slot)) else {
            return;
        };
        let instance = application.slots.of(slot).instance.as_ref().expect("it is led to");
        let since = self.passing_since.get(&instance.id);
        let has_settled = self.settled.contains(&instance.id)
            || since.is_some_and(|since| now.since(*since) >= TIMERS.healthy_for);
        assert!(has_settled, "G5: {slot} gets a share before it has settled");
        let has_smoke = instance.release.hook(HookKind::Smoke).is_some();
        let has_passed = self.smoked.contains(&(slot, instance.release.digest));
        assert!(has_passed || !has_smoke, "G5: {slot} gets a share before its smoke hook passed");
    }
}
