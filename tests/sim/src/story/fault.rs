//! Faults in words.

use super::span;
use crate::script::{Direction, Fault, KillPoint};

/// Tells a fault.
pub(crate) fn fault(fault: &Fault) -> String {
    match fault {
        Fault::KillAgent { host, point, down_ms } => {
            format!("the agent of host-{host} {}, and is back {} later", at(*point), span(*down_ms))
        }
        Fault::PauseAgent { host, for_ms } => {
            format!("the agent of host-{host} is stopped for {}", span(*for_ms))
        }
        Fault::CutPower { host, down_ms } => {
            format!("host-{host} loses its power for {}", span(*down_ms))
        }
        Fault::Suspend { host, for_ms } => {
            format!("host-{host} is suspended for {}", span(*for_ms))
        }
        Fault::SetClock { host, ahead_ms } => {
            format!("the clock of host-{host} is set {}", ahead(*ahead_ms))
        }
        Fault::KillInstance { host, application } => {
            format!("what runs of application {application} on host-{host} is killed")
        }
        Fault::CrashGate { host, down_ms, forgets } => {
            let what = if *forgets { " with nothing to follow" } else { "" };
            format!("the gate of host-{host} crashes, and is back{what} {} later", span(*down_ms))
        }
        Fault::HinderGate { host, application, for_ms } => format!(
            "the gate of host-{host} can serve nothing new of application {application} for {}",
            span(*for_ms)
        ),
        Fault::FillDisk { host, for_ms } => {
            format!("the disk of host-{host} is full for {}", span(*for_ms))
        }
        Fault::FailDisk { host, operation } => {
            format!("the disk of host-{host} fails once, after {operation} more calls")
        }
        Fault::SlowDisk { host, sync_ms, for_ms } => {
            format!("for {} every fsync on host-{host} takes {}", span(*for_ms), span(*sync_ms))
        }
        Fault::RefuseProcesses { host, for_ms } => {
            format!("host-{host} has no room for another process for {}", span(*for_ms))
        }
        Fault::FlipBit { host, at_permille } => {
            format!("a bit flips at {at_permille} thousandths of the journal of host-{host}")
        }
        Fault::CutLink { host, direction, for_ms } => {
            format!("nothing passes {} host-{host} for {}", way(*direction), span(*for_ms))
        }
        Fault::SlowLink { host, delay_ms, for_ms } => {
            format!("for {} messages of host-{host} take {} longer", span(*for_ms), span(*delay_ms))
        }
        Fault::ResetLink { host } => format!("the connection of host-{host} is reset"),
        Fault::Route { host, coordinator } => {
            format!("host-{host} reaches coordinator {coordinator} from here on")
        }
        Fault::KillCoordinator { .. }
        | Fault::PauseCoordinator { .. }
        | Fault::CutCoordinatorPower { .. }
        | Fault::SlowCoordinatorDisk { .. }
        | Fault::FailCoordinatorDisk { .. }
        | Fault::SetCoordinatorClock { .. }
        | Fault::Backup
        | Fault::Restore { .. }
        | Fault::Clone
        | Fault::EndClone
        | Fault::LoseCoordinator => of_coordinator(fault),
    }
}

fn of_coordinator(fault: &Fault) -> String {
    match fault {
        Fault::KillCoordinator { coordinator, point, down_ms } => {
            format!("{} {}, and is back {} later", name(*coordinator), at(*point), span(*down_ms))
        }
        Fault::PauseCoordinator { coordinator, for_ms } => {
            format!("{} is stopped for {}", name(*coordinator), span(*for_ms))
        }
        Fault::CutCoordinatorPower { coordinator, down_ms } => {
            format!("{} loses its power for {}", name(*coordinator), span(*down_ms))
        }
        Fault::SlowCoordinatorDisk { coordinator, sync_ms, for_ms } => format!(
            "for {} every fsync of {} takes {}",
            span(*for_ms),
            name(*coordinator),
            span(*sync_ms)
        ),
        Fault::FailCoordinatorDisk { coordinator, down_ms } => format!(
            "the next append of {} fails, and it is back {} later",
            name(*coordinator),
            span(*down_ms)
        ),
        Fault::SetCoordinatorClock { coordinator, ahead_ms } => {
            format!("the clock of {} is set {}", name(*coordinator), ahead(*ahead_ms))
        }
        Fault::Backup => "a backup of the coordinator is taken".to_owned(),
        Fault::Restore { down_ms } => {
            format!("the coordinator is restored from its backup, {} later", span(*down_ms))
        }
        Fault::Clone => {
            "a second coordinator starts from a copy of the first one's disk".to_owned()
        }
        Fault::EndClone => "the second coordinator is ended for good".to_owned(),
        Fault::LoseCoordinator => "the coordinator and its store are gone for good".to_owned(),
        Fault::KillAgent { .. }
        | Fault::PauseAgent { .. }
        | Fault::CutPower { .. }
        | Fault::Suspend { .. }
        | Fault::SetClock { .. }
        | Fault::KillInstance { .. }
        | Fault::CrashGate { .. }
        | Fault::HinderGate { .. }
        | Fault::FillDisk { .. }
        | Fault::FailDisk { .. }
        | Fault::SlowDisk { .. }
        | Fault::RefuseProcesses { .. }
        | Fault::FlipBit { .. }
        | Fault::CutLink { .. }
        | Fault::SlowLink { .. }
        | Fault::ResetLink { .. }
        | Fault::Route { .. } => format!("{fault:?}"),
    }
}

fn name(coordinator: u16) -> &'static str {
    if coordinator == 0 { "the coordinator" } else { "the second coordinator" }
}

fn at(point: KillPoint) -> String {
    match point {
        KillPoint::Now => "is killed".to_owned(),
        KillPoint::BeforeStore => "is killed before it next stores".to_owned(),
        KillPoint::AfterStore => "is killed when it has next stored, with nothing done".to_owned(),
        KillPoint::AfterActions { count } => {
            format!("is killed when it has next stored, with {count} things done")
        }
        KillPoint::AtDisk { operation } => {
            format!("is killed at call {operation} of its next storing")
        }
    }
}

const fn way(direction: Direction) -> &'static str {
    match direction {
        Direction::Up => "from",
        Direction::Down => "to",
        Direction::Both => "to and from",
    }
}

fn ahead(ahead_ms: i64) -> String {
    let by = span(ahead_ms.unsigned_abs());
    match ahead_ms {
        0 => "right".to_owned(),
        1.. => format!("{by} ahead"),
        _ => format!("{by} back"),
    }
}
