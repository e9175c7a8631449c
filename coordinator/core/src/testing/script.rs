//! Generated stories: what may happen, in any order, and what a fleet does that is left alone.

use std::time::Duration;

use cutover_common::{AgentName, Generation, Health, OnceStand, Phase, Slot, SlotReport};
use proptest::prelude::*;

use super::{Story, order, seconds};
use crate::{DeployOrder, IfBusy, Input, LeaveOut, Request, Verb, input::ReplyId, rollout::State};

/// Something that happens.
#[derive(Clone, Debug)]
pub(crate) enum Happening {
    /// The agent of this number does what it was told.
    Obey(usize),
    ObeyAll,
    /// What it was told to run crashes again and again.
    Fail(usize),
    /// It says this of its slot (0 is blue), `behind` generations ago or, below 0, in the future.
    Say {
        agent: usize,
        slot: usize,
        phase: Phase,
        health: Health,
        restarts: u32,
        behind: i8,
    },
    /// It says that the once hook which it was told to run stands so.
    SayOnce(usize, OnceStand),
    /// It says that it holds another content of the same version.
    SayLookalike(usize),
    Connect(usize),
    Hello(usize),
    Lose(usize),
    /// Its network is cut, and nobody has noticed.
    CutOff(usize),
    Beat(usize),
    Pass(Duration),
    PassInSilence(Duration),
    /// Time goes on while the coordinator is busy or stopped.
    Jump(Duration),
    Control(Verb),
    /// These agents are taken out of the newest rollout.
    LeaveOut(LeaveOut, Vec<usize>),
    Drain {
        agent: usize,
        is_forced: bool,
    },
    Undrain(usize),
    Deploy {
        to: usize,
        settings: Settings,
    },
    Restart,
}

/// How a generated deploy goes.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    batch: usize,
    floor: usize,
    failed: u32,
    unreachable: u32,
    soak: bool,
    bake: bool,
    back: bool,
    queues: bool,
}

const BATCHES: [&str; 5] = ["1", "2", "50%", "100%", "1,2"];
const FLOORS: [&str; 4] = ["", "0", "1", "50%"];
/// The last one has a once hook.
const VERSIONS: [&str; 4] = ["1.0", "2.0", "3.0", "4.0"];

pub(crate) fn settings() -> impl Strategy<Value = Settings> {
    let small = || prop_oneof![3 => Just(0_u32), 1 => Just(1), 1 => Just(2)];
    let numbers = (0..BATCHES.len(), 0..FLOORS.len(), small(), small());
    (numbers, any::<[bool; 4]>()).prop_map(|((batch, floor, failed, unreachable), flags)| {
        let [soak, bake, back, queues] = flags;
        Settings { batch, floor, failed, unreachable, soak, bake, back, queues }
    })
}

pub(crate) fn happening() -> impl Strategy<Value = Happening> {
    let agent = || 0..4_usize;
    let phase = prop_oneof![
        Just(Phase::Empty),
        Just(Phase::Preparing),
        Just(Phase::Prepared),
        Just(Phase::Waiting),
        Just(Phase::Starting),
        Just(Phase::Running),
        Just(Phase::Stopping),
        Just(Phase::Failed),
    ];
    let health = prop_oneof![
        Just(Health::Unknown),
        Just(Health::Passing),
        Just(Health::Settled),
        Just(Health::Failing),
    ];
    let behind = prop_oneof![12 => Just(0_i8), 4 => Just(1), 1 => Just(2), 1 => Just(-1)];
    let say = (agent(), 0..2_usize, phase, health, 0..4_u32, behind);
    let say = say.prop_map(|(agent, slot, phase, health, restarts, behind)| Happening::Say {
        agent,
        slot,
        phase,
        health,
        restarts,
        behind,
    });
    let wait =
        || prop_oneof![8 => 0..40_u64, 3 => 40..200_u64, 1 => 200..900_u64].prop_map(seconds);
    let once = prop_oneof![
        Just(OnceStand::Running),
        Just(OnceStand::Passed),
        Just(OnceStand::Failed),
        Just(OnceStand::Interrupted),
    ];
    let verb = prop_oneof![
        4 => Just(Verb::Pause),
        6 => Just(Verb::Resume),
        1 => Just(Verb::Abort),
        6 => Just(Verb::Retry),
        2 => Just(Verb::Rollback),
        3 => Just(Verb::Promote { full: false }),
        1 => Just(Verb::Promote { full: true }),
    ];
    prop_oneof![
        12 => agent().prop_map(Happening::Obey),
        12 => Just(Happening::ObeyAll),
        3 => agent().prop_map(Happening::Fail),
        4 => say,
        3 => (agent(), once).prop_map(|(agent, stand)| Happening::SayOnce(agent, stand)),
        1 => agent().prop_map(Happening::SayLookalike),
        5 => agent().prop_map(Happening::Connect),
        1 => agent().prop_map(Happening::Hello),
        2 => agent().prop_map(Happening::Lose),
        1 => agent().prop_map(Happening::CutOff),
        1 => agent().prop_map(Happening::Beat),
        6 => wait().prop_map(Happening::Pass),
        1 => wait().prop_map(Happening::PassInSilence),
        1 => wait().prop_map(Happening::Jump),
        3 => verb.prop_map(Happening::Control),
        2 => (any::<bool>(), prop::collection::vec(agent(), 1..3)).prop_map(|(is_skip, agents)| {
            let how = if is_skip { LeaveOut::Skip } else { LeaveOut::Exclude };
            Happening::LeaveOut(how, agents)
        }),
        2 => (agent(), any::<bool>())
            .prop_map(|(agent, is_forced)| Happening::Drain { agent, is_forced }),
        2 => agent().prop_map(Happening::Undrain),
        3 => (0..VERSIONS.len(), settings()).prop_map(|(to, settings)| Happening::Deploy { to, settings }),
        1 => Just(Happening::Restart),
    ]
}

impl Story {
    fn nth(&self, agent: usize) -> AgentName {
        let names = self.names();
        names[agent % names.len()].clone()
    }

    /// Lets `happening` happen, as far as it can.
    pub(crate) fn happen(&mut self, happening: &Happening) {
        match happening {
            Happening::Obey(agent) => self.obey(self.nth(*agent).as_str()),
            Happening::ObeyAll => self.obey_all(),
            Happening::Fail(agent) => self.fail_what_is_told(&self.nth(*agent)),
            Happening::Say { agent, slot, phase, health, restarts, behind } => {
                let change = |report: &mut SlotReport| {
                    report.phase = *phase;
                    report.health = *health;
                    report.restarts = *restarts;
                };
                self.say_strangely(*agent, *slot, i64::from(*behind), change);
            }
            Happening::SayOnce(agent, stand) => self.say_once(&self.nth(*agent), *stand),
            Happening::SayLookalike(agent) => {
                self.say_strangely(*agent, 0, 0, |report| {
                    if let Some((_, digest)) = &mut report.release {
                        *digest = super::hash("something else");
                    }
                });
            }
            Happening::Connect(agent) => self.connect(self.nth(*agent).as_str()),
            Happening::Hello(agent) => {
                self.hello(self.nth(*agent).as_str());
            }
            Happening::Lose(agent) => self.lose(self.nth(*agent).as_str()),
            Happening::CutOff(agent) => {
                let agent = self.nth(*agent);
                self.agents.get_mut(&agent).unwrap().session = None;
            }
            Happening::Beat(agent) => self.beat(self.nth(*agent).as_str()),
            Happening::Pass(duration) => self.pass(*duration),
            Happening::PassInSilence(duration) => self.pass_in_silence(*duration),
            Happening::Jump(duration) => self.now = self.now + *duration,
            Happening::Control(verb) => self.control_quietly(*verb),
            Happening::LeaveOut(how, agents) => {
                let agents: Vec<AgentName> = agents.iter().map(|agent| self.nth(*agent)).collect();
                let Some(rollout) = self.rollout else { return };
                let (rollout, reason, call) = (rollout.to_string(), String::new(), self.draw());
                let how = *how;
                self.ask_quietly(Request::Exclude { rollout, agents, how, reason, call });
            }
            Happening::Drain { agent, is_forced } => {
                let (agent, reason) = (self.nth(*agent), String::new());
                self.ask_quietly(Request::DrainAgent { agent, reason, is_forced: *is_forced });
            }
            Happening::Undrain(agent) => {
                let (agent, reason) = (self.nth(*agent), String::new());
                self.ask_quietly(Request::UndrainAgent { agent, reason });
            }
            Happening::Deploy { to, settings } => self.deploy_quietly(VERSIONS[*to], settings),
            Happening::Restart => self.restart(),
        }
    }

    fn say_strangely(
        &mut self,
        agent: usize,
        slot: usize,
        behind: i64,
        change: impl FnOnce(&mut SlotReport),
    ) {
        let agent = self.nth(agent);
        let Some(mut report) = self.compliance(agent.as_str()) else { return };
        change(report.slots.of_mut(Slot::ALL[slot]));
        report.fence.generation =
            Generation(report.fence.generation.0.saturating_add_signed(-behind));
        self.say(agent.as_str(), report);
    }

    fn say_once(&mut self, agent: &AgentName, stand: OnceStand) {
        let Some(mut report) = self.compliance(agent.as_str()) else { return };
        for once in &mut report.once {
            once.stand = stand;
        }
        if !report.once.is_empty() && stand != OnceStand::Passed {
            for slot in Slot::ALL {
                let slot = report.slots.of_mut(slot);
                let has_ended = stand != OnceStand::Running;
                let phase = if has_ended { Phase::Failed } else { Phase::Waiting };
                if slot.phase == Phase::Running {
                    (slot.phase, slot.health, slot.instance) = (phase, Health::Unknown, None);
                }
            }
        }
        self.say(agent.as_str(), report);
    }

    /// Asks for something, whatever is answered: what else happens at that moment happens too.
    fn ask_quietly(&mut self, request: Request) {
        self.handle(Input::Asked { reply: ReplyId(7), by: "ann".to_owned(), request });
    }

    fn control_quietly(&mut self, verb: Verb) {
        let Some(rollout) = self.rollout else { return };
        let new_rollout = self.draw();
        let (rollout, reason) = (rollout.to_string(), String::new());
        self.ask_quietly(Request::Control {
            rollout,
            verb,
            reason,
            new_rollout,
            if_busy: IfBusy::Refuse,
        });
        if self.core.rollout(new_rollout).is_some() {
            self.rollout = Some(new_rollout);
        }
    }

    fn deploy_quietly(&mut self, to: &str, settings: &Settings) {
        let counts = [settings.failed.to_string(), settings.unreachable.to_string()];
        let pairs = [
            ("batch", BATCHES[settings.batch]),
            ("min_healthy", FLOORS[settings.floor]),
            ("max_failed", counts[0].as_str()),
            ("max_unreachable", counts[1].as_str()),
            ("soak", if settings.soak { "30s" } else { "0s" }),
            ("bake", if settings.bake { "2m" } else { "0s" }),
            ("auto_rollback", if settings.back { "on" } else { "off" }),
        ];
        let (request_id, rollout) = (self.draw(), self.draw());
        let if_busy = if settings.queues { IfBusy::Queue } else { IfBusy::Refuse };
        let order = DeployOrder { if_busy, ..order(to, &pairs) };
        let deploy = Request::Deploy { request_id, rollout, order };
        self.ask_quietly(deploy);
        if self.core.rollout(rollout).is_some() {
            self.rollout = Some(rollout);
        }
    }

    /// Leaves the fleet alone: everybody is connected and does what it is told, but `broken`,
    /// which fails whatever it is to run.
    pub(crate) fn leave_alone(&mut self, broken: Option<usize>, duration: Duration) {
        let broken = broken.map(|number| self.nth(number));
        let end = self.now + duration;
        while self.now < end && !self.is_at_rest() {
            self.pass_in_silence(seconds(5));
            for agent in self.names() {
                if self.core.fleet().session(&agent).is_none() {
                    self.agents.get_mut(&agent).unwrap().session = None;
                    self.connect(agent.as_str());
                }
                match &broken {
                    Some(broken) if *broken == agent => self.fail_what_is_told(&agent),
                    Some(_) | None => self.obey(agent.as_str()),
                }
                self.beat(agent.as_str());
            }
        }
    }

    /// Returns whether every rollout is over, or waits for a person or for one that does.
    pub(crate) fn is_at_rest(&self) -> bool {
        let waits = |queued| self.core.ahead_of(queued).rollout.is_some();
        self.core.queue().waiting().all(waits)
            && self
                .core
                .active()
                .all(|rollout| matches!(rollout.state, State::Paused { .. } | State::Held { .. }))
    }

    fn fail_what_is_told(&mut self, agent: &AgentName) {
        let Some(mut report) = self.compliance(agent.as_str()) else { return };
        for slot in Slot::ALL {
            let slot = report.slots.of_mut(slot);
            if slot.phase == Phase::Running {
                slot.health = Health::Failing;
                slot.restarts = 5;
            }
        }
        self.say(agent.as_str(), report);
    }

    /// Returns an upper bound for how long the newest rollout and those that are queued can take when
    /// nothing is in their way.
    pub(crate) fn bound(&self) -> Duration {
        let Some(rollout) = self.rollout.and_then(|id| self.core.rollout(id)) else {
            return Duration::ZERO;
        };
        let spec = &rollout.spec;
        let hosts = u32::try_from(rollout.hosts.len()).unwrap_or(u32::MAX);
        // There and back, each host on its own, and each wait to its end.
        let one = spec.soak + spec.healthy_within + spec.progress_within + seconds(60);
        let queued = u32::try_from(self.core.queue().waiting().count()).unwrap_or(u32::MAX);
        // Those that are queued may watch for longer.
        (one * (2 * hosts + 2) + spec.bake) + (one * (2 * hosts + 2) + seconds(600)) * queued
    }
}
