//! What becomes of an application's traffic: where it goes, and whether it is held.

use cutover_common::{Generation, HoldLimits, Slot, Timestamp, planted};

use crate::{Application, Aside, Hold, Life, TrafficState};

pub(super) fn shift(
    known: &mut Application,
    to: Option<Slot>,
    at: Timestamp,
    aside: &Aside,
) -> Result<(), &'static str> {
    let is_behind_gate = |slot: Slot| {
        let instance = known.slots.of(slot).instance.as_ref();
        instance
            .is_some_and(|held| held.port.is_some() && matches!(held.life, Life::Running { .. }))
    };
    let other = if aside.is_nothing() { None } else { Some(to.map(Slot::other)) };
    let is_led = to.into_iter().all(is_behind_gate)
        && other.is_none_or(|other| other.is_some_and(is_behind_gate));
    if !is_led {
        return Err("traffic goes to a live instance that stands behind the gate");
    }
    let (aside, hold) = (aside.clone(), known.traffic.hold.ended());
    known.traffic = TrafficState { to, since: Some(at), aside, hold };
    Ok(())
}

pub(super) fn begin_hold(
    known: &mut Application,
    generation: Generation,
    limits: HoldLimits,
) -> Result<(), &'static str> {
    if generation != known.fence().generation || known.traffic.to.is_none() {
        return Err("what is led somewhere is held, and for the goal that is followed (G4)");
    }
    if known.traffic.hold == (Hold::Over { generation }) {
        return Err("a hold that was over is not begun again for its goal (G4)");
    }
    known.traffic.hold = Hold::Begun { generation, limits };
    Ok(())
}

pub(super) fn arm_hold(
    known: &mut Application,
    generation: Generation,
    limits: HoldLimits,
) -> Result<(), &'static str> {
    if generation != known.fence().generation || known.traffic.hold.limits().is_none() {
        return Err("what is held is armed, and for the goal that is followed (G4)");
    }
    known.traffic.hold = Hold::Armed { generation, limits };
    Ok(())
}

pub(super) fn end_hold(known: &mut Application) -> Result<(), &'static str> {
    let generation = match known.traffic.hold {
        Hold::Begun { generation, .. } => generation,
        Hold::Armed { generation, .. } if planted!(ArmedHoldExpires: true; false) => generation,
        Hold::None | Hold::Armed { .. } | Hold::Over { .. } => {
            return Err("what is not held, or is armed, does not end by itself (G4)");
        }
    };
    known.traffic.hold = Hold::Over { generation };
    Ok(())
}

/// Another coordinator counts its generations from one: none of them is the one of this hold.
pub(super) fn forget_generation(hold: &mut Hold) {
    match hold {
        Hold::Begun { generation, .. } | Hold::Armed { generation, .. } => {
            *generation = Generation::default();
        }
        Hold::Over { .. } => *hold = Hold::None,
        Hold::None => {}
    }
}
