//! canary: a small wave whose new release gets traffic step by step and is compared with the old
//! one, then the rest as rolling.

use std::time::Duration;

use cutover_common::manifest::Promotion;

use super::{
    super::{Plan, PlanStep, Spec, Wave, spec::Canary},
    Candidate, Standing, rolling,
};

pub(super) fn compile(spec: &Spec, hosts: &[Candidate], standing: Standing) -> Plan {
    let Some(canary) = &spec.canary else { return rolling::compile(spec, hosts) };
    let (first, rest): (Vec<Candidate>, Vec<Candidate>) =
        hosts.iter().cloned().partition(|host| host.is_canary);
    let mut plan = rolling::compile(spec, &rest);
    if first.is_empty() {
        return plan;
    }
    let agents = first.into_iter().map(|host| host.agent).collect();
    let steps = steps(spec, canary, standing);
    plan.waves.insert(0, Wave { agents, steps, zone: None, window: None });
    plan
}

fn steps(spec: &Spec, canary: &Canary, standing: Standing) -> Vec<PlanStep> {
    let mut steps = vec![PlanStep::Prepare];
    let judge = |lasts: Duration| (!lasts.is_zero()).then_some(PlanStep::Judge(lasts));
    match standing {
        Standing::Beside => {
            steps.push(PlanStep::Stage);
            for step in canary.steps.steps() {
                steps.push(PlanStep::Shift(step.weight));
                steps.extend(judge(step.hold));
            }
        }
        // A host that holds one instance at a time is a canary as a whole.
        Standing::Alone => {
            steps.push(PlanStep::Start);
            steps.extend(judge(canary.steps.lasts()));
        }
    }
    if canary.promote == Promotion::Manual {
        steps.push(PlanStep::Approve);
    }
    if standing == Standing::Beside {
        steps.push(PlanStep::Start);
    }
    if !spec.soak.is_zero() {
        steps.push(PlanStep::Hold(spec.soak));
    }
    steps
}
