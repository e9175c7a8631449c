//! Downloads: an archive's bytes in chunks, from any offset on.

use std::{
    io::{self, Read},
    ops::Range,
    pin::Pin,
    sync::Arc,
};

use bytes::{Buf as _, Bytes};
use cutover_common::Sha256;
use futures::{Stream, StreamExt as _, stream};
use object_store::{ObjectStore, ObjectStoreExt as _, path::Path as ObjectPath};
use tokio::runtime::Handle;

/// How large the chunks are that agents get: large enough for the disk, small enough for a slow
/// link to show progress.
const CHUNK_BYTES: u64 = 256 << 10;

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum OpenArchive {
    #[error("archive {digest} is not in the store; push the release again")]
    NotThere { digest: Sha256 },
    #[error("archive {digest} has {size_bytes} bytes, and offset {offset} was asked for")]
    BadOffset { digest: Sha256, size_bytes: u64, offset: u64 },
    #[error("could not look for archive {digest}")]
    Look {
        digest: Sha256,
        #[source]
        cause: object_store::Error,
    },
}

/// A chunk could not be read.
#[derive(Debug, thiserror::Error)]
#[error("could not read archive {digest} at byte {offset}")]
pub struct ReadChunk {
    digest: Sha256,
    offset: u64,
    #[source]
    cause: object_store::Error,
}

/// Returns where an archive is in the object store.
pub(super) fn object_path(archive_digest: Sha256) -> ObjectPath {
    ObjectPath::from_iter(["archives", "sha256", &archive_digest.to_string()])
}

/// Returns the size of an archive, or `None` if it is not there.
pub(super) async fn size_of(
    objects: &dyn ObjectStore,
    digest: Sha256,
) -> Result<Option<u64>, OpenArchive> {
    match objects.head(&object_path(digest)).await {
        Ok(found) => Ok(Some(found.size)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(cause) => Err(OpenArchive::Look { digest, cause }),
    }
}

/// Streams an archive from `offset` on.
pub(super) async fn open(
    objects: Arc<dyn ObjectStore>,
    digest: Sha256,
    offset: u64,
) -> Result<impl Stream<Item = Result<Bytes, ReadChunk>> + Send + use<>, OpenArchive> {
    let size_bytes = size_of(&*objects, digest).await?.ok_or(OpenArchive::NotThere { digest })?;
    if offset > size_bytes {
        return Err(OpenArchive::BadOffset { digest, size_bytes, offset });
    }
    Ok(stream::try_unfold(offset, move |offset| {
        let objects = objects.clone();
        async move {
            let range: Range<u64> = offset..size_bytes.min(offset + CHUNK_BYTES);
            if range.is_empty() {
                return Ok(None);
            }
            let next = range.end;
            let chunk = objects
                .get_range(&object_path(digest), range)
                .await
                .map_err(|cause| ReadChunk { digest, offset, cause })?;
            Ok(Some((chunk, next)))
        }
    }))
}

/// Reads a stream of chunks as a file is read. To be used outside of async code only.
pub(super) struct BlockingRead<S> {
    stream: Pin<Box<S>>,
    chunk: Bytes,
    runtime: Handle,
}

impl<S> BlockingRead<S> {
    pub(super) fn new(stream: S, runtime: Handle) -> Self {
        Self { stream: Box::pin(stream), chunk: Bytes::new(), runtime }
    }
}

impl<S: Stream<Item = Result<Bytes, ReadChunk>>> Read for BlockingRead<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.runtime.block_on(self.stream.next()) {
                None => return Ok(0),
                Some(chunk) => self.chunk = chunk.map_err(io::Error::other)?,
            }
        }
        let count = buffer.len().min(self.chunk.len());
        self.chunk.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}
