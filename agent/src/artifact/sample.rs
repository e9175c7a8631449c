//! What the tests of this folder share: small releases, luck from a seed, listings of folders.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
};

use cutover_common::{Config, Release, ReleaseRef, RunSpec, Sha256, StopSignal};
use cutover_runtime::archive::{Declared, pack};

/// Luck that can be repeated: splitmix64.
pub(super) struct Luck(u64);

impl Luck {
    /// Takes the seed from `CUTOVER_TEST_SEED`, or a random one, and prints it.
    pub(super) fn new() -> Self {
        let seed = std::env::var("CUTOVER_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0);
        println!("repeat with CUTOVER_TEST_SEED={seed}");
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    pub(super) fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

/// A release and its archive.
#[derive(Clone)]
pub(super) struct Sample {
    pub release: Release,
    pub archive: Vec<u8>,
}

impl Sample {
    /// Packs a folder.
    pub(super) fn of_folder(folder: &Path) -> Self {
        let mut archive = Vec::new();
        let packed = pack(folder, &mut archive).unwrap();
        Self { release: release(Declared::from(&packed)), archive }
    }

    /// Makes a release with a program, a symlink, an empty folder and one file of noise.
    pub(super) fn of_noise(length: usize, luck: &mut Luck) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        fs::create_dir_all(at("bin/empty")).unwrap();
        fs::write(at("bin/web"), "#!/bin/sh\nexec true\n").unwrap();
        fs::set_permissions(at("bin/web"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(at("cutover.toml"), "").unwrap();
        fs::write(at("noise"), luck.bytes(length)).unwrap();
        symlink("bin/web", at("web")).unwrap();
        Self::of_folder(folder.path())
    }

    /// Declares just what is there.
    pub(super) fn of_tar(tar: &[u8]) -> Self {
        let archive = zstd::encode_all(tar, 3).unwrap();
        let declared = Declared {
            digest: Sha256::of(tar),
            size_bytes: tar.len() as u64,
            archive_digest: Sha256::of(&archive),
            archive_size_bytes: archive.len() as u64,
        };
        Self { release: release(declared), archive }
    }

    pub(super) fn declared(&self) -> Declared {
        Declared::from(&self.release)
    }
}

fn release(declared: Declared) -> Release {
    Release {
        name: ReleaseRef { application: "web".parse().unwrap(), version: "1.0".parse().unwrap() },
        digest: declared.digest,
        size_bytes: declared.size_bytes,
        archive_digest: declared.archive_digest,
        archive_size_bytes: declared.archive_size_bytes,
        run: RunSpec {
            command: vec!["bin/web".to_owned()],
            env: BTreeMap::new(),
            stop_signal: StopSignal::Term,
            stop_within: std::time::Duration::from_secs(10),
            shared: Vec::new(),
        },
        probe: None,
        hooks: Vec::new(),
        checks: Vec::new(),
        service: None,
        config: Config::default(),
    }
}

/// Lists all below `folder`, sorted: what changes here was changed by somebody.
pub(super) fn listing(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        found.push(format!("{} {:o}", path.display(), metadata.permissions().mode()));
        if metadata.is_dir() {
            found.extend(listing(&path));
        }
    }
    found.sort();
    found
}
