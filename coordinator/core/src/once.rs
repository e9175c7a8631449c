//! Once: how the `once` hooks of releases stand in each environment. Remembered for ever: what has
//! passed is never run again there.

use std::collections::BTreeMap;

use cutover_common::{
    AgentName, ApplicationName, EnvironmentName, Generation, OncePart, Version, planted,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    event::Change,
    rollout::{Direction, HostState, Rollout},
};

/// What a goal says of the `once` hook of a release that is to run and has not passed.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct OnceGoal {
    pub version: Version,
    pub part: OncePart,
}

/// What became of a `once` hook.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub enum OnceStep {
    /// The host is to run it for all, and no other one is.
    Given,
    /// It is never run in the environment again.
    Passed,
    Failed,
    /// Nobody knows what it has done.
    Interrupted,
    /// The host is out of reach, and has not said how it ended, or whether it began.
    Lost,
    /// The host may have run it, and the log of that was lost with a restore from a backup.
    Forgotten,
    /// A person says that it may be run again, by whatever host.
    Freed {
        by: String,
    },
}

/// The `once` hook of a release in an environment, since a host was chosen for it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Once {
    pub agent: AgentName,
    /// Since which of its goals the host may run it. None: it has no such goal yet.
    pub permit: Option<Generation>,
    /// The rollout that gave it to the host.
    pub rollout: Uuid,
    pub stand: Stand,
}

/// How it stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stand {
    Given,
    Passed,
    /// It is run again by another rollout, or when a person says so.
    Failed,
    /// Only a person lets it be run again.
    Unclear(Unclear),
    /// A person has said that it may be run again.
    Freed,
}

/// Why nobody knows what a hook has done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unclear {
    Interrupted,
    Lost,
    Forgotten,
}

/// A release in an environment, as it was pushed: what it has done there is done with every config.
type Place = (EnvironmentName, ApplicationName, Version);

/// All of them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Onces(BTreeMap<Place, Once>);

fn place(rollout: &Rollout) -> Place {
    (rollout.environment.clone(), rollout.application.clone(), rollout.to.pushed())
}

impl Onces {
    /// Returns how the hook of the release of `rollout` stands in its environment. None: no host
    /// was ever chosen.
    pub fn of(&self, rollout: &Rollout) -> Option<&Once> {
        self.get(&rollout.environment, &rollout.application, &rollout.to)
    }

    /// Returns how the hook of a release stands in an environment.
    pub fn get(
        &self,
        environment: &EnvironmentName,
        application: &ApplicationName,
        version: &Version,
    ) -> Option<&Once> {
        self.0.get(&(environment.clone(), application.clone(), version.pushed()))
    }

    /// Returns what is known of one application in one environment.
    pub(crate) fn part(
        &self,
        environment: &EnvironmentName,
        application: &ApplicationName,
    ) -> Self {
        let is_meant = |place: &Place| place.0 == *environment && place.1 == *application;
        let meant = self.0.iter().filter(|(place, _)| is_meant(place));
        Self(meant.map(|(place, once)| (place.clone(), once.clone())).collect())
    }

    /// Takes what a change of `rollout` means for the hook of its release.
    pub(crate) fn note(&mut self, rollout: &Rollout, change: &Change) {
        if let Change::Once { agent, step } = change {
            self.take(rollout, agent, step);
        }
        if matches!(change, Change::Retried { .. }) && rollout.direction() == Direction::Forward {
            self.retried(rollout);
        }
    }

    fn take(&mut self, rollout: &Rollout, agent: &AgentName, step: &OnceStep) {
        let place = place(rollout);
        let stand = match step {
            OnceStep::Given => Stand::Given,
            OnceStep::Passed => Stand::Passed,
            OnceStep::Failed => Stand::Failed,
            OnceStep::Interrupted => Stand::Unclear(Unclear::Interrupted),
            OnceStep::Lost => Stand::Unclear(Unclear::Lost),
            OnceStep::Forgotten => Stand::Unclear(Unclear::Forgotten),
            OnceStep::Freed { .. } => Stand::Freed,
        };
        let anew = Once { agent: agent.clone(), permit: None, rollout: rollout.id, stand };
        match self.0.get_mut(&place) {
            Some(once) if stand != Stand::Given => once.stand = stand,
            Some(_) | None => drop(self.0.insert(place, anew)),
        }
    }

    /// Takes that a person sends what did not come through again.
    fn retried(&mut self, rollout: &Rollout) {
        if let Some(once) = self.0.get_mut(&place(rollout)) {
            let host = rollout.hosts.get(&once.agent);
            let takes_part =
                host.is_some_and(|host| !matches!(host.state, HostState::Excluded { .. }));
            once.stand = match once.stand {
                Stand::Failed | Stand::Unclear(_) => Stand::Freed,
                // Whoever left that host out has seen that it is waited for.
                Stand::Given if !takes_part => Stand::Freed,
                stand @ (Stand::Given | Stand::Passed | Stand::Freed) => stand,
            };
        }
    }

    /// Takes a goal of `agent` that says what it has to do with hooks.
    pub(crate) fn told(&mut self, rollout: &Rollout, agent: &AgentName, goals: &[OnceGoal]) {
        let own = goals.iter().find(|goal| goal.version == rollout.to);
        if let Some(OnceGoal { part: OncePart::Run { permit }, .. }) = own
            && let Some(once) = self.0.get_mut(&place(rollout))
            && once.agent == *agent
        {
            // Whoever told the host last is to hear how it ends.
            (once.permit, once.rollout) = (Some(*permit), rollout.id);
        }
    }

    /// Takes that the host of `agent` is gone for good: one that comes under its name is another.
    pub(crate) fn host_is_gone(&mut self, agent: &AgentName) {
        let is_its = |once: &&mut Once| {
            once.agent == *agent && once.stand == Stand::Given && once.permit.is_some()
        };
        for once in self.0.values_mut().filter(is_its) {
            once.stand = Stand::Unclear(Unclear::Lost);
        }
    }

    /// Returns whether it is known in which environment `agent` ran the hook of a release by
    /// `permit`.
    pub(crate) fn explains(
        &self,
        rollout: &Rollout,
        agent: &AgentName,
        permit: Generation,
    ) -> bool {
        let is_it = |once: &Once| once.agent == *agent && once.permit == Some(permit);
        self.anywhere(rollout).any(is_it)
    }

    /// Returns whether the hook of the release of `rollout` has passed in another environment, from
    /// which a host that runs it may come.
    pub(crate) fn has_passed_elsewhere(&self, rollout: &Rollout) -> bool {
        self.anywhere(rollout).any(|once| once.stand == Stand::Passed)
    }

    fn anywhere(&self, rollout: &Rollout) -> impl Iterator<Item = &Once> {
        let (application, version) = (rollout.application.clone(), rollout.to.pushed());
        let is_of = move |place: &Place| place.1 == application && place.2 == version;
        self.0.iter().filter(move |(place, _)| is_of(place)).map(|(_, once)| once)
    }

    /// Returns what a host has to do with the hook of `version`, which is to run there but is not
    /// what `rollout` brings: what was given up before its hook had passed is not started.
    pub(crate) fn part_of_other(&self, rollout: &Rollout, version: &Version) -> Option<OncePart> {
        let once = self.get(&rollout.environment, &rollout.application, version)?;
        (once.stand != Stand::Passed).then_some(OncePart::Awaited)
    }

    /// Returns what `agent` has to do with the hook of the release of `rollout`, which has one, when
    /// it gets a goal of `generation` that wants the release to run.
    pub(crate) fn part_of(
        &self,
        rollout: &Rollout,
        agent: &AgentName,
        generation: Generation,
    ) -> Option<OncePart> {
        let awaited = planted!(OnceNotAwaited: None; Some(OncePart::Awaited));
        let Some(once) = self.of(rollout) else { return awaited };
        match once.stand {
            Stand::Passed => None,
            Stand::Given if once.agent == *agent => {
                Some(OncePart::Run { permit: once.permit.unwrap_or(generation) })
            }
            Stand::Given | Stand::Failed | Stand::Unclear(_) | Stand::Freed => awaited,
        }
    }
}
