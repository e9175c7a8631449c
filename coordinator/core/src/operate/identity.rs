//! Agents: join, renew, label, remove.

use cutover_common::{AgentName, Labels, Sha256, Timestamp, host::is_label_part, planted};
use uuid::Uuid;

use super::{COUNT_MAX, full};
use crate::{
    action::{Action, Answer, EndReason, Refusal, RefusalKind},
    coordinator::{Coordinator, Step},
    enrolment::JOIN_TOKEN_TTL,
    event::EventKind,
    rollout::Rollout,
};

/// How many labels an agent or an environment may have.
const LABELS_MAX: usize = 64;

/// What an agent shows to join.
pub(super) struct Joining {
    pub(super) token_hash: Sha256,
    pub(super) name: AgentName,
    pub(super) labels: Labels,
    pub(super) enrolment: Uuid,
    pub(super) key_hash: Sha256,
}

/// Refuses labels that are no labels.
pub(super) fn checked_labels(labels: &Labels) -> Result<(), Refusal> {
    let bad = labels.iter().find(|(key, value)| !is_label_part(key) || !is_label_part(value));
    if let Some((key, value)) = bad {
        return Err(Refusal::new(
            RefusalKind::Invalid,
            format!("label {key:?}={value:?} must be 1 to 63 printable characters on each side"),
            "spaces, commas and equals signs are not allowed",
        ));
    }
    if labels.len() > LABELS_MAX {
        return Err(Refusal::new(
            RefusalKind::Invalid,
            format!("{} labels are more than {LABELS_MAX}", labels.len()),
            "",
        ));
    }
    Ok(())
}

/// The one text for a wrong, a used and an expired token: which of them it is would help only
/// somebody who guesses (promises.md §4 row 52).
fn token_refused() -> Refusal {
    Refusal::new(
        RefusalKind::Denied,
        "the join token is not valid: it is wrong, used, expired or for another agent",
        "make a new one with `cutover agents token`; it works once, within 10 minutes",
    )
}

impl Coordinator {
    #[expect(clippy::too_many_arguments, reason = "one request's fields, taken apart once")]
    pub(super) fn create_join_token(
        &mut self,
        now: Timestamp,
        by: &str,
        token_hash: Sha256,
        name: Option<AgentName>,
        labels: Labels,
        expires: Timestamp,
        step: &mut Step,
    ) -> Result<Answer, Refusal> {
        checked_labels(&labels)?;
        if let Some(name) = &name
            && self.enrolments.agents.contains_key(name)
        {
            return Err(name_taken(name));
        }
        if self.enrolments.tokens.len() >= COUNT_MAX {
            return Err(full("join tokens"));
        }
        let expires = expires.min(now + JOIN_TOKEN_TTL);
        let by = by.to_owned();
        let kind = EventKind::JoinTokenCreated { token_hash, name, labels, expires, by };
        self.record(now, step, kind);
        Ok(Answer::Done)
    }

    /// Lets an agent in. Labels that the token carries win over those the agent asks for, and an
    /// agent cannot add any to a token that has some: an agent must not label itself into
    /// production (S2).
    pub(super) fn join(
        &mut self,
        now: Timestamp,
        joining: Joining,
        step: &mut Step,
    ) -> Result<(AgentName, Uuid), Refusal> {
        let Joining { token_hash, name, labels, enrolment, key_hash } = joining;
        let token = self.enrolments.tokens.get(&token_hash).ok_or_else(token_refused)?;
        let is_expired = planted!(ExpiredTokenAccepted: false; token.expires <= now);
        if is_expired || token.name.as_ref().is_some_and(|only| *only != name) {
            return Err(token_refused());
        }
        if let Some(used) = planted!(TokenWorksTwice: &None; &token.used) {
            // The same key again: the answer was lost on its way. Anybody else: refused.
            let enrolled = self.enrolments.agents.get(&name);
            let is_enrolled = enrolled.is_some_and(|it| it.enrolment == used.enrolment);
            if used.key_hash == key_hash && used.agent == name && is_enrolled {
                return Ok((name, used.enrolment));
            }
            return Err(token_refused());
        }
        if self.enrolments.agents.contains_key(&name) {
            return Err(name_taken(&name));
        }
        if self.enrolments.agents.len() >= COUNT_MAX {
            return Err(full("agents"));
        }
        let labels = if token.labels.is_empty() { labels } else { token.labels.clone() };
        checked_labels(&labels)?;
        let agent = name.clone();
        let kind = EventKind::AgentJoined { agent, enrolment, labels, token_hash, key_hash };
        self.record(now, step, kind);
        step.actions.push(self.valid_enrolments());
        step.actions.push(Action::Changed);
        Ok((name, enrolment))
    }

    pub(super) fn renew(&self, agent: &AgentName, enrolment: Uuid) -> Result<(), Refusal> {
        let enrolled = self.enrolments.agents.get(agent);
        if enrolled.is_some_and(|enrolled| enrolled.enrolment == enrolment) {
            return Ok(());
        }
        Err(Refusal::new(
            RefusalKind::Denied,
            format!("agent {agent} was removed"),
            "join again with a new token",
        ))
    }

    /// Refuses an agent that is not enrolled, with the nearest that is.
    ///
    /// # Errors
    ///
    /// See above.
    pub fn known_agent(&self, agent: &AgentName) -> Result<(), Refusal> {
        if self.enrolments.agents.contains_key(agent) {
            return Ok(());
        }
        let known = self.enrolments.agents.keys().map(AgentName::as_str);
        Err(Refusal::unknown("agent", agent.as_str(), known, "cutover agents list"))
    }

    pub(super) fn label_agent(
        &mut self,
        now: Timestamp,
        by: &str,
        agent: &AgentName,
        set: Labels,
        unset: &[String],
        step: &mut Step,
    ) -> Result<Answer, Refusal> {
        self.known_agent(agent)?;
        self.not_rolling_out(agent, "relabelled")?;
        let mut labels =
            self.enrolments.agents.get(agent).map(|it| it.labels.clone()).unwrap_or_default();
        labels.retain(|key, _| !unset.contains(key));
        labels.extend(set);
        checked_labels(&labels)?;
        self.make_way(now, by, |rollout| rollout.hosts.contains_key(agent), agent, step);
        let (agent, by) = (agent.clone(), by.to_owned());
        self.record(now, step, EventKind::AgentLabelled { agent, labels, by });
        Ok(Answer::Done)
    }

    pub(super) fn remove_agent(
        &mut self,
        now: Timestamp,
        by: &str,
        agent: &AgentName,
        step: &mut Step,
    ) -> Result<Answer, Refusal> {
        self.known_agent(agent)?;
        self.not_rolling_out(agent, "removed")?;
        self.make_way(now, by, |rollout| rollout.hosts.contains_key(agent), agent, step);
        let (name, by) = (agent.clone(), by.to_owned());
        self.record(now, step, EventKind::AgentRemoved { agent: name, by });
        if let Some(session) = self.fleet.session(agent) {
            let reason = EndReason {
                reason: cutover_common::wire::FarewellReason::Removed,
                text: format!("agent {agent} was removed; its applications keep running"),
            };
            step.actions.push(Action::EndSession { session, reason });
        }
        self.fleet.forget(agent);
        step.actions.push(self.valid_enrolments());
        Ok(Answer::Done)
    }

    /// A host in the middle of a rollout that somebody asked for keeps its place until that is over
    /// (F6).
    fn not_rolling_out(&self, agent: &AgentName, what: &str) -> Result<(), Refusal> {
        let takes_part =
            |rollout: &&Rollout| !rollout.converges && rollout.hosts.contains_key(agent);
        match self.active().find(takes_part) {
            None => Ok(()),
            Some(rollout) => Err(Refusal::new(
                RefusalKind::State,
                format!("agent {agent} cannot be {what}: it takes part in rollout {}", rollout.id),
                format!("wait for it, or end it: cutover abort {}", rollout.id),
            )),
        }
    }
}

fn name_taken(name: &AgentName) -> Refusal {
    Refusal::new(
        RefusalKind::Exists,
        format!("there is an agent {name} already"),
        format!("choose another name, or remove it first: cutover agents remove {name}"),
    )
}
