//! Control: what an operator does to a rollout.

use std::collections::BTreeMap;

use cutover_common::{AgentName, Timestamp, Version, planted};
use uuid::Uuid;

use super::{again::same_options, deploy::refuse, queue::Found};
use crate::{
    action::{Answer, Refusal, RefusalKind},
    coordinator::{Coordinator, Step},
    event::{Change, EventKind},
    fleet::Wanted,
    input::{Deed, DeployOrder, IfBusy, Verb, WithConfig},
    queue::Queued,
    rollout::{
        Cause, Direction, Host, HostState, Outcome, Rollout, State,
        decide::{Decision, not_begun, release, way_back},
        story,
    },
};

/// What is to be done to a rollout.
pub(super) struct ControlOrder {
    pub(super) verb: Verb,
    pub(super) reason: String,
    /// Names the call; a rollout that it starts has this id.
    pub(super) call: Uuid,
    /// What becomes of that while another is under way.
    pub(super) if_busy: IfBusy,
}

impl Coordinator {
    pub(super) fn control(
        &mut self,
        now: Timestamp,
        by: &str,
        named: &str,
        order: ControlOrder,
        step: &mut Step,
    ) -> Result<Answer, Refusal> {
        if let Some(answer) = self.done_already(named, Deed::Control(order.verb), order.call) {
            return answer;
        }
        let rollout = match self.find(named)? {
            Found::Rollout(rollout) => rollout,
            Found::Queued(queued) => {
                return self.control_queued(now, by, queued.id, &order, step);
            }
        };
        let id = rollout.id;
        if rollout.is_over() {
            self.in_one_environment(named)?;
            return self.control_ended(now, by, id, &order, step);
        }
        let text = match order.verb {
            Verb::Pause => self.pause(now, (by, order.call), id, order.reason, step)?,
            Verb::Resume => self.resume(now, (by, order.call), id, step)?,
            Verb::Abort => self.abort(now, (by, Some(order.call)), id, &order.reason, step),
            Verb::Retry => self.retry(now, (by, order.call), id, step)?,
            Verb::Rollback => self.roll_back(now, (by, order.call), id, order.reason, step)?,
            Verb::Promote { full } => {
                self.promote(now, (by, order.call), id, (order.reason, full), step)?
            }
        };
        Ok(Answer::Controlled { rollout: id, text })
    }

    /// Answers a call that was made before: its answer was lost, and what it asked for is done. A
    /// name may mean another rollout by now, so that the call is looked for first (E1).
    pub(super) fn done_already(
        &self,
        named: &str,
        deed: Deed,
        call: Uuid,
    ) -> Option<Result<Answer, Refusal>> {
        if let Deed::Control(verb) = deed
            && let Some(text) = self.begun_by(named, verb, call)
        {
            return Some(Ok(Answer::Controlled { rollout: call, text }));
        }
        let done = self.rollouts.values().find_map(|rollout| {
            let (_, done) = rollout.calls.iter().find(|(known, _)| *known == call)?;
            Some((Found::Rollout(rollout), *done))
        });
        let (rollout, done) = done.or_else(|| Some((self.taken_out_by(call)?, ABORTED)))?;
        let id = rollout.id();
        let is_named = rollout.application().as_str() == named
            || id.to_string().starts_with(&named.to_ascii_lowercase());
        if done == deed && is_named {
            let what = match deed {
                Deed::Control(verb) => participle(verb),
                Deed::LeaveOut(how) => how.participle(),
            };
            let text = format!("{what} already, by this very request");
            return Some(Ok(Answer::Controlled { rollout: id, text }));
        }
        let what = match done {
            Deed::Control(verb) => format!("rollout {id} was {}", participle(verb)),
            Deed::LeaveOut(how) => format!("hosts were {} in rollout {id}", how.participle()),
        };
        Some(Err(Refusal::new(
            RefusalKind::Invalid,
            format!("by this request id {what}"),
            "leave the request id out, or give a new one",
        )))
    }

    /// Returns what is said of the rollout that this very call has started, or queued, in the place of
    /// the one that it names.
    fn begun_by(&self, named: &str, verb: Verb, call: Uuid) -> Option<String> {
        let begun = self.rollouts.get(&call).filter(|begun| begun.request_id == call);
        let queued = || self.queue.get(call).filter(|queued| queued.request_id == call);
        let (it, text) = match begun {
            Some(begun) => (Found::Rollout(begun), started_anew(&begun.to)),
            None => {
                let queued = queued()?;
                (Found::Queued(queued), queued_anew(&queued.order.version))
            }
        };
        let is_place = |found: Found<'_>| {
            found.application() == it.application() && found.environment() == it.environment()
        };
        let is_named = it.application().as_str() == named || self.find(named).is_ok_and(is_place);
        (is_named && starts_anew(verb)).then_some(text)
    }

    /// Returns the rollout that this very call has taken out of a queue.
    fn taken_out_by(&self, call: Uuid) -> Option<Found<'_>> {
        let is_it =
            |queued: &&Queued| queued.left.as_ref().is_some_and(|left| left.call == Some(call));
        self.queue.all().find(is_it).map(Found::Queued)
    }

    /// Refuses an application's name where it could mean several environments: whoever types
    /// `rollback web` may not have the one in mind that was deployed to last.
    fn in_one_environment(&self, named: &str) -> Result<(), Refusal> {
        let mut newest = BTreeMap::new();
        let is_it = |it: &&Rollout| it.application.as_str() == named && !it.converges;
        let of_name = self.rollouts.values().filter(is_it);
        for rollout in of_name {
            let place = newest.entry(&rollout.environment).or_insert(rollout);
            if place.number < rollout.number {
                *place = rollout;
            }
        }
        if newest.len() < 2 {
            return Ok(());
        }
        let list: Vec<String> =
            newest.values().map(|it| format!("{} in {}", it.id, it.environment)).collect();
        Err(Refusal::new(
            RefusalKind::Invalid,
            format!("{named} was deployed to {} environments", newest.len()),
            format!("name the rollout: {}", list.join(", ")),
        ))
    }

    fn pause(
        &mut self,
        now: Timestamp,
        (by, call): (&str, Uuid),
        id: Uuid,
        reason: String,
        step: &mut Step,
    ) -> Result<String, Refusal> {
        let state = self.rollouts.get(&id).map(|rollout| &rollout.state);
        match state {
            Some(State::Paused { .. }) => return Ok("it is paused already".to_owned()),
            Some(State::Held { .. }) => {
                return Err(refuse(
                    "it is held: nothing moves until somebody decides",
                    format!("see why: cutover why {id}"),
                ));
            }
            Some(
                State::Advancing { .. }
                | State::Baking { .. }
                | State::RollingBack { .. }
                | State::Ended { .. },
            )
            | None => {}
        }
        self.release_gates(now, id, step);
        planted!(PauseDoesNotWithdraw: (); self.withdraw(now, id, |_| true, step));
        let by = by.to_owned();
        let change = Change::Paused { by, reason };
        self.record(now, step, EventKind::Rollout { id, change, call: Some(call) });
        Ok("paused: hosts that have begun finish, no other begins".to_owned())
    }

    /// Lets gates go on that hold requests for a cutover: nobody waits for a person.
    pub(super) fn release_gates(&mut self, now: Timestamp, id: Uuid, step: &mut Step) {
        let Some(rollout) = self.rollouts.get(&id) else { return };
        let members = self.led_to(&rollout.environment, &rollout.application);
        let decision = release(rollout, self.scene(now, &members));
        if let Some(Decision::Record { change, goals }) = decision {
            self.record(now, step, EventKind::Rollout { id, change, call: None });
            self.set_goals(now, step, id, goals);
        }
    }

    /// Calls back those of the `wanted` hosts that were told to switch and have not begun (A5).
    pub(super) fn withdraw(
        &mut self,
        now: Timestamp,
        id: Uuid,
        wanted: impl Fn(&AgentName) -> bool,
        step: &mut Step,
    ) {
        let Some(rollout) = self.rollouts.get(&id) else { return };
        let members = self.led_to(&rollout.environment, &rollout.application);
        let mut agents = not_begun(rollout, self.scene(now, &members));
        agents.retain(wanted);
        if agents.is_empty() {
            return;
        }
        let application = rollout.application.clone();
        let goals = agents
            .iter()
            .map(|agent| {
                let goal = self.goals.of(agent, &application);
                let wanted = goal.map(|goal| goal.wanted.clone()).unwrap_or_default();
                (agent.clone(), rollout.stay(agent, &wanted))
            })
            .collect();
        let change = Change::HostsWithdrawn { agents };
        self.record(now, step, EventKind::Rollout { id, change, call: None });
        self.set_goals(now, step, id, goals);
    }

    fn resume(
        &mut self,
        now: Timestamp,
        (by, call): (&str, Uuid),
        id: Uuid,
        step: &mut Step,
    ) -> Result<String, Refusal> {
        let state = self.rollouts.get(&id).map(|rollout| &rollout.state);
        if !matches!(state, Some(State::Paused { .. })) {
            return Err(refuse(
                "it is not paused",
                format!(
                    "see what it does: cutover why {id}; a held one goes on with: cutover retry {id}"
                ),
            ));
        }
        let change = Change::Resumed { by: by.to_owned() };
        self.record(now, step, EventKind::Rollout { id, change, call: Some(call) });
        Ok("resumed".to_owned())
    }

    /// Ends a rollout where it stands. Returns what it says.
    pub(super) fn abort(
        &mut self,
        now: Timestamp,
        (by, call): (&str, Option<Uuid>),
        id: Uuid,
        reason: &str,
        step: &mut Step,
    ) -> String {
        self.release_gates(now, id, step);
        planted!(AbortDoesNotWithdraw: (); self.withdraw(now, id, |_| true, step));
        let Some(rollout) = self.rollouts.get(&id) else { return String::new() };
        let because = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
        let (total, to) = (rollout.hosts.len(), &rollout.to);
        let left = match rollout.direction() {
            Direction::Forward => {
                let told = rollout.hosts_where(Host::is_touched).len();
                format!("{told} of {total} hosts were told to run {to} and stay as they are")
            }
            Direction::Back => {
                let untold = rollout.hosts_where(|host| {
                    let was_told = matches!(
                        host.state,
                        HostState::Reverting { .. }
                            | HostState::Stuck { .. }
                            | HostState::Excluded { .. }
                    );
                    host.is_touched() && !was_told
                });
                format!("going back ends here, and {} of {total} hosts keep {to}", untold.len())
            }
        };
        let why = format!("stopped by {by}{because}; {left}{}", story::left_out(rollout));
        let change = Change::Ended { outcome: Outcome::Aborted, why: why.clone() };
        self.record(now, step, EventKind::Rollout { id, change, call });
        why
    }

    fn retry(
        &mut self,
        now: Timestamp,
        (by, call): (&str, Uuid),
        id: Uuid,
        step: &mut Step,
    ) -> Result<String, Refusal> {
        let held =
            self.rollouts.get(&id).filter(|rollout| matches!(rollout.state, State::Held { .. }));
        let Some(rollout) = held else {
            return Err(refuse(
                "it is not held, so there is nothing to retry",
                format!("see what it does: cutover why {id}"),
            ));
        };
        let mut goals = self.prepared_again(rollout);
        if rollout.direction() == Direction::Forward {
            // The way back is told anew as a whole.
            goals.extend(self.lost_goals(rollout));
        }
        let change = Change::Retried { by: by.to_owned() };
        self.record(now, step, EventKind::Rollout { id, change, call: Some(call) });
        self.set_goals(now, step, id, goals.into_iter().collect());
        self.compare_anew(id);
        Ok("retrying".to_owned())
    }

    /// Returns the goals of the hosts that were never told to switch and are sent again: what
    /// could not be prepared is tried again for another generation only.
    fn prepared_again(&self, rollout: &Rollout) -> BTreeMap<AgentName, Wanted> {
        if rollout.direction() == Direction::Back {
            return BTreeMap::new();
        }
        rollout
            .hosts
            .iter()
            .filter(|(agent, host)| {
                matches!(host.state, HostState::Failed { .. } | HostState::Unreachable { .. })
                    && !host.is_touched()
                    && !self.is_ahead(agent, &rollout.application)
            })
            .filter_map(|(agent, _)| {
                let goal = self.goals.of(agent, &rollout.application)?;
                Some((agent.clone(), goal.wanted.clone()))
            })
            .collect()
    }

    fn roll_back(
        &mut self,
        now: Timestamp,
        (by, call): (&str, Uuid),
        id: Uuid,
        reason: String,
        step: &mut Step,
    ) -> Result<String, Refusal> {
        let Some(rollout) = self.rollouts.get(&id) else {
            return Err(refuse("it is gone", ""));
        };
        if rollout.direction() == Direction::Back {
            return Err(refuse(
                "it is going back already",
                format!("see how far it is: cutover watch {id}"),
            ));
        }
        if !rollout.has_way_back() {
            return Err(refuse(
                format!("{} is what ran before, so there is nothing to go back to", rollout.to),
                format!("end it: cutover abort {id}; then deploy the release that you want"),
            ));
        }
        let members = self.led_to(&rollout.environment, &rollout.application);
        let cause = Cause::Operator { by: by.to_owned(), reason };
        let change = way_back(rollout, self.scene(now, &members), cause);
        self.record(now, step, EventKind::Rollout { id, change, call: Some(call) });
        Ok("going back".to_owned())
    }

    /// A rollout that is over never changes (E5): what is asked of it starts a new one.
    fn control_ended(
        &mut self,
        now: Timestamp,
        by: &str,
        id: Uuid,
        order: &ControlOrder,
        step: &mut Step,
    ) -> Result<Answer, Refusal> {
        let Some(rollout) = self.rollouts.get(&id) else {
            return Err(refuse("it is gone", ""));
        };
        let version = match order.verb {
            Verb::Retry => Some(rollout.to.clone()),
            Verb::Rollback => {
                let moved = rollout.hosts.values().any(Host::is_touched);
                if moved && rollout.has_way_back() { rollout.from.clone() } else { None }
            }
            Verb::Pause | Verb::Resume | Verb::Abort | Verb::Promote { .. } => {
                return Err(refuse(
                    format!("rollout {id} is over, so it cannot be {}", participle(order.verb)),
                    format!("see how it ended: cutover why {id}"),
                ));
            }
        };
        let Some(version) = version else {
            return Err(refuse(
                format!("rollout {id} has nothing to go back to"),
                "deploy the release that you want: cutover deploy APP@VERSION --to ENV",
            ));
        };
        let begun = self.requests.get(&order.call).and_then(|id| self.rollouts.get(id));
        let is_same = |begun: &Rollout| {
            begun.application == rollout.application
                && begun.environment == rollout.environment
                && begun.to == version
        };
        if let Some(begun) = begun.filter(|begun| is_same(begun)) {
            // The answer was lost, and the same is asked for again (E1).
            return Ok(Answer::Controlled { rollout: begun.id, text: started_anew(&version) });
        }
        self.is_newest(Found::Rollout(rollout))?;
        let order_again = DeployOrder {
            application: rollout.application.clone(),
            version: version.clone(),
            environment: rollout.environment.clone(),
            with: WithConfig::Own,
            options: same_options(&rollout.spec, order.verb),
            if_busy: order.if_busy,
            // Whoever freezes an environment does not mean what is broken there.
            despite_freeze: if order.verb == Verb::Rollback {
                "it is the way back".to_owned()
            } else {
                String::new()
            },
        };
        self.deploy_anew(now, by, order.call, &order_again, step)
    }

    /// Refuses what would undo something that was asked for later.
    pub(super) fn is_newest(&self, found: Found<'_>) -> Result<(), Refusal> {
        let is_later = |other: &Rollout| {
            other.application == *found.application()
                && other.environment == *found.environment()
                && !other.converges
                && other.asked > found.asked()
        };
        if !self.rollouts.values().any(is_later) {
            return Ok(());
        }
        Err(refuse(
            format!("rollout {} is not the newest of {}", found.id(), found.application()),
            "deploy the release that you want: cutover deploy APP@VERSION --to ENV",
        ))
    }

    /// Deploys what is asked for by a word on a rollout that is over.
    pub(super) fn deploy_anew(
        &mut self,
        now: Timestamp,
        by: &str,
        call: Uuid,
        order: &DeployOrder,
        step: &mut Step,
    ) -> Result<Answer, Refusal> {
        let text = match self.deploy(now, by, call, call, order, step)? {
            Answer::RolloutQueued { .. } => queued_anew(&order.version),
            Answer::RolloutStarted { .. }
            | Answer::Done
            | Answer::EnvironmentCreated { .. }
            | Answer::Configured { .. }
            | Answer::Controlled { .. } => started_anew(&order.version),
        };
        Ok(Answer::Controlled { rollout: call, text })
    }
}

/// What an operator does to a queued rollout that leaves the queue by a call.
const ABORTED: Deed = Deed::Control(Verb::Abort);

/// Returns whether the verb starts a new rollout where one is over.
const fn starts_anew(verb: Verb) -> bool {
    matches!(verb, Verb::Retry | Verb::Rollback)
}

fn started_anew(version: &Version) -> String {
    format!("started a new rollout to {version}")
}

fn queued_anew(version: &Version) -> String {
    format!("queued a new rollout to {version}: it begins when what is under way is over")
}

pub(super) const fn participle(verb: Verb) -> &'static str {
    match verb {
        Verb::Pause => "paused",
        Verb::Resume => "resumed",
        Verb::Abort => "aborted",
        Verb::Retry => "retried",
        Verb::Rollback => "rolled back",
        Verb::Promote { .. } => "promoted",
    }
}
