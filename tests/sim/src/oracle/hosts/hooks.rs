//! Hooks that bring a release into service: E3, each runs at most once for a goal; E9, nothing is
//! disturbed, started, served or counted before what must pass before has passed.

use std::collections::{BTreeMap, BTreeSet};

use cutover_agent_core::{Agent, Event, HookEnd, HookId, Input, Place, Step};
use cutover_common::{
    ApplicationName, Generation, Health, HookKind, Release, Report, Sha256, Slot, SlotGoal, Version,
};

use super::super::Violation;
use crate::world::Host;

/// A release in a slot, with the config that it has there.
type At = (ApplicationName, Slot, Key);

type Key = (Sha256, Version);

fn key(release: &Release) -> Key {
    (release.digest, release.name.version.clone())
}

/// The latest run of one hook.
#[derive(Clone, Copy, Debug)]
struct Run {
    hook: HookId,
    generation: Generation,
    has_passed: bool,
}

/// The hooks of one host.
#[derive(Debug, Default)]
pub(super) struct Hooks {
    runs: BTreeMap<(At, HookKind), Run>,
    /// What was started and not stopped since: its crashes run no hooks.
    started: BTreeSet<At>,
    /// What was decided to be over. An agent that dies before that is durable goes on as if it were
    /// not.
    over: Over,
}

#[derive(Debug, Default)]
struct Over {
    runs: Vec<(At, HookKind)>,
    started: Vec<At>,
}

fn wrong(promise: &'static str, host: &Host, what: &str) -> Violation {
    Violation::new(promise, format!("{}: {what}", host.name))
}

impl Hooks {
    /// Notes how a hook really ended.
    pub(super) fn takes(&mut self, input: &Input) {
        if let Input::HookEnded { hook, end: HookEnd::Passed } = input
            && let Some(run) = self.runs.values_mut().find(|run| run.hook == *hook)
        {
            run.has_passed = true;
        }
    }

    /// E3: judges a hook that is about to run.
    pub(super) fn runs(
        &mut self,
        host: &Host,
        place: &Place,
        hook: HookId,
        release: &Release,
    ) -> Result<(), Violation> {
        let at = (place.application.clone(), place.slot, key(release));
        let generation = place.fence.generation;
        let run = Run { hook, generation, has_passed: false };
        let earlier = self.runs.insert((at, hook.kind), run);
        if earlier.is_some_and(|earlier| earlier.generation >= generation) {
            let what = format!("{} of {} runs twice for one goal", hook.kind, release.name);
            return Err(wrong("E3", host, &what));
        }
        Ok(())
    }

    /// E9: judges a start.
    pub(super) fn starts(
        &mut self,
        host: &Host,
        place: &Place,
        release: &Release,
    ) -> Result<(), Violation> {
        let at = (place.application.clone(), place.slot, key(release));
        if self.started.contains(&at) {
            return Ok(());
        }
        let missing = self.missing(&at, release, &HookKind::BEFORE_THE_START);
        self.started.insert(at);
        match missing {
            None => Ok(()),
            Some(kind) => {
                let what = format!("{} is started, and its {kind} has not passed", release.name);
                Err(wrong("E9", host, &what))
            }
        }
    }

    /// E9: judges what was decided.
    pub(super) fn stepped(
        &mut self,
        host: &Host,
        step: &Step,
        core: &Agent,
    ) -> Result<(), Violation> {
        for event in &step.events {
            match event {
                Event::StopStarted { application, .. } => {
                    self.is_ready(host, core, application)?;
                }
                Event::Shifted { application, to: Some(slot), .. } => {
                    self.may_serve(host, core, application, *slot, "gets traffic")?;
                }
                Event::StopDone { application, slot, .. } => {
                    let is_here = |at: &&At| at.0 == *application && at.1 == *slot;
                    self.over.started.extend(self.started.iter().filter(is_here).cloned());
                    // What is to come into the slot may have run its own before.
                    self.forget(|at| is_here(&at), |books, at| books.started.contains(at));
                }
                Event::Prepared { application, slot, release } => {
                    let is_here = |at: &At| at.0 == *application && at.1 == *slot;
                    let is_left =
                        |books: &Self, at: &At| at.2 != key(release) && !books.started.contains(at);
                    self.forget(is_here, is_left);
                }
                Event::Forgotten { application, slot } => {
                    let is_here = |at: &At| at.0 == *application && at.1 == *slot;
                    self.forget(is_here, |_, _| true);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Notes that how hooks of some releases ended counts no more. What is installed stays so.
    fn forget(&mut self, is_here: impl Fn(&At) -> bool, is_over: impl Fn(&Self, &At) -> bool) {
        let mut over = Vec::new();
        for (at, kind) in self.runs.keys() {
            if *kind != HookKind::Install && is_here(at) && is_over(self, at) {
                over.push((at.clone(), *kind));
            }
        }
        self.over.runs.extend(over);
    }

    /// What was decided is durable.
    pub(super) fn stored(&mut self) {
        let Over { runs, started } = std::mem::take(&mut self.over);
        self.runs.retain(|key, _| !runs.contains(key));
        self.started.retain(|at| !started.contains(at));
    }

    /// An agent begins with what is durable.
    pub(super) fn begins(&mut self) {
        self.over = Over::default();
    }

    /// Nothing is stopped before what is to come instead is ready to start.
    fn is_ready(&self, host: &Host, core: &Agent, name: &ApplicationName) -> Result<(), Violation> {
        let Some(known) = core.remembered().applications.get(name) else { return Ok(()) };
        for (slot, goal) in known.assignment.slots.iter() {
            let SlotGoal::Running(release) = goal else { continue };
            let at = (name.clone(), slot, key(release));
            if self.started.contains(&at) {
                continue;
            }
            if let Some(kind) = self.missing(&at, release, &HookKind::BEFORE_THE_START) {
                let what = format!("{name} is stopped before {kind} of {} passed", release.name);
                return Err(wrong("E9", host, &what));
            }
        }
        Ok(())
    }

    fn may_serve(
        &self,
        host: &Host,
        core: &Agent,
        name: &ApplicationName,
        slot: Slot,
        what: &str,
    ) -> Result<(), Violation> {
        let known = core.remembered().applications.get(name);
        let Some(instance) = known.and_then(|known| known.slots.of(slot).instance.as_ref()) else {
            return Ok(());
        };
        let release = &instance.release;
        let at = (name.clone(), slot, key(release));
        match self.missing(&at, release, &HookKind::BEFORE_THE_TRAFFIC) {
            None => Ok(()),
            Some(kind) => {
                let what = format!("{} {what}, and its {kind} has not passed", release.name);
                Err(wrong("E9", host, &what))
            }
        }
    }

    /// E9: judges a report.
    pub(super) fn tells(
        &self,
        host: &Host,
        core: &Agent,
        report: &Report,
    ) -> Result<(), Violation> {
        for (slot, said) in report.slots.iter() {
            if said.health == Health::Settled {
                self.may_serve(host, core, &report.application, slot, "counts as settled")?;
            }
        }
        Ok(())
    }

    /// Returns the first of these hooks of a release that has not passed there.
    fn missing(&self, at: &At, release: &Release, kinds: &[HookKind]) -> Option<HookKind> {
        // What one host runs for all is looked at for all.
        let is_own = |kind: &HookKind| release.hook(*kind).is_some_and(|hook| !hook.once);
        kinds.iter().copied().filter(is_own).find(|kind| {
            let has_passed = |is_it: &dyn Fn(&At) -> bool| {
                let mut runs = self.runs.iter();
                runs.any(|((of, ran), run)| ran == kind && run.has_passed && is_it(of))
            };
            // What is installed is installed for the whole host, whatever the config.
            match kind {
                HookKind::Install => !has_passed(&|of| of.0 == at.0 && of.2.0 == at.2.0),
                HookKind::BeforeStart
                | HookKind::AfterStart
                | HookKind::Smoke
                | HookKind::BeforeStop
                | HookKind::AfterStop => !has_passed(&|of| of == at),
            }
        })
    }
}
