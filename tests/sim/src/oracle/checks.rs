//! Checks, on the hosts: A11. What an agent tells of them is what their commands have answered.

use std::collections::BTreeMap;

use cutover_agent_core::Input;
use cutover_common::{
    ApplicationName, CheckName,
    check::{Answer, CanaryId},
};

use super::{Seen, Violation};
use crate::world::Up;

/// See above.
#[derive(Debug, Default)]
pub(super) struct CheckOracle {
    /// How many answers in a row have failed, by the agents' processes that are there.
    failing: BTreeMap<(u16, ApplicationName, CanaryId, CheckName), u32>,
}

impl CheckOracle {
    pub(super) fn see(&mut self, seen: &Seen<'_>) -> Result<(), Violation> {
        match seen {
            Seen::AgentStarted { number } => self.failing.retain(|(host, ..), _| host != number),
            Seen::AgentTakes {
                number,
                input: Input::Checked { application, canary, check, answer, .. },
            } => {
                let key = (*number, application.clone(), *canary, check.name.clone());
                let failing = self.failing.entry(key).or_default();
                match answer {
                    Answer::Pass => *failing = 0,
                    Answer::Fail => *failing += 1,
                    Answer::NotEnough => {}
                }
            }
            Seen::Says { number, up: Up::Heartbeat(beat), .. } => {
                for told in &beat.checks {
                    let key = (*number, told.application.clone(), told.canary, told.check.clone());
                    let failed = self.failing.get(&key).copied().unwrap_or_default();
                    if told.failing > failed {
                        let what = format!(
                            "host {number} tells of {} failures of check {} in a row, of {failed}",
                            told.failing, told.check
                        );
                        return Err(Violation::new("A11", what));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}
