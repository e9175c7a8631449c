//! A release arrives: begun, received piece by piece, verified, registered.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use cutover_common::{
    ErrorChain, Release, ReleaseRef, Sha256, Version, manifest::Manifest, name::InvalidVersion,
};
use cutover_coordinator_core::{Refusal, RefusalKind, Request as Ask};
use cutover_proto::v1::{self as pb, push_request};
use tonic::{Status, Streaming};

use super::status::{invalid, refused};
use crate::{
    artifacts::{ArchiveStore, Declared},
    engine::EngineHandle,
};

/// How many pushes may be begun and not finished.
const PENDING_MAX: usize = 64;

/// How long the sender of a push may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// What a push that was begun is to become.
#[derive(Clone)]
struct Pending {
    release: Release,
    manifest: String,
}

/// All pushes that were begun.
pub struct Pushes {
    archives: Arc<ArchiveStore>,
    pending: Mutex<BTreeMap<Sha256, Pending>>,
}

impl Pushes {
    /// Receives into `archives`.
    pub const fn new(archives: Arc<ArchiveStore>) -> Self {
        Self { archives, pending: Mutex::new(BTreeMap::new()) }
    }

    /// Says what is still to be sent.
    pub(super) async fn begin(
        &self,
        engine: &EngineHandle,
        request: pb::BeginPushRequest,
    ) -> Result<pb::BeginPushResponse, Status> {
        let pending = parse(request)?;
        let (name, digest) = (pending.release.name.clone(), pending.release.digest);
        let there =
            engine.look(move |core, _| core.release(&name).map(|it| it.release.digest)).await?;
        match there {
            Some(there) if there == digest => {
                return Ok(pb::BeginPushResponse {
                    complete: true,
                    offset: 0,
                    upload: String::new(),
                });
            }
            Some(there) => return Err(refused(&other_content(&pending.release, there))),
            None => {}
        }
        let declared = declared(&pending.release);
        let offset = self.archives.begin(&declared).await.map_err(|error| bad_upload(&error))?;
        let upload = pending.release.archive_digest;
        let mut all = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= PENDING_MAX && !all.contains_key(&upload) {
            // Its parts stay on disk; only whoever comes back with it begins again.
            all.pop_first();
        }
        all.insert(upload, pending);
        Ok(pb::BeginPushResponse { complete: false, offset, upload: upload.to_string() })
    }

    /// Receives the rest, verifies everything, and registers the release.
    pub(super) async fn receive(
        &self,
        engine: &EngineHandle,
        by: &str,
        mut incoming: Streaming<pb::PushRequest>,
    ) -> Result<pb::PushResponse, Status> {
        let Some(push_request::Kind::Start(pb::PushStart { upload, offset })) =
            next(&mut incoming).await?
        else {
            return Err(invalid("a push begins with a start"));
        };
        let pending = upload.parse().ok().and_then(|upload: Sha256| {
            self.pending.lock().unwrap_or_else(PoisonError::into_inner).get(&upload).cloned()
        });
        let pending = pending.ok_or_else(|| {
            Status::failed_precondition("this push was not begun here; begin it again")
        })?;
        let declared = declared(&pending.release);
        let mut offset = offset;
        while let Some(kind) = next(&mut incoming).await? {
            let push_request::Kind::Data(data) = kind else {
                return Err(invalid("a push has one start"));
            };
            let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
            self.archives
                .append(&declared, offset, data.into())
                .await
                .map_err(|error| bad_upload(&error))?;
            offset = offset.saturating_add(length);
        }
        let found = self.archives.finish(&declared).await.map_err(|error| bad_upload(&error))?;
        if found.manifest != pending.manifest {
            return Err(invalid("the archive holds another cutover.toml than was announced"));
        }
        let name = pending.release.name.clone();
        let digest = pending.release.digest;
        let request =
            Ask::RegisterRelease { release: Box::new(pending.release), manifest: pending.manifest };
        engine.ask(by, request).await?.map_err(|refusal| refused(&refusal))?;
        self.pending
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&declared.archive_digest);
        Ok(pb::PushResponse {
            application: name.application.into(),
            version: name.version.into(),
            digest: digest.to_string(),
        })
    }
}

async fn next(
    incoming: &mut Streaming<pb::PushRequest>,
) -> Result<Option<push_request::Kind>, Status> {
    let message = tokio::time::timeout(SILENCE_MAX, incoming.message())
        .await
        .map_err(|_| Status::deadline_exceeded("nothing was sent for 30 s"))??;
    match message {
        None => Ok(None),
        Some(pb::PushRequest { kind: Some(kind) }) => Ok(Some(kind)),
        Some(pb::PushRequest { kind: None }) => Err(invalid("an empty message")),
    }
}

const fn declared(release: &Release) -> Declared {
    Declared {
        digest: release.digest,
        size_bytes: release.size_bytes,
        archive_digest: release.archive_digest,
        archive_size_bytes: release.archive_size_bytes,
    }
}

/// Makes the release that the request announces. Everything of it is checked again here: the
/// sender's own check is a courtesy to the sender.
fn parse(request: pb::BeginPushRequest) -> Result<Pending, Status> {
    let pb::BeginPushRequest {
        version,
        manifest: text,
        digest,
        size_bytes,
        archive_digest,
        archive_size_bytes,
    } = request;
    let version: Version =
        version.parse().map_err(|error: InvalidVersion| invalid(error.to_string()))?;
    let manifest = Manifest::parse(&text).map_err(|mistakes| invalid(mistakes.to_string()))?;
    let digest = digest.parse().map_err(|_| invalid("field `digest`"))?;
    let archive_digest = archive_digest.parse().map_err(|_| invalid("field `archive_digest`"))?;
    let Manifest { application, run, service, probe, hooks, deploys: _ } = manifest;
    let release = Release {
        name: ReleaseRef { application, version },
        digest,
        size_bytes,
        archive_digest,
        archive_size_bytes,
        run,
        probe,
        hooks,
        service_port: service.map(|service| service.port),
    };
    Ok(Pending { release, manifest: text })
}

fn other_content(release: &Release, there: Sha256) -> Refusal {
    Refusal::new(
        RefusalKind::Exists,
        format!(
            "{} exists already with another content: {} there, {} here",
            release.name,
            there.short(),
            release.digest.short()
        ),
        "a release never changes; push this content as another version",
    )
}

fn bad_upload(error: &crate::artifacts::UploadError) -> Status {
    let text = ErrorChain(error).to_string();
    match error.blame() {
        crate::artifacts::Blame::Sender => Status::failed_precondition(text),
        crate::artifacts::Blame::Us => {
            tracing::error!(text, "could not take an upload");
            Status::unavailable(text)
        }
    }
}
