//! What holds of the coordinators and the fleet: locks, floors, budgets, evidence.

use super::{Seen, Violation};
use crate::{script::Script, world::World};

/// See above.
#[derive(Debug, Default)]
pub(super) struct FleetOracle {}

impl FleetOracle {
    pub(super) fn new(_script: &Script) -> Self {
        Self {}
    }

    pub(super) fn see(&mut self, _world: &World, _seen: &Seen<'_>) -> Result<(), Violation> {
        Ok(())
    }
}
