//! A release arrives: begun, received piece by piece, verified, registered.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use cutover_common::{
    Config, ErrorChain, Release, ReleaseRef, Sha256, Timestamp, Version, manifest::Manifest,
    name::InvalidVersion,
};
use cutover_coordinator_core::{Event, EventKind, Refusal, RefusalKind, Request as Ask, codec};
use cutover_proto::v1::{self as pb, push_request};
use tonic::{Status, Streaming};

use super::status::{invalid, refused};
use crate::{
    artifacts::{ArchiveStore, Declared},
    engine::EngineHandle,
    store::EVENT_BYTES_MAX,
};

/// How many pushes may be begun and not finished.
const PENDING_MAX: usize = 64;

/// How long the sender of a push may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// What is kept free in a release's event for who pushed it and when, in bytes: names of operators
/// are far shorter.
const EVENT_REST_BYTES: usize = 4 * 1024;

/// What a push that was begun is to become.
#[derive(Clone)]
struct Pending {
    release: Release,
    manifest: String,
}

impl Pending {
    /// Returns the name of the push: of everything that was announced, as the same archive may be
    /// pushed as two versions at one time, and the same announcement may be repeated.
    fn id(&self) -> Sha256 {
        let Release { name, digest, size_bytes, archive_digest, archive_size_bytes, .. } =
            &self.release;
        let announced = format!(
            "{name}\n{digest} {size_bytes}\n{archive_digest} {archive_size_bytes}\n{}",
            self.manifest
        );
        Sha256::of(announced.as_bytes())
    }
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
        let name = pending.release.name.clone();
        let there =
            engine.look(move |core, _| core.release(&name).map(|it| it.release.clone())).await?;
        if let Some(there) = there {
            if there.digest != pending.release.digest {
                return Err(refused(&other_content(&pending.release, there.digest)));
            }
            let stored = self.archives.is_stored(&declared(&there)).await;
            if stored.map_err(|error| bad_upload(&error))? {
                return Ok(pb::BeginPushResponse {
                    complete: true,
                    offset: 0,
                    upload: String::new(),
                });
            }
            // As after a restore without the archives: it is sent once more.
            if there.archive_digest != pending.release.archive_digest {
                return Err(refused(&packed_otherwise(&pending.release)));
            }
        }
        let declared = declared(&pending.release);
        let offset = self.archives.begin(&declared).await.map_err(|error| bad_upload(&error))?;
        let upload = pending.id();
        let mut all = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= PENDING_MAX && !all.contains_key(&upload) {
            // Its parts stay on disk; only whoever comes back with it begins again.
            all.pop_first();
        }
        all.insert(upload, pending);
        Ok(pb::BeginPushResponse { complete: false, offset, upload: upload.to_string() })
    }

    fn begun(&self, upload: &str) -> Option<Pending> {
        let upload: Sha256 = upload.parse().ok()?;
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).get(&upload).cloned()
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
        let pending = self.begun(&upload).ok_or_else(|| {
            Status::failed_precondition("this push was not begun here; begin it again")
        })?;
        let upload = pending.id();
        let declared = declared(&pending.release);
        let mut offset = offset;
        while let Some(kind) = next(&mut incoming).await? {
            let push_request::Kind::Data(data) = kind else {
                return Err(invalid("a push has one start"));
            };
            if data.is_empty() {
                // It would put the limit on silence off for ever.
                return Err(invalid("a piece without bytes"));
            }
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
            Ask::RegisterRelease { release: Arc::new(pending.release), manifest: pending.manifest };
        engine.ask(by, request).await?.map_err(|refusal| refused(&refusal))?;
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).remove(&upload);
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
    if version.config().is_some() {
        return Err(invalid(format!(
            "{version} names a release with the config of an environment, which comes with a \
             deploy; push it as {}",
            version.as_pushed()
        )));
    }
    let manifest = Manifest::parse(&text).map_err(|mistakes| invalid(mistakes.to_string()))?;
    let digest = digest.parse().map_err(|_| invalid("field `digest`"))?;
    let archive_digest = archive_digest.parse().map_err(|_| invalid("field `archive_digest`"))?;
    let checks = manifest.command_checks();
    let Manifest { application, run, service, probe, hooks, checks: _, beside: _, deploys: _ } =
        manifest;
    let release = Release {
        name: ReleaseRef { application, version },
        digest,
        size_bytes,
        archive_digest,
        archive_size_bytes,
        run,
        probe,
        hooks,
        checks,
        service,
        config: Config::default(),
    };
    storable(Pending { release, manifest: text })
}

/// Refuses what the log could not take: the engine would find out when it is too late to refuse.
fn storable(pending: Pending) -> Result<Pending, Status> {
    let Pending { release, manifest } = pending.clone();
    let (release, by) = (Arc::new(release), String::new());
    let kind = EventKind::ReleaseRegistered { release, manifest, by };
    let size_bytes = codec::encode(&Event { at: Timestamp::default(), kind }).len();
    if size_bytes > EVENT_BYTES_MAX - EVENT_REST_BYTES {
        return Err(invalid(format!(
            "this cutover.toml takes {size_bytes} bytes where it is stored, with what follows from \
             it, and at most {EVENT_BYTES_MAX} are stored; quotes and backslashes count twice: \
             shorten it"
        )));
    }
    Ok(pending)
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

fn packed_otherwise(release: &Release) -> Refusal {
    Refusal::new(
        RefusalKind::Exists,
        format!(
            "the archive of {} is missing here, and yours has the same content in other bytes: \
             another version of cutover packed it",
            release.name
        ),
        "push it with the version of cutover that packed it first, or as another version",
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::House;

    fn offer(version: &str) -> pb::BeginPushRequest {
        pb::BeginPushRequest {
            version: version.to_owned(),
            manifest: "[application]\nname = \"web\"\n[run]\ncommand = [\"./server\"]\n".to_owned(),
            digest: Sha256::of(b"content").to_string(),
            size_bytes: 1024,
            archive_digest: Sha256::of(b"archive").to_string(),
            archive_size_bytes: 100,
        }
    }

    #[tokio::test]
    async fn one_archive_pushed_as_two_versions_at_one_time_becomes_both() {
        let house = House::new();
        let archives = ArchiveStore::in_folder(&house.data().join("artifacts")).await.unwrap();
        let pushes = Pushes::new(Arc::new(archives));

        let first = pushes.begin(&house.engine, offer("1.0.0")).await.unwrap().upload;
        let second = pushes.begin(&house.engine, offer("1.0.1")).await.unwrap().upload;
        let again = pushes.begin(&house.engine, offer("1.0.0")).await.unwrap().upload;

        let version = |upload| pushes.begun(upload).unwrap().release.name.version.to_string();
        assert_eq!((version(&first), version(&second)), ("1.0.0".into(), "1.0.1".into()));
        assert_eq!(first, again);
    }

    #[test]
    fn a_manifest_that_the_log_could_not_take_is_refused_before_anything_is_sent() {
        let mut text = offer("1").manifest;
        text.push_str("env = { A = ''");
        // Doubled where they are stored, once as text and once as values.
        for number in 0..8 {
            text.push_str(&format!(", E{number} = '{}'", "\\".repeat(32_700)));
        }
        text.push_str(" }\n");
        assert!(text.len() <= Manifest::BYTES_MAX && Manifest::parse(&text).is_ok());

        let refused = parse(pb::BeginPushRequest { manifest: text, ..offer("1") });

        let status = refused.err().expect("it is refused");
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        assert!(status.message().contains("shorten it"), "{}", status.message());
    }

    #[tokio::test]
    async fn a_release_whose_archive_is_gone_can_be_pushed_again() {
        let house = House::new();
        let archives = ArchiveStore::in_folder(&house.data().join("artifacts")).await.unwrap();
        let pushes = Pushes::new(Arc::new(archives));
        let Ok(Pending { release, manifest }) = parse(offer("1.0.0")) else { panic!("it is good") };
        let request = Ask::RegisterRelease { release: Arc::new(release), manifest };
        house.engine.ask("ann", request).await.unwrap().unwrap();

        let again = pushes.begin(&house.engine, offer("1.0.0")).await.unwrap();
        let packed_otherwise = pb::BeginPushRequest {
            archive_digest: Sha256::of(b"other bytes").to_string(),
            ..offer("1.0.0")
        };
        let refused = pushes.begin(&house.engine, packed_otherwise).await.unwrap_err();

        assert!(!again.complete);
        assert!(pushes.begun(&again.upload).is_some());
        assert_eq!(refused.code(), tonic::Code::AlreadyExists);
    }
}
