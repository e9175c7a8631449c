//! The border to the coordinator: the only place in this program that names generated types.
//!
//! What comes in is turned into [`view`](crate::view) types here, each text sanitized on the way;
//! what goes wrong is turned into a [`Failure`](crate::failure::Failure) in `status`.

mod client;
mod convert;
#[cfg(test)]
pub(crate) mod fake;
mod orders;
mod push;
mod status;
#[cfg(test)]
mod tests;

pub use client::{Coordinator, Identity, LogPiece, LogPieces, RolloutUpdates};
pub use orders::{
    ConfigChange, Control, DeployOrder, Exclude, Freeze, Order, ReleaseOffer, SimulateOrder, Verb,
};
pub use push::{Offered, UPLOAD_CHUNK_BYTES};
