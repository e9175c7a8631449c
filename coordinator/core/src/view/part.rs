//! Why one host or one batch of a rollout is where it is.

use std::time::Duration;

use cutover_common::{AgentName, Timestamp, Version};

use super::why::{ago, spoken, stands_still};
use crate::{
    action::{Refusal, RefusalKind},
    coordinator::Coordinator,
    fleet::Presence,
    operate::Found,
    rollout::{
        Exclusion, Host, HostState, Outcome, Rollout, State, Strategy,
        decide::{bears_another, is_prepared},
        spec::Unreachable,
        story::{self, names},
    },
};

/// A part of a rollout that is asked about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Part {
    Host(AgentName),
    /// A batch, counted from 1.
    Batch(usize),
}

impl Coordinator {
    /// Says how a part of a rollout stands, what it waits for and what comes then.
    ///
    /// # Errors
    ///
    /// Refuses a host that takes no part in it, a batch that there is not, and one that has not begun.
    pub fn why_part(
        &self,
        found: Found<'_>,
        part: &Part,
        now: Timestamp,
    ) -> Result<String, Refusal> {
        let Found::Rollout(rollout) = found else { return Err(not_planned(found)) };
        match part {
            Part::Host(agent) => {
                let host = rollout.hosts.get(agent).ok_or_else(|| unknown_host(rollout, agent))?;
                let stands = self.host_stands(rollout, (agent, host), now);
                let comes = self.comes_to_host(rollout, (agent, host), now);
                // What it said is of another time than what is over.
                let is_lost = !rollout.is_over() && !self.is_live(agent);
                let reach = if is_lost { " (not connected)" } else { "" };
                let (then, batch) = (when(rollout), host.wave + 1);
                Ok(format!("{then}{agent}{reach}, in batch {batch}, {stands}. {comes}"))
            }
            Part::Batch(number) => {
                let index = number.checked_sub(1);
                let wave = index.and_then(|index| rollout.plan.waves.get(index));
                let wave = wave.ok_or_else(|| unknown_batch(rollout, *number))?;
                let runs = |agent: &&AgentName| {
                    rollout.hosts.get(*agent).is_some_and(|it| it.state == HostState::Updated)
                };
                let done = wave.agents.iter().filter(runs).count();
                let zone = rollout.plan.zone(wave).map_or_else(String::new, |zone| match zone {
                    "" => " in no zone".to_owned(),
                    zone => format!(" in zone {zone}"),
                });
                let (of, to, all) = (wave.agents.len(), &rollout.to, names(&wave.agents));
                let comes = self.comes_to_batch(rollout, number - 1, now);
                let what = if rollout.is_over() {
                    format!("{done} of {of} ran {to} when it ended")
                } else {
                    format!("{done} of {of} are done with {to}")
                };
                Ok(format!("Batch {number} ({all}{zone}): {what}. {comes}"))
            }
        }
    }

    fn host_stands(
        &self,
        rollout: &Rollout,
        (agent, host): (&AgentName, &Host),
        now: Timestamp,
    ) -> String {
        let to = &rollout.to;
        let detail = |version: Option<&Version>| {
            // What it says now is of another time than what is over.
            version
                .filter(|_| !rollout.is_over())
                .and_then(|version| self.fleet.slot_of(agent, &rollout.application, version))
                .filter(|slot| !slot.detail.is_empty())
                .map_or_else(String::new, |slot| format!(" ({})", slot.detail))
        };
        match &host.state {
            HostState::Pending => {
                let slot = self.fleet.slot_of(agent, &rollout.application, to);
                let what = match rollout.spec.strategy {
                    Strategy::Restart => format!("was not told to begin {to} anew"),
                    Strategy::Rolling
                    | Strategy::AllAtOnce
                    | Strategy::BlueGreen
                    | Strategy::Canary => format!("was not told to run {to}"),
                };
                let fetched = match slot {
                    _ if rollout.is_over() => "",
                    Some(slot) if is_prepared(slot) => ", and has it on disk",
                    Some(_) | None => ", and has not fetched it yet",
                };
                format!("{what}{fetched}{}", detail(Some(to)))
            }
            HostState::Staging { since } => format!(
                "was told {} to start {to} beside what serves{}",
                ago(*since, now),
                detail(Some(to))
            ),
            HostState::Staged => format!("runs {to} beside what serves{}", detail(Some(to))),
            HostState::Updating { since } => {
                format!("was told {} to run {to}{}", ago(*since, now), detail(Some(to)))
            }
            HostState::Updated => {
                let watched = host.watched.filter(|_| !rollout.is_over());
                let watched = watched.map_or_else(String::new, |since| match now.since(since) {
                    Duration::ZERO => ", healthy from now on".to_owned(),
                    passed => format!(", healthy for {}", spoken(passed)),
                });
                format!("runs {to}{watched}{}", detail(Some(to)))
            }
            HostState::Failed { why, .. } => format!("counts as failed: {why}"),
            HostState::Unreachable { why, .. } => format!("is left out: {why}"),
            HostState::Reverting { since } => format!(
                "was told {} to run again what it ran before{}",
                ago(*since, now),
                detail(rollout.back_to(agent))
            ),
            HostState::Reverted => "runs again what it ran before".to_owned(),
            HostState::Stuck { why } => format!("could not be brought back: {why}"),
            HostState::Excluded { cause, .. } => format!("is {}", story::exclusion(cause)),
        }
    }

    fn comes_to_host(
        &self,
        rollout: &Rollout,
        (agent, host): (&AgentName, &Host),
        now: Timestamp,
    ) -> String {
        match &rollout.state {
            State::Ended { outcome, .. } => over(*outcome).to_owned(),
            State::Paused { .. } | State::Held { .. } => stands_still(rollout, now),
            State::RollingBack { .. } => match host.state {
                HostState::Excluded { .. } | HostState::Reverted => {
                    "Nothing more comes to it.".to_owned()
                }
                HostState::Stuck { .. } => {
                    "Send it again with `cutover retry`, or take it out with `cutover exclude`."
                        .to_owned()
                }
                HostState::Pending
                | HostState::Staging { .. }
                | HostState::Staged
                | HostState::Updating { .. }
                | HostState::Updated
                | HostState::Failed { .. }
                | HostState::Unreachable { .. }
                | HostState::Reverting { .. } => {
                    if host.is_touched() {
                        format!("It goes back with the others. {}", self.waits(rollout, now))
                    } else {
                        "It keeps what it runs: it was not told to change.".to_owned()
                    }
                }
            },
            State::Advancing { wave, .. } => {
                self.comes_forward(rollout, (agent, host), Some(*wave), now)
            }
            State::Baking { .. } => self.comes_forward(rollout, (agent, host), None, now),
        }
    }

    fn comes_forward(
        &self,
        rollout: &Rollout,
        (agent, host): (&AgentName, &Host),
        wave: Option<usize>,
        now: Timestamp,
    ) -> String {
        // Of what it does while it is away nothing is heard, and nothing is held against it.
        let is_live = self.is_live(agent);
        let connected = self.fleet.seen(agent).map_or(now, |seen| seen.connected);
        let left =
            |since: Timestamp| spoken((since.max(connected) + rollout.spec.patience()).since(now));
        match &host.state {
            HostState::Staging { .. } | HostState::Updating { .. } if !is_live => {
                self.comes_to_lost(rollout, agent, now)
            }
            HostState::Staging { since } | HostState::Updating { since } => format!(
                "It counts as failed unless it is healthy within {}; {}.",
                left(*since),
                budget(rollout)
            ),
            HostState::Pending if wave.is_some_and(|wave| wave < host.wave) => {
                let before = wave.map_or(0, |wave| wave + 1);
                format!(
                    "Its turn comes after batch {} of {}; batch {before} is under way. {}",
                    host.wave,
                    rollout.plan.waves.len(),
                    self.waits(rollout, now)
                )
            }
            HostState::Pending | HostState::Staged => self.waits(rollout, now),
            HostState::Updated => format!(
                "It is watched until the rollout is over, and counts as failed if it turns bad; {}.",
                budget(rollout)
            ),
            HostState::Failed { .. } => format!("Of all hosts, {}.", budget(rollout)),
            HostState::Unreachable { .. } => later(rollout, " and it is back"),
            HostState::Excluded { cause: Exclusion::Drained { .. }, .. } => {
                later(rollout, " and it takes part again")
            }
            HostState::Excluded { cause: Exclusion::Skipped { .. }, .. } => later(rollout, ""),
            HostState::Excluded { cause: Exclusion::Operator { .. }, .. }
            | HostState::Reverting { .. }
            | HostState::Reverted
            | HostState::Stuck { .. } => "Nothing more comes to it.".to_owned(),
        }
    }

    /// Says what comes to a host that was told to change, and is not connected.
    fn comes_to_lost(&self, rollout: &Rollout, agent: &AgentName, now: Timestamp) -> String {
        let at = self.fleet.unreachable_from(agent);
        if let Some(at) = at.filter(|_| bears_another(rollout)) {
            return format!(
                "It is left out unless it is reachable within {}; max_unreachable is {}.",
                spoken(at.since(now)),
                rollout.spec.max_unreachable
            );
        }
        let budget = budget(rollout);
        let fails = rollout.spec.unreachable == Unreachable::Fail;
        match at.filter(|_| fails) {
            Some(at) => {
                let left = spoken(at.since(now));
                format!("It counts as failed unless it is reachable within {left}; {budget}.")
            }
            None => format!(
                "Lost contact is no failure: when it is reachable it may take {} to be healthy; \
                 {budget}.",
                spoken(rollout.spec.patience())
            ),
        }
    }

    fn is_live(&self, agent: &AgentName) -> bool {
        self.fleet.presence(agent) == Presence::Live
    }

    fn comes_to_batch(&self, rollout: &Rollout, index: usize, now: Timestamp) -> String {
        match &rollout.state {
            State::Ended { outcome, .. } => over(*outcome).to_owned(),
            State::Paused { .. } | State::Held { .. } => stands_still(rollout, now),
            State::RollingBack { .. } => {
                format!("What was told to change goes back. {}", self.waits(rollout, now))
            }
            State::Advancing { wave, since, .. } if *wave == index => {
                format!("Its step began {}. {}", ago(*since, now), self.waits(rollout, now))
            }
            State::Advancing { wave, .. } if *wave < index => format!(
                "It begins after batch {index}; batch {} is under way. {}",
                wave + 1,
                self.waits(rollout, now)
            ),
            State::Advancing { .. } | State::Baking { .. } => {
                format!("It is done, and watched until the rollout is over; {}.", budget(rollout))
            }
        }
    }
}

/// Says when a host gets what it misses.
fn later(rollout: &Rollout, and: &str) -> String {
    if rollout.spec.blue_green.as_ref().is_some_and(|how| how.until_smoke) {
        return "Nothing more comes to it.".to_owned();
    }
    format!("It gets {} by itself when the rollout has succeeded{and}.", rollout.to)
}

/// Says of which time it is told.
fn when(rollout: &Rollout) -> &'static str {
    if rollout.is_over() { "When it ended: " } else { "" }
}

/// Says how many more failures are borne, and what happens then.
fn budget(rollout: &Rollout) -> String {
    let failed = rollout.hosts_where(|it| matches!(it.state, HostState::Failed { .. })).len();
    let max = rollout.spec.max_failed;
    if rollout.converges {
        return "those that fail are left as they are".to_owned();
    }
    let then = if rollout.spec.auto_rollback && rollout.has_way_back() {
        "with more the rollout goes back"
    } else {
        "with more a person is asked"
    };
    format!("{failed} have failed and max_failed is {max}: {then}")
}

const fn over(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded => "The rollout is over: it succeeded.",
        Outcome::RolledBack => "The rollout is over: it went back.",
        Outcome::Aborted => "The rollout is over: it was aborted.",
        Outcome::Staged => "The rollout is over: it was to end where all is staged.",
    }
}

fn not_planned(found: Found<'_>) -> Refusal {
    let id = found.id();
    let text = format!("rollout {id} has not begun, so that it has no hosts and batches yet");
    Refusal::new(RefusalKind::State, text, format!("see what it waits for: cutover why {id}"))
}

fn unknown_host(rollout: &Rollout, agent: &AgentName) -> Refusal {
    let known = rollout.hosts.keys().map(AgentName::as_str);
    let id = rollout.id;
    Refusal::unknown(
        &format!("host of rollout {id}"),
        agent.as_str(),
        known,
        &format!("cutover status {}", rollout.application),
    )
}

fn unknown_batch(rollout: &Rollout, number: usize) -> Refusal {
    let of = rollout.plan.waves.len();
    Refusal::new(
        RefusalKind::NotFound,
        format!("rollout {} has no batch {number}", rollout.id),
        format!("give a number from 1 to {of}"),
    )
}
