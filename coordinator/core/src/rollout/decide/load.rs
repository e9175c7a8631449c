//! Load: how busy the hosts that stay will be when others are taken out.
//!
//! What is taken out is busy no more, and the others get its requests, each in proportion to what
//! it has: so each becomes busier by the same factor. Where an application has no gate that counts
//! requests, what its host does stands for them.

use std::collections::{BTreeMap, BTreeSet};

use cutover_common::{AgentName, ReleaseRef, Version};

use super::Scene;
use crate::rollout::Rollout;

/// What one host that serves does.
#[derive(Clone, Copy, Debug)]
struct Share {
    /// Of its cpus in use, in thousandths. None: it has not told.
    busy: Option<u32>,
    /// Its part of the requests; the unit is the same for all.
    requests: u64,
}

/// What the hosts that stay do, and have to do.
#[derive(Clone, Debug)]
pub(super) struct Load<'a> {
    stays: BTreeMap<&'a AgentName, Share>,
    /// All requests, also those of hosts that were taken out.
    requests: u64,
    /// Whether a host that is replaced serves on until the new instance does.
    stays_in: bool,
}

impl<'a> Load<'a> {
    pub(super) fn of<'b>(
        rollout: &Rollout,
        scene: Scene<'a>,
        up: impl Iterator<Item = &'b &'a AgentName>,
    ) -> Self
    where
        'a: 'b,
    {
        // What was taken out a moment ago has told of requests that nobody else has told of yet.
        let mut all: BTreeMap<&AgentName, Share> =
            scene.members.iter().map(|agent| (agent, share(rollout, scene, agent))).collect();
        if all.values().all(|share| share.requests == 0) {
            for share in all.values_mut() {
                share.requests = u64::from(share.busy.unwrap_or_default());
            }
        }
        let requests = all.values().map(|share| share.requests).sum();
        let up: BTreeSet<&AgentName> = up.copied().collect();
        all.retain(|agent, _| up.contains(agent));
        Self { stays: all, requests, stays_in: replaces_beside(rollout, scene) }
    }

    /// Takes `agent` out.
    pub(super) fn take(&mut self, agent: &AgentName) {
        if !self.stays_in {
            self.stays.remove(agent);
        }
    }

    /// Returns how busy the busiest of those that stay will be when `agent` is out as well, in
    /// thousandths. None: one of them has not told how busy it is.
    pub(super) fn without(&self, agent: &AgentName) -> Option<u32> {
        let stays = || {
            let is_out = |name: &AgentName| !self.stays_in && name == agent;
            self.stays.iter().filter(move |(name, _)| !is_out(name)).map(|(_, share)| share)
        };
        let left: u64 = stays().map(|share| share.requests).sum();
        let mut busiest = 0;
        for share in stays() {
            let busy = u64::from(share.busy?);
            let will_be = match left {
                0 => busy,
                left => busy.saturating_mul(self.requests) / left,
            };
            busiest = busiest.max(will_be);
        }
        Some(u32::try_from(busiest).unwrap_or(u32::MAX))
    }
}

fn share(rollout: &Rollout, scene: Scene<'_>, agent: &AgentName) -> Share {
    let seen = scene.fleet.seen(agent).filter(|seen| seen.has_told_load());
    Share {
        busy: seen.map(|seen| seen.load.cpu_permille),
        requests: seen.map_or(0, |seen| seen.requests_of(&rollout.application)),
    }
}

/// Returns whether the hosts of `rollout` serve on while they are replaced.
fn replaces_beside(rollout: &Rollout, scene: Scene<'_>) -> bool {
    let release = |version: &Version| {
        let application = rollout.application.clone();
        let name = ReleaseRef { application, version: version.clone() };
        Some(&scene.releases.get(&name)?.release)
    };
    let from = rollout.from.as_ref().and_then(release);
    let to = release(&rollout.to);
    from.zip(to).is_some_and(|(from, to)| to.can_stand_beside(from))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(hosts: &[(&'static AgentName, Option<u32>, u64)], stays_in: bool) -> Load<'static> {
        let stays: BTreeMap<&AgentName, Share> = hosts
            .iter()
            .map(|(agent, busy, requests)| (*agent, Share { busy: *busy, requests: *requests }))
            .collect();
        let requests = stays.values().map(|share| share.requests).sum();
        Load { stays, requests, stays_in }
    }

    fn agent(name: &str) -> &'static AgentName {
        Box::leak(Box::new(name.parse().unwrap()))
    }

    #[test]
    fn those_that_stay_get_the_requests_of_those_that_go() {
        let [a, b, c] = ["a", "b", "c"].map(agent);
        let mut three =
            load(&[(a, Some(300), 100), (b, Some(300), 100), (c, Some(400), 100)], false);

        // Two carry what three did.
        assert_eq!(three.without(a), Some(600));
        three.take(a);
        // One carries all.
        assert_eq!(three.without(b), Some(1200));
        // Nobody stays, nobody is busy; the floor is what keeps the last one.
        three.take(b);
        assert_eq!(three.without(c), Some(0));
    }

    #[test]
    fn where_the_old_one_serves_on_nothing_moves() {
        let [a, b] = ["a", "b"].map(agent);
        let mut two = load(&[(a, Some(700), 10), (b, Some(100), 10)], true);

        two.take(a);

        assert_eq!(two.without(b), Some(700));
    }

    #[test]
    fn a_host_that_has_not_told_leaves_it_open() {
        let [a, b] = ["a", "b"].map(agent);
        let two = load(&[(a, Some(100), 10), (b, None, 0)], false);

        assert_eq!(two.without(a), None);
        assert_eq!(two.without(b), Some(100));
    }
}
