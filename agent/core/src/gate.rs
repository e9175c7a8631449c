//! Gate: what the host's gate is to do, what it said that it does, and when it is told anew.
//!
//! The gate is another process, with a memory of its own. It is told the whole program whenever
//! it does not follow the one that it should, so that telling, telling again and recovering are
//! one path.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use cutover_common::{
    Allow, ApplicationName, Backoff, EdgeHost, HoldLimits, HoldState, Permille, Service, Slot,
    Slots, Timestamp, planted,
};
use uuid::Uuid;

use crate::{
    Action, Agent, Application, Instance, Life, TrafficState, turn::Turn, volatile::Volatile,
};

/// How fast a gate that could not be told is told again. It is on this host, and while it does
/// not follow, a swap waits or clients are sent away.
const BACKOFF: Backoff =
    Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(1) };

/// The ports that instances behind a gate are given: above what services are usually given, and
/// below those that Linux hands out by itself (32768, `ip_local_port_range`).
pub const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// Everything that the gate should be doing.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct GateProgram {
    pub services: BTreeMap<ApplicationName, GateService>,
    /// Where it leads to in front of other hosts. None of them has the port of another service.
    pub edges: BTreeMap<ApplicationName, GateEdge>,
}

/// One application's port in front of other hosts, and where it leads.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GateEdge {
    pub service: Service,
    /// Their weights are what they get when nothing is held.
    pub hosts: Vec<EdgeHost>,
    /// What of the new may be held. None: it goes on.
    pub hold: Option<HoldLimits>,
}

/// One application's port, and where it leads.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GateService {
    pub service: Service,
    pub upstreams: Slots<Option<GateUpstream>>,
    /// The slot that is led to. While what is new is held no slot has a weight, and this one gets
    /// it afterwards unless another program comes.
    pub to: Option<Slot>,
    /// How clients reach one slot on purpose.
    pub allow: Option<GateAllow>,
    /// What of the new may be held. None: it goes on.
    pub hold: Option<HoldLimits>,
    /// Hosts that requests are passed on to, while nobody here gets them.
    pub peers: Vec<IpAddr>,
}

impl GateService {
    /// Returns whether anything new may go to `slot`, if it is healthy.
    pub fn gives_to(&self, slot: Slot) -> bool {
        let is_allowed = self.allow.as_ref().is_some_and(|allow| allow.slot == slot);
        self.upstreams.of(slot).is_some_and(|it| it.weight > 0 || is_allowed)
    }
}

/// Which requests reach a slot whatever its weight.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GateAllow {
    pub slot: Slot,
    pub by: Allow,
}

/// An instance that the gate may lead to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct GateUpstream {
    pub port: u16,
    /// Its share of what is new, in permille.
    pub weight: u16,
    pub is_healthy: bool,
    /// Whether what it still has is to end, within the service's limits.
    pub drains: bool,
}

/// What a gate said of itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GateState {
    /// One per gate process.
    pub gate: Uuid,
    /// The program that it follows. None before the first.
    pub revision: Option<u64>,
    /// The slots at which something is under way, or can still come.
    pub busy: BTreeSet<(ApplicationName, Slot)>,
    /// The applications for which something is under way at a host behind this edge, or can still
    /// come.
    pub busy_edges: BTreeSet<ApplicationName>,
    /// The services with which something is wrong.
    pub troubles: BTreeMap<ApplicationName, GateTrouble>,
}

/// What is wrong with one service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GateTrouble {
    /// Whether it is served as the program says all the same.
    pub is_served: bool,
    /// What is wrong, and what to do.
    pub detail: String,
}

/// What is known of the gate. Volatile: another agent process tells it everything anew.
#[derive(Debug, Default)]
pub(crate) struct GateLink {
    /// What it said last, and the program that it said it of, while it follows that one.
    follows: Option<(GateProgram, GateState)>,
    telling: Option<(u64, GateProgram)>,
    failures: u32,
    retry_at: Option<Timestamp>,
    /// Why it could not be told, or be reached; empty if all is well.
    trouble: String,
}

impl GateLink {
    /// Takes the answer to a program.
    pub(crate) fn answered(
        &mut self,
        turn: &mut Turn,
        revision: u64,
        result: Result<GateState, String>,
    ) {
        let Some((asked, program)) = self.telling.take_if(|(asked, _)| *asked == revision) else {
            return;
        };
        match result {
            Ok(state) if state.revision == Some(asked) => {
                self.follows = Some((program, state));
                self.failures = 0;
                self.retry_at = None;
                self.trouble.clear();
            }
            Ok(_) => self.failed(turn, "the gate follows another program; is another agent here?"),
            Err(detail) => self.failed(turn, &detail),
        }
    }

    fn failed(&mut self, turn: &mut Turn, detail: &str) {
        self.follows = None;
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(turn.now + BACKOFF.after(self.failures, turn.draw_jitter()));
        detail.clone_into(&mut self.trouble);
    }

    /// Takes what a gate said without being asked.
    pub(crate) fn said(&mut self, state: GateState) {
        let Some((_, known)) = &mut self.follows else { return };
        if state.revision == known.revision {
            *known = state;
        } else {
            self.follows = None;
        }
    }

    /// The gate cannot be reached.
    pub(crate) fn lost(&mut self, detail: String) {
        self.follows = None;
        self.trouble = detail;
    }

    /// Returns why the gate does not do what it should for this application; empty if nothing is
    /// known to be wrong.
    fn trouble(&self, name: &ApplicationName) -> &str {
        self.trouble_of(name).map_or(&self.trouble, |trouble| &trouble.detail)
    }

    /// Returns why it could not be told, or be reached; empty if all is well.
    pub(crate) fn link_trouble(&self) -> &str {
        &self.trouble
    }

    pub(crate) fn trouble_of(&self, name: &ApplicationName) -> Option<&GateTrouble> {
        self.follows.as_ref().and_then(|(_, state)| state.troubles.get(name))
    }

    /// Returns whether the program that it follows has this application.
    fn serves(&self, name: &ApplicationName) -> bool {
        self.follows.as_ref().is_some_and(|(program, _)| program.services.contains_key(name))
    }

    /// Returns whether the gate has said that it leads to `edges`.
    pub(crate) fn follows_edges(&self, edges: &BTreeMap<ApplicationName, GateEdge>) -> bool {
        self.follows.as_ref().is_some_and(|(program, _)| program.edges == *edges)
    }

    /// Returns what the gate has said of holding what is new for the hosts behind it.
    pub(crate) fn edge_state(&self, name: &ApplicationName) -> HoldState {
        let holds =
            |program: &GateProgram| program.edges.get(name).is_some_and(|edge| edge.hold.is_some());
        let Some((program, state)) = &self.follows else { return HoldState::Open };
        if !(self.is_served(name) && holds(program)) {
            return HoldState::Open;
        }
        // What it is being told is followed at any moment.
        let stays = self.telling.iter().all(|(_, program)| holds(program));
        if stays && planted!(EdgeDrainedBeforeEmpty: true; !state.busy_edges.contains(name)) {
            HoldState::Drained
        } else {
            HoldState::Holding
        }
    }

    /// Returns when the gate is to be told again.
    pub(crate) const fn retry_at(&self) -> Option<Timestamp> {
        self.retry_at
    }

    /// Returns whether the gate has said that it gives `slot` what is new, or that it holds it for
    /// that slot.
    pub(crate) fn leads_to(&self, name: &ApplicationName, slot: Slot) -> bool {
        let service = self.follows.as_ref().and_then(|(program, _)| program.services.get(name));
        let gets = |service: &GateService| {
            let upstream = service.upstreams.of(slot);
            upstream.is_some_and(|it| it.is_healthy && (it.weight > 0 || service.to == Some(slot)))
        };
        planted!(UnservedCountsAsLed: true; self.is_served(name)) && service.is_some_and(gets)
    }

    /// Returns whether the gate has said that it holds what is new.
    pub(crate) fn holds(&self, name: &ApplicationName) -> bool {
        let service = self.follows.as_ref().and_then(|(program, _)| program.services.get(name));
        self.is_served(name) && service.is_some_and(|service| service.hold.is_some())
    }

    fn is_served(&self, name: &ApplicationName) -> bool {
        self.trouble_of(name).is_none_or(|trouble| trouble.is_served)
    }

    /// Returns whether the gate has said that nothing is under way at `slot`, nor can come: the
    /// positive word without which no instance is stopped.
    pub(crate) fn is_empty(&self, name: &ApplicationName, slot: Slot) -> bool {
        let Some((program, state)) = &self.follows else { return false };
        // What it is being told is followed at any moment.
        let telling = self.telling.iter().map(|(_, program)| program);
        let is_led_to = |program: &GateProgram| {
            program.services.get(name).is_some_and(|service| service.gives_to(slot))
        };
        !telling.chain([program]).any(is_led_to) && !state.busy.contains(&(name.clone(), slot))
    }
}

impl Agent {
    /// Tells the gate what it should do, if it is not known to do it.
    pub(crate) fn tell_gate(&mut self, turn: &mut Turn) {
        if self.gate.telling.is_some() || self.gate.retry_at.is_some_and(|at| turn.now < at) {
            return;
        }
        let wanted = self.gate_program();
        let is_followed = match &self.gate.follows {
            Some((program, _)) => *program == wanted,
            // A host without services may have no gate.
            None => wanted.services.is_empty() && wanted.edges.is_empty() && !self.gate_was_used(),
        };
        if is_followed {
            return;
        }
        let revision = turn.draw_number();
        self.gate.telling = Some((revision, wanted.clone()));
        turn.act(Action::TellGate { revision, program: Box::new(wanted) });
    }

    /// Returns whether any application here was ever behind the gate, as far as is remembered.
    fn gate_was_used(&self) -> bool {
        self.remembered.edge.is_some()
            || self
                .remembered
                .applications
                .values()
                .any(|application| application.traffic.since.is_some())
    }

    /// Returns why this application is not served as it should be; empty if nothing is known to be
    /// wrong.
    pub(crate) fn gate_trouble(&self, name: &ApplicationName) -> String {
        let has_port = self.gate.serves(name);
        let port_trouble = if has_port { None } else { self.port_trouble(name) };
        port_trouble.unwrap_or_else(|| self.gate.trouble(name).to_owned())
    }

    /// Returns why the gate cannot serve this application at its port, if it cannot: a port leads
    /// to one application.
    pub(crate) fn port_trouble(&self, name: &ApplicationName) -> Option<String> {
        let applications = &self.remembered.applications;
        let port = applications.get(name)?.service()?.port;
        let holds =
            |application: &Application| application.instance_ports().any(|taken| taken == port);
        if let Some((listener, _)) = applications.iter().find(|(_, it)| holds(it)) {
            return Some(format!(
                "an instance of {listener} was given port {port} of this host; restart that, or \
                 choose a port below {} or from {}",
                PORTS.start, PORTS.end
            ));
        }
        let wants = |application: &Application| {
            application.service().is_some_and(|service| service.port == port)
        };
        // To whom it leads, or led last. Of those to whom it never led the first by name.
        let claim = |application: &Application| {
            (application.traffic.to.is_some(), application.traffic.since.is_some())
        };
        let holder = applications
            .iter()
            .rev()
            .filter(|(_, application)| wants(application))
            .max_by_key(|(_, application)| claim(application))
            .map(|(holder, _)| holder)?;
        (holder != name)
            .then(|| format!("port {port} of this host is {holder}'s; give one of the two another"))
    }

    fn gate_program(&self) -> GateProgram {
        let services = self.gate_services();
        let (edges, _) = self.edges(&services);
        GateProgram { services, edges }
    }

    /// Returns the services of the applications on this host.
    pub(crate) fn gate_services(&self) -> BTreeMap<ApplicationName, GateService> {
        let mut services = BTreeMap::new();
        for (name, application) in &self.remembered.applications {
            let Some(service) = application.service() else { continue };
            if self.port_trouble(name).is_some() {
                continue;
            }
            let volatile = self.volatile.get(name);
            let upstreams = application.slots.map(|slot, state| {
                let instance = state.instance.as_ref()?;
                gate_upstream(application, volatile?, slot, instance)
            });
            let peers = peers(application, service, &upstreams);
            let TrafficState { to, aside, hold, .. } = &application.traffic;
            let other = to.map(Slot::other).filter(|_| hold.limits().is_none());
            let allow = other.zip(aside.allow.clone()).map(|(slot, by)| GateAllow { slot, by });
            let (to, hold) = (*to, hold.limits());
            let service = service.clone();
            let told = GateService { service, upstreams, to, allow, hold, peers };
            services.insert(name.clone(), told);
        }
        services
    }
}

/// Returns where requests for `service` are passed on to: nowhere while somebody here serves.
fn peers(
    application: &Application,
    service: &Service,
    upstreams: &Slots<Option<GateUpstream>>,
) -> Vec<IpAddr> {
    let serves =
        upstreams.iter().any(|(_, it)| it.is_some_and(|it| it.weight > 0 && it.is_healthy));
    let is_held = application.traffic.hold.limits().is_some();
    // Where an instance was never led to, there is nothing to stand in for.
    if serves || is_held || application.traffic.since.is_none() {
        return Vec::new();
    }
    // They are those of what is wanted, which may be reached in another way than what is served
    // until its instance is gone.
    let wanted = application.wanted().and_then(|(_, release)| release.service.as_ref());
    if wanted.is_some_and(|wanted| !service.can_be_passed_on_to(wanted)) {
        return Vec::new();
    }
    application.assignment.peers.clone()
}

fn gate_upstream(
    application: &Application,
    volatile: &Volatile,
    slot: Slot,
    instance: &Instance,
) -> Option<GateUpstream> {
    let Life::Running { .. } = instance.life else { return None };
    let port = instance.port?;
    let weight = weight(application, volatile, slot);
    let is_wanted = application.goal(slot).release() == Some(&instance.release)
        && application.goal(slot).wants_instance();
    let is_healthy = volatile.serves_well(slot);
    let drains = !application.traffic.leads_to(slot) && !is_wanted;
    Some(GateUpstream { port, weight, is_healthy, drains })
}

/// Returns the share of `slot` at this moment. Of two, one that fails its probes leaves its share to
/// the other.
fn weight(application: &Application, volatile: &Volatile, slot: Slot) -> u16 {
    let TrafficState { to, aside, hold, .. } = &application.traffic;
    let Some(to) = *to else { return 0 };
    // Held requests choose by the next program. With no weight in this one, the gate can say of each
    // slot that nothing is under way there, nor can come.
    if hold.limits().is_some() {
        return 0;
    }
    let is_aside = slot != to;
    let share = if is_aside { aside.share } else { aside.share.rest() };
    let is_alone = aside.share > Permille::NONE && !volatile.serves_well(slot.other());
    if is_alone { Permille::ALL.get() } else { share.get() }
}
