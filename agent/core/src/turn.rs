//! Turn: one call of the core: its time, its luck, and what came of it.

use cutover_common::{InstanceId, Jitter, Timestamp};
use uuid::{Builder, Uuid};

use crate::{Action, Event};

/// Collects what one call decides.
#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) now: Timestamp,
    luck: u128,
    draws: u64,
    pub(crate) events: Vec<Event>,
    pub(crate) actions: Vec<Action>,
    /// Whether the input was the end of a preparation.
    pub(crate) ends_preparation: bool,
    /// Whether the input changed nothing that is looked at when something is decided or reported.
    pub(crate) is_moot: bool,
}

impl Turn {
    pub(crate) fn new(now: Timestamp, luck: Uuid) -> Self {
        Self {
            now,
            luck: luck.as_u128(),
            draws: 0,
            events: Vec::new(),
            actions: Vec::new(),
            ends_preparation: false,
            is_moot: false,
        }
    }

    /// Returns whether this call can have changed what must stay on disk: what is remembered, or
    /// what is being prepared.
    pub(crate) fn changes_house(&self) -> bool {
        let prepares = |action: &Action| matches!(action, Action::Prepare { .. });
        self.ends_preparation || !self.events.is_empty() || self.actions.iter().any(prepares)
    }

    pub(crate) fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    /// Draws an id that no other call draws, as far as luck goes.
    pub(crate) fn draw_id(&mut self) -> Uuid {
        Builder::from_random_bytes(self.draw().to_be_bytes()).into_uuid()
    }

    pub(crate) fn draw_instance(&mut self) -> InstanceId {
        InstanceId(self.draw_id())
    }

    /// Draws a number that no other call draws, as far as luck goes.
    pub(crate) fn draw_number(&mut self) -> u64 {
        let (number, _) = self.draw_id().as_u64_pair();
        number
    }

    pub(crate) fn draw_jitter(&mut self) -> Jitter {
        let [a, b, c, d, ..] = self.draw().to_be_bytes();
        Jitter::from_bits(u32::from_be_bytes([a, b, c, d]))
    }

    /// Mixes the luck with a counter. The constants are those of MurmurHash3's finalizer in
    /// each half; one call draws a handful, so that nothing more is needed.
    fn draw(&mut self) -> u128 {
        self.draws += 1;
        let [high, low] = [self.luck >> 64, self.luck & u128::from(u64::MAX)]
            .map(|half| mix(u64::try_from(half).unwrap_or_default() ^ mix(self.draws)));
        u128::from(high) << 64 | u128::from(low)
    }
}

const fn mix(mut bits: u64) -> u64 {
    bits ^= bits >> 33;
    bits = bits.wrapping_mul(0xff51_afd7_ed55_8ccd);
    bits ^= bits >> 33;
    bits = bits.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    bits ^ (bits >> 33)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn draws_differ_within_a_call_and_between_calls_and_repeat_with_the_luck() {
        let draws = |luck: u128| {
            let mut turn = Turn::new(Timestamp::default(), Uuid::from_u128(luck));
            [turn.draw_id(), turn.draw_id(), turn.draw_id()]
        };
        let all: BTreeSet<_> = (0..1000).flat_map(draws).collect();

        assert_eq!(all.len(), 3000);
        assert_eq!(draws(7), draws(7));
    }
}
