//! What holds on each host: fencing, effects, what keeps running.

use super::{Seen, Violation};
use crate::{script::Script, world::World};

/// See above.
#[derive(Debug, Default)]
pub(super) struct HostOracle {}

impl HostOracle {
    pub(super) fn new(_script: &Script) -> Self {
        Self {}
    }

    pub(super) fn see(&mut self, _world: &World, _seen: &Seen<'_>) -> Result<(), Violation> {
        Ok(())
    }
}
