//! The machine under an agent: processes and releases, which outlive the agent's own process.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use cutover_agent::{engine::Perform, session::Outlet};
use cutover_agent_core::{Action, Finding, HookEnd, HookId, Input, ProbeAnswer};
use cutover_common::{
    HostLoad, InstanceEvidence, InstanceId, Inventory, Release, Sha256, Slot, Timestamp,
    check::Answer,
    protocol::{LEASE, PROTOCOL},
    wire::{Heartbeat, Hello},
};
use cutover_proto::v1::agent_message::Kind;
use cutover_runtime::{clock::Clock as _, dice::Dice as _};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::{
    clock::{HostClock, elapsed},
    fleet::Seen,
    luck::SeededDice,
    trace::Trace,
};

const MS: Duration = Duration::from_millis(1);

/// How many echoes that did not come are remembered: those of two leases, at a beat every 5 s.
const SENT_MAX: usize = 8;

/// What is on a machine. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Machine(Arc<Mutex<Things>>);

#[derive(Debug, Default)]
struct Things {
    is_alive: BTreeMap<InstanceId, bool>,
    releases: BTreeSet<Sha256>,
    hooked: BTreeSet<InstanceId>,
    /// Whose end was begun: with the hook, or with the stop.
    ended: BTreeSet<InstanceId>,
    stopped: BTreeSet<InstanceId>,
    /// The nonces that were sent, with when, by the host's own clock.
    sent: Vec<(Uuid, Timestamp)>,
    /// When the latest echoed nonce had been sent.
    permitted_at: Option<Timestamp>,
}

impl Machine {
    fn lock(&self) -> MutexGuard<'_, Things> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes an echo that arrived; returns when its nonce had been sent.
    pub(crate) fn echoed(&self, nonce: Uuid) -> Option<Timestamp> {
        let mut things = self.lock();
        let (_, at) = *things.sent.iter().find(|(sent, _)| *sent == nonce)?;
        things.permitted_at = things.permitted_at.max(Some(at));
        things.permitted_at
    }

    fn sent(&self, now: Timestamp, nonce: Uuid) {
        let mut things = self.lock();
        if things.sent.len() == SENT_MAX {
            things.sent.remove(0);
        }
        things.sent.push((nonce, now));
    }

    fn prepare(&self, digest: Sha256) {
        self.lock().releases.insert(digest);
    }

    /// Starts an instance; under one id only once.
    fn start(&self, instance: InstanceId, release: &Release) -> (Input, bool) {
        let mut things = self.lock();
        assert!(things.releases.contains(&release.digest), "E2: what is started is on disk");
        let is_first = !things.is_alive.contains_key(&instance);
        if is_first {
            let others = things.is_alive.values().filter(|is_alive| **is_alive).count();
            assert_eq!(others, 0, "E1: another instance is alive");
            things.is_alive.insert(instance, true);
        }
        let input = if things.is_alive[&instance] {
            Input::Started { evidence: evidence(instance) }
        } else {
            Input::StartFailed { instance, detail: "it ended".to_owned() }
        };
        (input, is_first)
    }

    fn adopt(&self, instance: InstanceId) -> Input {
        let finding = match self.lock().is_alive.get(&instance) {
            None => Finding::Never,
            Some(true) => Finding::Running { evidence: evidence(instance) },
            Some(false) => Finding::Exited { detail: "it ended".to_owned() },
        };
        Input::Adopted { instance, finding }
    }

    fn run_hook(&self, now: Timestamp, hook: HookId) -> Input {
        let instance = InstanceId(hook.run);
        self.check_permission(now, instance);
        assert!(self.lock().hooked.insert(instance), "E3: a hook runs twice for one instance");
        Input::HookEnded { hook, end: HookEnd::Passed }
    }

    /// Checks that the end of an instance may begin: one that was begun needs no permission.
    fn check_permission(&self, now: Timestamp, instance: InstanceId) {
        let mut things = self.lock();
        if things.ended.insert(instance) {
            let permitted_at = things.permitted_at;
            let is_fresh = permitted_at.is_some_and(|at| now - at <= LEASE);
            assert!(is_fresh, "A5: stopped at {now:?}, permitted at {permitted_at:?}");
        }
    }

    /// Notes that a stop was asked for; returns whether for the first time.
    fn begin_stop(&self, now: Timestamp, instance: InstanceId) -> bool {
        self.check_permission(now, instance);
        self.lock().stopped.insert(instance)
    }

    fn stop(&self, instance: InstanceId) -> Input {
        self.lock().is_alive.insert(instance, false);
        Input::Stopped { instance, detail: "exited with status 0".to_owned() }
    }

    fn probe(&self, instance: InstanceId) -> Input {
        let passed = self.lock().is_alive.get(&instance) == Some(&true);
        Input::Probed { instance, answer: ProbeAnswer { passed, text: "asked".to_owned() } }
    }
}

fn evidence(instance: InstanceId) -> InstanceEvidence {
    InstanceEvidence { instance, boot_id: "boot".to_owned(), pid: 7, start_ticks: 9 }
}

/// Performs one agent's actions on its machine, each after a while.
pub(crate) struct Performer {
    pub(crate) name: String,
    pub(crate) machine: Machine,
    pub(crate) outlet: Outlet,
    pub(crate) inbox: mpsc::Sender<Input>,
    pub(crate) dice: Arc<SeededDice>,
    pub(crate) clock: HostClock,
    pub(crate) trace: Trace,
    pub(crate) seen: Seen,
    /// How long it takes to bring a release to disk.
    pub(crate) prepares_in: std::ops::Range<Duration>,
}

impl Performer {
    fn note(&self, what: String) {
        self.trace.add(elapsed(), &self.name, what);
    }

    fn effect(&self, what: String) {
        self.note(what.clone());
        self.seen.change_agent(&self.name, |agent| agent.effects.push(what));
    }

    /// Answers after a while, with what the machine then says.
    fn answer(
        &self,
        within: std::ops::Range<Duration>,
        work: impl FnOnce(&Machine) -> Input + Send + 'static,
    ) {
        let wait = self.dice.between(within);
        let (machine, inbox) = (self.machine.clone(), self.inbox.clone());
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            // Not received: the agent ended meanwhile.
            drop(inbox.send(work(&machine)).await);
        });
    }

    fn start(&self, slot: Slot, instance: InstanceId, release: &Release) {
        let (started, is_first) = self.machine.start(instance, release);
        if is_first {
            self.effect(format!("starts {} in {slot}", release.name));
        }
        self.answer(10 * MS..200 * MS, |_| started);
    }

    fn stop(&self, slot: Slot, instance: InstanceId, release: &Release) {
        if self.machine.begin_stop(self.clock.now(), instance) {
            self.effect(format!("stops {} in {slot}", release.name));
        }
        self.answer(10 * MS..500 * MS, move |machine| machine.stop(instance));
    }
}

impl Perform for Performer {
    fn perform(&mut self, action: Action) {
        match action {
            Action::SendHello { session, held } => {
                let hello = Hello {
                    protocol: PROTOCOL,
                    agent_version: "simulated".to_owned(),
                    inventory: Inventory { hostname: self.name.clone(), ..Inventory::default() },
                    held,
                    boot_id: "boot".to_owned(),
                };
                self.outlet.send(session, Kind::Hello(hello.into()));
            }
            Action::SendHeartbeat { session, nonce, reports, edge, checks } => {
                self.machine.sent(self.clock.now(), nonce);
                let (load, counts, vitals) = (HostLoad::default(), Vec::new(), Vec::new());
                let beat = Heartbeat { nonce, load, counts, vitals, reports, edge, checks };
                self.outlet.send(session, Kind::Heartbeat(beat.into()));
            }
            Action::SendReport { session, report } => {
                self.outlet.send(session, Kind::Report((*report).into()));
            }
            Action::EndSession { session, refusal } => {
                self.note(format!("refuses session {}: {refusal}", session.0));
                self.outlet.refuse(session, refusal);
            }
            Action::NoteRefusal { offered, refusal, .. } => {
                self.note(format!("refuses assignment {offered}: {refusal}"));
            }
            Action::Prepare { place, release } => {
                let digest = release.digest;
                let (trace, name) = (self.trace.clone(), self.name.clone());
                self.answer(self.prepares_in.clone(), move |machine| {
                    trace.add(elapsed(), &name, format!("has {} on disk", release.name));
                    machine.prepare(digest);
                    let (application, version) = (place.application, release.name.version.clone());
                    Input::PrepareEnded { application, version, digest, result: Ok(()) }
                });
            }
            Action::Start { place, instance, release, .. } => {
                self.start(place.slot, instance, &release);
            }
            Action::Adopt { instance, .. } => {
                self.answer(MS..20 * MS, move |machine| machine.adopt(instance));
            }
            Action::RunHook { place, hook, release, .. } => {
                self.effect(format!("runs the hook of {} in {}", release.name, place.slot));
                let ended = self.machine.run_hook(self.clock.now(), hook);
                self.answer(10 * MS..500 * MS, |_| ended);
            }
            Action::EndHook { hook, .. } => {
                self.answer(MS..20 * MS, move |_| Input::HookEnded {
                    hook,
                    end: HookEnd::Interrupted,
                });
            }
            Action::Stop { place, instance, release } => {
                self.stop(place.slot, instance, &release);
            }
            Action::Probe { instance, .. } => {
                self.answer(MS..20 * MS, move |machine| machine.probe(instance));
            }
            Action::RunCheck { place, canary, check, .. } => {
                let application = place.application;
                let (answer, detail) = (Answer::Pass, String::new());
                let checked = Input::Checked { application, canary, check, answer, detail };
                self.answer(MS..20 * MS, move |_| checked);
            }
            // Nothing here stands behind a gate.
            Action::TellGate { .. } => {}
            // Releases are small here, and what is needed is checked when it is started.
            Action::Retain(_) => {}
        }
    }
}

/// Draws where a host's clock begins: within some ten years.
pub(crate) fn clock_start(dice: &SeededDice) -> Timestamp {
    let [a, b, c, d, ..] = dice.draw();
    let seconds = u64::from(u32::from_le_bytes([a, b, c, d])) / 12;
    Timestamp::from_unix_ms((1_700_000_000 + seconds) * 1000)
}
