//! `blue_green`: one wave in which the new release starts beside the old one everywhere, then clients
//! of all hosts are led to it at one moment, and the old one runs on for a while. With groups of
//! hosts the wave is the group that clients are not led to, and the other one has the old release.

use super::{
    super::{Plan, PlanStep, Spec, Wave},
    Candidate,
};

pub(super) fn compile(spec: &Spec, hosts: &[Candidate]) -> Plan {
    let Some(how) = &spec.blue_green else { return Plan { waves: Vec::new(), zones: Vec::new() } };
    if hosts.is_empty() {
        return Plan { waves: Vec::new(), zones: Vec::new() };
    }
    // Hosts that clients are not led to run nothing else that would have to be run beside.
    let start = if how.groups.is_some() { PlanStep::Start } else { PlanStep::Stage };
    let mut steps = vec![PlanStep::Prepare, start];
    if !how.until_smoke {
        if how.approve {
            steps.push(PlanStep::Approve);
        }
        steps.push(PlanStep::Cutover);
        if !how.keep.is_zero() {
            steps.push(PlanStep::Hold(how.keep));
        }
        steps.push(PlanStep::Retire);
    }
    let agents = hosts.iter().map(|host| host.agent.clone()).collect();
    Plan { waves: vec![Wave { agents, steps, zone: None, window: None }], zones: Vec::new() }
}
