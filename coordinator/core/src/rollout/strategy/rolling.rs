//! rolling: one wave a batch.

use cutover_common::AgentName;

use super::super::{Plan, PlanStep, Spec, Wave};

pub(super) fn compile(spec: &Spec, hosts: &[AgentName]) -> Plan {
    let total = u32::try_from(hosts.len()).unwrap_or(u32::MAX);
    let mut rest = hosts.iter().cloned();
    let waves = spec
        .batches
        .sizes(total)
        .into_iter()
        .map(|size| {
            let agents = rest.by_ref().take(usize::try_from(size).unwrap_or(usize::MAX)).collect();
            let mut steps = vec![PlanStep::Prepare, PlanStep::Start];
            if !spec.soak.is_zero() {
                steps.push(PlanStep::Hold(spec.soak));
            }
            Wave { agents, steps }
        })
        .collect();
    Plan { waves }
}
