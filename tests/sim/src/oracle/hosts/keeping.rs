//! A2, A6: what should run is running again in time, and what was begun is finished, with or
//! without a coordinator. A9: what crashes is not started in a loop.

use std::{collections::BTreeMap, time::Duration};

use cutover_agent_core::{Agent, Event, Finding, Input, Life, Step};
use cutover_common::{ApplicationName, HookKind, InstanceId, OncePart, Slot, SlotGoal};

use super::super::{Violation, rest::is_stuck};
use crate::{
    moment::Moment,
    world::{Host, World},
};

/// What an agent needs for one step that waits for nothing: a flush, a start, a look at it.
const STEP: Duration = Duration::from_secs(3);
/// The longest that a slow stop is tried again and again: a child lives for some seconds, and
/// each wait before another try is at most twice the one before.
const STRAYS: Duration = Duration::from_secs(12);
/// How soon a host is looked at again that something keeps from its work.
const AGAIN: Duration = Duration::from_millis(500);
/// The longest wait before another start.
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// How long a process must have lived for its earlier crashes not to count.
const FORGIVEN_AFTER: Duration = Duration::from_secs(600);
/// How many times in a row the agent's core may be told that it is time for something, at one
/// moment: once for each slot and probe of every application, at the most.
const TICKS_MAX: u32 = 32;

/// What the keeping of one host depends on.
#[derive(Debug, Default)]
pub(super) struct Keeping {
    /// When something last keeps the agent from its work, as far as is known.
    disturbed: Moment,
    pub(super) check_at: Option<Moment>,
    /// Since when a flush is under way.
    storing: Option<Moment>,
    slots: BTreeMap<(ApplicationName, Slot), Course>,
    /// Whether what ended was no crash: the host rebooted.
    is_reboot: bool,
    ticks: (Moment, u32),
}

/// How one slot is doing.
#[derive(Clone, Copy, Debug, Default)]
struct Course {
    /// When something last happened in it, as the agent sees it.
    since: Moment,
    /// How often in a row what ran in it has ended, before this process of the agent.
    crashes: u32,
    ended: Moment,
    died: Moment,
}

impl Keeping {
    pub(super) fn started(&mut self, now: Moment) {
        self.disturbed = self.disturbed.max(now);
        self.storing = None;
        for course in self.slots.values_mut() {
            (course.crashes, course.since) = (0, now);
        }
        self.check_at = Some(now + STEP);
    }

    /// A fault keeps the agent from its work for as long as this.
    pub(super) fn disturb(&mut self, now: Moment, for_ms: u64) {
        self.disturbed = self.disturbed.max(now + Duration::from_millis(for_ms));
    }

    pub(super) const fn storing(&mut self, now: Moment) {
        self.storing = Some(now);
    }

    pub(super) fn stored(&mut self, now: Moment) {
        if self.storing.take().is_some_and(|since| now.since(since) > AGAIN) {
            self.disturbed = self.disturbed.max(now);
        }
    }

    /// A9: an agent does not spin.
    pub(super) fn takes(
        &mut self,
        host: &Host,
        input: &Input,
        now: Moment,
    ) -> Result<(), Violation> {
        self.is_reboot = false;
        match input {
            Input::Tick if self.ticks.0 == now => {
                self.ticks.1 += 1;
                if self.ticks.1 > TICKS_MAX {
                    let what = format!("{} is woken again and again at one moment", host.name);
                    return Err(Violation::new("A9", what));
                }
            }
            Input::Tick => self.ticks = (now, 1),
            Input::Adopted { finding, .. } => {
                self.is_reboot = matches!(finding, Finding::Gone | Finding::Never);
            }
            Input::SessionOpened { .. }
            | Input::Welcomed { .. }
            | Input::Echoed { .. }
            | Input::Assigned { .. }
            | Input::EdgeRouted { .. }
            | Input::SessionEnded { .. }
            | Input::PrepareEnded { .. }
            | Input::Started { .. }
            | Input::StartFailed { .. }
            | Input::Exited { .. }
            | Input::HookEnded { .. }
            | Input::Stopped { .. }
            | Input::StopFailed { .. }
            | Input::Probed { .. }
            | Input::Checked { .. }
            | Input::GateAnswered { .. }
            | Input::GateSaid { .. }
            | Input::GateLost { .. } => {}
        }
        Ok(())
    }

    /// A9: each crash in a row makes the next start wait for longer.
    pub(super) fn stepped(
        &mut self,
        host: &Host,
        step: &Step,
        now: Moment,
    ) -> Result<(), Violation> {
        for event in &step.events {
            let Some((application, slot)) = place_of(event) else { continue };
            let course = self.slots.entry((application.clone(), slot)).or_default();
            course.since = now;
            match event {
                Event::Exited { instance, .. } if !self.is_reboot => {
                    course.crashed(host, *instance, now);
                }
                Event::StartFailed { instance, .. } => course.crashed(host, *instance, now),
                Event::StopDone { .. } => course.crashes = 0,
                Event::StartStarted { .. } => course.starts(host, application, now)?,
                _ => {}
            }
        }
        let soon = now + STEP;
        self.check_at = Some(self.check_at.map_or(soon, |at| at.min(soon)));
        Ok(())
    }

    /// A process is gone.
    pub(super) fn died(&mut self, core: Option<&Agent>, instance: InstanceId, now: Moment) {
        let Some(core) = core else { return };
        for application in core.remembered().applications.values() {
            if let Some(slot) = application.slot_of(instance) {
                let key = (application.assignment.application.clone(), slot);
                self.slots.entry(key).or_default().died = now;
            }
        }
        let soon = now + STEP;
        self.check_at = Some(self.check_at.map_or(soon, |at| at.min(soon)));
    }

    /// A2, A6: looks whether anything is late.
    pub(super) fn check(&mut self, world: &World, host: &Host) -> Result<(), Violation> {
        let now = world.now;
        self.check_at = None;
        let Some(agent) = &host.agent else { return Ok(()) };
        if host.observes_only {
            return Ok(());
        }
        let is_kept = !host.agent_runs()
            || self.storing.is_some()
            || host.refuses_processes > 0
            || host.sync_slow_us.is_some()
            || host.disk.get().is_full();
        if is_kept {
            self.disturbed = self.disturbed.max(now);
            self.check_at = Some(now + AGAIN);
            return Ok(());
        }
        let mut next: Option<Moment> = None;
        for (name, application) in &agent.core.remembered().applications {
            for slot in Slot::ALL {
                let course = self.slots.get(&(name.clone(), slot)).copied().unwrap_or_default();
                let Some((bound, what)) = due(host, application, slot, &course) else { continue };
                let since = course.since.max(course.died).max(self.disturbed);
                if now > since + bound {
                    let age = now.since(since);
                    let what = format!("{}: {name} in {slot} {what} for {age:?}", host.name);
                    return Err(Violation::new("A2", what));
                }
                let at = since + bound + Duration::from_millis(1);
                next = Some(next.map_or(at, |next| next.min(at)));
            }
        }
        self.check_at = next;
        Ok(())
    }
}

impl Course {
    fn crashed(&mut self, host: &Host, instance: InstanceId, now: Moment) {
        let process = host.kernel.processes.get(&instance);
        let lived = process.is_some_and(|process| now.since(process.started) >= FORGIVEN_AFTER);
        self.crashes = if lived { 1 } else { self.crashes + 1 };
        self.ended = now;
    }

    fn starts(
        &self,
        host: &Host,
        application: &ApplicationName,
        now: Moment,
    ) -> Result<(), Violation> {
        if self.crashes == 0 {
            return Ok(());
        }
        let doubled = Duration::from_secs(1 << (self.crashes - 1).min(6));
        // Luck makes the longest waits shorter, and all others longer.
        let wait = if doubled < BACKOFF_MAX { doubled } else { BACKOFF_MAX / 2 };
        let waited = now.since(self.ended) + Duration::from_millis(1);
        if waited >= wait {
            return Ok(());
        }
        let crashes = self.crashes;
        let what = format!(
            "{}: {application} is started {waited:?} after crash {crashes} in a row",
            host.name
        );
        Err(Violation::new("A9", what))
    }
}

/// Returns whether a once hook is to be begun first, for which a coordinator has to be there.
fn has_to_run_once(application: &cutover_agent_core::Application, slot: Slot) -> bool {
    let wanted = application.goal(slot).release().map(|release| release.digest);
    application.assignment.once.iter().any(|duty| {
        let OncePart::Run { permit } = duty.part else { return false };
        let runs = &application.once;
        let has_run = runs.iter().any(|run| run.release == duty.release && run.permit >= permit);
        Some(duty.release) == wanted && !has_run
    })
}

/// Returns what a slot is in the middle of, and how long that may take.
fn due(
    host: &Host,
    application: &cutover_agent_core::Application,
    slot: Slot,
    course: &Course,
) -> Option<(Duration, &'static str)> {
    let state = application.slots.of(slot);
    if let Some(run) = state.hooks.iter().find(|run| run.end.is_none()) {
        let releases = application.goal(slot).release().into_iter().chain(&state.prepared);
        let held = state.instance.as_ref().map(|instance| &instance.release);
        let mut hooks = releases.chain(held).filter_map(|release| release.hook(run.kind));
        let within = hooks.next().map_or(Duration::ZERO, |hook| hook.within);
        return Some((within + STEP, "runs a hook"));
    }
    if is_stuck(application, slot) || has_to_run_once(application, slot) {
        return None;
    }
    let Some(instance) = &state.instance else {
        let is_next = matches!(application.goal(slot), SlotGoal::Running(release)
            if state.prepared.as_ref() == Some(release))
            && application.slots.of(slot.other()).instance.as_ref().is_none_or(|other| {
                super::traffic::is_beside(&other.release)
                    && application
                        .goal(slot)
                        .release()
                        .is_some_and(|next| super::traffic::is_beside(next))
            });
        return is_next.then_some((STEP, "is to start and does not"));
    };
    match &instance.life {
        Life::Starting => Some((STEP, "is being started")),
        Life::Running { .. } => {
            let process = host.kernel.processes.get(&instance.id);
            let is_gone = process.is_none_or(|process| !process.is_alive());
            is_gone.then_some((STEP, "counts as running without a process"))
        }
        Life::Ended { .. } => {
            let wait = Duration::from_secs(1 << course.crashes.min(6)).min(BACKOFF_MAX);
            Some((wait + STEP, "has ended and is not started again"))
        }
        Life::Stopping { .. } => {
            let hook = instance.release.hook(HookKind::BeforeStop);
            let hook = hook.map_or(Duration::ZERO, |hook| hook.within);
            let grace = instance.release.run.stop_within;
            Some((hook + grace + STRAYS + STEP, "is being stopped"))
        }
        Life::Stopped { .. } => {
            let hook = instance.release.hook(HookKind::AfterStop);
            let hook = hook.map_or(Duration::ZERO, |hook| hook.within);
            Some((hook + STEP, "is stopped, and runs its last hook"))
        }
    }
}

fn place_of(event: &Event) -> Option<(&ApplicationName, Slot)> {
    match event {
        Event::Prepared { application, slot, .. }
        | Event::Forgotten { application, slot }
        | Event::StartStarted { application, slot, .. }
        | Event::Started { application, slot, .. }
        | Event::StartFailed { application, slot, .. }
        | Event::Exited { application, slot, .. }
        | Event::HookBegun { application, slot, .. }
        | Event::HookOver { application, slot, .. }
        | Event::StopStarted { application, slot, .. }
        | Event::AfterStopStarted { application, slot, .. }
        | Event::HookEnded { application, slot, .. }
        | Event::StopDone { application, slot, .. } => Some((application, *slot)),
        Event::Summarised(_)
        | Event::CoordinatorBound(_)
        | Event::SplitBrainSeen { .. }
        | Event::CoordinatorForgotten
        | Event::AssignmentAccepted(_)
        | Event::EdgeRouted(_)
        | Event::EdgeArmed { .. }
        | Event::Shifted { .. }
        | Event::HoldBegun { .. }
        | Event::HoldArmed { .. }
        | Event::HoldOver { .. }
        | Event::OutageMeasured { .. }
        | Event::TermRaised { .. } => None,
    }
}
