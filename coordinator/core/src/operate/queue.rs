//! Queue: deploys that wait for what is under way, begin when it is over, or are taken out.

use cutover_common::{AgentName, ApplicationName, EnvironmentName, Timestamp, planted};
use uuid::Uuid;

use super::{
    control::{ControlOrder, participle},
    deploy::refuse,
};
use crate::{
    action::{Action, Answer, Refusal},
    coordinator::{Coordinator, Step},
    event::{Dequeued, EventKind, RolloutQueued},
    fleet::Fresh,
    input::{DeployOrder, Verb},
    queue::{QUEUED_MAX, Queue, Queued},
    rollout::Rollout,
};

/// Something that `cutover why` tells of.
#[derive(Clone, Copy, Debug)]
pub enum Found<'a> {
    Rollout(&'a Rollout),
    Queued(&'a Queued),
}

impl<'a> Found<'a> {
    pub const fn id(self) -> Uuid {
        match self {
            Self::Rollout(rollout) => rollout.id,
            Self::Queued(queued) => queued.id,
        }
    }

    /// Counts up over all of them.
    pub const fn number(self) -> u64 {
        match self {
            Self::Rollout(rollout) => rollout.number,
            Self::Queued(queued) => queued.number,
        }
    }

    /// Returns the number under which it was asked for.
    pub(super) const fn asked(self) -> u64 {
        match self {
            Self::Rollout(rollout) => rollout.asked,
            Self::Queued(queued) => queued.number,
        }
    }

    pub const fn application(self) -> &'a ApplicationName {
        match self {
            Self::Rollout(rollout) => &rollout.application,
            Self::Queued(queued) => &queued.order.application,
        }
    }

    pub const fn environment(self) -> &'a EnvironmentName {
        match self {
            Self::Rollout(rollout) => &rollout.environment,
            Self::Queued(queued) => &queued.order.environment,
        }
    }
}

/// What a queued rollout waits for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ahead<'a> {
    /// How many in the queue are before it.
    pub count: usize,
    /// The rollout right before it: the next in the queue, or the one that is under way.
    pub rollout: Option<Found<'a>>,
}

impl PartialEq for Found<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Eq for Found<'_> {}

impl Coordinator {
    /// Returns the rollouts that wait for their turn.
    pub const fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Returns what `queued` waits for.
    pub fn ahead_of<'a>(&'a self, queued: &'a Queued) -> Ahead<'a> {
        let order = &queued.order;
        let all = self.queue.waiting_for(&order.application, &order.environment);
        let before: Vec<&Queued> = all.take_while(|other| other.id != queued.id).collect();
        let under_way = || self.blocker(order).map(Found::Rollout);
        Ahead {
            count: before.len(),
            rollout: before.last().copied().map(Found::Queued).or_else(under_way),
        }
    }

    /// Returns a rollout that must be over before `order` can begin. What only brings hosts what runs
    /// already makes room.
    fn blocker<'a>(&'a self, order: &'a DeployOrder) -> Option<&'a Rollout> {
        let mut asked_for = self.lockers(order).filter(|rollout| !rollout.converges);
        planted!(
            QueuedBesideHeld: asked_for.find(|rollout| rollout.step().is_some());
            asked_for.next()
        )
    }

    /// Returns whether `order` cannot begin yet.
    pub(super) fn has_to_wait(&self, order: &DeployOrder) -> bool {
        let mut waiting = self.queue.waiting_for(&order.application, &order.environment);
        waiting.next().is_some() || self.blocker(order).is_some()
    }

    /// Puts `order` at the end of its queue.
    pub(super) fn enqueue(
        &mut self,
        now: Timestamp,
        by: &str,
        (request_id, id): (Uuid, Uuid),
        order: &DeployOrder,
        step: &mut Step,
    ) -> Result<Answer, Refusal> {
        self.can_ever_begin(order)?;
        let DeployOrder { application, version, environment, options, .. } = order;
        if self.queue.waiting_for(application, environment).count() >= QUEUED_MAX {
            return Err(refuse(
                format!(
                    "{QUEUED_MAX} rollouts of {application} are queued for {environment}, which is \
                     the most"
                ),
                format!(
                    "take one out: cutover abort ID (cutover history {application} lists them); or \
                     let this one take the place of all: --if-busy supersede"
                ),
            ));
        }
        let queued = RolloutQueued {
            id,
            request_id,
            application: application.clone(),
            environment: environment.clone(),
            to: version.clone(),
            with: order.with,
            settings: options
                .iter()
                .map(|(setting, value)| (setting.to_string(), value.to_owned()))
                .collect(),
            by: by.to_owned(),
            despite_freeze: order.despite_freeze.clone(),
        };
        self.record(now, step, EventKind::RolloutQueued(Box::new(queued)));
        Ok(self.queued_answer(id, false))
    }

    pub(super) fn queued_answer(&self, id: Uuid, repeated: bool) -> Answer {
        let ahead = self.queue.get(id).map(|queued| self.ahead_of(queued));
        Answer::RolloutQueued {
            rollout: id,
            repeated,
            waits_for: ahead.as_ref().and_then(|ahead| ahead.rollout).map(Found::id),
            ahead: ahead.map_or(0, |ahead| ahead.count),
        }
    }

    /// Refuses what is mistyped at once. What depends on the fleet and its state is judged when its
    /// turn comes.
    fn can_ever_begin(&self, order: &DeployOrder) -> Result<(), Refusal> {
        self.known_environment(&order.environment)?;
        let release = self.known_release(&order.application, &order.version)?;
        self.some_members(&order.environment)?;
        self.settings(order, release, 0).map(drop)
    }

    /// Begins what is next in each queue whose place is free; what cannot begin leaves the queue,
    /// and the next is looked at. Returns whether any began.
    ///
    /// It looks at what is, not at what has just ended: whoever dies in between loses nothing.
    pub(crate) fn begin_queued(&mut self, now: Timestamp, step: &mut Step) -> bool {
        if planted!(QueuedWaitsForAnEnd: !step.events.iter().any(super::converge::is_an_end); false)
        {
            return false;
        }
        let mut has_begun = false;
        while let Some(next) = self.next_queued().cloned() {
            let Queued { id, request_id, by, order, .. } = next;
            match self.launch(now, &by, (request_id, id), &order, step) {
                Ok(()) => has_begun = true,
                Err(refusal) => {
                    let how = Dequeued::Refused { why: with_hint(refusal) };
                    self.record(now, step, EventKind::RolloutDequeued { id, how, call: None });
                }
            }
            step.actions.push(Action::Changed);
        }
        has_begun
    }

    /// Returns the first of each queue.
    fn heads(&self) -> impl Iterator<Item = &Queued> {
        self.queue.waiting().filter(|queued| {
            let DeployOrder { application, environment, .. } = &queued.order;
            let mut all = self.queue.waiting_for(application, environment);
            let head = planted!(QueueTurnedAround: all.next_back(); all.next());
            head.is_some_and(|head| head.id == queued.id)
        })
    }

    fn next_queued(&self) -> Option<&Queued> {
        self.heads().find(|queued| {
            self.blocker(&queued.order).is_none() && self.unheard(&queued.order).next().is_none()
        })
    }

    /// Returns the hosts of which nothing is known yet, as this process or their connection has just
    /// begun: no plan is made by what they said before.
    pub(crate) fn unheard(&self, order: &DeployOrder) -> impl Iterator<Item = AgentName> {
        let now = self.last_looked();
        self.members(&order.environment).into_iter().filter(move |agent| {
            self.enrolments.drain(agent).is_none()
                && self.fleet.fresh(agent, &order.application) == Fresh::Unknown
                && self.fleet.unreachable_since(agent, now).is_none()
        })
    }

    /// Returns when a host that was not heard counts as unreachable, for which something waits that
    /// could begin.
    pub(crate) fn queue_looks_again(&self) -> Option<Timestamp> {
        self.heads()
            .filter(|queued| self.blocker(&queued.order).is_none())
            .flat_map(|queued| self.unheard(&queued.order))
            .filter_map(|agent| self.fleet.unreachable_from(&agent))
            .min()
    }

    /// Takes out everything whose place `id` takes.
    pub(super) fn supersede_queue(
        &mut self,
        now: Timestamp,
        by: &str,
        id: Uuid,
        order: &DeployOrder,
        step: &mut Step,
    ) {
        let waiting = self.queue.waiting_for(&order.application, &order.environment);
        let waiting: Vec<Uuid> = waiting.map(|queued| queued.id).collect();
        for queued in waiting {
            let how = Dequeued::Superseded { by: by.to_owned(), rollout: id };
            self.record(now, step, EventKind::RolloutDequeued { id: queued, how, call: None });
        }
    }

    /// Does what an operator asks of a rollout that has not begun.
    pub(super) fn control_queued(
        &mut self,
        now: Timestamp,
        by: &str,
        id: Uuid,
        order: &ControlOrder,
        step: &mut Step,
    ) -> Result<Answer, Refusal> {
        let Some(queued) = self.queue.get(id) else { return Err(refuse("it is gone", "")) };
        let is_over = queued.left.is_some();
        match order.verb {
            Verb::Abort if !is_over => {
                let how = Dequeued::Aborted { by: by.to_owned(), reason: order.reason.clone() };
                let call = Some(order.call);
                self.record(now, step, EventKind::RolloutDequeued { id, how, call });
                let text = "taken out of the queue: nothing of it has begun".to_owned();
                Ok(Answer::Controlled { rollout: id, text })
            }
            Verb::Retry if is_over => {
                self.is_newest(Found::Queued(queued))?;
                let again = DeployOrder { if_busy: order.if_busy, ..queued.order.clone() };
                self.deploy_anew(now, by, order.call, &again, step)
            }
            Verb::Pause
            | Verb::Resume
            | Verb::Abort
            | Verb::Retry
            | Verb::Rollback
            | Verb::Promote { .. } => Err(not_begun(queued, participle(order.verb))),
        }
    }
}

/// Refuses what can be done only to a rollout that has begun.
pub(super) fn not_begun(queued: &Queued, participle: &str) -> Refusal {
    let id = queued.id;
    if queued.left.is_some() {
        return refuse(
            format!("rollout {id} has never begun, so it cannot be {participle}"),
            format!("see why: cutover why {id}"),
        );
    }
    refuse(
        format!("rollout {id} has not begun, so it cannot be {participle}"),
        format!("see what it waits for: cutover why {id}; take it out: cutover abort {id}"),
    )
}

/// Returns what is wrong, and what could be typed to mend it.
pub(super) fn with_hint(refusal: Refusal) -> String {
    let Refusal { text, hint, .. } = refusal;
    if hint.is_empty() { text } else { format!("{text} ({hint})") }
}
