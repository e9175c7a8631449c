//! `cutover release push`: reads the manifest, packs the folder, sends what is not there yet.

use std::{
    fs::File,
    io::{self, Read as _, Write},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use cutover_common::{Version, manifest::Manifest};
use cutover_runtime::{
    archive::{self, PackError, PackedArchive},
    dice,
};
use tokio::{
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};

use super::{
    Desk,
    retry::{BACKOFF, FAILURES_MAX, LOST, until_answered},
};
use crate::{
    failure::{Failure, Kind},
    grpc::{Coordinator, Offered, ReleaseOffer},
    render::{
        bytes,
        console::Console,
        transfer::{Progress, Transfer},
    },
    text::Text,
    view::Pushed,
};

/// The file that makes a folder an application.
const MANIFEST: &str = "cutover.toml";

/// Brings the folder to the coordinator as a release.
pub(super) async fn push(
    desk: Desk<'_>,
    folder: &Path,
    version: Option<Version>,
) -> Result<Pushed, Failure> {
    let (text, manifest) = read_manifest(folder)?;
    // Before packing: who cannot log in should not wait for it.
    let coordinator = desk.coordinator().await?;
    let archive = Arc::new(tempfile::tempfile().map_err(|error| {
        Failure::refused(format!("could not make a temporary file: {error}"))
            .with_hint("name a folder with room for the release: TMPDIR=/path cutover …")
    })?);
    let shared = &manifest.run.shared;
    let packed = pack(desk.console, (folder, shared), archive.clone()).await?;
    let version = match version {
        Some(version) => version,
        // The same content is the same version, so that a repeated push changes nothing.
        None => packed.digest.short().parse().map_err(|error| Failure::of(Kind::OurBug, &error))?,
    };
    let name = format!("{}@{version}", manifest.application);
    let PackedArchive { digest, size_bytes, archive_digest, archive_size_bytes, entries } = packed;
    desk.console.progress(&format!(
        "packed {name}: {entries} entries, {}, {} to send",
        bytes(size_bytes),
        bytes(archive_size_bytes)
    ));
    let offer = ReleaseOffer {
        version,
        manifest: text,
        digest,
        size_bytes,
        archive_digest,
        archive_size_bytes,
    };
    let already_there = send(desk.console, &coordinator, &name, &offer, &archive).await?;
    Ok(Pushed {
        application: manifest.application.as_str().into(),
        version: offer.version.as_str().into(),
        digest: Text::from(digest.to_string()),
        size_bytes,
        archive_size_bytes,
        already_there,
    })
}

/// Sends the archive, and goes on where the last try ended when the connection breaks. Returns
/// whether the release was there before.
pub(super) async fn send(
    console: Console,
    coordinator: &Coordinator,
    name: &str,
    offer: &ReleaseOffer,
    archive: &Arc<File>,
) -> Result<bool, Failure> {
    let mut transfer = Transfer::new(format!("sending {name}"), Some(offer.archive_size_bytes));
    let mut progress = Tries::default();
    loop {
        let offered = until_answered(console, || coordinator.offer(offer)).await?;
        let (upload, offset) = match offered {
            // After a try of ours it is that one whose answer was lost.
            Offered::AlreadyThere => return Ok(progress.is_first()),
            Offered::Wanted { upload, offset } => (upload, offset),
        };
        let tell = |sent| show(console, transfer.at(sent));
        let sent = coordinator.upload(&upload, archive.clone(), offset, tell).await;
        erase(console, &mut transfer);
        match sent {
            Ok(()) => return Ok(false),
            Err(failure) if failure.kind() == Kind::NotReachable => {
                let failures = progress.failed_from(offset);
                if failures >= FAILURES_MAX {
                    return Err(failure.or_hint("type the same again: it goes on where it ended"));
                }
                console.progress(LOST);
                tokio::time::sleep(BACKOFF.after(failures, dice::jitter())).await;
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// Counts tries that began at the same place: one that brought the upload on is no failure of
/// the same kind as one that did not.
#[derive(Debug, Default)]
struct Tries {
    begun_at: Option<u64>,
    failures: u32,
}

impl Tries {
    /// Returns whether nothing was tried yet.
    fn is_first(&self) -> bool {
        self.begun_at.is_none()
    }

    /// Notes that a try that began at `offset` failed, and returns how many did without
    /// bringing the upload on.
    fn failed_from(&mut self, offset: u64) -> u32 {
        let got_on = self.begun_at.is_some_and(|begun_at| offset > begun_at);
        self.failures = if got_on { 1 } else { self.failures + 1 };
        self.begun_at = Some(offset);
        self.failures
    }
}

/// Packs the folder on a thread of its own, and shows how far it is.
async fn pack(
    console: Console,
    (folder, shared): (&Path, &[String]),
    archive: Arc<File>,
) -> Result<PackedArchive, Failure> {
    let written = Arc::new(AtomicU64::new(0));
    let out = Counting { out: archive, written: written.clone() };
    let (owned, left_out) = (folder.to_owned(), shared.to_owned());
    let mut packing = spawn_blocking(move || archive::pack_without(&owned, &left_out, out));
    let mut transfer = Transfer::new(format!("packing {}", folder.display()), None);
    let mut ticks = interval(Duration::from_millis(250));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let packed = loop {
        tokio::select! {
            packed = &mut packing => break packed,
            _ = ticks.tick() => show(console, transfer.at(written.load(Ordering::Relaxed))),
        }
    };
    erase(console, &mut transfer);
    packed.map_err(|panic| Failure::of(Kind::OurBug, &panic))?.map_err(|error| unpacked(&error))
}

fn unpacked(error: &PackError) -> Failure {
    match error {
        PackError::Refused(_) | PackError::Read { .. } | PackError::Changed { .. } => {
            Failure::of(Kind::WrongUse, error)
        }
        PackError::Write(_) => Failure::of(Kind::Refused, error)
            .with_hint("name a folder with room for the release: TMPDIR=/path cutover …"),
    }
}

fn show(console: Console, progress: Progress) {
    match progress {
        Progress::Redraw(text) if console.is_live() => console.draw(&text),
        Progress::Milestone { redraw, .. } if console.is_live() => console.draw(&redraw),
        Progress::Milestone { line, .. } => console.progress(&line),
        Progress::Redraw(_) => {}
    }
}

fn erase(console: Console, transfer: &mut Transfer) {
    if console.is_live() {
        console.draw(&transfer.erase());
    }
}

/// Reads the manifest before anything is packed or sent.
fn read_manifest(folder: &Path) -> Result<(String, Manifest), Failure> {
    let path = folder.join(MANIFEST);
    let shown = path.display().to_string();
    let text = read_text(&path).map_err(|error| {
        let failure = Failure::wrong_use(format!("could not read {shown}: {error}"));
        if error.kind() == io::ErrorKind::NotFound {
            return failure.with_hint("name the folder that has a cutover.toml and what it runs");
        }
        failure
    })?;
    let manifest = Manifest::parse(&text)
        .map_err(|mistakes| Failure::wrong_use(mistakes.display_in(&shown).to_string()))?;
    Ok((text, manifest))
}

fn read_text(path: &Path) -> io::Result<String> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut text = String::new();
    // One byte more than is allowed, so that the parser says by how much it is too large.
    file.take(Manifest::BYTES_MAX as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}

/// Counts what is written.
struct Counting {
    out: Arc<File>,
    written: Arc<AtomicU64>,
}

impl Write for Counting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = (&*self.out).write(bytes)?;
        self.written.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&*self.out).flush()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_try_that_got_on_begins_the_count_anew() {
        let mut tries = Tries::default();

        assert!(tries.is_first());
        assert_eq!([0, 0, 512, 512, 1024].map(|offset| tries.failed_from(offset)), [1, 2, 1, 2, 1]);
        assert!(!tries.is_first());
    }

    #[test]
    fn all_mistakes_of_a_manifest_are_told_at_once() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(MANIFEST), "[application]\nnme = \"web\"\n[runn]\n").unwrap();

        let failure = read_manifest(folder.path()).unwrap_err();

        assert_eq!(failure.kind(), Kind::WrongUse);
        for word in ["nme", "runn"] {
            assert!(failure.error().contains(word), "{failure}");
        }
    }

    #[test]
    fn a_folder_without_a_manifest_says_which_folder_is_meant() {
        let folder = tempfile::tempdir().unwrap();

        let failure = read_manifest(folder.path()).unwrap_err();

        assert_eq!(failure.kind(), Kind::WrongUse);
        assert!(failure.hint().unwrap().contains("cutover.toml"), "{failure}");
    }
}
