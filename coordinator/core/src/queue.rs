//! Queue: rollouts that begin when what is before them is over.

use cutover_common::{ApplicationName, EnvironmentName, Timestamp};
use uuid::Uuid;

use crate::{event::Dequeued, input::DeployOrder};

/// How many rollouts wait for their turn, of one application in one environment: whoever queues
/// more than a day's worth of releases has a program that runs wild (A9).
pub const QUEUED_MAX: usize = 16;

/// How many of those that will never begin are kept in memory. The log has them all; this is what
/// `history` shows.
const LEFT_MAX: usize = 1_000;

/// A rollout that waits for its turn, or was never given it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Queued {
    pub id: Uuid,
    /// Counts up over all rollouts, with those that have begun.
    pub number: u64,
    pub request_id: Uuid,
    pub order: DeployOrder,
    pub by: String,
    /// Since when it waits.
    pub since: Timestamp,
    /// That it will never begin; none while it waits.
    pub left: Option<Left>,
}

/// How a rollout left the queue that has not begun.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Left {
    pub how: Dequeued,
    pub at: Timestamp,
    /// The operator's call that asked for it.
    pub call: Option<Uuid>,
}

impl Queued {
    /// Returns whether it is of this application and environment.
    pub(crate) fn is_of(
        &self,
        application: &ApplicationName,
        environment: &EnvironmentName,
    ) -> bool {
        self.order.application == *application && self.order.environment == *environment
    }
}

/// All of them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Queue {
    /// In the order in which they were asked for.
    waiting: Vec<Queued>,
    /// The oldest first.
    left: Vec<Queued>,
}

impl Queue {
    /// Returns those that wait, in their order.
    pub fn waiting(&self) -> impl DoubleEndedIterator<Item = &Queued> {
        self.waiting.iter()
    }

    /// Returns those that wait for one place, in their order.
    pub fn waiting_for<'a>(
        &'a self,
        application: &'a ApplicationName,
        environment: &'a EnvironmentName,
    ) -> impl DoubleEndedIterator<Item = &'a Queued> {
        self.waiting.iter().filter(move |queued| queued.is_of(application, environment))
    }

    /// Returns the applications of which some wait for `environment`.
    pub(crate) fn waiting_in<'a>(
        &'a self,
        environment: &'a EnvironmentName,
    ) -> impl Iterator<Item = &'a ApplicationName> {
        let waiting = self.waiting.iter().map(|queued| &queued.order);
        waiting.filter(|order| order.environment == *environment).map(|order| &order.application)
    }

    /// Returns those that wait, and those that left.
    pub fn all(&self) -> impl Iterator<Item = &Queued> {
        self.waiting.iter().chain(&self.left)
    }

    /// Returns the one of this id.
    pub fn get(&self, id: Uuid) -> Option<&Queued> {
        self.all().find(|queued| queued.id == id)
    }

    pub(crate) fn push(&mut self, queued: Queued) {
        self.waiting.push(queued);
    }

    /// Takes out the one that begins.
    pub(crate) fn begin(&mut self, id: Uuid) -> Option<Queued> {
        let at = self.waiting.iter().position(|queued| queued.id == id)?;
        Some(self.waiting.remove(at))
    }

    /// Takes out one that will never begin. Returns the request of the one that is forgotten for it;
    /// an error if none of this id waits.
    pub(crate) fn leave(&mut self, id: Uuid, left: Left) -> Result<Option<Uuid>, Unknown> {
        let mut queued = self.begin(id).ok_or(Unknown(id))?;
        queued.left = Some(left);
        self.left.push(queued);
        let forgotten = (self.left.len() > LEFT_MAX).then(|| self.left.remove(0).request_id);
        Ok(forgotten)
    }

    /// Returns the ids of those that wait.
    pub(crate) fn waiting_ids(&self) -> Vec<Uuid> {
        self.waiting.iter().map(|queued| queued.id).collect()
    }
}

/// None of this id waits.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("an event names rollout {0}, which does not wait for its turn")]
pub struct Unknown(Uuid);
