//! The archives of releases: received piece by piece, verified on arrival, given to agents.
//!
//! An upload grows in a `.part` file outside the object store. Only a whole archive that the
//! strict reader accepts, with both digests as declared, becomes an object; objects are named by
//! their content and never change.

mod download;
mod inspect;
mod store;
mod upload;

pub use cutover_runtime::archive::Declared;
pub use download::{OpenArchive, ReadChunk};
pub use inspect::{Inspected, MANIFEST_BYTES_MAX, MANIFEST_PATH};
pub use store::{ArchiveStore, OpenArchives};
pub use upload::{Blame, CHUNK_BYTES_MAX, UploadError};

#[cfg(test)]
#[path = "../../../common/runtime/src/archive/hostile.rs"]
mod hostile;
