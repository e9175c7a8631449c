//! Lock: which rollouts must be over before another can begin.

use cutover_common::{AgentName, planted};

use super::deploy::refuse;
use crate::{
    action::Refusal,
    coordinator::Coordinator,
    input::{DeployOrder, IfBusy},
    rollout::Rollout,
};

/// Returns whether `rollout` ends when `order` begins: what only brings hosts what runs already
/// makes room for what a person asks for.
pub(super) fn makes_room(rollout: &Rollout, order: &DeployOrder) -> bool {
    rollout.converges || order.if_busy == IfBusy::Supersede
}

impl Coordinator {
    /// One rollout for each (application, environment), and none that shares a host with another
    /// of the same application (F1).
    pub(super) fn not_locked(&self, order: &DeployOrder) -> Result<(), Refusal> {
        if order.if_busy == IfBusy::Queue {
            // It waits for them.
            return Ok(());
        }
        let mut locking = self.lockers(order).filter(|rollout| !makes_room(rollout, order));
        let holder = planted!(
            HeldDoesNotLock: locking.find(|rollout| rollout.step().is_some());
            locking.next()
        );
        let Some(holder) = holder else { return self.none_is_queued(order) };
        Err(refuse(
            format!(
                "{} has a rollout in {} that is not over: {} to {}, started by {}",
                order.application, holder.environment, holder.id, holder.to, holder.by
            ),
            format!(
                "see what it waits for: cutover why {}; or begin this one after it: --if-busy \
                 queue; or stop it and begin this one: --if-busy supersede",
                holder.id
            ),
        ))
    }

    /// Nobody is overtaken who waits for the hosts.
    pub(super) fn none_is_queued(&self, order: &DeployOrder) -> Result<(), Refusal> {
        let mut queued = self.queue.waiting_for(&order.application, &order.environment);
        let Some(next) = queued.next().filter(|_| order.if_busy == IfBusy::Refuse) else {
            return Ok(());
        };
        Err(refuse(
            format!(
                "{} has a rollout in {} that is about to begin: {} to {}, queued by {}",
                order.application, order.environment, next.id, next.order.version, next.by
            ),
            format!(
                "see what it waits for: cutover why {}; or begin this one after it: --if-busy \
                 queue; or in its place: --if-busy supersede",
                next.id
            ),
        ))
    }

    /// Returns the rollouts that must be over before `order` can begin.
    pub(crate) fn lockers<'a>(
        &'a self,
        order: &'a DeployOrder,
    ) -> impl Iterator<Item = &'a Rollout> {
        let members = self.members(&order.environment);
        // What it replaces runs on hosts that take no other part in it.
        let replaces = |rollout: &Rollout, agent: &AgentName| {
            rollout.groups().is_some() && self.members(&rollout.environment).contains(agent)
        };
        self.active().filter(move |rollout| {
            rollout.application == order.application
                && (rollout.environment == order.environment
                    || members
                        .iter()
                        .any(|agent| rollout.hosts.contains_key(agent) || replaces(rollout, agent)))
        })
    }
}
