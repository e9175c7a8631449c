//! Releases on disk: fetched when they are wanted, removed when they are not.

use std::{collections::BTreeSet, error::Error as _, sync::Arc};

use bytes::Bytes;
use cutover_agent_core::{Input, PrepareFailure, Retained, Retry};
use cutover_common::{ApplicationName, ErrorChain, Release, ReleaseRef, Sha256};
use cutover_proto::v1::{self as pb, agent_link_client::AgentLinkClient};
use futures::{Stream, TryStreamExt as _};
use tokio::sync::watch;
use tonic::{Code, Status};

use super::Works;
use crate::artifact::{self, FetchError, PrepareError, UnpackError};

/// The largest piece of an archive that is read, in bytes; the coordinator sends 64 KiB.
const CHUNK_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Why a release's archive is not coming.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenArchive {
    #[error("not connected to the coordinator")]
    NotConnected,
    #[error("the coordinator does not send it")]
    Call(#[source] Box<Status>),
}

impl OpenArchive {
    /// Tells a connection that is lost from an answer of the coordinator.
    fn is_of_connection(&self) -> bool {
        match self {
            Self::NotConnected => true,
            // What came over the wire as an answer has no cause on this side.
            Self::Call(status) => status.code() == Code::Unavailable || status.source().is_some(),
        }
    }
}

/// Brings a release to disk.
pub(super) async fn prepare(works: Arc<Works>, release: Arc<Release>) -> Input {
    let (name, digest) = (release.name.clone(), release.digest);
    // A removal that was begun when nobody wanted this release has ended after this.
    drop(works.removing.lock().await);
    tracing::info!(version = %release.name.version, "preparing the release");
    let open = |offset| open_archive(works.clone(), release.clone(), offset);
    let prepared = match require_secrets(&works, &release).await {
        Ok(()) => artifact::prepare(&works.host.data, &release, open).await.map(drop),
        Err(error) => Err(error),
    };
    let result = match prepared {
        Ok(()) => Ok(()),
        Err(error) => {
            tracing::warn!("could not prepare the release: {}", ErrorChain(&error));
            Err(PrepareFailure { detail: error.detail(), retry: retry(&error) })
        }
    };
    let ReleaseRef { application, version } = name;
    Input::PrepareEnded { application, version, digest, result }
}

/// A release that lacks one would be found out only when it is started, in the place of what runs.
async fn require_secrets(works: &Works, release: &Arc<Release>) -> Result<(), PrepareError> {
    let (secrets, release) = (works.host.secrets.clone(), release.clone());
    tokio::task::spawn_blocking(move || secrets.require(&release.config)).await??;
    Ok(())
}

/// Tells what a full disk did from what is wrong with the content itself, and from a connection
/// that is lost.
fn retry(error: &PrepareError) -> Retry {
    match error {
        PrepareError::Declared(_)
        | PrepareError::Fetch(FetchError::DigestMismatch { .. })
        | PrepareError::Unpack(
            UnpackError::Verify(_) | UnpackError::Shared { .. } | UnpackError::NoOpenat2(_),
        ) => Retry::Never,
        PrepareError::Fetch(
            FetchError::Open { cause, .. } | FetchError::Interrupted { cause: Some(cause), .. },
        ) if cause.downcast_ref().is_some_and(OpenArchive::is_of_connection) => Retry::Connected,
        PrepareError::Full(_)
        | PrepareError::Room(_)
        | PrepareError::Folder(_)
        | PrepareError::Fetch(_)
        | PrepareError::Unpack(_)
        | PrepareError::Secret(_)
        | PrepareError::Ended(_) => Retry::Later,
    }
}

async fn open_archive(
    works: Arc<Works>,
    release: Arc<Release>,
    offset: u64,
) -> Result<impl Stream<Item = Result<Bytes, OpenArchive>>, OpenArchive> {
    let channel = works.host.channel.borrow().clone().ok_or(OpenArchive::NotConnected)?;
    let call = pb::FetchReleaseRequest {
        application: release.name.application.to_string(),
        version: release.name.version.to_string(),
        archive_digest: release.archive_digest.to_string(),
        offset,
    };
    let failed = |status| OpenArchive::Call(Box::new(status));
    let mut link = AgentLinkClient::new(channel).max_decoding_message_size(CHUNK_BYTES_MAX);
    let answer = link.fetch_release(call).await.map_err(failed)?;
    Ok(answer.into_inner().map_ok(|pb::Chunk { data }| Bytes::from(data)).map_err(failed))
}

/// Removes whatever is no longer retained, whenever that changes. Ends with the process.
pub(super) async fn keep_house(works: Arc<Works>, mut changes: watch::Receiver<Retained>) {
    while changes.changed().await.is_ok() {
        changes.borrow_and_update();
        remove_releases(&works).await;
        remove_instances(&works).await;
        remove_secrets(&works).await;
    }
}

async fn remove_releases(works: &Works) {
    let _removing = works.removing.lock().await;
    // The latest, now that nobody can begin to rely on a release any more.
    let Retained { releases, .. } = works.retained.borrow().clone();
    let dirs = works.host.releases.clone();
    let removed = tokio::task::spawn_blocking(move || {
        for (application, keep) in releases {
            remove_all_but(&dirs, &application, &keep);
        }
    });
    if removed.await.is_err() {
        tracing::error!("removing releases was cut short");
    }
}

fn remove_all_but(
    dirs: &artifact::ReleaseDirs,
    application: &ApplicationName,
    keep: &BTreeSet<Sha256>,
) {
    let keep: Vec<Sha256> = keep.iter().copied().collect();
    // The core names all that are to stay, so that none stays for its age alone.
    match dirs.retain(application, &keep, 0) {
        Ok(removed) => {
            for digest in removed {
                tracing::info!(%application, digest = %digest.short(), "release removed");
            }
        }
        Err(error) => {
            tracing::warn!(%application, "could not remove a release: {}", ErrorChain(&error));
        }
    }
}

async fn remove_instances(works: &Works) {
    let listed = match works.host.runtime.list().await {
        Ok(listed) => listed,
        Err(error) => {
            tracing::warn!("could not list instances: {}", ErrorChain(&error));
            return;
        }
    };
    // Read after the list: whatever is listed was wanted before, and is named here if it still is.
    let Retained { instances, .. } = works.retained.borrow().clone();
    for (application, instance) in listed {
        if instances.contains(&(application.clone(), instance)) {
            continue;
        }
        if let Err(error) = works.host.runtime.forget(&application, instance).await {
            tracing::warn!(
                %application, instance = %instance.0,
                "could not remove what is left of an instance: {}", ErrorChain(&error)
            );
        }
    }
}

async fn remove_secrets(works: &Works) {
    let Retained { secrets: named, goals, .. } = works.retained.borrow().clone();
    let secrets = works.host.secrets.clone();
    match tokio::task::spawn_blocking(move || secrets.retain(&named, &goals)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "could not remove secrets that nothing needs"),
        Err(_) => tracing::error!("removing secrets was cut short"),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn of_open(cause: OpenArchive) -> Retry {
        retry(&PrepareError::Fetch(FetchError::Open { offset: 0, cause: cause.into() }))
    }

    #[test]
    fn a_lost_connection_is_told_from_an_answer_of_the_coordinator() {
        let broken = Status::from_error(io::Error::from(io::ErrorKind::ConnectionReset).into());
        let cause = Some(OpenArchive::Call(Box::new(broken)).into());
        let interrupted = FetchError::Interrupted { offset: 7, size_bytes: 9, cause };
        assert_eq!(retry(&PrepareError::Fetch(interrupted)), Retry::Connected);
        assert_eq!(of_open(OpenArchive::NotConnected), Retry::Connected);

        let answered = Status::not_found("no such release");
        assert_eq!(of_open(OpenArchive::Call(Box::new(answered))), Retry::Later);
        let interrupted = FetchError::Interrupted { offset: 7, size_bytes: 9, cause: None };
        assert_eq!(retry(&PrepareError::Fetch(interrupted)), Retry::Later);
    }
}
