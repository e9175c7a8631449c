//! Verdicts on canaries: A12. Who is failed is worse, who fails where the old release does not comes to
//! nobody else, and nothing is decided by what nobody has counted.
//!
//! How releases answer is in the script, and which one is in a slot the kernel knows. What was counted
//! is what has reached the coordinator's process in heartbeats; it is added up here anew, so that no judge is
//! asked. Rules leave room for luck: where both releases fail equally often, a verdict is held against
//! what was counted, and where they do not, only what is far beyond luck is demanded.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use cutover_common::{
    InstanceId, JudgedLimit, JudgedMetric, Slot, SlotCounts, Version, manifest::Unsure,
    protocol::HEARTBEAT_EVERY, wire::Heartbeat,
};
use cutover_coordinator_core::{
    Event, EventKind, Input,
    event::Change,
    rollout::{Cause, Outcome, PlanStep, spec::Canary},
};
use uuid::Uuid;

use super::{
    course::{Course, Phase, Standing},
    ledger::Ledger,
};
use crate::{
    oracle::Violation,
    script::{Answers, Application, Release, Script},
    world::{Up, World},
};

/// How many heartbeats of a host can be on their way: more than a session lives for in silence.
const SENT_MAX: usize = 32;

/// In how many rounds both sides were asked where a canary that fails every request can be known to, if the
/// old release fails none: one more than what the judge may not have been shown, at either end.
const ROUNDS_AMPLE: u64 = 4;

/// How many of the canary's requests must have failed before it is failed for it: docs/judge.md.
const ERRORS_MIN: u64 = 3;

/// What is said of what looks bad and is not proved.
const DOUBT: &str = "look worse on the canary";

/// What each side needs where nothing else was said: docs/judge.md.
const REQUESTS_MIN: u64 = 50;
const WATCHED_MIN: Duration = Duration::from_secs(120);

/// What one heartbeat tells of one slot.
#[derive(Clone, Debug)]
struct Look {
    application: u16,
    slot: Slot,
    /// By the kernel.
    version: Version,
    gate: String,
    requests: u64,
    errors: u64,
}

/// What was counted on one side.
#[derive(Clone, Copy, Debug, Default)]
struct Side {
    requests: u64,
    errors: u64,
}

/// What the process that is there was told of one rollout's canary and what is beside it.
#[derive(Clone, Copy, Debug, Default)]
struct Evidence {
    control: Side,
    canary: Side,
    /// The round that is open, and whether it has requests of either side.
    round: u64,
    is_asked: [bool; 2],
    /// How many rounds had requests of both sides.
    rounds: u64,
}

/// See above.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    /// Whether anybody counts requests at all.
    is_counted: bool,
    /// By host, the newest at the end.
    sent: BTreeMap<u16, VecDeque<(Uuid, Vec<Look>)>>,
    /// By site and host.
    last: BTreeMap<(u16, u16), Vec<Look>>,
    /// By site and rollout.
    evidence: BTreeMap<(u16, Uuid), Evidence>,
    /// How often instances have ended by themselves, by application.
    ended: BTreeMap<(u16, Version), u64>,
}

impl Verdicts {
    pub(super) fn new(script: &Script) -> Self {
        let is_counted = script.applications.iter().any(|it| it.requests_per_s.is_some());
        Self { is_counted, ..Self::default() }
    }

    /// Forgets what an earlier process was told.
    pub(super) fn begin(&mut self, number: u16) {
        self.last.retain(|(site, _), _| *site != number);
        self.evidence.retain(|(site, _), _| *site != number);
    }

    /// Notes what a host says.
    pub(super) fn says(&mut self, world: &World, host: u16, up: &Up) {
        let Up::Heartbeat(beat) = up else { return };
        if !self.is_counted {
            return;
        }
        let sent = self.sent.entry(host).or_default();
        if sent.len() >= SENT_MAX {
            sent.pop_front();
        }
        sent.push_back((beat.nonce, looks(world, host, beat)));
    }

    /// Notes that an instance has ended.
    pub(super) fn died(&mut self, world: &World, host: u16, instance: InstanceId) {
        let Some(process) = world.host(host).kernel.processes.get(&instance) else { return };
        let names = world.script.applications.iter();
        let number = names.into_iter().position(|it| it.name == process.application.as_str());
        let number = number.and_then(|number| u16::try_from(number).ok());
        if let Some(number) = number.filter(|_| process.told_to_stop.is_none()) {
            *self.ended.entry((number, process.version.clone())).or_default() += 1;
        }
    }

    /// Notes what a coordinator is about to take.
    pub(super) fn takes(&mut self, world: &World, number: u16, ledger: &Ledger, input: &Input) {
        let Input::Beat { heartbeat, .. } = input else { return };
        let found = self.sent.iter().find_map(|(host, sent)| {
            let beat = sent.iter().find(|(nonce, _)| *nonce == heartbeat.nonce)?;
            Some((*host, beat.1.clone()))
        });
        let Some((host, looks)) = found else { return };
        let before = self.last.insert((number, host), looks.clone()).unwrap_or_default();
        let round = world.now.ms() / 1_000 / HEARTBEAT_EVERY.as_secs();
        for look in &looks {
            let is_same = |it: &&Look| {
                (it.application, it.slot, &it.version, &it.gate)
                    == (look.application, look.slot, &look.version, &look.gate)
            };
            let Some(known) = before.iter().find(is_same) else { continue };
            let grown = Side {
                requests: look.requests.saturating_sub(known.requests),
                errors: look.errors.saturating_sub(known.errors),
            };
            let courses = ledger.active().filter(|it| it.application == look.application);
            for course in courses.filter(|course| course.spec.canary.is_some()) {
                let evidence = self.evidence.entry((number, course.id)).or_default();
                if look.version == course.to {
                    evidence.add(round, grown, true);
                } else if Some(&look.version) == course.from.as_ref() {
                    evidence.add(round, grown, false);
                }
            }
        }
    }

    /// Judges one decision, before it is in the books.
    pub(super) fn judge(
        &mut self,
        world: &World,
        number: u16,
        ledger: &Ledger,
        event: &Event,
    ) -> Result<(), Violation> {
        let EventKind::Rollout { id, change, .. } = &event.kind else { return Ok(()) };
        let Some(course) = ledger.courses.get(id) else { return Ok(()) };
        let Some(canary) = &course.spec.canary else { return Ok(()) };
        let evidence = self.evidence.get(&(number, *id)).copied().unwrap_or_default();
        let Some(scene) = Scene::of(world, course, canary, evidence) else { return Ok(()) };
        match change {
            Change::RollbackStarted { cause: Cause::Judged { why }, .. } => {
                if !course.spec.auto_rollback {
                    return broken(format!("a canary is taken back, and nobody wants that: {why}"));
                }
                scene.is_as_declared(why, Unsure::Fail)?;
                scene.is_right(why, self.restarts(course))
            }
            Change::Held { why } => {
                scene.is_as_declared(why, Unsure::Wait)?;
                scene.is_right(why, self.restarts(course))
            }
            Change::StepStarted { .. }
            | Change::BakeStarted
            | Change::Ended { outcome: Outcome::Succeeded, .. } => scene.leaves(),
            Change::Retried { .. } => {
                self.evidence.remove(&(number, *id));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn restarts(&self, course: &Course) -> u64 {
        self.ended.get(&(course.application, course.to.clone())).copied().unwrap_or_default()
    }
}

impl Evidence {
    /// Adds what has come to the canary, or beside it.
    fn add(&mut self, round: u64, grown: Side, is_canary: bool) {
        let side = if is_canary { &mut self.canary } else { &mut self.control };
        side.requests += grown.requests;
        side.errors += grown.errors;
        if round != self.round {
            (self.round, self.is_asked) = (round, [false; 2]);
        }
        let had_both = self.is_asked == [true; 2];
        self.is_asked[usize::from(is_canary)] |= grown.requests > 0;
        self.rounds += u64::from(!had_both && self.is_asked == [true; 2]);
    }
}

/// One canary that can be compared, as it really is.
struct Scene<'a> {
    course: &'a Course,
    canary: &'a Canary,
    evidence: Evidence,
    /// How requests to the old release and to the canary end.
    old: Answers,
    new: Answers,
}

impl<'a> Scene<'a> {
    /// None: its requests are not counted, or there is nothing that it can be worse than.
    fn of(
        world: &'a World,
        course: &'a Course,
        canary: &'a Canary,
        evidence: Evidence,
    ) -> Option<Self> {
        let application = world.script.applications.get(usize::from(course.application))?;
        let is_counted = application.requests_per_s.is_some() && application.gate.is_some();
        let from = course.from.as_ref().filter(|_| is_counted && course.has_way_back())?;
        let (old, new) = (answers(application, from)?, answers(application, &course.to)?);
        Some(Self { course, canary, evidence, old, new })
    }

    /// Judges that what follows where evidence is missing, `follows`, is what was declared. What looks bad
    /// is compared for longer whatever was.
    fn is_as_declared(&self, why: &str, follows: Unsure) -> Result<(), Violation> {
        if !is_unsure(why) {
            return Ok(());
        }
        let declared = match self.canary.unsure {
            _ if why.contains(DOUBT) => Unsure::Wait,
            // It is held where nothing goes back by itself.
            Unsure::Fail if !self.course.spec.auto_rollback => Unsure::Wait,
            declared => declared,
        };
        if declared == follows {
            return Ok(());
        }
        broken(format!("{follows} follows on missing evidence, and {declared} was declared: {why}"))
    }

    /// Judges why a canary went no further.
    fn is_right(&self, why: &str, restarts: u64) -> Result<(), Violation> {
        if is_unsure(why) {
            return self.lacks(why, restarts);
        }
        // It says what is worse by itself, or after of what and than what.
        let found = why.split_once(" is worse than what it replaces: ").map_or(why, |(_, it)| it);
        if self.looks_worse(found, restarts) {
            return Ok(());
        }
        let (to, evidence) = (&self.course.to, self.evidence);
        broken(format!("{to} fails without being worse: {why}; counted {evidence:?}"))
    }

    /// Returns whether what a text begins with is worse on the canary, by its release or by what was
    /// counted: luck has it that one of two that fail equally often failed more often.
    fn looks_worse(&self, found: &str, restarts: u64) -> bool {
        let Evidence { control, canary, .. } = self.evidence;
        if found.starts_with("errors ") {
            let is_more = u128::from(canary.errors) * u128::from(control.requests)
                > u128::from(control.errors) * u128::from(canary.requests);
            let is_worse = self.new.errors_permille > self.old.errors_permille;
            canary.errors >= ERRORS_MIN && control.requests > 0 && (is_worse || is_more)
        } else if found.starts_with("latency ") || found.starts_with("latencies ") {
            let is_slower = self.new.latency_ms > self.old.latency_ms;
            canary.requests > 0 && control.requests > 0 && is_slower
        } else if found.starts_with("restarts ") {
            restarts >= ERRORS_MIN
        } else {
            // Nobody measures these here.
            let unmeasured = ["memory ", "sizes in memory ", "error lines "];
            !unmeasured.into_iter().any(|words| found.starts_with(words))
        }
    }

    /// Judges that a canary is said to lack evidence.
    fn lacks(&self, why: &str, restarts: u64) -> Result<(), Violation> {
        let Evidence { control, canary, rounds, .. } = self.evidence;
        let mut parts = why.split([':', ',']).map(str::trim_start);
        if let Some(doubt) = parts.find(|part| part.contains(DOUBT)) {
            if self.looks_worse(doubt, restarts) {
                return Ok(());
            }
            let evidence = self.evidence;
            return broken(format!("what is no worse is doubted: {why}; counted {evidence:?}"));
        }
        // Twice of each, as rounds are not the judge's and what came first may have shown it nothing.
        let requests = 2 * self.requests_min() + 100;
        let watched = 2 * self.watched_min() + 4 * HEARTBEAT_EVERY;
        let has_requests = control.requests >= requests && canary.requests >= requests;
        let is_watched = rounds >= watched.as_secs() / HEARTBEAT_EVERY.as_secs();
        if self.canary.checks.is_empty() && has_requests && is_watched {
            let evidence = self.evidence;
            let text =
                format!("evidence is missing where there is plenty: {why}; counted {evidence:?}");
            return broken(text);
        }
        Ok(())
    }

    /// Judges that a step is over, unless a person has said that it is.
    fn leaves(&self) -> Result<(), Violation> {
        let course = self.course;
        let is_first = matches!(course.phase, Phase::Forward { wave: 0, .. });
        let is_judged = matches!(course.step(), Some(PlanStep::Judge(_)));
        let is_there = course.hosts.values().any(|member| {
            member.wave == 0 && matches!(member.standing, Standing::Staged | Standing::Done)
        });
        let is_promoted = course.is_promoted || course.is_promoted_in_full;
        if !is_first || !is_judged || !is_there || is_promoted {
            return Ok(());
        }
        let Evidence { control, canary, .. } = self.evidence;
        if self.is_surely_worse() {
            return broken(format!(
                "the step of a canary is over that fails every request: counted {:?}",
                self.evidence
            ));
        }
        let wanted = self.requests_min();
        let is_known = control.requests >= wanted && canary.requests >= wanted;
        if self.canary.unsure != Unsure::Pass && !is_known {
            return broken(format!(
                "the step of a canary is over without {wanted} requests of each side: counted {:?}",
                self.evidence
            ));
        }
        Ok(())
    }

    fn is_surely_worse(&self) -> bool {
        let Evidence { control, canary, rounds, .. } = self.evidence;
        let limits = self.canary.judge.as_ref().map(|judge| &judge.limits);
        let is_off = limits
            .is_some_and(|limits| limits.get(&JudgedMetric::Errors) == Some(&JudgedLimit::Off));
        let answers = (self.old.errors_permille, self.new.errors_permille);
        answers == (0, 1_000)
            && !is_off
            && rounds >= ROUNDS_AMPLE
            && control.requests >= 2 * self.requests_min()
            && canary.requests >= 2 * self.requests_min()
    }

    fn requests_min(&self) -> u64 {
        let said = self.canary.judge.as_ref().and_then(|judge| judge.requests_min);
        said.map_or(REQUESTS_MIN, u64::from)
    }

    /// Two minutes, or half of the first step that lasts.
    fn watched_min(&self) -> Duration {
        let said = self.canary.judge.as_ref().and_then(|judge| judge.watched_min);
        let mut holds = self.canary.steps.steps().iter().map(|step| step.hold);
        let first = holds.find(|hold| !hold.is_zero());
        said.unwrap_or_else(|| first.map_or(WATCHED_MIN, |hold| WATCHED_MIN.min(hold / 2)))
    }
}

/// Returns whether a canary goes no further for want of evidence.
fn is_unsure(why: &str) -> bool {
    let words = ["there was not enough evidence", "there is not enough evidence"];
    words.into_iter().any(|words| why.contains(words))
}

/// Returns what a heartbeat tells, and of which releases.
fn looks(world: &World, host: u16, beat: &Heartbeat) -> Vec<Look> {
    let look = |counts: &SlotCounts| {
        let mut applications = world.script.applications.iter();
        let number = applications.position(|it| it.name == counts.application.as_str())?;
        let process = world.host(host).kernel.newest(&counts.application, counts.slot)?;
        let [_, _, _, _, errors] = counts.statuses;
        Some(Look {
            application: u16::try_from(number).ok()?,
            slot: counts.slot,
            version: process.version.clone(),
            gate: counts.gate.clone(),
            requests: counts.requests,
            errors,
        })
    };
    beat.counts.iter().filter_map(look).collect()
}

fn answers(application: &Application, version: &Version) -> Option<Answers> {
    let is_it = |release: &&Release| release.version == version.as_pushed();
    application.releases.iter().find(is_it).map(|release| release.answers)
}

fn broken(what: String) -> Result<(), Violation> {
    Err(Violation::new("A12", what))
}
