//! Whom an agent obeys, and what it takes on: F2, F3, F5.

use std::collections::BTreeMap;

use cutover_agent_core::{Action, Agent, Binding, Event, SessionId, Step, Welcome};
use cutover_common::{ApplicationName, Assignment, Fence, Term};
use uuid::Uuid;

use super::super::Violation;
use crate::moment::Moment;

/// How far one application of one host has come.
#[derive(Debug)]
pub(super) struct Mark {
    application: ApplicationName,
    /// Accepted by this process of the agent.
    held: Fence,
    /// Of anything done to the host, ever.
    pub(super) acted: Fence,
    /// Told to a coordinator, ever.
    told: Fence,
    /// When the goal that is held was accepted.
    pub(super) accepted: Moment,
}

/// What a coordinator offers at this moment.
#[derive(Debug)]
struct Offer {
    session: SessionId,
    application: ApplicationName,
    fence: Fence,
    kind: Kind,
}

/// How it is to what is held.
#[derive(Debug)]
enum Kind {
    Newer(Box<Assignment>),
    Same,
    /// An equal generation, another content.
    Conflict,
    Stale,
}

/// See above.
#[derive(Debug, Default)]
pub(super) struct Obedience {
    marks: Vec<Mark>,
    /// Whom each session of this process of the agent is with.
    sessions: Vec<(SessionId, Welcome)>,
    /// The coordinator process of each term that was obeyed, ever.
    obeyed: BTreeMap<Term, Uuid>,
    /// The highest term that two processes claimed before this host.
    split: Option<Term>,
    offer: Option<Offer>,
    /// Not durable yet.
    binding: Option<Binding>,
    split_seen: Option<Term>,
}

const fn is_behind(fence: Fence, mark: Fence) -> bool {
    fence.term.0 < mark.term.0 || fence.generation.0 < mark.generation.0
}

fn higher(one: Fence, other: Fence) -> Fence {
    Fence { term: one.term.max(other.term), generation: one.generation.max(other.generation) }
}

impl Obedience {
    /// F2: what is remembered after a restart is not behind what was done, nor behind what was
    /// told.
    pub(super) fn started(&mut self, number: u16, core: &Agent) -> Result<(), Violation> {
        self.sessions.clear();
        (self.offer, self.binding, self.split_seen) = (None, None, None);
        let remembered = core.remembered();
        for mark in &mut self.marks {
            let known = remembered.applications.get(&mark.application);
            let held = known.map_or(Fence::default(), cutover_agent_core::Application::fence);
            let highest = higher(mark.acted, mark.told);
            if is_behind(held, highest) {
                let what = format!(
                    "host-{number} remembers fence {held} of {} after it acted on {} and told {}",
                    mark.application, mark.acted, mark.told
                );
                return Err(Violation::new("F2", what));
            }
            mark.held = held;
        }
        for application in remembered.applications.values() {
            let name = &application.assignment.application;
            if self.mark(name).is_none() {
                self.begin_mark(name, application.fence(), Moment::default());
            }
        }
        if let Some(binding) = &remembered.binding {
            self.bind(number, binding)?;
        }
        self.split = self.split.max(remembered.split);
        Ok(())
    }

    /// Forgets everything: a changed bit of its journal made the agent forget something.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    fn bind(&mut self, number: u16, binding: &Binding) -> Result<(), Violation> {
        let known = *self.obeyed.entry(binding.term).or_insert(binding.boot_nonce);
        if known != binding.boot_nonce {
            let what = format!("host-{number} obeys two processes in term {}", binding.term.0);
            return Err(Violation::new("F3", what));
        }
        Ok(())
    }

    /// A coordinator says who it is.
    pub(super) fn welcomed(&mut self, session: SessionId, welcome: &Welcome) {
        self.sessions.push((session, *welcome));
        let known = self.obeyed.get(&welcome.term);
        if known.is_some_and(|known| *known != welcome.boot_nonce) {
            self.split_seen = self.split_seen.max(Some(welcome.term));
        }
    }

    /// A coordinator says what is wanted.
    pub(super) fn offered(&mut self, session: SessionId, assignment: &Assignment, core: &Agent) {
        let name = &assignment.application;
        let held = core.remembered().applications.get(name);
        let fence = held.map_or(Fence::default(), cutover_agent_core::Application::fence);
        let offered = assignment.fence;
        let kind = if is_behind(offered, fence) {
            Kind::Stale
        } else if offered.generation > fence.generation {
            Kind::Newer(Box::new(assignment.clone()))
        } else if held.is_some_and(|held| {
            held.assignment.slots == assignment.slots && held.assignment.timers == assignment.timers
        }) {
            Kind::Same
        } else {
            Kind::Conflict
        };
        self.offer = Some(Offer { session, application: name.clone(), fence: offered, kind });
    }

    /// Judges what the agent made of its last input.
    pub(super) fn stepped(
        &mut self,
        (number, now): (u16, Moment),
        step: &Step,
        core: &Agent,
        session: Option<SessionId>,
    ) -> Result<(), Violation> {
        let offer = self.offer.take();
        if let Some(offer) = &offer {
            self.refuses_what_it_must(number, step, offer, core.is_joined(), session)?;
        }
        for event in &step.events {
            match event {
                Event::AssignmentAccepted(assignment) => {
                    self.accepts(number, assignment, offer.as_ref())?;
                    self.note_accepted(assignment, now);
                }
                Event::TermRaised { application, term } => {
                    self.raises(number, application, *term, offer.as_ref())?;
                }
                Event::CoordinatorBound(binding) => {
                    let later = self.obeyed.keys().next_back().is_some_and(|it| *it > binding.term);
                    if later {
                        let term = binding.term.0;
                        let what = format!("host-{number} obeys term {term} after a later one");
                        return Err(Violation::new("F2", what));
                    }
                    self.binding = Some(*binding);
                }
                Event::StopStarted { application, slot, .. } => {
                    let known = core.remembered().applications.get(application);
                    let instance = known.and_then(|it| it.slots.of(*slot).instance.as_ref());
                    // Behind the gate its traffic went away first.
                    if instance.is_none_or(|it| it.port.is_none()) {
                        self.stops(number, application, core)?;
                    }
                }
                Event::Summarised(_)
                | Event::SplitBrainSeen { .. }
                | Event::CoordinatorForgotten
                | Event::EdgeRouted(_)
                | Event::EdgeArmed { .. }
                | Event::Prepared { .. }
                | Event::Forgotten { .. }
                | Event::Shifted { .. }
                | Event::HoldBegun { .. }
                | Event::HoldArmed { .. }
                | Event::HoldOver { .. }
                | Event::StartStarted { .. }
                | Event::Started { .. }
                | Event::StartFailed { .. }
                | Event::Exited { .. }
                | Event::OutageMeasured { .. }
                | Event::HookBegun { .. }
                | Event::HookOver { .. }
                | Event::AfterStopStarted { .. }
                | Event::HookEnded { .. }
                | Event::StopDone { .. } => {}
            }
        }
        if step.events.is_empty() && self.split_seen.is_some() {
            // There is nothing to wait for: it must know from here on.
            self.split = self.split.max(self.split_seen.take());
        }
        Ok(())
    }

    /// What was decided is durable.
    pub(super) fn stored(&mut self, number: u16) -> Result<(), Violation> {
        self.split = self.split.max(self.split_seen.take());
        match self.binding.take() {
            Some(binding) => self.bind(number, &binding),
            None => Ok(()),
        }
    }

    /// F5: another content under a held generation is refused, and so is what is stale.
    fn refuses_what_it_must(
        &self,
        number: u16,
        step: &Step,
        offer: &Offer,
        is_joined: bool,
        session: Option<SessionId>,
    ) -> Result<(), Violation> {
        let must = match offer.kind {
            Kind::Conflict | Kind::Stale => is_joined && session == Some(offer.session),
            Kind::Newer(_) | Kind::Same => false,
        };
        let refuses =
            || step.actions.iter().any(|action| matches!(action, Action::NoteRefusal { .. }));
        if !must || refuses() {
            return Ok(());
        }
        let what = format!(
            "host-{number} does not refuse {} of {}: {:?}",
            offer.fence, offer.application, offer.kind
        );
        Err(Violation::new("F5", what))
    }

    /// F2, F3, F5: a goal is accepted that was offered, is newer, and comes from the one
    /// coordinator process of its term.
    fn accepts(
        &self,
        number: u16,
        accepted: &Assignment,
        offer: Option<&Offer>,
    ) -> Result<(), Violation> {
        let held = self.mark(&accepted.application).map_or(Fence::default(), |mark| mark.held);
        let wrong = |promise, why: &str| {
            let (fence, application) = (accepted.fence, &accepted.application);
            let what = format!("host-{number} accepts {fence} of {application}, {why}");
            Err(Violation::new(promise, what))
        };
        if is_behind(accepted.fence, held) || accepted.fence.generation == held.generation {
            return wrong("F2", &format!("and held {held}"));
        }
        let Some(Offer { session, kind: Kind::Newer(offered), .. }) = offer else {
            return wrong("F5", "which nobody offers it, or which is not newer");
        };
        if **offered != *accepted {
            return wrong("F5", "which is not what was offered");
        }
        self.is_obeyed(*session).or_else(|why| wrong("F3", &why))
    }

    /// F3, F5: a fence follows a later term only for the same goal, from the one process.
    fn raises(
        &mut self,
        number: u16,
        application: &ApplicationName,
        term: Term,
        offer: Option<&Offer>,
    ) -> Result<(), Violation> {
        let wrong = |promise, why: &str| {
            let what = format!("host-{number} raises {application} to term {}, {why}", term.0);
            Err(Violation::new(promise, what))
        };
        let Some(Offer { session, kind: Kind::Same, fence, .. }) = offer else {
            return wrong("F5", "but nobody offers it the same goal");
        };
        if fence.term != term {
            return wrong("F2", "which is not the term of the offer");
        }
        self.is_obeyed(*session).or_else(|why| wrong("F3", &why))?;
        let Some(mark) = self.marks.iter_mut().find(|mark| mark.application == *application) else {
            return wrong("F5", "of which it has no goal");
        };
        if term < mark.held.term {
            return wrong("F2", "which is lower");
        }
        mark.held.term = term;
        Ok(())
    }

    fn is_obeyed(&self, session: SessionId) -> Result<(), String> {
        let of_session = |it: &&(SessionId, Welcome)| it.0 == session;
        let Some((_, welcome)) = self.sessions.iter().rfind(of_session) else {
            return Err("from somebody who did not say who it is".to_owned());
        };
        let pending = self.binding.filter(|binding| binding.term == welcome.term);
        let obeyed = pending.map(|it| it.boot_nonce).or_else(|| {
            let known = self.obeyed.get(&welcome.term);
            known.copied()
        });
        let newest = self.obeyed.keys().next_back();
        if newest.is_some_and(|newest| *newest > welcome.term) {
            return Err(format!("from term {}, which is over", welcome.term.0));
        }
        if obeyed != Some(welcome.boot_nonce) {
            return Err(format!("from another process of term {}", welcome.term.0));
        }
        Ok(())
    }

    /// F3: where two coordinators claim the term, nothing is stopped for either.
    pub(super) fn stops(
        &self,
        number: u16,
        application: &ApplicationName,
        core: &Agent,
    ) -> Result<(), Violation> {
        let bound = core.remembered().binding.as_ref().map(|binding| binding.term);
        let split = self.split.max(self.split_seen);
        if split.is_none() || bound.is_none() || split < bound {
            return Ok(());
        }
        let what = format!(
            "host-{number} stops {application} in term {:?}, which two coordinators claim",
            bound.map(|term| term.0)
        );
        Err(Violation::new("F3", what))
    }

    fn note_accepted(&mut self, assignment: &Assignment, now: Moment) {
        let name = &assignment.application;
        match self.marks.iter_mut().find(|mark| mark.application == *name) {
            Some(mark) => (mark.held, mark.accepted) = (assignment.fence, now),
            None => self.begin_mark(name, assignment.fence, now),
        }
    }

    fn begin_mark(&mut self, application: &ApplicationName, held: Fence, accepted: Moment) {
        let application = application.clone();
        let (acted, told) = (Fence::default(), Fence::default());
        self.marks.push(Mark { application, held, acted, told, accepted });
    }

    /// Returns how far an application has come.
    pub(super) fn mark(&self, application: &ApplicationName) -> Option<&Mark> {
        self.marks.iter().find(|mark| mark.application == *application)
    }

    /// F2: what is done bears a fence that is not lower than anything before it.
    pub(super) fn acts(
        &mut self,
        number: u16,
        application: &ApplicationName,
        fence: Fence,
    ) -> Result<(), Violation> {
        let Some(mark) = self.marks.iter_mut().find(|mark| mark.application == *application) else {
            let what = format!("host-{number} acts on {application}, of which it has no goal");
            return Err(Violation::new("F2", what));
        };
        if is_behind(fence, mark.acted) {
            let what = format!(
                "host-{number} acts on fence {fence} of {application} after {}",
                mark.acted
            );
            return Err(Violation::new("F2", what));
        }
        mark.acted = higher(mark.acted, fence);
        Ok(())
    }

    /// F2: what is told is not behind what was told before.
    pub(super) fn tells(
        &mut self,
        number: u16,
        application: &ApplicationName,
        fence: Fence,
    ) -> Result<(), Violation> {
        let Some(mark) = self.marks.iter_mut().find(|mark| mark.application == *application) else {
            let what = format!("host-{number} speaks of {application}, of which it has no goal");
            return Err(Violation::new("F2", what));
        };
        if is_behind(fence, mark.told) {
            let what = format!(
                "host-{number} tells of fence {fence} of {application} after {}",
                mark.told
            );
            return Err(Violation::new("F2", what));
        }
        mark.told = fence;
        Ok(())
    }
}
