//! Goals: which assignment counts (promises F2, F5).

use cutover_common::{
    Acceptance, Assignment, ErrorChain, Fence, Slot, Term, planted, route::InvalidRoute,
};

use crate::Application;

/// How far a generation may jump (promises.md §4 row 6): no honest coordinator makes four billion
/// goals between two that one agent sees, and a wild number would lock the agent out for ever.
pub const GENERATION_JUMP_MAX: u64 = 1 << 32;

/// How many applications one agent takes on; each costs memory and a line in every heartbeat.
pub const APPLICATIONS_MAX: usize = 256;

/// Why an assignment is not obeyed. The texts begin with the reason that logs are searched for.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AssignmentRefusal {
    #[error("STALE_GENERATION: this agent holds {held}, which is newer")]
    Stale { held: Fence },
    #[error("GENERATION_CONFLICT: this agent holds {held} with another content; two coordinators?")]
    Conflict { held: Fence },
    #[error("BAD_GENERATION: a generation is at least 1 and at most 2^32 above the held {held}")]
    BadGeneration { held: Fence },
    #[error("BAD_TERM: the session is one of term {}", session.0)]
    BadTerm { session: Term },
    #[error("BOTH_SLOTS: only one slot can run where no route says where a gate leads")]
    BothSlots,
    #[error("BAD_ROUTE: {}", ErrorChain(.0))]
    BadRoute(InvalidRoute),
    #[error("OTHER_APPLICATION: the release in slot {slot} is one of another application")]
    OtherApplication { slot: Slot },
    #[error("TOO_MANY_APPLICATIONS: an agent takes on at most {APPLICATIONS_MAX}")]
    TooMany,
}

/// What becomes of an assignment.
#[derive(Clone, Debug, Eq, PartialEq)]
#[must_use]
pub enum Judgement {
    Adopt,
    /// It is the goal already. A later term is remembered.
    Keep {
        raise_to: Option<Term>,
    },
    Refuse(AssignmentRefusal),
}

/// Judges an assignment that came over a session of term `session` against what is held.
/// `known` is how many applications there are.
pub fn judge(
    held: Option<&Application>,
    known: usize,
    session: Term,
    offered: &Assignment,
) -> Judgement {
    let held_fence = held.map_or(Fence::default(), Application::fence);
    if let Some(refusal) = malformed(held_fence, session, offered) {
        return Judgement::Refuse(refusal);
    }
    match (held_fence.judge(offered.fence), held) {
        (Acceptance::Stale { held }, _) => Judgement::Refuse(AssignmentRefusal::Stale { held }),
        (Acceptance::AlreadyHeld, Some(held)) => {
            if planted!(ConflictKept: false; !held.assignment.asks_the_same_as(offered)) {
                return Judgement::Refuse(AssignmentRefusal::Conflict { held: held_fence });
            }
            let is_later = offered.fence.term > held_fence.term;
            Judgement::Keep { raise_to: is_later.then_some(offered.fence.term) }
        }
        (Acceptance::AlreadyHeld | Acceptance::Adopted, None) if known >= APPLICATIONS_MAX => {
            Judgement::Refuse(AssignmentRefusal::TooMany)
        }
        (Acceptance::AlreadyHeld, None) | (Acceptance::Adopted, _) => Judgement::Adopt,
    }
}

fn malformed(held: Fence, session: Term, offered: &Assignment) -> Option<AssignmentRefusal> {
    let generation = offered.fence.generation.0;
    if generation == 0 || generation.saturating_sub(held.generation.0) > GENERATION_JUMP_MAX {
        return Some(AssignmentRefusal::BadGeneration { held });
    }
    if offered.fence.term > session {
        return Some(AssignmentRefusal::BadTerm { session });
    }
    match offered.check_route() {
        Ok(()) => {}
        Err(InvalidRoute::Missing) => return Some(AssignmentRefusal::BothSlots),
        Err(invalid) => return Some(AssignmentRefusal::BadRoute(invalid)),
    }
    let is_foreign = |slot: &Slot| {
        let release = offered.slots.of(*slot).release();
        release.is_some_and(|release| release.name.application != offered.application)
    };
    let slot = Slot::ALL.into_iter().find(is_foreign)?;
    Some(AssignmentRefusal::OtherApplication { slot })
}
