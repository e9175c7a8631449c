//! Intake: what an input means: events to remember, and volatile facts.

use cutover_common::{
    ApplicationName, Assignment, HookKind, InstanceEvidence, InstanceId, Slot, Timestamp, planted,
};

use crate::{
    Action, Agent, Ending, Event, Finding, HookEnd, HookId, HookProgress, Input, Life,
    PrepareFailure, ProbeAnswer, SessionId, SessionRefusal, Welcome, goal, invariants,
    lease::Lease,
    prepare::{Preparation, PreparedAs, prepared_as},
    session::{self, Session},
    slots::Work,
    supervise::RESTART_BACKOFF,
    turn::Turn,
    volatile::{LiveSlot, StopRetry},
};

/// Where an instance is.
pub(crate) type At = (ApplicationName, Slot);

impl Agent {
    pub(crate) fn take(&mut self, turn: &mut Turn, input: Input) {
        match input {
            Input::Tick => turn.is_moot = true,
            Input::SessionOpened { session } => self.open(turn, session),
            Input::Welcomed { session, welcome } => self.welcome(turn, session, &welcome),
            Input::Echoed { session, nonce, compared } => {
                turn.is_moot = true;
                match &mut self.session {
                    Session::Joined { session: open, lease } if *open == session => {
                        lease.echo(nonce);
                        self.checking.compare(compared, turn.now);
                    }
                    Session::Joined { .. } | Session::Opened { .. } | Session::Away => {}
                }
            }
            Input::Assigned { session, assignment } => {
                if self.session.joined() == Some(session) {
                    self.assign(turn, assignment);
                }
            }
            Input::EdgeRouted { session, routes } => {
                if self.session.joined() == Some(session) {
                    self.edge_routed(routes);
                }
            }
            Input::SessionEnded { session } => {
                if self.session.is(session) {
                    self.session = Session::Away;
                }
            }
            Input::PrepareEnded { application, version, digest, result } => {
                self.prepare_ended(turn, &application, (digest, version), result);
            }
            Input::Started { evidence } => self.started(turn, evidence),
            Input::StartFailed { instance, detail } => self.start_failed(turn, instance, detail),
            Input::Adopted { instance, finding } => self.adopted(turn, instance, finding),
            Input::Exited { instance, detail } => self.exited(turn, instance, detail),
            Input::HookEnded { hook, end } => self.hook_ended(turn, hook, end),
            Input::Stopped { instance, .. } => self.stopped(turn, instance),
            Input::StopFailed { instance, detail } => planted!(
                FailedStopCounts: self.stopped(turn, instance);
                self.stop_failed(turn, instance, detail)
            ),
            Input::Probed { instance, answer } => self.probed(turn, instance, answer),
            Input::Checked { application, canary, check, answer, detail } => {
                turn.is_moot = true;
                self.checking.answered(&application, canary, &check, (answer, detail), turn.now);
            }
            Input::GateAnswered { revision, result } => self.gate.answered(turn, revision, result),
            Input::GateSaid { state } => self.gate.said(state),
            Input::GateLost { detail } => self.gate.lost(detail),
        }
    }

    fn open(&mut self, turn: &mut Turn, session: SessionId) {
        self.session = Session::Opened { session };
        self.edge.forget();
        for volatile in self.volatile.values_mut() {
            volatile.refused = None;
        }
        turn.act(Action::SendHello { session, held: self.held() });
    }

    fn welcome(&mut self, turn: &mut Turn, session: SessionId, welcome: &Welcome) {
        if !self.session.is(session) {
            return;
        }
        let refusal = if self.session.joined().is_some() {
            SessionRefusal::SecondWelcome
        } else {
            match session::judge(self.remembered.binding.as_ref(), welcome) {
                session::Judgement::Known => return self.join(turn, session),
                session::Judgement::Bind(binding) => {
                    self.record(turn, Event::CoordinatorBound(binding));
                    return self.join(turn, session);
                }
                session::Judgement::Refuse(refusal) => refusal,
            }
        };
        if let SessionRefusal::SplitBrain { term } = refusal
            && planted!(SplitBrainForgotten: false; self.remembered.split < Some(term))
        {
            self.record(turn, Event::SplitBrainSeen { term });
        }
        self.session = Session::Away;
        turn.act(Action::EndSession { session, refusal });
    }

    fn join(&mut self, turn: &Turn, session: SessionId) {
        // Its first heartbeat is due at once, and carries every report.
        self.session = Session::Joined { session, lease: Lease::new(turn.now) };
    }

    fn assign(&mut self, turn: &mut Turn, assignment: Box<Assignment>) {
        let Some(binding) = &self.remembered.binding else { return };
        let name = assignment.application.clone();
        let held = self.remembered.applications.get(&name);
        let known = self.remembered.applications.len();
        let offered = assignment.fence;
        let mut refused = None;
        match goal::judge(held, known, binding.term, &assignment) {
            goal::Judgement::Adopt => {
                // In release builds too: nothing may go wrong here (F2).
                let held = held.map(crate::Application::fence).unwrap_or_default();
                assert!(
                    invariants::f2_fence_grows(held, assignment.fence),
                    "{} would replace {held}",
                    assignment.fence
                );
                self.record(turn, Event::AssignmentAccepted(assignment));
                let volatile = self.volatile.entry(name.clone()).or_default();
                let application = &self.remembered.applications[&name];
                // What is not wanted is not tried again. What is in flight answers first.
                volatile.preparations.retain(|of, preparation| {
                    let is_wanted = |slot| {
                        let release = application.goal(slot).release();
                        release.is_some_and(|release| prepared_as(release) == *of)
                    };
                    matches!(preparation, Preparation::InFlight { .. })
                        || Slot::ALL.into_iter().any(is_wanted)
                });
            }
            goal::Judgement::Keep { raise_to } => {
                if let Some(term) = raise_to {
                    self.record(turn, Event::TermRaised { application: name.clone(), term });
                }
            }
            goal::Judgement::Refuse(refusal) => {
                refused = Some(offered);
                turn.act(Action::NoteRefusal { application: name.clone(), offered, refusal });
            }
        }
        // Whoever asked is told what is held, also when nothing changed.
        if let Some(volatile) = self.volatile.get_mut(&name) {
            (volatile.reported, volatile.refused) = (None, refused);
        }
    }

    fn prepare_ended(
        &mut self,
        turn: &mut Turn,
        name: &ApplicationName,
        of: PreparedAs,
        result: Result<(), PrepareFailure>,
    ) {
        let Some(volatile) = self.volatile.get_mut(name) else { return };
        let Some(application) = self.remembered.applications.get(name) else { return };
        let Some(Preparation::InFlight { failures }) = volatile.preparations.remove(&of) else {
            return;
        };
        let wants = |slot: &Slot| {
            let wanted = application.goal(*slot).release();
            wanted.is_some_and(|release| prepared_as(release) == of)
                && application.slots.of(*slot).prepared.as_ref() != wanted
        };
        let slots: Vec<Slot> = Slot::ALL.into_iter().filter(wants).collect();
        if let Err(failure) = planted!(FailedPreparationCounts: Ok(()); result) {
            if !slots.is_empty() {
                let generation = application.fence().generation;
                let jitter = turn.draw_jitter();
                let failed = Preparation::failed(failure, failures, generation, turn.now, jitter);
                volatile.preparations.insert(of, failed);
            }
            return;
        }
        for slot in slots {
            let application = &self.remembered.applications[name];
            if let Some(release) = application.goal(slot).release() {
                let release = release.clone();
                self.record(turn, Event::Prepared { application: name.clone(), slot, release });
            }
        }
    }

    fn started(&mut self, turn: &mut Turn, evidence: InstanceEvidence) {
        let Some((at, Life::Starting)) = self.find(evidence.instance) else { return };
        self.live(&at).work_ended();
        self.seen_running(turn, at, evidence);
    }

    fn seen_running(&mut self, turn: &mut Turn, at: At, evidence: InstanceEvidence) {
        let (application, slot) = at.clone();
        // What is found as it was is not tried anew: it may have served for months.
        self.live(&at).trying_since.get_or_insert(turn.now);
        self.record(turn, Event::Started { application, slot, evidence });
        self.watch(turn.now, &at);
    }

    fn watch(&mut self, now: Timestamp, at: &At) {
        let Some(application) = self.remembered.applications.get(&at.0) else { return };
        let Some(instance) = application.slots.of(at.1).instance.clone() else { return };
        self.live(at).begin_watch(&instance, now);
    }

    fn start_failed(&mut self, turn: &mut Turn, instance: InstanceId, detail: String) {
        let Some((at, Life::Starting)) = self.find(instance) else { return };
        self.live(&at).work_ended();
        self.ended(turn, at, instance, Ending::NotStarted, detail);
    }

    fn exited(&mut self, turn: &mut Turn, instance: InstanceId, detail: String) {
        let Some((at, Life::Starting | Life::Running { .. })) = self.find(instance) else {
            return;
        };
        self.live(&at).work_ended();
        self.ended(turn, at, instance, Ending::Exited, detail);
    }

    fn ended(
        &mut self,
        turn: &mut Turn,
        at: At,
        instance: InstanceId,
        ending: Ending,
        detail: String,
    ) {
        let now = turn.now;
        let jitter = turn.draw_jitter();
        let live = self.live(&at);
        live.is_presumed_well = false;
        let watch = planted!(HealthInherited: live.watch.clone(); live.watch.take());
        let healthy_since = watch.and_then(|watch| watch.healthy_since());
        live.crashes.note(now, healthy_since, jitter);
        let (application, slot) = at;
        self.record(
            turn,
            match ending {
                Ending::Exited => Event::Exited { application, slot, instance, detail },
                Ending::NotStarted => Event::StartFailed { application, slot, instance, detail },
            },
        );
    }

    fn adopted(&mut self, turn: &mut Turn, instance: InstanceId, finding: Finding) {
        let Some((at, life)) = self.find(instance) else { return };
        if self.live(&at).in_flight != Some(Work::Adopting) {
            return;
        }
        if let Finding::Unclear { detail } = finding {
            turn.is_moot = !self.live(&at).note_trouble(detail);
            return;
        }
        self.live(&at).work_ended();
        match (life, finding) {
            (Life::Starting, Finding::Running { evidence }) => planted!(
                StartInDoubtRepeated:
                    self.ended(turn, at, instance, Ending::NotStarted, String::new());
                self.seen_running(turn, at, evidence)
            ),
            (Life::Running { evidence: known }, Finding::Running { evidence }) => {
                if known == evidence {
                    self.watch(turn.now, &at);
                } else {
                    self.seen_running(turn, at, evidence);
                }
            }
            (Life::Starting | Life::Running { .. }, Finding::Exited { detail }) => {
                self.ended(turn, at, instance, Ending::Exited, detail);
            }
            // Never begun: it is asked for again. A stop goes on, whatever is found: it also ends
            // what its instance has left behind, and says when it cannot (E6).
            (Life::Starting, Finding::Never)
            | (Life::Stopping { .. } | Life::Stopped { .. }, _) => {}
            // No crash of the application, so that it starts again at once (A2).
            (Life::Starting, Finding::Gone)
            | (Life::Running { .. }, Finding::Gone | Finding::Never) => {
                let (application, slot) = at;
                let detail = "gone without a trace; the host rebooted".to_owned();
                let exited = Event::Exited { application, slot, instance, detail };
                planted!(RebootForgotten: (); self.record(turn, exited));
            }
            (Life::Ended { .. }, _) | (_, Finding::Unclear { .. }) => {}
        }
    }

    fn hook_ended(&mut self, turn: &mut Turn, hook: HookId, end: HookEnd) {
        match hook.kind {
            HookKind::BeforeStop | HookKind::AfterStop => self.stop_hook_ended(turn, hook, end),
            HookKind::Install | HookKind::BeforeStart | HookKind::AfterStart | HookKind::Smoke => {
                let Some(at) = self.find_hook(hook) else { return };
                self.live(&at).hook = None;
                let (application, slot) = at;
                self.record(turn, Event::HookOver { application, slot, id: hook.run, end });
            }
        }
    }

    /// Takes the end of a hook around a stop: whatever it is, the stop goes on.
    fn stop_hook_ended(&mut self, turn: &mut Turn, hook: HookId, end: HookEnd) {
        let instance = InstanceId(hook.run);
        let Some((at, life)) = self.find(instance) else { return };
        let (known, kind) = match &life {
            Life::Stopping { hook } => (hook, HookKind::BeforeStop),
            Life::Stopped { hook, .. } => (hook, HookKind::AfterStop),
            Life::Starting | Life::Running { .. } | Life::Ended { .. } => return,
        };
        let is_asked =
            matches!(self.live(&at).in_flight, Some(Work::RunningHook | Work::EndingHook));
        if *known != HookProgress::Begun || kind != hook.kind || !is_asked {
            return;
        }
        let warning = match end {
            HookEnd::Passed => String::new(),
            HookEnd::Failed { detail } => format!("its {kind} hook failed: {detail}"),
            HookEnd::Interrupted => format!(
                "its {kind} hook was interrupted by a restart of the agent and is not run again"
            ),
        };
        let live = self.live(&at);
        live.work_ended();
        live.note = match (live.note.as_str(), warning.as_str()) {
            (note, "") => note.to_owned(),
            ("", warning) => warning.to_owned(),
            (note, warning) => format!("{note}; {warning}"),
        };
        let (application, slot) = at;
        self.record(turn, Event::HookEnded { application, slot, instance, warning });
    }

    fn stopped(&mut self, turn: &mut Turn, instance: InstanceId) {
        let Some((at, Life::Stopping { .. })) = self.find(instance) else { return };
        if self.live(&at).in_flight != Some(Work::Stopping) {
            return;
        }
        let application = self.remembered.applications.get(&at.0);
        let held = application.and_then(|it| it.slots.of(at.1).instance.as_ref());
        if held.is_some_and(|held| held.release.hook(HookKind::AfterStop).is_some()) {
            self.begin_after_stop(turn, at, instance);
        } else {
            self.stop_done(turn, at, instance);
        }
    }

    /// Remembers that an instance is gone for good.
    pub(crate) fn stop_done(&mut self, turn: &mut Turn, at: At, instance: InstanceId) {
        self.live(&at).clear();
        let (application, slot) = at;
        self.record(turn, Event::StopDone { application, slot, instance });
    }

    fn stop_failed(&mut self, turn: &mut Turn, instance: InstanceId, detail: String) {
        let at = match self.find(instance) {
            Some((at, Life::Stopping { .. })) => at,
            Some((at, Life::Starting)) if self.live(&at).in_flight == Some(Work::Starting) => {
                turn.is_moot = !self.live(&at).note_trouble(detail);
                return;
            }
            Some(_) | None => return,
        };
        let now = turn.now;
        let jitter = turn.draw_jitter();
        let live = self.live(&at);
        if live.in_flight != Some(Work::Stopping) {
            return;
        }
        live.work_ended();
        let failures = live.stop_retry.as_ref().map_or(0, |retry| retry.failures) + 1;
        let at = now + RESTART_BACKOFF.after(failures, jitter);
        live.stop_retry = Some(StopRetry { failures, at, detail });
    }

    fn probed(&mut self, turn: &mut Turn, instance: InstanceId, answer: ProbeAnswer) {
        turn.is_moot = true;
        let Some((at, Life::Running { .. })) = self.find(instance) else { return };
        let Some(application) = self.remembered.applications.get(&at.0) else { return };
        let held = application.slots.of(at.1).instance.as_ref();
        let Some(probe) = held.and_then(|held| held.release.probe.clone()) else { return };
        if let Some(watch) = &mut self.live(&at).watch
            && watch.instance() == instance
        {
            turn.is_moot = !watch.answered(answer, &probe, turn.now);
        }
    }

    /// Returns where an instance is, and how far.
    fn find(&self, instance: InstanceId) -> Option<(At, Life)> {
        self.remembered.applications.iter().find_map(|(name, application)| {
            let slot = application.slot_of(instance)?;
            let life = application.slots.of(slot).instance.as_ref()?.life.clone();
            Some(((name.clone(), slot), life))
        })
    }

    /// Returns where a hook runs that is to bring a release into service.
    fn find_hook(&self, hook: HookId) -> Option<At> {
        self.remembered.applications.iter().find_map(|(name, application)| {
            let is_it = |slot: &Slot| {
                let open = application.slots.of(*slot).open_hook();
                open.is_some_and(|run| run.id == hook.run && run.kind == hook.kind)
            };
            Some((name.clone(), Slot::ALL.into_iter().find(is_it)?))
        })
    }

    pub(crate) fn live(&mut self, (name, slot): &At) -> &mut LiveSlot {
        self.volatile.entry(name.clone()).or_default().slots.of_mut(*slot)
    }
}
