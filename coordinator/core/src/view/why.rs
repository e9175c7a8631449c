//! Why a rollout is where it is: what `cutover why` says.

use std::time::Duration;

use cutover_common::{AgentName, Timestamp, Version, duration_text};

use crate::{
    coordinator::Coordinator,
    rollout::{
        CutoverPhase, Direction, Host, HostState, Outcome, Rollout, State, Waiting,
        decide::floor::shortage,
        spec::Unreachable,
        story::{self, names},
    },
};

impl Coordinator {
    /// Says in two sentences what is the case and what is waited for, or how it ended and why.
    pub fn why(&self, rollout: &Rollout, now: Timestamp) -> String {
        match &rollout.state {
            State::Ended { outcome, why, .. } => ended(rollout, *outcome, why),
            State::Held { why, .. } => format!("Held for a person: {why}. {}", progress(rollout)),
            State::Paused { by, reason, .. } => {
                let reason = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
                format!("Paused by {by}{reason}. {}", progress(rollout))
            }
            State::Advancing { .. } | State::Baking { .. } => {
                format!("{} {}", progress(rollout), self.waits(rollout, now))
            }
            State::RollingBack { cause, .. } => {
                format!("Going back because {}. {}", story::why(cause), self.waits(rollout, now))
            }
        }
    }

    fn waits(&self, rollout: &Rollout, now: Timestamp) -> String {
        let left = |until: &Timestamp| spoken(until.since(now));
        let to = &rollout.to;
        match self.waiting.get(&rollout.id) {
            None => "It is about to look at the fleet.".to_owned(),
            Some(Waiting::ForPrepared { agents, deadline }) => format!(
                "Waiting up to {} for {} to fetch and verify {to}{}, then for a person.",
                left(deadline),
                names(agents),
                self.details(rollout, agents),
            ),
            Some(Waiting::ForHealth { agents, judged, deadline }) => {
                let (until, then) = match judged {
                    Some(judged) if judged <= deadline && agents.len() == 1 => {
                        (judged, "or it counts as failed")
                    }
                    Some(judged) if judged <= deadline => (judged, "or they count as failed"),
                    Some(_) | None => (deadline, "then for a person"),
                };
                format!(
                    "Waiting up to {} for {} to be healthy{}, {then}.",
                    left(until),
                    names(agents),
                    self.details(rollout, agents),
                )
            }
            Some(Waiting::ForFloor { short, agents, deadline }) => format!(
                "Waiting up to {} to take {} out, as {}, then for a person.",
                left(deadline),
                names(agents),
                shortage(short, self.scene(now, &self.members(&rollout.environment))),
            ),
            Some(
                beside @ (Waiting::ForShift { .. }
                | Waiting::ForCutover { .. }
                | Waiting::ForVerdict { .. }),
            ) => waits_beside(to, beside, now),
            Some(Waiting::ForPromotion { batch }) => format!(
                "Batch {batch} of {} is done, and waits for a person to promote it.",
                rollout.plan.waves.len(),
            ),
            Some(Waiting::ForContact { agents, deadline }) => {
                self.waits_for_contact(rollout, agents, *deadline, now)
            }
            Some(Waiting::ForSoak { until }) => {
                format!("Watching the batch for another {}.", left(until))
            }
            Some(Waiting::ForBake { until }) => {
                format!("Watching all hosts for another {}.", left(until))
            }
            Some(Waiting::ForReverted { agents, deadline }) => format!(
                "Waiting up to {} for {} to be as before{}, then for a person.",
                left(deadline),
                names(agents),
                self.details(rollout, agents),
            ),
            Some(Waiting::ForOperator) => "Waiting for a person.".to_owned(),
            Some(Waiting::Over) => String::new(),
        }
    }

    fn waits_for_contact(
        &self,
        rollout: &Rollout,
        agents: &[AgentName],
        deadline: Timestamp,
        now: Timestamp,
    ) -> String {
        let left = |until: Timestamp| spoken(until.since(now));
        let names = names(agents);
        let fails = rollout.spec.unreachable == Unreachable::Fail;
        let at = agents.iter().filter_map(|agent| self.fleet.unreachable_from(agent)).min();
        match at.filter(|at| fails && *at > now) {
            Some(at) => format!(
                "Waiting up to {} for {names} to be reachable, then it counts as failed.",
                left(at)
            ),
            None => format!(
                "Waiting up to {} for {names} to be reachable, as lost contact is no failure, then \
                 for a person.",
                left(deadline)
            ),
        }
    }

    /// Says what the first of `agents` that has something to say says.
    fn details(&self, rollout: &Rollout, agents: &[AgentName]) -> String {
        let said = agents.iter().find_map(|agent| {
            let wanted = match rollout.direction() {
                Direction::Forward => Some(&rollout.to),
                Direction::Back => rollout.back_to(agent),
            };
            let slot = self.fleet.slot_of(agent, &rollout.application, wanted?)?;
            (!slot.detail.is_empty()).then(|| format!(" ({agent}: {})", slot.detail))
        });
        said.unwrap_or_default()
    }
}

/// Says what is waited for of a release that runs beside what serves.
#[expect(clippy::wildcard_enum_match_arm, reason = "the caller has chosen among all of them")]
fn waits_beside(to: &Version, waiting: &Waiting, now: Timestamp) -> String {
    let left = |until: &Timestamp| spoken(until.since(now));
    match waiting {
        Waiting::ForShift { agents, deadline } => format!(
            "Waiting up to {} for {} to give {to} its traffic, then for a person.",
            left(deadline),
            names(agents),
        ),
        Waiting::ForCutover { phase: CutoverPhase::Hold, agents, deadline } => format!(
            "Cutting over: clients wait up to {} until nothing is under way at {}, or the old \
             release goes on.",
            left(deadline),
            names(agents),
        ),
        Waiting::ForCutover { phase: CutoverPhase::Arm, agents, deadline } => format!(
            "Cutting over: clients wait up to {} until {} can switch with the others, or the old \
             release goes on.",
            left(deadline),
            names(agents),
        ),
        Waiting::ForCutover { phase: CutoverPhase::Release, deadline, .. } => {
            format!("The cutover could not be made; it is tried again in {}.", left(deadline))
        }
        Waiting::ForVerdict { until, said } => {
            format!("Comparing it with the old release for another {}{said}.", left(until))
        }
        _ => String::new(),
    }
}

const fn is_excluded(host: &Host) -> bool {
    matches!(host.state, HostState::Excluded { .. })
}

/// Says how many hosts are where they should be.
fn progress(rollout: &Rollout) -> String {
    let count = |wanted: fn(&Host) -> bool| rollout.hosts_where(wanted).len();
    match rollout.direction() {
        Direction::Forward => {
            let done = count(|host| host.state == HostState::Updated);
            let out = match count(is_excluded) {
                0 => String::new(),
                1 => " and 1 is left out".to_owned(),
                out => format!(" and {out} are left out"),
            };
            format!("{done} of {} hosts run {}{out}.", rollout.hosts.len(), rollout.to)
        }
        Direction::Back => {
            let back = count(|host| host.state == HostState::Reverted);
            let touched = back + count(|host| host.is_touched() && !is_excluded(host));
            format!("{back} of {touched} hosts are back.")
        }
    }
}

fn ended(rollout: &Rollout, outcome: Outcome, why: &str) -> String {
    let how = match outcome {
        Outcome::Succeeded => "Succeeded",
        Outcome::RolledBack => "Rolled back",
        Outcome::Aborted => "Aborted",
        Outcome::Staged => "Staged",
    };
    let is_left = rollout.hosts.values().any(|host| host.is_touched() && is_excluded(host));
    let other = if is_left { " other" } else { "" };
    let back = match (outcome, &rollout.from) {
        (Outcome::RolledBack, Some(from)) => {
            format!(" Every{other} host it had touched runs {from} again.")
        }
        (Outcome::RolledBack, None) => {
            let ran = rollout.hosts.values().any(|host| host.before.is_some());
            match (ran, is_left) {
                (true, _) => format!(" Every{other} host it had touched runs what it ran before."),
                (false, true) => " Every other host it had touched runs nothing again.".to_owned(),
                (false, false) => " Nothing runs, as before.".to_owned(),
            }
        }
        (Outcome::Succeeded | Outcome::Aborted | Outcome::Staged, _) => String::new(),
    };
    format!("{how}: {why}.{back}")
}

/// Prints what is left of a wait, in at most two units.
fn spoken(left: Duration) -> String {
    let whole = left.as_secs() + u64::from(left.subsec_nanos() > 0);
    let minute = 60;
    let unit = if whole >= 60 * minute { 60 * minute } else { minute };
    let lower = if unit == minute { 1 } else { minute };
    let (large, small) = (whole / unit * unit, whole % unit / lower * lower);
    let print = |seconds| duration_text::print(Duration::from_secs(seconds));
    match (large, small) {
        (0, small) => print(small),
        (large, 0) => print(large),
        (large, small) => format!("{} {}", print(large), print(small)),
    }
}
