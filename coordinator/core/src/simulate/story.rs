//! Story: a rollout's own history, with what happens to many hosts at one moment in one line.

use cutover_common::{AgentName, Timestamp};

use crate::{
    event::Change,
    rollout::{Rollout, story},
};

/// What happened, line by line.
#[derive(Clone, Debug, Default)]
pub(super) struct Story(Vec<Line>);

#[derive(Clone, Debug)]
struct Line {
    at: Timestamp,
    told: Told,
}

#[derive(Clone, Debug)]
enum Told {
    Text(String),
    Many(Many, Vec<AgentName>),
}

/// What becomes of host after host.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Many {
    Staged,
    Updated,
    Reverted,
}

impl Story {
    /// Notes what the rollout tells of itself.
    pub(super) fn note(&mut self, at: Timestamp, text: String) {
        self.0.push(Line { at, told: Told::Text(text) });
    }

    /// Notes a change, of which the rollout tells `text`.
    pub(super) fn note_change(
        &mut self,
        at: Timestamp,
        rollout: &Rollout,
        change: &Change,
        text: String,
    ) {
        let Some((many, agent)) = of_many(change) else {
            self.note(at, text);
            return;
        };
        if let Some(Line { at: last, told: Told::Many(same, agents) }) = self.0.last_mut()
            && *last == at
            && *same == many
            // Each may go back to its own.
            && agents.first().map(|agent| rollout.back_to(agent)) == Some(rollout.back_to(agent))
        {
            agents.push(agent.clone());
            return;
        }
        self.0.push(Line { at, told: Told::Many(many, vec![agent.clone()]) });
    }

    /// Returns all lines, of the rollout that they are of.
    pub(super) fn lines(self, rollout: &Rollout) -> impl Iterator<Item = (Timestamp, String)> {
        self.0.into_iter().map(|Line { at, told }| {
            let text = match told {
                Told::Text(text) => text,
                Told::Many(Many::Staged, agents) => story::staged(rollout, &agents),
                Told::Many(Many::Updated, agents) => story::updated(rollout, &agents),
                Told::Many(Many::Reverted, agents) => story::reverted(rollout, &agents),
            };
            (at, text)
        })
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "all others are told one by one")]
const fn of_many(change: &Change) -> Option<(Many, &AgentName)> {
    match change {
        Change::HostStaged { agent } => Some((Many::Staged, agent)),
        Change::HostUpdated { agent } => Some((Many::Updated, agent)),
        Change::HostReverted { agent } => Some((Many::Reverted, agent)),
        _ => None,
    }
}
