//! Checks of canaries: A11. One whose check fails comes to nobody else, and what says nothing
//! neither fails a canary nor lets it pass.
//!
//! What each check answers is in the script; how often one has failed is counted where the metrics
//! server answers.

use std::collections::BTreeMap;

use cutover_common::{Check, manifest::Unsure};
use cutover_coordinator_core::{
    Action, Event, EventKind, Input, Step,
    event::Change,
    input::{MetricAnswer, QueryId},
    rollout::{Cause, PlanStep},
};
use uuid::Uuid;

use super::{
    course::{Course, Phase, Standing},
    ledger::Ledger,
};
use crate::{
    oracle::Violation,
    script::CheckBehaviour,
    world::{NOT_WELL, World},
};

/// A question: of which application and release.
type Of = (String, String);

/// What metrics servers have answered to the processes that are there.
#[derive(Debug, Default)]
pub(super) struct Answers {
    asked: BTreeMap<(u16, QueryId), Of>,
    failing: BTreeMap<(u16, Of), u32>,
}

impl Answers {
    /// Forgets what an earlier process was answered.
    pub(super) fn begin(&mut self, number: u16) {
        self.asked.retain(|(site, _), _| *site != number);
        self.failing.retain(|(site, _), _| *site != number);
    }

    /// Notes what a coordinator is about to take.
    pub(super) fn takes(&mut self, number: u16, input: &Input) {
        let Input::Queried { query, found } = input else { return };
        let Some(of) = self.asked.remove(&(number, *query)) else { return };
        let failing = self.failing.entry((number, of)).or_default();
        match found {
            MetricAnswer::Number(value) if *value >= NOT_WELL => *failing += 1,
            MetricAnswer::Number(value) if value.is_finite() => *failing = 0,
            MetricAnswer::Number(_) | MetricAnswer::Nothing | MetricAnswer::Failed(_) => {}
        }
    }

    /// Notes what a coordinator asks.
    pub(super) fn stepped(&mut self, number: u16, step: &Step) {
        for action in &step.actions {
            let Action::Query { query, text, .. } = action else { continue };
            let mut words = text.split(' ').map(str::to_owned);
            if let (Some(application), Some(release)) = (words.next(), words.next()) {
                let of = (application, release);
                // The one before was given up, if there is one.
                self.asked.retain(|(site, _), asked| *site != number || *asked != of);
                self.asked.insert((number, *query), of);
            }
        }
    }

    /// Judges one decision, before it is in the books. What is asked anew is counted anew.
    pub(super) fn judge(
        &mut self,
        world: &World,
        number: u16,
        ledger: &Ledger,
        event: &Event,
    ) -> Result<(), Violation> {
        match &event.kind {
            EventKind::RolloutStarted(started) => {
                let of = (started.application.to_string(), started.to.as_pushed().to_owned());
                self.forget(number, &of);
                Ok(())
            }
            EventKind::Rollout { id, change, .. } => {
                self.changes(world, number, ledger, *id, change)
            }
            _ => Ok(()),
        }
    }

    fn forget(&mut self, number: u16, of: &Of) {
        self.failing.remove(&(number, of.clone()));
        self.asked.retain(|(site, _), asked| *site != number || asked != of);
    }

    fn changes(
        &mut self,
        world: &World,
        number: u16,
        ledger: &Ledger,
        id: Uuid,
        change: &Change,
    ) -> Result<(), Violation> {
        let Some(course) = ledger.courses.get(&id) else { return Ok(()) };
        match change {
            Change::StepStarted { .. } | Change::BakeStarted => self.leaves(world, number, course),
            Change::RollbackStarted { cause: Cause::Judged { why }, .. } | Change::Held { why } => {
                is_to_blame(world, course, why)
            }
            Change::Retried { .. } => {
                self.forget(number, &of(world, course));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Judges that a step of a canary is over.
    fn leaves(&self, world: &World, number: u16, course: &Course) -> Result<(), Violation> {
        let is_first = matches!(course.phase, Phase::Forward { wave: 0, .. });
        let is_judged = matches!(course.step(), Some(PlanStep::Judge(_)));
        if !is_first || !is_judged || course.is_promoted || course.is_promoted_in_full {
            return Ok(());
        }
        let Some(canary) = &course.spec.canary else { return Ok(()) };
        let is_there = course.hosts.values().any(|member| {
            member.wave == 0 && matches!(member.standing, Standing::Staged | Standing::Done)
        });
        for check in &canary.checks {
            let behaviour = behaviour(world, course, check);
            if is_there && canary.unsure != Unsure::Pass && behaviour.never_passes() {
                let what =
                    format!("a canary's step is over, and its check {} never passed", check.name);
                return Err(Violation::new("A11", what));
            }
            let failed =
                self.failing.get(&(number, of(world, course))).copied().unwrap_or_default();
            if is_there && check.metric().is_some() && failed >= check.failures {
                let what = format!(
                    "a canary's step is over, and its check {} has failed {failed} times in a row",
                    check.name
                );
                return Err(Violation::new("A11", what));
            }
        }
        Ok(())
    }
}

fn of(world: &World, course: &Course) -> Of {
    let application = world.script.applications.get(usize::from(course.application));
    let name = application.map_or_else(String::new, |application| application.name.clone());
    (name, course.to.as_pushed().to_owned())
}

/// Returns what a check of what a rollout brings answers.
fn behaviour(world: &World, course: &Course, check: &Check) -> CheckBehaviour {
    let application = world.script.applications.get(usize::from(course.application));
    let release = application
        .and_then(|it| it.releases.iter().find(|it| it.version == course.to.as_pushed()));
    release.map_or(CheckBehaviour::Errs, |it| it.checks.of(check.name.as_str()))
}

/// Judges that the check that is named as the reason has failed indeed.
fn is_to_blame(world: &World, course: &Course, why: &str) -> Result<(), Violation> {
    let Some((name, _)) = why.strip_prefix("check ").and_then(|it| it.split_once(" fails")) else {
        return Ok(());
    };
    let checks = course.spec.canary.iter().flat_map(|canary| &canary.checks);
    let blamed = checks.into_iter().find(|check| check.name.as_str() == name);
    let has_failed = blamed.is_some_and(|check| match behaviour(world, course, check) {
        CheckBehaviour::Fails => true,
        CheckBehaviour::Blips => check.failures == 1,
        CheckBehaviour::Passes | CheckBehaviour::Errs | CheckBehaviour::Hangs => false,
    });
    if has_failed {
        return Ok(());
    }
    Err(Violation::new("A11", format!("a canary is failed by a check that has not failed: {why}")))
}
