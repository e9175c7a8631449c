//! The course of one rollout by its events: how far it is, and where its hosts stand.

mod rules;

use std::collections::{BTreeMap, BTreeSet};

use cutover_common::{Permille, Version, manifest::CutoverMode};
use cutover_coordinator_core::{
    event::RolloutStarted,
    rollout::{CutoverPhase, Outcome, Plan, PlanStep, Spec, spec::Groups},
};
use uuid::Uuid;

use super::ledger::host_of;
use crate::moment::Moment;

/// Where a host of a rollout stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Standing {
    /// Not told anything but to prepare.
    Waits,
    /// Told to start the new release beside what serves.
    Staging {
        at: Moment,
    },
    /// Runs it there.
    Staged,
    /// Told to switch. Out of service, as far as the floor is concerned.
    Told {
        at: Moment,
    },
    Done,
    Failed,
    LeftOut,
    /// Told to go back. Out of service too.
    ToldBack {
        at: Moment,
    },
    Back,
    Stuck,
    /// Taken out: not told anything any more.
    Out,
}

/// A host of a rollout.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) wave: usize,
    pub(super) standing: Standing,
    /// What was to run before.
    pub(super) before: Option<Version>,
    /// How often it was told to switch since it last was as before.
    pub(super) told: u32,
    /// Whether the new release was told to run beside what serves.
    pub(super) is_staged: bool,
    /// How much of the traffic it was told to give it, last and before that.
    pub(super) share: Permille,
    pub(super) share_before: Permille,
    /// Whether it was called back, and the goal that follows from it is not set yet: a crash may
    /// come between the two.
    pub(super) is_withdrawn: bool,
    /// Whether a person took it out for good.
    pub(super) is_left_alone: bool,
}

impl Member {
    /// Returns whether it is out of service by us, and has not come back.
    pub(super) const fn holds_token(&self) -> bool {
        matches!(self.standing, Standing::Told { .. } | Standing::ToldBack { .. })
    }
}

/// Which way, and how far.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    Forward { wave: usize, step: usize },
    Bake,
    Back { waves: Vec<Vec<u16>>, wave: usize },
}

/// One rollout.
#[derive(Clone, Debug)]
pub(super) struct Course {
    pub(super) id: Uuid,
    pub(super) application: u16,
    pub(super) environment: String,
    pub(super) from: Option<Version>,
    pub(super) to: Version,
    pub(super) spec: Spec,
    pub(super) plan: Plan,
    pub(super) hosts: BTreeMap<u16, Member>,
    pub(super) phase: Phase,
    pub(super) is_paused: bool,
    pub(super) is_held: bool,
    /// Whether a person has said that the step which is under way is done.
    pub(super) is_promoted: bool,
    /// Whether a person has said so of everything to come.
    pub(super) is_promoted_in_full: bool,
    /// How far the cutover of all gates is.
    pub(super) cutover: Option<CutoverPhase>,
    /// Whether edges were told to lead to the group that has the new release. None: not yet.
    pub(super) leads: Option<bool>,
    /// The edges that were switched, as far as they have been edges ever since.
    pub(super) edges: BTreeSet<u16>,
    /// The hosts of the other group that were told to stop.
    pub(super) retired: BTreeSet<u16>,
    pub(super) outcome: Option<Outcome>,
    /// Whether it began by itself.
    pub(super) converges: bool,
    /// Since when what is watched is watched, in true time. None: by what is durable, which is
    /// later than what was decided, so that times say nothing.
    pub(super) since: Option<Moment>,
}

impl Course {
    pub(super) fn new(started: &RolloutStarted, application: u16, now: Moment) -> Self {
        let waves = started.plan.waves.iter().enumerate();
        let hosts = waves
            .flat_map(|(wave, planned)| {
                planned.agents.iter().map(move |agent| (host_of(agent), Member::new(wave)))
            })
            .collect();
        Self {
            id: started.id,
            application,
            environment: started.environment.as_str().to_owned(),
            from: started.from.clone(),
            to: started.to.clone(),
            spec: started.spec.clone(),
            plan: started.plan.clone(),
            hosts,
            phase: Phase::Forward { wave: 0, step: 0 },
            is_paused: false,
            is_held: false,
            is_promoted: false,
            is_promoted_in_full: false,
            cutover: None,
            leads: None,
            edges: BTreeSet::new(),
            retired: BTreeSet::new(),
            outcome: None,
            converges: started.converges,
            since: Some(now),
        }
    }

    /// Returns whether anything of it moves by itself.
    pub(super) const fn moves(&self) -> bool {
        self.outcome.is_none() && !self.is_paused && !self.is_held
    }

    pub(super) const fn goes_back(&self) -> bool {
        matches!(self.phase, Phase::Back { .. })
    }

    pub(super) const fn has_succeeded(&self) -> bool {
        matches!(self.outcome, Some(Outcome::Succeeded))
    }

    /// Returns the groups of hosts that edges go over from one to the other of.
    pub(super) fn groups(&self) -> Option<&Groups> {
        self.spec.groups()
    }

    /// Returns whether no request may get the old release after one got the new one.
    pub(super) fn is_strict(&self) -> bool {
        self.spec.blue_green.as_ref().is_some_and(|how| how.cutover == CutoverMode::Strict)
    }

    /// Returns whether what it goes back to is something else.
    pub(super) fn has_way_back(&self) -> bool {
        self.groups().is_some() || self.from.as_ref() != Some(&self.to)
    }

    /// Returns what a host goes back to. What runs in the environment runs in the other group.
    pub(super) fn back_to(&self, host: u16) -> Option<&Version> {
        let from = self.from.as_ref().filter(|_| self.groups().is_none());
        from.or_else(|| self.hosts.get(&host)?.before.as_ref())
    }

    /// Returns the hosts that stand somewhere.
    pub(super) fn hosts_that(&self, wanted: impl Fn(&Member) -> bool) -> impl Iterator<Item = u16> {
        self.hosts.iter().filter(move |(_, member)| wanted(member)).map(|(host, _)| *host)
    }

    pub(super) fn count(&self, standing: Standing) -> usize {
        self.hosts_that(|member| member.standing == standing).count()
    }

    /// Returns the hosts that are as this rollout has left them: not those which it has not come to,
    /// nor those which were out of reach or drained and get it later.
    pub(super) fn come_to(&self) -> impl Iterator<Item = u16> {
        // People who end what would have come by itself do not want it there.
        let is_refused = self.converges && matches!(self.outcome, Some(Outcome::Aborted));
        self.hosts_that(move |member| match member.standing {
            Standing::Waits => is_refused || member.told > 0,
            Standing::LeftOut => false,
            Standing::Out => member.is_left_alone,
            Standing::Staging { .. }
            | Standing::Staged
            | Standing::Told { .. }
            | Standing::Done
            | Standing::Failed
            | Standing::ToldBack { .. }
            | Standing::Back
            | Standing::Stuck => true,
        })
    }

    /// Returns the step that is under way.
    pub(super) fn step(&self) -> Option<PlanStep> {
        match self.phase {
            Phase::Forward { wave, step } => self.plan.waves.get(wave)?.steps.get(step).copied(),
            Phase::Bake | Phase::Back { .. } => None,
        }
    }

    /// A new process has begun: what was watched is watched anew.
    pub(super) const fn begin_again(&mut self, now: Moment) {
        self.since = Some(now);
    }

    /// A host stands in front of another environment, or of none.
    pub(super) fn is_no_edge(&mut self, host: u16) {
        self.edges.remove(&host);
    }

    pub(super) fn hold(&mut self) {
        // What edges were told after the backup is not known.
        self.edges.clear();
        if self.converges {
            // Nobody is asked about what nobody asked for.
            if self.outcome.is_none() {
                self.outcome = Some(Outcome::Aborted);
            }
        } else if self.outcome.is_none() {
            (self.is_paused, self.is_held) = (false, true);
        }
    }

    pub(super) fn note_goal(&mut self, host: u16, running: Option<&Version>) {
        let Some(member) = self.hosts.get_mut(&host) else { return };
        member.is_withdrawn = false;
        if member.told == 0 {
            member.before = running.cloned();
        }
    }
}

impl Member {
    const fn new(wave: usize) -> Self {
        Self {
            wave,
            standing: Standing::Waits,
            before: None,
            told: 0,
            is_staged: false,
            share: Permille::NONE,
            share_before: Permille::NONE,
            is_withdrawn: false,
            is_left_alone: false,
        }
    }
}
