//! The world: a fleet, its network, its coordinators and its operators, on one clock, in one thread.
//!
//! The cores are the real ones, and so are the journal and the events' stored form. What stands
//! around them here does what the daemons' shells do, and goes wrong as machines do.

mod agent_loop;
mod checks;
mod clock;
mod counts;
mod faults;
mod gate;
mod host;
mod kernel;
mod links;
mod network;
mod operator;
mod perform;
mod setup;
mod site;

use cutover_agent_core::{GateProgram, Input as AgentInput};
use cutover_common::{ApplicationName, InstanceId, Sha256, Version};
use cutover_coordinator_core::{
    Answer, Refusal,
    input::{MetricAnswer, QueryId},
};
use uuid::Uuid;

pub(crate) use self::{checks::NOT_WELL, perform::busy_permille};
pub use self::{
    clock::{ProcessClock, Wall},
    gate::Gate,
    host::{AgentProcess, Certificate, DiskHandle, Host},
    kernel::{Kernel, Process},
    network::{Connection, ConnectionId, Down, Link, Message, Network, Up},
    operator::{CallId, OperatorCall, Operators},
    perform::{Fetch, Spawn},
    setup::HOOK_WITHIN,
    site::{Site, SiteProcess, Store},
};
use crate::{
    coverage::Coverage,
    dice::Dice,
    moment::Moment,
    oracle::{Oracles, Seen, Violation},
    queue::Queue,
    script::{Direction, Release, Script, What},
    trace::{Trace, Who},
};

/// Something that happens at a moment of the queue. What is for a process carries the epoch of
/// that process: it does not reach a later one.
#[derive(Debug)]
pub(crate) enum Happening {
    Scheduled { index: usize },
    SiteStarts { number: u16, epoch: u32 },
    SiteTakes { number: u16, epoch: u32 },
    SiteStored { number: u16, epoch: u32 },
    SiteWakes { number: u16, epoch: u32 },
    SiteGoesOn { number: u16 },
    SiteDiskIsQuick { number: u16 },
    SiteRestored { epoch: u32 },
    AgentStarts { number: u16, epoch: u32 },
    AgentTakes { number: u16, epoch: u32 },
    AgentStored { number: u16, epoch: u32 },
    AgentWakes { number: u16, epoch: u32 },
    AgentHears { number: u16, epoch: u32, input: Box<AgentInput> },
    AgentGoesOn { number: u16 },
    HostGoesOn { number: u16 },
    HostBoots { number: u16 },
    DiskHasRoom { number: u16 },
    DiskIsQuick { number: u16 },
    ProcessesFit { number: u16 },
    Fetched { number: u16, epoch: u32, fetch: Box<Fetch> },
    Spawned { number: u16, epoch: u32, boot: u32, instance: InstanceId },
    Crashes { number: u16, boot: u32, instance: InstanceId },
    Stopped { number: u16, epoch: u32, boot: u32, instance: InstanceId, killed: bool },
    Answered { number: u16, epoch: u32, instance: InstanceId, passed: bool },
    Measured { number: u16, epoch: u32, query: QueryId, found: Box<MetricAnswer> },
    GateIsTold { number: u16, epoch: u32, revision: u64, program: Box<GateProgram> },
    GateIsSeen { number: u16, process: u32 },
    GateStarts { number: u16, process: u32 },
    GateIsFree { number: u16, application: ApplicationName },
    Dials { number: u16, epoch: u32 },
    Connected { number: u16, epoch: u32, coordinator: u16 },
    Arrives { id: ConnectionId, message: Box<Message> },
    ClosedAbove { id: ConnectionId },
    ClosedBelow { id: ConnectionId },
    Severed { id: ConnectionId },
    Silence { id: ConnectionId },
    KeepaliveEnds { host: u16, cut: u32 },
    LinkMended { host: u16, direction: Direction },
    LinkIsQuick { host: u16, by_us: u64 },
    Joins { host: u16, token_hash: Sha256 },
    CertificateArrives { host: u16, after: u32, enrolment: Uuid },
    Renews { number: u16, serial: u32 },
    CertificateEnds { number: u16, serial: u32 },
    CallArrives { id: CallId },
    CallIsLate { id: CallId },
    AnswerArrives { id: CallId, answer: Box<Result<Answer, Refusal>> },
    Heals,
    TakesHigherTerm,
    LooksForRest,
}

/// What was counted in a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub happenings: u64,
    /// Inputs that a core took.
    pub inputs: u64,
    pub messages: u64,
    pub faults: u64,
    pub checks: u64,
    /// Rollouts that came to their end.
    pub rollouts: u64,
}

impl Counts {
    /// Adds what was counted in another run.
    pub const fn add(&mut self, other: &Self) {
        let Self { happenings, inputs, messages, faults, rollouts, checks } = other;
        self.happenings += *happenings;
        self.inputs += *inputs;
        self.messages += *messages;
        self.faults += *faults;
        self.rollouts += *rollouts;
        self.checks += *checks;
    }
}

/// One run.
#[derive(Debug)]
pub struct World {
    pub script: Script,
    pub now: Moment,
    pub sites: Vec<Site>,
    pub hosts: Vec<Host>,
    pub network: Network,
    pub operators: Operators,
    pub trace: Trace,
    pub counts: Counts,
    pub coverage: Coverage,
    /// What was broken, and ended the run.
    pub violation: Option<Violation>,
    /// The backup that a restore would be made from.
    pub backup: Option<Store>,
    /// Everything that is to be well has come to rest: there is nothing more to see.
    is_at_rest: bool,
    queue: Queue<Happening>,
    luck: Dice,
    /// None while they look.
    oracles: Option<Box<Oracles>>,
}

impl World {
    /// Makes the world of a script, with everything installed and nothing deployed. With
    /// `is_told` the trace keeps lines for people.
    pub fn new(script: Script, is_told: bool) -> Self {
        let seed = script.seed;
        let hosts = script.hosts;
        let mut world = Self {
            now: Moment::default(),
            sites: Vec::new(),
            hosts: Vec::new(),
            network: Network::new(seed, script.network, hosts),
            operators: Operators::default(),
            trace: Trace::new(is_told),
            counts: Counts::default(),
            coverage: Coverage::default(),
            violation: None,
            backup: None,
            is_at_rest: false,
            queue: Queue::new(seed),
            luck: Dice::new(seed, "world"),
            oracles: Some(Box::new(Oracles::new(&script))),
            script,
        };
        world.install();
        world
    }

    /// Runs to the end of the script, or to the first broken promise.
    pub fn run(&mut self) {
        let end = Moment::from_ms(self.script.ends_ms);
        while self.violation.is_none()
            && !self.is_at_rest
            && let Some((at, happening)) = self.queue.pop(end)
        {
            self.now = at;
            self.counts.happenings += 1;
            self.happen(happening);
        }
        if self.violation.is_none() {
            self.now = if self.is_at_rest { self.now } else { end };
            self.see(&Seen::End);
        }
        if let Some(oracles) = &self.oracles {
            self.coverage.clone_from(oracles.coverage());
        }
    }

    /// Shows the oracles what happened.
    pub(crate) fn see(&mut self, seen: &Seen<'_>) {
        if self.violation.is_some() {
            return;
        }
        self.counts.checks += 1;
        let Some(mut oracles) = self.oracles.take() else { return };
        let judged = oracles.see(self, seen);
        self.oracles = Some(oracles);
        if let Err(violation) = judged {
            self.breaks(violation);
        }
    }

    /// A promise is broken, which ends the run.
    pub(crate) fn breaks(&mut self, violation: Violation) {
        self.trace.tell(self.now, Who::World, || format!("BROKEN: {violation}"));
        self.violation = Some(violation);
    }

    /// Returns a site.
    pub fn site(&self, number: u16) -> &Site {
        &self.sites[usize::from(number)]
    }

    pub(crate) fn site_mut(&mut self, number: u16) -> &mut Site {
        &mut self.sites[usize::from(number)]
    }

    /// Returns a host.
    pub fn host(&self, number: u16) -> &Host {
        &self.hosts[usize::from(number)]
    }

    pub(crate) fn host_mut(&mut self, number: u16) -> &mut Host {
        &mut self.hosts[usize::from(number)]
    }

    /// Returns what the script says of a release.
    pub fn spec_of(&self, application: &ApplicationName, version: &Version) -> Option<&Release> {
        let of_name = |spec: &&crate::script::Application| spec.name == application.as_str();
        let spec = self.script.applications.iter().find(of_name)?;
        spec.releases.iter().find(|release| release.version == version.as_pushed())
    }

    /// Returns how many things wait in the queue.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each thing that can happen")]
    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Scheduled { index } => self.scheduled(index),
            Happening::SiteStarts { number, epoch } => {
                if self.site(number).epoch == epoch {
                    self.start_site(number);
                }
            }
            Happening::SiteTakes { number, epoch } => {
                if self.site(number).epoch == epoch {
                    self.site_takes(number);
                }
            }
            Happening::SiteStored { number, epoch } => {
                if self.site(number).epoch == epoch {
                    self.site_stored(number);
                }
            }
            Happening::SiteWakes { number, epoch } => {
                if self.site(number).epoch == epoch {
                    self.site_wakes(number);
                }
            }
            Happening::SiteGoesOn { number } => self.site_goes_on(number),
            Happening::SiteDiskIsQuick { number } => self.site_mut(number).sync_slow_us = None,
            Happening::SiteRestored { epoch } => self.restored(epoch),
            Happening::AgentStarts { number, epoch } => {
                let host = self.host(number);
                if host.epoch == epoch && host.is_up() {
                    self.start_agent(number);
                }
            }
            Happening::AgentTakes { number, epoch } => {
                if self.host(number).epoch == epoch {
                    self.agent_takes(number);
                }
            }
            Happening::AgentStored { number, epoch } => {
                if self.host(number).epoch == epoch {
                    self.agent_stored(number);
                }
            }
            Happening::AgentWakes { number, epoch } => {
                if self.host(number).epoch == epoch {
                    self.agent_wakes(number);
                }
            }
            Happening::Measured { number, epoch, query, found } => {
                self.measured(number, epoch, query, *found);
            }
            Happening::AgentHears { number, epoch, input } => {
                self.tell_agent(number, epoch, *input);
            }
            Happening::AgentGoesOn { number } => self.agent_goes_on(number),
            Happening::HostGoesOn { number } => self.host_goes_on(number),
            Happening::HostBoots { number } => self.host_boots(number),
            Happening::DiskHasRoom { number } => {
                self.host(number).disk.get().set_full(false);
            }
            Happening::DiskIsQuick { number } => self.host_mut(number).sync_slow_us = None,
            Happening::ProcessesFit { number } => {
                let refuses = &mut self.host_mut(number).refuses_processes;
                *refuses = refuses.saturating_sub(1);
            }
            Happening::Fetched { number, epoch, fetch } => self.fetched(number, epoch, *fetch),
            Happening::Spawned { number, epoch, boot, instance } => {
                self.spawned(number, epoch, boot, instance);
            }
            Happening::Crashes { number, boot, instance } => {
                if self.host(number).kernel.boot == boot {
                    self.end_process(number, instance, "exited with status 1");
                }
            }
            Happening::Stopped { number, epoch, boot, instance, killed } => {
                self.stopped(number, epoch, boot, instance, killed);
            }
            Happening::Answered { number, epoch, instance, passed } => {
                self.answered(number, epoch, instance, passed);
            }
            Happening::GateIsTold { number, epoch, revision, program } => {
                self.gate_is_told(number, epoch, revision, *program);
            }
            Happening::GateIsSeen { number, process } => self.gate_is_seen(number, process),
            Happening::GateStarts { number, process } => self.gate_starts(number, process),
            Happening::GateIsFree { number, application } => {
                self.free_gate(number, Some(&application));
            }
            Happening::Dials { number, epoch } => {
                if self.host(number).epoch == epoch {
                    self.dials(number);
                }
            }
            Happening::Connected { number, epoch, coordinator } => {
                self.connected(number, epoch, coordinator);
            }
            Happening::Arrives { id, message } => self.arrives(id, *message),
            Happening::ClosedAbove { id } => self.closed_above(id),
            Happening::ClosedBelow { id } => self.closed_below(id),
            Happening::Severed { id } => self.severed(id),
            Happening::Silence { id } => self.silence(id),
            Happening::KeepaliveEnds { host, cut } => self.keepalive_ends(host, cut),
            Happening::LinkMended { host, direction } => self.link_mended(host, direction),
            Happening::LinkIsQuick { host, by_us } => {
                let link = self.network.link_mut(host);
                link.slow_us = link.slow_us.saturating_sub(by_us);
            }
            Happening::Joins { host, token_hash } => self.joins(host, token_hash),
            Happening::CertificateArrives { host, after, enrolment } => {
                self.certified(host, after, enrolment);
            }
            Happening::Renews { number, serial } => self.renews(number, serial),
            Happening::CertificateEnds { number, serial } => self.certificate_ends(number, serial),
            Happening::CallArrives { id } => self.call_arrives(id),
            Happening::CallIsLate { id } => self.try_call(id),
            Happening::AnswerArrives { id, answer } => self.answer_arrives(id, *answer),
            Happening::Heals => self.heals(),
            Happening::TakesHigherTerm => self.take_higher_term(),
            Happening::LooksForRest => self.look_for_rest(),
        }
    }

    fn scheduled(&mut self, index: usize) {
        let Some(entry) = self.script.entries.get(index).cloned() else { return };
        match entry.what {
            What::Fault(fault) => self.fault(&fault),
            What::Call(call) => self.call(&call),
        }
    }
}
