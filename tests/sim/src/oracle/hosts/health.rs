//! E4: settled health is said of a process that answered well for as long as it was to.

use std::{collections::BTreeMap, time::Duration};

use cutover_agent_core::{Agent, Life};
use cutover_common::{Health, InstanceId, ProbeSpec, Report, Timers};

use super::super::Violation;
use crate::{moment::Moment, world::Host};

/// The agents' clocks count whole milliseconds, and so does what they compare.
const ROUNDING: Duration = Duration::from_millis(1);

/// What one process answered to this process of the agent.
#[derive(Clone, Copy, Debug, Default)]
struct Answers {
    /// The first of the passes that no failure has followed.
    since: Option<Moment>,
    passes: u32,
    failures: u32,
    /// Enough of them came in a row, and it has not failed often enough since.
    is_passing: bool,
    /// The longest run of passes before this one, since it last failed often enough.
    longest: Duration,
}

/// The answers of one host's instances since its agent began.
#[derive(Debug, Default)]
pub(super) struct Answered(BTreeMap<InstanceId, Answers>);

impl Answered {
    /// Health is not inherited by another process of the agent either.
    pub(super) fn started(&mut self) {
        self.0.clear();
    }

    /// A probe was answered.
    pub(super) fn answered(
        &mut self,
        core: &Agent,
        instance: InstanceId,
        passed: bool,
        now: Moment,
    ) {
        let Some((probe, _)) = judged_by(core, instance) else { return };
        let answers = self.0.entry(instance).or_default();
        if passed {
            answers.since = answers.since.or(Some(now));
            answers.passes += 1;
            answers.failures = 0;
            answers.is_passing |= answers.passes >= probe.passes;
            return;
        }
        if answers.is_passing {
            answers.longest = answers.longest.max(answers.run(now));
        }
        answers.failures += 1;
        (answers.since, answers.passes) = (None, 0);
        if answers.failures >= probe.failures {
            (answers.is_passing, answers.longest) = (false, Duration::ZERO);
        }
    }

    /// Returns whether an instance has answered well for as long as it was to.
    pub(super) fn has_settled(&self, core: &Agent, instance: InstanceId, now: Moment) -> bool {
        // Without a probe its life is its health.
        let Some((_, timers)) = judged_by(core, instance) else { return true };
        self.0.get(&instance).copied().unwrap_or_default().has_passed(timers, now)
    }

    /// E4: judges a report.
    pub(super) fn tells(
        &self,
        host: &Host,
        core: &Agent,
        report: &Report,
        now: Moment,
    ) -> Result<(), Violation> {
        for (_, slot) in report.slots.iter() {
            let Some(evidence) = slot.instance.as_ref().filter(|_| slot.health == Health::Settled)
            else {
                continue;
            };
            let Some((_, timers)) = judged_by(core, evidence.instance) else { continue };
            let answers = self.0.get(&evidence.instance).copied().unwrap_or_default();
            if answers.has_passed(timers, now) {
                continue;
            }
            let what = format!(
                "{} says that {} is settled, which passed {} times since {:?}",
                host.name, report.application, answers.passes, answers.since
            );
            return Err(Violation::new("E4", what));
        }
        Ok(())
    }
}

impl Answers {
    fn has_passed(&self, timers: Timers, now: Moment) -> bool {
        self.is_passing && self.longest.max(self.run(now)) + ROUNDING >= timers.healthy_for
    }

    fn run(&self, now: Moment) -> Duration {
        self.since.map_or(Duration::ZERO, |since| now.since(since))
    }
}

fn judged_by(core: &Agent, instance: InstanceId) -> Option<(&ProbeSpec, Timers)> {
    core.remembered().applications.values().find_map(|application| {
        let held = application.slots.iter().find_map(|(_, slot)| {
            slot.instance
                .as_ref()
                .filter(|it| it.id == instance && matches!(it.life, Life::Running { .. }))
        })?;
        Some((held.release.probe.as_ref()?, application.assignment.timers))
    })
}
