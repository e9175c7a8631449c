//! Exclude and skip: hosts are taken out of a rollout that is not over.

use std::collections::BTreeSet;

use cutover_common::{AgentName, Timestamp, planted};
use uuid::Uuid;

use super::deploy::refuse;
use crate::{
    action::{Answer, Refusal, RefusalKind},
    coordinator::{Coordinator, Step},
    event::{Change, EventKind},
    fleet::Presence,
    input::{Deed, LeaveOut},
    once::{OnceStep, Stand},
    rollout::{Exclusion, HostState, Rollout, State, story::names},
};

/// What is to be taken out.
pub(super) struct ExcludeOrder {
    pub(super) agents: Vec<AgentName>,
    pub(super) how: LeaveOut,
    pub(super) reason: String,
    /// Names the call.
    pub(super) call: Uuid,
}

impl Coordinator {
    /// From here on the rollout keeps its hands off these hosts, forward and back. One that was
    /// told to switch and has not begun is called back; every other stays as it is (A5).
    pub(super) fn exclude(
        &mut self,
        now: Timestamp,
        by: &str,
        named: &str,
        order: ExcludeOrder,
        step: &mut Step,
    ) -> Result<Answer, Refusal> {
        let ExcludeOrder { agents, how, reason, call } = order;
        if let Some(answer) = self.done_already(named, Deed::LeaveOut(how), call) {
            return answer;
        }
        let rollout = self.find_rollout(named)?;
        let (id, to) = (rollout.id, rollout.to.clone());
        if rollout.is_over() {
            return Err(refuse(
                format!("rollout {id} is over, so no host can be {}", how.participle()),
                format!("see how it ended: cutover why {id}"),
            ));
        }
        let agents = part_of(rollout, agents, how)?;
        if agents.is_empty() {
            let text = "left out already".to_owned();
            return Ok(Answer::Controlled { rollout: id, text });
        }
        self.release_gates(now, id, step);
        // The calling back first: what is stored in part is then done again as a whole.
        planted!(
            ExcludedStillTold: ();
            self.withdraw(now, id, |agent| agents.contains(agent), step)
        );
        let names = names(&agents);
        let (cause, text) = match how {
            LeaveOut::Exclude => {
                let text = format!("excluded, and left as they are: {names}");
                (Exclusion::Operator { by: by.to_owned(), reason }, text)
            }
            LeaveOut::Skip => {
                let text = format!("skipped until {to} has succeeded everywhere else: {names}");
                (Exclusion::Skipped { by: by.to_owned(), reason }, text)
            }
        };
        let left_out = agents.clone();
        let change = Change::HostsExcluded { agents, cause };
        self.record(now, step, EventKind::Rollout { id, change, call: Some(call) });
        self.free_once(now, id, by, &left_out, step);
        Ok(Answer::Controlled { rollout: id, text: text + &self.goes_on_with(id) })
    }

    /// Lets another host run a once hook that one of `agents` was to run and has been lost with:
    /// whoever leaves it out decides that nobody waits for its word.
    fn free_once(
        &mut self,
        now: Timestamp,
        id: Uuid,
        by: &str,
        agents: &[AgentName],
        step: &mut Step,
    ) {
        let Some(rollout) = self.rollouts.get(&id) else { return };
        let Some(once) = self.onces.of(rollout) else { return };
        let is_unknown = match once.stand {
            Stand::Given | Stand::Unclear(_) => once.permit.is_some(),
            Stand::Passed | Stand::Failed | Stand::Freed => false,
        };
        let is_lost = self.fleet.presence(&once.agent) != Presence::Live;
        if is_unknown && is_lost && agents.contains(&once.agent) {
            let freed = OnceStep::Freed { by: by.to_owned() };
            let change = Change::Once { agent: once.agent.clone(), step: freed };
            self.record(now, step, EventKind::Rollout { id, change, call: None });
        }
    }

    /// Says how a rollout that stands goes on, as the end of a sentence.
    fn goes_on_with(&self, id: Uuid) -> String {
        match self.rollouts.get(&id).map(|rollout| &rollout.state) {
            Some(State::Held { .. }) => {
                format!("; it is held, and goes on with: cutover retry {id}")
            }
            Some(State::Paused { .. }) => {
                format!("; it is paused, and goes on with: cutover resume {id}")
            }
            Some(
                State::Advancing { .. }
                | State::Baking { .. }
                | State::RollingBack { .. }
                | State::Ended { .. },
            )
            | None => String::new(),
        }
    }
}

/// Returns those of `agents` that take part in `rollout`, each once.
///
/// # Errors
///
/// Refuses hosts that are not of this rollout, and to leave none.
fn part_of(
    rollout: &Rollout,
    agents: Vec<AgentName>,
    how: LeaveOut,
) -> Result<Vec<AgentName>, Refusal> {
    let is_out = |agent: &AgentName| {
        let host = rollout.hosts.get(agent);
        host.is_some_and(|host| matches!(host.state, HostState::Excluded { .. }))
    };
    let is_done = |agent: &AgentName| {
        let host = rollout.hosts.get(agent);
        host.is_some_and(|host| !host.state.can_be_left_out(how == LeaveOut::Exclude))
    };
    if agents.is_empty() {
        return Err(Refusal::new(
            RefusalKind::Invalid,
            "no host is named",
            format!("name one: cutover {} {} AGENT", how.word(), rollout.id),
        ));
    }
    if let Some(unknown) = agents.iter().find(|agent| !rollout.hosts.contains_key(*agent)) {
        let known = rollout.hosts.keys().map(AgentName::as_str);
        let what = format!("host of rollout {}", rollout.id);
        let list = format!("cutover why {} --output json", rollout.id);
        return Err(Refusal::unknown(&what, unknown.as_str(), known, &list));
    }
    let agents: BTreeSet<AgentName> = agents.into_iter().filter(|agent| !is_done(agent)).collect();
    let is_left = |agent: &AgentName| !is_out(agent) && !agents.contains(agent);
    let takes_one = agents.iter().any(|agent| !is_out(agent));
    if takes_one && !rollout.hosts.keys().any(is_left) {
        return Err(refuse(
            "that would leave no host in the rollout",
            format!("end it: cutover abort {}", rollout.id),
        ));
    }
    Ok(agents.into_iter().collect())
}
