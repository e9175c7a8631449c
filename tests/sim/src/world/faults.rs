//! Faults: what each one does to the world, and how the world heals.

use std::time::Duration;

use cutover_common::{InstanceId, Term};
use cutover_coordinator_core::{Event, EventKind, codec};

use super::{Happening, World, host::JOURNAL, site::Site};
use crate::{
    moment::Moment,
    oracle::Seen,
    script::{Direction, Fault, KillPoint, Mode},
    story,
    trace::Who,
};

/// How often a fleet that was left alone is looked at, in virtual time.
const REST_EVERY_MS: u64 = 5_000;

/// How far a restored coordinator's terms are ahead: as `cutover-coordinator restore` does it.
const TERM_JUMP: u64 = 1_000_000;

impl World {
    /// Something goes wrong.
    #[expect(clippy::too_many_lines, reason = "one arm for each kind of fault")]
    pub(super) fn fault(&mut self, fault: &Fault) {
        self.counts.faults += 1;
        self.trace.mark(self.now, Who::World, std::mem::discriminant(fault));
        self.trace.tell(self.now, Who::World, || story::fault(fault));
        self.see(&Seen::Fault { fault });
        match *fault {
            Fault::KillAgent { host, point, down_ms } => self.arm_agent(host, point, down_ms),
            Fault::PauseAgent { host, for_ms } => self.pause_agent(host, for_ms),
            Fault::CutPower { host, down_ms } => self.cut_power(host, down_ms),
            Fault::Suspend { host, for_ms } => self.suspend(host, for_ms),
            Fault::SetClock { host, ahead_ms } => self.host_mut(host).wall.ahead_ms = ahead_ms,
            Fault::KillInstance { host, application } => self.kill_instance(host, application),
            Fault::CrashGate { host, down_ms, forgets } => self.crash_gate(host, down_ms, forgets),
            Fault::HinderGate { host, application, for_ms } => {
                self.hinder_gate(host, application, for_ms);
            }
            Fault::FillDisk { host, for_ms } => {
                self.host(host).disk.get().set_full(true);
                self.queue.push(self.later(for_ms), Happening::DiskHasRoom { number: host });
            }
            Fault::FailDisk { host, operation } => self.host(host).disk.get().fail_in(operation),
            Fault::SlowDisk { host, sync_ms, for_ms } => {
                self.host_mut(host).sync_slow_us = Some(sync_ms * 1_000);
                self.queue.push(self.later(for_ms), Happening::DiskIsQuick { number: host });
            }
            Fault::RefuseProcesses { host, for_ms } => {
                self.host_mut(host).refuses_processes += 1;
                let number = host;
                self.queue.push(self.later(for_ms), Happening::ProcessesFit { number });
            }
            Fault::FlipBit { host, at_permille } => {
                self.host(host).disk.get().flip_bit(JOURNAL, at_permille);
                if let Some(agent) = &mut self.host_mut(host).agent {
                    agent.has_flipped = true;
                }
            }
            Fault::CutLink { host, direction, for_ms } => self.cut_link(host, direction, for_ms),
            Fault::SlowLink { host, delay_ms, for_ms } => {
                let by_us = delay_ms * 1_000;
                self.network.link_mut(host).slow_us += by_us;
                self.queue.push(self.later(for_ms), Happening::LinkIsQuick { host, by_us });
            }
            Fault::ResetLink { host } => self.reset(host),
            Fault::KillCoordinator { coordinator, point, down_ms } => {
                self.arm_site(coordinator, point, down_ms);
            }
            Fault::PauseCoordinator { coordinator, for_ms } => {
                self.pause_site(coordinator, for_ms);
            }
            Fault::CutCoordinatorPower { coordinator, down_ms } => {
                if self.has_site(coordinator) {
                    self.kill_site(coordinator, down_ms, "without power");
                }
            }
            Fault::SlowCoordinatorDisk { coordinator, sync_ms, for_ms } => {
                if self.has_site(coordinator) {
                    self.site_mut(coordinator).sync_slow_us = Some(sync_ms * 1_000);
                    let number = coordinator;
                    self.queue.push(self.later(for_ms), Happening::SiteDiskIsQuick { number });
                }
            }
            Fault::FailCoordinatorDisk { coordinator, down_ms } => {
                if self.has_site(coordinator) {
                    self.site_mut(coordinator).fails_next = Some(down_ms);
                }
            }
            Fault::SetCoordinatorClock { coordinator, ahead_ms } => {
                if self.has_site(coordinator) {
                    self.site_mut(coordinator).wall.ahead_ms = ahead_ms;
                }
            }
            Fault::Backup => self.backup = Some(self.site(0).store.clone()),
            Fault::Restore { down_ms } => self.restore(down_ms),
            Fault::Clone => self.clone_site(),
            Fault::EndClone => self.end_clone(),
            Fault::Route { host, coordinator } => self.route(host, coordinator),
            Fault::LoseCoordinator => {
                self.kill_site(0, 0, "lost with its store");
                self.site_mut(0).is_gone = true;
            }
        }
    }

    pub(super) fn later(&self, ms: u64) -> Moment {
        self.now + Duration::from_millis(ms)
    }

    fn has_site(&self, number: u16) -> bool {
        usize::from(number) < self.sites.len()
    }

    fn arm_agent(&mut self, number: u16, point: KillPoint, down_ms: u64) {
        if point == KillPoint::Now {
            self.kill_agent(number, down_ms, "killed");
        } else if self.host(number).agent.is_some() {
            self.host_mut(number).kill_at = Some((point, down_ms));
        }
    }

    fn arm_site(&mut self, number: u16, point: KillPoint, down_ms: u64) {
        if !self.has_site(number) {
            return;
        }
        if point == KillPoint::Now {
            self.kill_site(number, down_ms, "killed");
        } else if self.site(number).process.is_some() {
            self.site_mut(number).kill_at = Some((point, down_ms));
        }
    }

    fn pause_agent(&mut self, number: u16, for_ms: u64) {
        let until = self.later(for_ms);
        let host = self.host_mut(number);
        if host.agent.is_some() && host.paused_until.is_none() {
            host.paused_until = Some(until);
            self.queue.push(until, Happening::AgentGoesOn { number });
        }
    }

    pub(super) fn agent_goes_on(&mut self, number: u16) {
        let now = self.now;
        let host = self.host_mut(number);
        if host.paused_until == Some(now) {
            host.paused_until = None;
            self.resume_agent(number);
        }
    }

    fn suspend(&mut self, number: u16, for_ms: u64) {
        let until = self.later(for_ms);
        let host = self.host_mut(number);
        if host.suspended_until.is_none() && !host.is_gone {
            host.suspended_until = Some(until);
            self.queue.push(until, Happening::HostGoesOn { number });
        }
    }

    pub(super) fn host_goes_on(&mut self, number: u16) {
        let now = self.now;
        let host = self.host_mut(number);
        if host.suspended_until == Some(now) {
            host.suspended_until = None;
            self.trace.tell(now, Who::Host(number), || "goes on".to_owned());
            let host = self.host(number);
            if host.agent.is_some() {
                self.resume_agent(number);
            } else {
                self.start_agent(number);
            }
        }
    }

    fn cut_power(&mut self, number: u16, down_ms: u64) {
        let at = self.later(down_ms);
        let now = self.now;
        if self.host(number).is_gone {
            return;
        }
        if self.host(number).agent.is_some() {
            self.end_agent(number);
        }
        self.close_all_of_host(number, false);
        let host = self.host_mut(number);
        host.gate.is_up = false;
        host.disk.get().cut_power();
        let instances: Vec<InstanceId> =
            host.kernel.alive().map(|process| process.instance).collect();
        host.kernel.reboot(now);
        for instance in instances {
            self.see(&Seen::Died { number, instance });
        }
        let host = self.host_mut(number);
        host.epoch += 1;
        // Down is not suspended, but nothing runs either.
        host.suspended_until = Some(at);
        self.queue.push(at, Happening::HostBoots { number });
    }

    pub(super) fn host_boots(&mut self, number: u16) {
        let now = self.now;
        let host = self.host_mut(number);
        if host.suspended_until == Some(now) {
            host.suspended_until = None;
            self.begin_gate(number);
            self.trace.tell(now, Who::Host(number), || "has booted".to_owned());
            self.start_agent(number);
        }
    }

    fn kill_instance(&mut self, number: u16, application: u16) {
        let Some(spec) = self.script.applications.get(usize::from(application)) else { return };
        let alive = |process: &&super::Process| process.application.as_str() == spec.name;
        let instance = self.host(number).kernel.alive().find(alive).map(|process| process.instance);
        if let Some(instance) = instance {
            self.end_process(number, instance, "killed by signal 9");
        }
    }

    fn reset(&mut self, host: u16) {
        let ids: Vec<_> = self.network.of_host(host).map(|(id, _)| id).collect();
        for id in ids {
            self.severed(id);
        }
    }

    fn pause_site(&mut self, number: u16, for_ms: u64) {
        let until = self.later(for_ms);
        if self.has_site(number) && self.site(number).runs() {
            self.site_mut(number).paused_until = Some(until);
            self.queue.push(until, Happening::SiteGoesOn { number });
        }
    }

    pub(super) fn site_goes_on(&mut self, number: u16) {
        if self.site(number).paused_until == Some(self.now) {
            self.resume_site(number);
        }
    }

    fn restore(&mut self, down_ms: u64) {
        if self.backup.is_none() || self.site(0).is_gone {
            return;
        }
        self.kill_site(0, u64::MAX / 4_000, "ended to be restored");
        self.site_mut(0).epoch += 1;
        let epoch = self.site(0).epoch;
        self.queue.push(self.later(down_ms), Happening::SiteRestored { epoch });
    }

    /// The store is made anew from the backup, as `cutover-coordinator restore` does it.
    pub(super) fn restored(&mut self, epoch: u32) {
        if self.site(0).epoch != epoch {
            return;
        }
        let Some(mut store) = self.backup.clone() else { return };
        store.incarnation = self.luck.uuid();
        let now = self.now;
        let site = self.site_mut(0);
        site.store = store;
        let core = site.replay();
        let event = Event {
            at: site.wall.at(now).max(core.last_event()),
            kind: EventKind::Restored { term: Term(core.term().0 + TERM_JUMP) },
        };
        site.store.records.push(codec::encode(&event));
        self.trace.tell(now, Who::Coordinator(0), || "is restored from the backup".to_owned());
        self.see(&Seen::Restored);
        self.start_site(0);
    }

    fn clone_site(&mut self) {
        if self.sites.len() > 1 {
            return;
        }
        let mut clone = Site::new(1, self.script.seed, self.site(0).store.clone());
        clone.wall = self.site(0).wall;
        self.sites.push(clone);
        self.start_site(1);
    }

    fn end_clone(&mut self) {
        if self.has_site(1) {
            self.kill_site(1, 0, "ended");
            self.site_mut(1).is_gone = true;
        }
        for host in 0..self.script.hosts {
            self.route(host, 0);
        }
    }

    fn route(&mut self, host: u16, coordinator: u16) {
        if self.has_site(coordinator) && self.network.link(host).coordinator != coordinator {
            self.network.link_mut(host).coordinator = coordinator;
            self.reset(host);
        }
    }

    /// From here on the coordinator and every host that is not named as broken are well for ever;
    /// the others are broken for ever.
    pub(super) fn heals(&mut self) {
        let Mode::Liveness { broken, .. } = self.script.mode.clone() else { return };
        self.trace.tell(self.now, Who::World, || {
            let names: Vec<String> = broken.iter().map(|host| format!("host-{host}")).collect();
            match names.as_slice() {
                [] => "everything is well from here on".to_owned(),
                names => format!("everything but {} is well from here on", names.join(", ")),
            }
        });
        let calm = &mut self.network.settings;
        (calm.loss_permille, calm.drop_permille) = (0, 0);
        (calm.duplicate_permille, calm.reorder_permille) = (0, 0);
        self.end_clone();
        for number in 0..self.script.hosts {
            if broken.contains(&number) {
                self.break_for_ever(number);
            } else {
                self.heal_host(number);
            }
        }
        let site = self.site_mut(0);
        (site.kill_at, site.fails_next, site.sync_slow_us) = (None, None, None);
        self.take_higher_term();
    }

    fn heal_host(&mut self, number: u16) {
        let host = self.host_mut(number);
        host.kill_at = None;
        host.sync_slow_us = None;
        host.refuses_processes = 0;
        if !host.gate.is_up && host.is_up() {
            self.begin_gate(number);
        }
        self.free_gate(number, None);
        let host = self.host_mut(number);
        host.disk.get().set_full(false);
        host.disk.get().end_faults();
        let link = self.network.link_mut(number);
        (link.cuts_up, link.cuts_down, link.slow_us) = (0, 0, 0);
        self.link_mended(number, Direction::Both);
    }

    /// Restarts the coordinator until its term is above a clone's, as the agents' refusal tells a
    /// person to do; then the fleet is left alone.
    pub(super) fn take_higher_term(&mut self) {
        if self.term_is_behind() {
            self.kill_site(0, 100, "restarted, to take a higher term");
            self.queue.push(self.later(1_000), Happening::TakesHigherTerm);
            return;
        }
        self.see(&Seen::Healed);
        self.queue.push(self.later(REST_EVERY_MS), Happening::LooksForRest);
    }

    /// Ends the run when there is nothing more to wait for.
    pub(super) fn look_for_rest(&mut self) {
        let restless = self.oracles.as_ref().and_then(|oracles| oracles.restless(self));
        if restless.is_none() && !self.be_patient() {
            self.is_at_rest = true;
        } else {
            self.queue.push(self.later(REST_EVERY_MS), Happening::LooksForRest);
        }
    }

    /// Returns whether an agent has obeyed a term that the coordinator has not gone beyond, to
    /// another process: a clone's.
    fn term_is_behind(&self) -> bool {
        let site = self.site(0);
        let Some(process) = site.process.as_ref().filter(|_| !site.is_gone) else {
            return !site.is_gone;
        };
        let term = process.core.term();
        self.hosts.iter().any(|host| {
            let replayed;
            let core = match &host.agent {
                Some(agent) => &agent.core,
                None => {
                    let Some(core) = host.replay() else { return false };
                    replayed = core;
                    &replayed
                }
            };
            let remembered = core.remembered();
            remembered.split >= Some(term)
                || remembered.binding.as_ref().is_some_and(|binding| {
                    binding.term > term
                        || binding.term == term && binding.boot_nonce != process.boot_nonce
                })
        })
    }

    /// A host stays broken for ever, in one way or another.
    fn break_for_ever(&mut self, number: u16) {
        let link = self.network.link_mut(number);
        match self.luck.below(5) {
            0 => link.cut(Direction::Both),
            1 => link.cut(Direction::Up),
            2 => link.cut(Direction::Down),
            3 => {
                self.host_mut(number).is_gone = true;
                self.host_mut(number).suspended_until = Some(Moment(u64::MAX));
            }
            _ => self.host_mut(number).paused_until = Some(Moment(u64::MAX)),
        }
    }
}
