//! The reference model: what acknowledged calls must lead to, and what nobody asked for.
//!
//! It knows rollouts as people do: which there are, whether one is going, paused, held or over.
//! What a rollout does by itself it is told; what operators are answered it foretells.

mod answers;
mod known;

use cutover_coordinator_core::{Action, Answer, Event, Refusal, Step};

use self::{answers::Asked, known::Known};
use super::{Seen, Violation};
use crate::{
    script::{Fault, Script},
    world::World,
};

/// See above.
#[derive(Debug, Default)]
pub(super) struct Model {
    /// By what is durable.
    stored: Known,
    /// By what the process has decided.
    decided: Known,
    /// As of the last backup.
    backup: Known,
}

impl Model {
    pub(super) fn new(_script: &Script) -> Self {
        Self::default()
    }

    pub(super) fn see(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), Violation> {
        match seen {
            // Operators know one coordinator only, the one whose number is zero.
            Seen::SiteStepped { number: 0, step, .. } => self.stepped(world, step),
            Seen::SiteStepped { step, .. } => step
                .events
                .iter()
                .find(|event| answers::is_asked_for(event, |_| true, |_| true))
                .map_or(Ok(()), |event| Err(nobody_asked(event))),
            Seen::SiteStored { number: 0, events } => {
                events.iter().for_each(|event| self.stored.note(event));
                Ok(())
            }
            Seen::SiteStarted { number: 0 } => {
                self.decided = self.stored.clone();
                Ok(())
            }
            Seen::Fault { fault: Fault::Backup } => {
                self.backup = self.stored.clone();
                Ok(())
            }
            Seen::Restored => {
                self.stored = self.backup.clone();
                self.stored.restored();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn stepped(&mut self, world: &World, step: &Step) -> Result<(), Violation> {
        let has_answer = |action: &Action| {
            matches!(action, Action::Answer { .. } | Action::SignCertificate { .. })
        };
        if step.events.is_empty() && !step.actions.iter().any(has_answer) {
            return Ok(());
        }
        let answered = step.actions.iter().find_map(|action| self.answered(world, action));
        if let Some((asked, answer)) = &answered {
            asked.judge(&self.decided, answer, &step.events)?;
        }
        for event in &step.events {
            let known = &self.decided;
            if answers::is_asked_for(event, |id| known.converges(id), |id| known.waits(id))
                && !answered.as_ref().is_some_and(|(asked, _)| asked.leads_to(&self.decided, event))
            {
                return Err(nobody_asked(event));
            }
            self.decided.note(event);
        }
        Ok(())
    }

    /// Returns what was asked for and how it is answered, if this is an answer.
    fn answered<'a>(
        &self,
        world: &'a World,
        action: &'a Action,
    ) -> Option<(Asked<'a>, Result<Option<&'a Answer>, &'a Refusal>)> {
        let (reply, answer) = match action {
            Action::Answer { reply, answer: Ok(answer) } => (reply, Ok(Some(answer))),
            Action::Answer { reply, answer: Err(refusal) } => (reply, Err(refusal)),
            Action::SignCertificate { reply, .. } => (reply, Ok(None)),
            Action::Welcome { .. }
            | Action::Echo { .. }
            | Action::Query { .. }
            | Action::Assign { .. }
            | Action::RouteEdge { .. }
            | Action::EndSession { .. }
            | Action::Enrolments(_)
            | Action::Changed => return None,
        };
        let call = world.site(0).process.as_ref()?.replies.get(reply)?;
        let request = &world.operators.calls.get(call)?.request;
        Some((Asked { world, request }, answer))
    }
}

fn nobody_asked(event: &Event) -> Violation {
    Violation::new("E1", format!("nobody asked for it: {:?}", event.kind))
}
