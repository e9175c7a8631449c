//! What people know: the rollouts there are, and who belongs to the fleet.

use std::collections::{BTreeMap, BTreeSet};

use cutover_common::{AgentName, EnvironmentName, Version};
use cutover_coordinator_core::{
    Deed, Event, EventKind, LeaveOut, Verb,
    event::Change,
    rollout::{Cause, Exclusion, Outcome},
};
use uuid::Uuid;

/// Where a rollout stands, for people.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stand {
    Goes,
    Paused,
    Held,
    Over,
}

/// One rollout.
#[derive(Clone, Debug)]
pub(super) struct Rollout {
    pub(super) id: Uuid,
    pub(super) request_id: Uuid,
    pub(super) application: String,
    pub(super) from: Option<Version>,
    pub(super) to: Version,
    pub(super) agents: BTreeSet<AgentName>,
    /// Whether nobody asked for it: it brings hosts what runs already.
    pub(super) converges: bool,
    pub(super) stand: Stand,
    pub(super) goes_back: bool,
    /// Which hosts may run something else than before.
    pub(super) touched: BTreeSet<AgentName>,
    /// What operators did to it, by the ids of their calls.
    pub(super) calls: BTreeMap<Uuid, Deed>,
    /// The hosts that were taken out of it.
    pub(super) out: BTreeSet<AgentName>,
}

impl Rollout {
    pub(super) fn has_way_back(&self) -> bool {
        self.from.as_ref() != Some(&self.to)
    }
}

/// See above.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// The newest at the end.
    pub(super) rollouts: Vec<Rollout>,
    pub(super) agents: BTreeMap<AgentName, Uuid>,
    /// The agents whose hosts are taken out for maintenance.
    pub(super) drained: BTreeSet<AgentName>,
    pub(super) frozen: BTreeSet<EnvironmentName>,
    pub(super) was_restored: bool,
}

impl Known {
    /// Returns the rollout of an application that somebody asked for and that is not over.
    pub(super) fn active(&self, application: &str) -> Option<&Rollout> {
        self.asked_for(application).find(|it| it.stand != Stand::Over)
    }

    /// Returns the newest rollout of an application that somebody asked for.
    pub(super) fn newest(&self, application: &str) -> Option<&Rollout> {
        self.asked_for(application).last()
    }

    fn asked_for(&self, application: &str) -> impl Iterator<Item = &Rollout> {
        self.rollouts.iter().filter(move |it| it.application == application && !it.converges)
    }

    /// Returns whether nobody asked for the rollout.
    pub(super) fn converges(&self, id: Uuid) -> bool {
        self.rollouts.iter().any(|it| it.id == id && it.converges)
    }

    /// Returns whether an agent takes part in a rollout that somebody asked for and that is not over.
    pub(super) fn is_busy(&self, agent: &AgentName) -> bool {
        let mut going = self.rollouts.iter().filter(|it| it.stand != Stand::Over && !it.converges);
        going.any(|it| it.agents.contains(agent))
    }

    /// The store was made from a backup: what was going waits for a person.
    pub(super) fn restored(&mut self) {
        self.was_restored = true;
        for rollout in &mut self.rollouts {
            if rollout.stand != Stand::Over {
                rollout.stand = if rollout.converges { Stand::Over } else { Stand::Held };
            }
        }
    }

    /// Takes what happened.
    pub(super) fn note(&mut self, event: &Event) {
        match &event.kind {
            EventKind::RolloutStarted(started) => self.rollouts.push(Rollout {
                id: started.id,
                request_id: started.request_id,
                application: started.application.as_str().to_owned(),
                from: started.from.clone(),
                to: started.to.clone(),
                agents: started.plan.waves.iter().flat_map(|wave| wave.agents.clone()).collect(),
                converges: started.converges,
                stand: Stand::Goes,
                goes_back: false,
                touched: BTreeSet::new(),
                calls: BTreeMap::new(),
                out: BTreeSet::new(),
            }),
            EventKind::Rollout { id, change, call } => {
                let Some(rollout) = self.rollouts.iter_mut().find(|it| it.id == *id) else {
                    return;
                };
                rollout.note(change);
                if let (Some(call), Some(deed)) = (call, deed_of(change)) {
                    rollout.calls.insert(*call, deed);
                }
            }
            EventKind::AgentJoined { agent, enrolment, .. } => {
                self.agents.insert(agent.clone(), *enrolment);
            }
            EventKind::AgentRemoved { agent, .. } => {
                self.agents.remove(agent);
                self.drained.remove(agent);
            }
            EventKind::AgentDrained { agent, .. } => {
                self.drained.insert(agent.clone());
            }
            EventKind::AgentUndrained { agent, .. } => {
                self.drained.remove(agent);
            }
            EventKind::EnvironmentFrozen { environment, .. } => {
                self.frozen.insert(environment.clone());
            }
            EventKind::EnvironmentThawed { environment, .. } => {
                self.frozen.remove(environment);
            }
            EventKind::Started { .. }
            | EventKind::Restored { .. }
            | EventKind::OperatorCreated { .. }
            | EventKind::JoinTokenCreated { .. }
            | EventKind::AgentLabelled { .. }
            | EventKind::EnvironmentCreated { .. }
            | EventKind::ReleaseRegistered { .. }
            | EventKind::GoalSet { .. } => {}
        }
    }
}

impl Rollout {
    fn note(&mut self, change: &Change) {
        match change {
            Change::Paused { .. } => self.stand = Stand::Paused,
            Change::Resumed { .. } | Change::Retried { .. } => self.stand = Stand::Goes,
            Change::Held { .. } => self.stand = Stand::Held,
            Change::Ended { .. } => self.stand = Stand::Over,
            Change::RollbackStarted { .. } => (self.stand, self.goes_back) = (Stand::Goes, true),
            Change::HostsReleased { agents }
            | Change::HostsStaged { agents }
            | Change::HostsFlipped { agents } => self.touched.extend(agents.iter().cloned()),
            Change::HostsWithdrawn { agents } => {
                agents.iter().for_each(|agent| {
                    self.touched.remove(agent);
                });
            }
            Change::HostReverted { agent } => {
                self.touched.remove(agent);
            }
            Change::HostsExcluded { agents, .. } => self.out.extend(agents.iter().cloned()),
            Change::StepStarted { .. }
            | Change::HostUpdated { .. }
            | Change::Promoted { .. }
            | Change::HostStaged { .. }
            | Change::HostsShifted { .. }
            | Change::CutoverMoved { .. }
            | Change::HostsRetired { .. }
            | Change::HostsTold { .. }
            | Change::HostFailed { .. }
            | Change::HostUnreachable { .. }
            | Change::BakeStarted
            | Change::RollbackWave { .. }
            | Change::HostsReverted { .. }
            | Change::HostStuck { .. } => {}
        }
    }
}

/// Returns what an operator asks for to make it happen; none where it happens by itself.
pub(super) const fn deed_of(change: &Change) -> Option<Deed> {
    let verb = match change {
        Change::Paused { .. } => Verb::Pause,
        Change::Resumed { .. } => Verb::Resume,
        Change::Retried { .. } => Verb::Retry,
        Change::Ended { outcome: Outcome::Aborted, .. } => Verb::Abort,
        Change::RollbackStarted { cause: Cause::Operator { .. }, .. } => Verb::Rollback,
        Change::Promoted { full, .. } => Verb::Promote { full: *full },
        Change::HostsExcluded { cause: Exclusion::Operator { .. }, .. } => {
            return Some(Deed::LeaveOut(LeaveOut::Exclude));
        }
        Change::HostsExcluded { cause: Exclusion::Skipped { .. }, .. } => {
            return Some(Deed::LeaveOut(LeaveOut::Skip));
        }
        _ => return None,
    };
    Some(Deed::Control(verb))
}
