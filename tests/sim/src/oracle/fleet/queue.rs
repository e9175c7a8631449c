//! The queue, in books of its own: what is queued begins in its order, and none is lost.

use cutover_coordinator_core::{
    Coordinator,
    event::{Dequeued, RolloutQueued, RolloutStarted},
    queue::QUEUED_MAX,
};
use uuid::Uuid;

use crate::oracle::Violation;

/// A rollout that was queued.
#[derive(Clone, Debug)]
struct Entry {
    id: Uuid,
    application: String,
    environment: String,
    /// Whether it has begun, or never will.
    has_left: bool,
}

/// All of them, in the order in which they were asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Books(Vec<Entry>);

fn broken<T>(what: String) -> Result<T, Violation> {
    Err(Violation::new("E11", what))
}

impl Books {
    /// Returns those that wait for one place.
    fn waiting<'a>(
        &'a self,
        application: &'a str,
        environment: &'a str,
    ) -> impl Iterator<Item = &'a Entry> {
        self.0.iter().filter(move |entry| {
            !entry.has_left && entry.application == application && entry.environment == environment
        })
    }

    /// Returns whether something waits to begin in the environment that bears its application's name.
    pub(super) fn has_some_of(&self, name: &str) -> bool {
        self.waiting(name, name).next().is_some()
    }

    /// Returns whether it was ever queued.
    pub(super) fn knows(&self, id: Uuid) -> bool {
        self.0.iter().any(|entry| entry.id == id)
    }

    pub(super) fn queued(&mut self, queued: &RolloutQueued) -> Result<(), Violation> {
        let (application, environment) = (queued.application.as_str(), queued.environment.as_str());
        if self.knows(queued.id) {
            return broken(format!("rollout {} is queued twice", queued.id));
        }
        if self.waiting(application, environment).count() >= QUEUED_MAX {
            return broken(format!("more than {QUEUED_MAX} of {application} are queued"));
        }
        self.0.push(Entry {
            id: queued.id,
            application: application.to_owned(),
            environment: environment.to_owned(),
            has_left: false,
        });
        Ok(())
    }

    /// A rollout begins: the first that waits, or one that nobody waits for.
    pub(super) fn began(&mut self, started: &RolloutStarted) -> Result<(), Violation> {
        let (application, environment) =
            (started.application.as_str(), started.environment.as_str());
        let first = self.waiting(application, environment).next().map(|entry| entry.id);
        let is_queued = self.knows(started.id);
        if let Some(first) = first
            && first != started.id
            && !started.converges
        {
            return broken(format!("rollout {} begins before {first}, queued earlier", started.id));
        }
        if is_queued && first != Some(started.id) {
            return broken(format!("rollout {} begins, and has left the queue", started.id));
        }
        self.leave(started.id);
        Ok(())
    }

    /// Returns the application of one that was ever queued.
    pub(super) fn application_of(&self, id: Uuid) -> Option<&str> {
        self.0.iter().find(|entry| entry.id == id).map(|entry| entry.application.as_str())
    }

    /// One leaves the queue that will not begin. `is_free`: nothing of its application is under way.
    pub(super) fn dequeued(
        &mut self,
        id: Uuid,
        how: &Dequeued,
        is_free: bool,
    ) -> Result<(), Violation> {
        let Some(entry) = self.0.iter().find(|entry| entry.id == id && !entry.has_left) else {
            return broken(format!("rollout {id} leaves the queue, and is not in it"));
        };
        if let Dequeued::Refused { why } = how {
            let first = self.waiting(&entry.application, &entry.environment).next();
            if first.is_none_or(|first| first.id != id) || !is_free {
                return broken(format!("rollout {id} is refused before its turn: {why}"));
            }
        }
        self.leave(id);
        Ok(())
    }

    fn leave(&mut self, id: Uuid) {
        for entry in self.0.iter_mut().filter(|entry| entry.id == id) {
            entry.has_left = true;
        }
    }

    /// After a restore nobody waits.
    pub(super) fn restored(&mut self) {
        self.0.iter_mut().for_each(|entry| entry.has_left = true);
    }

    /// Judges that a core has these in its queue, in this order.
    pub(super) fn are_held_by(&self, core: &Coordinator) -> Result<(), Violation> {
        let held = core.queue().waiting().map(|queued| queued.id);
        let stored = self.0.iter().filter(|entry| !entry.has_left).map(|entry| entry.id);
        if held.eq(stored) {
            return Ok(());
        }
        broken(format!("another queue is held than is stored: {:?}", self.0))
    }

    /// Judges, when everything is at rest, that who waits waits for something. `is_free` says of an
    /// application that nothing of it is under way.
    pub(super) fn wait_for_something(
        &self,
        is_free: impl Fn(&str) -> bool,
    ) -> Result<(), Violation> {
        let forgotten = |entry: &&Entry| !entry.has_left && is_free(&entry.application);
        match self.0.iter().find(forgotten) {
            None => Ok(()),
            Some(entry) => broken(format!(
                "rollout {} of {} waits, and nothing is before it",
                entry.id, entry.application
            )),
        }
    }
}
