//! The story of a run, in the words that its operators would use.

mod agent;
mod coordinator;
mod fault;
mod operator;

use cutover_common::{Generation, InstanceId, Sha256, wire::FarewellReason};

pub(crate) use self::{
    agent::event as agent_event,
    coordinator::events as coordinator_events,
    fault::fault,
    operator::{answer, request},
};

/// Names an instance as far as a person needs it to tell two apart.
pub(crate) fn short(instance: InstanceId) -> String {
    instance.0.simple().to_string()[..4].to_owned()
}

/// Names content, in the same way.
fn short_digest(digest: Sha256) -> String {
    digest.to_string()[..6].to_owned()
}

/// Tells why a coordinator ends a session.
pub(crate) const fn farewell(reason: FarewellReason) -> &'static str {
    match reason {
        FarewellReason::AlreadyConnected => "its name is connected already",
        FarewellReason::ShuttingDown => "the coordinator is shutting down",
        FarewellReason::ProtocolMismatch => "it speaks another protocol",
        FarewellReason::Removed => "it was removed",
        FarewellReason::BadMessage => "it said what it may not say",
    }
}

fn generation(generation: Generation) -> String {
    format!("goal {}", generation.0)
}

/// Prints milliseconds as people say them.
fn span(ms: u64) -> String {
    const HOUR: u64 = 3_600_000;
    const YEAR: u64 = 8_760 * HOUR;
    match ms {
        0..1_000 => format!("{ms} ms"),
        YEAR.. => format!("{} years", ms / YEAR),
        _ if ms.is_multiple_of(HOUR) => format!("{} h", ms / HOUR),
        _ if ms.is_multiple_of(1_000) => format!("{} s", ms / 1_000),
        _ => format!("{}.{:03} s", ms / 1_000, ms % 1_000),
    }
}

#[cfg(test)]
mod tests;
