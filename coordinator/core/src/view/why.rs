//! Why a rollout is where it is: what `cutover why` says.

use std::time::Duration;

use cutover_common::{AgentName, Timestamp, Version, duration_text};

use crate::{
    coordinator::Coordinator,
    rollout::{
        CutoverPhase, Direction, Host, HostState, Outcome, PlanStep, Rollout, State, Waiting,
        decide::{bears_another, floor::shortage},
        spec::Unreachable,
        story::{self, names},
    },
};

impl Coordinator {
    /// Says in two sentences what is the case and what is waited for, or how it ended and why.
    pub fn why(&self, rollout: &Rollout, now: Timestamp) -> String {
        match &rollout.state {
            State::Ended { outcome, why, .. } => ended(rollout, *outcome, why),
            State::Held { .. } | State::Paused { .. } => {
                format!("{} {}.", stands_still(rollout, now), progress(rollout))
            }
            State::Advancing { wave, since, .. } => {
                let (of, ago) = (rollout.plan.waves.len(), ago(*since, now));
                let done = progress(rollout);
                let step = format!("this step of batch {} of {of} began {ago}", wave + 1);
                format!("{done}, and {step}. {}", self.waits(rollout, now))
            }
            State::Baking { .. } => format!("{}. {}", progress(rollout), self.waits(rollout, now)),
            State::RollingBack { cause, .. } => {
                format!("Going back because {}. {}", story::why(cause), self.waits(rollout, now))
            }
        }
    }

    pub(super) fn waits(&self, rollout: &Rollout, now: Timestamp) -> String {
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
                shortage(
                    short,
                    self.scene(now, &self.led_to(&rollout.environment, &rollout.application)),
                ),
            ),
            Some(
                beside @ (Waiting::ForShift { .. }
                | Waiting::ForEdges { .. }
                | Waiting::ForCutover { .. }
                | Waiting::ForVerdict { .. }),
            ) => waits_beside(to, beside, now),
            Some(Waiting::ForOnce { agent, of, deadline, .. }) => {
                let until = format!("Waiting up to {} for", left(deadline));
                self.waits_for_hook(rollout, (agent, of.as_ref()), &until)
            }
            Some(Waiting::ForPromotion { batch }) => {
                format!("Batch {batch} is done, and waits for a person to promote it.")
            }
            Some(Waiting::ForContact { agents, deadline }) => {
                self.waits_for_contact(rollout, agents, *deadline, now)
            }
            Some(Waiting::ForSoak { until }) => {
                format!("Watching the batch for another {}, then {}.", left(until), next(rollout))
            }
            Some(Waiting::ForBake { until }) => {
                format!("Watching all hosts for another {}, then it has succeeded.", left(until))
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

    fn waits_for_hook(
        &self,
        rollout: &Rollout,
        (agent, of): (&AgentName, Option<&Version>),
        waits: &str,
    ) -> String {
        let is_own = of.is_some_and(|of| of.as_pushed() == rollout.to.as_pushed());
        let (hook, said) = (story::hook_of(of), self.details(rollout, std::slice::from_ref(agent)));
        let (end, other) = if is_own { ("pass", "other ") } else { ("end", "") };
        format!(
            "{waits} the once hook of {hook} to {end} on {agent}{said}, then for a person. No \
             {other}host begins before."
        )
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
        let is_borne = bears_another(rollout);
        let at = agents.iter().filter_map(|agent| self.fleet.unreachable_from(agent)).min();
        match at.filter(|at| *at > now) {
            Some(at) if is_borne => format!(
                "Waiting up to {} for {names} to be reachable, then it is left out \
                 (max_unreachable is {}).",
                left(at),
                rollout.spec.max_unreachable
            ),
            Some(at) if fails => format!(
                "Waiting up to {} for {names} to be reachable, then it counts as failed.",
                left(at)
            ),
            Some(_) | None => format!(
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
        Waiting::ForEdges { agents, group, deadline } => format!(
            "Waiting up to {} for {} to lead clients to the hosts of {group}, then for a person.",
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

/// Says that it was stopped, by whom, why and since when; empty for one that goes on.
pub(super) fn stands_still(rollout: &Rollout, now: Timestamp) -> String {
    match &rollout.state {
        State::Held { why, since, .. } => {
            format!("Held for a person {}: {why}.", ago(*since, now))
        }
        State::Paused { by, reason, since, .. } => {
            let reason = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
            format!("Paused {} by {by}{reason}.", ago(*since, now))
        }
        State::Advancing { .. }
        | State::Baking { .. }
        | State::RollingBack { .. }
        | State::Ended { .. } => String::new(),
    }
}

/// Says what comes when the watch of a batch is over.
fn next(rollout: &Rollout) -> String {
    let waves = &rollout.plan.waves;
    let (index, step) = match rollout.state {
        State::Advancing { wave, step, .. } => (wave, step),
        State::Baking { .. }
        | State::RollingBack { .. }
        | State::Paused { .. }
        | State::Held { .. }
        | State::Ended { .. } => return "it goes on".to_owned(),
    };
    let steps = waves.get(index).map_or(&[][..], |wave| &wave.steps);
    // A window is watched while its hosts are still replaced one after the other.
    if steps.get(step) == Some(&PlanStep::Start) {
        let waits = |host: &Host| host.wave == index && host.state == HostState::Pending;
        if !rollout.hosts_where(waits).is_empty() {
            return "the next host begins".to_owned();
        }
    }
    let then = match steps.get(step + 1) {
        Some(PlanStep::Approve) => Some("a person is asked"),
        Some(PlanStep::Retire) => Some("the old release is stopped"),
        Some(
            PlanStep::Prepare
            | PlanStep::Start
            | PlanStep::Hold(_)
            | PlanStep::Stage
            | PlanStep::Shift(_)
            | PlanStep::Judge(_)
            | PlanStep::Cutover,
        ) => Some("the batch goes on"),
        None => None,
    };
    match then {
        Some(then) => then.to_owned(),
        None if index + 1 < waves.len() => format!("batch {} begins", index + 2),
        None if rollout.spec.bake.is_zero() => "it has succeeded".to_owned(),
        None => format!("all hosts are watched for {}", duration_text::print(rollout.spec.bake)),
    }
}

/// Prints how long ago something was.
pub(super) fn ago(since: Timestamp, now: Timestamp) -> String {
    match now.since(since) {
        Duration::ZERO => "just now".to_owned(),
        passed => format!("{} ago", spoken(passed)),
    }
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
            format!("{done} of {} hosts run {}{out}", rollout.hosts.len(), rollout.to)
        }
        Direction::Back => {
            let back = count(|host| host.state == HostState::Reverted);
            let touched = back + count(|host| host.is_touched() && !is_excluded(host));
            format!("{back} of {touched} hosts are back")
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
        (Outcome::RolledBack, from) if rollout.groups().is_some() => {
            let get =
                from.as_ref().map_or_else(String::new, |from| format!(" Clients get {from}."));
            format!("{get} Every{other} host it had touched runs what it ran before.")
        }
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
pub(super) fn spoken(left: Duration) -> String {
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
