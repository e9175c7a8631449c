//! Uploads that are interrupted, wrong or hostile; downloads from any offset.

use std::{
    fs::{File, FileTimes},
    os::unix::fs::PermissionsExt as _,
};

use cutover_common::ErrorChain;
use cutover_runtime::archive::pack;
use tempfile::TempDir;

use super::*;
use crate::artifacts::{CHUNK_BYTES_MAX, MANIFEST_BYTES_MAX, hostile};

const MANIFEST: &str = "application = \"web\"\n";

/// Luck that can be repeated: splitmix64.
struct Luck(u64);

impl Luck {
    fn new() -> Self {
        let seed = std::env::var("CUTOVER_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0);
        println!("repeat with CUTOVER_TEST_SEED={seed}");
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

struct Sample {
    declared: Declared,
    archive: Vec<u8>,
}

impl Sample {
    fn with(files: &[(&str, &[u8])]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (path, content) in files {
            fs::write(folder.path().join(path), content).unwrap();
        }
        let mut archive = Vec::new();
        let packed = pack(folder.path(), &mut archive).unwrap();
        Self { declared: Declared::from(&packed), archive }
    }

    fn of_noise(length: usize, luck: &mut Luck) -> Self {
        Self::with(&[("cutover.toml", MANIFEST.as_bytes()), ("noise", &luck.bytes(length))])
    }

    /// Declares just what is there.
    fn of_tar(tar: &[u8]) -> Self {
        let archive = zstd::encode_all(tar, 3).unwrap();
        let declared = Declared {
            digest: Sha256::of(tar),
            size_bytes: tar.len() as u64,
            archive_digest: Sha256::of(&archive),
            archive_size_bytes: archive.len() as u64,
        };
        Self { declared, archive }
    }

    fn piece(&self, from: u64, to: usize) -> Bytes {
        Bytes::copy_from_slice(&self.archive[usize::try_from(from).unwrap()..to])
    }
}

async fn store() -> (TempDir, ArchiveStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = ArchiveStore::in_folder(folder.path()).await.unwrap();
    (folder, store)
}

/// Sends all that is missing and finishes.
async fn push(store: &ArchiveStore, sample: &Sample) -> Result<Inspected, UploadError> {
    let mut offset = store.begin(&sample.declared).await?;
    while offset < sample.archive.len() as u64 {
        let to = sample.archive.len().min(usize::try_from(offset).unwrap() + CHUNK_BYTES_MAX);
        store.append(&sample.declared, offset, sample.piece(offset, to)).await?;
        offset = to as u64;
    }
    store.finish(&sample.declared).await
}

async fn download(store: &ArchiveStore, digest: Sha256, offset: u64) -> Vec<u8> {
    let chunks = store.open(digest, offset).await.unwrap();
    let chunks: Vec<_> = chunks.map(|chunk| chunk.unwrap().to_vec()).collect().await;
    assert!(chunks.iter().all(|chunk| (1..=256 << 10).contains(&chunk.len())));
    chunks.concat()
}

fn files_below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for (path, _) in list(folder).unwrap() {
        if path.is_dir() {
            found.extend(files_below(&path));
        } else {
            found.push(path.file_name().unwrap().to_string_lossy().into_owned());
        }
    }
    found
}

#[tokio::test]
async fn what_was_pushed_can_be_fetched_from_any_offset() {
    let (_folder, store) = store().await;
    let mut luck = Luck::new();
    let sample = Sample::of_noise(1_000_000, &mut luck);
    let digest = sample.declared.archive_digest;
    assert!(!store.contains(digest).await.unwrap());

    let inspected = push(&store, &sample).await.unwrap();

    assert_eq!(inspected, Inspected { manifest: MANIFEST.to_owned(), entries: 2 });
    assert!(store.contains(digest).await.unwrap());
    let length = sample.archive.len();
    for offset in [0, 1, length - 1, length, luck.below(length)] {
        let fetched = download(&store, digest, offset as u64).await;
        assert_eq!(fetched, &sample.archive[offset..], "{offset}");
    }
    let beyond = store.open(digest, length as u64 + 1).await.map(|_| ()).unwrap_err();
    assert!(matches!(beyond, OpenArchive::BadOffset { .. }), "{beyond:?}");
    let absent = store.open(Sha256::of(b"absent"), 0).await.map(|_| ()).unwrap_err();
    assert!(matches!(absent, OpenArchive::NotThere { .. }), "{absent:?}");
}

#[tokio::test]
async fn an_upload_goes_on_where_it_was_interrupted() {
    // promises.md §3 row 43: over new connections, and over restarts of the coordinator.
    let mut luck = Luck::new();
    let sample = Sample::of_noise(500_000, &mut luck);
    let (folder, mut store) = store().await;
    let mut restarts = 0;
    let mut sent = 0;
    loop {
        let mut offset = store.begin(&sample.declared).await.unwrap();
        assert_eq!(offset, sent);
        let until = sample.archive.len().min(usize::try_from(offset).unwrap() + luck.below(60_000));
        while offset < until as u64 {
            let to = until.min(usize::try_from(offset).unwrap() + 1 + luck.below(20_000));
            store.append(&sample.declared, offset, sample.piece(offset, to)).await.unwrap();
            offset = to as u64;
        }
        sent = offset;
        if sent == sample.archive.len() as u64 {
            break;
        }
        let early = store.finish(&sample.declared).await.unwrap_err();
        assert!(matches!(early, UploadError::Incomplete { .. }), "{early:?}");
        if luck.below(2) == 0 {
            drop(store);
            store = ArchiveStore::in_folder(folder.path()).await.unwrap();
            restarts += 1;
        }
    }
    println!("{restarts} restarts");

    assert_eq!(store.finish(&sample.declared).await.unwrap().manifest, MANIFEST);
    let digest = sample.declared.archive_digest;
    assert_eq!(download(&store, digest, 0).await, sample.archive);
    assert_eq!(files_below(folder.path()), [digest.to_string()]);
}

#[tokio::test]
async fn a_wrong_offset_is_refused_with_the_right_one() {
    let (_folder, store) = store().await;
    let sample = Sample::of_noise(10_000, &mut Luck::new());
    assert_eq!(store.begin(&sample.declared).await.unwrap(), 0);
    store.append(&sample.declared, 0, sample.piece(0, 1000)).await.unwrap();
    for offset in [0, 999, 1001, u64::MAX] {
        let error = store.append(&sample.declared, offset, sample.piece(0, 10)).await.unwrap_err();

        assert!(matches!(error, UploadError::BadOffset { expected: 1000, .. }), "{error:?}");
        assert_eq!((error.code(), error.blame()), ("BAD_OFFSET", Blame::Sender));
    }
    assert_eq!(push(&store, &sample).await.unwrap().manifest, MANIFEST);
}

#[tokio::test]
async fn two_that_push_the_same_archive_share_one_upload() {
    let (folder, store) = store().await;
    let sample = Sample::of_noise(100_000, &mut Luck::new());
    let push_in_pieces = async |piece_bytes: usize| {
        let mut offset = store.begin(&sample.declared).await.unwrap();
        while offset < sample.archive.len() as u64 {
            let to = sample.archive.len().min(usize::try_from(offset).unwrap() + piece_bytes);
            match store.append(&sample.declared, offset, sample.piece(offset, to)).await {
                Ok(()) => offset = to as u64,
                Err(UploadError::BadOffset { expected, .. }) => offset = expected,
                // The other was the first to finish, whichever that is.
                Err(UploadError::Unknown) => break,
                Err(other) => panic!("{other:?}"),
            }
            tokio::task::yield_now().await;
        }
        store.finish(&sample.declared).await
    };

    let (one, other) = tokio::join!(push_in_pieces(999), push_in_pieces(700));

    // Whoever comes second finds the archive in the store.
    assert_eq!(one.unwrap(), other.unwrap());
    assert_eq!(files_below(folder.path()), [sample.declared.archive_digest.to_string()]);
}

#[tokio::test]
async fn the_same_archive_twice_is_fine() {
    let (_folder, store) = store().await;
    let sample = Sample::of_noise(10_000, &mut Luck::new());
    let first = push(&store, &sample).await.unwrap();

    assert_eq!(store.begin(&sample.declared).await.unwrap(), sample.archive.len() as u64);
    assert_eq!(store.finish(&sample.declared).await.unwrap(), first);

    // But not under another name: the declaration is checked against what is there.
    let declared = Declared { digest: Sha256::of(b"another"), ..sample.declared };
    let error = store.finish(&declared).await.unwrap_err();
    assert_eq!((error.code(), error.blame()), ("DIGEST_MISMATCH", Blame::Sender));
    assert!(store.contains(sample.declared.archive_digest).await.unwrap());
}

#[tokio::test]
async fn every_hostile_archive_is_refused_on_arrival() {
    // promises.md §4 rows 26 to 38.
    let (folder, store) = store().await;
    for hostile in hostile::corpus() {
        let sample = Sample::of_tar(&hostile.tar);

        let error = push(&store, &sample).await.expect_err(hostile.name);

        assert_eq!(error.code(), hostile.code, "{}: {}", hostile.name, ErrorChain(&error));
        assert_eq!(error.blame(), Blame::Sender, "{}", hostile.name);
        assert_eq!(files_below(folder.path()), [""; 0], "{}", hostile.name);
    }
}

#[tokio::test]
async fn an_archive_that_is_not_as_declared_is_removed() {
    // promises.md D5, §3 rows 83 and 84, §4 row 40.
    let (folder, store) = store().await;
    let mut luck = Luck::new();
    let sample = Sample::of_noise(1000, &mut luck);
    let honest = sample.declared;
    let other = Sha256::of(b"other");
    let mut flipped = sample.archive.clone();
    let at = luck.below(flipped.len());
    flipped[at] ^= 1 << luck.below(8);
    let cases = [
        (Declared { digest: other, ..honest }, &sample.archive),
        (Declared { archive_digest: other, ..honest }, &sample.archive),
        (Declared { size_bytes: honest.size_bytes - 512, ..honest }, &sample.archive),
        (Declared { size_bytes: honest.size_bytes + 512, ..honest }, &sample.archive),
        (honest, &flipped),
    ];
    for (declared, archive) in cases {
        let archive = archive.clone();
        let error = push(&store, &Sample { declared, archive }).await.unwrap_err();

        assert_eq!(error.blame(), Blame::Sender, "{error:?}");
        assert_eq!(files_below(folder.path()), [""; 0], "{error:?}");
    }
    push(&store, &sample).await.unwrap();
}

#[tokio::test]
async fn a_release_without_a_readable_manifest_is_refused() {
    let (folder, store) = store().await;
    let manifest_of = |length: u64| vec![b'#'; usize::try_from(length).unwrap()];
    let just_right = manifest_of(MANIFEST_BYTES_MAX);
    let too_large = manifest_of(MANIFEST_BYTES_MAX + 1);
    let cases: [(&str, &[u8]); 4] = [
        ("other.toml", b""),
        ("Cutover.toml", b""),
        ("cutover.toml", b"\xff"),
        ("cutover.toml", &too_large),
    ];
    for (path, content) in cases {
        let error = push(&store, &Sample::with(&[(path, content)])).await.unwrap_err();

        assert_eq!((error.code(), error.blame()), ("BAD_MANIFEST", Blame::Sender), "{error:?}");
        assert_eq!(files_below(folder.path()), [""; 0]);
    }
    let found = push(&store, &Sample::with(&[("cutover.toml", &just_right)])).await.unwrap();
    assert_eq!(found.manifest.into_bytes(), just_right);
}

#[tokio::test]
async fn what_is_sent_is_bounded() {
    // promises.md §4 row 37.
    let (_folder, store) = store().await;
    let sample = Sample::of_noise(5000, &mut Luck::new());
    let large = Declared { size_bytes: 1 << 60, archive_size_bytes: 1 << 59, ..sample.declared };
    assert_eq!(store.begin(&large).await.unwrap_err().code(), "ARCHIVE_LIMIT");
    let dense = Declared { size_bytes: 1 << 30, archive_size_bytes: 1 << 10, ..sample.declared };
    assert_eq!(store.begin(&dense).await.unwrap_err().code(), "ARCHIVE_LIMIT");
    let unknown = store.append(&sample.declared, 0, Bytes::new()).await.unwrap_err();
    assert!(matches!(unknown, UploadError::Unknown), "{unknown:?}");

    store.begin(&sample.declared).await.unwrap();
    let chunk = vec![0; CHUNK_BYTES_MAX + 1].into();
    let error = store.append(&sample.declared, 0, chunk).await.unwrap_err();
    assert!(matches!(error, UploadError::ChunkTooLarge { .. }), "{error:?}");
    let chunk = vec![0; sample.archive.len() + 1].into();
    let error = store.append(&sample.declared, 0, chunk).await.unwrap_err();
    assert!(matches!(error, UploadError::TooLong { .. }), "{error:?}");
    let size = Declared { archive_size_bytes: 9, size_bytes: 9, ..sample.declared };
    let error = store.begin(&size).await.unwrap_err();
    assert!(matches!(error, UploadError::OtherSize { .. }), "{error:?}");
    assert_eq!(push(&store, &sample).await.unwrap().manifest, MANIFEST);
}

#[tokio::test]
async fn many_that_begin_and_never_send_push_nobody_else_out() {
    let (folder, store) = store().await;
    let sample = Sample::of_noise(5000, &mut Luck::new());
    let mut offset = 0;
    for n in 0..3 * UPLOADS_MAX {
        let idle = Declared { archive_digest: Sha256::of(&n.to_le_bytes()), ..sample.declared };
        store.begin(&idle).await.unwrap();
        // One byte now and then keeps an upload alive.
        if n % 20 == 0 {
            assert_eq!(store.begin(&sample.declared).await.unwrap(), offset);
            let piece = sample.piece(offset, usize::try_from(offset).unwrap() + 1);
            store.append(&sample.declared, offset, piece).await.unwrap();
            offset += 1;
        }
    }

    assert!(files_below(folder.path()).len() <= UPLOADS_MAX);
    assert!(store.lock().len() <= UPLOADS_MAX);
    assert_eq!(push(&store, &sample).await.unwrap().manifest, MANIFEST);
}

#[tokio::test]
async fn a_start_removes_stale_uploads_and_half_objects() {
    let folder = tempfile::tempdir().unwrap();
    let sample = Sample::of_noise(5000, &mut Luck::new());
    {
        let store = ArchiveStore::in_folder(folder.path()).await.unwrap();
        push(&store, &sample).await.unwrap();
    }
    let objects = folder.path().join("objects/archives/sha256");
    let half = objects.join(format!("{}#1", sample.declared.archive_digest));
    fs::write(half, "half").unwrap();
    let part =
        |name: &str| upload::part(&folder.path().join("uploads"), Sha256::of(name.as_bytes()));
    for (name, age) in
        [("old", UPLOAD_AGE_MAX + Duration::from_secs(60)), ("recent", Duration::ZERO)]
    {
        fs::write(part(name), "half").unwrap();
        let file = File::options().write(true).open(part(name)).unwrap();
        file.set_times(FileTimes::new().set_modified(SystemTime::now() - age)).unwrap();
    }

    ArchiveStore::in_folder(folder.path()).await.unwrap();

    let mut left = files_below(folder.path());
    left.sort();
    let recent = part("recent").file_name().unwrap().to_string_lossy().into_owned();
    let mut expected = [sample.declared.archive_digest.to_string(), recent];
    expected.sort();
    assert_eq!(left, expected);
}

#[tokio::test]
async fn an_object_that_the_disk_damaged_can_be_pushed_again() {
    // promises.md D5.
    let (folder, store) = store().await;
    let sample = Sample::of_noise(5000, &mut Luck::new());
    push(&store, &sample).await.unwrap();
    let digest = sample.declared.archive_digest;
    let object = folder.path().join("objects/archives/sha256").join(digest.to_string());
    let mut damaged = sample.archive.clone();
    damaged[1000] ^= 1;
    fs::write(&object, damaged).unwrap();

    let error = push(&store, &sample).await.unwrap_err();
    assert!(matches!(error, UploadError::Changed), "{error:?}");
    assert!(!store.contains(digest).await.unwrap());

    push(&store, &sample).await.unwrap();
    assert_eq!(download(&store, digest, 0).await, sample.archive);
}

#[tokio::test]
async fn a_part_that_a_killed_coordinator_left_beside_its_object_goes_with_the_next_push() {
    let (folder, store) = store().await;
    let sample = Sample::of_noise(100_000, &mut Luck::new());
    push(&store, &sample).await.unwrap();
    drop(store);
    let whole = files_below(folder.path());
    let digest = sample.declared.archive_digest;
    fs::write(upload::part(&folder.path().join("uploads"), digest), &sample.archive).unwrap();

    let restarted = ArchiveStore::in_folder(folder.path()).await.unwrap();
    push(&restarted, &sample).await.unwrap();

    assert_eq!(files_below(folder.path()), whole);
}

#[tokio::test]
async fn parts_are_for_the_coordinator_only() {
    let (folder, store) = store().await;
    let sample = Sample::of_noise(100, &mut Luck::new());
    store.begin(&sample.declared).await.unwrap();

    let part = upload::part(&folder.path().join("uploads"), sample.declared.archive_digest);
    assert_eq!(fs::metadata(part).unwrap().permissions().mode() & 0o077, 0);
}

#[tokio::test]
async fn a_finish_that_was_dropped_can_be_repeated() {
    let (folder, store) = store().await;
    let sample = Sample::of_noise(200_000, &mut Luck::new());
    store.begin(&sample.declared).await.unwrap();
    store.append(&sample.declared, 0, sample.archive.clone().into()).await.unwrap();
    for steps in 0..20 {
        // Polls it so many times and lets it go.
        let mut finish = Box::pin(store.finish(&sample.declared));
        for _ in 0..steps {
            if futures::poll!(&mut finish).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }

    let length = sample.archive.len() as u64;
    assert_eq!(store.begin(&sample.declared).await.unwrap(), length);
    assert_eq!(store.finish(&sample.declared).await.unwrap().manifest, MANIFEST);
    assert_eq!(download(&store, sample.declared.archive_digest, 0).await, sample.archive);
    drop(folder);
}

#[tokio::test]
async fn an_upload_that_does_not_fit_is_refused_before_it_is_sent() {
    // promises.md §3 row 56, on the coordinator's side: the part and its copy need room.
    let folder = tempfile::tempdir().unwrap();
    let mount = |command: &str, arguments: &[&str]| {
        let done = std::process::Command::new(command).args(arguments).arg(folder.path()).output();
        done.is_ok_and(|done| done.status.success())
    };
    if !mount("mount", &["-t", "tmpfs", "-o", "size=1m", "tmpfs"]) {
        println!("skipped: no file system could be mounted");
        return;
    }
    let store = ArchiveStore::in_folder(folder.path()).await.unwrap();
    let sample = Sample::of_noise(300_000, &mut Luck::new());
    let declared = |archive_size_bytes| Declared {
        archive_digest: Sha256::of(b"large"),
        archive_size_bytes,
        ..sample.declared
    };
    let refused = store.begin(&declared(600_000)).await;
    let pushed = push(&store, &sample).await;
    drop(store);
    assert!(mount("umount", &[]));

    let error = refused.unwrap_err();
    assert_eq!((error.code(), error.blame()), ("DISK_FULL", Blame::Us), "{error:?}");
    pushed.unwrap();
}
