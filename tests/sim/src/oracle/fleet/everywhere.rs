//! Everywhere: in a fleet that has come to rest, each host is to run what its environment runs.

use super::ledger::Ledger;
use crate::world::{Host, World};

impl Ledger {
    /// Returns which host has stayed behind of those that can be brought along, in words: one that
    /// joined late, was away, or was drained for a while.
    ///
    /// `serves` says whether a host surely serves what it is to run. One that runs something else is
    /// brought along only where all others do, or the floor may keep it from being taken out.
    pub(super) fn is_behind(
        &self,
        world: &World,
        serves: &impl Fn(u16, u16) -> bool,
    ) -> Option<String> {
        let core = &world.site(0).process.as_ref()?.core;
        self.stable.iter().filter(|(it, _)| self.is_brought_along(**it)).find_map(|(it, stable)| {
            let name = world.script.applications[usize::from(*it)].name.parse().ok()?;
            let members = self.led_to(*it);
            let lacks_it = |number: &&u16| {
                let host = world.host(**number);
                let goal = self.goals.get(&(**number, *it)).and_then(|goal| goal.running());
                let may_be_taken_out = || {
                    goal.is_none()
                        || members.iter().all(|other| other == *number || serves(*other, *it))
                };
                goal != Some(stable)
                    && !self.stays_as_it_is(**number, *it)
                    // Where it holds what the store knows nothing of, a person has to look first (F7).
                    && !core.is_ahead(&host.name, &name)
                    && is_heard(world, host)
                    && may_be_taken_out()
            };
            let behind = members.iter().find(lacks_it)?;
            Some(format!(
                "host-{behind} is not told to run {stable} of {name}, as its environment does"
            ))
        })
    }
}

/// Returns whether an agent is connected and will be: it hears what it is told.
fn is_heard(world: &World, host: &Host) -> bool {
    let is_joined = host.agent.as_ref().is_some_and(|agent| agent.core.is_joined());
    is_joined && host.agent_runs() && host.certificate.not_after > world.now
}
