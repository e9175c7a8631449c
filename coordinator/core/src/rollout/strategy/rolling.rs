//! rolling: one wave a batch, zone after zone; or a window that slides over a zone.

use std::collections::BTreeMap;

use cutover_common::AgentName;

use super::{
    super::{Plan, PlanStep, Spec, Wave},
    Candidate,
};

pub(super) fn compile(spec: &Spec, hosts: &[Candidate]) -> Plan {
    let mut zones: BTreeMap<&str, Vec<AgentName>> = BTreeMap::new();
    for host in hosts {
        let zone = if spec.zone.is_some() { host.zone.as_str() } else { "" };
        zones.entry(zone).or_default().push(host.agent.clone());
    }
    // Those without the label come last: nobody has said where they are.
    let unnamed = zones.remove("");
    let zones = zones.into_iter().chain(unnamed.map(|hosts| ("", hosts)));
    let mut plan = Plan { waves: Vec::new(), zones: Vec::new() };
    for (zone, hosts) in zones {
        let place = u16::try_from(plan.zones.len()).ok().filter(|_| spec.zone.is_some());
        plan.waves.extend(zone_waves(spec, place, hosts));
        plan.zones.extend(place.map(|_| zone.to_owned()));
    }
    for (number, wave) in (1..).zip(&mut plan.waves) {
        if spec.pause_after.as_ref().is_some_and(|pauses| pauses.contains(number)) {
            wave.steps.push(PlanStep::Approve);
        }
    }
    plan
}

fn zone_waves(spec: &Spec, zone: Option<u16>, hosts: Vec<AgentName>) -> Vec<Wave> {
    let total = u32::try_from(hosts.len()).unwrap_or(u32::MAX);
    let mut sizes = spec.batches.sizes(total);
    let window = if spec.sliding { sizes.first().copied() } else { None };
    if window.is_some() {
        sizes = vec![total];
    }
    let mut rest = hosts.into_iter();
    let mut waves: Vec<Wave> = sizes
        .into_iter()
        .map(|size| {
            let agents = rest.by_ref().take(usize::try_from(size).unwrap_or(usize::MAX)).collect();
            let mut steps = vec![PlanStep::Prepare, PlanStep::Start];
            // In a window each host is watched for itself.
            if !spec.soak.is_zero() && window.is_none() {
                steps.push(PlanStep::Hold(spec.soak));
            }
            Wave { agents, steps, zone, window }
        })
        .collect();
    if let Some(last) = waves.last_mut()
        && !spec.zone_soak.is_zero()
    {
        // Whoever watches the zone watches its last batch as well.
        last.steps.retain(|step| !matches!(step, PlanStep::Hold(soak) if *soak <= spec.zone_soak));
        let is_watched = last.steps.iter().any(|step| matches!(step, PlanStep::Hold(_)));
        if !is_watched {
            last.steps.push(PlanStep::Hold(spec.zone_soak));
        }
    }
    waves
}
