//! The log → a core, at the start.

use cutover_coordinator_core::{
    Coordinator,
    codec::{self, DecodeEvent},
};

use crate::store::{EventStore, ReadError, Sequence};

/// Why the log could not be replayed. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Replay {
    #[error("could not read the event log; restore a backup: cutover-coordinator restore")]
    Read(#[from] ReadError),
    #[error("event {sequence} of the log")]
    Decode { sequence: u64, source: DecodeEvent },
    #[error(
        "event {sequence} of the log does not fit those before it; restore a backup: cutover-coordinator restore"
    )]
    Apply { sequence: u64, source: Box<dyn std::error::Error + Send + Sync> },
}

/// Makes a core that remembers everything in `store`.
///
/// # Errors
///
/// When an event is damaged, of a newer version, or does not fit.
pub fn replay(store: &dyn EventStore) -> Result<Coordinator, Replay> {
    let mut core = Coordinator::default();
    for event in store.read_after(Sequence::ZERO) {
        let (sequence, bytes) = event?;
        let sequence = sequence.0;
        let event = codec::decode(&bytes).map_err(|source| Replay::Decode { sequence, source })?;
        core.apply(&event)
            .map_err(|source| Replay::Apply { sequence, source: Box::new(source) })?;
    }
    Ok(core)
}
