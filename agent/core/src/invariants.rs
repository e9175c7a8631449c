//! What this core promises, under the ids of the project's list of promises.
//!
//! - **F2** Fences never decrease, and the new one is stored before its first effect.
//! - **F3** Within one term only one coordinator process is obeyed.
//! - **E1** Nothing is asked twice; at most one instance of an application, unless both can
//!   stand beside each other behind the gate.
//! - **E2** Only what was prepared is started.
//! - **E3** A hook runs at most once.
//! - **E9** A release is started when its hooks have passed that pass before, and gets traffic when
//!   those after its start have.
//! - **E10** A `once` hook runs where its coordinator permits it, at most once for each permit.
//! - **E7** What is wanted, prepared or in use stays on disk.
//! - **A2** Without a coordinator everything is kept running.
//! - **G1** Traffic goes to a live instance, and to none that is being stopped.
//! - **G4** What is held is released in time, unless it was armed while it was held.
//! - **G5** The slot that is not led to gets the share that its goal says, when it has settled.
//! - **A8** A live instance is known by more than a pid.

use cutover_common::{Fence, Slot, Term, planted};

use crate::{Application, Binding, Life, Remembered, TrafficState, traffic::can_stand_beside};

/// F2: an adopted fence has a higher generation and no lower term.
pub fn f2_fence_grows(held: Fence, adopted: Fence) -> bool {
    adopted.generation > held.generation && adopted.term >= held.term
}

/// F2, F3: no application was told what to do in a term later than the bound one.
pub fn f3_terms_are_bound(binding: Option<&Binding>, application: &Application) -> bool {
    application.fence().term <= binding.map_or(Term::default(), |binding| binding.term)
}

/// E1: at most one slot has an instance, unless both can stand beside each other.
pub fn e1_one_instance(application: &Application) -> bool {
    let slots = &application.slots;
    let both = slots.blue.instance.as_ref().zip(slots.green.instance.as_ref());
    both.is_none_or(|(blue, green)| can_stand_beside(&blue.release, green))
}

/// G1: what is new goes to no instance that is being stopped, nor to a slot without one.
pub fn g1_traffic_has_an_instance(application: &Application) -> bool {
    application.traffic.to.is_none_or(|slot| {
        let instance = application.slots.of(slot).instance.as_ref();
        instance.is_some_and(|instance| match instance.life {
            Life::Starting | Life::Running { .. } | Life::Ended { .. } => true,
            Life::Stopping { .. } | Life::Stopped { .. } => {
                planted!(StopsUnderTraffic: true; false)
            }
        })
    })
}

/// G4: what is held goes on to some slot in the end.
pub fn g4_what_is_held_leads_somewhere(application: &Application) -> bool {
    application.traffic.hold.limits().is_none() || application.traffic.to.is_some()
}

/// G5: a share is for a live instance beside the one that is led to.
pub fn g5_share_has_an_instance(application: &Application) -> bool {
    let TrafficState { to, aside, .. } = &application.traffic;
    aside.is_nothing()
        || to.is_some_and(|to| {
            let instance = application.slots.of(to.other()).instance.as_ref();
            instance.is_some_and(|it| matches!(it.life, Life::Running { .. }))
        })
}

/// E7: what is wanted, prepared or in use is retained.
pub fn e7_needed_is_retained(application: &Application) -> bool {
    let retained: Vec<_> = application.retained().collect();
    Slot::ALL.iter().all(|slot| {
        let state = application.slots.of(*slot);
        let instance = state.instance.as_ref().map(|instance| &instance.release);
        let mut needed =
            [application.goal(*slot).release(), state.prepared.as_ref(), instance].into_iter();
        needed.all(|release| release.is_none_or(|release| retained.contains(&release.digest)))
    })
}

/// A8: what is said of a running instance is said of this very instance, with boot and start.
pub fn a8_running_has_evidence(application: &Application) -> bool {
    Slot::ALL.iter().all(|slot| match &application.slots.of(*slot).instance {
        Some(instance) => match &instance.life {
            Life::Running { evidence } => {
                evidence.instance == instance.id && !evidence.boot_id.is_empty()
            }
            Life::Starting | Life::Stopping { .. } | Life::Stopped { .. } | Life::Ended { .. } => {
                true
            }
        },
        None => true,
    })
}

/// Returns the id of the first promise that does not hold of what is remembered.
pub fn broken(remembered: &Remembered) -> Option<&'static str> {
    let binding = remembered.binding.as_ref();
    remembered.applications.values().find_map(|application| {
        let promises = [
            ("F3", f3_terms_are_bound(binding, application)),
            ("E1", e1_one_instance(application)),
            ("G1", g1_traffic_has_an_instance(application)),
            ("G4", g4_what_is_held_leads_somewhere(application)),
            ("G5", g5_share_has_an_instance(application)),
            ("E7", e7_needed_is_retained(application)),
            ("A8", a8_running_has_evidence(application)),
        ];
        promises.into_iter().find(|(_, holds)| !holds).map(|(id, _)| id)
    })
}

#[cfg(test)]
mod tests {
    use cutover_common::{Generation, Term};

    use super::*;

    #[test]
    fn a_fence_grows_when_its_generation_does_and_its_term_does_not_shrink() {
        let fence =
            |term, generation| Fence { term: Term(term), generation: Generation(generation) };

        assert!(f2_fence_grows(fence(1, 1), fence(1, 2)));
        assert!(f2_fence_grows(fence(1, 1), fence(2, 2)));
        assert!(!f2_fence_grows(fence(1, 1), fence(2, 1)));
        assert!(!f2_fence_grows(fence(2, 1), fence(1, 2)));
        assert!(!f2_fence_grows(fence(1, 1), fence(1, 1)));
    }
}
