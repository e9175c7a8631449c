//! What follows from the judge's word on a canary.

use cutover_common::Timestamp;
use cutover_judge::Verdict;

use super::{Decision, Scene, facts, way_back};
use crate::{
    event::Change,
    judging::can_be_compared,
    rollout::{Cause, Host, HostState, PlanStep, Rollout, Waiting, spec::Unsure},
};

/// Returns the way back, or a hold, if the judge finds the canary worse.
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
    let verdict = scene.judges.of(rollout)?.verdict();
    let Verdict::Fail(evidence) = verdict else {
        return None;
    };
    Some(gone_wrong(
        rollout,
        scene,
        format!("{} is worse than what it replaces: {evidence}", rollout.to),
    ))
}

fn gone_wrong(rollout: &Rollout, scene: Scene<'_>, why: String) -> Decision {
    if rollout.spec.auto_rollback && rollout.has_way_back() {
        return Decision::record(way_back(rollout, scene, Cause::Judged { why }));
    }
    let because = facts::not_back(rollout);
    Decision::record(Change::Held { why: format!("{why}; {because}") })
}

/// Compares the hosts of a wave with those that run the old release, until there is a verdict.
pub(super) fn judging(
    rollout: &Rollout,
    scene: Scene<'_>,
    wave: usize,
    until: Timestamp,
) -> Option<Decision> {
    let is_watched = |host: &Host| {
        host.wave == wave && matches!(host.state, HostState::Staged | HostState::Updated)
    };
    if rollout.hosts_where(is_watched).is_empty() {
        return None;
    }
    let judging = scene.judges.of(rollout);
    let said = || {
        let strongest = judging.and_then(crate::judging::Judging::strongest);
        strongest.map_or_else(String::new, |evidence| format!(": {evidence}"))
    };
    if scene.now < until {
        return Some(Decision::Wait(Waiting::ForVerdict { until, said: said() }));
    }
    if !can_be_compared(rollout) {
        return None;
    }
    let missing = match judging.map(crate::judging::Judging::verdict) {
        Some(Verdict::Pass) => return None,
        Some(Verdict::Fail(evidence)) => {
            return Some(gone_wrong(rollout, scene, evidence.to_string()));
        }
        Some(Verdict::NotEnough(missing)) => {
            missing.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        }
        None => "no host has told anything".to_owned(),
    };
    let unsure = rollout.spec.canary.as_ref().map_or(Unsure::Wait, |canary| canary.unsure);
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
