//! An agent's process: started with what its journal says, fed, stored for, killed. The loop is
//! the one of the daemon's engine.

use std::{collections::VecDeque, time::Duration};

use cutover_agent_core::{Agent, Input, Step};
use cutover_agent_journal::{DiskJournal, Journal as _, OpenJournal, commit};
use cutover_common::Timestamp;

use super::{Happening, World, clock::ProcessClock, host::AgentProcess};
use crate::{moment::Moment, oracle::Seen, script::KillPoint, story, trace::Who};

/// How soon the supervisor starts an agent again that ended by itself.
const RESTART_AFTER: Duration = Duration::from_secs(1);

impl World {
    /// Starts a host's agent.
    pub(super) fn start_agent(&mut self, number: u16) {
        let now = self.now;
        let length_max = self.script.disks.journal_bytes_max;
        let host = self.host_mut(number);
        if host.agent.is_some() || host.is_gone {
            return;
        }
        host.epoch += 1;
        let epoch = host.epoch;
        let opened = DiskJournal::open(host.disk.clone());
        let was_killed = host.disk.get().take_kill();
        host.disk.get().settle();
        let (journal, events) = match opened {
            Ok((journal, events)) => (journal.with_length_max(length_max), events),
            Err(error) => {
                self.not_started(number, &error, was_killed);
                return;
            }
        };
        let core = match Agent::replay(&events) {
            Ok(core) => core,
            Err(error) => {
                self.observe_only(number, &error.to_string());
                return;
            }
        };
        let clock = ProcessClock::start(host.wall, now, Timestamp::default());
        host.agent = Some(AgentProcess {
            core,
            journal,
            clock,
            inbox: VecDeque::new(),
            storing: None,
            is_woken: false,
            wakes_at: None,
            connection: None,
            sessions: 0,
            failures: 0,
            has_flipped: false,
            blips: 0,
            retained: None,
        });
        self.trace.mark(now, Who::Host(number), ("starts", events.len()));
        self.trace.tell(now, Who::Host(number), || {
            format!("the agent starts and remembers {} events", events.len())
        });
        self.see(&Seen::AgentStarted { number });
        self.turn_agent(number, |core, now, luck| core.start(now, luck));
        self.queue.push(now, Happening::Dials { number, epoch });
    }

    fn not_started(&mut self, number: u16, error: &OpenJournal, was_killed: bool) {
        match error {
            OpenJournal::Io { .. } => {
                let why = if was_killed { "killed while it started" } else { "could not start" };
                self.trace.tell(self.now, Who::Host(number), || format!("{why}: {error}"));
                let epoch = self.host(number).epoch;
                let at = self.now + RESTART_AFTER;
                self.queue.push(at, Happening::AgentStarts { number, epoch });
            }
            OpenJournal::Damaged { .. }
            | OpenJournal::Unreadable { .. }
            | OpenJournal::TooNew { .. } => self.observe_only(number, &error.to_string()),
        }
    }

    fn observe_only(&mut self, number: u16, why: &str) {
        self.host_mut(number).observes_only = true;
        self.trace.mark(self.now, Who::Host(number), "observes only");
        self.trace.tell(self.now, Who::Host(number), || format!("changes nothing: {why}"));
        self.see(&Seen::ObservesOnly { number });
    }

    /// Gives an agent an input, if it is still the process that it is for.
    pub(super) fn tell_agent(&mut self, number: u16, epoch: u32, input: Input) {
        let host = self.host_mut(number);
        if host.epoch != epoch {
            return;
        }
        if let Some(agent) = &mut host.agent {
            agent.inbox.push_back(input);
            self.wake_agent(number);
        }
    }

    fn wake_agent(&mut self, number: u16) {
        let now = self.now;
        let host = self.host_mut(number);
        let (runs, epoch) = (host.agent_runs(), host.epoch);
        let Some(agent) = &mut host.agent else { return };
        if !runs || agent.is_woken || agent.storing.is_some() {
            return;
        }
        agent.is_woken = true;
        self.queue.push(now, Happening::AgentTakes { number, epoch });
    }

    /// Goes on after a pause or a suspension.
    pub(super) fn resume_agent(&mut self, number: u16) {
        let host = self.host_mut(number);
        let (runs, epoch) = (host.agent_runs(), host.epoch);
        let Some(agent) = &mut host.agent else { return };
        if !runs {
            return;
        }
        agent.is_woken = false;
        agent.wakes_at = None;
        if agent.storing.is_some() {
            self.queue.push(self.now, Happening::AgentStored { number, epoch });
        } else {
            self.tell_agent(number, epoch, Input::Tick);
        }
    }

    /// Takes the inputs that wait.
    pub(super) fn agent_takes(&mut self, number: u16) {
        let batch_max = self.script.settings.agent_batch_max;
        if !self.host(number).agent_runs() {
            return;
        }
        let Some(agent) = &mut self.host_mut(number).agent else { return };
        agent.is_woken = false;
        let take = agent.inbox.len().min(batch_max);
        let inputs: Vec<Input> = agent.inbox.drain(..take).collect();
        let mut all = Step::default();
        for input in inputs {
            self.counts.inputs += 1;
            let kind = std::mem::discriminant(&input);
            self.trace.mark(self.now, Who::Host(number), kind);
            self.see(&Seen::AgentTakes { number, input: &input });
            let Some(step) =
                self.step_agent(number, |core, now, luck| core.handle(now, luck, input))
            else {
                return;
            };
            all.events.extend(step.events);
            all.actions.extend(step.actions);
        }
        self.finish_agent(number, all);
    }

    fn turn_agent(
        &mut self,
        number: u16,
        turn: impl FnOnce(&mut Agent, Timestamp, uuid::Uuid) -> Step,
    ) {
        if let Some(step) = self.step_agent(number, turn) {
            self.finish_agent(number, step);
        }
    }

    fn step_agent(
        &mut self,
        number: u16,
        turn: impl FnOnce(&mut Agent, Timestamp, uuid::Uuid) -> Step,
    ) -> Option<Step> {
        let now = self.now;
        let host = self.host_mut(number);
        let luck = host.luck.uuid();
        let agent = host.agent.as_mut()?;
        let step = turn(&mut agent.core, agent.clock.at(now), luck);
        self.see(&Seen::AgentStepped { number, step: &step });
        Some(step)
    }

    fn finish_agent(&mut self, number: u16, step: Step) {
        let now = self.now;
        let Step { events, actions } = step;
        if events.is_empty() {
            self.perform_agent(number, actions, None);
            self.sleep_agent(number);
            return;
        }
        for event in &events {
            self.trace.tell(now, Who::Host(number), || story::agent_event(event));
        }
        let host = self.host_mut(number);
        if let Some((KillPoint::BeforeStore, down_ms)) = host.kill_at {
            self.kill_agent(number, down_ms, "killed before it stored");
            return;
        }
        if let Some((KillPoint::AtDisk { operation }, _)) = host.kill_at {
            host.disk.get().kill_in(operation);
        }
        let Some(agent) = &mut host.agent else { return };
        let stored = commit(&mut agent.journal, &events, actions).and_then(|durable| {
            if agent.journal.is_long() {
                agent.journal.replace(&agent.core.summary())?;
            }
            Ok(durable)
        });
        let length = host.disk.get().contents(super::host::JOURNAL).map_or(0, <[u8]>::len);
        let was_killed = host.disk.get().take_kill();
        self.trace.mark(now, Who::Host(number), ("stores", events.len(), length));
        match stored {
            Ok(durable) => self.storing(number, durable.into_actions(), &events),
            Err(_) if was_killed => {
                let down_ms = self.host(number).kill_at.map_or(1_000, |(_, down_ms)| down_ms);
                self.kill_agent(number, down_ms, "killed while it stored");
            }
            Err(error) => {
                // The daemon ends, and its supervisor starts it again (D4).
                let why = format!("ended: {error}");
                self.kill_agent(number, 1_000, &why);
            }
        }
    }

    fn storing(
        &mut self,
        number: u16,
        actions: Vec<cutover_agent_core::Action>,
        events: &[cutover_agent_core::Event],
    ) {
        let disks = self.script.disks;
        let now = self.now;
        let host = self.host_mut(number);
        let us = host
            .sync_slow_us
            .unwrap_or_else(|| host.luck.between(disks.sync_min_us, disks.sync_max_us));
        let epoch = host.epoch;
        if let Some(agent) = &mut host.agent {
            agent.storing = Some(actions);
        }
        self.see(&Seen::AgentStoring { number, events });
        let at = now + Duration::from_micros(us);
        self.queue.push(at, Happening::AgentStored { number, epoch });
    }

    /// The flush has ended.
    pub(super) fn agent_stored(&mut self, number: u16) {
        let host = self.host_mut(number);
        if !host.agent_runs() {
            return;
        }
        host.disk.get().settle();
        let Some(actions) = host.agent.as_mut().and_then(|agent| agent.storing.take()) else {
            return;
        };
        self.see(&Seen::AgentStored { number });
        let host = self.host(number);
        match host.kill_at {
            Some((KillPoint::AfterStore, down_ms)) => {
                self.kill_agent(number, down_ms, "killed when it had stored");
                return;
            }
            Some((KillPoint::AfterActions { count }, down_ms)) => {
                self.perform_agent(number, actions, usize::try_from(count).ok());
                self.kill_agent(number, down_ms, "killed in the middle of what it did");
                return;
            }
            Some((KillPoint::Now | KillPoint::BeforeStore | KillPoint::AtDisk { .. }, _))
            | None => {}
        }
        self.perform_agent(number, actions, None);
        self.sleep_agent(number);
    }

    fn sleep_agent(&mut self, number: u16) {
        let now = self.now;
        let host = self.host_mut(number);
        let epoch = host.epoch;
        let Some(agent) = &mut host.agent else { return };
        if !agent.inbox.is_empty() {
            self.wake_agent(number);
            return;
        }
        let Some(wanted) = agent.core.next_wake() else { return };
        let at = agent.clock.moment_of(wanted).max(now);
        if agent.wakes_at.is_none_or(|pending| pending < now || at < pending) {
            agent.wakes_at = Some(at);
            self.queue.push(at, Happening::AgentWakes { number, epoch });
        }
    }

    /// A moment that the core asked for has come.
    pub(super) fn agent_wakes(&mut self, number: u16) {
        let now = self.now;
        let host = self.host_mut(number);
        let (runs, epoch) = (host.agent_runs(), host.epoch);
        let Some(agent) = &mut host.agent else { return };
        if !runs || agent.wakes_at != Some(now) {
            return;
        }
        agent.wakes_at = None;
        if agent.storing.is_some() {
            return;
        }
        let is_due = agent.core.next_wake().is_some_and(|at| agent.clock.moment_of(at) <= now);
        if is_due {
            self.tell_agent(number, epoch, Input::Tick);
        } else {
            self.sleep_agent(number);
        }
    }

    /// Kills an agent's process. Its instances live on.
    pub(super) fn kill_agent(&mut self, number: u16, down_ms: u64, why: &str) {
        let host = self.host_mut(number);
        if host.agent.is_none() {
            return;
        }
        self.trace.tell(self.now, Who::Host(number), || format!("the agent is {why}"));
        self.end_agent(number);
        let host = self.host_mut(number);
        // The system goes on: what was written is still read, and is on disk some time later.
        host.disk.get().settle();
        let epoch = host.epoch;
        let at = self.now + Duration::from_millis(down_ms);
        self.queue.push(at, Happening::AgentStarts { number, epoch });
        self.close_all_of_host(number, true);
    }

    /// Ends an agent's process without more ado.
    pub(super) fn end_agent(&mut self, number: u16) {
        self.see(&Seen::AgentEnds { number });
        self.resolve_spawning(number);
        self.trace.mark(self.now, Who::Host(number), "agent ends");
        let host = self.host_mut(number);
        host.agent = None;
        host.epoch += 1;
        (host.kill_at, host.paused_until) = (None, None);
    }

    /// Returns when a moment of an agent's clock is.
    pub fn agent_moment(&self, number: u16, at: Timestamp) -> Option<Moment> {
        self.host(number).agent.as_ref().map(|agent| agent.clock.moment_of(at))
    }
}
