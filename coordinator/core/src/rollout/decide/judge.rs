//! What follows from the judge's word on a canary, and from the answers of its checks.

use std::time::Duration;

use cutover_common::{Timestamp, planted};
use cutover_judge::Verdict;

use super::{Decision, Scene, facts, way_back};
use crate::{
    event::Change,
    judging::can_be_compared,
    rollout::{Cause, Host, HostState, PlanStep, Rollout, Waiting, spec::Unsure},
};

/// Returns the way back, or a hold, if the judge finds the canary worse or a check fails it.
pub(super) fn found_worse(rollout: &Rollout, scene: Scene<'_>) -> Option<Decision> {
    match rollout.step() {
        // A person has said that it is good enough.
        Some((wave, PlanStep::Judge(_) | PlanStep::Approve)) if rollout.is_step_promoted(wave) => {
            return None;
        }
        Some((_, PlanStep::Judge(_) | PlanStep::Approve)) => {}
        Some((
            _,
            PlanStep::Prepare
            | PlanStep::Start
            | PlanStep::Hold(_)
            | PlanStep::Stage
            | PlanStep::Shift(_)
            | PlanStep::Cutover
            | PlanStep::Retire,
        ))
        | None => return None,
    }
    // What the judge finds stands, whatever checks say.
    let verdict = scene.judges.of(rollout).map(crate::judging::Judging::verdict);
    if let Some(Verdict::Fail(evidence)) = verdict {
        let why = format!("{} is worse than what it replaces: {evidence}", rollout.to);
        let found = Some(gone_wrong(rollout, scene, why));
        return planted!(VerdictIgnored: None; found);
    }
    let failed = scene.checks.failed(rollout)?;
    planted!(FailedCheckIgnored: None; Some(gone_wrong(rollout, scene, failed)))
}

fn gone_wrong(rollout: &Rollout, scene: Scene<'_>, why: String) -> Decision {
    if rollout.spec.auto_rollback && rollout.has_way_back() {
        return Decision::record(way_back(rollout, scene, Cause::Judged { why }));
    }
    let because = facts::not_back(rollout);
    Decision::record(Change::Held { why: format!("{why}; {because}") })
}

/// Compares the hosts of a wave with those that run the old release, and asks its checks, for as
/// long as the step that began at `since` `lasts` and until there is a verdict.
pub(super) fn judging(
    rollout: &Rollout,
    scene: Scene<'_>,
    wave: usize,
    (since, lasts): (Timestamp, Duration),
) -> Option<Decision> {
    let is_watched = |host: &Host| {
        host.wave == wave && matches!(host.state, HostState::Staged | HostState::Updated)
    };
    if rollout.hosts_where(is_watched).is_empty() {
        return None;
    }
    let until = since + lasts;
    if scene.now < until {
        return Some(Decision::Wait(Waiting::ForVerdict { until, said: said(rollout, scene) }));
    }
    let mut missing = match not_enough(rollout, scene) {
        Ok(missing) => missing,
        Err(worse) => return Some(gone_wrong(rollout, scene, worse)),
    };
    missing.extend(scene.checks.missing(rollout, since));
    if missing.is_empty() {
        return None;
    }
    let mut missing = missing.join(", ");
    let unsure = rollout.spec.canary.as_ref().map_or(Unsure::Wait, |canary| canary.unsure);
    // What looks bad is not passed by who passes what is not known. Nor does it fail by that: how often a
    // good release looks bad for a while nobody has declared.
    let looks_bad = scene.judges.of(rollout).is_some_and(crate::judging::Judging::looks_bad);
    if looks_bad {
        missing += &said(rollout, scene);
    }
    let unsure = if looks_bad { Unsure::Wait } else { unsure };
    match unsure {
        Unsure::Pass => None,
        Unsure::Fail => {
            let why = format!("there was not enough evidence that it is as good: {missing}");
            Some(gone_wrong(rollout, scene, why))
        }
        Unsure::Wait => {
            let deadline = until + rollout.spec.progress_within;
            if scene.now >= deadline {
                let why = format!(
                    "there is not enough evidence yet that {} is as good as what it replaces: \
                     {missing}; retry compares it anew, and promote then says that it is good enough",
                    rollout.to
                );
                return Some(Decision::record(Change::Held { why }));
            }
            let said = format!(", as there is not enough evidence yet: {missing}");
            Some(Decision::Wait(Waiting::ForVerdict { until: deadline, said }))
        }
    }
}

/// Says what speaks the most against the canary so far, and how its checks stand.
fn said(rollout: &Rollout, scene: Scene<'_>) -> String {
    let strongest = scene.judges.of(rollout).and_then(crate::judging::Judging::strongest);
    let mut parts: Vec<String> = strongest.iter().map(ToString::to_string).collect();
    parts.extend(scene.checks.standings(rollout));
    if parts.is_empty() { String::new() } else { format!(": {}", parts.join("; ")) }
}

/// Says what the judge lacks for a verdict, if it lacks anything.
///
/// # Errors
///
/// Returns what it finds worse, in case nobody has looked.
fn not_enough(rollout: &Rollout, scene: Scene<'_>) -> Result<Vec<String>, String> {
    if !can_be_compared(rollout) {
        return Ok(Vec::new());
    }
    match scene.judges.of(rollout).map(crate::judging::Judging::verdict) {
        Some(Verdict::Pass) => Ok(Vec::new()),
        Some(Verdict::Fail(evidence)) => {
            planted!(VerdictIgnored: Ok(Vec::new()); Err(evidence.to_string()))
        }
        Some(Verdict::NotEnough(missing)) => {
            let missing = missing.iter().map(ToString::to_string).collect();
            planted!(NothingIsEnough: Ok(Vec::new()); Ok(missing))
        }
        None => Ok(vec!["no host has told anything".to_owned()]),
    }
}
