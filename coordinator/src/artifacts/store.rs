//! ArchiveStore: uploads become objects, objects become downloads.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use cutover_common::Sha256;
use cutover_runtime::archive::{Declared, Limits};
use futures::{Stream, StreamExt as _};
use object_store::{ObjectStore, ObjectStoreExt as _, local::LocalFileSystem};
use sha2::Digest as _;
use tokio::{
    runtime::Handle,
    sync::{Mutex, OwnedMutexGuard},
    task::spawn_blocking,
};

use super::{
    download::{self, BlockingRead, OpenArchive, ReadChunk, object_path},
    inspect::{Inspected, inspect},
    upload::{self, Blame, Upload, UploadError},
};

/// How long the beginning of an archive is kept that nobody went on sending.
///
/// A push that broke off is repeated the same day, or built anew.
const UPLOAD_AGE_MAX: Duration = Duration::from_secs(24 * 3600);

/// How many archives may be arriving. Beyond that the one that waited longest is dropped.
const UPLOADS_MAX: usize = 64;

/// How much of an archive is in memory while it becomes an object, in bytes: 8 MiB.
const COPY_BYTES: u64 = 8 << 20;

/// The store could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("could not {step} {}", path.display())]
pub struct OpenArchives {
    step: &'static str,
    path: PathBuf,
    #[source]
    cause: Box<dyn std::error::Error + Send + Sync>,
}

/// The archives that are here and that are arriving.
#[derive(Debug)]
pub struct ArchiveStore {
    objects: Arc<dyn ObjectStore>,
    /// Where parts grow.
    uploads: PathBuf,
    arriving: StdMutex<BTreeMap<Sha256, Arriving>>,
}

/// An upload that was begun in this process.
#[derive(Debug)]
struct Arriving {
    upload: Arc<Mutex<Upload>>,
    touched: Instant,
}

impl ArchiveStore {
    /// Opens the store in `folder`, makes it where it is missing, and removes uploads that nobody
    /// went on with for a day.
    ///
    /// # Errors
    ///
    /// Names the folder or file that could not be made, read or removed.
    pub async fn in_folder(folder: &Path) -> Result<Self, OpenArchives> {
        let (objects, uploads) = (folder.join("objects"), folder.join("uploads"));
        let store = spawn_blocking(move || {
            make(&objects)?;
            make(&uploads)?;
            remove_half_objects(&objects)?;
            remove_stale(&uploads)?;
            let local = LocalFileSystem::new_with_prefix(&objects)
                .map_err(|cause| failed("open", &objects)(cause.into()))?;
            Ok(Self {
                // Without this an archive that was acknowledged may be gone after a power loss.
                objects: Arc::new(local.with_fsync(true)),
                uploads,
                arriving: StdMutex::default(),
            })
        });
        store.await.map_err(|cause| failed("open", folder)(cause.into()))?
    }

    /// Begins or resumes an upload. Returns how many bytes are here: where to go on.
    ///
    /// All of them means that [`finish`](Self::finish) can be called at once. Whoever sends an
    /// archive that another sends already joins that upload.
    ///
    /// # Errors
    ///
    /// Refuses sizes beyond the limits, and when the disk has no room for the rest and its copy.
    pub async fn begin(&self, declared: &Declared) -> Result<u64, UploadError> {
        let Declared { archive_digest: digest, archive_size_bytes: size, .. } = *declared;
        Limits::default().admit(declared.size_bytes, size)?;
        if self.is_stored(declared).await? {
            return Ok(size);
        }
        if let Some(upload) = self.arriving(digest).await {
            let begun = upload.archive_size_bytes();
            if begun != size {
                return Err(UploadError::OtherSize { begun, declared: size });
            }
            return Ok(upload.length());
        }
        let uploads = self.uploads.clone();
        let upload = spawn_blocking(move || {
            make_room(&uploads)?;
            let upload = Upload::open(upload::part(&uploads, digest), size)?;
            require_free(&uploads, size - upload.length() + size)?;
            Ok::<_, UploadError>(upload)
        })
        .await??;
        let length = upload.length();
        let mut arriving = self.lock();
        if arriving.len() >= UPLOADS_MAX {
            drop_longest_idle(&mut arriving);
        }
        // Somebody else may have begun meanwhile; both have the same file, and the first counts.
        arriving.entry(digest).or_insert_with(|| Arriving {
            upload: Arc::new(Mutex::new(upload)),
            touched: Instant::now(),
        });
        Ok(length)
    }

    /// Appends bytes at `offset`, which must be where the upload stands.
    ///
    /// # Errors
    ///
    /// [`UploadError::BadOffset`] names the offset to go on from.
    pub async fn append(
        &self,
        declared: &Declared,
        offset: u64,
        bytes: Bytes,
    ) -> Result<(), UploadError> {
        let mut upload =
            self.arriving(declared.archive_digest).await.ok_or(UploadError::Unknown)?;
        spawn_blocking(move || upload.append(offset, &bytes)).await?
    }

    /// Verifies an archive that has wholly arrived, and puts it into the store.
    ///
    /// An archive that is in the store already is verified there, against the same declaration.
    ///
    /// # Errors
    ///
    /// An archive that is not as declared, or hostile, is removed; after any other error the
    /// upload can be resumed.
    pub async fn finish(&self, declared: &Declared) -> Result<Inspected, UploadError> {
        let digest = declared.archive_digest;
        let Some(upload) = self.arriving(digest).await else {
            return self.finish_stored(declared).await;
        };
        let checked = *declared;
        let (outcome, upload) = spawn_blocking(move || verify(upload, &checked)).await?;
        let inspected = match outcome {
            Ok(inspected) => inspected,
            Err(error) => {
                if upload.is_over() {
                    self.lock().remove(&digest);
                }
                return Err(error);
            }
        };
        let mut upload = upload;
        if !self.is_stored(declared).await? {
            upload = self.store(upload, digest).await?;
        }
        spawn_blocking(move || upload.end()).await??;
        self.lock().remove(&digest);
        Ok(inspected)
    }

    /// Streams an archive's bytes from `offset` on.
    ///
    /// # Errors
    ///
    /// Refuses an archive that is not there, and an offset beyond its end.
    pub async fn open(
        &self,
        archive_digest: Sha256,
        offset: u64,
    ) -> Result<impl Stream<Item = Result<Bytes, ReadChunk>> + Send + use<>, OpenArchive> {
        download::open(self.objects.clone(), archive_digest, offset).await
    }

    /// Tells whether an archive is in the store.
    ///
    /// # Errors
    ///
    /// The store could not be asked.
    pub async fn contains(&self, archive_digest: Sha256) -> Result<bool, OpenArchive> {
        Ok(download::size_of(&*self.objects, archive_digest).await?.is_some())
    }

    /// Tells whether an archive is in the store, as long as it was declared.
    pub(crate) async fn is_stored(&self, declared: &Declared) -> Result<bool, UploadError> {
        match self.objects.head(&object_path(declared.archive_digest)).await {
            Ok(found) => Ok(found.size == declared.archive_size_bytes),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(cause) => Err(UploadError::Store(cause)),
        }
    }

    async fn finish_stored(&self, declared: &Declared) -> Result<Inspected, UploadError> {
        if !self.is_stored(declared).await? {
            return Err(UploadError::Unknown);
        }
        let declared = *declared;
        let stream = self.open(declared.archive_digest, 0).await.map_err(|error| match error {
            OpenArchive::Look { cause, .. } => UploadError::Store(cause),
            OpenArchive::NotThere { .. } | OpenArchive::BadOffset { .. } => UploadError::Unknown,
        })?;
        let archive = BlockingRead::new(stream, Handle::current());
        match spawn_blocking(move || inspect(archive, &declared)).await? {
            Err(UploadError::Verify(error)) => {
                self.remove_if_damaged(declared.archive_digest).await?;
                Err(UploadError::Verify(error))
            }
            Ok(inspected) => {
                self.remove_left_part(declared.archive_digest)?;
                Ok(inspected)
            }
            Err(error) => Err(error),
        }
    }

    /// Removes the part of an archive that is stored. A coordinator that was killed just then left it.
    fn remove_left_part(&self, digest: Sha256) -> Result<(), UploadError> {
        // Held, so that nobody begins to write into it meanwhile.
        let arriving = self.lock();
        if arriving.contains_key(&digest) {
            return Ok(());
        }
        upload::remove(&upload::part(&self.uploads, digest))
    }

    /// Removes an object whose bytes are not those of its name, so that it can be pushed again.
    async fn remove_if_damaged(&self, digest: Sha256) -> Result<(), UploadError> {
        let path = object_path(digest);
        let mut hash = sha2::Sha256::new();
        let object = self.objects.get(&path).await.map_err(UploadError::Store)?;
        let mut chunks = object.into_stream();
        while let Some(chunk) = chunks.next().await {
            hash.update(chunk.map_err(UploadError::Store)?);
        }
        if Sha256::from_bytes(hash.finalize().into()) == digest {
            return Ok(());
        }
        self.objects.delete(&path).await.map_err(UploadError::Store)?;
        Err(UploadError::Changed)
    }

    /// Copies a verified part into the object store, and makes it an object if every byte is
    /// still what was verified.
    async fn store(
        &self,
        mut upload: OwnedMutexGuard<Upload>,
        digest: Sha256,
    ) -> Result<OwnedMutexGuard<Upload>, UploadError> {
        // Not a put in one piece, which would need the whole archive in memory. Completing is
        // atomic, and whoever comes second writes the same bytes.
        let mut object =
            self.objects.put_multipart(&object_path(digest)).await.map_err(UploadError::Store)?;
        let mut hash = sha2::Sha256::new();
        loop {
            let (piece, back) =
                spawn_blocking(move || (upload.read_piece(COPY_BYTES), upload)).await?;
            upload = back;
            let piece = piece?;
            if piece.is_empty() {
                break;
            }
            hash.update(&piece);
            object.put_part(piece.into()).await.map_err(UploadError::Store)?;
        }
        if Sha256::from_bytes(hash.finalize().into()) != digest {
            object.abort().await.map_err(UploadError::Store)?;
            return Err(UploadError::Changed);
        }
        object.complete().await.map_err(UploadError::Store)?;
        Ok(upload)
    }

    /// Returns the upload of this archive, when nobody else works on it.
    async fn arriving(&self, digest: Sha256) -> Option<OwnedMutexGuard<Upload>> {
        let upload = self.lock().get_mut(&digest).map(|arriving| {
            arriving.touched = Instant::now();
            arriving.upload.clone()
        })?;
        let upload = upload.lock_owned().await;
        (!upload.is_over()).then_some(upload)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Sha256, Arriving>> {
        self.arriving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets the upload that waited longest. Its part stays, and the next begin goes on with it.
fn drop_longest_idle(arriving: &mut BTreeMap<Sha256, Arriving>) {
    let idle = arriving.iter().filter(|(_, one)| Arc::strong_count(&one.upload) == 1);
    let longest = idle.min_by_key(|(_, one)| one.touched).map(|(digest, _)| *digest);
    if let Some(digest) = longest {
        arriving.remove(&digest);
    }
}

/// Judges a whole part. Removes it if it can never be accepted.
fn verify(
    mut upload: OwnedMutexGuard<Upload>,
    declared: &Declared,
) -> (Result<Inspected, UploadError>, OwnedMutexGuard<Upload>) {
    let outcome = upload.whole().and_then(|file| inspect(file, declared));
    let outcome = outcome.and_then(|inspected| upload.whole().map(|_| inspected));
    let is_hopeless = outcome.as_ref().is_err_and(|error| {
        error.blame() == Blame::Sender && !matches!(error, UploadError::Incomplete { .. })
    });
    if is_hopeless {
        // What is wrong with it matters more than that its bytes could not be removed.
        drop(upload.end());
    }
    (outcome, upload)
}

fn failed(
    step: &'static str,
    path: &Path,
) -> impl FnOnce(Box<dyn std::error::Error + Send + Sync>) -> OpenArchives {
    let path = path.to_owned();
    move |cause| OpenArchives { step, path, cause }
}

fn make(folder: &Path) -> Result<(), OpenArchives> {
    fs::create_dir_all(folder).map_err(|cause| failed("make", folder)(cause.into()))
}

/// Removes objects that were being written when the coordinator ended: the local object store
/// gives them names with a `#`, which no digest has.
fn remove_half_objects(objects: &Path) -> Result<(), OpenArchives> {
    let folder = objects.join("archives").join("sha256");
    if !folder.exists() {
        return Ok(());
    }
    for (path, _) in list(&folder).map_err(|cause| failed("list", &folder)(cause.into()))? {
        let is_half = path.file_name().is_some_and(|name| name.to_string_lossy().contains('#'));
        if is_half {
            upload::remove(&path).map_err(|cause| failed("remove", &path)(cause.into()))?;
        }
    }
    Ok(())
}

/// Removes parts that nobody wrote to for a day.
fn remove_stale(uploads: &Path) -> Result<(), OpenArchives> {
    for (path, written) in list(uploads).map_err(|cause| failed("list", uploads)(cause.into()))? {
        if written.elapsed().is_ok_and(|age| age > UPLOAD_AGE_MAX) {
            upload::remove(&path).map_err(|cause| failed("remove", &path)(cause.into()))?;
        }
    }
    Ok(())
}

/// Removes the parts that waited longest, if there are too many.
fn make_room(uploads: &Path) -> Result<(), UploadError> {
    let mut parts = list(uploads).map_err(|cause| upload::failed("list", uploads, cause))?;
    parts.sort_unstable_by_key(|(_, written)| *written);
    let surplus = (parts.len() + 1).saturating_sub(UPLOADS_MAX);
    parts[..surplus].iter().try_for_each(|(path, _)| upload::remove(path))
}

fn list(folder: &Path) -> io::Result<Vec<(PathBuf, SystemTime)>> {
    fs::read_dir(folder)?
        .map(|entry| {
            let entry = entry?;
            Ok((entry.path(), entry.metadata()?.modified()?))
        })
        .collect()
}

fn require_free(folder: &Path, need: u64) -> Result<(), UploadError> {
    let disk = rustix::fs::statvfs(folder)
        .map_err(|errno| upload::failed("look at", folder, errno.into()))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free < need {
        return Err(UploadError::Full { folder: folder.to_owned(), need, free });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
