//! Where one request goes: a pure choice among the upstreams of one route.
//!
//! The same [`Table`] serves every request that sees this route, so that each sees the old route
//! or the new one, and never a mixture.

use cutover_common::Sha256;

use crate::program::{Flow, Route, Sticky, UpstreamKind};

/// A route, ready to choose from.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) flow: Flow,
    pub(crate) sticky: Option<Sticky>,
    /// The header, in lower case, and the position of the upstream that it reaches.
    pub(crate) allow: Option<(String, usize)>,
    /// In the order of their names, so that a client that sticks moves as little as can be when
    /// weights change, and to the same upstream through every gate.
    candidates: Vec<Candidate>,
}

#[derive(Clone, Debug)]
struct Candidate {
    /// Its position among the upstreams that the table was made with.
    position: usize,
    kind: UpstreamKind,
    /// Zero for one that is not healthy or drains.
    weight: u16,
    may_get_new: bool,
}

/// What is known of one request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wish {
    /// A point of the whole range. Points that are spread evenly share requests by weight.
    pub(crate) point: u64,
    /// It carries the header that always reaches one upstream.
    pub(crate) is_allowed: bool,
    /// It came through another gate, and goes to no third one.
    pub(crate) came_from_gate: bool,
    /// This one could not be reached just now.
    pub(crate) without: Option<usize>,
}

impl Table {
    pub(crate) fn new(route: &Route) -> Self {
        let mut candidates: Vec<(&crate::program::UpstreamName, Candidate)> = route
            .upstreams
            .iter()
            .enumerate()
            .map(|(position, upstream)| {
                let may_get_new = upstream.is_healthy && upstream.drain.is_none();
                let weight = if may_get_new { upstream.weight } else { 0 };
                let kind = upstream.kind;
                (&upstream.name, Candidate { position, kind, weight, may_get_new })
            })
            .collect();
        candidates.sort_by_key(|(name, _)| *name);
        let allow = route.allow.as_ref().and_then(|allow| {
            let at = route.upstreams.iter().position(|it| it.name == allow.upstream)?;
            Some((allow.header.to_ascii_lowercase(), at))
        });
        Self {
            flow: route.flow,
            sticky: route.sticky.clone(),
            allow,
            candidates: candidates.into_iter().map(|(_, candidate)| candidate).collect(),
        }
    }

    /// Returns the position of the upstream that gets this request. None: none may have it.
    pub(crate) fn choose(&self, wish: Wish) -> Option<usize> {
        let may = |candidate: &&Candidate| {
            let is_far = candidate.kind == UpstreamKind::Gate;
            candidate.may_get_new
                && wish.without != Some(candidate.position)
                && !(is_far && wish.came_from_gate)
        };
        if let Some((_, position)) = self.allow.as_ref().filter(|_| wish.is_allowed)
            && self.candidates.iter().filter(may).any(|it| it.position == *position)
        {
            return Some(*position);
        }
        let shares = || self.candidates.iter().filter(may);
        let total: u64 = shares().map(|it| u64::from(it.weight)).sum();
        // A point of 2^64 becomes one of the total.
        let scaled = (u128::from(wish.point) * u128::from(total)) >> 64;
        let mut left = u64::try_from(scaled).unwrap_or(0);
        for candidate in shares().filter(|it| it.weight > 0) {
            match left.checked_sub(candidate.weight.into()) {
                None => return Some(candidate.position),
                Some(rest) => left = rest,
            }
        }
        None
    }

    /// Returns whether the upstream at `position` can get anything new.
    pub(crate) fn gives_to(&self, position: usize) -> bool {
        let allows = self.allow.as_ref().is_some_and(|(_, allowed)| *allowed == position);
        self.candidates
            .iter()
            .any(|it| it.position == position && it.may_get_new && (it.weight > 0 || allows))
    }
}

/// Returns the `turn`th point of a sequence that is spread evenly over any stretch of it.
pub(crate) const fn point_of_turn(turn: u64) -> u64 {
    // 2^64 over the golden ratio: consecutive multiples are as far from each other as can be.
    turn.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Returns the point of a client that sticks: the same at every gate and in every version.
pub(crate) fn point_of_client(key: &[u8]) -> u64 {
    let digest = Sha256::of(key);
    let mut first = [0; 8];
    first.copy_from_slice(&digest.as_bytes()[..8]);
    u64::from_be_bytes(first)
}

#[cfg(test)]
mod tests;
