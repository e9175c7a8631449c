//! Hold: what is told of a hold, by the gate's word and by what became of it.

use cutover_common::{ApplicationName, HoldState, RouteMode, Slot, planted};

use crate::{Agent, Application, Hold};

impl Agent {
    /// Returns what the gate has said of holding.
    pub(crate) fn hold_state(
        &self,
        name: &ApplicationName,
        application: &Application,
    ) -> HoldState {
        if !self.gate.holds(name) {
            return planted!(
                DrainedUnheard: match application.traffic.hold.limits() {
                    Some(_) => HoldState::Drained,
                    None => HoldState::Open,
                };
                HoldState::Open
            );
        }
        // For the very goal that is told of: who hears that of an armed one counts on it.
        let mode = application.assignment.route.as_ref().map(|route| route.mode);
        let is_of_goal = match (mode, application.traffic.hold) {
            (Some(RouteMode::Hold(_)), Hold::Begun { generation, .. })
            | (Some(RouteMode::Armed(_)), Hold::Armed { generation, .. }) => {
                generation == application.fence().generation
            }
            _ => planted!(
                UnarmedToldAsArmed: application.traffic.hold.limits().is_some();
                false
            ),
        };
        let is_empty = || Slot::ALL.into_iter().all(|slot| self.gate.is_empty(name, slot));
        if is_of_goal && planted!(DrainedBeforeEmpty: true; is_empty()) {
            HoldState::Drained
        } else {
            HoldState::Holding
        }
    }
}

/// Says why the gate does not hold what the goal wants held, or nothing.
pub(crate) fn hold_text(application: &Application) -> &'static str {
    let mode = application.assignment.route.as_ref().map(|route| route.mode);
    let generation = application.fence().generation;
    match (mode, application.traffic.hold) {
        (Some(RouteMode::Hold(_)), Hold::Over { generation: of }) if of == generation => {
            "what was held is released, as no other goal came in time; not held again before one"
        }
        (Some(RouteMode::Armed(_)), Hold::None | Hold::Over { .. }) => {
            "cannot be armed, as nothing is held any more; what is new goes on"
        }
        _ => "",
    }
}
