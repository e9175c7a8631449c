//! Watches a run and notes the rows that it reaches. What happens often is told apart first, and
//! costs next to nothing.

use cutover_agent_core::{Action, Event, HookProgress, Input, Life, Retry, Step};
use cutover_common::{Health, Slot, SlotGoal, wire::FarewellReason};
use cutover_coordinator_core::{Action as SiteAction, Request, Step as SiteStep, Verb};

use super::{
    Coverage,
    course::{Courses, Doing},
};
use crate::{
    oracle::{Effect, Seen},
    script::{Direction, Fault, HookBehaviour, Life as Behaves, OnStop, Script},
    world::{CallId, Host, World},
};

/// How many kills of one process make a loop of them.
const LOOP: u32 = 4;
/// How long a stopped agent must rest for its lease to be over, and a partition must last to be
/// one.
const LONG_MS: u64 = 10_000;
/// How many short cuts of one link make it flap.
const FLAPS: u32 = 8;
/// How many links must be cut at once for one by one.
const SWIZZLED: usize = 3;

/// What an agent is in the middle of.
#[derive(Clone, Copy, Debug, Default)]
struct Stage {
    /// Decided, and not durable.
    accepts: bool,
    stops_done: bool,
    removes: bool,
    /// Durable, and not told.
    untold: bool,
    fetches: u32,
    is_echo: bool,
    kills: u32,
    flaps: u32,
    loses_power: bool,
}

/// See above.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    coverage: Coverage,
    stages: Vec<Stage>,
    courses: Courses,
    site_kills: u32,
    /// Deploys that were asked for.
    deploys: usize,
}

impl Watch {
    /// Begins to watch a run of a script.
    pub(crate) fn new(script: &Script) -> Self {
        let stages = vec![Stage::default(); usize::from(script.hosts)];
        Self { stages, ..Self::default() }
    }

    /// Returns what was reached so far.
    pub(crate) const fn coverage(&self) -> &Coverage {
        &self.coverage
    }

    /// Looks at something.
    pub(crate) fn see(&mut self, world: &World, seen: &Seen<'_>) {
        match *seen {
            Seen::AgentTakes { number, input } => self.takes(world, number, input),
            Seen::AgentStepped { number, step } => {
                if !step.events.is_empty() {
                    self.stepped(number, step);
                }
            }
            Seen::AgentStored { number } => {
                let stage = &mut self.stages[usize::from(number)];
                stage.untold |= stage.accepts;
                (stage.accepts, stage.stops_done) = (false, false);
            }
            Seen::Says { number, .. } => self.stages[usize::from(number)].untold = false,
            Seen::SiteStepped { step, .. } => self.site_stepped(step),
            Seen::SiteStored { events, .. } => self.courses.stored(events, &mut self.coverage),
            Seen::Assigned { .. } => self.courses.unsent = false,
            Seen::AgentEnds { number } => self.agent_ends(world, number),
            Seen::SiteEnded { number } => self.site_ends(world, number),
            Seen::Fault { fault } => self.fault(world, fault),
            Seen::Effect { number, effect } => self.effect(world, world.host(number), &effect),
            Seen::Fetching { number, .. } => self.stages[usize::from(number)].fetches += 1,
            Seen::Retains { number, .. } => self.stages[usize::from(number)].removes = false,
            Seen::Began { number, instance } => {
                let kernel = &world.host(number).kernel;
                let Some(process) = kernel.processes.get(&instance) else { return };
                let pid = process.evidence.pid;
                let others = kernel.processes.values();
                if others.filter(|other| other.evidence.pid == pid).count() > 1 {
                    self.coverage.reach(76);
                }
                match process.behaviour.life {
                    Behaves::Flaps { .. } => self.coverage.reach(99),
                    Behaves::NeverReady => self.coverage.reach(100),
                    _ => {}
                }
            }
            Seen::Asked { id } => self.asked(world, id),
            Seen::Restored => self.coverage.reach(32),
            Seen::End => self.end(world),
            Seen::AgentStarted { .. }
            | Seen::AgentStoring { .. }
            | Seen::GateFollows { .. }
            | Seen::Died { .. }
            | Seen::ObservesOnly { .. }
            | Seen::SiteStarted { .. }
            | Seen::SiteTakes { .. }
            | Seen::Answered { .. }
            | Seen::Healed => {}
        }
    }

    fn takes(&mut self, world: &World, number: u16, input: &Input) {
        let stage = &mut self.stages[usize::from(number)];
        stage.is_echo = matches!(input, Input::Echoed { .. });
        match input {
            Input::PrepareEnded { result, .. } => {
                stage.fetches = stage.fetches.saturating_sub(1);
                let Err(failure) = result else { return };
                let is_full = world.host(number).disk.get().is_full();
                let is_wrong = failure.retry == Retry::Never;
                self.coverage.reach(if is_wrong {
                    83
                } else if is_full {
                    56
                } else {
                    85
                });
            }
            Input::SessionEnded { .. } if world.host(number).certificate.not_after <= world.now => {
                self.coverage.reach(88);
            }
            _ => {}
        }
    }

    fn stepped(&mut self, number: u16, step: &Step) {
        let stage = &mut self.stages[usize::from(number)];
        for event in &step.events {
            match event {
                Event::AssignmentAccepted(_) => stage.accepts = true,
                Event::StopDone { .. } => stage.stops_done = true,
                Event::StopStarted { .. } if stage.is_echo => self.coverage.reach(41),
                _ => {}
            }
        }
        stage.removes |= matches!(step.actions.first(), Some(Action::Retain(_)));
    }

    fn site_stepped(&mut self, step: &SiteStep) {
        for action in &step.actions {
            if let SiteAction::EndSession { reason, .. } = action
                && reason.reason == FarewellReason::AlreadyConnected
            {
                self.coverage.reach(92);
            }
        }
    }

    fn agent_ends(&mut self, world: &World, number: u16) {
        let host = world.host(number);
        let stage = &mut self.stages[usize::from(number)];
        let was = *stage;
        stage.kills += 1;
        (stage.accepts, stage.stops_done, stage.removes) = (false, false, false);
        (stage.untold, stage.fetches, stage.loses_power) = (false, 0, false);
        let rows = rows_of_stage(was).into_iter().chain(rows_of_slots(host)).flatten();
        let mut is_busy = false;
        for row in rows {
            is_busy = true;
            self.coverage.reach(row);
        }
        if was.loses_power {
            if is_busy {
                self.coverage.reach(77);
            }
            return;
        }
        self.coverage.reach(70);
        let agent = host.agent.as_ref();
        if agent.is_some_and(|agent| !agent.core.remembered().edge_armed.is_empty()) {
            self.coverage.reach(124);
        }
        if is_busy && self.courses.any(Doing::GoingBack) {
            self.coverage.reach(15);
        }
        if was.kills + 1 == LOOP {
            self.coverage.reach(16);
        }
    }

    fn site_ends(&mut self, world: &World, number: u16) {
        if number > 0 || world.site(number).is_gone {
            return;
        }
        self.site_kills += 1;
        let courses = &self.courses;
        let waiting =
            world.operators.calls.values().any(|call| {
                matches!(call.request, Request::Deploy { .. }) && call.answer.is_none()
            });
        let rows = [
            (71, true),
            (20, waiting && self.deploys > courses.started),
            (21, courses.is_busy()),
            (22, courses.any(Doing::Planned)),
            (23, courses.unsent && courses.is_busy()),
            (24, courses.any(Doing::Moving)),
            (25, courses.any(Doing::Watching)),
            (26, courses.has_flips()),
            (27, courses.is_before_the_drain()),
            (28, courses.any(Doing::GoingBack)),
            (29, self.site_kills == LOOP),
            (126, courses.has_armed_edges()),
        ];
        for (row, is_reached) in rows {
            if is_reached {
                self.coverage.reach(row);
            }
        }
        self.courses.unsent = false;
    }

    fn fault(&mut self, world: &World, fault: &Fault) {
        let row = match *fault {
            Fault::CutPower { host, .. } => {
                self.stages[usize::from(host)].loses_power = true;
                62
            }
            Fault::PauseAgent { for_ms, .. } if for_ms > LONG_MS => 17,
            Fault::CutLink { host, direction, for_ms } => {
                self.cut(world, host, direction, for_ms);
                return;
            }
            Fault::FillDisk { host, .. } if is_switching(world.host(host)) => 57,
            Fault::CrashGate { host, .. } if world.host(host).gate.holds_at_all() => 125,
            Fault::Suspend { .. } => 81,
            Fault::SetClock { .. } => 78,
            Fault::KillInstance { .. } => 69,
            Fault::FailDisk { .. } => 60,
            Fault::SlowDisk { .. } | Fault::SlowCoordinatorDisk { .. } => 61,
            Fault::RefuseProcesses { .. } => 68,
            Fault::FlipBit { .. } => 63,
            Fault::SlowLink { .. } => 43,
            Fault::ResetLink { .. } => 46,
            Fault::CutCoordinatorPower { .. } => 62,
            Fault::FailCoordinatorDisk { .. } => 55,
            Fault::SetCoordinatorClock { .. } => 79,
            Fault::Clone => 31,
            Fault::LoseCoordinator => 33,
            Fault::KillAgent { .. }
            | Fault::PauseAgent { .. }
            | Fault::CrashGate { .. }
            | Fault::HinderGate { .. }
            | Fault::FillDisk { .. }
            | Fault::KillCoordinator { .. }
            | Fault::PauseCoordinator { .. }
            | Fault::Backup
            | Fault::Restore { .. }
            | Fault::EndClone
            | Fault::Route { .. } => return,
        };
        self.coverage.reach(row);
    }

    fn cut(&mut self, world: &World, host: u16, direction: Direction, for_ms: u64) {
        if for_ms > LONG_MS {
            self.coverage.reach(match direction {
                Direction::Both => 34,
                Direction::Up => 35,
                Direction::Down => 36,
            });
            if !world.script.network.keepalive {
                self.coverage.reach(39);
            }
        }
        let stage = &mut self.stages[usize::from(host)];
        stage.flaps += 1;
        if stage.flaps == FLAPS {
            self.coverage.reach(38);
        }
        let links = world.network.links.iter();
        if links.filter(|link| link.is_cut(Direction::Both)).count() >= SWIZZLED {
            self.coverage.reach(42);
        }
    }

    fn effect(&mut self, world: &World, host: &Host, effect: &Effect<'_>) {
        match effect {
            Effect::Start { .. } => {
                let link = world.network.link(host.number);
                let is_away = world.site(link.coordinator).process.is_none();
                if is_away || link.is_cut(Direction::Both) {
                    self.coverage.reach(86);
                }
            }
            Effect::Hook { hook, release, .. } => {
                let spec = world.spec_of(&release.name.application, &release.name.version);
                let behaviour = spec.map(|spec| spec.behaviour_on(host.number).of_hook(hook.kind));
                if behaviour == Some(HookBehaviour::Hangs) {
                    self.coverage.reach(97);
                }
            }
            Effect::Stop { instance, .. } => {
                let process = host.kernel.processes.get(instance);
                match process.map(|process| process.behaviour.on_stop) {
                    Some(OnStop::Ignores) => self.coverage.reach(73),
                    Some(OnStop::LeavesChild { .. }) => self.coverage.reach(74),
                    Some(OnStop::Exits { .. }) | None => {}
                }
            }
        }
    }

    fn asked(&mut self, world: &World, id: CallId) {
        let Some(call) = world.operators.calls.get(&id) else { return };
        match &call.request {
            Request::Deploy { .. } => {
                self.deploys += usize::from(call.tries == 1);
                if self.courses.any(Doing::GoingBack) {
                    self.coverage.reach(103);
                }
            }
            Request::Control { verb: Verb::Abort, .. } if self.courses.is_busy() => {
                self.coverage.reach(106);
            }
            Request::LabelAgent { .. } | Request::Exclude { .. } | Request::DrainAgent { .. }
                if self.courses.is_busy() =>
            {
                self.coverage.reach(105);
            }
            Request::RemoveAgent { agent } => {
                if self.courses.is_busy() {
                    self.coverage.reach(105);
                }
                let host = world.hosts.iter().find(|host| host.name == *agent);
                let agent = host.and_then(|host| host.agent.as_ref());
                if agent.is_some_and(|agent| agent.connection.is_some()) {
                    self.coverage.reach(91);
                }
            }
            _ => {}
        }
    }

    fn end(&mut self, world: &World) {
        let network = &world.script.network;
        if network.duplicate_permille > 0 || network.reorder_permille > 0 {
            self.coverage.reach(40);
        }
        if network.loss_permille > 0 {
            self.coverage.reach(43);
        }
    }
}

fn rows_of_stage(stage: Stage) -> [Option<u8>; 5] {
    [
        stage.accepts.then_some(1),
        stage.untold.then_some(2),
        (stage.fetches > 0).then_some(3),
        stage.stops_done.then_some(10),
        stage.removes.then_some(14),
    ]
}

/// Returns the rows of what is remembered of each slot at this moment.
fn rows_of_slots(host: &Host) -> Vec<Option<u8>> {
    let Some(agent) = &host.agent else { return Vec::new() };
    let mut rows = Vec::new();
    let reports = agent.core.reports();
    for application in agent.core.remembered().applications.values() {
        let name = &application.assignment.application;
        let report = reports.iter().find(|report| report.application == *name);
        for slot in Slot::ALL {
            let Some(instance) = &application.slots.of(slot).instance else { continue };
            let is_alive =
                host.kernel.processes.get(&instance.id).is_some_and(|process| process.is_alive());
            let goal = application.goal(slot);
            let is_wanted =
                matches!(goal, SlotGoal::Running(release) if *release == instance.release);
            let health = report.map(|report| report.slots.of(slot).health);
            rows.push(match &instance.life {
                Life::Starting => Some(11),
                Life::Stopping { hook: HookProgress::Begun } | Life::Stopped { .. } => Some(5),
                Life::Stopping { .. } if is_alive => Some(7),
                Life::Stopping { .. } => Some(8),
                Life::Running { .. } if !is_wanted => Some(6),
                Life::Running { .. } => match health {
                    Some(Health::Unknown | Health::Passing) => Some(12),
                    Some(Health::Settled) if agent.connection.is_none() => Some(13),
                    Some(Health::Settled | Health::Failing) | None => None,
                },
                Life::Ended { .. } => None,
            });
        }
    }
    rows
}

fn is_switching(host: &Host) -> bool {
    rows_of_slots(host).iter().flatten().any(|row| (7..=12).contains(row))
}
