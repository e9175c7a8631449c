//! The goal that each agent should have for each application.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cutover_common::{
    AgentName, ApplicationName, Generation, OncePart, Slot, Term, Timers, Version,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Wanted;
use crate::once::OnceGoal;

/// What a slot should hold. Names the release by its version: the release itself is immutable.
#[derive(Clone, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
pub enum GoalSlot {
    #[default]
    Absent,
    Prepared(Version),
    Running(Version),
}

impl GoalSlot {
    /// Returns the version that the slot should hold.
    pub const fn version(&self) -> Option<&Version> {
        match self {
            Self::Absent => None,
            Self::Prepared(version) | Self::Running(version) => Some(version),
        }
    }
}

/// The whole goal of one application on one agent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Goal {
    pub generation: Generation,
    /// The latest generation of before the last restore that this coordinator knows of: it was in
    /// the backup, or the agent told of it before a goal was set above it.
    pub known_before: Generation,
    /// Whether it was set in the knowledge of what the agent held: it had told, or there was never
    /// a restore that could have forgotten a goal.
    pub is_informed: bool,
    /// The first generation since which what should run is the same. An agent that has not seen
    /// those after it leaves alone what it runs.
    pub steady_since: Generation,
    pub wanted: Wanted,
    pub timers: Timers,
    pub rollout: Uuid,
    /// What the host has to do with once hooks that have not passed.
    pub once: Vec<OnceGoal>,
}

impl Goal {
    /// Returns what the host has to do with the once hook of `version`.
    pub fn once_of(&self, version: &Version) -> Option<OncePart> {
        self.once.iter().find(|once| once.version == *version).map(|once| once.part)
    }

    /// Returns the version that clients are to get, but for a share.
    pub fn running(&self) -> Option<&Version> {
        self.wanted.leads().map(|(_, version)| version)
    }

    /// Returns the slot that they are to get it from.
    pub fn running_slot(&self) -> Option<Slot> {
        self.wanted.leads().map(|(slot, _)| slot)
    }
}

/// All goals.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Goals {
    goals: BTreeMap<AgentName, BTreeMap<ApplicationName, Goal>>,
    /// The term of the last restore; zero if there was none.
    restored: Term,
    /// The goals of agents that were removed, the last one at the end. One may join again, and
    /// still hold its goal and run what it says: the next one follows it. Nobody is shown these.
    former: VecDeque<(AgentName, BTreeMap<ApplicationName, Goal>)>,
    /// The latest generation of those that are not kept any more.
    forgotten: Generation,
}

/// Of how many removed agents the goals are kept: as many as a large fleet replaces in a month.
const FORMER_MAX: usize = 4_096;

impl Goals {
    /// Returns the goal of `application` on `agent`.
    pub fn of(&self, agent: &AgentName, application: &ApplicationName) -> Option<&Goal> {
        self.goals.get(agent)?.get(application)
    }

    /// Returns the goals of `application` on these agents.
    pub(crate) fn part(&self, agents: &[AgentName], application: &ApplicationName) -> Self {
        let only = |goals: &BTreeMap<ApplicationName, Goal>| {
            let goal = goals.get(application)?.clone();
            Some(BTreeMap::from([(application.clone(), goal)]))
        };
        let meant: BTreeSet<&AgentName> = agents.iter().collect();
        let goals =
            meant.iter().filter_map(|agent| Some(((*agent).clone(), self.goals.get(*agent)?)));
        let former = self.former.iter().filter(|(agent, _)| meant.contains(agent));
        Self {
            goals: goals.filter_map(|(agent, goals)| Some((agent, only(goals)?))).collect(),
            restored: self.restored,
            former: former
                .filter_map(|(agent, goals)| Some((agent.clone(), only(goals)?)))
                .collect(),
            forgotten: self.forgotten,
        }
    }

    /// Returns the latest goal of `application` on `agent`, also if the agent was removed since:
    /// what the next one follows.
    pub(crate) fn last(&self, agent: &AgentName, application: &ApplicationName) -> Option<&Goal> {
        let former = || self.former.iter().find(|(name, _)| name == agent);
        self.of(agent, application).or_else(|| former()?.1.get(application))
    }

    /// Returns the latest generation that may have been given to `agent` for `application`.
    pub(crate) fn last_generation(
        &self,
        agent: &AgentName,
        application: &ApplicationName,
    ) -> Generation {
        self.last(agent, application).map_or(self.forgotten, |goal| goal.generation)
    }

    /// Returns all goals of `agent`.
    pub fn of_agent(&self, agent: &AgentName) -> impl Iterator<Item = (&ApplicationName, &Goal)> {
        self.goals.get(agent).into_iter().flatten()
    }

    /// Returns the latest generation that an agent whose goal is `goal` can have accepted in `term`
    /// without being ahead of this coordinator.
    ///
    /// What was accepted before a restore must have been in the backup, or been told of before a
    /// goal was set above it: a goal that was set since, without a word of the agent, says nothing
    /// of what the agent was told in between (F7).
    pub fn known(&self, goal: Option<&Goal>, term: Term) -> Generation {
        let is_of_before = term < self.restored;
        goal.map_or(
            Generation(0),
            |goal| {
                if is_of_before { goal.known_before } else { goal.generation }
            },
        )
    }

    /// The store was made from a backup, and goes on in `term`.
    pub(crate) fn restore(&mut self, term: Term) {
        self.restored = term;
        let former = self.former.iter_mut().map(|(_, goals)| goals);
        for goal in self.goals.values_mut().chain(former).flat_map(BTreeMap::values_mut) {
            // Of one that was set in the dark the agent may hold another of the same number.
            if std::mem::take(&mut goal.is_informed) {
                goal.known_before = goal.generation;
            }
        }
    }

    /// Returns whether the store was ever made from a backup.
    pub(crate) fn was_restored(&self) -> bool {
        self.restored != Term::default()
    }

    pub(crate) fn set(&mut self, agent: AgentName, application: ApplicationName, mut goal: Goal) {
        goal.is_informed |= self.restored == Term::default();
        if let Some(before) = self.last(&agent, &application) {
            goal.known_before = goal.known_before.max(before.known_before);
            goal.is_informed |= before.is_informed;
            if before.wanted.leads() == goal.wanted.leads() {
                goal.steady_since = before.steady_since;
            }
        }
        self.goals.entry(agent).or_default().insert(application, goal);
    }

    pub(crate) fn forget(&mut self, agent: &AgentName) {
        let before = self.former.iter().position(|(name, _)| name == agent);
        let mut goals =
            before.and_then(|at| self.former.remove(at)).map_or_else(BTreeMap::new, |it| it.1);
        goals.extend(self.goals.remove(agent).unwrap_or_default());
        self.former.push_back((agent.clone(), goals));
        if self.former.len() > FORMER_MAX
            && let Some((_, oldest)) = self.former.pop_front()
        {
            let last = oldest.values().map(|goal| goal.generation).max().unwrap_or_default();
            self.forgotten = self.forgotten.max(last);
        }
    }
}
