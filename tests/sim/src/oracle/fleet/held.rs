//! D1, F6: what a core holds is what its store holds.

use cutover_coordinator_core::{
    Coordinator,
    rollout::{HostState, Rollout, State},
};

use super::{
    course::{Course, Phase, Standing},
    ledger::{Ledger, host_of},
};
use crate::oracle::Violation;

impl Ledger {
    /// Judges that a core holds all of this, and nothing that moves beside it.
    pub(super) fn is_held_by(&self, core: &Coordinator) -> Result<(), Violation> {
        let broken = |what: String| Err(Violation::new("D1", what));
        if core.term().0 != self.term {
            return broken(format!("term {} is stored, and {} is held", self.term, core.term().0));
        }
        for course in self.courses.values() {
            let Some(rollout) = core.rollout(course.id) else {
                return broken(format!("rollout {} is stored, and not held", course.id));
            };
            course.is_held_as(rollout)?;
        }
        if let Some(other) = core.active().find(|other| !self.courses.contains_key(&other.id)) {
            return broken(format!("rollout {} is held, and not stored", other.id));
        }
        let agents = core.agents().map(|(agent, enrolled)| {
            (host_of(agent), enrolled.enrolment, core.enrolments().drain(agent).is_some())
        });
        let stored = self.by_name().map(|(host, agent)| (host, agent.enrolment, agent.is_drained));
        if !agents.eq(stored) {
            return broken("other agents are held than are stored".to_owned());
        }
        for (name, _, stable) in core.environments() {
            let number = self.number_of(name.as_str());
            let stored = self.stable.get(&number);
            if stable.map(|(_, version)| version).next() != stored {
                return broken(format!("{name} is not stable at {stored:?}"));
            }
        }
        self.queue.are_held_by(core)?;
        self.goals_are_held_by(core)
    }

    fn goals_are_held_by(&self, core: &Coordinator) -> Result<(), Violation> {
        let held = core.agents().map(|(agent, _)| core.goals().of_agent(agent).count());
        if held.sum::<usize>() != self.goals.len() {
            return Err(Violation::new("D1", "other goals are held than are stored"));
        }
        for (agent, _) in core.agents() {
            for (application, goal) in core.goals().of_agent(agent) {
                let key = (host_of(agent), self.number_of(application.as_str()));
                let is_same = self.goals.get(&key).is_some_and(|stored| {
                    stored.generation == goal.generation.0
                        && stored.slots == goal.wanted.slots
                        && stored.route == goal.wanted.route
                });
                if !is_same {
                    let text = format!("{application} on {agent} has another goal than is stored");
                    return Err(Violation::new("D1", text));
                }
            }
        }
        Ok(())
    }
}

impl Course {
    fn is_held_as(&self, rollout: &Rollout) -> Result<(), Violation> {
        if rollout.plan != self.plan || rollout.spec != self.spec || rollout.to != self.to {
            return Err(Violation::new("F6", format!("the plan of {} has changed", self.id)));
        }
        let is_same = match (&rollout.state, self.outcome) {
            (State::Ended { outcome, .. }, Some(stored)) => {
                if *outcome != stored {
                    return Err(Violation::new("E5", format!("the end of {} changed", self.id)));
                }
                true
            }
            (State::Ended { .. }, None) => false,
            (_, Some(_)) => {
                return Err(Violation::new("E5", format!("{} was over, and goes on", self.id)));
            }
            (State::Paused { was, .. }, None) => self.is_paused && self.is_at(was),
            (State::Held { was, .. }, None) => self.is_held && self.is_at(was),
            (state, None) => self.moves() && self.is_at(state),
        };
        let hosts = rollout.hosts.iter().all(|(agent, host)| {
            let member = self.hosts.get(&host_of(agent));
            member.is_some_and(|member| {
                is_same_standing(member.standing, &host.state) && member.before == host.before
            })
        });
        if is_same && hosts && rollout.hosts.len() == self.hosts.len() {
            return Ok(());
        }
        let text =
            format!("rollout {} is held as {:?}, and stored as {self:?}", self.id, rollout.state);
        Err(Violation::new("D1", text))
    }

    fn is_at(&self, state: &State) -> bool {
        match (state, &self.phase) {
            (State::Advancing { wave, step, .. }, Phase::Forward { wave: w, step: s }) => {
                (wave, step) == (w, s)
            }
            (State::Baking { .. }, Phase::Bake) => true,
            (State::RollingBack { wave, .. }, Phase::Back { wave: w, .. }) => wave == w,
            _ => false,
        }
    }
}

const fn is_same_standing(standing: Standing, state: &HostState) -> bool {
    matches!(
        (standing, state),
        (Standing::Waits, HostState::Pending)
            | (Standing::Staging { .. }, HostState::Staging { .. })
            | (Standing::Staged, HostState::Staged)
            | (Standing::Told { .. }, HostState::Updating { .. })
            | (Standing::Done, HostState::Updated)
            | (Standing::Failed, HostState::Failed { .. })
            | (Standing::LeftOut, HostState::Unreachable { .. })
            | (Standing::ToldBack { .. }, HostState::Reverting { .. })
            | (Standing::Back, HostState::Reverted)
            | (Standing::Stuck, HostState::Stuck { .. })
            | (Standing::Out, HostState::Excluded { .. })
    )
}
