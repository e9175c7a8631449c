//! Where each rollout stands, as its events tell: what a coordinator is in the middle of.

use cutover_coordinator_core::{Event, EventKind, event::Change, rollout::CutoverPhase};
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
    /// Whether it goes from one group of hosts to another.
    is_grouped: bool,
    /// How far its cutover is.
    cutover: Option<CutoverPhase>,
    /// The hosts that were told to lead clients over and have not said that they do; none: none was
    /// told, or what is replaced was told to end.
    flipped: Option<usize>,
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

    /// Returns whether edges hold until they are told.
    pub(super) fn has_armed_edges(&self) -> bool {
        let is_armed =
            |course: &Course| course.is_grouped && course.cutover == Some(CutoverPhase::Arm);
        self.under_way.iter().any(is_armed)
    }

    /// Returns whether gates are told to lead clients over, or hold them for that.
    pub(super) fn has_flips(&self) -> bool {
        let holds = |course: &Course| {
            let phase = matches!(course.cutover, Some(CutoverPhase::Hold | CutoverPhase::Arm));
            phase && !course.is_grouped
        };
        let flips = |course: &Course| course.flipped.is_some_and(|left| left > 0);
        self.under_way.iter().any(|course| holds(course) || flips(course))
    }

    /// Returns whether clients were led over, and what served them is to end.
    pub(super) fn is_before_the_drain(&self) -> bool {
        self.under_way.iter().any(|course| course.flipped == Some(0))
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
                    let is_grouped = started.spec.groups().is_some();
                    let id = started.id;
                    let (cutover, flipped) = (None, None);
                    let course = Course { id, doing, updated: 0, is_grouped, cutover, flipped };
                    self.under_way.push(course);
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
                course.flipped = course.flipped.map(|left| left.saturating_sub(1));
            }
            Change::BakeStarted => course.doing = Doing::Watching,
            Change::RollbackStarted { .. } => {
                course.doing = Doing::GoingBack;
                course.flipped = None;
                if course.updated > 1 {
                    coverage.reach(101);
                }
            }
            Change::HostStuck { .. } => coverage.reach(102),
            Change::GroupSwitched { .. } => {
                coverage.reach(if course.doing == Doing::GoingBack { 122 } else { 121 });
                course.cutover = None;
            }
            Change::CutoverMoved { phase } => {
                if course.is_grouped && *phase == CutoverPhase::Release {
                    coverage.reach(123);
                }
                course.cutover = Some(*phase);
            }
            Change::HostsFlipped { agents } => {
                (course.cutover, course.flipped) = (None, Some(agents.len()));
            }
            Change::HostsRetired { .. } => course.flipped = None,
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
            | Change::HostsTold { .. }
            | Change::Once { .. }
            | Change::Promoted { .. }
            | Change::Ended { .. } => {}
        }
    }
}
