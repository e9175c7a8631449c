//! Promote: a person says that what is being watched, or waits for a word, is good enough.

use cutover_common::Timestamp;
use uuid::Uuid;

use super::deploy::refuse;
use crate::{
    action::Refusal,
    coordinator::{Coordinator, Step},
    event::{Change, EventKind},
    rollout::State,
};

impl Coordinator {
    pub(super) fn promote(
        &mut self,
        now: Timestamp,
        (by, call): (&str, Uuid),
        id: Uuid,
        (reason, full): (String, bool),
        step: &mut Step,
    ) -> Result<String, Refusal> {
        let Some(rollout) = self.rollouts.get(&id) else {
            return Err(refuse("it is gone", ""));
        };
        match &rollout.state {
            State::Advancing { .. } if rollout.can_be_promoted(full) => {}
            State::Paused { .. } => {
                return Err(refuse("it is paused", format!("let it go on: cutover resume {id}")));
            }
            State::Held { .. } => {
                return Err(refuse(
                    "it is held: nothing moves until somebody decides",
                    format!("see why: cutover why {id}"),
                ));
            }
            State::Advancing { .. }
            | State::Baking { .. }
            | State::RollingBack { .. }
            | State::Ended { .. } => {
                return Err(refuse(
                    "nothing of it waits for a person or for time",
                    format!("see what it does: cutover why {id}"),
                ));
            }
        }
        let change = Change::Promoted { by: by.to_owned(), reason, full };
        self.record(now, step, EventKind::Rollout { id, change, call: Some(call) });
        Ok(if full {
            "promoted: it goes on without another pause, as far as health and the floor allow"
        } else {
            "promoted: it goes on"
        }
        .to_owned())
    }
}
