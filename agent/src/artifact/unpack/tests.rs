//! Hostile archives leave no trace, good ones come out as they went in, full disks stay as they
//! were.

use std::{
    io::Write as _,
    os::unix::fs::{PermissionsExt as _, symlink},
    process::Command,
};

use cutover_common::ErrorChain;
use cutover_runtime::archive::digest_of_tree;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::artifact::{
    hostile,
    sample::{Luck, Sample, listing},
};

fn application() -> ApplicationName {
    "web".parse().unwrap()
}

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn unpack_sample(dirs: &ReleaseDirs, sample: &Sample) -> Result<PathBuf, UnpackError> {
    unpack(dirs, &mut file_of(&sample.archive), &application(), (&sample.declared(), &[]))
}

/// A folder of an agent in a folder that must not change.
fn agent_beside_canary() -> (TempDir, ReleaseDirs, Vec<String>) {
    let outside = tempfile::tempdir().unwrap();
    let data = outside.path().join("data");
    fs::create_dir(&data).unwrap();
    for path in ["x", "y", "etc", "d"] {
        fs::write(outside.path().join(path), "canary").unwrap();
    }
    let dirs = ReleaseDirs::open(&data).unwrap();
    let before = listing(outside.path());
    (outside, dirs, before)
}

#[test]
fn every_hostile_archive_is_refused_and_leaves_no_trace() {
    // promises.md D6, §4 rows 26 to 38.
    let (outside, dirs, before) = agent_beside_canary();
    for hostile in hostile::corpus() {
        let sample = Sample::of_tar(&hostile.tar);

        let error = unpack_sample(&dirs, &sample).expect_err(hostile.name);

        let UnpackError::Verify(error) = error else { panic!("{}: {error:?}", hostile.name) };
        assert_eq!(error.code(), hostile.code, "{}", hostile.name);
        assert_eq!(listing(outside.path()), before, "{}", hostile.name);
        assert!(!Path::new("/tmp/cutover-canary").exists(), "{}", hostile.name);
    }
}

#[test]
fn what_was_half_written_when_an_archive_turns_out_hostile_is_removed() {
    // As above, but without the first reading, so that entries before the bad one are written.
    let (outside, dirs, before) = agent_beside_canary();
    for hostile in hostile::corpus() {
        let sample = Sample::of_tar(&hostile.tar);
        let mut file = file_of(&sample.archive);

        let error =
            write(&dirs, &mut file, &application(), (&sample.declared(), &[]), &Limits::default())
                .expect_err(hostile.name);

        let UnpackError::Write(error) = error else { panic!("{}: {error:?}", hostile.name) };
        assert_eq!(error.code(), hostile.code, "{}", hostile.name);
        let mut after = listing(outside.path());
        after.retain(|line| !line.contains("data/releases/web"));
        assert_eq!(after, before, "{}", hostile.name);
    }
}

#[test]
fn the_kernel_refuses_what_a_reader_might_miss() {
    // promises.md §4 rows 28 to 30: the sink alone, with a symlink planted in its folder.
    let (outside, dirs, _) = agent_beside_canary();
    let staging = dirs.stage().unwrap();
    let mut tree = StagedTree::open(&staging).unwrap();
    symlink(outside.path(), staging.path().join("out")).unwrap();
    symlink(outside.path().join("x"), staging.path().join("file")).unwrap();
    symlink(".", staging.path().join("here")).unwrap();
    let before = listing(outside.path());
    let mut put = |path: &str| {
        let path = EntryPath::parse(path.as_bytes()).unwrap();
        let file = FileEntry { size_bytes: 4, is_executable: true };
        let target = LinkTarget::parse(&path, b"z").unwrap();
        let outcomes = [
            tree.file(&path, file, &mut &b"evil"[..]),
            tree.folder(&path),
            tree.symlink(&path, &target),
        ];
        assert!(outcomes.iter().all(Result::is_err), "{path}: {outcomes:?}");
    };

    for path in ["out/new", "out/x", "out/data/new", "file", "here/new", "here/here/new"] {
        put(path);
    }

    assert_eq!(listing(outside.path()), before);
    assert_eq!(fs::read(outside.path().join("x")).unwrap(), b"canary");
}

#[test]
fn a_release_comes_out_as_it_went_in() {
    // Whatever the umask of whoever started the agent.
    rustix::process::umask(Mode::from_raw_mode(0o077));
    let data = tempfile::tempdir().unwrap();
    let dirs = ReleaseDirs::open(data.path()).unwrap();
    let sample = Sample::of_noise(10_000, &mut Luck::new());

    let folder = unpack_sample(&dirs, &sample).unwrap();

    assert_eq!(folder, dirs.path(&application(), sample.release.digest));
    assert!(dirs.is_complete(&application(), sample.release.digest));
    assert_eq!(digest_of_tree(&folder).unwrap(), sample.release.digest);
    let mode = |path: &str| fs::metadata(folder.join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(
        [mode(""), mode("bin"), mode("bin/web"), mode("noise")],
        [0o755, 0o755, 0o755, 0o644]
    );
    assert_eq!(fs::read_link(folder.join("web")).unwrap(), Path::new("bin/web"));
}

#[test]
fn unpacking_what_is_there_already_changes_nothing() {
    let data = tempfile::tempdir().unwrap();
    let dirs = ReleaseDirs::open(data.path()).unwrap();
    let sample = Sample::of_noise(100, &mut Luck::new());
    unpack_sample(&dirs, &sample).unwrap();
    let before = listing(data.path());

    unpack_sample(&dirs, &sample).unwrap();

    assert_eq!(listing(data.path()), before);
}

#[test]
fn a_release_whose_archive_was_changed_or_cut_off_leaves_no_trace() {
    // promises.md D5, §3 rows 83 and 84, §4 row 35.
    let (outside, dirs, before) = agent_beside_canary();
    let sample = Sample::of_noise(50, &mut Luck::new());
    for bit in 0..sample.archive.len() * 8 {
        let mut changed = sample.clone();
        changed.archive[bit / 8] ^= 1 << (bit % 8);
        unpack_sample(&dirs, &changed).expect_err(&format!("bit {bit}"));
    }
    for end in 0..sample.archive.len() {
        let mut cut = sample.clone();
        cut.archive.truncate(end);
        unpack_sample(&dirs, &cut).expect_err(&format!("cut at {end}"));
    }

    assert_eq!(listing(outside.path()), before);
    unpack_sample(&dirs, &sample).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn packing_what_was_unpacked_gives_the_same_release(
        files in proptest::collection::btree_map(
            "[a-c]/([a-z]{1,40}/){0,3}[a-z0-9]{1,20}[.]x",
            (proptest::collection::vec(any::<u8>(), 0..3000), any::<bool>()),
            0..20,
        ),
    ) {
        let folder = tempfile::tempdir().unwrap();
        for (path, (content, is_executable)) in &files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, content).unwrap();
            let mode = if *is_executable { 0o711 } else { 0o600 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            symlink("./../x/..", path.with_extension("link")).unwrap();
        }
        let data = tempfile::tempdir().unwrap();
        let dirs = ReleaseDirs::open(data.path()).unwrap();
        let sample = Sample::of_folder(folder.path());

        let unpacked = unpack_sample(&dirs, &sample)
            .map_err(|error| TestCaseError::fail(ErrorChain(&error).to_string()))?;

        let again = Sample::of_folder(&unpacked);
        prop_assert_eq!(again.release, sample.release);
        prop_assert_eq!(again.archive, sample.archive);
    }
}

/// A small file system of its own, unmounted when dropped.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// Returns `None`, and says so, where this test may not mount.
    fn mount(options: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(folder.path())
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(folder)),
            other => {
                println!("skipped: no file system could be mounted: {other:?}");
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let status = Command::new("umount").arg(self.0.path()).status();
        assert!(std::thread::panicking() || status.unwrap().success());
    }
}

#[test]
fn a_release_that_does_not_fit_is_refused_before_anything_is_written() {
    // promises.md §3 rows 56 and 58.
    let mut luck = Luck::new();
    for (options, length, is_refused) in [
        ("size=16m,nr_inodes=100", 6 << 20, false),
        ("size=12m,nr_inodes=100", 6 << 20, true),
        ("size=16m,nr_inodes=17", 100, true),
    ] {
        let Some(disk) = SmallDisk::mount(options) else { return };
        let dirs = ReleaseDirs::open(disk.0.path()).unwrap();
        let before = listing(disk.0.path());
        let outcome = unpack_sample(&dirs, &Sample::of_noise(length, &mut luck));

        if is_refused {
            let Err(UnpackError::Full(full)) = outcome else { panic!("{options}: {outcome:?}") };
            assert!(full.to_string().contains("the old version keeps running"), "{full}");
            assert_eq!(listing(disk.0.path()), before);
        } else {
            outcome.unwrap();
        }
    }
}

#[test]
fn a_disk_that_runs_full_while_writing_is_left_as_it_was() {
    // promises.md §3 row 56: somebody else took the room after it was looked for.
    let Some(disk) = SmallDisk::mount("size=4m,nr_inodes=100") else { return };
    let dirs = ReleaseDirs::open(disk.0.path()).unwrap();
    let before = listing(disk.0.path());
    let sample = Sample::of_noise(6 << 20, &mut Luck::new());
    let mut file = file_of(&sample.archive);

    let error =
        write(&dirs, &mut file, &application(), (&sample.declared(), &[]), &Limits::default())
            .unwrap_err();

    let full = full_disk(&dirs, Need { bytes: 1, inodes: 1 }, &error);
    assert!(full.is_some(), "{error:?}");
    assert_eq!(listing(disk.0.path()), before);
}

#[test]
fn shared_folders_are_links_to_the_applications_own_and_never_hide_what_a_release_brings() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("var/cache")).unwrap();
    fs::create_dir_all(folder.path().join("empty")).unwrap();
    fs::write(folder.path().join("var/cache/brought"), "x").unwrap();
    symlink("var", folder.path().join("link")).unwrap();
    let sample = Sample::of_folder(folder.path());
    let (outside, dirs, _) = agent_beside_canary();
    let unpack_with = |shared: &[&str]| {
        let shared: Vec<String> = shared.iter().map(|path| (*path).to_owned()).collect();
        unpack(&dirs, &mut file_of(&sample.archive), &application(), (&sample.declared(), &shared))
    };
    for taken in ["var", "var/cache", "link", "link/x", "var/cache/brought"] {
        let error = unpack_with(&[taken]).expect_err(taken);
        assert!(matches!(&error, UnpackError::Shared { path } if path == taken), "{error:?}");
        assert_eq!(fs::read_dir(outside.path().join("data/releases")).unwrap().count(), 0);
    }

    let release = unpack_with(&["empty", "uploads", "var/log"]).unwrap();

    fs::write(release.join("uploads/of-one"), "kept").unwrap();
    fs::write(release.join("var/log/a"), "kept").unwrap();
    let shared = outside.path().join("data/shared/web");
    assert_eq!(fs::read_to_string(shared.join("uploads/of-one")).unwrap(), "kept");
    assert_eq!(fs::read_to_string(shared.join("var/log/a")).unwrap(), "kept");
    assert!(shared.join("empty").is_dir());
}
