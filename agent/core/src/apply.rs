//! Applies events to what is remembered: its only writer, live and on replay.

mod traffic;

use cutover_common::{
    ApplicationName, EdgeRevision, EdgeRoutes, Fence, Generation, HookKind, InstanceEvidence,
    InstanceId, Release, Sha256, Slot, Term, planted,
};

use crate::{
    Application, Ending, Event, HookEnd, HookProgress, HookRun, Instance, Life, OnceRun,
    Remembered,
    hooks::{Once, before_the_start},
    remembered::{SlotState, TrafficState},
    traffic::can_stand_beside,
};

/// An event that cannot have happened here: the journal is not what this agent wrote.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("event {event:?} does not fit what is remembered: {why}")]
pub struct IllegalEvent {
    event: Box<Event>,
    why: &'static str,
}

impl Remembered {
    /// Applies one event.
    ///
    /// # Errors
    ///
    /// Refuses an event that does not fit, so that a damaged journal stops the agent instead of
    /// being half believed. Nothing is changed then.
    pub(crate) fn apply(&mut self, event: &Event) -> Result<(), IllegalEvent> {
        self.try_apply(event).map_err(|why| IllegalEvent { event: Box::new(event.clone()), why })
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each event")]
    fn try_apply(&mut self, event: &Event) -> Result<(), &'static str> {
        match event {
            Event::Summarised(remembered) => {
                if *self != Self::default() {
                    return Err("a summary comes first or not at all");
                }
                *self = (**remembered).clone();
            }
            Event::CoordinatorBound(binding) => {
                let is_older = self.binding.as_ref().is_some_and(|held| binding.term < held.term);
                if planted!(LowerTermAccepted: false; is_older) {
                    return Err("terms do not decrease (F2)");
                }
                self.binding = Some(*binding);
            }
            Event::CoordinatorForgotten => {
                self.binding = None;
                self.split = None;
                for application in self.applications.values_mut() {
                    application.assignment.fence = Fence::default();
                    traffic::forget_generation(&mut application.traffic.hold);
                    for run in &mut application.once {
                        run.permit = Generation::default();
                    }
                }
                if let Some(edge) = &mut self.edge {
                    edge.revision = EdgeRevision::default();
                }
            }
            Event::EdgeRouted(routes) => {
                self.edge = Some(self.newer_routes(routes)?);
                self.edge_armed.retain(|name, number| {
                    routes.holds().any(|(held, hold)| {
                        held == *name && hold.is_armed && hold.number == *number
                    })
                });
            }
            Event::EdgeArmed { application, number } => self.arm_edge(application, *number)?,
            Event::SplitBrainSeen { term } => self.split = self.split.max(Some(*term)),
            Event::AssignmentAccepted(assignment) => {
                let known = self.applications.get_mut(&assignment.application);
                let held = known.as_ref().map_or(Fence::default(), |known| known.fence());
                require_newer(held, assignment.fence)?;
                match known {
                    Some(known) => {
                        known.assignment = (**assignment).clone();
                        known.forget_installed();
                    }
                    None => {
                        let application = Application::new((**assignment).clone());
                        self.applications.insert(assignment.application.clone(), application);
                    }
                }
            }
            Event::TermRaised { application, term } => {
                let known =
                    self.applications.get_mut(application).ok_or("the application is unknown")?;
                if *term < known.fence().term {
                    return Err("terms do not decrease (F2)");
                }
                known.assignment.fence.term = *term;
            }
            Event::Shifted { application, to, at, aside } => {
                let known =
                    self.applications.get_mut(application).ok_or("the application is unknown")?;
                traffic::shift(known, *to, *at, aside)?;
            }
            Event::HoldBegun { application, generation, limits } => {
                let known =
                    self.applications.get_mut(application).ok_or("the application is unknown")?;
                traffic::begin_hold(known, *generation, *limits)?;
            }
            Event::HoldArmed { application, generation, limits } => {
                let known =
                    self.applications.get_mut(application).ok_or("the application is unknown")?;
                traffic::arm_hold(known, *generation, *limits)?;
            }
            Event::HoldOver { application } => {
                let known =
                    self.applications.get_mut(application).ok_or("the application is unknown")?;
                traffic::end_hold(known)?;
            }
            Event::OutageMeasured { application, lasted } => {
                let known =
                    self.applications.get_mut(application).ok_or("the application is unknown")?;
                known.outage = Some(*lasted);
            }
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
            | Event::StopDone { application, slot, .. } => {
                let known =
                    self.applications.get_mut(application).ok_or("the application is unknown")?;
                apply_to_slot(known, *slot, event)?;
                known.forget_installed();
            }
        }
        Ok(())
    }
}

impl Remembered {
    fn arm_edge(&mut self, application: &ApplicationName, number: u64) -> Result<(), &'static str> {
        let is_told = self
            .edge
            .iter()
            .flat_map(EdgeRoutes::holds)
            .any(|(name, hold)| name == *application && hold.is_armed && hold.number == number);
        if !is_told {
            return Err("an edge arms what its routes say (G4)");
        }
        self.edge_armed.insert(application.clone(), number);
        Ok(())
    }

    fn newer_routes(&self, routes: &EdgeRoutes) -> Result<EdgeRoutes, &'static str> {
        let held = self.edge.as_ref().map(|held| held.revision);
        if planted!(OlderEdgeRoutesAccepted: false; held >= Some(routes.revision)) {
            return Err("revisions of an edge's routes grow (G3)");
        }
        Ok(routes.clone())
    }
}

fn require_newer(held: Fence, offered: Fence) -> Result<(), &'static str> {
    if offered.term < held.term || offered.generation <= held.generation {
        return Err("generations grow and terms do not decrease (F2)");
    }
    Ok(())
}

#[expect(clippy::too_many_lines, reason = "one arm for each event")]
fn apply_to_slot(
    application: &mut Application,
    slot: Slot,
    event: &Event,
) -> Result<(), &'static str> {
    let is_led_to = application.traffic.leads_to(slot);
    let generation = application.fence().generation;
    let state = application.slots.of_mut(slot);
    match event {
        Event::Prepared { release, .. } => {
            state.prepared = Some(release.clone());
            state.forget_hooks();
            application.touch(release.digest);
        }
        Event::Forgotten { .. } => {
            if state.instance.is_some() || state.open_hook().is_some() {
                return Err("a slot with an instance or a hook that runs is not forgotten");
            }
            *state = SlotState::default();
        }
        Event::HookBegun { id, kind, release, .. } => {
            // Only what is wanted has hooks begun.
            let wanted = application.assignment.slots.of(slot).release();
            let wanted = wanted
                .filter(|wanted| wanted.digest == *release)
                .ok_or("a hook is run for what is wanted")?;
            let is_once = wanted.hook(*kind).is_some_and(|hook| hook.once);
            let once = Once { duties: &application.assignment.once, runs: &application.once };
            let permit = once.permit(*release).filter(|_| is_once);
            if is_once && permit.is_none() {
                return Err("a once hook is run with a permit, and once for each (E10)");
            }
            let run = HookRun {
                id: *id,
                kind: *kind,
                release: *release,
                version: Some(wanted.name.version.clone()),
                generation,
                end: None,
            };
            begin_hook(state, run, wanted, is_once)?;
            if let Some(permit) = permit {
                application.begin_once(OnceRun { id: *id, release: *release, permit, end: None });
            }
        }
        Event::HookOver { id, end, .. } => {
            let open = state.hooks.iter_mut().find(|run| run.id == *id && run.end.is_none());
            let run = open.ok_or("no such hook is running")?;
            run.end = Some(end.clone());
            let (kind, release) = (run.kind, run.release);
            state.forget_hooks();
            if kind == HookKind::Install && *end == HookEnd::Passed {
                application.installed.insert(release);
            }
            if let Some(once) = application.once.iter_mut().find(|run| run.id == *id) {
                once.end = Some(end.clone());
            }
        }
        Event::StartStarted { instance, port, .. } => {
            let content = start(application, slot, *instance, *port)?;
            application.touch(content);
        }
        Event::Started { evidence, .. } => began(state, evidence)?,
        Event::StartFailed { instance, detail, .. } => {
            end(state, *instance, Ending::NotStarted, detail)?;
            application.traffic.leave_aside(slot);
        }
        Event::Exited { instance, detail, .. } => {
            end(state, *instance, Ending::Exited, detail)?;
            application.traffic.leave_aside(slot);
        }
        Event::StopStarted { instance, .. } => {
            if planted!(StopsUnderTraffic: false; is_led_to) {
                return Err("an instance that gets traffic is not stopped (G1)");
            }
            let instance = named(state, *instance)?;
            match instance.life {
                Life::Running { .. } => {}
                Life::Starting
                | Life::Stopping { .. }
                | Life::Stopped { .. }
                | Life::Ended { .. } => return Err("only a running instance is stopped"),
            }
            instance.life = Life::Stopping { hook: instance.hook_at_stop() };
            application.traffic.leave_aside(slot);
        }
        Event::HookEnded { instance, warning, .. } => {
            let instance = named(state, *instance)?;
            let (Life::Stopping { hook } | Life::Stopped { hook, .. }) = &mut instance.life else {
                return Err("no hook is running");
            };
            if *hook != HookProgress::Begun {
                return Err("the hook ended before");
            }
            *hook = HookProgress::Over { warning: warning.clone() };
        }
        Event::AfterStopStarted { instance, .. } => {
            let instance = named(state, *instance)?;
            let Life::Stopping { hook: HookProgress::Over { warning } } = &instance.life else {
                return Err("the instance was not being stopped");
            };
            let warning = warning.clone();
            instance.life = Life::Stopped { hook: HookProgress::Begun, warning };
        }
        Event::StopDone { instance, .. } => match named(state, *instance)?.life {
            Life::Stopping { .. } | Life::Stopped { .. } | Life::Ended { .. } => {
                if let Some(gone) = state.instance.take() {
                    state.forget_hooks_of(&gone.release);
                }
                application.traffic.leave_aside(slot);
                if application.traffic.to == Some(slot) {
                    let hold = application.traffic.hold.ended();
                    let since = application.traffic.since;
                    application.traffic = TrafficState { hold, since, ..TrafficState::default() };
                }
            }
            Life::Starting | Life::Running { .. } => {
                return Err("an instance is told to stop before it is gone for good");
            }
        },
        Event::Summarised(_)
        | Event::CoordinatorBound(_)
        | Event::CoordinatorForgotten
        | Event::SplitBrainSeen { .. }
        | Event::AssignmentAccepted(_)
        | Event::EdgeRouted(_)
        | Event::EdgeArmed { .. }
        | Event::Shifted { .. }
        | Event::HoldBegun { .. }
        | Event::HoldArmed { .. }
        | Event::HoldOver { .. }
        | Event::OutageMeasured { .. }
        | Event::TermRaised { .. } => return Err("it is not about a slot"),
    }
    Ok(())
}

fn begin_hook(
    state: &mut SlotState,
    run: HookRun,
    release: &Release,
    is_once: bool,
) -> Result<(), &'static str> {
    if state.open_hook().is_some() {
        return Err("a slot runs one hook at a time");
    }
    let known = state.hook_run(release, run.kind);
    if !is_once && known.is_some_and(|known| known.end == Some(HookEnd::Passed)) {
        return Err("a hook that has passed is not run again (E3)");
    }
    state.hooks.retain(|known| known.kind != run.kind || !known.is_for(release));
    state.hooks.push(run);
    Ok(())
}

fn start(
    application: &mut Application,
    slot: Slot,
    id: InstanceId,
    port: Option<u16>,
) -> Result<Sha256, &'static str> {
    let generation = application.fence().generation;
    let once = Once { duties: &application.assignment.once, runs: &application.once };
    let slots = &mut application.slots;
    let beside = slots.of(slot.other()).instance.clone();
    let state = slots.of_mut(slot);
    let (release, restarts) = match &state.instance {
        None => (state.prepared.clone().ok_or("only a prepared release is started (E2)")?, 0),
        Some(Instance { life: Life::Ended { .. }, release, restarts, .. }) => {
            (release.clone(), restarts.saturating_add(1))
        }
        Some(_) => return Err("the slot has an instance"),
    };
    let is_installed = application.installed.contains(&release.digest);
    let hooks = before_the_start(&release, state, is_installed, once, generation);
    if planted!(StartsBeforeHooks: false; !hooks.has_passed()) {
        return Err("a release is started when its hooks have passed (E9)");
    }
    if beside.is_some_and(|beside| !can_stand_beside(&release, &beside)) {
        return Err("only instances that can stand beside each other do (E1)");
    }
    if port.is_some() != release.service.is_some() {
        return Err("an instance has a port of its own if it stands behind the gate");
    }
    let content = release.digest;
    state.instance = Some(Instance { id, release, life: Life::Starting, port, restarts });
    Ok(content)
}

fn began(state: &mut SlotState, evidence: &InstanceEvidence) -> Result<(), &'static str> {
    let instance = named(state, evidence.instance)?;
    match instance.life {
        Life::Starting | Life::Running { .. } => {
            instance.life = Life::Running { evidence: evidence.clone() };
            Ok(())
        }
        Life::Stopping { .. } | Life::Stopped { .. } | Life::Ended { .. } => {
            Err("the instance was not being started")
        }
    }
}

fn end(
    state: &mut SlotState,
    id: InstanceId,
    ending: Ending,
    detail: &str,
) -> Result<(), &'static str> {
    let instance = named(state, id)?;
    match instance.life {
        Life::Starting | Life::Running { .. } => {
            instance.life = Life::Ended { ending, detail: detail.to_owned() };
            Ok(())
        }
        Life::Stopping { .. } | Life::Stopped { .. } => {
            Err("an instance that is stopped ends with its stop")
        }
        Life::Ended { .. } => Err("the instance ended before"),
    }
}

fn named(state: &mut SlotState, id: InstanceId) -> Result<&mut Instance, &'static str> {
    state
        .instance
        .as_mut()
        .filter(|instance| instance.id == id)
        .ok_or("the slot does not hold this instance")
}

impl Remembered {
    /// Returns the term that neither of two coordinators may disrupt in, if it is the bound one.
    pub(crate) fn split_term(&self) -> Option<Term> {
        let bound = self.binding.as_ref()?.term;
        self.split.filter(|split| planted!(SplitBrainForEver: true; *split >= bound))
    }
}
