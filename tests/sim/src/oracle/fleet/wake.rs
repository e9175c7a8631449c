//! A6: nothing is due before the moment that a core wants to be woken at, and none spins.

use cutover_common::Timestamp;
use cutover_coordinator_core::{Input, Step};

use crate::{moment::Moment, oracle::Violation, world::World};

/// Of how many steps one is looked at closely: a look costs a copy of the core.
const EVENTS_EVERY: u32 = 16;
const QUIET_EVERY: u32 = 512;

/// How many ticks one second bears.
const TICKS_MAX: u32 = 100;

/// See above.
#[derive(Debug, Default)]
pub(super) struct Wake {
    events: u32,
    quiet: u32,
    ticks: u32,
    second: u64,
}

impl Wake {
    /// Looks at a core after a step.
    pub(super) fn stepped(
        &mut self,
        world: &World,
        number: u16,
        step: &Step,
        is_timed: bool,
    ) -> Result<(), Violation> {
        if is_timed {
            self.tick(world.now)?;
        }
        let (count, every) = if step.events.is_empty() {
            (&mut self.quiet, QUIET_EVERY)
        } else {
            (&mut self.events, EVENTS_EVERY)
        };
        *count += 1;
        if !count.is_multiple_of(every) {
            return Ok(());
        }
        look_ahead(world, number)
    }

    fn tick(&mut self, now: Moment) -> Result<(), Violation> {
        let second = now.0 / 1_000_000;
        if second != self.second {
            (self.second, self.ticks) = (second, 0);
        }
        self.ticks += 1;
        if self.ticks > TICKS_MAX {
            return Err(Violation::new("A6", format!("{TICKS_MAX} ticks in one second")));
        }
        Ok(())
    }
}

/// Whatever would be decided right before the wake-up that a core asks for was due earlier, and
/// would have come too late.
fn look_ahead(world: &World, number: u16) -> Result<(), Violation> {
    let Some(process) = &world.site(number).process else { return Ok(()) };
    let now = process.clock.at(world.now);
    let far = Timestamp::from_unix_ms(now.unix_ms() + 3_600_000);
    let wake = process.core.next_wake().unwrap_or(far);
    let Some(before) = wake.unix_ms().checked_sub(1).filter(|at| *at >= now.unix_ms()) else {
        return Ok(());
    };
    let mut copy = process.core.clone();
    let step = copy.handle(Timestamp::from_unix_ms(before), Input::Tick);
    match step.events.first() {
        None => Ok(()),
        Some(event) => {
            let text = format!(
                "{:?} is due before the next wake-up, which is {} ms from now",
                event.kind,
                wake.unix_ms() - now.unix_ms()
            );
            Err(Violation::new("A6", text))
        }
    }
}
