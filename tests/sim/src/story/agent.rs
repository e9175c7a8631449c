//! What an agent remembers, in words.

use cutover_agent_core::{Event, HookEnd};
use cutover_common::{EdgeHost, EdgeRevision, EdgeRoute, EdgeRoutes, Slot, SlotGoal};

use super::short;

/// Tells an event of an agent.
#[expect(clippy::too_many_lines, reason = "one arm for each event")]
pub(crate) fn event(event: &Event) -> String {
    match event {
        Event::Summarised(_) => "sums up its journal".to_owned(),
        Event::CoordinatorBound(binding) => format!(
            "obeys the coordinator of term {} (process {}, store {})",
            binding.term.0,
            &binding.boot_nonce.simple().to_string()[..4],
            &binding.incarnation.simple().to_string()[..4]
        ),
        Event::SplitBrainSeen { term } => {
            format!("sees two coordinators in term {}, and obeys neither", term.0)
        }
        Event::CoordinatorForgotten => "forgets its coordinator".to_owned(),
        Event::AssignmentAccepted(assignment) => format!(
            "accepts goal {} of {}: {}",
            assignment.fence,
            assignment.application,
            [Slot::Blue, Slot::Green]
                .map(|slot| format!("{slot} {}", goal(assignment.slots.of(slot))))
                .join(", ")
        ),
        Event::EdgeRouted(routes) => edge(routes),
        Event::EdgeArmed { application, number } => format!(
            "holds what is new for {application} as an edge until other routes come (hold {number})"
        ),
        Event::TermRaised { application, term } => {
            format!("keeps its goal of {application} in term {}", term.0)
        }
        Event::Prepared { release, slot, .. } => format!("has {} ready in {slot}", release.name),
        Event::Forgotten { application, slot } => format!("forgets {application} in {slot}"),
        Event::Shifted { application, to, aside, .. } => match to {
            Some(slot) if !aside.is_nothing() => format!(
                "sends what is new for {application} to {slot}, and {} permille to the other",
                aside.share.get()
            ),
            Some(slot) => format!("sends what is new for {application} to {slot}"),
            None => format!("sends what is new for {application} to nobody"),
        },
        Event::HoldBegun { application, limits, .. } => {
            format!("holds what is new for {application} for at most {:?}", limits.within)
        }
        Event::HoldArmed { application, .. } => {
            format!("holds what is new for {application} until another goal comes")
        }
        Event::HoldOver { application } => {
            format!("releases what it held for {application}, as no other goal came")
        }
        Event::StartStarted { application, slot, instance, .. } => {
            format!("begins to start {application} in {slot} as instance {}", short(*instance))
        }
        Event::Started { application, evidence, .. } => format!(
            "knows that {application} runs: instance {}, pid {} of {}",
            short(evidence.instance),
            evidence.pid,
            evidence.boot_id
        ),
        Event::StartFailed { application, instance, detail, .. } => {
            format!("could not start {application}, instance {}: {detail}", short(*instance))
        }
        Event::Exited { application, instance, detail, .. } => {
            format!("knows that {application} has ended, instance {}: {detail}", short(*instance))
        }
        Event::StopStarted { application, slot, instance } => {
            format!("begins to stop {application} in {slot}, instance {}", short(*instance))
        }
        Event::HookBegun { application, slot, kind, .. } => {
            format!("begins to run {kind} of {application} in {slot}")
        }
        Event::HookOver { application, slot, end, .. } => {
            let how = match end {
                HookEnd::Passed => "passed",
                HookEnd::Failed { detail } => detail,
                HookEnd::Interrupted => "was interrupted",
            };
            format!("knows that a hook of {application} in {slot} ended: {how}")
        }
        Event::AfterStopStarted { application, instance, .. } => format!(
            "knows that {application} is stopped, and begins to run its last hook, instance {}",
            short(*instance)
        ),
        Event::HookEnded { application, instance, warning, .. } => {
            let how = if warning.is_empty() { "passed" } else { warning };
            format!(
                "knows that the hook of {application} ended, instance {}: {how}",
                short(*instance)
            )
        }
        Event::OutageMeasured { application, lasted } => {
            format!("served nobody of {application} for {lasted:?}")
        }
        Event::StopDone { application, instance, .. } => {
            format!("knows that {application} is stopped, instance {}", short(*instance))
        }
    }
}

fn goal(goal: &SlotGoal) -> String {
    match goal {
        SlotGoal::Absent => "absent".to_owned(),
        SlotGoal::Prepared(release) => format!("{} prepared", release.name.version),
        SlotGoal::Running(release) => format!("{} running", release.name.version),
    }
}

fn edge(routes: &EdgeRoutes) -> String {
    let gets_new = |host: &&EdgeHost| host.lead.is_some_and(|lead| lead.weight > 0);
    let route = |route: &EdgeRoute| {
        let hosts = route.hosts.iter().filter(gets_new).count();
        let hold = route.cutover.and_then(|cutover| cutover.hold);
        let hold = hold.map_or("", |hold| if hold.is_armed { " (armed)" } else { " (held)" });
        format!("{} to {hosts} of {}{hold}", route.application, route.hosts.len())
    };
    let all: Vec<String> = routes.routes.iter().map(route).collect();
    let EdgeRevision { term, number } = routes.revision;
    format!("leads as an edge by {}/{number}: {}", term.0, all.join("; "))
}
