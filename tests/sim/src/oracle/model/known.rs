//! What people know: the rollouts there are, and who belongs to the fleet.

use std::collections::{BTreeMap, BTreeSet};

use cutover_common::{AgentName, DeploySetting, EnvironmentName, Version};
use cutover_coordinator_core::{
    Deed, DeployOrder, Event, EventKind, LeaveOut, Verb,
    event::{Change, RolloutStarted},
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
    /// Whether it goes from one group of hosts to another.
    pub(super) is_grouped: bool,
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
        self.is_grouped || self.from.as_ref() != Some(&self.to)
    }
}

/// A rollout that was queued.
#[derive(Clone, Debug)]
pub(super) struct Queued {
    pub(super) id: Uuid,
    pub(super) request_id: Uuid,
    pub(super) application: String,
    /// Whether it has neither begun nor left.
    pub(super) waits: bool,
    /// The call by which it was taken out.
    pub(super) taken_out_by: Option<Uuid>,
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
    /// How often each environment's config was changed, and whether anything is set.
    configs: BTreeMap<EnvironmentName, (u32, bool)>,
    pub(super) was_restored: bool,
    /// In the order in which they were asked for.
    pub(super) queued: Vec<Queued>,
}

impl Known {
    /// Returns the rollout of an application that somebody asked for and that is not over.
    pub(super) fn active(&self, application: &str) -> Option<&Rollout> {
        self.asked_for(application).find(|it| it.stand != Stand::Over)
    }

    /// Returns whether `started` brings the release that was asked for, with the config of this
    /// moment; but a restart with the one that runs.
    pub(super) fn is_meant(&self, order: &DeployOrder, started: &RolloutStarted) -> bool {
        if order.options.get(DeploySetting::Strategy) == "restart" {
            return started.from.as_ref() == Some(&started.to)
                && started.to.as_pushed() == order.version.as_str();
        }
        let environment = &order.environment;
        // A restore forgets changes, and moves their numbers on.
        if self.was_restored {
            return started.to.as_pushed() == order.version.as_str();
        }
        let meant = match self.configs.get(environment) {
            Some((number, true)) => order.version.with_config(environment, *number),
            Some((_, false)) | None => order.version.clone(),
        };
        started.to == meant
    }

    /// Returns the newest rollout of an application that somebody asked for.
    pub(super) fn newest(&self, application: &str) -> Option<&Rollout> {
        self.asked_for(application).last()
    }

    fn asked_for(&self, application: &str) -> impl Iterator<Item = &Rollout> {
        self.rollouts.iter().filter(move |it| {
            !it.converges && (it.application == application || it.id.to_string() == application)
        })
    }

    /// Returns whether something of an application waits for its turn.
    pub(super) fn is_queued(&self, application: &str) -> bool {
        self.queued.iter().any(|it| it.waits && it.application == application)
    }

    /// Returns whether this rollout waits for its turn.
    pub(super) fn waits(&self, id: Uuid) -> bool {
        self.queued.iter().any(|it| it.waits && it.id == id)
    }

    fn leaves_the_queue(&mut self, id: Uuid, call: Option<Uuid>) {
        for queued in self.queued.iter_mut().filter(|it| it.id == id) {
            (queued.waits, queued.taken_out_by) = (false, call);
        }
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
        self.queued.iter_mut().for_each(|it| it.waits = false);
        for rollout in &mut self.rollouts {
            if rollout.stand != Stand::Over {
                rollout.stand = if rollout.converges { Stand::Over } else { Stand::Held };
            }
        }
    }

    /// Takes what happened.
    pub(super) fn note(&mut self, event: &Event) {
        match &event.kind {
            EventKind::RolloutStarted(started) => {
                self.leaves_the_queue(started.id, None);
                self.rollouts.push(Rollout::new(started));
            }
            EventKind::RolloutQueued(queued) => self.queued.push(Queued {
                id: queued.id,
                request_id: queued.request_id,
                application: queued.application.as_str().to_owned(),
                waits: true,
                taken_out_by: None,
            }),
            EventKind::RolloutDequeued { id, call, .. } => self.leaves_the_queue(*id, *call),
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
            EventKind::EnvironmentConfigured { environment, set, .. } => {
                let (number, is_set) = self.configs.entry(environment.clone()).or_default();
                *number += 1;
                *is_set = !set.is_empty();
            }
            EventKind::Started { .. }
            | EventKind::Restored { .. }
            | EventKind::OperatorCreated { .. }
            | EventKind::JoinTokenCreated { .. }
            | EventKind::AgentLabelled { .. }
            | EventKind::EnvironmentCreated { .. }
            | EventKind::ReleaseConfigured { .. }
            | EventKind::SecretsLost { .. }
            | EventKind::ReleaseRegistered { .. }
            | EventKind::GoalSet { .. } => {}
        }
    }
}

impl Rollout {
    fn new(started: &RolloutStarted) -> Self {
        Self {
            id: started.id,
            request_id: started.request_id,
            application: started.application.as_str().to_owned(),
            from: started.from.clone(),
            to: started.to.clone(),
            agents: started.plan.waves.iter().flat_map(|wave| wave.agents.clone()).collect(),
            is_grouped: started.spec.groups().is_some(),
            converges: started.converges,
            stand: Stand::Goes,
            goes_back: false,
            touched: BTreeSet::new(),
            calls: BTreeMap::new(),
            out: BTreeSet::new(),
        }
    }

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
            | Change::Once { .. }
            | Change::Promoted { .. }
            | Change::HostStaged { .. }
            | Change::HostsShifted { .. }
            | Change::CutoverMoved { .. }
            | Change::GroupSwitched { .. }
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
