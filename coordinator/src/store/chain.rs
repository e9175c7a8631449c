//! The hash chain over the log, and how an event is cut into frames that sled can hold.
//!
//! Each event's hash covers the hash before it, its place, its length and its bytes; the first one
//! starts from the incarnation, so that no event can be moved, dropped or taken from another store.

use std::fmt;

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::Sequence;

/// The largest value given to sled, in bytes.
///
/// A leaf of sled's tree is split when it is found with more than 16 values (`node.rs`, `should_split`), so it
/// can be written with 17; and what is larger than a quarter of a segment, 131,052 bytes, is put into `blobs/`
/// (`logger.rs`), which is never synced: 20 of 20 power cuts lost data there. 17 values of 8 KiB are too much
/// already, as restoring a log of large events shows. 17 of 4 KiB are half of what is allowed.
pub(super) const FRAME_BYTES_MAX: usize = 4 * 1024;

/// In front of an event's first frame: its chain hash, and its length as a big-endian `u32`.
const FRAME_HEADER_BYTES: usize = Head::BYTES + 4;

/// What the chain's start is bound to, beside the incarnation.
const GENESIS: &[u8] = b"cutover event log 1";

/// The hash of the chain at one place: it stands for that event and all before it.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct Head([u8; Head::BYTES]);

impl Head {
    /// The size of a SHA-256 digest.
    pub(super) const BYTES: usize = 32;

    /// The head of an empty log of `incarnation`.
    pub(super) fn genesis(incarnation: Uuid) -> Self {
        Self(
            Sha256::new()
                .chain_update(GENESIS)
                .chain_update(incarnation.as_bytes())
                .finalize()
                .into(),
        )
    }

    /// The head after `event` has been added at `sequence`.
    pub(super) fn extended(self, sequence: Sequence, event: &[u8]) -> Self {
        let length = u64::try_from(event.len()).unwrap_or(u64::MAX);
        Self(
            Sha256::new()
                .chain_update(self.0)
                .chain_update(sequence.0.to_be_bytes())
                .chain_update(length.to_be_bytes())
                .chain_update(event)
                .finalize()
                .into(),
        )
    }

    /// The head after `events` have been added behind `last`.
    pub(super) fn extended_by(self, last: Sequence, events: &[Vec<u8>]) -> Self {
        let mut sequence = last;
        events.iter().fold(self, |head, event| {
            sequence = sequence.next();
            head.extended(sequence, event)
        })
    }

    pub(super) fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    pub(super) fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Head({self})")
    }
}

/// Cuts `event` into values of at most [`FRAME_BYTES_MAX`]; the first carries `head` and the length.
///
/// `event` is at most [`super::EVENT_BYTES_MAX`] long, so the length fits and there are at most 258 frames.
pub(super) fn frames(head: Head, event: &[u8]) -> Vec<Vec<u8>> {
    let length = u32::try_from(event.len()).unwrap_or(u32::MAX);
    let (first, rest) = event.split_at(event.len().min(FRAME_BYTES_MAX - FRAME_HEADER_BYTES));
    let first = [head.as_bytes().as_slice(), &length.to_be_bytes(), first].concat();
    std::iter::once(first).chain(rest.chunks(FRAME_BYTES_MAX).map(<[u8]>::to_vec)).collect()
}

/// An event that is being put together from its frames.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) head: Head,
    pub(super) event: Vec<u8>,
    length: usize,
}

impl Joined {
    /// Begins with an event's first frame; `None` if it is none.
    pub(super) fn begin(first: &[u8]) -> Option<Self> {
        let (head, rest) = first.split_first_chunk::<{ Head::BYTES }>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        (rest.len() <= length && length <= super::EVENT_BYTES_MAX).then(|| Self {
            head: Head::from_bytes(*head),
            event: rest.to_vec(),
            length,
        })
    }

    /// Whether every byte is there.
    pub(super) fn is_complete(&self) -> bool {
        self.event.len() == self.length
    }

    /// Adds a following frame; `None` if it is longer than what is missing.
    pub(super) fn add(&mut self, frame: &[u8]) -> Option<()> {
        (!frame.is_empty() && self.event.len() + frame.len() <= self.length)
            .then(|| self.event.extend_from_slice(frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_of_any_size_is_cut_into_frames_that_sled_may_hold_and_joins_again() {
        let head = Head::genesis(Uuid::from_u128(7));
        let around_the_first_frame = FRAME_BYTES_MAX - FRAME_HEADER_BYTES;
        for length in [
            0,
            1,
            around_the_first_frame,
            around_the_first_frame + 1,
            around_the_first_frame + FRAME_BYTES_MAX,
            crate::store::EVENT_BYTES_MAX,
        ] {
            let event: Vec<u8> = (0..=250).cycle().take(length).collect();
            let frames = frames(head, &event);

            assert!(frames.iter().all(|frame| frame.len() <= FRAME_BYTES_MAX), "length {length}");
            let mut joined = Joined::begin(&frames[0]).expect("a first frame");
            for frame in &frames[1..] {
                assert!(!joined.is_complete());
                joined.add(frame).expect("a following frame");
            }
            assert!(joined.is_complete());
            assert_eq!((joined.head, joined.event), (head, event));
        }
    }

    #[test]
    fn a_head_depends_on_the_incarnation_the_order_and_every_byte() {
        let genesis = Head::genesis(Uuid::from_u128(7));
        let log = |events: &[&[u8]]| {
            let events: Vec<Vec<u8>> = events.iter().map(|event| event.to_vec()).collect();
            genesis.extended_by(Sequence::ZERO, &events)
        };

        assert_ne!(genesis, Head::genesis(Uuid::from_u128(8)));
        assert_ne!(log(&[b"a", b"b"]), log(&[b"b", b"a"]));
        assert_ne!(log(&[b"ab", b""]), log(&[b"a", b"b"]));
        assert_ne!(log(&[b"a"]), log(&[b"a", b""]));
    }
}
