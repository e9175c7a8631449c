//! The gate of one host: what it really follows, and where requests really are under way.

use std::{collections::BTreeMap, time::Duration};

use cutover_agent_core::{GateProgram, GateService, GateState, GateTrouble, GateUpstream, Input};
use cutover_common::{AgentName, ApplicationName, EdgeHost, Slot};
use uuid::Uuid;

use super::{Happening, World, counts::Requests};
use crate::{moment::Moment, oracle::Seen, trace::Who};

/// How often an agent's shell looks at a gate at which something is to end, and a little.
const LOOK_MAX_US: u64 = 30_000;

/// See above. It outlives agents.
#[derive(Debug)]
pub struct Gate {
    /// Counts its processes.
    process: u32,
    pub is_up: bool,
    follows: Option<(u64, GateProgram)>,
    /// Until when something is under way at a slot that gets nothing new.
    under_way: BTreeMap<(ApplicationName, Slot), Moment>,
    /// The same of hosts that it stands in front of.
    under_way_behind: BTreeMap<(ApplicationName, AgentName), Moment>,
    /// The newest agent process that it was told something by.
    told_by: u32,
    /// Applications of which it can serve nothing new, and for how many reasons.
    hindered: BTreeMap<ApplicationName, u32>,
    /// What it serves of these instead of what its program says. None: nothing.
    as_they_were: BTreeMap<ApplicationName, Option<GateService>>,
    /// Since when each slot gets what is new.
    led_since: BTreeMap<(ApplicationName, Slot), Moment>,
    pub(super) requests: Requests,
}

impl Gate {
    pub(crate) const fn new(requests: Requests) -> Self {
        Self {
            process: 1,
            is_up: true,
            follows: None,
            under_way: BTreeMap::new(),
            under_way_behind: BTreeMap::new(),
            told_by: 0,
            hindered: BTreeMap::new(),
            as_they_were: BTreeMap::new(),
            led_since: BTreeMap::new(),
            requests,
        }
    }

    /// Returns what tells its process from every other.
    pub(super) fn id(&self, number: u16) -> Uuid {
        Uuid::from_u128(u128::from(number) << 64 | u128::from(self.process))
    }

    /// Returns the instances of an application that it knows.
    pub(super) fn upstreams(
        &self,
        application: &ApplicationName,
    ) -> impl Iterator<Item = (Slot, GateUpstream)> {
        let service = self.served(application);
        let of = move |slot| Some((slot, (*service?.upstreams.of(slot))?));
        Slot::ALL.into_iter().filter_map(of)
    }

    /// Returns since when `slot` gets what is new.
    pub fn led_since(&self, application: &ApplicationName, slot: Slot) -> Option<Moment> {
        self.led_since.get(&(application.clone(), slot)).copied()
    }

    /// Notes since when slots get what is new.
    fn note(&mut self, now: Moment) {
        let led = self.led();
        self.led_since.retain(|slot, _| led.contains(slot));
        for slot in led {
            self.led_since.entry(slot).or_insert(now);
        }
    }

    /// Returns what its program says of an application.
    fn wanted(&self, application: &ApplicationName) -> Option<&GateService> {
        self.follows.as_ref().and_then(|(_, program)| program.services.get(application))
    }

    /// Returns what it serves of an application.
    fn served(&self, application: &ApplicationName) -> Option<&GateService> {
        match self.as_they_were.get(application) {
            Some(as_it_was) => as_it_was.as_ref(),
            None => self.wanted(application),
        }
    }

    /// Follows another program, as far as it can.
    fn follow(&mut self, revision: u64, program: GateProgram) {
        let as_they_were = self.hindered.keys().filter_map(|name| {
            let (before, next) = (self.served(name), program.services.get(name)?);
            (before != Some(next)).then(|| (name.clone(), before.cloned()))
        });
        self.as_they_were = as_they_were.collect();
        self.follows = Some((revision, program));
    }

    /// Returns every slot that gets what is new.
    fn led(&self) -> Vec<(ApplicationName, Slot)> {
        let services = self.follows.iter().flat_map(|(_, program)| program.services.keys());
        let slots = services.flat_map(|name| Slot::ALL.map(|slot| (name.clone(), slot)));
        slots.filter(|(name, slot)| self.leads_to(name, *slot)).collect()
    }

    /// Returns every host behind it that gets what is new.
    fn led_behind(&self) -> Vec<(ApplicationName, AgentName)> {
        let edges = self.follows.iter().flat_map(|(_, program)| &program.edges);
        let hosts = edges.filter(|(_, edge)| edge.hold.is_none()).flat_map(|(name, edge)| {
            let gets = |host: &&EdgeHost| host.lead.is_some_and(|lead| lead.weight > 0);
            edge.hosts.iter().filter(gets).map(|host| (name.clone(), host.agent.clone()))
        });
        hosts.collect()
    }

    /// Returns whether it sends what is new of an application to the host of `agent`.
    pub fn leads_behind(&self, application: &ApplicationName, agent: &AgentName) -> bool {
        self.is_up && self.led_behind().contains(&(application.clone(), agent.clone()))
    }

    /// Returns whether a request is under way at the host of `agent` behind it.
    pub fn is_busy_behind(
        &self,
        application: &ApplicationName,
        agent: &AgentName,
        now: Moment,
    ) -> bool {
        let place = (application.clone(), agent.clone());
        self.leads_behind(application, agent)
            || self.is_up && self.under_way_behind.get(&place).is_some_and(|at| *at > now)
    }

    /// Returns whether it sends what is new to `slot` at this moment.
    pub fn leads_to(&self, application: &ApplicationName, slot: Slot) -> bool {
        self.is_up && self.served(application).is_some_and(|service| gives_to(service, slot))
    }

    /// Returns whether it holds what is new.
    pub fn holds(&self, application: &ApplicationName) -> bool {
        self.is_up && self.served(application).is_some_and(|service| service.hold.is_some())
    }

    /// Returns whether it holds what is new of an application for the hosts behind it.
    pub fn holds_behind(&self, application: &ApplicationName) -> bool {
        let edges = self.follows.as_ref().map(|(_, program)| &program.edges);
        let edge = edges.and_then(|edges| edges.get(application));
        self.is_up && edge.is_some_and(|edge| edge.hold.is_some())
    }

    /// Returns whether it holds what is new for hosts behind it.
    pub fn holds_at_all(&self) -> bool {
        let edges = self.follows.iter().flat_map(|(_, program)| program.edges.values());
        self.is_up && edges.into_iter().any(|edge| edge.hold.is_some())
    }

    /// Returns whether a request of an application is under way at any host behind it.
    pub fn is_busy_at_all(&self, application: &ApplicationName, now: Moment) -> bool {
        let mut ending = self.under_way_behind.iter();
        self.is_up
            && (self.led_behind().iter().any(|(name, _)| name == application)
                || ending.any(|((name, _), at)| name == application && *at > now))
    }

    /// Returns whether a request is under way at `slot`.
    pub fn is_busy(&self, application: &ApplicationName, slot: Slot, now: Moment) -> bool {
        self.is_up
            && (self.leads_to(application, slot)
                || self.under_way.get(&(application.clone(), slot)).is_some_and(|at| *at > now))
    }

    fn state(&self, number: u16, now: Moment) -> GateState {
        let revision = self.follows.as_ref().map(|(revision, _)| *revision);
        let services = self.follows.iter().flat_map(|(_, program)| program.services.keys());
        let slots = services.flat_map(|name| Slot::ALL.map(|slot| (name.clone(), slot)));
        // What it cannot serve now it may serve at any moment.
        let may_come = |name: &ApplicationName, slot| {
            self.as_they_were.contains_key(name)
                && self.wanted(name).is_some_and(|service| gives_to(service, slot))
        };
        let led = self.led_behind().into_iter();
        let ending = self.under_way_behind.iter().filter(|(_, at)| **at > now);
        let busy_edges = led.chain(ending.map(|(place, _)| place.clone())).map(|(name, _)| name);
        let busy_edges = busy_edges.collect();
        let busy = slots
            .filter(|(name, slot)| self.is_busy(name, *slot, now) || may_come(name, *slot))
            .collect();
        let trouble = || GateTrouble {
            is_served: false,
            detail: "nothing can listen on its port".to_owned(),
        };
        let troubles = self.as_they_were.keys().map(|name| (name.clone(), trouble())).collect();
        let gate = self.id(number);
        GateState { gate, revision, busy, busy_edges, troubles }
    }

    /// Another process, which follows the last program, as it is on disk.
    fn begin_again(&mut self, now: Moment) {
        self.process += 1;
        self.under_way.clear();
        self.under_way_behind.clear();
        // Nothing is left that it could serve instead.
        let services = self.follows.iter().flat_map(|(_, program)| program.services.keys());
        let hindered = services.filter(|name| self.hindered.contains_key(*name));
        self.as_they_were = hindered.map(|name| (name.clone(), None)).collect();
        self.is_up = true;
        self.led_since.clear();
        self.requests.begin_again();
        self.note(now);
    }
}

fn gives_to(service: &GateService, slot: Slot) -> bool {
    let is_open = service.hold.is_none();
    is_open && service.gives_to(slot) && service.upstreams.of(slot).is_some_and(|it| it.is_healthy)
}

impl World {
    /// A program is on its way to a gate.
    pub(super) fn tell_gate(&mut self, number: u16, revision: u64, program: GateProgram) {
        let wait = self.quick(number);
        let epoch = self.host(number).epoch;
        let program = Box::new(program);
        let happening = Happening::GateIsTold { number, epoch, revision, program };
        self.queue.push(self.now + wait, happening);
    }

    /// A program has reached a gate.
    pub(super) fn gate_is_told(
        &mut self,
        number: u16,
        epoch: u32,
        revision: u64,
        program: GateProgram,
    ) {
        let now = self.now;
        self.count_requests(number);
        let gate = &self.host(number).gate;
        if !gate.is_up {
            let result = Err("no gate can be reached".to_owned());
            self.tell_agent(number, epoch, Input::GateAnswered { revision, result });
            return;
        }
        // What an agent sent that is gone is not followed after what the next one said.
        if epoch < gate.told_by {
            return;
        }
        let gate = &mut self.host_mut(number).gate;
        let (led, led_behind) = (gate.led(), gate.led_behind());
        gate.told_by = epoch;
        gate.follow(revision, program);
        gate.note(now);
        self.left(number, led);
        self.left_behind(number, led_behind);
        self.see(&Seen::GateFollows { number });
        self.trace.mark(now, Who::Host(number), ("gate", revision));
        self.trace.tell(now, Who::Host(number), || {
            let gate = &self.hosts[usize::from(number)].gate;
            let not = if gate.as_they_were.is_empty() { "" } else { ", as far as it can" };
            let services = gate.follows.iter().flat_map(|(_, program)| program.services.keys());
            let said: Vec<String> = services
                .map(|name| {
                    let to = Slot::ALL.into_iter().filter(|slot| gate.leads_to(name, *slot));
                    let to: Vec<String> = to.map(|slot| slot.to_string()).collect();
                    let to = if to.is_empty() { "nobody".to_owned() } else { to.join(" and ") };
                    format!("{name} to {to}")
                })
                .collect();
            format!("the gate leads {}{not}", said.join(", "))
        });
        let state = self.host(number).gate.state(number, now);
        self.tell_agent(number, epoch, Input::GateAnswered { revision, result: Ok(state) });
    }

    /// A gate begins again.
    pub(super) fn begin_gate(&mut self, number: u16) {
        let now = self.now;
        self.count_requests(number);
        self.host_mut(number).gate.begin_again(now);
        self.see(&Seen::GateFollows { number });
    }

    /// What was led to is left, where it is not led to any more.
    fn left(&mut self, number: u16, led: Vec<(ApplicationName, Slot)>) {
        for (application, slot) in led {
            let gate = &self.host(number).gate;
            let is_there =
                gate.served(&application).is_some_and(|it| it.upstreams.of(slot).is_some());
            if is_there && !gate.leads_to(&application, slot) {
                self.ends_later(number, application, slot);
            }
        }
    }

    /// What was led to behind an edge is left, where it is not led to any more.
    fn left_behind(&mut self, number: u16, led: Vec<(ApplicationName, AgentName)>) {
        for (application, agent) in led {
            if self.host(number).gate.leads_behind(&application, &agent) {
                continue;
            }
            let Some(at) = self.ends_at(number, &application) else { continue };
            let host = self.host_mut(number);
            host.gate.under_way_behind.insert((application, agent), at);
            let process = host.gate.process;
            let seen = at + Duration::from_micros(host.luck.between(50, LOOK_MAX_US));
            self.queue.push(seen, Happening::GateIsSeen { number, process });
        }
    }

    /// Nothing new of an application can be served for a while.
    pub(super) fn hinder_gate(&mut self, number: u16, application: u16, for_ms: u64) {
        let Some(spec) = self.script.applications.get(usize::from(application)) else { return };
        let Ok(name) = spec.name.parse::<ApplicationName>() else { return };
        let at = self.later(for_ms);
        let gate = &mut self.host_mut(number).gate;
        *gate.hindered.entry(name.clone()).or_default() += 1;
        self.queue.push(at, Happening::GateIsFree { number, application: name });
    }

    /// One reason is gone why an application could not be served, or all reasons of all.
    pub(super) fn free_gate(&mut self, number: u16, application: Option<&ApplicationName>) {
        let now = self.now;
        self.count_requests(number);
        let gate = &mut self.host_mut(number).gate;
        let led = gate.led();
        match application {
            None => gate.hindered.clear(),
            Some(name) => {
                if let Some(reasons) = gate.hindered.get_mut(name) {
                    *reasons -= 1;
                }
                gate.hindered.retain(|_, reasons| *reasons > 0);
            }
        }
        let Gate { hindered, as_they_were, .. } = gate;
        as_they_were.retain(|name, _| hindered.contains_key(name));
        gate.note(now);
        let process = gate.process;
        self.left(number, led);
        let wait = Duration::from_micros(self.host_mut(number).luck.between(50, LOOK_MAX_US));
        self.queue.push(self.now + wait, Happening::GateIsSeen { number, process });
    }

    /// What is under way at a slot ends some time after it gets nothing new, or is cut.
    fn ends_later(&mut self, number: u16, application: ApplicationName, slot: Slot) {
        let Some(at) = self.ends_at(number, &application) else { return };
        let host = self.host_mut(number);
        host.gate.under_way.insert((application, slot), at);
        let process = host.gate.process;
        let seen = at + Duration::from_micros(host.luck.between(50, LOOK_MAX_US));
        self.queue.push(seen, Happening::GateIsSeen { number, process });
    }

    /// Returns when what is under way of an application ends that gets nothing new, or is cut.
    fn ends_at(&mut self, number: u16, application: &ApplicationName) -> Option<Moment> {
        let of_name =
            |it: &&crate::script::Application| it.name == application.as_str() && it.gate.is_some();
        let spec = self.script.applications.iter().find(of_name).and_then(|it| it.gate)?;
        let now = self.now;
        let takes = self.host_mut(number).luck.between(0, spec.requests_ms);
        let takes = Duration::from_millis(takes);
        Some(now + takes.min(Duration::from_millis(spec.drain_ms)))
    }

    /// The agent's shell looks at the gate.
    pub(super) fn gate_is_seen(&mut self, number: u16, process: u32) {
        let now = self.now;
        let host = self.host(number);
        if host.gate.process != process || !host.gate.is_up {
            return;
        }
        let (epoch, state) = (host.epoch, host.gate.state(number, now));
        self.trace.mark(now, Who::Host(number), ("gate says", state.busy.len()));
        self.tell_agent(number, epoch, Input::GateSaid { state });
    }

    /// A gate crashes, and is started again.
    pub(super) fn crash_gate(&mut self, number: u16, down_ms: u64, forgets: bool) {
        self.count_requests(number);
        let wait = self.quick(number);
        let at = self.later(down_ms);
        let host = self.host_mut(number);
        if !host.gate.is_up || !host.is_up() {
            return;
        }
        host.gate.is_up = false;
        host.gate.led_since.clear();
        host.gate.under_way.clear();
        host.gate.under_way_behind.clear();
        if forgets {
            host.gate.follows = None;
        }
        let (epoch, process) = (host.epoch, host.gate.process);
        self.trace.mark(self.now, Who::Host(number), "gate crashes");
        let input = Box::new(Input::GateLost { detail: "the gate is gone".to_owned() });
        self.queue.push(self.now + wait, Happening::AgentHears { number, epoch, input });
        self.queue.push(at, Happening::GateStarts { number, process });
    }

    pub(super) fn gate_starts(&mut self, number: u16, process: u32) {
        let gate = &self.host(number).gate;
        if gate.process == process && !gate.is_up {
            self.begin_gate(number);
        }
    }
}
