//! The truth of the simulated hosts, as far as coordinators decide by it: which processes there
//! are and were a moment ago, and how they did.

use std::{collections::BTreeMap, time::Duration};

use cutover_agent_core::Event as AgentEvent;
use cutover_common::{Sha256, Slot, SlotGoal, Version};

use super::{delays::Delays, ledger::Ledger};
use crate::{
    moment::Moment,
    oracle::{Seen, rest::is_stuck},
    script::{Fault, Life, Script},
    world::{Process, World},
};

/// How many ended processes of one host are kept: more than end while a report is on its way.
const ENDED_MAX: usize = 32;

/// What an agent has accepted.
#[derive(Clone, Debug)]
pub(super) struct Accepted {
    pub(super) generation: u64,
    pub(super) running: Option<Version>,
}

/// See above.
#[derive(Clone, Debug, Default)]
pub(super) struct Truth {
    pub(super) delays: Delays,
    /// By host, the newest at the end.
    ended: BTreeMap<u16, Vec<Process>>,
    /// By host and application.
    accepted: BTreeMap<(u16, u16), Accepted>,
    /// Until when each host was last kept from telling and following.
    disturbed: Vec<Moment>,
}

impl Truth {
    pub(super) fn new(script: &Script) -> Self {
        Self {
            delays: Delays::new(script),
            disturbed: vec![Moment::default(); usize::from(script.hosts)],
            ..Self::default()
        }
    }

    /// Notes what happens on hosts.
    pub(super) fn see(&mut self, world: &World, ledger: &Ledger, seen: &Seen<'_>) {
        match seen {
            Seen::Died { number, instance } => {
                let Some(process) = world.host(*number).kernel.processes.get(instance) else {
                    return;
                };
                let ended = self.ended.entry(*number).or_default();
                if ended.len() >= ENDED_MAX {
                    ended.remove(0);
                }
                ended.push(process.clone());
            }
            Seen::AgentStoring { number, events } => {
                for event in *events {
                    if let AgentEvent::AssignmentAccepted(assignment) = event {
                        let application = ledger.number_of(assignment.application.as_str());
                        self.accept(*number, application, assignment);
                    }
                }
            }
            Seen::AgentStarted { number } => {
                self.accepted.retain(|(host, _), _| host != number);
                let Some(agent) = &world.host(*number).agent else { return };
                for (name, application) in &agent.core.remembered().applications {
                    let number_of = ledger.number_of(name.as_str());
                    self.accept(*number, number_of, &application.assignment);
                }
                self.disturb(*number, world.now);
            }
            Seen::AgentEnds { number } => self.disturb(*number, world.now),
            Seen::SiteStarted { .. } | Seen::SiteEnded { .. } => {
                self.disturbed.iter_mut().for_each(|at| *at = (*at).max(world.now));
            }
            Seen::Fault { fault } => self.note_fault(world.now, fault),
            _ => {}
        }
    }

    /// Returns whether a hook keeps what a host is to run from being reached.
    pub(super) fn is_kept_back(&self, world: &World, host: u16, application: u16) -> bool {
        let name = &world.script.applications[usize::from(application)].name;
        world.host(host).agent.as_ref().is_some_and(|agent| {
            let applications = agent.core.remembered().applications.iter();
            applications
                .filter(|(known, _)| known.as_str() == name)
                .any(|(_, known)| Slot::ALL.into_iter().any(|slot| is_stuck(known, slot)))
        })
    }

    fn accept(&mut self, host: u16, application: u16, goal: &cutover_common::Assignment) {
        let leads = |place| goal.route.as_ref().is_none_or(|route| route.to == place);
        let running = goal.slots.iter().find_map(|(place, slot)| match slot {
            SlotGoal::Running(release) if leads(place) => Some(release.name.version.clone()),
            SlotGoal::Running(_) | SlotGoal::Absent | SlotGoal::Prepared(_) => None,
        });
        let accepted = Accepted { generation: goal.fence.generation.0, running };
        self.accepted.insert((host, application), accepted);
    }

    fn disturb(&mut self, host: u16, until: Moment) {
        if let Some(at) = self.disturbed.get_mut(usize::from(host)) {
            *at = (*at).max(until);
        }
    }

    fn note_fault(&mut self, now: Moment, fault: &Fault) {
        let later = |ms: u64| now + Duration::from_millis(ms);
        match *fault {
            Fault::PauseAgent { host, for_ms }
            | Fault::Suspend { host, for_ms }
            | Fault::CutPower { host, down_ms: for_ms }
            | Fault::SlowDisk { host, for_ms, .. }
            | Fault::CutLink { host, for_ms, .. }
            | Fault::SlowLink { host, for_ms, .. }
            | Fault::KillAgent { host, down_ms: for_ms, .. } => self.disturb(host, later(for_ms)),
            Fault::PauseCoordinator { for_ms, .. } | Fault::SlowCoordinatorDisk { for_ms, .. } => {
                self.disturbed.iter_mut().for_each(|at| *at = (*at).max(later(for_ms)));
            }
            Fault::ResetLink { host } | Fault::Route { host, .. } => self.disturb(host, now),
            _ => {}
        }
    }

    /// Returns what the agent has accepted.
    pub(super) fn accepted(&self, host: u16, application: u16) -> Option<&Accepted> {
        self.accepted.get(&(host, application))
    }

    /// Returns whether nothing kept a host and its coordinator from each other since `moment`.
    pub(super) fn was_calm_since(&self, host: u16, moment: Moment) -> bool {
        self.disturbed.get(usize::from(host)).is_some_and(|until| *until <= moment)
    }

    /// Returns the processes of an application that are there, or were there lately.
    pub(super) fn processes<'a>(
        &'a self,
        world: &'a World,
        host: u16,
        application: u16,
    ) -> impl Iterator<Item = &'a Process> {
        let name = world.script.applications.get(usize::from(application)).map(|it| &it.name);
        let alive = world.hosts.get(usize::from(host)).map(|host| &host.kernel.processes);
        let ended = self.ended.get(&host).into_iter().flatten();
        let alive = alive.into_iter().flat_map(|all| all.values());
        alive
            .filter(|process| process.is_alive())
            .chain(ended)
            .filter(move |process| name.is_some_and(|name| process.application.as_str() == name))
    }

    /// Returns whether some process of this version was up within the time that a coordinator's
    /// knowledge may be old.
    pub(super) fn was_up(
        &self,
        world: &World,
        host: u16,
        application: u16,
        version: &Version,
    ) -> bool {
        let from = before(world.now, self.delays.of(host, application));
        self.processes(world, host, application).any(|process| {
            process.version == *version
                && up(world, application, process)
                    .is_some_and(|(begin, end)| begin <= end && end >= from)
        })
    }

    /// Returns a process that was up for the whole of that time, so that everybody knows it.
    pub(super) fn surely_up<'a>(
        &'a self,
        world: &'a World,
        host: u16,
        application: u16,
    ) -> Option<&'a Process> {
        let from = before(world.now, self.delays.of(host, application));
        self.processes(world, host, application).find(|process| {
            process.is_alive()
                && !matches!(process.behaviour.life, Life::Flaps { .. } | Life::PassesOnce)
                && up(world, application, process)
                    .is_some_and(|(begin, end)| begin < from && end >= world.now)
        })
    }

    /// Returns whether a process of this very content passed every probe for `healthy_for`, and
    /// was alive and not failing as lately as a coordinator can know. Says what is not so.
    pub(super) fn is_settled(
        &self,
        world: &World,
        (host, application): (u16, u16),
        (version, digest): (&Version, Sha256),
        healthy_for: Duration,
    ) -> Result<(), &'static str> {
        let from = before(world.now, self.delays.of(host, application));
        let slack = self.delays.deaf(host);
        let mut why = "there was no process of it";
        for process in self.processes(world, host, application) {
            if process.version != *version || process.digest != digest {
                continue;
            }
            if process.ended.as_ref().is_some_and(|ended| ended.at < from) {
                why = "its process had ended long before";
            } else if good_for(world, application, process) + slack < healthy_for {
                why = "its process did not pass for healthy_for";
            } else if is_failing(
                world,
                application,
                process,
                before(from, self.delays.probing(application)),
            ) {
                why = "its process was failing long before";
            } else {
                return Ok(());
            }
        }
        Err(why)
    }

    /// Returns whether a host that was updated has been bad for longer than a coordinator can
    /// be unaware of it.
    pub(super) fn is_bad(
        &self,
        world: &World,
        host: u16,
        application: u16,
        version: &Version,
    ) -> bool {
        let from = before(world.now, self.delays.of(host, application) * 2);
        if !self.was_calm_since(host, from) {
            return false;
        }
        !self.processes(world, host, application).any(|process| {
            let is_gone = process.ended.as_ref().is_some_and(|ended| ended.at < from);
            process.version == *version
                && !is_gone
                && !is_failing(world, application, process, from)
        })
    }
}

fn before(moment: Moment, by: Duration) -> Moment {
    Moment(moment.0.saturating_sub(u64::try_from(by.as_micros()).unwrap_or(u64::MAX)))
}

fn probe_of(world: &World, application: u16) -> Option<crate::script::Probe> {
    world.script.applications.get(usize::from(application))?.probe
}

/// Returns from when to when a process is or was up, as a probe would find it.
fn up(world: &World, application: u16, process: &Process) -> Option<(Moment, Moment)> {
    let end = process.ended.as_ref().map_or(world.now, |ended| ended.at);
    if probe_of(world, application).is_none() {
        return Some((process.started, end));
    }
    let behaviour = process.behaviour;
    let begin = process.started + Duration::from_millis(behaviour.boot_ms);
    let end = match behaviour.life {
        Life::CannotStart | Life::NeverReady => return None,
        Life::TurnsBad { after_ms } => end.min(process.started + Duration::from_millis(after_ms)),
        Life::PassesOnce => process.failing_since.map_or(end, |since| end.min(since)),
        Life::Well | Life::Crashes { .. } | Life::CrashesAtFirst { .. } | Life::Flaps { .. } => end,
    };
    Some((begin, end))
}

/// Returns for how long every answer of a process was good.
fn good_for(world: &World, application: u16, process: &Process) -> Duration {
    let end = process.ended.as_ref().map_or(world.now, |ended| ended.at);
    if probe_of(world, application).is_none() {
        return end.since(process.started);
    }
    let now = process.passing_since.map_or(Duration::ZERO, |since| end.since(since));
    process.good_for.max(now)
}

/// Returns whether a process fails its probes since `from` or longer.
fn is_failing(world: &World, application: u16, process: &Process, from: Moment) -> bool {
    probe_of(world, application).is_some_and(|probe| {
        process.failures >= probe.failures
            && process.failing_since.is_some_and(|since| since < from)
    })
}
