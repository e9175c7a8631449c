//! A pretended host: it brings itself to its goal as an agent does, in the times of the settings.
//!
//! Level-triggered as an agent is: it looks at its goal and at what runs. What no setting says
//! takes no time: fetching, hooks, and what is under way at an instance that is to stop.

use std::{sync::Arc, time::Duration};

use cutover_common::{
    Assignment, Health, HoldState, InstanceEvidence, InstanceId, Latencies, OnceDuty, OncePart,
    OnceReport, OnceStand, Permille, Phase, Release, Report, RouteMode, Sha256, Slot, SlotCounts,
    SlotGoal, SlotReport, Slots, Timers, Timestamp, Traffic, Version,
};
use uuid::Uuid;

use crate::input::SessionId;

/// What an instance says that never becomes healthy.
const FAILS: &str = "assumed to fail";

/// How what is not real names itself.
const SIMULATED: &str = "simulated";

/// One pretended host.
#[derive(Clone, Debug)]
pub(super) struct Host {
    pub(super) session: SessionId,
    /// What it said last.
    report: Report,
    /// The newest goal that has reached it.
    goal: Option<Assignment>,
    instances: Slots<Option<Instance>>,
    /// Where its clients are led to.
    led: Option<Slot>,
    /// The release that never becomes healthy here.
    broken: Option<Version>,
    starts_in: Duration,
}

/// An instance, in one of its slots.
#[derive(Clone, Debug)]
struct Instance {
    /// None: its release is not known, as after a restore.
    release: Option<Arc<Release>>,
    said: SlotReport,
    /// None: it is as it was when the simulation began.
    began: Option<Timestamp>,
}

/// When an instance comes how far.
struct Moments {
    passes: Timestamp,
    settles: Timestamp,
}

impl Instance {
    /// Takes over what is said of a slot, if an instance is in it.
    fn taken_over(
        said: &SlotReport,
        releases: impl Fn(&Version) -> Option<Arc<Release>>,
        now: Timestamp,
    ) -> Option<Self> {
        if !matches!(said.phase, Phase::Starting | Phase::Running | Phase::Stopping) {
            return None;
        }
        let (version, digest) = said.release.as_ref()?;
        let release = releases(version).filter(|release| release.digest == *digest);
        let is_on_its_way = match said.health {
            Health::Unknown | Health::Passing => said.phase != Phase::Stopping,
            Health::Settled | Health::Failing => false,
        };
        Some(Self { release, said: said.clone(), began: is_on_its_way.then_some(now) })
    }

    fn started(release: &Arc<Release>, slot: Slot, now: Timestamp) -> Self {
        let said = SlotReport {
            phase: Phase::Running,
            release: Some(content(release)),
            instance: Some(evidence(slot, now)),
            ..SlotReport::default()
        };
        Self { release: Some(release.clone()), said, began: Some(now) }
    }

    fn is_of(&self, release: &Release) -> bool {
        self.said.release.as_ref() == Some(&content(release))
    }

    fn can_stand_beside(&self, release: &Release) -> bool {
        self.release.as_ref().is_some_and(|own| release.can_stand_beside(own))
    }

    fn is_gated(&self) -> bool {
        self.release.as_ref().is_some_and(|release| release.service.is_some())
    }

    fn moments(&self, timers: Timers, starts_in: Duration) -> Option<Moments> {
        let began = self.began?;
        let probe = self.release.as_ref().and_then(|release| release.probe.as_ref());
        // Without a probe an instance that is alive passes.
        let first = probe.map_or(began, |_| began + starts_in);
        let more = probe.map_or(Duration::ZERO, |it| it.every * it.passes.saturating_sub(1));
        let passes = first + more;
        Some(Moments { passes, settles: passes.max(first + timers.healthy_for) })
    }
}

fn content(release: &Release) -> (Version, Sha256) {
    (release.name.version.clone(), release.digest)
}

fn evidence(slot: Slot, began: Timestamp) -> InstanceEvidence {
    let number = u128::from(began.unix_ms()) << 1 | u128::from(slot == Slot::Green);
    InstanceEvidence {
        instance: InstanceId(Uuid::from_u128(number)),
        boot_id: SIMULATED.to_owned(),
        pid: 1,
        start_ticks: began.unix_ms(),
    }
}

impl Host {
    /// Makes the host that has said `report`.
    pub(super) fn new(
        session: SessionId,
        report: Report,
        broken: Option<Version>,
        starts_in: Duration,
        releases: impl Fn(&Version) -> Option<Arc<Release>>,
        now: Timestamp,
    ) -> Self {
        let instances = report.slots.map(|_, said| Instance::taken_over(said, &releases, now));
        let is_led = |slot: &Slot| {
            instances.of(*slot).is_some() && report.slots.of(*slot).traffic != Traffic::Away
        };
        let led = Slot::ALL.into_iter().find(is_led);
        Self { session, report, goal: None, instances, led, broken, starts_in }
    }

    /// Returns whether `goal` has it start an instance of `version`.
    pub(super) fn would_start(&self, goal: &Assignment, version: &Version) -> bool {
        goal.slots.iter().any(|(slot, goal)| match goal {
            SlotGoal::Running(release) if release.name.version == *version => {
                !self.instances.of(slot).as_ref().is_some_and(|it| it.is_of(release))
            }
            SlotGoal::Running(_) | SlotGoal::Prepared(_) | SlotGoal::Absent => false,
        })
    }

    /// Takes a goal. They come in their order.
    pub(super) fn told(&mut self, goal: Assignment) {
        self.goal = Some(goal);
    }

    /// Returns what its clients get.
    pub(super) fn serves(&self) -> Option<Version> {
        let said = &self.instances.of(self.led?).as_ref()?.said;
        said.release.as_ref().map(|(version, _)| version.clone())
    }

    /// Returns what its gate counts: nothing.
    pub(super) fn counts(&self) -> impl Iterator<Item = SlotCounts> {
        let is_gated =
            |slot: &Slot| self.instances.of(*slot).as_ref().is_some_and(Instance::is_gated);
        let slots = Slot::ALL.into_iter().filter(is_gated);
        let application = &self.report.application;
        slots.map(|slot| SlotCounts {
            application: application.clone(),
            slot,
            gate: SIMULATED.to_owned(),
            requests_in_flight: 0,
            long_lived: 0,
            requests: 0,
            statuses: [0; 5],
            connect_errors: 0,
            resets: 0,
            retries: 0,
            bytes_in: 0,
            bytes_out: 0,
            latency: Latencies::default(),
        })
    }

    /// Does what is due. Returns what it says, if that is another thing than before.
    pub(super) fn act(&mut self, now: Timestamp) -> Option<Report> {
        let goal = self.goal.clone()?;
        self.stop_what_is_due(&goal);
        for slot in Slot::ALL {
            self.start_if_due(&goal, slot, now);
        }
        self.lead(&goal, now);
        self.stop_what_is_due(&goal);
        let report = Report {
            application: goal.application.clone(),
            fence: goal.fence,
            slots: goal.slots.map(|slot, wanted| self.slot(&goal, slot, wanted, now)),
            refused: None,
            outage: self.report.outage,
            hold: match goal.route.as_ref().map(|route| route.mode) {
                Some(RouteMode::Hold(_) | RouteMode::Armed(_)) => HoldState::Drained,
                Some(RouteMode::Open) | None => HoldState::Open,
            },
            once: goal.once.iter().filter_map(ran).collect(),
        };
        (report != self.report).then(|| {
            self.report = report.clone();
            report
        })
    }

    /// Returns when it has something to do next, if it is told nothing.
    pub(super) fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let timers = self.goal.as_ref()?.timers;
        let instances = Slot::ALL.into_iter().filter_map(|slot| self.instances.of(slot).as_ref());
        let moments = instances.filter_map(|it| it.moments(timers, self.starts_in));
        moments.flat_map(|it| [it.passes, it.settles]).filter(|at| *at > now).min()
    }

    fn stop_what_is_due(&mut self, goal: &Assignment) {
        for slot in Slot::ALL {
            let Some(instance) = self.instances.of(slot) else { continue };
            let stays = match goal.slots.of(slot) {
                SlotGoal::Running(release) => instance.is_of(release),
                SlotGoal::Absent | SlotGoal::Prepared(_) => false,
            };
            // What can stand beside what replaces it serves until that does.
            let serves_on = match goal.slots.of(slot.other()) {
                SlotGoal::Running(other) => {
                    instance.can_stand_beside(other) && self.led == Some(slot)
                }
                SlotGoal::Absent | SlotGoal::Prepared(_) => false,
            };
            if !stays && !serves_on {
                *self.instances.of_mut(slot) = None;
                self.led = self.led.filter(|led| *led != slot);
            }
        }
    }

    fn start_if_due(&mut self, goal: &Assignment, slot: Slot, now: Timestamp) {
        let SlotGoal::Running(release) = goal.slots.of(slot) else { return };
        let other = self.instances.of(slot.other());
        let has_room = other.as_ref().is_none_or(|other| other.can_stand_beside(release));
        let part = OnceDuty::part_in(&goal.once, release.digest);
        let is_permitted = part != Some(OncePart::Awaited);
        if self.instances.of(slot).is_none() && has_room && is_permitted {
            *self.instances.of_mut(slot) = Some(Instance::started(release, slot, now));
        }
    }

    /// Moves the traffic: to what has settled, or where nobody serves to what passes.
    fn lead(&mut self, goal: &Assignment, now: Timestamp) {
        let wanted = || goal.slots.iter().find(|(_, goal)| goal.wants_instance()).map(|it| it.0);
        let target = goal.route.as_ref().map(|route| route.to).or_else(wanted);
        let Some(target) = target else { return };
        let serves = self.led.is_some_and(|led| self.health(led, goal.timers, now).is_passing());
        let is_ready = match self.health(target, goal.timers, now) {
            Health::Settled => true,
            Health::Passing => !serves,
            Health::Unknown | Health::Failing => false,
        };
        if is_ready {
            self.led = Some(target);
        }
    }

    fn health(&self, slot: Slot, timers: Timers, now: Timestamp) -> Health {
        let Some(instance) = self.instances.of(slot) else { return Health::Unknown };
        let Some(moments) = instance.moments(timers, self.starts_in) else {
            return instance.said.health;
        };
        if now < moments.passes {
            Health::Unknown
        } else if self.is_broken(instance) {
            Health::Failing
        } else if now < moments.settles {
            Health::Passing
        } else {
            Health::Settled
        }
    }

    fn is_broken(&self, instance: &Instance) -> bool {
        let version = instance.said.release.as_ref().map(|(version, _)| version);
        self.broken.is_some() && self.broken.as_ref() == version
    }

    fn slot(&self, goal: &Assignment, slot: Slot, wanted: &SlotGoal, now: Timestamp) -> SlotReport {
        let Some(instance) = self.instances.of(slot) else {
            return match wanted {
                SlotGoal::Absent => SlotReport::default(),
                SlotGoal::Prepared(release) => vacant(release, Phase::Prepared),
                SlotGoal::Running(release) => vacant(release, Phase::Waiting),
            };
        };
        let health = self.health(slot, goal.timers, now);
        let fails = health == Health::Failing && instance.began.is_some();
        SlotReport {
            phase: Phase::Running,
            health,
            detail: if fails { FAILS.to_owned() } else { instance.said.detail.clone() },
            traffic: self.traffic(goal, slot, instance, health),
            ..instance.said.clone()
        }
    }

    fn traffic(
        &self,
        goal: &Assignment,
        slot: Slot,
        instance: &Instance,
        health: Health,
    ) -> Traffic {
        if !instance.is_gated() {
            return Traffic::Ungated;
        }
        let has_share = goal.route.as_ref().is_some_and(|route| {
            route.share > Permille::NONE && route.to != slot && health == Health::Settled
        });
        if self.led == Some(slot) || has_share { Traffic::Here } else { Traffic::Away }
    }
}

/// Says what becomes of a once hook: it passes, in no time.
fn ran(duty: &OnceDuty) -> Option<OnceReport> {
    match duty.part {
        OncePart::Awaited => None,
        OncePart::Run { permit } => {
            Some(OnceReport { release: duty.release, permit, stand: OnceStand::Passed })
        }
    }
}

fn vacant(release: &Release, phase: Phase) -> SlotReport {
    SlotReport { phase, release: Some(content(release)), ..SlotReport::default() }
}
