//! What stays, what goes, and what a start cleans up.

use std::fs::FileTimes;

use super::*;

fn application() -> ApplicationName {
    "web".parse().unwrap()
}

/// Makes releases, the first the oldest.
fn with_releases(dirs: &ReleaseDirs, count: u64) -> Vec<Sha256> {
    (0..count)
        .map(|n| {
            let digest = Sha256::of(&n.to_le_bytes());
            let path = dirs.path(&application(), digest);
            fs::create_dir_all(path.join("bin")).unwrap();
            fs::write(path.join("bin/web"), "program").unwrap();
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + n);
            File::open(&path).unwrap().set_times(FileTimes::new().set_modified(at)).unwrap();
            digest
        })
        .collect()
}

#[test]
fn the_last_releases_and_those_that_are_named_stay() {
    // promises.md E7.
    let data = tempfile::tempdir().unwrap();
    let dirs = ReleaseDirs::open(data.path()).unwrap();
    let releases = with_releases(&dirs, 9);

    let mut removed = dirs.retain(&application(), &[releases[1], releases[7]], KEEP_LAST).unwrap();

    removed.sort();
    let mut expected = vec![releases[0], releases[2], releases[3]];
    expected.sort();
    assert_eq!(removed, expected);
    for (n, digest) in releases.iter().enumerate() {
        let stays = [1, 4, 5, 6, 7, 8].contains(&n);
        assert_eq!(dirs.is_complete(&application(), *digest), stays, "{n}");
    }
    assert!(list(&dirs.staging()).unwrap().is_empty());
}

#[test]
fn keeping_none_removes_all_but_those_that_are_named() {
    let data = tempfile::tempdir().unwrap();
    let dirs = ReleaseDirs::open(data.path()).unwrap();
    let releases = with_releases(&dirs, 3);

    dirs.retain(&application(), &releases[..1], 0).unwrap();

    let left: Vec<_> =
        releases.iter().map(|digest| dirs.is_complete(&application(), *digest)).collect();
    assert_eq!(left, [true, false, false]);
}

#[test]
fn what_is_no_release_is_left_alone() {
    let data = tempfile::tempdir().unwrap();
    let dirs = ReleaseDirs::open(data.path()).unwrap();
    let releases = with_releases(&dirs, 1);
    let folder = dirs.releases().join("web");
    std::os::unix::fs::symlink(releases[0].to_string(), folder.join("current")).unwrap();
    fs::write(folder.join("notes"), "").unwrap();
    // A symlink with a release's name leads elsewhere and is no release.
    let elsewhere = tempfile::tempdir().unwrap();
    let name = Sha256::of(b"link").to_string();
    std::os::unix::fs::symlink(elsewhere.path(), folder.join(&name)).unwrap();

    assert_eq!(dirs.retain(&application(), &[], 0).unwrap(), releases);

    for name in ["current", "notes", &name] {
        assert!(fs::symlink_metadata(folder.join(name)).is_ok(), "{name}");
    }
    assert!(!dirs.is_complete(&application(), Sha256::of(b"link")));
    assert_eq!(dirs.retain(&"none".parse().unwrap(), &[], 0).unwrap(), []);
}

#[test]
fn a_start_empties_the_staging_folder_and_keeps_what_was_fetched() {
    // promises.md E2, §3 row 4.
    let data = tempfile::tempdir().unwrap();
    let dirs = ReleaseDirs::open(data.path()).unwrap();
    let releases = with_releases(&dirs, 1);
    let half = dirs.staging().join("unpack-1");
    fs::create_dir_all(half.join("bin")).unwrap();
    fs::write(half.join("bin/web"), "half").unwrap();
    std::os::unix::fs::symlink(dirs.releases(), dirs.staging().join("link")).unwrap();
    let [recent, old] = [dirs.part(Sha256::of(b"recent")), dirs.part(Sha256::of(b"old"))];
    fs::write(&recent, "half").unwrap();
    fs::write(&old, "half").unwrap();
    let long_ago = SystemTime::now() - PART_AGE_MAX - Duration::from_secs(60);
    let file = File::options().write(true).open(&old).unwrap();
    file.set_times(FileTimes::new().set_modified(long_ago)).unwrap();

    dirs.remove_unfinished().unwrap();

    assert!(list(&dirs.staging()).unwrap().is_empty());
    assert!(recent.exists() && !old.exists());
    assert!(dirs.is_complete(&application(), releases[0]));
}

#[test]
fn nobody_else_reads_what_is_not_verified_yet() {
    let data = tempfile::tempdir().unwrap();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let dirs = ReleaseDirs::open(data.path()).unwrap();

    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        [mode(dirs.releases()), mode(dirs.staging()), mode(dirs.archives())],
        [0o755, 0o700, 0o700]
    );
}
