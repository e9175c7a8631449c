//! The gate of one host: what it really follows, and where requests really are under way.

use std::{collections::BTreeMap, time::Duration};

use cutover_agent_core::{GateProgram, GateState, Input};
use cutover_common::{ApplicationName, Slot};
use uuid::Uuid;

use super::{Happening, World};
use crate::{moment::Moment, trace::Who};

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
    /// The newest agent process that it was told something by.
    told_by: u32,
}

impl Gate {
    pub(crate) const fn new() -> Self {
        Self { process: 1, is_up: true, follows: None, under_way: BTreeMap::new(), told_by: 0 }
    }

    /// Returns whether it sends what is new to `slot` at this moment.
    pub fn leads_to(&self, application: &ApplicationName, slot: Slot) -> bool {
        let service = self.follows.as_ref().and_then(|(_, it)| it.services.get(application));
        let upstream = service.and_then(|service| *service.upstreams.of(slot));
        self.is_up && upstream.is_some_and(|it| it.gets_new && it.is_healthy)
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
        let busy = slots.filter(|(name, slot)| self.is_busy(name, *slot, now)).collect();
        let gate = Uuid::from_u128(u128::from(number) << 64 | u128::from(self.process));
        GateState { gate, revision, busy, troubles: BTreeMap::new() }
    }

    /// Another process, which follows the last program, as it is on disk.
    pub(crate) fn begin_again(&mut self) {
        self.process += 1;
        self.under_way.clear();
        self.is_up = true;
    }
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
        let left: Vec<(ApplicationName, Slot)> = self.left_by(number, &program);
        let gate = &mut self.host_mut(number).gate;
        gate.told_by = epoch;
        gate.follows = Some((revision, program));
        for (application, slot) in left {
            self.ends_later(number, application, slot);
        }
        self.trace.mark(now, Who::Host(number), ("gate", revision));
        self.trace.tell(now, Who::Host(number), || {
            let gate = &self.hosts[usize::from(number)].gate;
            let services = gate.follows.iter().flat_map(|(_, program)| program.services.keys());
            let said: Vec<String> = services
                .map(|name| {
                    let to = Slot::ALL.into_iter().filter(|slot| gate.leads_to(name, *slot));
                    let to: Vec<String> = to.map(|slot| slot.to_string()).collect();
                    let to = if to.is_empty() { "nobody".to_owned() } else { to.join(" and ") };
                    format!("{name} to {to}")
                })
                .collect();
            format!("the gate leads {}", said.join(", "))
        });
        let state = self.host(number).gate.state(number, now);
        self.tell_agent(number, epoch, Input::GateAnswered { revision, result: Ok(state) });
    }

    /// Returns the slots that get what is new, and will not.
    fn left_by(&self, number: u16, program: &GateProgram) -> Vec<(ApplicationName, Slot)> {
        let gate = &self.host(number).gate;
        let served = gate.follows.iter().flat_map(|(_, program)| program.services.keys());
        let led = served.flat_map(|name| Slot::ALL.map(|slot| (name.clone(), slot)));
        led.filter(|(name, slot)| {
            let next = program.services.get(name).and_then(|it| *it.upstreams.of(*slot));
            gate.leads_to(name, *slot) && next.is_some_and(|it| !(it.gets_new && it.is_healthy))
        })
        .collect()
    }

    /// What is under way at a slot ends some time after it gets nothing new, or is cut.
    fn ends_later(&mut self, number: u16, application: ApplicationName, slot: Slot) {
        let of_name =
            |it: &&crate::script::Application| it.name == application.as_str() && it.gate.is_some();
        let spec = self.script.applications.iter().find(of_name).and_then(|it| it.gate);
        let Some(spec) = spec else { return };
        let now = self.now;
        let host = self.host_mut(number);
        let takes = Duration::from_millis(host.luck.between(0, spec.requests_ms));
        let at = now + takes.min(Duration::from_millis(spec.drain_ms));
        host.gate.under_way.insert((application, slot), at);
        let process = host.gate.process;
        let seen = at + Duration::from_micros(host.luck.between(50, LOOK_MAX_US));
        self.queue.push(seen, Happening::GateIsSeen { number, process });
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
        let wait = self.quick(number);
        let at = self.later(down_ms);
        let host = self.host_mut(number);
        if !host.gate.is_up || !host.is_up() {
            return;
        }
        host.gate.is_up = false;
        host.gate.under_way.clear();
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
        let gate = &mut self.host_mut(number).gate;
        if gate.process == process && !gate.is_up {
            gate.begin_again();
        }
    }
}
