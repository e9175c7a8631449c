//! Frames: how a commit looks on disk, and what a file of them holds.
//!
//! ```text
//! length of the payload, 4 bytes │ sequence number, 8 │ checksum, 8 │ payload
//! ```
//!
//! Numbers are little-endian. The checksum is the beginning of the sha256 of all the rest. The
//! payload is a version byte and a JSON list of events.

use cutover_agent_core::Event;
use cutover_common::{Sha256, planted};

/// The format that this agent writes.
pub(crate) const VERSION: u8 = 1;

const HEADER_BYTES: usize = 4 + 8 + CHECKSUM_BYTES;

/// A bit error goes unnoticed once in 2^64.
const CHECKSUM_BYTES: usize = 8;

/// The largest payload. A commit holds a few assignments, each under 4 MiB on the wire; a summary
/// holds one for each of at most 256 applications, and those are far smaller in practice.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 256 * 1024 * 1024;

/// One commit, as it was read.
#[derive(Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) sequence: u64,
    /// With its version byte.
    pub(crate) payload: &'a [u8],
}

impl Frame<'_> {
    /// Returns how many bytes it takes in a file.
    pub(crate) const fn length(&self) -> usize {
        HEADER_BYTES + self.payload.len()
    }
}

/// What a file holds.
#[derive(Debug)]
pub(crate) enum Content<'a> {
    /// Whole frames, and how many bytes they take. What is behind them was torn by a crash.
    Frames(Vec<Frame<'a>>, usize),
    /// A frame at this byte is broken, and there are whole ones behind it.
    Damaged(usize),
}

/// Encodes one commit. None: it is larger than any that could be read again.
pub(crate) fn encode(sequence: u64, events: &[Event]) -> Option<Vec<u8>> {
    let mut payload = vec![VERSION];
    serde_json::to_writer(&mut payload, events).expect("events are plain JSON, into memory");
    let length =
        u32::try_from(payload.len()).ok().filter(|_| payload.len() <= PAYLOAD_BYTES_MAX)?;
    let checksum = checksum(length, sequence, &payload);
    let mut frame = Vec::with_capacity(HEADER_BYTES + payload.len());
    frame.extend(length.to_le_bytes());
    frame.extend(sequence.to_le_bytes());
    frame.extend(checksum);
    frame.extend(payload);
    Some(frame)
}

fn checksum(length: u32, sequence: u64, payload: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut all = Vec::with_capacity(12 + payload.len());
    all.extend(length.to_le_bytes());
    all.extend(sequence.to_le_bytes());
    all.extend(payload);
    let digest = Sha256::of(&all);
    let mut checksum = [0; CHECKSUM_BYTES];
    checksum.copy_from_slice(&digest.as_bytes()[..CHECKSUM_BYTES]);
    checksum
}

/// Reads a whole file.
pub(crate) fn decode(bytes: &[u8]) -> Content<'_> {
    let mut frames: Vec<Frame<'_>> = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let follows = |frame: &Frame<'_>| {
            frames.last().is_none_or(|last| frame.sequence == last.sequence.wrapping_add(1))
        };
        match frame_at(bytes, at).filter(follows) {
            Some(frame) => {
                at += frame.length();
                frames.push(frame);
            }
            None if has_frame_from(bytes, at) => return Content::Damaged(at),
            None => break,
        }
    }
    Content::Frames(frames, at)
}

/// Returns whether a whole frame begins at `at`, out of order, or anywhere behind it: a torn
/// commit is the last one, so that then something else went wrong there.
fn has_frame_from(bytes: &[u8], at: usize) -> bool {
    (at..bytes.len()).any(|at| frame_at(bytes, at).is_some())
}

fn frame_at(bytes: &[u8], at: usize) -> Option<Frame<'_>> {
    let header = bytes.get(at..at.checked_add(HEADER_BYTES)?)?;
    let length = u32::from_le_bytes(header[..4].try_into().ok()?);
    let sequence = u64::from_le_bytes(header[4..12].try_into().ok()?);
    let begin = at + HEADER_BYTES;
    let payload = bytes.get(begin..begin.checked_add(usize::try_from(length).ok()?)?)?;
    // Every payload begins with its version, which also spares most checksums of a search.
    let is_whole = payload.first().is_some_and(|version| *version > 0)
        && planted!(ChecksumIgnored: true; checksum(length, sequence, payload) == header[12..]);
    is_whole.then_some(Frame { sequence, payload })
}
