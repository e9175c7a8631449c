//! What the reports say of each host, as changes to record: done, failed, unreachable.

use cutover_common::{
    AgentName, Generation, Health, Phase, Report, Slot, SlotReport, Timestamp, Traffic, Version,
    duration_text, planted,
};

use super::{Decision, Scene, stage, way_back};
use crate::{
    event::Change,
    fleet::Fleet,
    rollout::{Cause, Direction, Exclusion, Host, HostState, Rollout, spec::WORD_WITHIN},
};

/// How often an instance may crash before its host counts as failed without waiting for
/// `healthy_within`: once may be a start that came too early, twice is a habit.
const CRASHES_MAX: u32 = 2;

/// Returns the next fact about a host on the way forward.
pub(super) fn forward(rollout: &Rollout, scene: Scene<'_>) -> Option<Decision> {
    rollout.hosts.iter().find_map(|(agent, host)| {
        if let Some(left_out) = drained(scene, agent, host, Direction::Forward) {
            return Some(Decision::record(left_out));
        }
        let change = match &host.state {
            // One that was told before is judged by its next try, not by its last.
            HostState::Pending if host.tries > 0 => None,
            HostState::Pending => prepare_failed(rollout, scene, agent),
            HostState::Staging { since } => stage::staged(rollout, scene, agent, *since),
            HostState::Updating { since } => updating(rollout, scene, agent, *since),
            HostState::Updated | HostState::Staged => {
                planted!(UpdatedNotWatched: None; turned_bad(rollout, scene, agent))
            }
            HostState::Failed { .. }
            | HostState::Unreachable { .. }
            | HostState::Reverting { .. }
            | HostState::Reverted
            | HostState::Stuck { .. }
            | HostState::Excluded { .. } => None,
        };
        change.map(Decision::record)
    })
}

/// Returns the way back, or a hold, if more hosts failed than are borne (A4: within one look).
pub(super) fn over_budget(rollout: &Rollout, scene: Scene<'_>) -> Option<Decision> {
    let failures: Vec<(&AgentName, &String)> = rollout
        .hosts
        .iter()
        .filter_map(|(agent, host)| match &host.state {
            HostState::Failed { why, .. } => Some((agent, why)),
            HostState::Pending
            | HostState::Staging { .. }
            | HostState::Staged
            | HostState::Updating { .. }
            | HostState::Updated
            | HostState::Unreachable { .. }
            | HostState::Reverting { .. }
            | HostState::Reverted
            | HostState::Stuck { .. }
            | HostState::Excluded { .. } => None,
        })
        .collect();
    let failed = u32::try_from(failures.len()).unwrap_or(u32::MAX);
    let borne = rollout.spec.max_failed;
    if failed <= planted!(FailureBudgetOffByOne: borne.saturating_add(1); borne) {
        return None;
    }
    let (agent, why) = failures.first()?;
    let cause = Cause::Failed {
        agent: (*agent).clone(),
        why: (*why).clone(),
        failed,
        max_failed: rollout.spec.max_failed,
    };
    if rollout.spec.auto_rollback && rollout.has_way_back() {
        return Some(Decision::record(way_back(rollout, scene, cause)));
    }
    let why = format!("{}; {}", crate::rollout::story::why(&cause), not_back(rollout));
    Some(Decision::record(Change::Held { why }))
}

/// Says why a rollout that met with what is too much does not go back by itself.
pub(super) fn not_back(rollout: &Rollout) -> String {
    if rollout.has_way_back() {
        return "auto_rollback is off".to_owned();
    }
    format!("{} is what ran before, so there is nothing to go back to", rollout.to)
}

/// Returns the next fact about a host on the way back.
pub(super) fn back(rollout: &Rollout, scene: Scene<'_>) -> Option<Decision> {
    rollout.hosts.iter().find_map(|(agent, host)| {
        if let Some(left_out) = drained(scene, agent, host, Direction::Back) {
            return Some(Decision::record(left_out));
        }
        let since = match &host.state {
            HostState::Reverting { since } => *since,
            HostState::Pending
            | HostState::Staging { .. }
            | HostState::Staged
            | HostState::Updating { .. }
            | HostState::Updated
            | HostState::Failed { .. }
            | HostState::Unreachable { .. }
            | HostState::Reverted
            | HostState::Stuck { .. }
            | HostState::Excluded { .. } => return None,
        };
        reverting(rollout, scene, agent, since).map(Decision::record)
    })
}

/// Returns that a host is left out, as it is drained: who works on it is not to be surprised, nor
/// a rollout held up by it. What was told before goes on by itself, and nobody waits for it. One
/// that failed or was left out already is waited for by nobody, until it is sent again.
fn drained(
    scene: Scene<'_>,
    agent: &AgentName,
    host: &Host,
    direction: Direction,
) -> Option<Change> {
    let drain = scene.drain(agent)?;
    let is_due = match (&host.state, direction) {
        (HostState::Pending, Direction::Forward) => planted!(DrainedStillBegun: false; true),
        (
            HostState::Staging { .. }
            | HostState::Staged
            | HostState::Updating { .. }
            | HostState::Updated
            | HostState::Reverting { .. },
            _,
        )
        // Also one that was called back, or never told, may be among those that are to go back.
        | (
            HostState::Pending | HostState::Failed { .. } | HostState::Unreachable { .. },
            Direction::Back,
        ) => true,
        (HostState::Failed { .. } | HostState::Unreachable { .. }, Direction::Forward)
        | (HostState::Reverted | HostState::Stuck { .. } | HostState::Excluded { .. }, _) => false,
    };
    is_due.then(|| Change::HostsExcluded {
        agents: vec![agent.clone()],
        cause: Exclusion::Drained { by: drain.by.clone(), reason: drain.reason.clone() },
    })
}

/// Returns the hosts that were told to switch for the first time and, as far as is known, have
/// not begun: only they can be called back. Their agents have not accepted the goal, or wait for
/// the permission to stop what runs: one that gets it after the answer to an operator must find
/// that it is to stay (A5).
pub fn not_begun(rollout: &Rollout, scene: Scene<'_>) -> Vec<AgentName> {
    let is_due = |agent: &AgentName, host: &Host| {
        // After a strict cutover was decided nobody is led back: others may serve the new release.
        let is_led = host.is_staged && host.tries > 1 && rollout.cuts_over_strictly();
        if planted!(FlippedCalledBack: false; is_led) {
            return false;
        }
        // One that was given up finds its goal when it comes back, or works in the end.
        let was_told = matches!(
            host.state,
            HostState::Updating { .. }
                | HostState::Unreachable { .. }
                | HostState::Failed { touched: true, .. }
        );
        // What was staged before was told then.
        let is_switched = was_told && host.tries == 1 + u32::from(host.is_staged);
        let is_shifted = host.state == HostState::Staged && host.share != host.share_before;
        let Some(goal) = scene.goals.of(agent, &rollout.application) else { return false };
        let seen = scene.fleet.seen(agent);
        // What it told at its newest hello and in its reports since.
        let accepted = seen
            .and_then(|seen| seen.held.get(&rollout.application))
            .map_or(Generation(0), |held| held.generation);
        let told = || {
            let report = seen?.reports.get(&rollout.application)?;
            Some(waits(report, goal.wanted.slot_of(&rollout.to)?, &rollout.to))
        };
        // What runs beside what serves gets its share as soon as its agent has the goal.
        let is_accepted = accepted == goal.generation && is_switched;
        (is_switched || is_shifted)
            && (accepted < goal.generation || is_accepted && told().unwrap_or(false))
    };
    rollout
        .hosts
        .iter()
        .filter(|(agent, host)| is_due(agent, host))
        .map(|(agent, _)| agent.clone())
        .collect()
}

/// Returns whether `report` says that `to` waits in the slot `new` while the other slot runs
/// undisturbed: it is not started, or the gate does not lead to it. Where the gate has just been
/// told to lead elsewhere, what is called back gets its traffic back.
fn waits(report: &Report, new: Slot, to: &Version) -> bool {
    let (old, new) = (report.slots.of(new.other()), report.slots.of(new));
    let brings = |slot: &SlotReport| slot.release.as_ref().is_some_and(|(held, _)| held == to);
    let is_brought = planted!(RestartNotCalledBack: brings(new) && !brings(old); brings(new));
    let is_old_running = old.phase == Phase::Running && old.instance.is_some();
    let is_led_away = old.traffic == Traffic::Away && new.traffic == Traffic::Here;
    let waits = new.phase == Phase::Waiting || old.traffic != Traffic::Ungated;
    is_brought && is_old_running && waits && !is_led_away
}

fn prepare_failed(rollout: &Rollout, scene: Scene<'_>, agent: &AgentName) -> Option<Change> {
    let slot = scene.slot_of_goal(rollout, agent, &rollout.to)?;
    (slot.phase == Phase::Failed).then(|| Change::HostFailed {
        agent: agent.clone(),
        why: format!("could not prepare {}: {}", rollout.to, slot.detail),
    })
}

fn updating(
    rollout: &Rollout,
    scene: Scene<'_>,
    agent: &AgentName,
    since: Timestamp,
) -> Option<Change> {
    if let Some(slot) = scene.slot_of_goal(rollout, agent, &rollout.to) {
        if slot.has_settled() {
            return Some(Change::HostUpdated { agent: agent.clone() });
        }
        if let Some(why) = gave_up(slot) {
            return Some(Change::HostFailed { agent: agent.clone(), why });
        }
    }
    let late = late(rollout, scene, agent, since, &rollout.to);
    let why = planted!(
        SilenceIsFailure:
            late.or_else(|| {
                let limit = since + rollout.spec.patience() + WORD_WITHIN;
                (scene.now >= limit).then(|| "timed out".to_owned())
            });
        late
    )?;
    Some(Change::HostFailed { agent: agent.clone(), why })
}

fn turned_bad(rollout: &Rollout, scene: Scene<'_>, agent: &AgentName) -> Option<Change> {
    let slot = scene.slot_of_goal(rollout, agent, &rollout.to)?;
    (slot.health == Health::Failing || slot.phase == Phase::Failed).then(|| Change::HostFailed {
        agent: agent.clone(),
        why: format!("was healthy and turned bad: {}", slot.detail),
    })
}

fn reverting(
    rollout: &Rollout,
    scene: Scene<'_>,
    agent: &AgentName,
    since: Timestamp,
) -> Option<Change> {
    let Some(from) = rollout.back_to(agent) else {
        let report = scene.report_of_goal(rollout, agent)?;
        let is_gone = report
            .slots
            .iter()
            .all(|(_, slot)| matches!(slot.phase, Phase::Empty | Phase::Prepared));
        return is_gone.then(|| Change::HostReverted { agent: agent.clone() });
    };
    if let Some(slot) = scene.slot_of_goal(rollout, agent, from) {
        if slot.has_settled() {
            return Some(Change::HostReverted { agent: agent.clone() });
        }
        if let Some(why) = gave_up(slot) {
            return Some(Change::HostStuck { agent: agent.clone(), why });
        }
    }
    let why = late(rollout, scene, agent, since, from)?;
    Some(Change::HostStuck { agent: agent.clone(), why })
}

/// Returns when the first of `agents`, which were told to switch, counts as failed if nothing is
/// heard of its health; none when that moment has come and is not acted on, as for a host that is
/// away.
pub(super) fn first_judged(
    rollout: &Rollout,
    now: Timestamp,
    agents: &[AgentName],
) -> Option<Timestamp> {
    agents
        .iter()
        .filter_map(|agent| match rollout.hosts.get(agent)?.state {
            HostState::Updating { since } | HostState::Staging { since } => Some(since),
            HostState::Pending
            | HostState::Staged
            | HostState::Updated
            | HostState::Failed { .. }
            | HostState::Unreachable { .. }
            | HostState::Reverting { .. }
            | HostState::Reverted
            | HostState::Stuck { .. }
            | HostState::Excluded { .. } => None,
        })
        .flat_map(|since| {
            let failing = since + rollout.spec.patience();
            [failing, failing + WORD_WITHIN]
        })
        .filter(|at| *at > now)
        .min()
}

/// Returns when the next host of `rollout` counts as unreachable, or as late if it was told to
/// switch or to go back, whatever the rollout waits for. Those moments that have come were acted
/// on, or are of no account: asking for them again would never sleep.
pub(crate) fn next_overdue(rollout: &Rollout, fleet: &Fleet, now: Timestamp) -> Option<Timestamp> {
    let patience = rollout.spec.patience();
    let judged = |since: Timestamp| [since + patience, since + patience + WORD_WITHIN];
    let overdue = |(agent, host): (&AgentName, &Host)| {
        let seen = fleet.seen(agent).filter(|seen| seen.session.is_some());
        match (seen, &host.state) {
            // Of one that is away nothing else is judged until it is back.
            (None, _) => [fleet.unreachable_from(agent), None],
            (
                Some(seen),
                HostState::Staging { since }
                | HostState::Updating { since }
                | HostState::Reverting { since },
            ) => judged((*since).max(seen.connected)).map(Some),
            (
                Some(_),
                HostState::Pending
                | HostState::Staged
                | HostState::Updated
                | HostState::Failed { .. }
                | HostState::Unreachable { .. }
                | HostState::Reverted
                | HostState::Stuck { .. }
                | HostState::Excluded { .. },
            ) => [None; 2],
        }
    };
    // In a window a host that was watched for long enough makes room for the next.
    let soak = rollout.spec.soak;
    let has_window = rollout.spec.sliding && !soak.is_zero();
    let watched = rollout.hosts.values().filter_map(|host| host.watched.filter(|_| has_window));
    let watched = watched.map(|since| since + soak);
    rollout.hosts.iter().flat_map(overdue).flatten().chain(watched).filter(|at| *at > now).min()
}

/// Returns why the slot will not become healthy by itself.
pub(super) fn gave_up(slot: &SlotReport) -> Option<String> {
    if slot.phase == Phase::Failed {
        return Some(slot.detail.clone());
    }
    (slot.health == Health::Failing && slot.restarts >= CRASHES_MAX)
        .then(|| format!("crashed {} times: {}", slot.restarts, slot.detail))
}

/// Returns why the host took too long. A host that is not connected is never late: what it does
/// is unknown, and unknown is neither done nor failed (E6). Nor is one late for the time in which
/// it was away: without us it may not begin (A7).
pub(super) fn late(
    rollout: &Rollout,
    scene: Scene<'_>,
    agent: &AgentName,
    since: Timestamp,
    version: &Version,
) -> Option<String> {
    if scene.now.since(since) < rollout.spec.patience() {
        return None;
    }
    let report = scene.fleet.fresh_report(agent, &rollout.application)?;
    let slot = scene.slot_of_goal(rollout, agent, version);
    let connected = scene.fleet.seen(agent)?.connected;
    let waited = scene.now.since(since.max(connected));
    let is_failing = slot.is_some_and(|slot| slot.health == Health::Failing);
    let limit =
        if is_failing { rollout.spec.patience() } else { rollout.spec.patience() + WORD_WITHIN };
    if waited < limit {
        return None;
    }
    let detail = slot.map_or_else(
        || {
            let details: Vec<&str> = report
                .slots
                .iter()
                .map(|(_, slot)| slot.detail.as_str())
                .filter(|detail| !detail.is_empty())
                .collect();
            details.join("; ")
        },
        |slot| slot.detail.clone(),
    );
    let within = duration_text::print(rollout.spec.patience());
    Some(match detail.as_str() {
        "" => format!("not healthy within {within}"),
        detail if detail.starts_with("not healthy within") => detail.to_owned(),
        detail => format!("not healthy within {within}: {detail}"),
    })
}
