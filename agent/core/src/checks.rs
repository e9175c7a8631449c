//! Checks of canaries: which command is run when, and what its answers add up to.
//!
//! What they are is in the release that the goal names; that a release is being compared is said by
//! the coordinator's echoes, each of which says all of it. They change nothing that is decided
//! here, so that nothing of them is remembered: an agent that begins runs them anew.

use std::collections::BTreeMap;

use cutover_common::{
    ApplicationName, CheckName, CheckReport, CommandCheck, Compared, Slot, Timestamp,
    check::{ANSWER_CHARS_MAX, Answer, CanaryId},
    planted,
};

use crate::{Action, Agent, Life, lease::Permission, turn::Turn};

/// The canaries that are compared here.
#[derive(Debug, Default)]
pub(crate) struct Checking(BTreeMap<ApplicationName, Comparison>);

#[derive(Debug)]
struct Comparison {
    compared: Compared,
    checks: BTreeMap<CheckName, Standing>,
}

/// How one check stands.
#[derive(Debug)]
struct Standing {
    next: NextRun,
    answers: u32,
    /// How many of the last in a row have failed; those that say nothing are left out.
    failing: u32,
    newest: Option<(Answer, String)>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum NextRun {
    At(Timestamp),
    /// Asked, not answered; and when it was asked.
    InFlight(Timestamp),
}

impl Checking {
    /// Takes what the coordinator compares from here on.
    pub(crate) fn compare(&mut self, compared: Vec<Compared>, now: Timestamp) {
        let is_named = |name: &ApplicationName, known: &Comparison| {
            compared.iter().any(|it| it.application == *name && it.canary == known.compared.canary)
        };
        self.0.retain(|name, known| is_named(name, known));
        for compared in compared {
            let known = self.0.entry(compared.application.clone());
            let known = known.or_insert_with(|| Comparison {
                compared: compared.clone(),
                checks: BTreeMap::new(),
            });
            known.checks.retain(|name, _| compared.checks.contains(name));
            for name in &compared.checks {
                known.checks.entry(name.clone()).or_insert_with(|| Standing::new(now));
            }
            known.compared = compared;
        }
    }

    /// Takes how a check ended. One of another comparison counts for nothing.
    pub(crate) fn answered(
        &mut self,
        application: &ApplicationName,
        canary: CanaryId,
        check: &CommandCheck,
        (answer, detail): (Answer, String),
        now: Timestamp,
    ) {
        let known = self.0.get_mut(application).filter(|known| known.compared.canary == canary);
        if let Some(standing) = known.and_then(|known| known.checks.get_mut(&check.name)) {
            standing.answered(answer, detail, check, now);
        }
    }

    fn reports(&self) -> Vec<CheckReport> {
        let reports = self.0.iter().flat_map(|(application, known)| {
            known.checks.iter().filter_map(move |(check, standing)| {
                let (answer, detail) = standing.newest.clone()?;
                Some(CheckReport {
                    application: application.clone(),
                    canary: known.compared.canary,
                    check: check.clone(),
                    answers: standing.answers,
                    failing: standing.failing,
                    answer,
                    detail,
                })
            })
        });
        reports.collect()
    }
}

impl Standing {
    const fn new(now: Timestamp) -> Self {
        Self { next: NextRun::At(now), answers: 0, failing: 0, newest: None }
    }

    fn answered(&mut self, answer: Answer, detail: String, check: &CommandCheck, now: Timestamp) {
        let NextRun::InFlight(asked) = self.next else { return };
        // One that took long does not shift the rhythm, and makes no burst either.
        self.next = NextRun::At((asked + check.every).max(now));
        self.answers = self.answers.saturating_add(1);
        self.failing = match answer {
            Answer::Pass => 0,
            Answer::Fail => self.failing.saturating_add(1),
            Answer::NotEnough => {
                planted!(CheckTimeoutFails: self.failing.saturating_add(1); self.failing)
            }
        };
        self.newest = Some((answer, detail.chars().take(ANSWER_CHARS_MAX).collect()));
    }

    const fn due(&self) -> Option<Timestamp> {
        match self.next {
            NextRun::At(at) => Some(at),
            NextRun::InFlight(_) => None,
        }
    }
}

impl Agent {
    /// Returns the slot in which an instance of what is compared runs.
    fn compared_slot(&self, compared: &Compared) -> Option<Slot> {
        let application = self.remembered.applications.get(&compared.application)?;
        Slot::ALL.into_iter().find(|slot| {
            let instance = application.slots.of(*slot).instance.as_ref();
            instance.is_some_and(|instance| {
                instance.release.name.version == compared.version
                    && matches!(instance.life, Life::Running { .. })
            })
        })
    }

    /// Runs the checks that are due, of instances that run; of a coordinator that is not heard nobody
    /// would hear how they end.
    pub(crate) fn run_checks(&mut self, turn: &mut Turn) {
        if self.checking.0.is_empty() || self.permission() != Permission::Fresh {
            return;
        }
        let due: Vec<(ApplicationName, Slot)> = self
            .checking
            .0
            .iter()
            .filter_map(|(name, known)| Some((name.clone(), self.compared_slot(&known.compared)?)))
            .collect();
        for (name, slot) in due {
            let Some(application) = self.remembered.applications.get(&name) else { continue };
            let Some(instance) = &application.slots.of(slot).instance else { continue };
            let Some(known) = self.checking.0.get_mut(&name) else { continue };
            for (check, standing) in &mut known.checks {
                let is_due = standing.due().is_some_and(|at| turn.now >= at);
                let Some(check) = instance.release.check(check).filter(|_| is_due) else {
                    continue;
                };
                standing.next = NextRun::InFlight(turn.now);
                turn.act(Action::RunCheck {
                    place: application.place(slot),
                    canary: known.compared.canary,
                    instance: instance.id,
                    release: instance.release.clone(),
                    port: instance.port,
                    check: check.clone(),
                });
            }
        }
    }

    /// Returns when the next check is to be run.
    pub(crate) fn checks_wake(&self) -> Option<Timestamp> {
        if self.checking.0.is_empty() || self.permission() != Permission::Fresh {
            return None;
        }
        let known = self.checking.0.values();
        let due = known.filter_map(|known| {
            let slot = self.compared_slot(&known.compared)?;
            let application = self.remembered.applications.get(&known.compared.application)?;
            let instance = application.slots.of(slot).instance.as_ref()?;
            let checks = known.checks.iter();
            let checks = checks.filter(|(name, _)| instance.release.check(name).is_some());
            checks.filter_map(|(_, standing)| standing.due()).min()
        });
        due.min()
    }

    /// Returns how the checks stand.
    pub(crate) fn check_reports(&self) -> Vec<CheckReport> {
        self.checking.reports()
    }
}
