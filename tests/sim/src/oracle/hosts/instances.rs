//! What is done to instances: begun once, stopped for a reason, known for what they are.

use std::collections::BTreeMap;

use cutover_agent_core::{Agent, Event, Life, Step};
use cutover_common::{
    ApplicationName, HookKind, InstanceEvidence, InstanceId, Release, Sha256, Slot, SlotGoal,
};

use super::super::Violation;
use crate::world::{Host, World};

/// What became of one instance.
#[derive(Clone, Copy, Debug, Default)]
struct Track {
    has_begun: bool,
    before_stop: u32,
    after_stop: u32,
    stop: Stop,
}

/// Whether a goal wanted it gone.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Stop {
    #[default]
    No,
    Decided,
    Durable,
}

/// All instances of one host.
#[derive(Debug, Default)]
pub(super) struct Instances {
    tracks: BTreeMap<InstanceId, Track>,
    /// Stops that are not durable.
    decided: Vec<InstanceId>,
}

fn wrong(promise: &'static str, host: &Host, what: &str) -> Violation {
    Violation::new(promise, format!("{}: {what}", host.name))
}

/// Returns what a goal says of a slot, in words.
fn wanted(goal: &SlotGoal) -> String {
    match goal {
        SlotGoal::Absent => "nothing".to_owned(),
        SlotGoal::Prepared(release) => format!("{} on disk", release.name.version),
        SlotGoal::Running(release) => format!("{} running", release.name.version),
    }
}

impl Instances {
    /// What was decided and not stored when the agent ended, was not decided.
    pub(super) fn started(&mut self, core: &Agent) {
        for instance in std::mem::take(&mut self.decided) {
            // Unless the write outlived its writer.
            let remembered = core.remembered().applications.values();
            let is_stopping = remembered.flat_map(|it| it.slots.iter()).any(|(_, slot)| {
                slot.instance.as_ref().is_some_and(|it| {
                    it.id == instance
                        && matches!(it.life, Life::Stopping { .. } | Life::Stopped { .. })
                })
            });
            let track = self.tracks.entry(instance).or_default();
            track.stop = if is_stopping { Stop::Durable } else { Stop::No };
        }
    }

    /// A2, A7: what is to be stopped, the goal that was accepted does not want to run, and what
    /// is to come instead is on disk.
    pub(super) fn stepped(
        &mut self,
        world: &World,
        host: &Host,
        step: &Step,
        core: &Agent,
    ) -> Result<bool, Violation> {
        let mut disrupts = false;
        for event in &step.events {
            match event {
                Event::StopStarted { application, slot, instance } => {
                    // Behind the gate the disruption is that its traffic went away.
                    disrupts |= !is_behind_gate(world, application);
                    self.decided.push(*instance);
                    self.tracks.entry(*instance).or_default().stop = Stop::Decided;
                    may_end(host, core, (application, *slot), *instance)?;
                }
                // Without a stop before it: nothing is started in the place of what ended.
                Event::StopDone { application, slot, instance } => {
                    let stop = self.tracks.get(instance).map_or(Stop::No, |it| it.stop);
                    if stop == Stop::No {
                        disrupts |= !is_behind_gate(world, application);
                        may_end(host, core, (application, *slot), *instance)?;
                    }
                }
                Event::Started { evidence, .. } => is_truth(host, evidence)?,
                Event::Summarised(_)
                | Event::CoordinatorBound(_)
                | Event::SplitBrainSeen { .. }
                | Event::CoordinatorForgotten
                | Event::AssignmentAccepted(_)
                | Event::EdgeRouted(_)
                | Event::EdgeArmed { .. }
                | Event::TermRaised { .. }
                | Event::Prepared { .. }
                | Event::Forgotten { .. }
                | Event::Shifted { .. }
                | Event::HoldBegun { .. }
                | Event::HoldArmed { .. }
                | Event::HoldOver { .. }
                | Event::StartStarted { .. }
                | Event::StartFailed { .. }
                | Event::Exited { .. }
                | Event::OutageMeasured { .. }
                | Event::HookBegun { .. }
                | Event::HookOver { .. }
                | Event::AfterStopStarted { .. }
                | Event::HookEnded { .. } => {}
            }
        }
        Ok(disrupts)
    }

    /// What was decided is durable.
    pub(super) fn stored(&mut self) {
        for instance in self.decided.drain(..) {
            self.tracks.entry(instance).or_default().stop = Stop::Durable;
        }
    }

    /// E1, E2: a start is asked for an instance of which there was no process, of a release that
    /// is whole on disk.
    pub(super) fn start(
        &self,
        world: &World,
        host: &Host,
        (instance, slot): (InstanceId, Slot),
        release: &Release,
    ) -> Result<(), Violation> {
        let name = &release.name;
        if self.tracks.get(&instance).is_some_and(|track| track.has_begun) {
            let what = format!("{name} is to be started as an instance that had a process");
            return Err(wrong("E1", host, &what));
        }
        if !host.releases.contains(&(name.application.clone(), release.digest)) {
            let what = format!("{name} is to be started and is not on disk");
            return Err(wrong("E2", host, &what));
        }
        alone(world, host, (&name.application, release.digest, slot), instance)
    }

    /// E1: one process for an instance, one instance for an application.
    pub(super) fn began(
        &mut self,
        world: &World,
        host: &Host,
        instance: InstanceId,
    ) -> Result<(), Violation> {
        let track = self.tracks.entry(instance).or_default();
        if std::mem::replace(&mut track.has_begun, true) {
            return Err(wrong("E1", host, "an instance has begun for the second time"));
        }
        match host.kernel.processes.get(&instance) {
            Some(process) => {
                let it = (&process.application, process.digest, process.slot);
                alone(world, host, it, instance)
            }
            None => Ok(()),
        }
    }

    /// E3: the hooks of a stop run once at the most, across crashes.
    pub(super) fn hook(
        &mut self,
        host: &Host,
        (kind, instance): (HookKind, InstanceId),
        release: &Release,
    ) -> Result<(), Violation> {
        let track = self.tracks.entry(instance).or_default();
        let is_after = kind == HookKind::AfterStop;
        let runs = if is_after { &mut track.after_stop } else { &mut track.before_stop };
        *runs += 1;
        if *runs > 1 {
            let what = format!("{kind} of {} runs for the second time", release.name);
            return Err(wrong("E3", host, &what));
        }
        let process = host.kernel.processes.get(&instance);
        if is_after && process.is_some_and(|process| process.is_alive()) {
            let what = format!("{kind} of {} runs before it is gone", release.name);
            return Err(wrong("E9", host, &what));
        }
        self.stop(host, instance, release)
    }

    /// A2, A7: only what a goal wanted gone is stopped, and the reason is durable before it is.
    pub(super) fn stop(
        &self,
        host: &Host,
        instance: InstanceId,
        release: &Release,
    ) -> Result<(), Violation> {
        let stop = self.tracks.get(&instance).map_or(Stop::No, |track| track.stop);
        if stop == Stop::Durable {
            return Ok(());
        }
        let what = format!("{} is stopped, and that it is to be is {stop:?}", release.name);
        Err(wrong("A2", host, &what))
    }
}

/// E1, E6: no other process of the application is there, nor a child of one.
fn alone(
    world: &World,
    host: &Host,
    (application, content, slot): (&ApplicationName, Sha256, Slot),
    instance: InstanceId,
) -> Result<(), Violation> {
    let boot = host.kernel.boot_id();
    let spec = world.script.applications.iter().find(|it| it.name == application.as_str());
    let is_beside = spec.and_then(|it| it.gate).is_some_and(|gate| !gate.in_place);
    let other = host.kernel.processes.values().find(|process| {
        let has_child = process.child_until.is_some_and(|until| until > world.now)
            && process.evidence.boot_id == boot;
        process.instance != instance
            && process.application == *application
            // The same one stands in the other place while it is restarted.
            && !(is_beside && (process.digest != content || process.slot != slot))
            && (process.is_alive() || has_child)
    });
    match other {
        None => Ok(()),
        Some(other) => {
            let what =
                format!("{application} is begun while there still is one of {}", other.version);
            Err(wrong("E1", host, &what))
        }
    }
}

/// Returns whether an application stands behind the gate: all of its releases do here, or none.
fn is_behind_gate(world: &World, name: &ApplicationName) -> bool {
    let spec = world.script.applications.iter().find(|it| it.name == name.as_str());
    spec.is_some_and(|it| it.gate.is_some())
}

fn may_end(
    host: &Host,
    core: &Agent,
    (name, slot): (&ApplicationName, Slot),
    instance: InstanceId,
) -> Result<(), Violation> {
    let Some(application) = core.remembered().applications.get(name) else {
        return Err(wrong("A2", host, "an application is stopped that has no goal"));
    };
    // One step can know this one stopped and begin the next in its slot.
    let inside = application.slots.of(slot).instance.as_ref().filter(|it| it.id == instance);
    let runs = inside.map(|it| (it.release.digest, &it.release.name.version));
    let process = host.kernel.processes.get(&instance);
    let began = process.map(|process| (process.digest, &process.version));
    let Some((content, version)) = runs.or(began) else { return Ok(()) };
    // With another config it is begun anew.
    let is_it = |release: &Release| {
        let wanted = &release.name.version;
        let is_configured_anew = wanted.as_pushed() == version.as_pushed() && wanted != version;
        release.digest == content && !is_configured_anew
    };
    let goal = application.goal(slot);
    if matches!(goal, SlotGoal::Running(release) if is_it(release)) {
        let what = format!("{name} in {slot} is stopped, and the goal is {}", wanted(goal));
        return Err(wrong("A2", host, &what));
    }
    for (_, goal) in application.assignment.slots.iter() {
        if let SlotGoal::Running(next) = goal
            && !host.releases.contains(&(name.clone(), next.digest))
        {
            let what = format!("{name} is stopped before {} is on disk", next.name.version);
            return Err(wrong("E2", host, &what));
        }
    }
    Ok(())
}

/// A8: what is said of a process is true of this very process, by boot and start.
pub(super) fn is_truth(host: &Host, said: &InstanceEvidence) -> Result<(), Violation> {
    match host.kernel.processes.get(&said.instance) {
        Some(process) if process.evidence == *said => Ok(()),
        Some(process) => {
            let what = format!("it says {said:?}, and the kernel {:?}", process.evidence);
            Err(wrong("A8", host, &what))
        }
        None => Err(wrong("A8", host, &format!("it says {said:?}, of which there is no record"))),
    }
}
