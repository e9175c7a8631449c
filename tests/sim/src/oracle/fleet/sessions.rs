//! Sessions: one for each agent that may have one, and nothing is sent to who is ahead.

use cutover_common::Assignment;
use cutover_coordinator_core::{Action, SessionId, Step};

use super::{ledger::Ledger, truth::Truth};
use crate::{oracle::Violation, world::World};

/// How many inputs may wait for each host while a coordinator does something else: a beat and a
/// report every few seconds, for as long as the longest stop in a script.
const INBOX_PER_HOST: usize = 600;

/// How many lines of history a rollout keeps.
const HISTORY_MAX: usize = 2_000;

/// Looks at what a coordinator does with sessions.
pub(super) fn stepped(
    world: &World,
    ledger: &Ledger,
    number: u16,
    step: &Step,
) -> Result<(), Violation> {
    for action in &step.actions {
        if let Action::Welcome { session, .. } = action {
            welcome(world, ledger, number, *session)?;
        }
    }
    let Some(process) = &world.site(number).process else { return Ok(()) };
    let inbox_max = 100 + INBOX_PER_HOST * world.hosts.len();
    if process.inbox.len() > inbox_max {
        return Err(Violation::new("A9", format!("{} inputs wait", process.inbox.len())));
    }
    if step.events.is_empty() {
        return Ok(());
    }
    match process.core.active().find(|rollout| rollout.history.len() > HISTORY_MAX) {
        None => Ok(()),
        Some(rollout) => {
            let text = format!("rollout {} has {} lines", rollout.id, rollout.history.len());
            Err(Violation::new("A9", text))
        }
    }
}

fn welcome(
    world: &World,
    ledger: &Ledger,
    number: u16,
    session: SessionId,
) -> Result<(), Violation> {
    let Some(process) = &world.site(number).process else { return Ok(()) };
    let Some(agent) = process.core.fleet().agent(session) else {
        return Err(Violation::new("A9", format!("session {} is nobody's", session.0)));
    };
    let of_agent = |other: &&SessionId| process.core.fleet().agent(**other) == Some(agent);
    if process.sessions.keys().filter(of_agent).count() > 1 {
        let text = format!("{agent} has two sessions at a time");
        return Err(Violation::new("S5", text));
    }
    let connection =
        process.sessions.get(&session).and_then(|id| world.network.connections.get(id));
    let Some(connection) = connection else { return Ok(()) };
    let host = world.host(connection.host);
    let enrolled = ledger.agents.get(&host.number).map(|enrolled| enrolled.enrolment);
    if enrolled != Some(host.certificate.enrolment) {
        let text = format!("{agent} is welcomed, although its enrolment is not known");
        return Err(Violation::new("S6", text));
    }
    Ok(())
}

/// Looks at a goal that leaves for an agent.
pub(super) fn assigned(
    world: &World,
    truth: &Truth,
    ledger: &Ledger,
    (number, session): (u16, SessionId),
    assignment: &Assignment,
) -> Result<(), Violation> {
    let Some(process) = &world.site(number).process else { return Ok(()) };
    let connection =
        process.sessions.get(&session).and_then(|id| world.network.connections.get(id));
    let Some(connection) = connection.filter(|connection| connection.is_open_below) else {
        return Ok(());
    };
    let application = ledger.number_of(assignment.application.as_str());
    let key = (connection.host, application);
    let offered = assignment.fence.generation.0;
    if let Some(accepted) = truth.accepted(key.0, key.1)
        && accepted.generation > offered
    {
        let text = format!(
            "host-{} follows goal {} and is sent goal {offered}",
            key.0, accepted.generation
        );
        return Err(Violation::new("F7", text));
    }
    for release in assignment.slots.iter().filter_map(|(_, slot)| slot.release()) {
        ledger.configs.judge(release, ledger.was_restored)?;
    }
    // What is sent is durable (A1: a token is stored before it is told).
    // An agent may be removed in the same batch.
    let stored = ledger.last(&key).map_or(0, |goal| goal.generation);
    if stored < offered {
        let text = format!("goal {offered} is sent to host-{}, and {stored} is stored", key.0);
        return Err(Violation::new("A1", text));
    }
    Ok(())
}
