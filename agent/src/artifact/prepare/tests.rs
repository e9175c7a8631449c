//! A release is there whole or not at all, whatever happens on the way.

use std::{
    fs::File,
    os::unix::process::ExitStatusExt as _,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Instant,
};

use cutover_runtime::archive::digest_of_tree;
use futures::{StreamExt as _, stream};

use super::*;
use crate::artifact::{
    hostile,
    sample::{Luck, Sample, listing},
};

/// Serves an archive in chunks of 256 KiB.
fn serve(
    archive: &[u8],
    offset: u64,
) -> impl Future<Output = Result<impl Stream<Item = Result<Bytes, io::Error>> + use<>, io::Error>> + use<>
{
    let rest = Bytes::copy_from_slice(&archive[usize::try_from(offset).unwrap()..]);
    let starts = (0..rest.len()).step_by(256 << 10);
    let chunks: Vec<_> =
        starts.map(|start| Ok(rest.slice(start..rest.len().min(start + (256 << 10))))).collect();
    std::future::ready(Ok(stream::iter(chunks)))
}

#[tokio::test]
async fn a_release_is_prepared_once() {
    let data = tempfile::tempdir().unwrap();
    let sample = Sample::of_noise(1_000_000, &mut Luck::new());
    let folder = prepare(data.path(), &sample.release, |offset| serve(&sample.archive, offset))
        .await
        .unwrap();

    assert_eq!(digest_of_tree(&folder).unwrap(), sample.release.digest);
    let before = listing(data.path());
    assert!(!before.iter().any(|line| line.contains(".part")), "{before:?}");

    let again = prepare(data.path(), &sample.release, |_| {
        std::future::ready(Err::<stream::Empty<_>, _>(io::Error::other("asked again")))
    })
    .await
    .unwrap();

    assert_eq!(again, folder);
    assert_eq!(listing(data.path()), before);
}

#[tokio::test]
async fn what_was_fetched_is_removed_when_an_earlier_agent_was_killed_before_it_did() {
    let data = tempfile::tempdir().unwrap();
    let sample = Sample::of_noise(100_000, &mut Luck::new());
    let folder = prepare(data.path(), &sample.release, |offset| serve(&sample.archive, offset))
        .await
        .unwrap();
    let whole = listing(data.path());
    let part = ReleaseDirs::open(data.path()).unwrap().part(sample.release.archive_digest);
    fs::write(&part, &sample.archive).unwrap();

    let again = prepare(data.path(), &sample.release, |_| {
        std::future::ready(Err::<stream::Empty<_>, _>(io::Error::other("asked again")))
    })
    .await
    .unwrap();

    assert_eq!(again, folder);
    assert_eq!(listing(data.path()), whole);
}

#[tokio::test]
async fn two_that_prepare_the_same_archive_fetch_it_once() {
    let data = tempfile::tempdir().unwrap();
    let sample = Sample::of_noise(1_000_000, &mut Luck::new());
    let asked = AtomicU32::new(0);
    let one = || {
        prepare(data.path(), &sample.release, |offset| {
            asked.fetch_add(1, Ordering::SeqCst);
            serve(&sample.archive, offset)
        })
    };

    let (a, b, c) = tokio::join!(one(), one(), one());

    assert_eq!((a.unwrap(), asked.into_inner()), (b.unwrap(), 1));
    c.unwrap();
}

#[tokio::test]
async fn an_archive_that_is_hostile_leaves_no_trace() {
    // promises.md D6: the digests are right, the content is not.
    let data = tempfile::tempdir().unwrap();
    ReleaseDirs::open(data.path()).unwrap();
    let before = listing(data.path());
    for hostile in hostile::corpus() {
        let sample = Sample::of_tar(&hostile.tar);
        let error = prepare(data.path(), &sample.release, |offset| serve(&sample.archive, offset))
            .await
            .expect_err(hostile.name);

        assert_eq!(error.code(), hostile.code, "{}: {}", hostile.name, error.detail());
        assert!(error.detail().chars().count() <= DETAIL_MAX + 1, "{}", error.detail());
        assert_eq!(listing(data.path()), before, "{}", hostile.name);
    }
}

#[tokio::test]
async fn a_release_of_another_digest_than_declared_is_refused() {
    // promises.md D5, §4 row 40: the archive is right, the content's digest is not.
    let data = tempfile::tempdir().unwrap();
    let mut sample = Sample::of_noise(100, &mut Luck::new());
    sample.release.digest = cutover_common::Sha256::of(b"another");
    let error = prepare(data.path(), &sample.release, |offset| serve(&sample.archive, offset))
        .await
        .unwrap_err();

    assert_eq!(error.code(), "DIGEST_MISMATCH", "{}", error.detail());
}

#[tokio::test]
async fn a_file_more_or_less_than_the_release_has_is_refused() {
    // promises.md §4 row 43: the archive's own digest is declared truly, the content's is not.
    let data = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a"), "a").unwrap();
    let one = Sample::of_folder(folder.path());
    fs::write(folder.path().join("b"), "b").unwrap();
    let two = Sample::of_folder(folder.path());
    for (declared, sent) in [(&one, &two), (&two, &one)] {
        let release = Release {
            digest: declared.release.digest,
            size_bytes: declared.release.size_bytes,
            ..sent.release.clone()
        };
        let error = prepare(data.path(), &release, |offset| serve(&sent.archive, offset))
            .await
            .unwrap_err();

        assert!(["ARCHIVE_LIMIT", "ARCHIVE_CORRUPT"].contains(&error.code()), "{error:?}");
        let dirs = ReleaseDirs::open(data.path()).unwrap();
        assert!(!dirs.is_complete(&release.name.application, release.digest));
    }
}

#[tokio::test]
async fn a_release_that_is_too_large_is_refused_before_it_is_fetched() {
    // promises.md §3 row 56, §4 row 37.
    let data = tempfile::tempdir().unwrap();
    let sample = Sample::of_noise(100, &mut Luck::new());
    let with = |size_bytes, archive_size_bytes| {
        let release = Release { size_bytes, archive_size_bytes, ..sample.release.clone() };
        let data = data.path().to_owned();
        async move {
            prepare(&data, &release, |_| async {
                Err::<stream::Empty<_>, _>(io::Error::other("asked"))
            })
            .await
            .unwrap_err()
            .code()
        }
    };

    assert_eq!(with(1 << 62, 1 << 60).await, "ARCHIVE_LIMIT");
    assert_eq!(with(1 << 30, 1000).await, "ARCHIVE_LIMIT");
    assert_eq!(with(10_000, 10_000).await, "FETCH_FAILED");
}

#[tokio::test]
async fn a_prepare_that_was_dropped_can_be_repeated_at_once() {
    let data = tempfile::tempdir().unwrap();
    let sample = Sample::of_noise(1_000_000, &mut Luck::new());
    let half = Bytes::copy_from_slice(&sample.archive[..400_000]);
    let hanging = prepare(data.path(), &sample.release, |_| {
        let first = stream::iter([Ok::<_, io::Error>(half.clone())]);
        std::future::ready(Ok(first.chain(stream::pending())))
    });
    let part = data.path().join("archives").join(format!("{}.part", sample.release.archive_digest));
    let arrived = async {
        let deadline = Instant::now() + Duration::from_secs(20);
        while fs::metadata(&part).map_or(0, |part| part.len()) < 400_000 {
            assert!(Instant::now() < deadline, "the first half was awaited in {}", part.display());
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = hanging => panic!("it should hang"),
        () = arrived => {}
    }

    let mut asked = Vec::new();
    prepare(data.path(), &sample.release, |offset| {
        asked.push(offset);
        serve(&sample.archive, offset)
    })
    .await
    .unwrap();

    assert_eq!(asked, [400_000]);
}

/// How the child of the next test is told what to do.
const CHILD: &str = "CUTOVER_TEST_PREPARE";

/// Prepares a release from an archive file, over and over, until it is killed.
#[tokio::test]
#[ignore = "the child of the next test"]
async fn child_that_prepares() {
    let (data, release, archive) = {
        let folder = PathBuf::from(std::env::var(CHILD).unwrap());
        let release = serde_json::from_slice(&fs::read(folder.join("release")).unwrap()).unwrap();
        (folder.join("data"), release, fs::read(folder.join("archive")).unwrap())
    };
    let release: Release = release;
    ReleaseDirs::open(&data).unwrap().remove_unfinished().unwrap();
    File::create(data.join("ready")).unwrap();
    prepare(&data, &release, |offset| serve(&archive, offset)).await.unwrap();
    File::create(data.join("done")).unwrap();
}

#[tokio::test]
async fn a_release_survives_kill_9_at_any_point() {
    // promises.md E2, §3 row 4: what is in the releases' folder is always whole.
    let mut luck = Luck::new();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    let sample = Sample::of_noise(4 << 20, &mut luck);
    fs::write(folder.path().join("archive"), &sample.archive).unwrap();
    fs::write(folder.path().join("release"), serde_json::to_vec(&sample.release).unwrap()).unwrap();
    let dirs = ReleaseDirs::open(&data).unwrap();
    let application = &sample.release.name.application;
    let (mut killed, mut finished) = (0, 0);
    for _ in 0..40 {
        for mark in ["ready", "done"] {
            let _absent = fs::remove_file(data.join(mark));
        }
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["artifact::prepare::tests::child_that_prepares", "--exact", "--ignored"])
            .env(CHILD, folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while !data.join("ready").exists() {
            assert!(Instant::now() < deadline, "the child was awaited");
            std::thread::yield_now();
        }
        let end = Instant::now() + Duration::from_micros(luck.below(120_000) as u64);
        while Instant::now() < end && !data.join("done").exists() {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        killed += u32::from(child.wait().unwrap().signal() == Some(9));

        if dirs.is_complete(application, sample.release.digest) {
            finished += 1;
            let path = dirs.path(application, sample.release.digest);
            assert_eq!(digest_of_tree(&path).unwrap(), sample.release.digest);
            fs::remove_dir_all(path).unwrap();
        }
    }
    println!("killed {killed} of 40, {finished} had finished the release");
    assert!(killed > 10, "{killed}");

    dirs.remove_unfinished().unwrap();
    let path =
        prepare(&data, &sample.release, |offset| serve(&sample.archive, offset)).await.unwrap();
    assert_eq!(digest_of_tree(&path).unwrap(), sample.release.digest);
}
