//! What must hold after every input: the promises, and that replay makes what is remembered live.

use std::collections::{BTreeMap, BTreeSet};

use cutover_common::{AgentName, ApplicationName, Generation, Timestamp};
use uuid::Uuid;

use crate::{
    Action, Coordinator, Event, EventKind, Step,
    event::Change,
    fleet::Wanted,
    invariants::f1_one_rollout,
    rollout::{HostState, Rollout},
};

/// What was seen so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Watch {
    /// A coordinator that learns everything by replay.
    replica: Coordinator,
    ended: BTreeMap<Uuid, Rollout>,
    generations: BTreeMap<(AgentName, ApplicationName), Generation>,
    /// The agents that a decision has named and whose goals have not followed yet.
    named: BTreeSet<AgentName>,
}

impl Watch {
    pub(super) fn check(&mut self, core: &Coordinator, now: Timestamp, step: &Step) {
        assert!(f1_one_rollout(core), "F1");
        for event in &step.events {
            assert_eq!(event.at, now, "{event:?}");
            self.check_goal(event);
            self.check_left_out(event);
            self.name(event);
            self.replica.apply(event).unwrap();
        }
        assert_remembers_the_same(&self.replica, core);
        self.check_ended(core);
        self.check_actions(core, step);
    }

    /// Takes an event that no step led to.
    pub(super) fn note(&mut self, event: &Event) {
        self.name(event);
        self.replica.apply(event).unwrap();
    }

    /// A goal's generation is above every one before; and what should run changes only for hosts
    /// that a decision has named since their last one, so that it is accounted for (A1).
    fn check_goal(&mut self, event: &Event) {
        match &event.kind {
            EventKind::GoalSet { agent, application, generation, slots, route, .. } => {
                let key = (agent.clone(), application.clone());
                let before = self.generations.insert(key, *generation);
                assert!(before.is_none_or(|before| *generation > before), "{event:?}");
                // A host that was removed and joined again goes on from what it had.
                let was = self.replica.goals.last(agent, application);
                // A goal above the one that follows ours adopts a host: see `operate::adopt`.
                let follows = was.is_none_or(|was| was.generation.next() == *generation);
                let wanted = Wanted { slots: slots.clone(), route: route.clone() };
                let is_switch = was.and_then(|goal| goal.wanted.leads()) != wanted.leads();
                assert!(!is_switch || !follows || self.named.contains(agent), "{event:?}");
            }
            // One that joins again begins anew.
            EventKind::AgentRemoved { agent, .. } => {
                self.generations.retain(|(it, _), _| it != agent);
            }
            EventKind::Started { .. }
            | EventKind::Restored { .. }
            | EventKind::OperatorCreated { .. }
            | EventKind::JoinTokenCreated { .. }
            | EventKind::AgentJoined { .. }
            | EventKind::AgentLabelled { .. }
            | EventKind::AgentDrained { .. }
            | EventKind::AgentUndrained { .. }
            | EventKind::EnvironmentCreated { .. }
            | EventKind::EnvironmentFrozen { .. }
            | EventKind::EnvironmentThawed { .. }
            | EventKind::EnvironmentConfigured { .. }
            | EventKind::SecretsLost { .. }
            | EventKind::ReleaseConfigured { .. }
            | EventKind::ReleaseRegistered { .. }
            | EventKind::RolloutStarted(_)
            | EventKind::RolloutQueued(_)
            | EventKind::RolloutDequeued { .. }
            | EventKind::Rollout { .. } => {}
        }
    }

    /// A rollout keeps its hands off a host that was taken out of it, and no rollout begins on one
    /// that is drained (A5).
    fn check_left_out(&self, event: &Event) {
        let is_out = |rollout: &Rollout, agent: &AgentName| {
            let host = rollout.hosts.get(agent);
            host.is_some_and(|host| matches!(host.state, HostState::Excluded { .. }))
        };
        match &event.kind {
            EventKind::GoalSet { agent, rollout, .. } => {
                let rollout = &self.replica.rollouts[rollout];
                assert!(!is_out(rollout, agent), "A5: {event:?}");
            }
            EventKind::Rollout {
                change:
                    Change::HostsReleased { agents }
                    | Change::HostsStaged { agents }
                    | Change::HostsFlipped { agents }
                    | Change::HostsReverted { agents },
                ..
            } => {
                let is_drained = |agent: &AgentName| self.replica.enrolments.drain(agent).is_some();
                assert!(!agents.iter().any(is_drained), "A5: {event:?}");
            }
            EventKind::RolloutStarted(started) => {
                let mut agents = started.plan.waves.iter().flat_map(|wave| &wave.agents);
                assert!(!agents.any(|agent| self.replica.enrolments.drain(agent).is_some()));
            }
            EventKind::Started { .. }
            | EventKind::Restored { .. }
            | EventKind::OperatorCreated { .. }
            | EventKind::JoinTokenCreated { .. }
            | EventKind::AgentJoined { .. }
            | EventKind::AgentLabelled { .. }
            | EventKind::AgentRemoved { .. }
            | EventKind::AgentDrained { .. }
            | EventKind::AgentUndrained { .. }
            | EventKind::EnvironmentCreated { .. }
            | EventKind::EnvironmentFrozen { .. }
            | EventKind::EnvironmentThawed { .. }
            | EventKind::EnvironmentConfigured { .. }
            | EventKind::SecretsLost { .. }
            | EventKind::ReleaseConfigured { .. }
            | EventKind::ReleaseRegistered { .. }
            | EventKind::RolloutQueued(_)
            | EventKind::RolloutDequeued { .. }
            | EventKind::Rollout { .. } => {}
        }
    }

    fn name(&mut self, event: &Event) {
        if let EventKind::GoalSet { agent, .. } = &event.kind {
            self.named.remove(agent);
        }
        if let EventKind::Rollout {
            change:
                Change::HostsReleased { agents }
                | Change::HostsStaged { agents }
                | Change::HostsFlipped { agents }
                | Change::HostsReverted { agents }
                | Change::HostsRetired { agents }
                | Change::HostsWithdrawn { agents },
            ..
        } = &event.kind
        {
            self.named.extend(agents.iter().cloned());
        }
    }

    /// What is over does not change (E5).
    fn check_ended(&mut self, core: &Coordinator) {
        for (id, rollout) in &core.rollouts {
            if rollout.is_over() {
                let then = self.ended.entry(*id).or_insert_with(|| rollout.clone());
                assert_eq!(rollout, then, "E5");
            }
        }
    }

    fn check_actions(&mut self, core: &Coordinator, step: &Step) {
        for action in &step.actions {
            if let Action::Assign { session, assignment } = action {
                let agent = core.fleet().agent(*session).expect("the session is open");
                let goal = core.goals.of(agent, &assignment.application).unwrap();
                assert!(assignment.fence.generation <= goal.generation, "{assignment:?}");
                assert_eq!(assignment.fence.term, core.term());
                assert!(!core.is_ahead(agent, &assignment.application), "F7: {assignment:?}");
            }
        }
    }
}

/// Asserts that both have the same memory.
pub(super) fn assert_remembers_the_same(one: &Coordinator, other: &Coordinator) {
    assert_eq!(one.term, other.term);
    assert_eq!(one.enrolments, other.enrolments);
    assert_eq!(one.environments, other.environments);
    assert_eq!(one.releases, other.releases);
    assert_eq!(one.goals, other.goals);
    assert_eq!(one.rollouts, other.rollouts);
    assert_eq!(one.requests, other.requests);
    assert_eq!(one.onces, other.onces);
    assert_eq!(one.queue, other.queue);
    assert_eq!(one.last_event, other.last_event);
}
