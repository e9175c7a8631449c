//! What packing promises: the same tree gives the same bytes, and nothing odd gets in.

use std::{
    collections::BTreeMap,
    fs::{self, File, FileTimes, Permissions},
    os::unix::{
        fs::{PermissionsExt as _, lchown, symlink},
        net::UnixListener,
    },
    time::{Duration, SystemTime},
};

use cutover_common::ErrorChain;
use proptest::prelude::*;
use rustix::fs::{CWD, Mode};

use super::*;
use crate::archive::{Declared, FileEntry, Sink, read};

fn packed(folder: &Path) -> (PackedArchive, Vec<u8>) {
    let mut archive = Vec::new();
    let packed = pack(folder, &mut archive).unwrap();
    (packed, archive)
}

fn refusal(folder: &Path) -> Refusal {
    match pack(folder, io::sink()) {
        Err(PackError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

/// A tree as values: what is at each path.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Leaf {
    Folder,
    File(Vec<u8>, bool),
    Link(String),
}

#[derive(Default)]
struct Collected(BTreeMap<String, Leaf>);

impl Sink for Collected {
    fn folder(&mut self, path: &EntryPath) -> io::Result<()> {
        self.0.insert(path.to_string(), Leaf::Folder);
        Ok(())
    }

    fn file(
        &mut self,
        path: &EntryPath,
        file: FileEntry,
        content: &mut dyn io::Read,
    ) -> io::Result<()> {
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes)?;
        self.0.insert(path.to_string(), Leaf::File(bytes, file.is_executable));
        Ok(())
    }

    fn symlink(&mut self, path: &EntryPath, target: &LinkTarget) -> io::Result<()> {
        self.0.insert(path.to_string(), Leaf::Link(target.as_str().to_owned()));
        Ok(())
    }
}

/// Writes a tree, in the order of `order`, which must not matter.
fn write_tree(tree: &BTreeMap<String, Leaf>, at: &Path, is_reversed: bool) {
    for path in tree.keys().filter(|path| tree[*path] == Leaf::Folder) {
        fs::create_dir(at.join(path)).unwrap();
    }
    let write = |(path, leaf): (&String, &Leaf)| match leaf {
        Leaf::Folder => {}
        Leaf::File(content, is_executable) => {
            fs::write(at.join(path), content).unwrap();
            let mode = if *is_executable { 0o700 } else { 0o600 };
            fs::set_permissions(at.join(path), Permissions::from_mode(mode)).unwrap();
        }
        Leaf::Link(target) => symlink(target, at.join(path)).unwrap(),
    };
    if is_reversed { tree.iter().rev().for_each(write) } else { tree.iter().for_each(write) }
}

/// Trees of up to three levels. Names differ by their numbers, so that none is a duplicate.
fn trees() -> impl Strategy<Value = BTreeMap<String, Leaf>> {
    let content = proptest::collection::vec(any::<u8>(), 0..1500);
    let name = "[a-z ä€\\\\.-]{0,60}";
    let leaf = prop_oneof![
        2 => Just(Leaf::Folder),
        4 => (content, any::<bool>()).prop_map(|(content, is_executable)| Leaf::File(content, is_executable)),
        1 => "[a-z]{1,150}".prop_map(Leaf::Link),
    ];
    proptest::collection::vec((any::<proptest::sample::Index>(), name, leaf), 0..25).prop_map(
        |leaves| {
            let mut tree = BTreeMap::new();
            let mut folders = vec![String::new()];
            for (n, (folder, name, leaf)) in leaves.into_iter().enumerate() {
                let folder = folder.get(&folders).clone();
                let path = format!("{folder}{n}{name}");
                if leaf == Leaf::Folder && path.matches('/').count() < 6 {
                    folders.push(format!("{path}/"));
                }
                tree.insert(path, leaf);
            }
            tree
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_read_is_what_was_packed(tree in trees()) {
        let folder = tempfile::tempdir().unwrap();
        write_tree(&tree, folder.path(), false);
        let (packed, archive) = packed(folder.path());
        prop_assert_eq!(packed.archive_digest, Sha256::of(&archive));
        prop_assert_eq!(packed.archive_size_bytes, archive.len() as u64);
        let mut collected = Collected::default();

        let read = read(&*archive, &Declared::from(&packed), &Limits::default(), &mut collected)
            .map_err(|error| TestCaseError::fail(ErrorChain(&error).to_string()))?;

        prop_assert_eq!(read.entries, packed.entries);
        prop_assert_eq!(read.modes_masked, 0);
        prop_assert_eq!(collected.0, tree);
    }

    #[test]
    fn the_same_tree_elsewhere_has_the_same_bytes(tree in trees()) {
        let [here, there] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        write_tree(&tree, here.path(), false);
        write_tree(&tree, there.path(), true);
        for path in tree.keys() {
            let path = there.path().join(path);
            if rustix::process::getuid().is_root() {
                lchown(&path, Some(1234), Some(4321)).unwrap();
            }
            if !path.is_symlink() {
                let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(12345);
                let file = File::open(&path).unwrap();
                file.set_times(FileTimes::new().set_modified(long_ago)).unwrap();
            }
        }

        let (here, there) = (packed(here.path()), packed(there.path()));

        prop_assert_eq!(here, there);
    }
}

#[test]
fn the_canonical_form_never_changes() {
    // If this fails, releases get other digests than they had: what is stored no longer matches.
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    fs::create_dir(at("bin")).unwrap();
    fs::write(at("bin/web"), "program").unwrap();
    fs::set_permissions(at("bin/web"), Permissions::from_mode(0o755)).unwrap();
    fs::write(at("bin-2"), "").unwrap();
    fs::write(at(&"n".repeat(120)), "long").unwrap();
    symlink("bin/web", at("web")).unwrap();
    let digest = digest_of_tree(folder.path()).unwrap();

    assert_eq!(digest, packed(folder.path()).0.digest);
    assert_eq!(
        digest.to_string(),
        "2d010effdcd98c9e66cfee3e02376abad9664665e1a0cb4c7eb666fcdc2a1e50"
    );
}

#[test]
fn only_git_at_the_top_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    for path in [".git", ".git/objects", "sub", "sub/.git", ".github"] {
        fs::create_dir(at(path)).unwrap();
    }
    fs::write(at(".hidden"), "").unwrap();
    let (packed, archive) = packed(folder.path());
    let mut collected = Collected::default();

    read(&*archive, &Declared::from(&packed), &Limits::default(), &mut collected).unwrap();

    let paths: Vec<_> = collected.0.into_keys().collect();
    assert_eq!(paths, [".github", ".hidden", "sub", "sub/.git"]);
}

#[test]
fn what_is_no_file_folder_or_symlink_is_refused_by_name() {
    // promises.md §4 rows 25 and 33.
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    rustix::fs::mkfifoat(CWD, at("fifo"), Mode::RUSR).unwrap();
    assert_eq!((refusal(folder.path()).code(), "fifo"), ("ENTRY_TYPE", "fifo"));
    fs::remove_file(at("fifo")).unwrap();

    let _listener = UnixListener::bind(at("socket")).unwrap();
    let error = pack(folder.path(), io::sink()).unwrap_err();
    assert_eq!(
        ErrorChain(&error).to_string(),
        "could not pack the folder; remove the entry from the folder: \
         entry \"socket\" is a device, fifo or socket, not a file, folder or symlink"
    );
}

#[test]
fn setuid_and_setgid_files_are_refused() {
    // promises.md §4 row 32.
    for mode in [0o4755, 0o2755, 0o6755] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("su"), "").unwrap();
        fs::set_permissions(folder.path().join("su"), Permissions::from_mode(mode)).unwrap();

        assert_eq!(refusal(folder.path()).code(), "BAD_MODE", "{mode:o}");
    }
}

#[test]
fn a_hard_link_is_packed_as_a_file_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a"), "content").unwrap();
    fs::hard_link(folder.path().join("a"), folder.path().join("b")).unwrap();
    let (packed, archive) = packed(folder.path());
    let mut collected = Collected::default();

    read(&*archive, &Declared::from(&packed), &Limits::default(), &mut collected).unwrap();

    assert_eq!(collected.0["a"], collected.0["b"]);
}

#[test]
fn symlinks_that_leave_the_tree_are_refused() {
    // promises.md §4 rows 25 and 28.
    for target in ["/etc/passwd", "..", "d/../../x", "d/up/../x"] {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("d")).unwrap();
        symlink("..", folder.path().join("d/up")).unwrap();
        symlink(target, folder.path().join("link")).unwrap();

        assert_eq!(refusal(folder.path()).code(), "LINK_ESCAPE", "{target}");
    }
}

#[test]
fn odd_names_are_refused() {
    // promises.md §4 rows 34 and 38.
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};
    for name in [&b"a\nb"[..], b"a\x1b[2J", b"\xff"] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(OsStr::from_bytes(name)), "").unwrap();

        assert_eq!(refusal(folder.path()).code(), "BAD_NAME", "{name:?}");
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("README"), "").unwrap();
    fs::write(folder.path().join("readme"), "").unwrap();
    assert_eq!(refusal(folder.path()).code(), "DUPLICATE_ENTRY");
}

#[test]
fn what_no_reader_would_accept_is_not_packed() {
    // promises.md §4 row 37: depth, one large file, a tree that packs too well.
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join(["d"; 65].join("/"))).unwrap();
    assert_eq!(refusal(folder.path()).code(), "ARCHIVE_LIMIT");

    let folder = tempfile::tempdir().unwrap();
    File::create(folder.path().join("sparse")).unwrap().set_len(8 << 30).unwrap();
    assert_eq!(refusal(folder.path()).code(), "ARCHIVE_LIMIT");

    let folder = tempfile::tempdir().unwrap();
    File::create(folder.path().join("sparse")).unwrap().set_len(32 << 20).unwrap();
    let max = super::super::RATIO_MAX;
    assert_eq!(refusal(folder.path()), Refusal::Limit { bound: Bound::Ratio, max });
}

/// Lets the test change a file while it is being packed: at the first byte that is written.
struct Meddler<F: FnMut()>(Option<F>);

impl<F: FnMut()> Write for Meddler<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(mut meddle) = self.0.take() {
            meddle();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_file_that_changes_while_it_is_packed_is_an_error() {
    for change in ["grow", "shrink", "rewrite", "replace", "symlink", "fifo"] {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        // Random enough, and large enough, for the archive's first bytes to come out before the
        // packer is at the second file.
        let noise: Vec<u8> = (0_u64..1 << 20)
            .map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33).to_le_bytes()[0])
            .collect();
        fs::write(at("a"), noise).unwrap();
        fs::write(at("b"), vec![7; 100_000]).unwrap();
        let out = Meddler(Some(|| match change {
            "grow" => fs::write(at("b"), vec![7; 100_001]).unwrap(),
            "shrink" => fs::write(at("b"), vec![7; 99_999]).unwrap(),
            "rewrite" => {
                fs::write(at("b"), vec![8; 100_000]).unwrap();
                let file = File::open(at("b")).unwrap();
                file.set_times(FileTimes::new().set_modified(SystemTime::UNIX_EPOCH)).unwrap();
            }
            other => {
                fs::remove_file(at("b")).unwrap();
                match other {
                    "replace" => fs::write(at("b"), vec![7; 100_000]).unwrap(),
                    "symlink" => symlink("/etc/passwd", at("b")).unwrap(),
                    _ => rustix::fs::mkfifoat(CWD, at("b"), Mode::RUSR).unwrap(),
                }
            }
        }));

        let error = pack(folder.path(), out).expect_err(change);

        let is_noticed = match &error {
            PackError::Changed { path } | PackError::Read { path, .. } => *path == at("b"),
            PackError::Refused(_) | PackError::Write(_) => false,
        };
        assert!(is_noticed, "{change}: {error:?}");
    }
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let error = pack(Path::new("/nonexistent/web"), io::sink()).unwrap_err();

    assert!(ErrorChain(&error).to_string().starts_with("could not read /nonexistent/web: "));
}

#[test]
fn what_a_release_shares_is_left_out_with_all_that_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    for path in ["uploads/a/b", "var/log/x", "var/lib/y"] {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }
    let shared = ["uploads", "var/log", "nowhere"].map(str::to_owned);
    let packed = pack_without(folder.path(), &shared, io::sink()).unwrap();

    fs::remove_dir_all(folder.path().join("uploads")).unwrap();
    fs::remove_dir_all(folder.path().join("var/log")).unwrap();

    assert_eq!(packed.digest, digest_of_tree(folder.path()).unwrap());
}
