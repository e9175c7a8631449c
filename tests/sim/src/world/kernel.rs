//! The kernel of one host: which processes there really are, and how they really do. What agents
//! and coordinators believe is held against this.

use std::{collections::BTreeMap, time::Duration};

use cutover_common::{ApplicationName, InstanceEvidence, InstanceId, Sha256, Slot, Version};

use crate::{
    moment::Moment,
    script::{Behaviour, Life, OnStop},
};

/// How many process ids a host has: few, so that they are used again soon, and more than a script
/// has applications.
const PIDS: u32 = 8;
/// The first one that an application can have.
const FIRST_PID: u32 = 300;

/// One process of an application.
#[derive(Clone, Debug)]
pub struct Process {
    pub instance: InstanceId,
    pub application: ApplicationName,
    pub version: Version,
    pub slot: Slot,
    pub digest: Sha256,
    pub behaviour: Behaviour,
    pub evidence: InstanceEvidence,
    pub started: Moment,
    pub ended: Option<Ended>,
    /// Since when every answer that its agent got from it was good.
    pub passing_since: Option<Moment>,
    /// The longest time for which every answer was good, of those that are over.
    pub good_for: Duration,
    /// Since when every answer that its agent got from it was bad, and how many there were.
    pub failing_since: Option<Moment>,
    pub failures: u32,
    /// How often it has answered well.
    pub passes: u32,
    /// When it was first told to stop, by its agent.
    pub told_to_stop: Option<Moment>,
    /// Until when a child of it lives on, if it was told to stop.
    pub child_until: Option<Moment>,
}

/// How a process ended.
#[derive(Clone, Debug)]
pub struct Ended {
    pub at: Moment,
    pub detail: String,
}

impl Process {
    /// Returns whether there is a process.
    pub const fn is_alive(&self) -> bool {
        self.ended.is_none()
    }

    /// Returns whether it answers well at `now`.
    pub fn is_well(&self, now: Moment) -> bool {
        let age = now.since(self.started);
        self.is_alive()
            && age >= Duration::from_millis(self.behaviour.boot_ms)
            && match self.behaviour.life {
                Life::Well | Life::Crashes { .. } | Life::CrashesAtFirst { .. } => true,
                Life::CannotStart | Life::NeverReady => false,
                Life::PassesOnce => self.passes == 0,
                Life::Flaps { period_ms } => {
                    u64::try_from(age.as_millis()).unwrap_or(0) / period_ms.max(1) % 2 == 0
                }
                Life::TurnsBad { after_ms } => age < Duration::from_millis(after_ms),
            }
    }

    /// Notes an answer that its agent got.
    pub(super) fn answered(&mut self, passed: bool, now: Moment) {
        if passed {
            self.passes += 1;
            self.passing_since = self.passing_since.or(Some(now));
            (self.failing_since, self.failures) = (None, 0);
        } else {
            self.end_good(now);
            self.failing_since = self.failing_since.or(Some(now));
            self.failures += 1;
        }
    }

    fn end_good(&mut self, now: Moment) {
        if let Some(since) = self.passing_since.take() {
            self.good_for = self.good_for.max(now.since(since));
        }
    }

    /// Returns how long it takes to stop, and whether it has to be killed for it.
    pub fn stopping(&self, grace: Duration) -> (Duration, bool) {
        match self.behaviour.on_stop {
            OnStop::Exits { after_ms } if Duration::from_millis(after_ms) < grace => {
                (Duration::from_millis(after_ms), false)
            }
            OnStop::LeavesChild { .. } => (Duration::from_millis(5).min(grace), false),
            OnStop::Exits { .. } | OnStop::Ignores => (grace, true),
        }
    }
}

/// What runs on one host.
#[derive(Debug)]
pub struct Kernel {
    pub boot: u32,
    /// The newest process of each instance that was ever begun, as the shims' records tell it.
    pub processes: BTreeMap<InstanceId, Process>,
    next_pid: u32,
    /// How often each release was started here.
    pub starts: BTreeMap<(ApplicationName, Version), u32>,
}

impl Kernel {
    pub(crate) const fn new() -> Self {
        Self { boot: 1, processes: BTreeMap::new(), next_pid: 0, starts: BTreeMap::new() }
    }

    /// Returns this boot's id.
    pub fn boot_id(&self) -> String {
        format!("boot-{}", self.boot)
    }

    /// Returns the evidence of a process that begins now.
    pub(crate) fn evidence(&mut self, instance: InstanceId, now: Moment) -> InstanceEvidence {
        let pid = self.free_pid();
        InstanceEvidence {
            instance,
            boot_id: self.boot_id(),
            pid,
            // Clock ticks of 10 ms.
            start_ticks: now.ms() / 10,
        }
    }

    fn free_pid(&mut self) -> u32 {
        for _ in 0..PIDS {
            self.next_pid = (self.next_pid + 1) % PIDS;
            if self.alive().all(|process| process.evidence.pid != FIRST_PID + self.next_pid) {
                break;
            }
        }
        FIRST_PID + self.next_pid
    }

    /// Returns the processes that are alive.
    pub fn alive(&self) -> impl Iterator<Item = &Process> {
        self.processes.values().filter(|process| process.is_alive())
    }

    /// Returns the processes of an application that are alive.
    pub fn alive_of<'a>(
        &'a self,
        application: &'a ApplicationName,
    ) -> impl Iterator<Item = &'a Process> {
        self.alive().filter(move |process| process.application == *application)
    }

    /// Returns the process of a slot that began last.
    pub fn newest(&self, application: &ApplicationName, slot: Slot) -> Option<&Process> {
        let here = self.processes.values();
        let here = here.filter(|it| it.slot == slot && it.application == *application);
        here.max_by_key(|process| process.started)
    }

    /// Ends a process.
    pub(crate) fn end(&mut self, instance: InstanceId, now: Moment, detail: &str) -> bool {
        match self.processes.get_mut(&instance) {
            Some(process) if process.is_alive() => {
                process.ended = Some(Ended { at: now, detail: detail.to_owned() });
                process.end_good(now);
                true
            }
            Some(_) | None => false,
        }
    }

    /// Boots again: no process is left.
    pub(crate) fn reboot(&mut self, now: Moment) {
        self.boot += 1;
        let alive: Vec<InstanceId> = self.alive().map(|process| process.instance).collect();
        for instance in alive {
            self.end(instance, now, "the host rebooted");
        }
    }
}
