//! The promises that this core keeps, as predicates. Their ids are those of the project's list
//! of promises; each is used by tests, by the executor itself, and stays on in release builds
//! where it guards a fence or a budget.

use cutover_common::{AgentName, planted};

use crate::{
    coordinator::Coordinator,
    event::Change,
    once::Stand,
    rollout::{
        HostState, Rollout,
        decide::floor::{costs_nothing, is_up},
    },
};

/// F1: an application has at most one rollout that is not over on any of its hosts.
pub fn f1_one_rollout(coordinator: &Coordinator) -> bool {
    let active: Vec<&Rollout> = coordinator.active().collect();
    active.iter().enumerate().all(|(i, one)| {
        active.iter().skip(i + 1).all(|other| {
            one.application != other.application
                || one.hosts.keys().all(|agent| !other.hosts.contains_key(agent))
        })
    })
}

/// A1: releasing `agents` leaves at least the floor of freshly healthy, undisrupted instances,
/// or takes out only what is down already. What is not known to be down costs one.
pub fn a1_floor_is_kept(
    coordinator: &Coordinator,
    rollout: &Rollout,
    members: &[AgentName],
    agents: &[AgentName],
) -> bool {
    let scene = coordinator.scene(coordinator.fleet().last_looked(), members);
    let left = members
        .iter()
        .filter(|agent| !agents.contains(agent) && is_up(rollout, scene, agent))
        .count();
    let floor = usize::try_from(rollout.spec.min_healthy).unwrap_or(usize::MAX);
    let zones_are_kept = rollout.spec.zone_floors.iter().all(|(zone, floor)| {
        let is_here = |agent: &&AgentName| scene.zone(rollout, agent) == Some(zone);
        let stays = |agent: &&AgentName| !agents.contains(agent) && is_up(rollout, scene, agent);
        let left = members.iter().filter(is_here).filter(stays).count();
        let floor = usize::try_from(*floor).unwrap_or(usize::MAX);
        let mut taken = agents.iter().filter(is_here);
        left >= floor || taken.all(|agent| costs_nothing(rollout, scene, agent))
    });
    let is_kept = left >= floor || agents.iter().all(|agent| costs_nothing(rollout, scene, agent));
    is_kept && zones_are_kept
}

/// A4: no host is released forward while more hosts have failed than the budget bears.
pub fn a4_budget_is_kept(rollout: &Rollout) -> bool {
    let failed = rollout
        .hosts
        .values()
        .filter(|host| matches!(host.state, HostState::Failed { .. }))
        .count();
    failed <= usize::try_from(rollout.spec.max_failed).unwrap_or(usize::MAX)
}

/// E10: while the once hook of the release has not passed, no other host than the one that runs it
/// is told to run anything of the release.
pub fn e10_once_comes_first(
    coordinator: &Coordinator,
    rollout: &Rollout,
    agents: &[AgentName],
) -> bool {
    let scene = coordinator.scene(coordinator.fleet().last_looked(), &[]);
    let once = scene.onces.of(rollout);
    let is_given = |agent: &AgentName| {
        once.is_some_and(|once| once.stand == Stand::Given && once.agent == *agent)
    };
    let is_kept = !scene.awaits_once(rollout) || agents.iter().all(is_given);
    planted!(OnceNotAwaited: true; is_kept)
}

/// Checks what `change` is about to do. On in release builds: a broken fence or budget must stop
/// the process, not the fleet.
pub(crate) fn assert_change(
    coordinator: &Coordinator,
    rollout: &Rollout,
    change: &Change,
    members: &[AgentName],
) {
    match change {
        Change::HostsReleased { agents } => {
            assert!(a1_floor_is_kept(coordinator, rollout, members, agents), "A1: {change:?}");
            assert!(a4_budget_is_kept(rollout), "A4: {change:?}");
            assert!(e10_once_comes_first(coordinator, rollout, agents), "E10: {change:?}");
        }
        Change::HostsStaged { agents } => {
            assert!(e10_once_comes_first(coordinator, rollout, agents), "E10: {change:?}");
        }
        Change::HostsReverted { agents } => {
            assert!(a1_floor_is_kept(coordinator, rollout, members, agents), "A1: {change:?}");
        }
        // What is staged, shifted and flipped takes no host out: the other instance serves.
        Change::HostStaged { .. }
        | Change::HostsShifted { .. }
        | Change::CutoverMoved { .. }
        | Change::HostsFlipped { .. }
        | Change::GroupSwitched { .. }
        | Change::HostsRetired { .. }
        | Change::HostsTold { .. }
        | Change::StepStarted { .. }
        | Change::HostUpdated { .. }
        | Change::HostFailed { .. }
        | Change::HostUnreachable { .. }
        | Change::BakeStarted
        | Change::RollbackStarted { .. }
        | Change::RollbackWave { .. }
        | Change::HostReverted { .. }
        | Change::HostStuck { .. }
        | Change::HostsWithdrawn { .. }
        | Change::HostsExcluded { .. }
        | Change::Once { .. }
        | Change::Paused { .. }
        | Change::Resumed { .. }
        | Change::Held { .. }
        | Change::Retried { .. }
        | Change::Promoted { .. }
        | Change::Ended { .. } => {}
    }
}
