//! Where one request goes: a pure choice among the upstreams of one route.
//!
//! The same [`Table`] serves every request that sees this route, so that each sees the old route
//! or the new one, and never a mixture.

use cutover_common::{Allow, Sha256};

use crate::program::{Flow, Route, Sticky, UpstreamKind};

/// A route, ready to choose from.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) flow: Flow,
    pub(crate) sticky: Option<Sticky>,
    pub(crate) allow: Option<AllowedAt>,
    /// In the order of their names, so that a client that sticks moves as little as can be when
    /// weights change, and to the same upstream through every gate.
    candidates: Vec<Candidate>,
}

/// Which requests reach one upstream whatever its weight.
#[derive(Clone, Debug)]
pub(crate) struct AllowedAt {
    /// What they carry.
    pub(crate) by: Allow,
    /// Of the upstream, among those that the table was made with.
    position: usize,
}

#[derive(Clone, Debug)]
struct Candidate {
    /// Its position among the upstreams that the table was made with.
    position: usize,
    kind: UpstreamKind,
    /// Zero for one that is not healthy or drains.
    weight: u16,
    may_get_new: bool,
    is_in_doubt: bool,
}

/// Which gate a request came from.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum CameFrom {
    /// None: from a client.
    #[default]
    Client,
    /// One in front of this host.
    Edge,
    /// One of another host, whose instances this one stands in for.
    Gate,
}

/// What is known of one request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wish {
    /// A point of the whole range. Points that are spread evenly share requests by weight.
    pub(crate) point: u64,
    /// It carries what always reaches one upstream.
    pub(crate) is_allowed: bool,
    /// A peer's goes to no third gate, an edge's to no second edge: nothing runs in a circle.
    pub(crate) came_from: CameFrom,
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
                let (kind, is_in_doubt) = (upstream.kind, upstream.is_in_doubt);
                let candidate = Candidate { position, kind, weight, may_get_new, is_in_doubt };
                (&upstream.name, candidate)
            })
            .collect();
        candidates.sort_by_key(|(name, _)| *name);
        let allow = route.allow.as_ref().and_then(|allow| {
            let position = route.upstreams.iter().position(|it| it.name == allow.upstream)?;
            Some(AllowedAt { by: allow.by.clone(), position })
        });
        Self {
            flow: route.flow,
            sticky: route.sticky.clone(),
            allow,
            candidates: candidates.into_iter().map(|(_, candidate)| candidate).collect(),
        }
    }

    /// Returns the position of the upstream that gets this request: none of `tried`, and none that
    /// `rests` while others are there. None: none may have it.
    pub(crate) fn choose(
        &self,
        wish: Wish,
        tried: &[usize],
        rests: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let may = |candidate: &Candidate| {
            candidate.may_get_new
                && !tried.contains(&candidate.position)
                && may_go(wish.came_from, candidate.kind)
        };
        let is_up = |candidate: &Candidate| {
            may(candidate) && !(candidate.kind != UpstreamKind::Slot && rests(candidate.position))
        };
        let is_sure = |candidate: &Candidate| is_up(candidate) && !candidate.is_in_doubt;
        let sure = if tried.is_empty() { None } else { self.share(wish, is_sure) };
        sure.or_else(|| self.share(wish, is_up)).or_else(|| self.share(wish, may))
    }

    /// Returns the position of the upstream that gets this request by its weight, of those that
    /// `may`.
    fn share(&self, wish: Wish, may: impl Fn(&Candidate) -> bool) -> Option<usize> {
        let may = |candidate: &&Candidate| may(candidate);
        if let Some(AllowedAt { position, .. }) = self.allow.as_ref().filter(|_| wish.is_allowed)
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
        let allows = self.allow.as_ref().is_some_and(|allow| allow.position == position);
        self.candidates
            .iter()
            .any(|it| it.position == position && it.may_get_new && (it.weight > 0 || allows))
    }
}

const fn may_go(came_from: CameFrom, kind: UpstreamKind) -> bool {
    match (kind, came_from) {
        (UpstreamKind::Slot, _)
        | (UpstreamKind::Gate, CameFrom::Client | CameFrom::Edge)
        | (UpstreamKind::Host, CameFrom::Client) => true,
        (UpstreamKind::Gate, CameFrom::Gate)
        | (UpstreamKind::Host, CameFrom::Edge | CameFrom::Gate) => false,
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
