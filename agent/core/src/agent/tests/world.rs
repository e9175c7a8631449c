//! A world of one host and one coordinator, as small as stories need: processes that live until
//! they are stopped, releases that are on disk or not, and time that is moved by hand.

use std::sync::Arc;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use cutover_common::{
    Allow, ApplicationName, Assignment, CheckReport, CommandCheck, Compared, Config, EdgeReport,
    Fence, Generation, Hook, HookKind, InstanceEvidence, InstanceId, Limits, ProbePort, ProbeSpec,
    ProbeTarget, Protocol, Release, ReleaseRef, Report, RunSpec, Service, Sha256, Slot, SlotGoal,
    SlotReport, Slots, StopSignal, Swap, Term, Timers, Timestamp,
    check::{Answer, CanaryId},
};
use uuid::Uuid;

use super::truth::Truth;
use crate::{
    Action, Agent, Event, Finding, GateEdge, GateProgram, GateService, GateState, GateTrouble,
    HookEnd, HookId, Input, Place, PrepareFailure, ProbeAnswer, SessionId, Step, Welcome,
    invariants,
};

pub(super) const TIMERS: Timers =
    Timers { healthy_for: Duration::from_secs(10), healthy_within: Duration::from_secs(60) };

pub(super) fn web() -> ApplicationName {
    "web".parse().unwrap()
}

pub(super) fn release(version: &str) -> Arc<Release> {
    Arc::new(Release {
        name: ReleaseRef { application: web(), version: version.parse().unwrap() },
        digest: Sha256::of(version.as_bytes()),
        size_bytes: 1,
        archive_digest: Sha256::of(version.as_bytes()),
        archive_size_bytes: 1,
        run: RunSpec {
            command: vec!["./server".to_owned()],
            env: BTreeMap::new(),
            stop_signal: StopSignal::Term,
            stop_within: Duration::from_secs(30),
            shared: Vec::new(),
        },
        probe: Some(ProbeSpec {
            target: ProbeTarget::Tcp { port: ProbePort::Fixed(80) },
            every: Duration::from_secs(2),
            timeout: Duration::from_secs(1),
            passes: 2,
            failures: 3,
            start_within: Duration::from_secs(20),
        }),
        hooks: vec![hook(HookKind::BeforeStop)],
        checks: Vec::new(),
        service: None,
        config: Config::default(),
    })
}

/// A release with every hook there is.
pub(super) fn hooked(version: &str) -> Arc<Release> {
    let mut release = Arc::unwrap_or_clone(release(version));
    release.hooks = HookKind::ALL.into_iter().map(hook).collect();
    Arc::new(release)
}

/// A release behind the gate that gets no traffic before its smoke hook has passed.
pub(super) fn smoked(version: &str) -> Arc<Release> {
    let mut release = Arc::unwrap_or_clone(served(version, Swap::Beside));
    release.hooks.push(hook(HookKind::Smoke));
    Arc::new(release)
}

fn hook(kind: HookKind) -> Hook {
    Hook { kind, command: vec![format!("./{kind}")], within: Duration::from_secs(5), once: false }
}

/// A release behind the gate.
pub(super) fn served(version: &str, swap: Swap) -> Arc<Release> {
    let mut release = Arc::unwrap_or_clone(release(version));
    release.service = Some(Service {
        port: 8080,
        protocol: Protocol::Http,
        swap,
        drain: Duration::from_secs(30),
        drain_long_lived: Duration::from_secs(600),
        keep_warm: Duration::ZERO,
        tls: None,
        sticky: None,
        proxy_protocol: false,
        trusted_peers: Vec::new(),
        limits: Limits::default(),
    });
    if let Some(probe) = &mut release.probe {
        probe.target = ProbeTarget::Tcp { port: ProbePort::Instance };
    }
    Arc::new(release)
}

pub(super) fn running(version: &str) -> SlotGoal {
    SlotGoal::Running(release(version))
}

pub(super) fn prepared(version: &str) -> SlotGoal {
    SlotGoal::Prepared(release(version))
}

pub(super) fn assignment(generation: u64, blue: SlotGoal, green: SlotGoal) -> Assignment {
    Assignment {
        application: web(),
        fence: Fence { term: Term(1), generation: Generation(generation) },
        slots: Slots { blue, green },
        timers: TIMERS,
        rollout: String::new(),
        peers: Vec::new(),
        route: None,
        once: Vec::new(),
    }
}

fn id_of(text: &str) -> Uuid {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&Sha256::of(text.as_bytes()).as_bytes()[..16]);
    Uuid::from_bytes(bytes)
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Process {
    Alive,
    Dead,
}

fn taken() -> GateTrouble {
    GateTrouble { is_served: false, detail: "nothing can listen on its port".to_owned() }
}

/// A gate that follows what it is told.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) is_there: bool,
    process: u128,
    follows: Option<(u64, GateProgram)>,
    /// Where requests are under way that do not end by themselves.
    pub(super) busy: BTreeSet<Slot>,
    /// The applications for which something is under way at a host behind it.
    pub(super) busy_edges: BTreeSet<ApplicationName>,
    /// Services that it cannot serve.
    pub(super) unserved: BTreeSet<ApplicationName>,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            is_there: true,
            process: 1,
            follows: None,
            busy: BTreeSet::new(),
            busy_edges: BTreeSet::new(),
            unserved: BTreeSet::new(),
        }
    }
}

impl Gate {
    fn follow(&mut self, revision: u64, program: GateProgram) -> Result<GateState, String> {
        if !self.is_there {
            return Err("no gate can be reached".to_owned());
        }
        self.follows = Some((revision, program));
        Ok(self.state())
    }

    fn state(&self) -> GateState {
        GateState {
            gate: Uuid::from_u128(self.process),
            revision: self.follows.as_ref().map(|(revision, _)| *revision),
            busy: self.busy.iter().map(|slot| (web(), *slot)).collect(),
            busy_edges: self.busy_edges.clone(),
            troubles: self.unserved.iter().map(|name| (name.clone(), taken())).collect(),
        }
    }

    pub(super) fn service(&self) -> Option<&GateService> {
        self.follows.as_ref().and_then(|(_, program)| program.services.get(&web()))
    }

    /// Whether what is new is held at this moment.
    pub(super) fn holds(&self) -> bool {
        self.service().is_some_and(|service| service.hold.is_some())
    }

    /// The shares of both slots.
    pub(super) fn weights(&self) -> Slots<u16> {
        let upstreams = self.service().map(|service| service.upstreams).unwrap_or_default();
        upstreams.map(|_, upstream| upstream.map_or(0, |upstream| upstream.weight))
    }

    /// The slot that clients reach on purpose, and by what.
    pub(super) fn allows(&self) -> Option<(Slot, &Allow)> {
        let allow = self.service()?.allow.as_ref()?;
        Some((allow.slot, &allow.by))
    }

    /// What is done in front of other hosts at this moment.
    pub(super) fn edges(&self) -> BTreeMap<ApplicationName, GateEdge> {
        self.follows.as_ref().map(|(_, it)| it.edges.clone()).unwrap_or_default()
    }

    /// Where requests are passed on to at this moment.
    pub(super) fn peers(&self) -> Vec<std::net::IpAddr> {
        let service = self.follows.as_ref().and_then(|(_, it)| it.services.get(&web()));
        service.map(|service| service.peers.clone()).unwrap_or_default()
    }

    /// Where what is new goes at this moment.
    pub(super) fn leads_to(&self) -> Vec<Slot> {
        let service = self.follows.as_ref().and_then(|(_, it)| it.services.get(&web()));
        let upstreams = service.map(|service| service.upstreams).unwrap_or_default();
        let gets_new = |slot: &Slot| {
            upstreams.of(*slot).is_some_and(|upstream| upstream.weight > 0 && upstream.is_healthy)
        };
        Slot::ALL.into_iter().filter(gets_new).collect()
    }
}

pub(super) struct World {
    pub(super) agent: Agent,
    pub(super) now: Timestamp,
    /// The journal.
    pub(super) events: Vec<Event>,
    /// Asked and not performed.
    pub(super) queue: VecDeque<Action>,
    pub(super) processes: BTreeMap<InstanceId, Process>,
    whose: BTreeMap<InstanceId, ApplicationName>,
    pub(super) disk: BTreeSet<Sha256>,
    retained: BTreeSet<Sha256>,
    /// Every start and stop that was performed, and hooks, in order.
    pub(super) trace: Vec<String>,
    pub(super) hooks_run: BTreeMap<HookId, u32>,
    /// The kinds of hooks that fail.
    pub(super) failing_hooks: BTreeSet<HookKind>,
    pub(super) reports: Vec<Report>,
    /// What was said last of the edge.
    pub(super) edge: Option<EdgeReport>,
    /// The canaries that the coordinator compares, and what checks answer.
    pub(super) compared: Vec<Compared>,
    pub(super) answer: Answer,
    /// What was said last of checks.
    pub(super) checks: Vec<CheckReport>,
    pub(super) ended_sessions: Vec<String>,
    pub(super) refusals: Vec<String>,
    /// What probes answer.
    pub(super) is_healthy: bool,
    /// Versions whose probes fail all the same.
    pub(super) sick: BTreeSet<String>,
    pub(super) gate: Gate,
    pub(super) boot: u32,
    /// Whether the coordinator echoes heartbeats.
    pub(super) echoes: bool,
    pub(super) prepare_failure: Option<PrepareFailure>,
    pub(super) truth: Truth,
    /// What the gate did, each time that it followed another program.
    pub(super) gate_did: Vec<String>,
    pub(super) session: u64,
    luck: u128,
}

impl World {
    pub(super) fn begin() -> Self {
        Self {
            agent: Agent::default(),
            now: Timestamp::from_unix_ms(1_000_000),
            events: Vec::new(),
            queue: VecDeque::new(),
            processes: BTreeMap::new(),
            whose: BTreeMap::new(),
            disk: BTreeSet::new(),
            retained: BTreeSet::new(),
            trace: Vec::new(),
            hooks_run: BTreeMap::new(),
            failing_hooks: BTreeSet::new(),
            reports: Vec::new(),
            edge: None,
            compared: Vec::new(),
            answer: Answer::Pass,
            checks: Vec::new(),
            ended_sessions: Vec::new(),
            refusals: Vec::new(),
            is_healthy: true,
            sick: BTreeSet::new(),
            gate: Gate::default(),
            boot: 1,
            echoes: true,
            prepare_failure: None,
            truth: Truth::default(),
            gate_did: Vec::new(),
            session: 0,
            luck: 0,
        }
    }

    /// A world whose agent runs release 1 in blue, healthy and settled, with a coordinator.
    pub(super) fn with_blue_running() -> Self {
        let mut world = Self::begin();
        world.connect();
        world.assign(assignment(1, running("1"), SlotGoal::Absent));
        world.pass(30);
        world.trace.clear();
        world.reports.clear();
        world
    }

    /// A world whose agent runs release 1 in blue behind the gate, healthy and settled.
    pub(super) fn with_blue_served(swap: Swap) -> Self {
        let mut world = Self::begin();
        world.connect();
        let blue = SlotGoal::Running(served("1", swap));
        world.assign(assignment(1, blue, SlotGoal::Absent));
        world.pass(30);
        world.trace.clear();
        world.reports.clear();
        world
    }

    /// The gate says what it does now.
    pub(super) fn look_at_gate(&mut self) {
        let state = self.gate.state();
        self.give(Input::GateSaid { state });
    }

    /// What was under way at `slot` has ended.
    pub(super) fn drain(&mut self, slot: Slot) {
        self.gate.busy.remove(&slot);
        self.look_at_gate();
    }

    /// The gate crashes and is started again, with its last program and nothing under way.
    pub(super) fn restart_gate(&mut self) {
        self.gate.process += 1;
        self.gate.busy.clear();
        self.give(Input::GateLost { detail: "the gate is gone".to_owned() });
        let state = self.gate.state();
        self.give(Input::GateSaid { state });
    }

    pub(super) fn give(&mut self, input: Input) {
        self.luck += 1;
        let step = self.agent.handle(self.now, Uuid::from_u128(self.luck), input);
        self.commit(step);
    }

    fn commit(&mut self, step: Step) {
        step.events.iter().for_each(|event| self.truth.note_event(event));
        self.events.extend(step.events);
        // What is to stay is known at once, however late the rest is removed.
        for action in &step.actions {
            if let Action::Retain(retained) = action {
                self.retained = retained.releases.values().flatten().copied().collect();
            }
        }
        for action in &step.actions {
            let reports = match action {
                Action::SendReport { report, .. } => std::slice::from_ref(&**report),
                Action::SendHeartbeat { reports, .. } => reports,
                Action::SendHello { .. }
                | Action::EndSession { .. }
                | Action::NoteRefusal { .. }
                | Action::Prepare { .. }
                | Action::Start { .. }
                | Action::Adopt { .. }
                | Action::RunHook { .. }
                | Action::EndHook { .. }
                | Action::Stop { .. }
                | Action::Probe { .. }
                | Action::RunCheck { .. }
                | Action::TellGate { .. }
                | Action::Retain(_) => &[],
            };
            if let Action::TellGate { program, .. } = action {
                self.truth.require_settled(&self.agent, program, self.now);
            }
            for report in reports {
                self.truth.hear(report, &self.agent, &self.gate);
            }
        }
        self.queue.extend(step.actions);
        assert_eq!(invariants::broken(self.agent.remembered()), None);
        self.truth.require_held(&self.agent, &self.gate);
    }

    /// Performs what is asked, and what the answers lead to.
    pub(super) fn settle(&mut self) {
        for _ in 0..1000 {
            let Some(action) = self.queue.pop_front() else { return };
            if let Some(answer) = self.perform(action) {
                self.give(answer);
            }
        }
        panic!("the agent asks without end");
    }

    pub(super) fn perform(&mut self, action: Action) -> Option<Input> {
        match action {
            Action::RunCheck { place, canary, check, .. } => {
                Some(self.run_check(place, canary, check))
            }
            Action::SendHeartbeat { session, nonce, reports, edge, checks } => {
                self.reports.extend(reports);
                (self.edge, self.checks) = (edge, checks);
                self.echoes.then(|| self.echo(session, nonce))
            }
            Action::SendReport { report, .. } => {
                self.reports.push(*report);
                None
            }
            Action::EndSession { refusal, .. } => {
                self.ended_sessions.push(refusal.to_string());
                None
            }
            Action::NoteRefusal { refusal, .. } => {
                self.refusals.push(refusal.to_string());
                None
            }
            Action::Prepare { release, .. } => Some(self.prepare(&release)),
            Action::Start { place, instance, release, .. } => {
                Some(self.start(place.slot, instance, &release))
            }
            Action::Adopt { instance, .. } => {
                let finding = match self.processes.get(&instance) {
                    None => Finding::Never,
                    Some(Process::Alive) => Finding::Running { evidence: self.evidence(instance) },
                    Some(Process::Dead) => Finding::Exited { detail: "exited".to_owned() },
                };
                Some(Input::Adopted { instance, finding })
            }
            Action::RunHook { place, hook, release, .. } => {
                let ended = self.run_hook(hook);
                self.truth.note_hook(place.slot, &release, &ended);
                Some(ended)
            }
            Action::EndHook { hook, .. } => {
                Some(Input::HookEnded { hook, end: HookEnd::Interrupted })
            }
            Action::Stop { place, instance, release } => {
                let leads_here = self.gate.leads_to().contains(&place.slot);
                let is_busy = self.gate.busy.contains(&place.slot);
                assert!(!leads_here && !is_busy, "G1: {} is stopped under its clients", place.slot);
                self.processes.insert(instance, Process::Dead);
                self.trace.push(format!("stop {} {}", place.slot, release.name.version));
                Some(Input::Stopped { instance, detail: "exited with status 0".to_owned() })
            }
            Action::Probe { instance, release, .. } => Some(self.probe(instance, &release)),
            Action::TellGate { revision, program } => {
                let result = self.tell_gate(revision, *program);
                Some(Input::GateAnswered { revision, result })
            }
            Action::SendHello { .. } => None,
            Action::Retain(_) => {
                self.disk.retain(|digest| self.retained.contains(digest));
                None
            }
        }
    }

    fn prepare(&mut self, release: &Release) -> Input {
        let result = match &self.prepare_failure {
            Some(failure) => Err(failure.clone()),
            None => Ok(()),
        };
        if result.is_ok() {
            self.disk.insert(release.digest);
        }
        let ReleaseRef { application, version } = release.name.clone();
        Input::PrepareEnded { application, version, digest: release.digest, result }
    }

    fn tell_gate(&mut self, revision: u64, program: GateProgram) -> Result<GateState, String> {
        let result = self.gate.follow(revision, program);
        let Slots { blue, green } = self.gate.weights();
        let did = if self.gate.holds() { "holds".to_owned() } else { format!("{blue}/{green}") };
        if self.gate_did.last() != Some(&did) {
            self.gate_did.push(did);
        }
        self.truth.require_held(&self.agent, &self.gate);
        result
    }

    fn probe(&mut self, instance: InstanceId, release: &Release) -> Input {
        let is_sick = self.sick.contains(release.name.version.as_str());
        let passed = self.is_healthy && !is_sick && self.is_alive(instance);
        self.truth.note_answer(instance, passed, self.now);
        let text = if passed { "200 OK" } else { "connection refused" }.to_owned();
        Input::Probed { instance, answer: ProbeAnswer { passed, text } }
    }

    fn echo(&self, session: SessionId, nonce: Uuid) -> Input {
        Input::Echoed { session, nonce, compared: self.compared.clone() }
    }

    fn run_check(&mut self, place: Place, canary: CanaryId, check: CommandCheck) -> Input {
        self.trace.push(format!("check {} {}", place.slot, check.name));
        let (application, answer) = (place.application, self.answer);
        let detail = "it exited".to_owned();
        Input::Checked { application, canary, check, answer, detail }
    }

    fn run_hook(&mut self, hook: HookId) -> Input {
        *self.hooks_run.entry(hook).or_default() += 1;
        let is_usual = hook.kind == HookKind::BeforeStop;
        self.trace.push(if is_usual { "hook" } else { hook.kind.name() }.to_owned());
        let failed = HookEnd::Failed { detail: "exited with status 1".to_owned() };
        let fails = self.failing_hooks.contains(&hook.kind);
        Input::HookEnded { hook, end: if fails { failed } else { HookEnd::Passed } }
    }

    /// Starting twice under one id is starting once.
    fn start(&mut self, slot: Slot, instance: InstanceId, release: &Release) -> Input {
        assert!(
            self.disk.contains(&release.digest),
            "E2: a release that is not on disk is started"
        );
        if !self.processes.contains_key(&instance) {
            let application = &release.name.application;
            let mut others = self.alive();
            others.retain(|other| self.whose.get(other) == Some(application));
            let borne =
                usize::from(release.service.as_ref().is_some_and(|it| it.swap == Swap::Beside));
            assert!(others.len() <= borne, "E1: {others:?} live while {instance:?} is started");
            self.processes.insert(instance, Process::Alive);
            self.whose.insert(instance, application.clone());
            self.trace.push(format!("start {slot} {}", release.name.version));
        }
        match self.processes[&instance] {
            Process::Alive => Input::Started { evidence: self.evidence(instance) },
            Process::Dead => Input::StartFailed { instance, detail: "it exited".to_owned() },
        }
    }

    fn evidence(&self, instance: InstanceId) -> InstanceEvidence {
        InstanceEvidence {
            instance,
            boot_id: format!("boot-{}", self.boot),
            pid: 7,
            start_ticks: 9,
        }
    }

    fn is_alive(&self, instance: InstanceId) -> bool {
        self.processes.get(&instance) == Some(&Process::Alive)
    }

    pub(super) fn alive(&self) -> Vec<InstanceId> {
        self.processes.keys().copied().filter(|instance| self.is_alive(*instance)).collect()
    }

    /// Lets time pass, a wish of the agent at a time.
    pub(super) fn pass(&mut self, seconds: u64) {
        let until = self.now + Duration::from_secs(seconds);
        self.settle();
        let mut wakes = 0;
        while let Some(at) = self.agent.next_wake().filter(|at| *at <= until) {
            wakes += 1;
            assert!(wakes < 100 + 20 * seconds, "the agent spins: it wants to wake at {at:?}");
            self.now = self.now.max(at);
            self.give(Input::Tick);
            self.settle();
        }
        self.now = until;
        self.give(Input::Tick);
        self.settle();
    }

    /// Lets time pass in which the hooks that were asked for go on.
    pub(super) fn pass_without_hooks(&mut self, seconds: u64) {
        let (hooks, rest) = std::mem::take(&mut self.queue)
            .into_iter()
            .partition(|action| matches!(action, Action::RunHook { .. }));
        self.queue = rest;
        self.pass(seconds);
        self.queue = hooks;
    }

    pub(super) fn connect(&mut self) {
        self.welcome(1, "store", "boot");
        self.settle();
    }

    pub(super) fn welcome(&mut self, term: u64, incarnation: &str, boot_nonce: &str) {
        self.session += 1;
        let session = SessionId(self.session);
        self.give(Input::SessionOpened { session });
        let (incarnation, boot_nonce) = (id_of(incarnation), id_of(boot_nonce));
        let welcome = Welcome { incarnation, term: Term(term), boot_nonce };
        self.give(Input::Welcomed { session, welcome });
    }

    pub(super) fn disconnect(&mut self) {
        self.give(Input::SessionEnded { session: SessionId(self.session) });
    }

    pub(super) fn assign(&mut self, assignment: Assignment) {
        let session = SessionId(self.session);
        self.give(Input::Assigned { session, assignment: Box::new(assignment) });
    }

    /// The agent dies and starts again. What was asked and not performed is lost.
    pub(super) fn crash(&mut self) {
        self.queue.clear();
        self.agent = Agent::replay(&self.events).unwrap();
        self.luck += 1;
        let step = self.agent.start(self.now, Uuid::from_u128(self.luck));
        self.commit(step);
    }

    pub(super) fn reboot(&mut self) {
        self.boot += 1;
        self.processes.clear();
        self.crash();
    }

    /// Ends the living process as if it crashed.
    pub(super) fn kill(&mut self) {
        for instance in self.alive() {
            self.processes.insert(instance, Process::Dead);
            self.give(Input::Exited { instance, detail: "exited with status 1".to_owned() });
        }
    }

    pub(super) fn report(&self, slot: Slot) -> SlotReport {
        let report = self.reports.last().expect("a report was sent");
        report.slots.of(slot).clone()
    }
}
