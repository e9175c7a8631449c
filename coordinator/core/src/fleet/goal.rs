//! The goal that each agent should have for each application.

use std::collections::{BTreeMap, VecDeque};

use cutover_common::{AgentName, ApplicationName, Generation, Slot, Slots, Term, Timers, Version};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

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
    pub slots: Slots<GoalSlot>,
    pub timers: Timers,
    pub rollout: Uuid,
}

impl Goal {
    /// Returns the version that should run.
    pub fn running(&self) -> Option<&Version> {
        running(&self.slots).map(|(_, version)| version)
    }

    /// Returns the slot that should run.
    pub fn running_slot(&self) -> Option<Slot> {
        running(&self.slots).map(|(slot, _)| slot)
    }
}

/// Returns the version that `slots` want to run, and where.
pub(crate) fn running(slots: &Slots<GoalSlot>) -> Option<(Slot, &Version)> {
    slots.iter().find_map(|(slot, held)| match held {
        GoalSlot::Running(version) => Some((slot, version)),
        GoalSlot::Absent | GoalSlot::Prepared(_) => None,
    })
}

/// Returns the slot that holds `version`; of two the one that should run it, as after a restart.
pub(crate) fn slot_of(slots: &Slots<GoalSlot>, version: &Version) -> Option<Slot> {
    let runs = running(slots).filter(|(_, held)| *held == version).map(|(slot, _)| slot);
    let holds = || slots.iter().find(|(_, held)| held.version() == Some(version));
    runs.or_else(|| holds().map(|(slot, _)| slot))
}

/// Returns `slots` with `version` on disk, and what runs left running.
pub(crate) fn with_prepared(slots: &Slots<GoalSlot>, version: &Version) -> Slots<GoalSlot> {
    if slot_of(slots, version).is_some() {
        return slots.clone();
    }
    let mut slots = slots.clone();
    let free = match slots.blue {
        GoalSlot::Running(_) => Slot::Green,
        GoalSlot::Absent | GoalSlot::Prepared(_) => Slot::Blue,
    };
    *slots.of_mut(free) = GoalSlot::Prepared(version.clone());
    slots
}

/// Returns `slots` with `version` running, and what ran before kept on disk beside it (E7).
pub(crate) fn with_running(slots: &Slots<GoalSlot>, version: &Version) -> Slots<GoalSlot> {
    let prepared = with_prepared(slots, version);
    let slot = slot_of(&prepared, version).unwrap_or(Slot::Blue);
    running_in(&prepared, slot, version)
}

/// Returns `slots` with `version` running in `slot`, and what else runs kept on disk (E7).
pub(crate) fn running_in(
    slots: &Slots<GoalSlot>,
    slot: Slot,
    version: &Version,
) -> Slots<GoalSlot> {
    slots.map(|place, held| match held {
        _ if place == slot => GoalSlot::Running(version.clone()),
        GoalSlot::Absent => GoalSlot::Absent,
        GoalSlot::Prepared(held) | GoalSlot::Running(held) => GoalSlot::Prepared(held.clone()),
    })
}

/// Returns `slots` with nothing running and `version` gone: the way back of a first deploy.
pub(crate) fn without(slots: &Slots<GoalSlot>, version: &Version) -> Slots<GoalSlot> {
    slots.map(|_, slot| match slot.version() {
        Some(held) if held != version => GoalSlot::Prepared(held.clone()),
        Some(_) | None => GoalSlot::Absent,
    })
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
            if running(&before.slots) == running(&goal.slots) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn a_replaced_release_stays_on_disk_and_the_one_before_makes_room() {
        let (v1, v2, v3) = (version("1"), version("2"), version("3"));

        let first = with_running(&Slots::default(), &v1);
        let prepared = with_prepared(&first, &v2);
        let second = with_running(&prepared, &v2);
        let back = with_running(&second, &v1);
        let third = with_running(&second, &v3);

        let runs = |slots| running(slots).map(|(_, version)| version);
        assert_eq!(runs(&first), Some(&v1));
        assert_eq!(runs(&prepared), Some(&v1));
        assert_eq!(runs(&second), Some(&v2));
        assert!(second.iter().any(|(_, slot)| *slot == GoalSlot::Prepared(v1.clone())));
        assert_eq!(runs(&back), Some(&v1));
        assert_eq!(runs(&third), Some(&v3));
        assert!(third.iter().any(|(_, slot)| *slot == GoalSlot::Prepared(v2.clone())));
    }

    #[test]
    fn the_way_back_of_a_first_deploy_is_nothing() {
        let v1 = version("1");

        assert_eq!(without(&with_running(&Slots::default(), &v1), &v1), Slots::default());
    }
}
