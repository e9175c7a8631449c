//! Where each rollout stands, as its events tell: what a coordinator is in the middle of.

use cutover_coordinator_core::{Event, EventKind, event::Change};
use uuid::Uuid;

use super::Coverage;

/// What one rollout is doing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Doing {
    /// Nobody was told to switch.
    Planned,
    /// Hosts are switching, or between two waves.
    Moving,
    /// Watching what was switched.
    Watching,
    GoingBack,
}

#[derive(Clone, Copy, Debug)]
struct Course {
    id: Uuid,
    doing: Doing,
    updated: usize,
}

/// The rollouts that are not over.
#[derive(Debug, Default)]
pub(super) struct Courses {
    under_way: Vec<Course>,
    /// Goals were stored and not sent.
    pub(super) unsent: bool,
    /// How many rollouts were ever stored.
    pub(super) started: usize,
}

impl Courses {
    /// Returns whether a rollout does this.
    pub(super) fn any(&self, doing: Doing) -> bool {
        self.under_way.iter().any(|course| course.doing == doing)
    }

    /// Returns whether a rollout is not over.
    pub(super) fn is_busy(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// A coordinator has stored events.
    pub(super) fn stored(&mut self, events: &[Event], coverage: &mut Coverage) {
        for event in events {
            match &event.kind {
                EventKind::RolloutStarted(started) => {
                    if self.is_busy() {
                        coverage.reach(104);
                    }
                    self.started += 1;
                    let doing = Doing::Planned;
                    self.under_way.push(Course { id: started.id, doing, updated: 0 });
                }
                EventKind::GoalSet { .. } => self.unsent = true,
                EventKind::Rollout { id, change, .. } => self.change(*id, change, coverage),
                _ => {}
            }
        }
    }

    fn change(&mut self, id: Uuid, change: &Change, coverage: &mut Coverage) {
        if let Change::Ended { .. } = change {
            self.under_way.retain(|course| course.id != id);
            return;
        }
        let Some(course) = self.under_way.iter_mut().find(|course| course.id == id) else { return };
        match change {
            Change::HostsReleased { .. } => course.doing = Doing::Moving,
            Change::HostUpdated { .. } => {
                course.updated += 1;
                course.doing = Doing::Watching;
            }
            Change::BakeStarted => course.doing = Doing::Watching,
            Change::RollbackStarted { .. } => {
                course.doing = Doing::GoingBack;
                if course.updated > 1 {
                    coverage.reach(101);
                }
            }
            Change::HostStuck { .. } => coverage.reach(102),
            Change::StepStarted { .. }
            | Change::HostFailed { .. }
            | Change::HostUnreachable { .. }
            | Change::RollbackWave { .. }
            | Change::HostsReverted { .. }
            | Change::HostReverted { .. }
            | Change::HostsWithdrawn { .. }
            | Change::HostsExcluded { .. }
            | Change::Paused { .. }
            | Change::Resumed { .. }
            | Change::Held { .. }
            | Change::Retried { .. }
            | Change::HostsStaged { .. }
            | Change::HostStaged { .. }
            | Change::HostsShifted { .. }
            | Change::CutoverMoved { .. }
            | Change::HostsFlipped { .. }
            | Change::HostsRetired { .. }
            | Change::HostsTold { .. }
            | Change::Promoted { .. }
            | Change::Ended { .. } => {}
        }
    }
}
