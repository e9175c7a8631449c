//! Narration: what the journal says, as log lines for operators.

use cutover_agent_core::{Event, HookEnd, Remembered};
use cutover_common::{AgentName, ApplicationName, EdgeRevision, InstanceId, Slot};

/// Logs one event that is on disk.
#[expect(clippy::too_many_lines, reason = "one arm for each event")]
pub fn event(agent: &AgentName, event: &Event, remembered: &Remembered) {
    let say = |application: &ApplicationName,
               slot: Option<Slot>,
               instance: Option<InstanceId>,
               text: &str| {
        let assignment =
            remembered.applications.get(application).map(|application| &application.assignment);
        tracing::info!(
            %agent,
            %application,
            generation = assignment.map(|assignment| assignment.fence.generation.0),
            rollout = assignment.map(|assignment| assignment.rollout.as_str()),
            slot = slot.map(tracing::field::display),
            instance = instance.map(|instance| tracing::field::display(instance.0)),
            "{text}"
        );
    };
    match event {
        Event::Summarised(_) => {}
        Event::CoordinatorBound(binding) => {
            tracing::info!(%agent, term = binding.term.0, incarnation = %binding.incarnation,
                "obeying this coordinator from here on");
        }
        Event::CoordinatorForgotten => tracing::info!(%agent, "the coordinator is forgotten"),
        Event::SplitBrainSeen { term } => {
            tracing::error!(%agent, term = term.0,
                "SPLIT_BRAIN: two coordinators claim this term; nothing is stopped for either");
        }
        Event::AssignmentAccepted(assignment) => {
            say(&assignment.application, None, None, "assignment accepted");
        }
        Event::EdgeRouted(routes) => {
            let EdgeRevision { term, number } = routes.revision;
            tracing::info!(%agent, term = term.0, number, applications = routes.routes.len(),
                "leads to other hosts by newer routes");
        }
        Event::EdgeArmed { application, .. } => {
            say(
                application,
                None,
                None,
                "what is held in front of other hosts is held until it is told",
            );
        }
        Event::TermRaised { application, .. } => {
            say(application, None, None, "the goal was repeated in a later term");
        }
        Event::Prepared { application, slot, release } => {
            let text = format!("release {} is prepared", release.name.version);
            say(application, Some(*slot), None, &text);
        }
        Event::Forgotten { application, slot } => {
            say(application, Some(*slot), None, "the slot is empty");
        }
        Event::StartStarted { application, slot, instance, port } => {
            let text =
                port.map_or("starting".to_owned(), |port| format!("starting on port {port}"));
            say(application, Some(*slot), Some(*instance), &text);
        }
        Event::Shifted { application, to, at: _, aside } => {
            let text = match to {
                Some(slot) if !aside.is_nothing() => format!(
                    "what is new goes to {slot}, and {} permille of it to {}",
                    aside.share.get(),
                    slot.other()
                ),
                Some(slot) => format!("what is new goes to {slot}"),
                None => "what is new goes to nobody on this host".to_owned(),
            };
            say(application, *to, None, &text);
        }
        Event::HoldBegun { application, limits, .. } => {
            let within = cutover_common::duration_text::print(limits.within);
            say(application, None, None, &format!("what is new is held for at most {within}"));
        }
        Event::HoldArmed { application, .. } => {
            say(application, None, None, "what is held stays so until another goal comes");
        }
        Event::HoldOver { application } => {
            let text = "what was held is released, as no other goal came in time";
            say(application, None, None, text);
        }
        Event::Started { application, slot, evidence } => {
            let text = format!("started as pid {}", evidence.pid);
            say(application, Some(*slot), Some(evidence.instance), &text);
        }
        Event::StartFailed { application, slot, instance, detail } => {
            say(application, Some(*slot), Some(*instance), &format!("not started: {detail}"));
        }
        Event::Exited { application, slot, instance, detail } => {
            say(application, Some(*slot), Some(*instance), &format!("ended by itself: {detail}"));
        }
        Event::StopStarted { application, slot, instance } => {
            say(application, Some(*slot), Some(*instance), "stopping");
        }
        Event::HookBegun { application, slot, kind, .. } => {
            say(application, Some(*slot), None, &format!("running its {kind} hook"));
        }
        Event::HookOver { application, slot, end, .. } => {
            let text = match end {
                HookEnd::Passed => "the hook passed".to_owned(),
                HookEnd::Failed { detail } => format!("the hook failed: {detail}"),
                HookEnd::Interrupted => "the hook was interrupted".to_owned(),
            };
            say(application, Some(*slot), None, &text);
        }
        Event::AfterStopStarted { application, slot, instance } => {
            say(application, Some(*slot), Some(*instance), "running its after_stop hook");
        }
        Event::HookEnded { application, slot, instance, warning } => {
            let text = if warning.is_empty() { "the hook passed" } else { warning };
            say(application, Some(*slot), Some(*instance), text);
        }
        Event::OutageMeasured { application, lasted } => {
            say(application, None, None, &format!("served nobody for {lasted:?} while replaced"));
        }
        Event::StopDone { application, slot, instance } => {
            say(application, Some(*slot), Some(*instance), "gone");
        }
    }
}
