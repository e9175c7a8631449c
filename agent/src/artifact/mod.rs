//! Releases on this host: fetched, verified, unpacked, and kept as immutable folders.
//!
//! A release's folder appears by one rename, after every byte in it was verified and is on disk
//! (promises.md E2, D6). So its being there is the proof that it is complete, and everything here
//! may be killed at any point and started again.

mod fetch;
mod prepare;
mod release_dir;
mod room;
mod unpack;

pub use fetch::FetchError;
pub use prepare::{PrepareError, prepare};
pub use release_dir::{KEEP_LAST, ReleaseDirError, ReleaseDirs, SHARED};
pub use room::{DiskFull, RoomError};
pub use unpack::UnpackError;

#[cfg(test)]
#[path = "../../../common/runtime/src/archive/hostile.rs"]
mod hostile;
#[cfg(test)]
mod sample;
