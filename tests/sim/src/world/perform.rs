//! What an agent asks of its host: fetching, starting, probing, stopping, as the daemon's shell and
//! its shims do it.

use std::time::Duration;

use cutover_agent_core::{
    Action, Finding, HookEnd, HookId, Input, Place, PrepareFailure, ProbeAnswer, Retained, Retry,
};
use cutover_common::{
    ApplicationName, HostLoad, InstanceId, Inventory, Release, Sha256, Slot, Version,
    protocol::PROTOCOL,
    wire::{Heartbeat, Hello},
};

use super::{Happening, World, kernel::Process, network::Up};
use crate::{
    oracle::{Effect, Seen},
    script::{Behaviour, HookBehaviour, Life, OnStop},
    story,
    trace::Who,
};

/// A start that is under way.
#[derive(Clone, Debug)]
pub struct Spawn {
    pub application: ApplicationName,
    pub version: Version,
    pub slot: Slot,
    pub digest: Sha256,
    pub behaviour: Behaviour,
}

/// The longest that a fetch waits for a byte: the agent's limit on a slow coordinator.
const FETCH_STALLS_AFTER: Duration = Duration::from_secs(30);

/// How fast a process is begun and looked at.
const QUICK_MAX_US: u64 = 20_000;

impl World {
    pub(super) fn perform_agent(
        &mut self,
        number: u16,
        actions: Vec<Action>,
        at_most: Option<usize>,
    ) {
        for action in actions.into_iter().take(at_most.unwrap_or(usize::MAX)) {
            if self.violation.is_some() {
                return;
            }
            self.perform_one(number, action);
        }
    }

    fn perform_one(&mut self, number: u16, action: Action) {
        match action {
            Action::SendHello { session, held } => {
                let hello = Hello {
                    protocol: PROTOCOL,
                    agent_version: String::new(),
                    inventory: Inventory {
                        address: format!("10.0.0.{number}"),
                        ..Inventory::default()
                    },
                    held,
                    boot_id: self.host(number).kernel.boot_id(),
                };
                self.send_up(number, session, Up::Hello(hello));
            }
            Action::SendHeartbeat { session, nonce, reports, edge, checks } => {
                let cpu_permille = busy_permille(number);
                let load = HostLoad { cpu_permille, ..HostLoad::default() };
                let (counts, vitals) = (self.counted(number), Vec::new());
                let beat = Heartbeat { nonce, load, counts, vitals, reports, edge, checks };
                self.send_up(number, session, Up::Heartbeat(beat));
            }
            Action::SendReport { session, report } => {
                self.send_up(number, session, Up::Report(*report));
            }
            Action::EndSession { session, refusal } => {
                self.trace.tell(self.now, Who::Host(number), || format!("obeys not: {refusal}"));
                self.refuse_below(number, session);
            }
            Action::NoteRefusal { offered, refusal, .. } => {
                self.trace.tell(self.now, Who::Host(number), || {
                    format!("refuses goal {offered}: {refusal}")
                });
            }
            Action::Prepare { release, .. } => self.prepare(number, &release),
            Action::Start { place, instance, release, port: _ } => {
                self.start(number, &place, instance, &release);
            }
            Action::Adopt { instance, .. } => self.adopt(number, instance),
            Action::RunHook { place, hook, instance, release, port: _ } => {
                self.run_hook(number, &place, (hook, instance), &release);
            }
            Action::EndHook { place: _, hook } => self.end_hook(number, hook),
            Action::Stop { place, instance, release } => {
                self.stop(number, &place, instance, &release);
            }
            Action::Probe { instance, probe, .. } => self.probe(number, instance, probe.timeout),
            Action::RunCheck { place, canary, release, check, .. } => {
                self.run_check(number, &place, (canary, check), &release);
            }
            Action::TellGate { revision, program } => self.tell_gate(number, revision, *program),
            Action::Retain(retained) => self.retain(number, retained),
        }
    }

    pub(super) fn quick(&mut self, number: u16) -> Duration {
        Duration::from_micros(self.host_mut(number).luck.between(50, QUICK_MAX_US))
    }

    pub(super) fn after(&mut self, number: u16, wait: Duration, input: Input) {
        let epoch = self.host(number).epoch;
        self.queue
            .push(self.now + wait, Happening::AgentHears { number, epoch, input: Box::new(input) });
    }

    fn prepare(&mut self, number: u16, release: &Release) {
        let (application, digest) = (release.name.application.clone(), release.digest);
        let now = self.now;
        let is_there = self.host(number).releases.contains(&(application.clone(), digest));
        if is_there {
            let wait = self.quick(number);
            let (version, result) = (release.name.version.clone(), Ok(()));
            self.after(number, wait, Input::PrepareEnded { application, version, digest, result });
            return;
        }
        self.see(&Seen::Fetching { number, application: &application, digest });
        let epoch = self.host(number).epoch;
        let link = self.network.link(number);
        let (coordinator, cuts) = (link.coordinator, link.cut_count);
        let is_cut = link.is_cut(crate::script::Direction::Both);
        let per_ms = self.script.network.bytes_per_ms.max(1);
        let takes =
            Duration::from_millis(release.archive_size_bytes / per_ms) + self.network.delay(number);
        let site = self.site(coordinator);
        let may = site
            .process
            .as_ref()
            .is_some_and(|process| process.core.may_fetch(&self.host(number).name, &release.name));
        let wait = if is_cut { FETCH_STALLS_AFTER } else { takes };
        let fetch = Fetch {
            application,
            version: release.name.version.clone(),
            digest,
            is_lost: is_cut || !may,
            cuts,
            coordinator: (coordinator, site.epoch),
        };
        self.queue.push(now + wait, Happening::Fetched { number, epoch, fetch: Box::new(fetch) });
    }

    /// A fetch has ended, well or not.
    pub(super) fn fetched(&mut self, number: u16, epoch: u32, fetch: Fetch) {
        if self.host(number).epoch != epoch {
            return;
        }
        let Fetch { application, version, digest, .. } = fetch;
        let link = self.network.link(number);
        let broke = fetch.is_lost
            || link.cut_count != fetch.cuts
            || self.site(fetch.coordinator.0).epoch != fetch.coordinator.1;
        let is_full = self.host(number).disk.get().is_full();
        let result = if broke {
            Err(later("the connection broke"))
        } else if is_full {
            Err(later("no space left on device"))
        } else if self.spec_of(&application, &version).is_some_and(|release| release.is_damaged) {
            let detail = "the archive is not what its digest says".to_owned();
            Err(PrepareFailure { detail, retry: Retry::Never })
        } else {
            self.host_mut(number).releases.insert((application.clone(), digest));
            Ok(())
        };
        self.trace.mark(self.now, Who::Host(number), ("fetched", result.is_ok()));
        let ended = Input::PrepareEnded { application, version, digest, result };
        self.tell_agent(number, epoch, ended);
    }

    fn start(&mut self, number: u16, place: &Place, instance: InstanceId, release: &Release) {
        self.see(&Seen::Effect { number, effect: Effect::Start { place, instance, release } });
        let behaviour = self
            .spec_of(&release.name.application, &release.name.version)
            .map_or(Behaviour::WELL, |spec| *spec.behaviour_on(number));
        let spawn = Spawn {
            application: release.name.application.clone(),
            version: release.name.version.clone(),
            slot: place.slot,
            digest: release.digest,
            behaviour,
        };
        let wait = self.quick(number);
        let host = self.host_mut(number);
        let (epoch, boot) = (host.epoch, host.kernel.boot);
        host.spawning.insert(instance, Box::new(spawn));
        self.queue.push(self.now + wait, Happening::Spawned { number, epoch, boot, instance });
    }

    /// A process begins, whether its agent still is there or not.
    pub(super) fn spawned(&mut self, number: u16, epoch: u32, boot: u32, instance: InstanceId) {
        // What an agent was beginning when it ended is decided by then.
        if self.host(number).kernel.boot != boot || self.host(number).epoch != epoch {
            return;
        }
        let Some(spawn) = self.host_mut(number).spawning.remove(&instance) else { return };
        let is_refused = self.host(number).refuses_processes > 0;
        if is_refused || spawn.behaviour.life == Life::CannotStart {
            let detail = if is_refused { "no more processes" } else { "permission denied" };
            let detail = detail.to_owned();
            self.tell_agent(number, epoch, Input::StartFailed { instance, detail });
            return;
        }
        let evidence = self.begin(number, instance, &spawn);
        self.tell_agent(number, epoch, Input::Started { evidence });
    }

    fn begin(
        &mut self,
        number: u16,
        instance: InstanceId,
        spawn: &Spawn,
    ) -> cutover_common::InstanceEvidence {
        let now = self.now;
        let kernel = &mut self.host_mut(number).kernel;
        let evidence = kernel.evidence(instance, now);
        let key = (spawn.application.clone(), spawn.version.clone());
        let starts = kernel.starts.entry(key).or_default();
        *starts += 1;
        let crashes = match spawn.behaviour.life {
            Life::Crashes { after_ms } => Some(after_ms),
            Life::CrashesAtFirst { after_ms, times } => (*starts <= times).then_some(after_ms),
            Life::Well
            | Life::CannotStart
            | Life::NeverReady
            | Life::PassesOnce
            | Life::Flaps { .. }
            | Life::TurnsBad { .. } => None,
        };
        let process = Process {
            instance,
            application: spawn.application.clone(),
            version: spawn.version.clone(),
            slot: spawn.slot,
            digest: spawn.digest,
            behaviour: spawn.behaviour,
            evidence: evidence.clone(),
            started: now,
            ended: None,
            passing_since: None,
            good_for: Duration::ZERO,
            failing_since: None,
            failures: 0,
            passes: 0,
            told_to_stop: None,
            child_until: None,
        };
        kernel.processes.insert(instance, process);
        let boot = kernel.boot;
        self.trace.mark(now, Who::Host(number), ("spawned", instance.0.as_u128()));
        self.trace.tell(now, Who::Host(number), || {
            let (name, pid) = (story::short(instance), evidence.pid);
            format!("{} {} begins as pid {pid}, instance {name}", spawn.application, spawn.version)
        });
        self.see(&Seen::Began { number, instance });
        if let Some(after_ms) = crashes {
            let at = now + Duration::from_millis(after_ms);
            self.queue.push(at, Happening::Crashes { number, boot, instance });
        }
        evidence
    }

    /// The agent is gone in the middle of starts: each has happened or not.
    pub(super) fn resolve_spawning(&mut self, number: u16) {
        let spawning = std::mem::take(&mut self.host_mut(number).spawning);
        for (instance, spawn) in spawning {
            let happens = self.host_mut(number).luck.chance(500);
            if happens && spawn.behaviour.life != Life::CannotStart {
                self.begin(number, instance, &spawn);
            }
        }
    }

    /// A process ends by itself, or is killed by somebody else.
    pub(super) fn end_process(&mut self, number: u16, instance: InstanceId, detail: &str) {
        let now = self.now;
        let host = self.host_mut(number);
        let epoch = host.epoch;
        if !host.kernel.end(instance, now, detail) {
            return;
        }
        self.trace.mark(now, Who::Host(number), ("ended", instance.0.as_u128()));
        self.trace.tell(now, Who::Host(number), || {
            format!("instance {} {detail}", story::short(instance))
        });
        self.see(&Seen::Died { number, instance });
        let wait = self.quick(number);
        let input = Box::new(Input::Exited { instance, detail: detail.to_owned() });
        self.queue.push(now + wait, Happening::AgentHears { number, epoch, input });
    }

    fn adopt(&mut self, number: u16, instance: InstanceId) {
        let wait = self.quick(number);
        let host = self.host(number);
        let finding = match host.kernel.processes.get(&instance) {
            None => Finding::Never,
            Some(process) => match &process.ended {
                None => Finding::Running { evidence: process.evidence.clone() },
                Some(_) if process.evidence.boot_id != host.kernel.boot_id() => Finding::Gone,
                Some(ended) => Finding::Exited { detail: ended.detail.clone() },
            },
        };
        self.after(number, wait, Input::Adopted { instance, finding });
    }

    fn run_hook(
        &mut self,
        number: u16,
        place: &Place,
        (hook, instance): (HookId, Option<InstanceId>),
        release: &Release,
    ) {
        let effect = Effect::Hook { place, hook, instance, release };
        self.see(&Seen::Effect { number, effect });
        let within = release.hook(hook.kind).map_or(Duration::ZERO, |hook| hook.within);
        let is_once = release.hook(hook.kind).is_some_and(|hook| hook.once);
        let behaviour = self
            .spec_of(&release.name.application, &release.name.version)
            .map_or(Behaviour::WELL, |spec| *spec.behaviour_on(number));
        let (wait, end) = match behaviour.of_hook(hook.kind) {
            // A migration takes its time, in which hosts can be lost.
            HookBehaviour::Passes if is_once => (within * 3 / 4, HookEnd::Passed),
            HookBehaviour::Passes => (Duration::from_millis(20), HookEnd::Passed),
            HookBehaviour::Fails => {
                let detail = "exited with status 1".to_owned();
                (Duration::from_millis(20), HookEnd::Failed { detail })
            }
            HookBehaviour::Hangs => {
                (within, HookEnd::Failed { detail: format!("did not end within {within:?}") })
            }
        };
        self.after(number, wait, Input::HookEnded { hook, end });
    }

    /// Ends a hook, whoever ran it.
    fn end_hook(&mut self, number: u16, hook: HookId) {
        let wait = self.quick(number);
        self.after(number, wait, Input::HookEnded { hook, end: HookEnd::Interrupted });
    }

    fn stop(&mut self, number: u16, place: &Place, instance: InstanceId, release: &Release) {
        self.see(&Seen::Effect { number, effect: Effect::Stop { place, instance, release } });
        let now = self.now;
        let host = self.host_mut(number);
        let (epoch, boot) = (host.epoch, host.kernel.boot);
        let (wait, killed) = match host.kernel.processes.get_mut(&instance) {
            Some(process) if process.is_alive() => {
                process.told_to_stop = process.told_to_stop.or(Some(now));
                if let OnStop::LeavesChild { for_ms } = process.behaviour.on_stop {
                    process.child_until = Some(now + Duration::from_millis(for_ms));
                }
                process.stopping(release.run.stop_within)
            }
            Some(_) | None => (Duration::ZERO, false),
        };
        let at = now + wait;
        self.queue.push(at, Happening::Stopped { number, epoch, boot, instance, killed });
    }

    /// A stop has come to its end. A signal that was sent works without its sender; the kill at the
    /// end of the grace needs it.
    pub(super) fn stopped(
        &mut self,
        number: u16,
        epoch: u32,
        boot: u32,
        instance: InstanceId,
        killed: bool,
    ) {
        let now = self.now;
        let host = self.host_mut(number);
        if host.kernel.boot != boot || (killed && host.epoch != epoch) {
            return;
        }
        if host.kernel.end(instance, now, "stopped as it was told to") {
            self.trace.mark(now, Who::Host(number), ("stopped", instance.0.as_u128()));
            self.trace.tell(now, Who::Host(number), || {
                let how = if killed { "is killed, as it did not stop" } else { "stops" };
                format!("instance {} {how}", story::short(instance))
            });
            self.see(&Seen::Died { number, instance });
        }
        let child_until =
            self.host(number).kernel.processes.get(&instance).and_then(|it| it.child_until);
        if child_until.is_some_and(|until| until > now) {
            // Nobody knows whether the child serves: the outcome is unknown.
            let detail = "a process of its group is still there".to_owned();
            self.tell_agent(number, epoch, Input::StopFailed { instance, detail });
            return;
        }
        let detail = if killed { "killed" } else { "exited with status 0" };
        self.tell_agent(number, epoch, Input::Stopped { instance, detail: detail.to_owned() });
    }

    fn probe(&mut self, number: u16, instance: InstanceId, timeout: Duration) {
        let now = self.now;
        let epoch = self.host(number).epoch;
        let is_well = |process: &Process| process.is_well(now);
        let process = self.host(number).kernel.processes.get(&instance);
        let passed = process.is_some_and(is_well);
        let is_refused = process.is_none_or(|process| !process.is_alive());
        let wait = if passed || is_refused { self.quick(number).min(timeout) } else { timeout };
        let at = now + wait;
        self.queue.push(at, Happening::Answered { number, epoch, instance, passed });
    }

    /// A probe was answered.
    pub(super) fn answered(&mut self, number: u16, epoch: u32, instance: InstanceId, passed: bool) {
        let now = self.now;
        let host = self.host_mut(number);
        if host.epoch != epoch {
            return;
        }
        if let Some(process) = host.kernel.processes.get_mut(&instance) {
            process.answered(passed, now);
        }
        let text = if passed { "200" } else { "no answer" }.to_owned();
        let answer = ProbeAnswer { passed, text };
        self.tell_agent(number, epoch, Input::Probed { instance, answer });
    }

    fn retain(&mut self, number: u16, retained: Retained) {
        self.see(&Seen::Retains { number, retained: &retained });
        let now = self.now;
        let host = self.host_mut(number);
        host.releases.retain(|(application, digest)| {
            retained.releases.get(application).is_none_or(|kept| kept.contains(digest))
        });
        host.kernel.processes.retain(|instance, process| {
            // A child that nobody keeps a record of is there all the same.
            process.is_alive()
                || process.child_until.is_some_and(|until| until > now)
                || retained.instances.contains(&(process.application.clone(), *instance))
        });
        if let Some(agent) = &mut host.agent {
            agent.retained = Some(retained);
        }
    }
}

/// A fetch that is under way.
#[derive(Clone, Debug)]
pub struct Fetch {
    application: ApplicationName,
    version: Version,
    digest: Sha256,
    is_lost: bool,
    cuts: u32,
    /// The site and its process.
    coordinator: (u16, u32),
}

fn later(detail: &str) -> PrepareFailure {
    PrepareFailure { detail: detail.to_owned(), retry: Retry::Later }
}

/// Returns how busy a host is, whatever runs on it, in thousandths.
pub(crate) fn busy_permille(number: u16) -> u32 {
    100 + u32::from(number % 7) * 60
}
